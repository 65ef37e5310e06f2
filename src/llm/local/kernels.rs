//! Products of weights and activations, by the best instructions of the processor.
//!
//! A kernel multiplies one group of sixteen rows with any number of activations. Activations are
//! in 8 bits with a scale for each 32, so that the inner loop is of integers:
//! `sum(w * x) = xs * (ws * sum(wq * xq) + wl * sum(xq))` for a block.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;
#[cfg(test)]
mod tests;

use std::fmt;

use super::matrix::{BLOCK, Eight, Four, LANES};

/// 32 activations: a number is `scale * quants[i]`.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C)]
pub struct Part {
    /// From -127 to 127.
    pub quants: [i8; BLOCK],
    /// The scale.
    pub scale: f32,
    /// The sum of `quants`.
    pub sum: i32,
}

impl Part {
    const ZERO: Self = Self { quants: [0; BLOCK], scale: 0.0, sum: 0 };

    /// Appends `numbers`, whose count is a multiple of [`BLOCK`], to `parts`.
    pub fn quantise(numbers: &[f32], parts: &mut Vec<Self>) {
        parts.extend(numbers.chunks_exact(BLOCK).map(|numbers| {
            let most = numbers.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
            let mut part = Self { scale: most / 127.0, ..Self::ZERO };
            // Below that the inverse would not be finite.
            if most > 1e-30 {
                let inverse = 127.0 / most;
                for (quant, number) in part.quants.iter_mut().zip(numbers) {
                    // The constant has no fraction bits left below it: adding it rounds, to even.
                    const ROUND: f32 = 12_582_912.0;
                    *quant = ((number * inverse + ROUND) - ROUND) as i8;
                }
            }
            part.sum = part.quants.iter().map(|quant| i32::from(*quant)).sum();
            part
        }));
    }
}

/// Sets of instructions there are kernels for, from plain to best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Any processor.
    Portable,
    /// AVX2 with FMA and F16C.
    Avx2,
    /// AVX-512 with VNNI.
    Avx512,
}

impl Level {
    /// The best there is.
    pub const BEST: Self = Self::Avx512;
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512vnni",
        })
    }
}

/// The kernels of a level that this processor has.
#[derive(Debug, Clone, Copy)]
pub struct Kernels {
    level: Level,
}

/// Calls the function of the level; the argument list is the same for all.
macro_rules! dispatch {
    ($kernels:expr, $name:ident($($argument:expr),*)) => {
        match $kernels.level {
            // SAFETY: `Kernels` is only made for a level whose instructions were found.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => unsafe { avx512::$name($($argument),*) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => unsafe { avx2::$name($($argument),*) },
            _ => portable::$name($($argument),*),
        }
    };
}

impl Kernels {
    /// The best kernels up to `limit`.
    pub fn best(limit: Level) -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c");
            let avx512 = avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni");
            if avx512 && limit >= Level::Avx512 {
                return Self { level: Level::Avx512 };
            }
            if avx2 && limit >= Level::Avx2 {
                return Self { level: Level::Avx2 };
            }
        }
        let _ = limit;
        Self { level: Level::Portable }
    }

    /// What they use.
    pub fn level(self) -> Level {
        self.level
    }

    /// The products of a group of rows with each of the activations in `x`, which have as many
    /// parts each as `group` has blocks: one array of `out` for each.
    pub fn four(self, group: &[Four], x: &[Part], out: &mut [[f32; LANES]]) {
        assert_eq!(x.len(), group.len() * out.len(), "as many parts as blocks");
        dispatch!(self, four(group, x, out));
    }

    /// The same for weights in 8 bits.
    pub fn eight(self, group: &[Eight], x: &[Part], out: &mut [[f32; LANES]]) {
        assert_eq!(x.len(), group.len() * out.len(), "as many parts as blocks");
        dispatch!(self, eight(group, x, out));
    }

    /// Scores of sixteen keys, which lie in `keys` dimension by dimension: `out[i]` is the product
    /// of `query` and key `i`.
    pub fn scores(self, query: &[f32], keys: &[[f32; LANES]], out: &mut [f32; LANES]) {
        dispatch!(self, scores(query, keys, out));
    }

    /// Adds `factors[i]` times row `i` of `rows`, which are `stride` apart, to `sum`.
    pub fn weighted(self, factors: &[f32], rows: &[f32], stride: usize, sum: &mut [f32]) {
        dispatch!(self, weighted(factors, rows, stride, sum));
    }
}
