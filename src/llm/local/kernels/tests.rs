use half::f16;
use proptest::prelude::*;

use super::*;

/// A small generator, the same everywhere.
fn random(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mixed = (state ^ (state >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        mixed ^ (mixed >> 33)
    }
}

fn half_bits(random: u64) -> u16 {
    f16::from_f32((random % 2001) as f32 / 1000.0 - 1.0).to_bits()
}

fn fours(n: usize, mut random: impl FnMut() -> u64) -> Vec<Four> {
    let mut make = || Four {
        quants: std::array::from_fn(|_| std::array::from_fn(|_| random() as u8)),
        scales: std::array::from_fn(|_| half_bits(random())),
        leasts: std::array::from_fn(|_| half_bits(random())),
    };
    (0..n).map(|_| make()).collect()
}

fn eights(n: usize, mut random: impl FnMut() -> u64) -> Vec<Eight> {
    let mut make = || Eight {
        quants: std::array::from_fn(|_| std::array::from_fn(|_| (random() % 255 + 1) as u8)),
        scales: std::array::from_fn(|_| half_bits(random())),
    };
    (0..n).map(|_| make()).collect()
}

fn activations(n: usize, width: usize, mut random: impl FnMut() -> u64) -> (Vec<f32>, Vec<Part>) {
    let number = |r: u64| (r % 20_001) as f32 / 1000.0 - 10.0;
    let numbers: Vec<f32> = (0..n * width * BLOCK).map(|_| number(random())).collect();
    let mut parts = Vec::new();
    Part::quantise(&numbers, &mut parts);
    (numbers, parts)
}

/// The same as far as the order of additions goes.
fn agree(found: &[[f32; LANES]], right: &[[f32; LANES]], width: usize) {
    for (found, right) in found.iter().flatten().zip(right.iter().flatten()) {
        let slack = 1e-3 * (width as f32 + right.abs());
        assert!((found - right).abs() <= slack, "{found} is not {right}");
    }
}

/// The levels above the portable one that this processor has.
fn levels() -> Vec<Kernels> {
    let levels: Vec<Kernels> = [Level::Avx2, Level::Avx512]
        .into_iter()
        .map(|level| (level, Kernels::best(level)))
        .filter(|(level, kernels)| {
            let there = kernels.level() == *level;
            if !there {
                println!("skipped: this processor has no {level:?}");
            }
            there
        })
        .map(|(_, kernels)| kernels)
        .collect();
    levels
}

proptest! {
    #[test]
    fn every_level_agrees_with_plain_code(seed: u64, width in 1_usize..6, n in 1_usize..20) {
        let mut random = random(seed);
        let (fours, eights) = (fours(width, &mut random), eights(width, &mut random));
        let (_, x) = activations(n, width, &mut random);
        let plain = Kernels::best(Level::Portable);
        let mut right = [vec![[0.0; LANES]; n], vec![[0.0; LANES]; n]];
        plain.four(&fours, &x, &mut right[0]);
        plain.eight(&eights, &x, &mut right[1]);
        for kernels in levels() {
            let mut found = vec![[9.0; LANES]; n];
            kernels.four(&fours, &x, &mut found);
            agree(&found, &right[0], width);
            kernels.eight(&eights, &x, &mut found);
            agree(&found, &right[1], width);
        }
    }

    #[test]
    fn attention_agrees_with_plain_code(seed: u64, size in 1_usize..150, n in 0_usize..9, apart in 0_usize..5) {
        let mut random = random(seed);
        let mut numbers = |n: usize| -> Vec<f32> {
            (0..n).map(|_| (random() % 2001) as f32 / 1000.0 - 1.0).collect()
        };
        let query = numbers(size);
        let keys: Vec<[f32; LANES]> =
            (0..size).map(|_| std::array::from_fn(|i| numbers(i + 1)[i])).collect();
        let (factors, stride) = (numbers(n), size + apart);
        let rows = numbers(n * stride);
        let mut scores = [0.0; LANES];
        for (lane, score) in scores.iter_mut().enumerate() {
            *score = query.iter().zip(&keys).map(|(q, k)| q * k[lane]).sum();
        }
        let mut sum = vec![1.0; size];
        for (factor, row) in factors.iter().zip(rows.chunks(stride)) {
            sum.iter_mut().zip(row).for_each(|(sum, number)| *sum += factor * number);
        }
        for kernels in levels().into_iter().chain([Kernels::best(Level::Portable)]) {
            let mut found = [9.0; LANES];
            kernels.scores(&query, &keys, &mut found);
            agree(&[found], &[scores], size);
            let mut found = vec![1.0; size];
            kernels.weighted(&factors, &rows, stride, &mut found);
            for (found, right) in found.iter().zip(&sum) {
                prop_assert!((found - right).abs() < 1e-4, "{} is not {}", found, right);
            }
        }
    }
}

#[test]
fn the_largest_numbers_do_not_overflow() {
    let one = f16::ONE.to_bits();
    let four = Four { quants: [[0xff; 64]; 4], scales: [one; 16], leasts: [one; 16] };
    let least = Eight { quants: [[1; 64]; 8], scales: [one; 16] };
    let most = Eight { quants: [[255; 64]; 8], scales: [one; 16] };
    for sign in [1_i8, -1] {
        let x = Part { quants: [127 * sign; BLOCK], scale: 1.0, sum: 32 * 127 * i32::from(sign) };
        for kernels in levels().into_iter().chain([Kernels::best(Level::Portable)]) {
            let mut out = [[0.0; LANES]];
            kernels.four(&[four], &[x], &mut out);
            assert_eq!(out, [[f32::from(sign) * 127.0 * 32.0 * 16.0; 16]]);
            kernels.eight(&[most], &[x], &mut out);
            assert_eq!(out, [[f32::from(sign) * 127.0 * 127.0 * 32.0; 16]]);
            kernels.eight(&[least], &[x], &mut out);
            assert_eq!(out, [[f32::from(sign) * -127.0 * 127.0 * 32.0; 16]]);
        }
    }
}

#[test]
fn quants_are_close_to_the_numbers() {
    let (numbers, parts) = activations(3, 2, random(7));
    assert_eq!(parts.len(), 6);
    for (numbers, part) in numbers.chunks(BLOCK).zip(&parts) {
        assert_eq!(part.sum, part.quants.iter().map(|q| i32::from(*q)).sum::<i32>());
        for (number, quant) in numbers.iter().zip(part.quants) {
            assert!((number - part.scale * f32::from(quant)).abs() <= 0.501 * part.scale);
        }
    }
    for odd in [0.0, f32::NAN, f32::INFINITY, 1e-38] {
        let mut parts = Vec::new();
        Part::quantise(&[odd; BLOCK], &mut parts);
        assert_eq!(parts.len(), 1, "{odd} does no harm");
    }
}
