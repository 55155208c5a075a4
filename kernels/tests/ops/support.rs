//! How an op is checked: its values, and its gradients.

use std::{cell::RefCell, collections::BTreeMap};

use candle_core::{DType, Device, Result, Tensor, Var};
use peftbench_kernels::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Tolerances relative to the largest value.
pub const FORWARD: f64 = 1e-5;
pub const GRADIENT: f64 = 1e-4;
pub const FINITE_DIFFERENCE: f64 = 1e-7;

pub fn random(rng: &mut ChaCha8Rng, shape: &[usize]) -> Tensor {
    let values: Vec<f64> = (0..shape.iter().product())
        .map(|_| rng.random_range(-1.5..1.5))
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

pub fn seeded(shapes: &[&[usize]]) -> Vec<Tensor> {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    shapes.iter().map(|shape| random(&mut rng, shape)).collect()
}

pub fn values(t: &Tensor) -> Vec<f64> {
    t.flatten_all()
        .unwrap()
        .to_dtype(DType::F64)
        .unwrap()
        .to_vec1()
        .unwrap()
}

/// Largest difference, relative to the largest value of `b`.
pub fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let largest = b.iter().fold(1e-9f64, |m, x| m.max(x.abs()));
    a.iter().zip(b).fold(0f64, |m, (a, b)| {
        assert!(a.is_finite(), "{a} instead of {b}");
        m.max((a - b).abs())
    }) / largest
}

/// A scalar that weighs every element of `y [M, N]` differently, made of this crate's ops.
pub fn loss(y: &Tensor) -> Result<Tensor> {
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

pub type Op<'a> = &'a dyn Fn(&[Tensor]) -> Result<Tensor>;

/// Forward and the gradients of `trained` inputs; by this crate's backward and by candle's, which must agree.
pub fn run(
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
pub fn zeros_would_be_seen() {
    SEEN.with_borrow(|seen| {
        assert!(!seen.is_empty());
        for (i, largest) in seen {
            assert!(*largest > 1e-3, "the gradients of input {i} are all zero");
        }
    });
}

/// All checks of an op; each set in `trained` is a choice of trained inputs.
pub fn check(op: Op, inputs: &[Tensor], trained: &[&[usize]]) {
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

pub fn finite_differences(op: Op, inputs: &[Tensor], trained: &[usize]) {
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

pub const ACTIVATIONS: [Activation; 5] = [
    Activation::Gelu,
    Activation::GeluTanh,
    Activation::Relu,
    Activation::Swish,
    Activation::Tanh,
];

/// Cosines and sines of arbitrary angles, a row per row.
pub fn angles(rows: usize, pairs: usize) -> [Tensor; 2] {
    let angle = seeded(&[&[rows, pairs]]).remove(0);
    [angle.cos().unwrap(), angle.sin().unwrap()]
}
