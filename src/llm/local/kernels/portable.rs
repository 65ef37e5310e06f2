//! Plain Rust, for any processor, and what the others are tested against.

use half::f16;

use super::Part;
use crate::llm::local::matrix::{Eight, Four, LANES};

pub(super) fn four(group: &[Four], x: &[Part], out: &mut [[f32; LANES]]) {
    for (x, out) in x.chunks_exact(group.len().max(1)).zip(out) {
        *out = [0.0; LANES];
        for (block, part) in group.iter().zip(x) {
            for (lane, out) in out.iter_mut().enumerate() {
                let mut dot = 0;
                for (line, quants) in block.quants.iter().enumerate() {
                    for (i, byte) in quants[4 * lane..4 * lane + 4].iter().enumerate() {
                        let at = 4 * line + i;
                        dot += i32::from(byte & 15) * i32::from(part.quants[at]);
                        dot += i32::from(byte >> 4) * i32::from(part.quants[16 + at]);
                    }
                }
                let scale = f16::from_bits(block.scales[lane]).to_f32();
                let least = f16::from_bits(block.leasts[lane]).to_f32();
                *out += part.scale * (scale * dot as f32 + least * part.sum as f32);
            }
        }
    }
}

pub(super) fn eight(group: &[Eight], x: &[Part], out: &mut [[f32; LANES]]) {
    for (x, out) in x.chunks_exact(group.len().max(1)).zip(out) {
        *out = [0.0; LANES];
        for (block, part) in group.iter().zip(x) {
            for (lane, out) in out.iter_mut().enumerate() {
                let mut dot = 0;
                for (line, quants) in block.quants.iter().enumerate() {
                    for (i, byte) in quants[4 * lane..4 * lane + 4].iter().enumerate() {
                        dot += (i32::from(*byte) - 128) * i32::from(part.quants[4 * line + i]);
                    }
                }
                let scale = f16::from_bits(block.scales[lane]).to_f32();
                *out += part.scale * scale * dot as f32;
            }
        }
    }
}

pub(super) fn scores(query: &[f32], keys: &[[f32; LANES]], out: &mut [f32; LANES]) {
    scores_by(query, keys, out, |a, b, c| a * b + c);
}

pub(super) fn weighted(factors: &[f32], rows: &[f32], stride: usize, sum: &mut [f32]) {
    weighted_by(factors, rows, stride, sum, |a, b, c| a * b + c);
}

/// `fma(a, b, c)` is `a * b + c`; a compiler that may use wide registers makes good use of them.
#[inline(always)]
pub(super) fn scores_by(
    query: &[f32],
    keys: &[[f32; LANES]],
    out: &mut [f32; LANES],
    fma: impl Fn(f32, f32, f32) -> f32,
) {
    // Two sums, so that an addition need not wait for the one before.
    let mut sums = [[0.0_f32; LANES]; 2];
    for (query, keys) in query.chunks(2).zip(keys.chunks(2)) {
        for ((sum, query), keys) in sums.iter_mut().zip(query).zip(keys) {
            for (sum, key) in sum.iter_mut().zip(keys) {
                *sum = fma(*query, *key, *sum);
            }
        }
    }
    for (lane, out) in out.iter_mut().enumerate() {
        *out = sums[0][lane] + sums[1][lane];
    }
}

#[inline(always)]
pub(super) fn weighted_by(
    factors: &[f32],
    rows: &[f32],
    stride: usize,
    sum: &mut [f32],
    fma: impl Fn(f32, f32, f32) -> f32,
) {
    const WIDE: usize = 64;
    let mut done = 0;
    while done + WIDE <= sum.len() {
        let mut local = [0.0_f32; WIDE];
        local.copy_from_slice(&sum[done..done + WIDE]);
        for (factor, row) in factors.iter().zip(rows.chunks(stride)) {
            for (local, number) in local.iter_mut().zip(&row[done..done + WIDE]) {
                *local = fma(*factor, *number, *local);
            }
        }
        sum[done..done + WIDE].copy_from_slice(&local);
        done += WIDE;
    }
    for (factor, row) in factors.iter().zip(rows.chunks(stride)) {
        let row = &row[done..sum.len()];
        for (sum, number) in sum[done..].iter_mut().zip(row) {
            *sum = fma(*factor, *number, *sum);
        }
    }
}
