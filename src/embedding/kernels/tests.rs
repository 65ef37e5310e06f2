//! Every level that this processor has against the portable one, and that against the definition.

use proptest::prelude::*;

use super::lines::halves;
use super::*;

/// The kernels of this processor, the portable one left out. Says so when there are fewer than
/// there could be.
fn kernels() -> Vec<Kernel> {
    let (there, missing): (Vec<Isa>, Vec<Isa>) =
        [Isa::Amx, Isa::Avx512Vnni, Isa::Avx2].into_iter().partition(|isa| isa.is_available());
    for isa in missing {
        println!("skipped: this processor has no {isa}");
    }
    there.into_iter().map(kernel).collect()
}

fn kernel(isa: Isa) -> Kernel {
    Kernel::choose(Some(isa)).unwrap()
}

/// Numbers that look random but are the same every time.
fn noise(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32
    }
}

/// What the lines of a product hold.
#[derive(Debug, Clone, Copy)]
enum Fill {
    Random,
    /// The largest magnitudes whose sums of products cannot exceed 31 bits, all of one sign.
    Extreme,
    Zero,
}

/// Lines of numbers from `-limit` to `limit`.
fn lines(n: usize, fill: Fill, limit: i32, next: &mut impl FnMut() -> u64) -> Vec<Line> {
    let mut lines = vec![Line::ZERO; n];
    for number in halves_mut(&mut lines) {
        let drawn = match fill {
            Fill::Random => (next() % (2 * limit as u64 + 1)) as i32 - limit,
            Fill::Extreme => limit,
            Fill::Zero => 0,
        };
        *number = i16::try_from(drawn).unwrap().cast_unsigned();
    }
    lines
}

/// Lines of numbers from -1 to 1, as bf16.
fn float_lines(n: usize, next: &mut impl FnMut() -> u64) -> Vec<Line> {
    let mut lines = vec![Line::ZERO; n];
    for number in halves_mut(&mut lines) {
        *number = half::bf16::from_f32((next() % 2001) as f32 / 1000.0 - 1.0).to_bits();
    }
    lines
}

fn sums_i16(kernel: Kernel, product: &Product16<'_>) -> Vec<Vec<i32>> {
    // What stood there before must not matter.
    let mut sums = Sums([[i32::MIN + 7; COLUMNS]; BLOCK]);
    Session::new(kernel, None).product_i16(product, &mut sums);
    let columns = product.b.len() / product.depth;
    sums.0[..product.rows].iter().map(|row| row[..columns].to_vec()).collect()
}

fn sums_bf16(kernel: Kernel, shape: &Shape<'_>, rows_pass: bool) -> Vec<Vec<f32>> {
    let Shape { a, rows, depth, b } = *shape;
    let mut sums = Sums([[f32::NAN; COLUMNS]; BLOCK]);
    let session = Session::new(kernel, None);
    // In one part or in two.
    let cut = if rows.is_multiple_of(2) { depth } else { depth.div_ceil(2) };
    for part in [0..cut, cut..depth].into_iter().filter(|part| !part.is_empty()) {
        let passing = if rows_pass { Passing::Rows { next: [b, &[]] } } else { Passing::Columns };
        session.product_bf16(&ProductBf16 { a, rows, depth, b, part, passing }, &mut sums);
    }
    let columns = b.len() / depth;
    sums.0[..rows].iter().map(|row| row[..columns].to_vec()).collect()
}

/// What a product of 16-bit numbers is of.
#[derive(Clone, Copy)]
struct Shape<'a> {
    a: &'a [Line],
    rows: usize,
    depth: usize,
    b: &'a [Line],
}

/// Row by row and column by column, from the layout's description; `place` is where a line of a row
/// stands.
fn defined<T: std::iter::Sum + std::ops::Mul<Output = T>>(
    shape: &Shape<'_>,
    place: impl Fn(usize, usize) -> usize,
    number: impl Fn(u16) -> T,
) -> Vec<Vec<T>> {
    let Shape { a, rows, depth, b } = *shape;
    let (a, b) = (halves(a), halves(b));
    let width = depth * Line::HALVES;
    let weight = |k: usize, c: usize| {
        b[c / PANEL * width * PANEL + k / 2 * Line::HALVES + c % PANEL * 2 + k % 2]
    };
    let sum = |r: usize, c: usize| {
        let input = |k: usize| a[place(r, k / Line::HALVES) * Line::HALVES + k % Line::HALVES];
        (0..width).map(|k| number(input(k)) * number(weight(k, c))).sum()
    };
    let columns = b.len() / width;
    (0..rows).map(|r| (0..columns).map(|c| sum(r, c)).collect()).collect()
}

fn depths() -> impl Strategy<Value = usize> {
    prop_oneof![1..=3usize, Just(12), 13..=17usize, Just(48)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn sums_of_integer_products_are_the_same_bit_by_bit(
        rows in 1..=BLOCK,
        depth in depths(),
        n_panels in 1..=4usize,
        fill in prop_oneof![3 => Just(Fill::Random), 1 => Just(Fill::Extreme), 1 => Just(Fill::Zero)],
        negative in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let mut next = noise(seed);
        let limit = (f64::from(i32::MAX) / (depth * Line::HALVES) as f64).sqrt() as i32;
        let a = lines(rows.next_multiple_of(16) * depth, fill, limit, &mut next);
        let mut b = lines(n_panels * depth * PANEL, fill, limit, &mut next);
        if negative {
            for number in halves_mut(&mut b) {
                *number = number.wrapping_neg();
            }
        }
        let product = Product16 { a: &a, rows, depth, b: &b };
        let portable = sums_i16(kernel(Isa::Portable), &product);
        for kernel in kernels() {
            prop_assert!(sums_i16(kernel, &product) == portable, "{}", kernel.isa());
        }
        if depth <= 3 {
            let shape = Shape { a: &a, rows, depth, b: &b };
            let want = defined(&shape, |r, i| r * depth + i, |x| i32::from(x.cast_signed()));
            prop_assert_eq!(portable, want);
        }
    }

    #[test]
    fn products_of_bf16_differ_in_rounding_only(
        rows in 1..=BLOCK,
        depth in depths(),
        n_panels in 1..=4usize,
        rows_pass in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let mut next = noise(seed);
        let a = float_lines(rows.next_multiple_of(16) * depth, &mut next);
        let b = float_lines(n_panels * depth * PANEL, &mut next);
        let shape = Shape { a: &a, rows, depth, b: &b };
        let portable = sums_bf16(kernel(Isa::Portable), &shape, rows_pass);
        if depth <= 3 {
            let place = |r, i| in_strip(r, i, depth);
            let want = defined(&shape, place, |x| f64::from(half::bf16::from_bits(x)));
            for (x, y) in portable.iter().flatten().zip(want.iter().flatten()) {
                prop_assert!((f64::from(*x) - y).abs() < 1e-4, "{x} {y}");
            }
        }
        for kernel in kernels() {
            let got = sums_bf16(kernel, &shape, rows_pass);
            for (x, y) in got.iter().flatten().zip(portable.iter().flatten()) {
                prop_assert!((x - y).abs() < 2e-3, "{}: {x} {y}", kernel.isa());
            }
        }
    }

    #[test]
    fn products_of_floats_differ_in_rounding_only(
        rows in 1..=40usize,
        depth in prop_oneof![1..=40usize, Just(384), Just(1536)],
        n_panels in 1..=7usize,
        more in (0..20usize, 0..20usize),
        seed in any::<u64>(),
    ) {
        let mut next = noise(seed);
        let mut number = || (next() % 2001) as f32 / 1000.0 - 1.0;
        let (a_stride, stride) = (depth + more.0, n_panels * PANEL + more.1);
        let a: Vec<f32> = (0..rows * a_stride).map(|_| number()).collect();
        let b: Vec<f32> = (0..n_panels * PANEL * depth).map(|_| number()).collect();
        let product = ProductF32 { a: &a, a_stride, rows, depth, b: &b, stride };
        let made = |isa| {
            let mut out = vec![77.0; rows * stride];
            Session::new(kernel(isa), None).product_f32(&product, &mut out);
            out
        };
        let portable = made(Isa::Portable);
        for r in 0..rows {
            for c in 0..stride {
                let x = portable[r * stride + c];
                if c < n_panels * PANEL {
                    let panel = &b[c / PANEL * PANEL * depth..];
                    let want: f64 = (0..depth)
                        .map(|k| f64::from(a[r * a_stride + k]) * f64::from(panel[k * PANEL + c % PANEL]))
                        .sum();
                    prop_assert!((f64::from(x) - want).abs() < 1e-3);
                } else {
                    prop_assert_eq!(x, 77.0, "beyond the columns");
                }
            }
        }
        for kernel in kernels() {
            for (x, y) in made(kernel.isa()).iter().zip(&portable) {
                prop_assert!((x - y).abs() < 1e-3, "{}: {} {}", kernel.isa(), x, y);
            }
        }
    }
}
