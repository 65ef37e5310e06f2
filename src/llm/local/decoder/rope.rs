//! Rotary positions: pairs of numbers of a head are turned by angles that grow with the position
//! ("RoFormer", 2021).

use super::super::shape::Shape;

pub(super) struct Rope {
    /// The angle of each pair at position 1.
    frequencies: Vec<f32>,
    neighbours: bool,
}

impl Rope {
    /// `factors` divide the frequencies, one each.
    pub(super) fn new(shape: &Shape, base: f32, scale: f32, factors: Option<&[f32]>) -> Self {
        let pairs = shape.rope_size / 2;
        let frequency = |i: usize| {
            let plain = base.powf(-(i as f32) / pairs as f32) * scale;
            factors.and_then(|factors| factors.get(i)).map_or(plain, |factor| plain / factor)
        };
        let frequencies = (0..pairs).map(frequency).collect();
        Self { frequencies, neighbours: shape.rope_neighbours }
    }

    /// Sine and cosine of each pair at `position`.
    pub(super) fn angles(&self, position: usize) -> Vec<(f32, f32)> {
        self.frequencies.iter().map(|frequency| (position as f32 * frequency).sin_cos()).collect()
    }

    /// Turns the first numbers of `head`.
    pub(super) fn turn(&self, angles: &[(f32, f32)], head: &mut [f32]) {
        for (i, (sin, cos)) in angles.iter().enumerate() {
            let (a, b) = if self.neighbours { (2 * i, 2 * i + 1) } else { (i, i + angles.len()) };
            let (x, y) = (head[a], head[b]);
            head[a] = x * cos - y * sin;
            head[b] = x * sin + y * cos;
        }
    }
}
