//! Where the rows of a segment gather: k-means over a sample.
//!
//! The first centres are drawn by k-means++ ("The Advantages of Careful Seeding", SODA 2007), and a
//! few of Lloyd's rounds move them. Under cosine and inner product centres have length one, as in
//! spherical k-means; inner products are compared on the lifted rows, see [`Lift`]. Draws are the
//! same at every run.

use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::ThreadPool;
use rayon::iter::{IntoParallelIterator, IntoParallelRefIterator, ParallelIterator};

use crate::Kernels;
use crate::vector::Metric;
use crate::vector::lift::Lift;
use crate::vector::segment::Segment;

/// Rows of the sample for each centre. Fewer leave centres to chance, more change them little.
const SAMPLE_PER_CENTER: usize = 64;
/// Rows of the sample at most, which bounds the time for many lists.
const SAMPLE_MAX: usize = 1 << 18;
/// Lloyd's rounds at most. Later ones hardly move a centre.
const ROUNDS: usize = 10;
/// Rows put on lists between two looks at the stop signal.
const BATCH_ROWS: usize = 8192;
const SEED: u64 = 0x1F_F1A7;

/// The rows of a segment, and how near they are to a centre.
pub(super) struct Space<'a> {
    segment: &'a Segment,
    metric: Metric,
    kernels: Kernels,
    /// For inner products.
    lift: Lift,
}

/// The centres of lists.
pub(super) struct Centers {
    dim: usize,
    values: Vec<f32>,
    /// The coordinate that lifted rows have besides; 0 where rows are not lifted.
    extra: Vec<f32>,
}

impl Centers {
    pub(super) fn len(&self) -> usize {
        self.extra.len()
    }

    pub(super) fn into_values(self) -> Vec<f32> {
        self.values
    }

    fn values(&self, center: usize) -> &[f32] {
        &self.values[center * self.dim..][..self.dim]
    }
}

impl<'a> Space<'a> {
    pub(super) fn new(segment: &'a Segment, metric: Metric, kernels: Kernels) -> Self {
        let lift = match metric {
            Metric::InnerProduct => Lift::of(segment, kernels),
            Metric::Cosine | Metric::L2 => Lift::default(),
        };
        Self { segment, metric, kernels, lift }
    }

    /// At most `wanted` centres, at least one; `None` if told to stop.
    pub(super) fn centers(
        &self,
        wanted: usize,
        pool: &ThreadPool,
        stop: &dyn Fn() -> bool,
    ) -> Option<Centers> {
        let mut random = Random(SEED);
        let sample = sample(self.segment.rows(), wanted, &mut random);
        let mut centers = self.draw(&sample, wanted, &mut random, pool, stop)?;
        let mut before: Vec<u32> = Vec::new();
        for _ in 0..ROUNDS {
            if stop() {
                return None;
            }
            let nearest: Vec<(u32, f32)> = pool
                .install(|| sample.par_iter().map(|&row| self.nearest(row, &centers)).collect());
            let lists: Vec<u32> = nearest.iter().map(|&(list, _)| list).collect();
            if lists == before {
                break;
            }
            centers = self.means(&sample, &nearest, centers.len());
            before = lists;
        }
        Some(centers)
    }

    /// The nearest centre of every row, counting rows in `done`; `None` if told to stop.
    pub(super) fn assign(
        &self,
        centers: &Centers,
        pool: &ThreadPool,
        stop: &dyn Fn() -> bool,
        done: &AtomicUsize,
    ) -> Option<Vec<u32>> {
        let rows = self.segment.rows();
        let mut nearest = Vec::with_capacity(rows);
        for start in (0..rows).step_by(BATCH_ROWS) {
            if stop() {
                return None;
            }
            let batch = start as u32..rows.min(start + BATCH_ROWS) as u32;
            let count = batch.len();
            let found: Vec<u32> = pool.install(|| {
                batch.into_par_iter().map(|row| self.nearest(row, centers).0).collect()
            });
            nearest.extend(found);
            done.fetch_add(count, Ordering::Relaxed);
        }
        Some(nearest)
    }

    /// The nearest centre of a row, of equal ones the first, and how near it is.
    fn nearest(&self, row: u32, centers: &Centers) -> (u32, f32) {
        let mut best = (0, f32::NEG_INFINITY);
        for center in 0..centers.len() {
            let nearness = self.nearness(row, centers, center);
            if nearness > best.1 {
                best = (center as u32, nearness);
            }
        }
        best
    }

    /// Bigger is nearer.
    fn nearness(&self, row: u32, centers: &Centers, center: usize) -> f32 {
        let (x, y) = (self.segment.vector(row), centers.values(center));
        match self.metric {
            Metric::Cosine => self.kernels.dot(x, y),
            Metric::L2 => -self.kernels.square_distance(x, y),
            Metric::InnerProduct => {
                self.kernels.dot(x, y) + self.lift.at(row) * centers.extra[center]
            }
        }
    }

    /// The nearness of what lies on a centre.
    fn nearest_possible(&self) -> f32 {
        match self.metric {
            Metric::Cosine => 1.0,
            Metric::L2 => 0.0,
            Metric::InnerProduct => self.lift.square.sqrt(),
        }
    }

    /// Draws rows as centres, each the likelier the farther it is from those drawn before. Fewer
    /// than wanted where the others lie on one of these.
    fn draw(
        &self,
        sample: &[u32],
        wanted: usize,
        random: &mut Random,
        pool: &ThreadPool,
        stop: &dyn Fn() -> bool,
    ) -> Option<Centers> {
        let dim = self.segment.dim();
        let mut centers = Centers { dim, values: Vec::new(), extra: Vec::new() };
        let most = self.nearest_possible();
        let mut far = vec![f32::INFINITY; sample.len()];
        let mut next = sample.get(random.below(sample.len())).copied();
        while let Some(row) = next {
            if stop() {
                return None;
            }
            let mut center: Vec<f64> = self.segment.vector(row).iter().map(|&v| v.into()).collect();
            center.push(self.extra(row).into());
            self.push(&mut centers, &center);
            if centers.len() == wanted {
                break;
            }
            let newest = centers.len() - 1;
            let distances: Vec<f32> = pool.install(|| {
                let distance = |&row: &u32| (most - self.nearness(row, &centers, newest)).max(0.0);
                sample.par_iter().map(distance).collect()
            });
            for (far, distance) in far.iter_mut().zip(distances) {
                *far = far.min(distance);
            }
            next = random.weighted(&far).map(|place| sample[place]);
        }
        Some(centers)
    }

    /// The means of the rows of the sample by the centre they are nearest to. A centre without rows
    /// goes to one of those that are farthest from theirs.
    fn means(&self, sample: &[u32], nearest: &[(u32, f32)], n: usize) -> Centers {
        let dim = self.segment.dim();
        let width = dim + 1;
        let (mut sums, mut counts) = (vec![0.0_f64; n * width], vec![0_usize; n]);
        let add = |sum: &mut [f64], row: u32| {
            for (sum, &value) in sum.iter_mut().zip(self.segment.vector(row)) {
                *sum += f64::from(value);
            }
            sum[dim] += f64::from(self.extra(row));
        };
        for (&row, &(center, _)) in sample.iter().zip(nearest) {
            counts[center as usize] += 1;
            add(&mut sums[center as usize * width..][..width], row);
        }
        let mut farthest: Vec<usize> = (0..sample.len()).collect();
        if counts.contains(&0) {
            farthest.sort_by(|&a, &b| nearest[a].1.total_cmp(&nearest[b].1));
        }
        let mut farthest = farthest.into_iter();
        let mut centers = Centers { dim, values: Vec::new(), extra: Vec::new() };
        for (sum, count) in sums.chunks_exact_mut(width).zip(&mut counts) {
            if *count == 0 {
                *count = 1;
                farthest.next().into_iter().for_each(|place| add(sum, sample[place]));
            }
            sum.iter_mut().for_each(|value| *value /= *count as f64);
            self.push(&mut centers, sum);
        }
        centers
    }

    fn extra(&self, row: u32) -> f32 {
        match self.metric {
            Metric::InnerProduct => self.lift.at(row),
            Metric::Cosine | Metric::L2 => 0.0,
        }
    }

    /// Adds a centre, of length one where directions are compared.
    fn push(&self, centers: &mut Centers, center: &[f64]) {
        let length = center.iter().map(|v| v * v).sum::<f64>().sqrt();
        let scale = match self.metric {
            Metric::Cosine | Metric::InnerProduct if length > 0.0 => 1.0 / length,
            _ => 1.0,
        };
        let scaled = |value: &f64| (value * scale) as f32;
        centers.values.extend(center[..centers.dim].iter().map(scaled));
        centers.extra.push(scaled(&center[centers.dim]));
    }
}

/// Rows spread over all of them, so that every tenant counts by its size.
fn sample(rows: usize, wanted: usize, random: &mut Random) -> Vec<u32> {
    let n = wanted.saturating_mul(SAMPLE_PER_CENTER).min(SAMPLE_MAX).min(rows);
    let start = |i: usize| (i as u64 * rows as u64 / n as u64) as usize;
    (0..n).map(|i| (start(i) + random.below(start(i + 1) - start(i))) as u32).collect()
}

/// Numbers that look random and are the same at every run (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Below `n`; 0 if that is 0.
    fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }

    /// A place with a probability in proportion to its weight; `None` if no weight is above 0.
    fn weighted(&mut self, weights: &[f32]) -> Option<usize> {
        let total: f64 = weights.iter().map(|&w| f64::from(w)).sum();
        let mut left = total * (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        let mut last = None;
        for (place, &weight) in weights.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
            last = Some(place);
            left -= f64::from(weight);
            if left < 0.0 {
                break;
            }
        }
        last
    }
}
