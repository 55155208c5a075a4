//! Ops over rows and over single values: activations, norms, rotary embeddings, the small ones.

use candle_core::{DType, Device, Tensor, Var};
use peftbench_kernels::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::support::*;

#[test]
fn activations_match_their_formula_and_slope() {
    for f in ACTIVATIONS {
        // (A single value far out in the tail would measure the cancellation in the reference.)
        for shape in [[1, 7], [5, 33], [7, 700]] {
            let inputs = [(seeded(&[&shape]).remove(0) * 4.0).unwrap()];
            check(&|x| activate(&x[0], f), &inputs, &[&[], &[0]]);
        }
    }
    zeros_would_be_seen();
}

#[test]
fn activations_have_the_slope_of_pytorch_at_exactly_zero() {
    for (f, slope) in ACTIVATIONS.into_iter().zip([0.5, 0.5, 0.0, 0.5, 1.0]) {
        for reference in [true, false] {
            with_reference_path(reference, || {
                let x = Var::zeros((1, 20), DType::F32, &Device::Cpu).unwrap();
                let y = activate(&x, f).unwrap();
                assert!(values(&y).iter().all(|&y| y == 0.0));
                let grads = y.sum_all().unwrap().backward().unwrap();
                assert!(
                    values(grads.get(&x).unwrap())
                        .iter()
                        .all(|&g| (g - slope).abs() < 1e-6),
                    "{f:?}"
                );
            });
        }
    }
}

#[test]
fn activation_names_are_those_of_transformers() {
    for (name, f) in [
        ("gelu", Activation::Gelu),
        ("gelu_new", Activation::GeluTanh),
        ("gelu_pytorch_tanh", Activation::GeluTanh),
        ("silu", Activation::Swish),
        ("relu", Activation::Relu),
    ] {
        let parsed: Activation =
            serde::Deserialize::deserialize(serde::de::value::StrDeserializer::<
                serde::de::value::Error,
            >::new(name))
            .unwrap();
        assert_eq!(parsed, f);
    }
}

#[test]
fn layer_norm_matches_alone_and_with_a_residual() {
    for (n, h) in [(1, 1), (1, 16), (5, 33), (200, 48), (3, 384)] {
        let inputs = seeded(&[&[n, h], &[n, h], &[h], &[h]]);
        let residual = |t: &[Tensor]| {
            LayerNorm::new(t[2].clone(), t[3].clone(), 1e-5)?.forward_residual(&t[0], &t[1])
        };
        let trained: &[&[usize]] = &[&[], &[0], &[1], &[0, 1], &[2, 3], &[0, 1, 2, 3]];
        if h == 1 {
            // One value is its own mean: the gradient of x is a difference of equal numbers.
            check(&residual, &inputs, &[&[], &[3]]);
            continue;
        }
        check(&residual, &inputs, trained);
        let alone = [inputs[0].clone(), inputs[2].clone(), inputs[3].clone()];
        let op = |t: &[Tensor]| LayerNorm::new(t[1].clone(), t[2].clone(), 1e-5)?.forward(&t[0]);
        check(&op, &alone, &[&[], &[0], &[1], &[0, 1, 2]]);
    }
    zeros_would_be_seen();
}

#[test]
fn layer_norm_of_a_constant_row_is_beta() {
    let beta = |width: usize| Tensor::full(0.25f32, width, &Device::Cpu).unwrap();
    let norm = |x: Vec<f32>, eps: f64| {
        let width = x.len();
        let gamma = Tensor::ones(width, DType::F32, &Device::Cpu).unwrap();
        let x = Tensor::from_vec(x, (1, width), &Device::Cpu).unwrap();
        let y = LayerNorm::new(gamma, beta(width), eps).unwrap().forward(&x);
        values(&y.unwrap())
    };
    for &level in levels() {
        with_level(level, || {
            // The sum and the mean of these are exact.
            assert_eq!(norm(vec![1234.5; 128], 1e-12), [0.25; 128], "{level:?}");
            // The mean of these may be off by a few ulp, of 1.2e-4 each, which 1 / √ε makes larger.
            let off = norm(vec![1234.567; 100], 1e-3);
            let most = off.iter().fold(0f64, |m, y| m.max((y - 0.25).abs()));
            assert!(most < 0.02, "{level:?}: {most}");
            // Nearly constant: of variance 1/4, which `E[x²] − μ²` would lose among squares of a million.
            let near = (0..128).map(|i| 1000.0 + if i % 2 == 0 { 0.5 } else { -0.5 });
            for (i, y) in norm(near.collect(), 1e-12).into_iter().enumerate() {
                let expected = if i % 2 == 0 { 1.25 } else { -0.75 };
                assert!((y - expected).abs() < 1e-5, "{level:?}: {y} at {i}");
            }
        });
    }
}

#[test]
fn rms_norm_matches_alone_by_runs_and_with_a_residual() {
    for (n, runs, h) in [
        (1, 1, 1),
        (1, 1, 16),
        (5, 1, 33),
        (200, 1, 48),
        (3, 1, 384),
        (7, 3, 20),
    ] {
        let inputs = seeded(&[&[n, runs * h], &[n, runs * h], &[h]]);
        let residual =
            |t: &[Tensor]| RmsNorm::new(t[2].clone(), 1e-5)?.forward_residual(&t[0], &t[1]);
        let trained: &[&[usize]] = match h {
            // One value over its own size: the gradient of x is a difference of equal numbers.
            1 => &[&[], &[2]],
            _ => &[&[], &[0], &[1], &[2], &[0, 1, 2]],
        };
        check(&residual, &inputs, trained);
        let alone = [inputs[0].clone(), inputs[2].clone()];
        let trained: &[&[usize]] = match h {
            1 => &[&[], &[1]],
            _ => &[&[], &[0], &[1], &[0, 1]],
        };
        let op = |t: &[Tensor]| RmsNorm::new(t[1].clone(), 1e-5)?.forward(&t[0]);
        check(&op, &alone, trained);
    }
    // 3 and 4: the mean of the squares is 12.5.
    let t = |v: &[f32]| Tensor::from_slice(v, v.len(), &Device::Cpu).unwrap();
    let x = t(&[3.0, 4.0]).unsqueeze(0).unwrap();
    let y = RmsNorm::new(t(&[1.0, 2.0]), 0.0).unwrap().forward(&x);
    let expected = [3.0 / 12.5f64.sqrt(), 8.0 / 12.5f64.sqrt()];
    assert!(distance(&values(&y.unwrap()), &expected) < 1e-6);
    zeros_would_be_seen();
}

#[test]
fn rotary_embeddings_match_in_both_layouts_whole_and_partial() {
    for (rows, heads, d, pairs) in [(1, 1, 2, 1), (5, 3, 8, 4), (40, 2, 10, 3), (9, 2, 64, 32)] {
        for layout in [RotaryLayout::HalfSplit, RotaryLayout::Interleaved] {
            let [cos, sin] = angles(rows, pairs);
            let inputs = [seeded(&[&[rows, heads * d]]).remove(0), cos, sin];
            let op = |t: &[Tensor]| rotary(&t[0], &t[1], &t[2], d, layout);
            check(&op, &inputs, &[&[], &[0]]);
        }
    }
    zeros_would_be_seen();
}

#[test]
fn a_right_angle_turns_the_first_of_a_pair_into_the_second() {
    let t = |v: &[f32]| Tensor::from_slice(v, (1, v.len()), &Device::Cpu).unwrap();
    let (cos, sin) = (t(&[0.0, 1.0]), t(&[1.0, 0.0]));
    let x = t(&[1.0, 2.0, 3.0, 4.0, 9.0]);
    let turned = |layout| values(&rotary(&x, &cos, &sin, 5, layout).unwrap());
    assert_eq!(turned(RotaryLayout::HalfSplit), [-3.0, 2.0, 1.0, 4.0, 9.0]);
    assert_eq!(
        turned(RotaryLayout::Interleaved),
        [-2.0, 1.0, 3.0, 4.0, 9.0]
    );
}

#[test]
fn gated_activations_match_for_both_operands_and_for_halves() {
    for f in ACTIVATIONS {
        for (n, width) in [(1, 1), (5, 33), (40, 150)] {
            let inputs = seeded(&[&[n, width], &[n, width]]);
            let op = |t: &[Tensor]| gated(&t[0], &t[1], f);
            check(&op, &inputs, &[&[], &[0], &[1], &[0, 1]]);
            let both = [Tensor::cat(&inputs, 1).unwrap()];
            check(&|t| gated_halves(&t[0], f), &both, &[&[], &[0]]);
            let apart = values(&gated(&inputs[0], &inputs[1], f).unwrap());
            assert_eq!(values(&gated_halves(&both[0], f).unwrap()), apart);
        }
    }
    zeros_would_be_seen();
}

#[test]
fn rows_are_taken_put_in_front_and_averaged() {
    let inputs = seeded(&[&[9, 21]]);
    check(&|t| embed(&t[0], &[3, 3, 0, 8, 3]), &inputs, &[&[], &[0]]);
    check(&|t| select_rows(&t[0], &[0, 2, 4]), &inputs, &[&[], &[0]]);
    let spans = Spans::from_lengths(&[4, 2, 3]).unwrap();
    for skip in 0..2 {
        check(&|t| mean_spans(&t[0], &spans, skip), &inputs, &[&[], &[0]]);
    }
    let inputs = seeded(&[&[2, 21], &[9, 21]]);
    check(
        &|t| Ok(prepend_rows(&t[0], &t[1], &spans)?.0),
        &inputs,
        &[&[], &[0], &[1], &[0, 1]],
    );
    let (_, longer) = prepend_rows(&inputs[0], &inputs[1], &spans).unwrap();
    assert_eq!(longer, Spans::from_lengths(&[6, 4, 5]).unwrap());
    zeros_would_be_seen();
}

#[test]
fn a_scale_and_a_shift_per_column_match_for_all_three_operands() {
    for (n, width) in [(1, 1), (5, 33), (300, 130)] {
        let inputs = seeded(&[&[n, width], &[1, width], &[width]]);
        let both = |t: &[Tensor]| scale_shift(&t[0], Some(&t[1]), Some(&t[2]));
        check(&both, &inputs, &[&[], &[0], &[1], &[2], &[0, 1, 2]]);
        check(
            &|t| scale_shift(&t[0], Some(&t[1]), None),
            &inputs[..2],
            &[&[0], &[0, 1]],
        );
        let shifted = [inputs[0].clone(), inputs[2].clone()];
        check(
            &|t| scale_shift(&t[0], None, Some(&t[1])),
            &shifted,
            &[&[1], &[0, 1]],
        );
    }
    let t = |n: usize| Tensor::zeros(n, DType::F32, &Device::Cpu).unwrap();
    assert!(scale_shift(&t(4), Some(&t(3)), None).is_err());
    zeros_would_be_seen();
}

#[test]
fn the_sum_of_kronecker_products_matches_for_all_three_factors() {
    for (n, u, v) in [(1, 3, 2), (2, 1, 1), (4, 8, 3)] {
        let inputs = seeded(&[&[n, n, n], &[n, u, 1], &[n, 1, v]]);
        let op = |t: &[Tensor]| kronecker_sum(&t[0], &t[1], &t[2]);
        check(&op, &inputs, &[&[], &[0], &[1], &[2], &[0, 1, 2]]);
    }
    // (A ⊗ B)ᵀ by hand: A = [[1, 2], [3, 4]] first and zero second, B = l rᵀ = [[5, 6]].
    let t = |v: &[f32], shape: &[usize]| Tensor::from_slice(v, shape, &Device::Cpu).unwrap();
    let a = t(&[1.0, 2.0, 3.0, 4.0, 0.0, 0.0, 0.0, 0.0], &[2, 2, 2]);
    let weight = kronecker_sum(
        &a,
        &t(&[1.0; 2], &[2, 1, 1]),
        &t(&[5.0, 6.0, 1.0, 1.0], &[2, 1, 2]),
    );
    let expected = [5.0, 15.0, 6.0, 18.0, 10.0, 20.0, 12.0, 24.0];
    assert_eq!(values(&weight.unwrap()), expected);
    zeros_would_be_seen();
}

#[test]
fn the_low_rank_update_matches_for_all_four_operands() {
    for (n, width, out, rank) in [
        (1, 3, 2, 1),
        (7, 20, 33, 8),
        (150, 48, 40, 3),
        (30, 20, 20, 64),
    ] {
        let inputs = seeded(&[&[n, out], &[n, width], &[rank, width], &[out, rank]]);
        let op = |t: &[Tensor]| low_rank_add(&t[0], &t[1], &t[2], &t[3], 0.7);
        check(
            &op,
            &inputs,
            &[&[], &[2, 3], &[0, 2, 3], &[1], &[0, 1, 2, 3]],
        );
    }
    zeros_would_be_seen();
}

#[test]
fn the_small_ops_match() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let keep: Vec<bool> = (0..7 * 45).map(|_| rng.random_bool(0.8)).collect();
    check(
        &|t| dropout(&t[0], keep.clone(), 0.2),
        &seeded(&[&[7, 45]]),
        &[&[], &[0]],
    );
    check(
        &|t| add(&t[0], &t[1]),
        &seeded(&[&[7, 45], &[7, 45]]),
        &[&[], &[0], &[0, 1]],
    );
    check(&|t| add(&t[0], &t[0]), &seeded(&[&[7, 45]]), &[&[0]]);
    check(
        &|t| cross_entropy(&t[0], &[0, 2, 1, 1]),
        &seeded(&[&[4, 3]]),
        &[&[], &[0]],
    );
    zeros_would_be_seen();
}
