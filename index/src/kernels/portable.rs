//! Plain Rust with sixteen sums side by side, which compilers turn into whatever vectors the
//! target's baseline has.

use super::CODE_BLOCK;

const LANES: usize = 16;

pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    sum(a, b, |x, y| x * y)
}

pub(super) fn square_distance(a: &[f32], b: &[f32]) -> f32 {
    sum(a, b, |x, y| (x - y) * (x - y))
}

pub(super) fn dot_codes(a: &[[i8; CODE_BLOCK]], b: &[[i8; CODE_BLOCK]]) -> i32 {
    let mut sums = [0; LANES];
    for (a, b) in a.iter().zip(b) {
        for (a, b) in a.as_chunks::<LANES>().0.iter().zip(b.as_chunks::<LANES>().0) {
            for lane in 0..LANES {
                sums[lane] += i32::from(a[lane]) * i32::from(b[lane]);
            }
        }
    }
    sums.iter().sum()
}

#[inline(always)]
fn sum(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let (a_blocks, a_rest) = a.as_chunks::<LANES>();
    let (b_blocks, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for (a, b) in a_blocks.iter().zip(b_blocks) {
        for lane in 0..LANES {
            sums[lane] += term(a[lane], b[lane]);
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(&x, &y)| term(x, y)).sum();
    sums.iter().sum::<f32>() + rest
}
