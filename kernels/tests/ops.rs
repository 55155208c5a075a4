//! Every op against its plain reference (f32, at each instruction set of this machine) and its gradients against
//! finite differences (f64), on inputs that hurt.
#![allow(clippy::unwrap_used)]

use std::cell::RefCell;
use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor, Var};
use peftbench_kernels::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Tolerances relative to the largest value.
const FORWARD: f64 = 1e-5;
const GRADIENT: f64 = 1e-4;
const FINITE_DIFFERENCE: f64 = 1e-7;

fn random(rng: &mut ChaCha8Rng, shape: &[usize]) -> Tensor {
    let values: Vec<f64> = (0..shape.iter().product())
        .map(|_| rng.random_range(-1.5..1.5))
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn seeded(shapes: &[&[usize]]) -> Vec<Tensor> {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    shapes.iter().map(|shape| random(&mut rng, shape)).collect()
}

fn values(t: &Tensor) -> Vec<f64> {
    t.flatten_all()
        .unwrap()
        .to_dtype(DType::F64)
        .unwrap()
        .to_vec1()
        .unwrap()
}

/// Largest difference, relative to the largest value of `b`.
fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let largest = b.iter().fold(1e-9f64, |m, x| m.max(x.abs()));
    a.iter().zip(b).fold(0f64, |m, (a, b)| {
        assert!(a.is_finite(), "{a} instead of {b}");
        m.max((a - b).abs())
    }) / largest
}

/// A scalar that weighs every element of `y [M, N]` differently, made of this crate's ops.
fn loss(y: &Tensor) -> Result<Tensor> {
    if y.rank() == 0 {
        return Ok(y.clone());
    }
    let (m, n) = y.dims2()?;
    let mut rng = ChaCha8Rng::seed_from_u64(99);
    let keep = (0..m * n).map(|_| rng.random_bool(0.7)).collect();
    let weights = random(&mut rng, &[1, n]).to_dtype(y.dtype())?;
    let rows = Linear::new(weights, None)?.forward(&dropout(y, keep, 0.3)?)?;
    mean_spans(&rows, &Spans::from_lengths(&[m])?, 0)
}

type Op<'a> = &'a dyn Fn(&[Tensor]) -> Result<Tensor>;

/// Forward and the gradients of `trained` inputs; by this crate's backward and by candle's, which must agree.
fn run(
    op: Op,
    inputs: &[Tensor],
    trained: &[usize],
    dtype: DType,
    fast: bool,
) -> (Vec<f64>, Vec<Vec<f64>>) {
    let cast = |(i, t): (usize, &Tensor)| {
        let t = t.to_dtype(dtype).unwrap();
        if trained.contains(&i) {
            Var::from_tensor(&t).unwrap().as_tensor().clone()
        } else {
            t
        }
    };
    let inputs: Vec<Tensor> = inputs.iter().enumerate().map(cast).collect();
    let y = op(&inputs).unwrap();
    if trained.is_empty() {
        assert!(!y.track_op());
        return (values(&y), vec![]);
    }
    let loss = loss(&y).unwrap();
    assert_eq!(is_recorded(&loss), fast);
    let own = backward(&loss).unwrap();
    let candle = loss.backward().unwrap();
    let gradients: Vec<Vec<f64>> = trained
        .iter()
        .map(|&i| values(own.get(&inputs[i]).unwrap()))
        .collect();
    for (i, own) in trained.iter().zip(&gradients) {
        let d = distance(own, &values(candle.get(&inputs[*i]).unwrap()));
        // The same contributions, added up in another order.
        let order = if dtype == DType::F64 { 1e-14 } else { 2e-6 };
        assert!(
            d < order,
            "input {i}: candle's walk gives a gradient {d:e} away"
        );
    }
    if fast {
        let expected = trained.len();
        assert_eq!(
            own.get_ids().count(),
            expected,
            "a gradient of something frozen"
        );
        assert_eq!(
            candle.get_ids().count(),
            expected,
            "a gradient of something frozen in candle's walk"
        );
    }
    (values(&y), gradients)
}

thread_local! {
    /// The largest value of the gradients that a test has compared, by input.
    static SEEN: RefCell<BTreeMap<usize, f64>> = const { RefCell::new(BTreeMap::new()) };
}

/// Whoever replaces a gradient by zeros turns the test red: it has compared another one for every input.
fn zeros_would_be_seen() {
    SEEN.with_borrow(|seen| {
        assert!(!seen.is_empty());
        for (i, largest) in seen {
            assert!(*largest > 1e-3, "the gradients of input {i} are all zero");
        }
    });
}

/// All checks of an op; each set in `trained` is a choice of trained inputs.
fn check(op: Op, inputs: &[Tensor], trained: &[&[usize]]) {
    for trained in trained {
        let (y, gradients) =
            with_reference_path(true, || run(op, inputs, trained, DType::F32, false));
        for (i, gradient) in trained.iter().zip(&gradients) {
            let largest = gradient.iter().fold(0f64, |most, x| most.max(x.abs()));
            SEEN.with_borrow_mut(|seen| {
                let so_far = seen.entry(*i).or_default();
                *so_far = so_far.max(largest);
            });
        }
        for &level in levels() {
            let (fast_y, fast_gradients) = with_reference_path(false, || {
                with_level(level, || run(op, inputs, trained, DType::F32, true))
            });
            let d = distance(&fast_y, &y);
            assert!(d < FORWARD, "{level:?}: forward off by {d:e}");
            for (i, (fast, plain)) in trained.iter().zip(fast_gradients.iter().zip(&gradients)) {
                let d = distance(fast, plain);
                assert!(
                    d < GRADIENT,
                    "{level:?}: gradient of input {i} off by {d:e}"
                );
            }
        }
        finite_differences(op, inputs, trained);
    }
}

fn finite_differences(op: Op, inputs: &[Tensor], trained: &[usize]) {
    let (_, gradients) = with_reference_path(false, || run(op, inputs, trained, DType::F64, true));
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for (&i, gradient) in trained.iter().zip(&gradients) {
        let at = |index: usize, step: f64| {
            let mut shifted = values(&inputs[i]);
            shifted[index] += step;
            let mut inputs = inputs.to_vec();
            inputs[i] = Tensor::from_vec(shifted, inputs[i].shape(), &Device::Cpu).unwrap();
            with_reference_path(false, || values(&loss(&op(&inputs).unwrap()).unwrap())[0])
        };
        let largest = gradient.iter().fold(1e-9f64, |m, g| m.max(g.abs()));
        for _ in 0..gradient.len().min(40) {
            let index = rng.random_range(0..gradient.len());
            let h = 1e-4;
            // Fourth order, so that the step's own error is far below the tolerance.
            let slope = (8.0 * (at(index, h) - at(index, -h))
                - (at(index, 2.0 * h) - at(index, -2.0 * h)))
                / (12.0 * h);
            let d = (slope - gradient[index]).abs() / largest;
            assert!(
                d < FINITE_DIFFERENCE,
                "input {i}[{index}]: {} but the slope is {slope}",
                gradient[index]
            );
        }
    }
}

const ACTIVATIONS: [Activation; 5] = [
    Activation::Gelu,
    Activation::GeluTanh,
    Activation::Relu,
    Activation::Swish,
    Activation::Tanh,
];

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

/// Rows, outputs, inputs: tiles of every height, odd sizes, more than one block, an inner dimension whose panels are
/// copied, one of everything.
const LINEAR_SHAPES: [(usize, usize, usize); 8] = [
    (1, 1, 1),
    (1, 33, 17),
    (3, 2, 40),
    (13, 31, 5),
    (15, 64, 64),
    (67, 49, 600),
    (230, 40, 33),
    (90, 600, 50),
];

#[test]
fn linear_layers_train_what_is_a_var_and_nothing_else() {
    for (m, n, k) in LINEAR_SHAPES {
        let inputs = seeded(&[&[m, k], &[n, k], &[n]]);
        let op = |t: &[Tensor]| Linear::new(t[1].clone(), Some(t[2].clone()))?.forward(&t[0]);
        check(&op, &inputs, &[&[], &[0], &[1], &[2], &[0, 1, 2]]);
        check(
            &|t| Linear::new(t[1].clone(), None)?.forward(&t[0]),
            &inputs[..2],
            &[&[0], &[0, 1]],
        );
    }
    zeros_would_be_seen();
}

#[test]
fn linear_layers_with_an_activation_are_the_two_in_a_row() {
    for f in ACTIVATIONS {
        for (m, n, k) in LINEAR_SHAPES {
            let mut inputs = seeded(&[&[m, k], &[n, k], &[n]]);
            // Sums of order 1: the rounding of larger ones would show where the activation does not grow with them.
            inputs[1] = (&inputs[1] / (k as f64).sqrt()).unwrap();
            let op = |t: &[Tensor]| {
                Linear::new(t[1].clone(), Some(t[2].clone()))?.forward_activated(&t[0], f)
            };
            check(&op, &inputs, &[&[], &[0], &[0, 1, 2]]);
        }
    }
    zeros_would_be_seen();
}

#[test]
fn a_row_does_not_depend_on_the_rows_around_it() {
    let inputs: Vec<Tensor> = seeded(&[&[301, 96], &[130, 96], &[130]])
        .iter()
        .map(|t| t.to_dtype(DType::F32).unwrap())
        .collect();
    let layer = Linear::new(inputs[1].clone(), Some(inputs[2].clone())).unwrap();
    for &level in levels() {
        with_level(level, || {
            let all = layer
                .forward_activated(&inputs[0], Activation::Gelu)
                .unwrap()
                .to_vec2::<f32>()
                .unwrap();
            for row in [0, 1, 150, 299, 300] {
                let one = inputs[0].narrow(0, row, 1).unwrap();
                let one = layer
                    .forward_activated(&one, Activation::Gelu)
                    .unwrap()
                    .to_vec2::<f32>()
                    .unwrap();
                assert_eq!(one[0], all[row], "{level:?} row {row}");
            }
        });
    }
}

#[test]
fn a_trained_weight_is_read_anew_by_every_forward() {
    let weight = Var::zeros((3, 4), DType::F32, &Device::Cpu).unwrap();
    let layer = Linear::new(weight.as_tensor().clone(), None).unwrap();
    let x = Tensor::ones((2, 4), DType::F32, &Device::Cpu).unwrap();
    assert_eq!(values(&layer.forward(&x).unwrap()), [0.0; 6]);
    weight
        .set(&Tensor::ones((3, 4), DType::F32, &Device::Cpu).unwrap())
        .unwrap();
    assert_eq!(values(&layer.forward(&x).unwrap()), [4.0; 6]);
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

/// Cosines and sines of arbitrary angles, a row per row.
fn angles(rows: usize, pairs: usize) -> [Tensor; 2] {
    let angle = seeded(&[&[rows, pairs]]).remove(0);
    [angle.cos().unwrap(), angle.sin().unwrap()]
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
fn attention_matches_on_spans_of_all_lengths() {
    let cases: [(&[usize], &[usize], usize, usize); 6] = [
        (&[1], &[1], 1, 4),
        (&[5, 1, 17], &[5, 1, 17], 3, 8),
        (&[1, 1, 1], &[4, 33, 1], 2, 32),
        (&[3, 130], &[3, 130], 2, 7),
        (&[1, 100, 2], &[1, 100, 2], 1, 16),
        (&[2, 3], &[22, 23], 2, 5),
    ];
    for (queries, keys, heads, d) in cases {
        let (query_spans, key_spans) = (
            Spans::from_lengths(queries).unwrap(),
            Spans::from_lengths(keys).unwrap(),
        );
        let (m, n, h) = (query_spans.rows(), key_spans.rows(), heads * d);
        let inputs = seeded(&[&[m, h], &[n, h], &[n, h]]);
        let op = |t: &[Tensor]| attention(&t[0], &t[1], &t[2], &query_spans, &key_spans, heads);
        check(&op, &inputs, &[&[], &[0], &[1], &[2], &[0, 1, 2]]);
    }
    zeros_would_be_seen();
}

/// All kinds of hiding, with 6 heads over some heads of keys.
fn hidings(key_value_heads: usize) -> Vec<Attention> {
    let kinds = [
        (false, None),
        (true, None),
        (true, Some(1)),
        (true, Some(20)),
        (false, Some(1)),
        (false, Some(7)),
        (false, Some(64)),
    ];
    let attention = |(causal, window)| Attention {
        heads: 6,
        key_value_heads,
        causal,
        window,
    };
    kinds.into_iter().map(attention).collect()
}

#[test]
fn attention_that_hides_and_shares_keys_matches() {
    // Longer than a block of queries; the second with queries at the end of their keys.
    let cases: [(&[usize], &[usize], usize); 3] = [
        (&[5, 1, 70], &[5, 1, 70], 4),
        (&[1, 3, 60], &[1, 40, 75], 5),
        (&[2], &[2], 16),
    ];
    for (queries, keys, d) in cases {
        let (query_spans, key_spans) = (
            Spans::from_lengths(queries).unwrap(),
            Spans::from_lengths(keys).unwrap(),
        );
        for key_value_heads in [2, 6] {
            let (m, n) = (query_spans.rows(), key_spans.rows());
            let (h, kv) = (6 * d, key_value_heads * d);
            let inputs = seeded(&[&[m, h], &[n, kv], &[n, kv]]);
            for attention in hidings(key_value_heads) {
                let op =
                    |t: &[Tensor]| attention.forward(&t[0], &t[1], &t[2], &query_spans, &key_spans);
                check(&op, &inputs, &[&[], &[1], &[0, 1, 2]]);
            }
        }
    }
    zeros_would_be_seen();
}

/// Equal scores: the result is the mean of the values that are seen.
#[test]
fn a_query_sees_the_keys_that_its_kind_of_attention_shows() {
    let n = 9;
    let spans = Spans::from_lengths(&[n]).unwrap();
    let q = Tensor::zeros((n, 1), DType::F32, &Device::Cpu).unwrap();
    let v = Tensor::arange(0f32, n as f32, &Device::Cpu).unwrap();
    let v = v.reshape((n, 1)).unwrap();
    let means = |causal, window| {
        let attention = Attention {
            causal,
            window,
            ..Attention::full(1)
        };
        values(&attention.forward(&q, &q, &v, &spans, &spans).unwrap())
    };
    let expected = |seen: &dyn Fn(usize) -> std::ops::RangeInclusive<usize>| -> Vec<f64> {
        let mean = |i| (seen(i).start() + seen(i).end()) as f64 / 2.0;
        (0..n).map(mean).collect()
    };
    let close = |a: Vec<f64>, b: Vec<f64>| assert!(distance(&a, &b) < 1e-6, "{a:?} {b:?}");
    close(means(false, None), expected(&|_| 0..=8));
    close(means(true, None), expected(&|i| 0..=i));
    close(means(true, Some(3)), expected(&|i| i.saturating_sub(2)..=i));
    for window in [4, 5] {
        close(
            means(false, Some(window)),
            expected(&|i| i.saturating_sub(2)..=(i + 2).min(8)),
        );
    }
    close(means(false, Some(usize::MAX)), expected(&|_| 0..=8));
}

#[test]
fn one_query_after_a_cache_of_keys_gives_the_last_row_of_the_whole_pass() {
    let (n, d) = (140, 8);
    let inputs: Vec<Tensor> = seeded(&[&[n, 6 * d], &[n, 2 * d], &[n, 2 * d]])
        .iter()
        .map(|t| t.to_dtype(DType::F32).unwrap())
        .collect();
    let (spans, one) = (
        Spans::from_lengths(&[n]).unwrap(),
        Spans::from_lengths(&[1]).unwrap(),
    );
    let last = inputs[0].narrow(0, n - 1, 1).unwrap();
    for attention in hidings(2) {
        let whole = attention.forward(&inputs[0], &inputs[1], &inputs[2], &spans, &spans);
        let whole = values(&whole.unwrap().narrow(0, n - 1, 1).unwrap());
        let step = attention.forward(&last, &inputs[1], &inputs[2], &one, &spans);
        assert!(distance(&values(&step.unwrap()), &whole) < 1e-6);
    }
}

#[test]
fn attention_of_one_tensor_with_itself_adds_the_three_gradients() {
    let spans = Spans::from_lengths(&[4, 2]).unwrap();
    check(
        &|t| attention(&t[0], &t[0], &t[0], &spans, &spans, 2),
        &seeded(&[&[6, 8]]),
        &[&[0]],
    );
    zeros_would_be_seen();
}

#[test]
fn attention_survives_scores_beyond_the_range_of_exp() {
    let spans = Spans::from_lengths(&[18]).unwrap();
    let q = (seeded(&[&[18, 8]]).remove(0).to_dtype(DType::F32).unwrap() * 300.0).unwrap();
    for &level in levels() {
        with_level(level, || {
            for shift in [-1.0, 1.0] {
                let k = (&q * shift).unwrap();
                let fast = values(&attention(&q, &k, &q, &spans, &spans, 1).unwrap());
                let plain = with_reference_path(true, || {
                    values(&attention(&q, &k, &q, &spans, &spans, 1).unwrap())
                });
                assert!(distance(&fast, &plain) < FORWARD);
            }
        });
    }
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

/// Uniform logits: log C. One far ahead: the difference of the two, without overflow.
#[test]
fn cross_entropy_has_its_closed_form() {
    let even = Tensor::zeros((2, 5), DType::F32, &Device::Cpu).unwrap();
    assert!((values(&cross_entropy(&even, &[0, 4]).unwrap())[0] - 5f64.ln()).abs() < 1e-6);
    let far = Tensor::new(&[[1000f32, 0.0]], &Device::Cpu).unwrap();
    assert_eq!(values(&cross_entropy(&far, &[1]).unwrap()), [1000.0]);
    assert_eq!(values(&cross_entropy(&far, &[0]).unwrap()), [0.0]);
}

#[test]
fn the_cross_entropy_over_a_vocabulary_matches() {
    for (rows, words, h) in [
        (1, 1, 1),
        (3, 5, 7),
        (70, 1300, 33),
        (64, 512, 48),
        (150, 40, 16),
    ] {
        let inputs = seeded(&[&[rows, h], &[words, h]]);
        let labels: Vec<u32> = (0..rows as u32).map(|i| i * 131 % words as u32).collect();
        let op = |t: &[Tensor]| vocabulary_cross_entropy(&t[0], &t[1], &labels);
        // (With one word there is nothing to learn: all gradients are zero.)
        let trained: &[&[usize]] = if words == 1 {
            &[&[]]
        } else {
            &[&[], &[0], &[1], &[0, 1]]
        };
        check(&op, &inputs, trained);
    }
    zeros_would_be_seen();
}

/// Logits of ±1000: the loss is the difference to the largest, without overflow.
#[test]
fn the_cross_entropy_over_a_vocabulary_survives_large_logits() {
    let words = 2000;
    let mut table = vec![0f32; words];
    (table[3], table[1999]) = (1000.0, -1000.0);
    let table = Tensor::from_vec(table, (words, 1), &Device::Cpu).unwrap();
    let hidden = Var::ones((2, 1), DType::F32, &Device::Cpu).unwrap();
    for (label, loss) in [(3, 0.0), (7, 1000.0), (1999, 2000.0)] {
        let found = vocabulary_cross_entropy(&hidden, &table, &[label; 2]).unwrap();
        assert_eq!(values(&found), [loss]);
        // Per row (1000 − t_label) / 2.
        let grads = backward(&found).unwrap();
        assert_eq!(values(grads.get(&hidden).unwrap()), [loss / 2.0; 2]);
    }
}

/// A chain as in a transformer layer with LoRA: gradients of one tensor come from several ops, some in place.
#[test]
fn a_layer_of_ops_has_the_gradients_of_the_reference() {
    let spans = Spans::from_lengths(&[3, 9, 1, 30]).unwrap();
    let h = 24;
    let shapes: [&[usize]; 9] = [
        &[43, h],
        &[h, h],
        &[h, h],
        &[h, h],
        &[48, h],
        &[h, 48],
        &[2, h],
        &[h, 2],
        &[h],
    ];
    let inputs: Vec<Tensor> = seeded(&shapes).iter().map(|t| (t * 0.5).unwrap()).collect();
    let op = |t: &[Tensor]| {
        let linear = |i: usize, x: &Tensor| Linear::new(t[i].clone(), None)?.forward(x);
        let norm = LayerNorm::new(t[8].clone(), t[8].clone(), 1e-5)?;
        let x = &t[0];
        let q = low_rank_add(&linear(1, x)?, x, &t[6], &t[7], 2.0)?;
        let v = low_rank_add(&linear(3, x)?, x, &t[6], &t[7], 2.0)?;
        let o = attention(&q, &linear(2, x)?, &v, &spans, &spans, 3)?;
        let x = norm.forward_residual(&linear(1, &o)?, x)?;
        let u = Linear::new(t[4].clone(), None)?.forward_activated(&x, Activation::Gelu)?;
        norm.forward_residual(&linear(5, &u)?, &x)
    };
    check(
        &op,
        &inputs,
        &[&[6, 7], &[0, 6, 7], &[0, 1, 2, 3, 4, 5, 6, 7, 8]],
    );
    zeros_would_be_seen();
}

#[test]
fn an_op_of_candle_in_between_falls_back_to_its_backward() {
    let x = Var::ones((2, 3), DType::F32, &Device::Cpu).unwrap();
    let loss = activate(&x, Activation::Tanh)
        .unwrap()
        .sqr()
        .unwrap()
        .sum_all()
        .unwrap();
    assert!(!is_recorded(&loss));
    let grads = backward(&loss).unwrap();
    let t = 1f64.tanh();
    assert!(
        values(grads.get(&x).unwrap())
            .iter()
            .all(|g| (g - 2.0 * t * (1.0 - t * t)).abs() < 1e-6)
    );
}

#[test]
fn wrong_shapes_are_refused_in_words() {
    let t = |shape: (usize, usize)| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    let spans = Spans::from_lengths(&[2, 2]).unwrap();
    let linear = Linear::new(t((3, 4)), None).unwrap();
    let norm = LayerNorm::new(
        t((1, 4)).flatten_all().unwrap(),
        t((1, 4)).flatten_all().unwrap(),
        1e-5,
    )
    .unwrap();
    let rms = RmsNorm::new(t((1, 4)).flatten_all().unwrap(), 1e-5).unwrap();
    let split = RotaryLayout::HalfSplit;
    let trained = Var::zeros((2, 1), DType::F32, &Device::Cpu).unwrap();
    // Four heads of two values, spans of two keys.
    let hidden = |heads, key_value_heads, window, queries: usize| {
        let attention = Attention {
            heads,
            key_value_heads,
            causal: true,
            window,
        };
        let query_spans = Spans::from_lengths(&[queries / 2; 2]).unwrap();
        let k = t((4, 2 * key_value_heads));
        attention.forward(&t((queries, 8)), &k, &k, &query_spans, &spans)
    };
    let refusals = [
        linear.forward(&t((2, 5))).err(),
        norm.forward(&t((2, 5))).err(),
        norm.forward_residual(&t((2, 4)), &t((3, 4))).err(),
        attention(&t((4, 6)), &t((4, 6)), &t((4, 6)), &spans, &spans, 4).err(),
        attention(&t((5, 6)), &t((4, 6)), &t((4, 6)), &spans, &spans, 2).err(),
        embed(&t((3, 2)), &[3]).err(),
        mean_spans(&t((4, 2)), &spans, 2).err(),
        prepend_rows(&t((1, 3)), &t((4, 2)), &spans).err(),
        low_rank_add(&t((2, 3)), &t((2, 4)), &t((1, 3)), &t((3, 1)), 1.0).err(),
        dropout(&t((2, 2)), vec![true; 3], 0.1).err(),
        dropout(&t((2, 2)), vec![true; 4], 1.0).err(),
        cross_entropy(&t((2, 2)), &[0, 2]).err(),
        add(&t((2, 2)), &t((2, 3))).err(),
        rms.forward(&t((2, 5))).err(),
        rms.forward_residual(&t((2, 4)), &t((3, 4))).err(),
        rotary(&t((2, 6)), &t((2, 1)), &t((2, 1)), 4, split).err(),
        rotary(&t((2, 6)), &t((3, 1)), &t((3, 1)), 3, split).err(),
        rotary(&t((2, 6)), &t((2, 2)), &t((2, 2)), 3, split).err(),
        rotary(&t((2, 6)), &trained, &trained, 3, split).err(),
        gated(&t((2, 2)), &t((2, 3)), Activation::Swish).err(),
        gated_halves(&t((2, 3)), Activation::Swish).err(),
        vocabulary_cross_entropy(&t((2, 3)), &t((5, 4)), &[0, 0]).err(),
        vocabulary_cross_entropy(&t((2, 3)), &t((5, 3)), &[0]).err(),
        vocabulary_cross_entropy(&t((2, 3)), &t((5, 3)), &[0, 5]).err(),
        hidden(4, 3, None, 4).err(),
        hidden(4, 2, Some(0), 4).err(),
        hidden(4, 2, None, 6).err(),
    ];
    for (i, refusal) in refusals.iter().enumerate() {
        let text = refusal
            .as_ref()
            .unwrap_or_else(|| panic!("case {i} was accepted"))
            .to_string();
        assert!(text.contains(':'), "case {i}: {text}");
    }
}

/// Starts of methods are exact zeros (LoRA's B, an adapter's biases), and so are masked values.
#[test]
fn exact_zeros_are_inputs_like_any_other() {
    let zero = |t: &Tensor| t.zeros_like().unwrap();
    let t = seeded(&[&[7, 6], &[7, 5], &[3, 5], &[6, 3], &[6, 5], &[6]]);
    let low_rank = |t: &[Tensor]| low_rank_add(&t[0], &t[1], &t[2], &t[3], 0.7);
    let all: &[&[usize]] = &[&[], &[2, 3], &[0, 1, 2, 3]];
    let at_start = [t[0].clone(), t[1].clone(), t[2].clone(), zero(&t[3])];
    check(&low_rank, &at_start, all);
    check(
        &low_rank,
        &[zero(&t[0]), zero(&t[1]), zero(&t[2]), zero(&t[3])],
        all,
    );
    let linear = |t: &[Tensor]| Linear::new(t[1].clone(), Some(t[2].clone()))?.forward(&t[0]);
    check(
        &linear,
        &[zero(&t[1]), t[4].clone(), zero(&t[5])],
        &[&[0], &[0, 1, 2]],
    );
    // (ReLU has no slope at zero; which one it takes is another test's matter.)
    for f in [
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::Swish,
        Activation::Tanh,
    ] {
        check(&|t| activate(&t[0], f), &[zero(&t[0])], &[&[0]]);
    }
    // A row of equal values: its variance is zero, and only epsilon keeps the norm finite.
    let norm = |t: &[Tensor]| LayerNorm::new(t[1].clone(), t[2].clone(), 1.0)?.forward(&t[0]);
    let inputs = [zero(&t[0]), t[5].clone(), t[5].clone()];
    check(&norm, &inputs, &[&[0], &[0, 1, 2]]);
    let spans = Spans::from_lengths(&[1, 6]).unwrap();
    let attend = |t: &[Tensor]| attention(&t[0], &t[1], &t[2], &spans, &spans, 2);
    for inputs in [
        [zero(&t[0]), zero(&t[0]), t[0].clone()],
        [t[0].clone(), zero(&t[0]), zero(&t[0])],
    ] {
        check(&attend, &inputs, &[&[2], &[0, 1, 2]]);
    }
    let labels = [0, 5, 1, 1, 2, 3, 4];
    check(&|t| cross_entropy(&t[0], &labels), &[zero(&t[0])], &[&[0]]);
    check(
        &|t| add(&t[0], &t[1]),
        &[zero(&t[0]), t[0].clone()],
        &[&[0, 1]],
    );
    check(&|t| mean_spans(&t[0], &spans, 0), &[zero(&t[0])], &[&[0]]);
}

type OwnedOp = Box<dyn Fn(&[Tensor]) -> Result<Tensor>>;

/// An op with inputs that are large enough to be shared among threads.
struct Case {
    name: &'static str,
    op: OwnedOp,
    inputs: Vec<Tensor>,
}

/// Every op, on `rows` rows.
fn cases(rows: usize) -> Vec<Case> {
    let case = |name, shapes: &[&[usize]], op: OwnedOp| Case {
        name,
        op,
        inputs: seeded(shapes),
    };
    // Values enough for several tasks of any op.
    let w = (150_000 / rows).next_multiple_of(24);
    let half = Spans::from_lengths(&[rows / 2, rows - rows / 2]).unwrap();
    let (all, halves, longer) = (Spans::from_lengths(&[rows]).unwrap(), half.clone(), half);
    let keep: Vec<bool> = (0..rows * w).map(|i| i % 3 != 0).collect();
    let some: Vec<u32> = (0..rows as u32).map(|i| i * 7 % rows as u32).collect();
    let labels = some.clone();
    let words: Vec<u32> = (0..rows as u32).map(|i| i * 131 % 1300).collect();
    let angles = angles(rows, w / 12);
    let (causal, local) = (all.clone(), all.clone());
    let grouped = Attention {
        heads: 6,
        key_value_heads: 2,
        causal: true,
        window: None,
    };
    let windowed = Attention {
        window: Some(20),
        ..Attention::full(3)
    };
    vec![
        case(
            "activate",
            &[&[rows, w]],
            Box::new(|t| activate(&t[0], Activation::Gelu)),
        ),
        case(
            "add",
            &[&[rows, w], &[rows, w]],
            Box::new(|t| add(&t[0], &t[1])),
        ),
        case(
            "attention",
            &[&[rows, w], &[rows, w], &[rows, w]],
            Box::new(move |t| attention(&t[0], &t[1], &t[2], &halves, &halves, 3)),
        ),
        case(
            "causal attention over shared keys",
            &[&[rows, w], &[rows, w / 3], &[rows, w / 3]],
            Box::new(move |t| grouped.forward(&t[0], &t[1], &t[2], &causal, &causal)),
        ),
        case(
            "attention in a window",
            &[&[rows, w], &[rows, w], &[rows, w]],
            Box::new(move |t| windowed.forward(&t[0], &t[1], &t[2], &local, &local)),
        ),
        case(
            "cross-entropy over a vocabulary",
            &[&[rows, 40], &[1300, 40]],
            Box::new(move |t| vocabulary_cross_entropy(&t[0], &t[1], &words)),
        ),
        case(
            "gated activation",
            &[&[rows, w], &[rows, w]],
            Box::new(|t| gated(&t[0], &t[1], Activation::Swish)),
        ),
        case(
            "gated activation of halves",
            &[&[rows, w]],
            Box::new(|t| gated_halves(&t[0], Activation::Gelu)),
        ),
        case(
            "rms norm",
            &[&[rows, w], &[w]],
            Box::new(|t| RmsNorm::new(t[1].clone(), 1e-5)?.forward(&t[0])),
        ),
        case(
            "rms norm of a sum, by heads",
            &[&[rows, w], &[rows, w], &[w / 3]],
            Box::new(|t| RmsNorm::new(t[2].clone(), 1e-5)?.forward_residual(&t[0], &t[1])),
        ),
        case(
            "rotary",
            &[&[rows, w]],
            Box::new(move |t| {
                let [cos, sin] = [&angles[0], &angles[1]].map(|a| a.to_dtype(t[0].dtype()));
                rotary(&t[0], &cos?, &sin?, w / 3, RotaryLayout::HalfSplit)
            }),
        ),
        case(
            "cross-entropy",
            &[&[rows, w]],
            Box::new(move |t| cross_entropy(&t[0], &labels)),
        ),
        case(
            "dropout",
            &[&[rows, w]],
            Box::new(move |t| dropout(&t[0], keep.clone(), 0.3)),
        ),
        case(
            "kronecker-sum",
            &[&[4, 4, 4], &[4, rows, 1], &[4, 1, 50]],
            Box::new(|t| kronecker_sum(&t[0], &t[1], &t[2])),
        ),
        case(
            "layer-norm",
            &[&[rows, w], &[w], &[w]],
            Box::new(|t| LayerNorm::new(t[1].clone(), t[2].clone(), 1e-5)?.forward(&t[0])),
        ),
        case(
            "layer-norm of a sum",
            &[&[rows, w], &[rows, w], &[w], &[w]],
            Box::new(|t| {
                LayerNorm::new(t[2].clone(), t[3].clone(), 1e-5)?.forward_residual(&t[0], &t[1])
            }),
        ),
        case(
            "linear",
            &[&[rows, w], &[70, w], &[70]],
            Box::new(|t| Linear::new(t[1].clone(), Some(t[2].clone()))?.forward(&t[0])),
        ),
        case(
            "linear with an activation",
            &[&[rows, w], &[70, w], &[70]],
            Box::new(|t| {
                let layer = Linear::new(t[1].clone(), Some(t[2].clone()))?;
                layer.forward_activated(&t[0], Activation::Gelu)
            }),
        ),
        case(
            "low-rank update",
            &[&[rows, 90], &[rows, w], &[8, w], &[90, 8]],
            Box::new(|t| low_rank_add(&t[0], &t[1], &t[2], &t[3], 2.0)),
        ),
        case(
            "mean of spans",
            &[&[rows, w]],
            Box::new(move |t| mean_spans(&t[0], &longer, 0)),
        ),
        case(
            "rows put in front",
            &[&[2, w], &[rows, w]],
            Box::new(move |t| Ok(prepend_rows(&t[0], &t[1], &all)?.0)),
        ),
        case(
            "scale and shift",
            &[&[rows, w], &[w], &[w]],
            Box::new(|t| scale_shift(&t[0], Some(&t[1]), Some(&t[2]))),
        ),
        case(
            "selected rows",
            &[&[rows, w]],
            Box::new(move |t| select_rows(&t[0], &some)),
        ),
    ]
}

/// The bits of the result and of every gradient.
fn bits(case: &Case, threads: usize) -> Vec<Vec<u32>> {
    let variables: Vec<Var> = case
        .inputs
        .iter()
        .map(|t| Var::from_tensor(&t.to_dtype(DType::F32).unwrap()).unwrap())
        .collect();
    let inputs: Vec<Tensor> = variables.iter().map(|v| v.as_tensor().clone()).collect();
    let (y, grads) = with_threads(threads, || {
        let y = (case.op)(&inputs).unwrap();
        let grads = backward(&loss(&y).unwrap()).unwrap();
        (y, grads)
    });
    let bits = |t: &Tensor| -> Vec<u32> {
        let values: Vec<f32> = t.flatten_all().unwrap().to_vec1().unwrap();
        assert!(values.iter().all(|x| x.is_finite()));
        values.into_iter().map(f32::to_bits).collect()
    };
    std::iter::once(bits(&y))
        .chain(variables.iter().map(|v| bits(grads.get(v).unwrap())))
        .collect()
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    with_reference_path(false, || {
        for rows in [3, 150] {
            for case in cases(rows) {
                for &level in levels() {
                    with_level(level, || {
                        let alone = bits(&case, 1);
                        // Five are more than the three rows.
                        for threads in [2, 5] {
                            assert!(
                                alone == bits(&case, threads),
                                "{} of {rows} rows, {level:?}: {threads} threads give other bits",
                                case.name
                            );
                        }
                    });
                }
            }
        }
    });
}

#[test]
fn any_number_of_threads_sums_squares_and_steps_to_the_same_bits() {
    let grad = seeded(&[&[60_000]]).remove(0).to_dtype(DType::F32).unwrap();
    let step = AdamWStep {
        lr: 0.01,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.1,
        step: 1,
        grad_scale: 1.0,
    };
    let run = |threads| {
        with_threads(threads, || {
            let param = Var::from_tensor(&(&grad * 3.0).unwrap()).unwrap();
            let mut moments = Moments::zeros(60_000);
            adamw_step(&param, &grad, &mut moments, &step).unwrap();
            let norm = sum_of_squares(&grad).unwrap().to_bits();
            (values(&param), moments, norm)
        })
    };
    assert_eq!(run(1), run(2));
    assert_eq!(run(1), run(5));
}
