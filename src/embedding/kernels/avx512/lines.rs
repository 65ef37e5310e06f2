//! Loops that begin or end in bf16, by hand: of plain ones the compiler keeps what goes from one
//! instruction to the next on the stack.
//!
//! All need what [`Isa::Amx`](super::super::Isa::Amx) has.

use std::arch::x86_64::*;

use super::super::rows::{LEAST_EXPONENT, ROUGH_EXP, ROUGH_GELU, ROUGH_GELU_MOST, SHIFTER};
use super::super::{COLUMNS, Line, PANEL, SumsF32, in_strip};

/// Floats of a register.
const LANES: usize = 16;

/// See [`softmax_to_bf16`](super::super::softmax_to_bf16).
///
/// The largest logits of all rows come first: a row's weights wait for its own, and meanwhile the
/// processor has nothing else in sight.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
pub(in super::super) fn softmax(
    blocks: &[SumsF32],
    width: usize,
    out: &mut [Line],
    depth: usize,
    inverses: &mut [f32],
) {
    assert!(width <= blocks.len() * COLUMNS && width <= depth * Line::HALVES);
    // Whole lines, and which numbers of the one behind them there are.
    let (n, more) = (width / Line::HALVES, width % Line::HALVES);
    let there = (1_u32 << more) - 1;
    let there = [there as u16, (there >> LANES) as u16];
    let lowest = _mm512_set1_ps(f32::NEG_INFINITY);
    let all = [u16::MAX; 2];
    for (r, inverse) in inverses.iter_mut().enumerate() {
        let mut max = [lowest; 2];
        let mut take = |[low, high]: [__m512; 2]| {
            max = [_mm512_max_ps(low, max[0]), _mm512_max_ps(high, max[1])];
        };
        for line in 0..n {
            take(logits(blocks, r, line, all));
        }
        if more > 0 {
            take(logits(blocks, r, n, there));
        }
        *inverse = _mm512_reduce_max_ps(_mm512_max_ps(max[0], max[1]));
    }
    for (r, inverse) in inverses.iter_mut().enumerate() {
        let max = _mm512_set1_ps(*inverse);
        let mut sums = [_mm512_setzero_ps(); 2];
        let mut weigh = |logits: [__m512; 2], there: [u16; 2], line: &mut Line| {
            let low = power(_mm512_sub_ps(logits[0], max), there[0]);
            let high = power(_mm512_sub_ps(logits[1], max), there[1]);
            sums = [_mm512_add_ps(sums[0], low), _mm512_add_ps(sums[1], high)];
            store(line, low, high);
        };
        for line in 0..n {
            weigh(logits(blocks, r, line, all), all, &mut out[in_strip(r, line, depth)]);
        }
        if more > 0 {
            weigh(logits(blocks, r, n, there), there, &mut out[in_strip(r, n, depth)]);
        }
        for line in width.div_ceil(Line::HALVES)..depth {
            out[in_strip(r, line, depth)] = Line::ZERO;
        }
        *inverse = 1.0 / _mm512_reduce_add_ps(_mm512_add_ps(sums[0], sums[1]));
    }
}

/// The logits of a line of a row; instead of those that are not `there`, the lowest.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
fn logits(blocks: &[SumsF32], r: usize, line: usize, there: [u16; 2]) -> [__m512; 2] {
    const LINES: usize = COLUMNS / Line::HALVES;
    let row = &blocks[line / LINES].0[r].as_chunks::<{ Line::HALVES }>().0[line % LINES];
    let lowest = _mm512_set1_ps(f32::NEG_INFINITY);
    // SAFETY: a line of numbers is two registers of floats.
    unsafe {
        [
            _mm512_mask_loadu_ps(lowest, there[0], &raw const row[0]),
            _mm512_mask_loadu_ps(lowest, there[1], &raw const row[LANES]),
        ]
    }
}

/// `e` to the power of `x`, 0 where nothing is `there`: `rough_exp` of the plain loops.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
fn power(x: __m512, there: u16) -> __m512 {
    let (log2_e, shifter) = (_mm512_set1_ps(std::f32::consts::LOG2_E), _mm512_set1_ps(SHIFTER));
    let x = _mm512_max_ps(x, _mm512_set1_ps(LEAST_EXPONENT));
    let shifted = _mm512_fmadd_ps(x, log2_e, shifter);
    let r = _mm512_fmadd_ps(x, log2_e, _mm512_sub_ps(shifter, shifted));
    let [first, rest @ ..] = ROUGH_EXP;
    let mut p = _mm512_set1_ps(first);
    for power in rest {
        p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(power));
    }
    let power = _mm512_slli_epi32::<23>(_mm512_castps_si512(shifted));
    _mm512_castsi512_ps(_mm512_maskz_add_epi32(there, _mm512_castps_si512(p), power))
}

/// See [`finish_gelu_to_bf16`](super::super::finish_gelu_to_bf16); one whole line of each row.
#[target_feature(enable = "avx512f,avx512bf16")]
pub(in super::super) fn gelu_line(
    sums: &SumsF32,
    rows: usize,
    column: usize,
    bias: &[f32; Line::HALVES],
    out: &mut [Line],
    line: usize,
    depth: usize,
) {
    assert!(column + Line::HALVES <= COLUMNS);
    // SAFETY: the bias is two registers.
    let bias =
        unsafe { [_mm512_loadu_ps(&raw const bias[0]), _mm512_loadu_ps(&raw const bias[LANES])] };
    for (r, sums) in sums.0[..rows].iter().enumerate() {
        let sums = sums[column..].as_ptr();
        // SAFETY: two registers from this column on are within the row.
        let sums = unsafe { [_mm512_loadu_ps(sums), _mm512_loadu_ps(sums.add(LANES))] };
        let low = gelu(_mm512_add_ps(sums[0], bias[0]));
        let high = gelu(_mm512_add_ps(sums[1], bias[1]));
        store(&mut out[in_strip(r, line, depth)], low, high);
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn gelu(x: __m512) -> __m512 {
    let most = _mm512_set1_ps(ROUGH_GELU_MOST);
    let z = _mm512_min_ps(x, most);
    let z = _mm512_max_ps(z, _mm512_sub_ps(_mm512_setzero_ps(), most));
    let y = _mm512_mul_ps(z, z);
    let [first, rest @ ..] = ROUGH_GELU;
    let mut p = _mm512_set1_ps(first);
    for power in rest {
        p = _mm512_fmadd_ps(p, y, _mm512_set1_ps(power));
    }
    _mm512_mul_ps(x, _mm512_fmadd_ps(p, z, _mm512_set1_ps(0.5)))
}

/// Makes columns of rows: of 16 lines, each of 16 pairs of 16-bit numbers.
#[target_feature(enable = "avx512f")]
pub(in super::super) fn turn(square: &mut [Line; PANEL]) {
    /// The first and third fourths of two registers, or the second and fourth ones.
    const EVEN: i32 = 0b10_00_10_00;
    const ODD: i32 = 0b11_01_11_01;
    // SAFETY: a line is a register, aligned.
    let line: [__m512i; PANEL] =
        std::array::from_fn(|r| unsafe { _mm512_load_si512(square[r].0.as_ptr().cast()) });
    // In every fourth of a line: pairs of rows, then fours of rows.
    let pairs: [__m512i; PANEL] = std::array::from_fn(|i| {
        let (low, high) = (line[i & !1], line[i | 1]);
        if i & 1 == 0 { _mm512_unpacklo_epi32(low, high) } else { _mm512_unpackhi_epi32(low, high) }
    });
    let fours: [__m512i; PANEL] = std::array::from_fn(|i| {
        let first = (i & !3) + (i & 3) / 2;
        let (low, high) = (pairs[first], pairs[first + 2]);
        if i & 1 == 0 { _mm512_unpacklo_epi64(low, high) } else { _mm512_unpackhi_epi64(low, high) }
    });
    // Then the fourths themselves.
    for j in 0..4 {
        let (a, b, c, d) = (fours[j], fours[4 + j], fours[8 + j], fours[12 + j]);
        let even = (_mm512_shuffle_i32x4::<EVEN>(a, b), _mm512_shuffle_i32x4::<EVEN>(c, d));
        let odd = (_mm512_shuffle_i32x4::<ODD>(a, b), _mm512_shuffle_i32x4::<ODD>(c, d));
        let mut put = |column: usize, line| {
            // SAFETY: a line is a register, aligned.
            unsafe { _mm512_store_si512(square[column].0.as_mut_ptr().cast(), line) };
        };
        put(j, _mm512_shuffle_i32x4::<EVEN>(even.0, even.1));
        put(4 + j, _mm512_shuffle_i32x4::<EVEN>(odd.0, odd.1));
        put(8 + j, _mm512_shuffle_i32x4::<ODD>(even.0, even.1));
        put(12 + j, _mm512_shuffle_i32x4::<ODD>(odd.0, odd.1));
    }
}

/// The 16-bit numbers of two lines by turns: of their first halves, and of their second ones.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(in super::super) fn interleave(even: &Line, odd: &Line) -> (Line, Line) {
    /// Which number of the two lines stands where, from the one given on.
    const fn turns(from: u16) -> [u16; Line::HALVES] {
        let mut turns = [0; Line::HALVES];
        let mut i = 0;
        while i < Line::HALVES {
            turns[i] = from + i as u16 / 2 + (i as u16 % 2) * Line::HALVES as u16;
            i += 1;
        }
        turns
    }
    const LOW: [u16; Line::HALVES] = turns(0);
    const HIGH: [u16; Line::HALVES] = turns(Line::HALVES as u16 / 2);
    let (mut low, mut high) = (Line::ZERO, Line::ZERO);
    // SAFETY: a line is a register, aligned, and so are 32 numbers but for that.
    unsafe {
        let even = _mm512_load_si512(even.0.as_ptr().cast());
        let odd = _mm512_load_si512(odd.0.as_ptr().cast());
        for (turns, line) in [(&LOW, &mut low), (&HIGH, &mut high)] {
            let turns = _mm512_loadu_si512(turns.as_ptr().cast());
            let made = _mm512_permutex2var_epi16(even, turns, odd);
            _mm512_store_si512(line.0.as_mut_ptr().cast(), made);
        }
    }
    (low, high)
}

/// Rounds 32 numbers to bf16, to the nearest and ties to even, but makes 0 of what is below 1.2e-38.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
pub(in super::super) fn round(numbers: &[f32; Line::HALVES], line: &mut Line) {
    // SAFETY: the numbers are two registers.
    let [low, high] = unsafe {
        [_mm512_loadu_ps(&raw const numbers[0]), _mm512_loadu_ps(&raw const numbers[LANES])]
    };
    store(line, low, high);
}

/// Rounds two registers to a line.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn store(line: &mut Line, low: __m512, high: __m512) {
    // SAFETY: a line is a register, aligned, and any bits are one.
    unsafe {
        let both = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low));
        _mm512_store_si512(line.0.as_mut_ptr().cast(), both);
    }
}
