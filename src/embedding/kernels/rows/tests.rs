use super::*;
use crate::embedding::kernels::lines::halves;
use crate::embedding::kernels::{PANEL, STRIP, in_strip};

/// The kernels of this processor; the others' loops are skipped.
fn kernels() -> Vec<Kernel> {
    let there = Isa::ALL.into_iter().filter(|isa| isa.is_available());
    there.map(|isa| Kernel::choose(Some(isa)).unwrap()).collect()
}

/// The error function by its power series, in f64: exact enough for |x| up to 5.
fn erf(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

fn exact_gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + erf(x / 2f64.sqrt()))
}

#[test]
fn exp_is_exact_to_float_precision() {
    for i in 0..=10_000 {
        let x = -87.0 + 175.0 * (i as f32 / 10_000.0);
        let want = f64::from(x).exp();
        for got in [exp::<true>(x), exp::<false>(x)] {
            let error = (f64::from(got) - want).abs() / want;
            assert!(error < 3e-7, "exp({x}) is off by {error}");
        }
    }
    assert_eq!(exp::<true>(0.0), 1.0);
    assert!(exp::<true>(f32::NEG_INFINITY) < 1e-37);
}

#[test]
fn rough_exp_is_exact_to_bf16() {
    for i in 0..=10_000 {
        let x = -87.0 * (i as f32 / 10_000.0);
        let want = f64::from(x).exp();
        for got in [rough_exp::<true>(x), rough_exp::<false>(x)] {
            let error = (f64::from(got) - want).abs() / want;
            assert!(error < 1e-4, "exp({x}) is off by {error}");
        }
    }
    assert!((0.0..1e-37).contains(&rough_exp::<true>(f32::NEG_INFINITY)));
}

#[test]
fn gelu_agrees_with_the_error_function() {
    for i in 0..=2_000 {
        let x = -5.0 + i as f32 / 200.0;
        let want = exact_gelu(f64::from(x));
        for got in [gelu::<true>(x), gelu::<false>(x)] {
            let error = (f64::from(got) - want).abs();
            assert!(error < 4e-7 * f64::from(x.abs()).max(1.0), "gelu({x}) is off by {error}");
        }
        for got in [rough_gelu::<true>(x), rough_gelu::<false>(x)] {
            let error = (f64::from(got) - want).abs();
            assert!(error < 2e-4, "rough gelu({x}) is off by {error}");
        }
    }
    assert_eq!(gelu::<true>(30.0), 30.0);
    assert!(gelu::<true>(-30.0).abs() < 1e-30);
    assert!((rough_gelu::<true>(30.0) - 30.0).abs() < 5e-4);
    assert!(rough_gelu::<true>(-30.0).abs() < 5e-4);
}

#[test]
fn bias_is_added_to_its_columns() {
    for kernel in kernels() {
        let mut rows = [1.0, 2.0, 9.0, 3.0, 4.0];
        add_bias(kernel, &mut rows, 3, &[10.0, 20.0]);
        assert_eq!(rows, [11.0, 22.0, 9.0, 13.0, 24.0]);
        let mut rows = [0.5, -1.0, 2.0, 0.0, 1.0, -3.0];
        let bias = [0.1, 0.2, -0.3];
        let sums = rows.iter().zip(bias.iter().cycle()).map(|(x, b)| x + b);
        let want: Vec<f32> = sums.map(gelu::<true>).collect();
        add_bias_gelu(kernel, &mut rows, 3, &bias);
        for (x, y) in rows.iter().zip(&want) {
            assert!((x - y).abs() < 1e-6);
        }
    }
}

#[test]
fn softmax_rows_sum_to_one_and_keep_their_order() {
    // 37 is no multiple of the lanes; the large values would overflow without the shift.
    for kernel in kernels() {
        let mut rows: Vec<f32> = (0..80).map(|i| 900.0 + (i % 40) as f32).collect();
        let (mut inverses, mut scaled) = ([0.0; 2], vec![7.0; 78]);
        softmax(kernel, &mut rows, 40, 37, &mut inverses);
        scale(kernel, &rows, 40, 37, &inverses, &mut scaled, 39);
        for (weights, row) in rows.chunks(40).zip(scaled.chunks(39)) {
            assert_eq!((&weights[37..], &row[37..]), (&[0.0; 3][..], &[7.0; 2][..]));
            assert_eq!(weights[36], 1.0, "the largest");
            let row = &row[..37];
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6);
            assert!(row.windows(2).all(|pair| pair[0] < pair[1]));
            assert!((row[36] / row[35] - std::f32::consts::E).abs() < 1e-4);
        }
    }
}

#[test]
fn weights_of_integers_are_a_softmax_whatever_the_scores() {
    // The largest scores there can be, all the same, and nothing between them; 37 is no multiple of
    // the lanes, and the second block has 6.
    let most = 8191 * 8191 * 32;
    let scores: [fn(usize) -> i32; 4] = [
        |c| if c % 7 == 0 { 8191 * 8191 * 32 } else { -8191 * 8191 * 32 },
        |_| 0,
        |c| c as i32 * 1_000_000,
        |c| if c == 3 { 8191 } else { -8191 },
    ];
    for (kernel, width) in kernels().into_iter().flat_map(|kernel| [(kernel, 37), (kernel, 70)]) {
        for scale in [0.0, 1e-12, 1e-7, 1.0] {
            let mut blocks = vec![SumsI32::default(); 2];
            for block in &mut blocks {
                // What stands behind the last score must not matter.
                block.0.iter_mut().flatten().for_each(|score| *score = most);
            }
            for (r, score) in scores.iter().enumerate() {
                for c in 0..width {
                    blocks[c / 64].0[r][c % 64] = score(c);
                }
            }
            let depth = width.div_ceil(32);
            let mut out = vec![Line([0x55; 64]); 4 * depth];
            let (mut room, mut factors) = ([f32::NAN; 128], [0.0; 4]);
            // Few enough that weights are made smaller for it.
            let bound = 1e6;
            softmax_to_i16(kernel, &blocks, width, scale, bound, &mut room, &mut out, &mut factors);
            for (r, (weights, factor)) in halves(&out).chunks(32 * depth).zip(factors).enumerate() {
                assert!(weights[width..].iter().all(|&weight| weight == 0));
                let weights =
                    weights[..width].iter().map(|&weight| i32::from(weight.cast_signed()));
                assert!(weights.clone().all(|weight| weight >= 0));
                assert!(weights.clone().sum::<i32>() <= bound as i32 + width as i32);
                let max = (0..width).map(scores[r]).max().unwrap();
                let exp = |c| ((f64::from(scores[r](c)) - f64::from(max)) * f64::from(scale)).exp();
                let sum: f64 = (0..width).map(exp).sum();
                for (c, weight) in weights.enumerate() {
                    let got = f64::from(weight) * f64::from(factor);
                    assert!((got - exp(c) / sum).abs() < 1e-4, "{scale} {r} {c}: {got}");
                }
            }
        }
    }
}

#[test]
fn rows_of_integers_stand_for_what_they_were() {
    let rows: Vec<f32> = (0..40 * 3).map(|i| (i * 37 % 97) as f32 - 50.0).collect();
    for kernel in kernels() {
        let (mut lines, mut scale) = (vec![Line::ZERO; 3], 0.0);
        quantise_lines(kernel, &rows[4..], 40, 8191.0, &mut lines, &mut scale);
        for (row, line) in rows[4..].chunks(40).zip(&lines) {
            for (x, q) in row.iter().zip(line.halves()) {
                assert!((f32::from(q.cast_signed()) * scale - x).abs() <= scale);
            }
        }
        let (mut panels, mut scales) = (vec![Line([0x55; 64]); 2 * PANEL], [0.0; 32]);
        pair_values(kernel, &rows[4..], 40, 3, 4095.0, &mut panels, &mut scales);
        for (c, scale) in scales.into_iter().enumerate() {
            let panel = halves(&panels[c / PANEL * PANEL..][..PANEL]);
            for t in 0..32 {
                let q = panel[t / 2 * 32 + c % PANEL * 2 + t % 2].cast_signed();
                let x = rows.get(4 + t * 40 + c).filter(|_| t < 3).copied().unwrap_or(0.0);
                assert!((f32::from(q) * scale - x).abs() <= scale, "{t} {c}");
            }
        }
        // Nothing at all has no scale.
        quantise_lines(kernel, &[0.0; 32], 32, 8191.0, &mut lines[..1], &mut scale);
        assert_eq!((lines[0], scale), (Line::ZERO, 0.0));
    }
}

#[test]
fn normalized_rows_have_the_given_mean_and_spread() {
    let (width, stride) = (37, 48);
    let affine =
        |gain, shift| Affine { gain: vec![gain; width], shift: vec![shift; width], epsilon: 1e-12 };
    for kernel in kernels() {
        let mut rows: Vec<f32> = (0..stride * 2).map(|i| (i * i % 23) as f32).collect();
        let residual: Vec<f32> = (0..stride * 2).map(|i| (i % 5) as f32).collect();
        let sum: Vec<f32> = rows.iter().zip(&residual).map(|(x, r)| x + r).collect();
        add_and_normalize(kernel, &mut rows, &residual, stride, &affine(2.0, 3.0));
        for (row, sum) in rows.chunks(stride).zip(sum.chunks(stride)) {
            assert_eq!(row[width..], sum[width..]);
            let row = &row[..width];
            let mean = row.iter().sum::<f32>() / width as f32;
            let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / width as f32;
            assert!((mean - 3.0).abs() < 1e-5, "mean {mean}");
            assert!((variance - 4.0).abs() < 1e-4, "variance {variance}");
            let largest = (0..width).max_by(|&a, &b| sum[a].total_cmp(&sum[b])).unwrap();
            assert!(row.iter().all(|&x| x <= row[largest]));
        }
        // A row without spread must not divide by zero.
        let mut flat = vec![7.0; stride];
        normalize(kernel, &mut flat, stride, &affine(1.0, 0.0));
        assert!(flat[..width].iter().all(|x| x.abs() < 1e-3));
    }
}

#[test]
fn quantised_rows_stand_for_what_they_were() {
    const WIDTH: usize = 77;
    let row = |scale: f32, shift: f32| {
        (0..WIDTH).map(move |i| ((i * 37 % WIDTH) as f32 / 38.0 - 1.0) * scale + shift)
    };
    let blank = (0..WIDTH).map(|_| 0.0);
    let rows: [Vec<f32>; 5] = [
        row(1.0, 0.0).collect(),
        row(1e-6, 5e-6).collect(),
        row(3e30, -1e30).collect(),
        blank.collect(),
        row(2.0, -7.0).collect(),
    ];
    let mut numbers = Vec::new();
    for row in &rows {
        numbers.extend(row);
        numbers.extend([9.9e9; 3]);
    }
    for kernel in kernels() {
        let mut lines = [Line([88; Line::BYTES]); 15];
        let mut scales = [9.0; 5];
        quantise(kernel, &numbers, 80, WIDTH, 1182.0, &mut lines, 3, &mut scales);
        for (r, row) in rows.iter().enumerate() {
            let codes = halves(&lines[3 * r..3 * r + 3]);
            for (&code, &x) in codes[..WIDTH].iter().zip(row) {
                let code = code.cast_signed();
                assert!(code.abs() <= 1182);
                let y = f32::from(code) * scales[r];
                assert!((y - x).abs() <= scales[r] * 0.501, "{x} became {y}");
            }
            assert_eq!(codes[WIDTH..], [0x5858; 96 - WIDTH]);
        }
        let mut strip = [Line([88; Line::BYTES]); 3 * STRIP];
        round_to_bf16(kernel, &numbers, 80, WIDTH, &mut strip, 3);
        for (r, row) in rows.iter().enumerate() {
            let lines = (0..3).flat_map(|i| halves(&strip[in_strip(r, i, 3)..][..1]));
            let got: Vec<u16> = lines.copied().collect();
            let want = row.iter().map(|&x| half::bf16::from_f32(x).to_bits());
            assert!(got[..WIDTH].iter().copied().eq(want));
            assert_eq!(got[WIDTH..], [0x5858; 96 - WIDTH]);
        }
    }
}

#[test]
fn sums_become_outputs_the_same_with_every_kernel() {
    let mut integers = SumsI32::default();
    let mut floats = SumsF32::default();
    for (i, sum) in integers.0.iter_mut().flatten().enumerate() {
        *sum = (i as i32 * 7919) % 60_000 - 30_000;
    }
    for (i, sum) in floats.0.iter_mut().flatten().enumerate() {
        *sum = (i * 7919 % 600) as f32 / 100.0 - 3.0;
    }
    let column_scales: Vec<f32> = (0..48).map(|c| 1e-3 + c as f32 * 1e-5).collect();
    let bias: Vec<f32> = (0..48).map(|c| c as f32 / 10.0 - 2.0).collect();
    let columns = Columns { scales: &column_scales, bias: &bias };
    let scales = [0.01, 0.02, 0.03];
    let check = |plain: &[f32], gelu: &[f32], value: &dyn Fn(usize, usize) -> f64| {
        for r in 0..3 {
            for c in 0..48 {
                let want = value(r, c) + f64::from(bias[c]);
                assert!((f64::from(plain[r * 50 + c]) - want).abs() < 1e-5, "{r} {c}");
                let want = exact_gelu(want);
                assert!((f64::from(gelu[r * 50 + c]) - want).abs() < 3e-4, "{r} {c}");
            }
            assert_eq!(plain[r * 50 + 48..][..2], [77.0; 2]);
            assert_eq!(gelu[r * 50 + 48..][..2], [77.0; 2]);
        }
    };
    for kernel in kernels() {
        let (mut plain, mut gelu) = (vec![77.0; 3 * 50], vec![77.0; 3 * 50]);
        dequantise(kernel, &integers, &scales, columns, &mut plain, 50);
        dequantise_gelu(kernel, &integers, &scales, columns, &mut gelu, 50);
        check(&plain, &gelu, &|r, c| {
            f64::from(integers.0[r][c]) * f64::from(scales[r]) * f64::from(column_scales[c])
        });
        finish(kernel, &floats, 3, &bias, &mut plain, 50);
        finish_gelu(kernel, &floats, 3, &bias, &mut gelu, 50);
        check(&plain, &gelu, &|r, c| f64::from(floats.0[r][c]));
    }
}
