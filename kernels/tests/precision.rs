//! Frozen weights in bf16: against the product of the rounded operands in f64, at every instruction set of this machine.
#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Tensor, Var};
use peftbench_kernels::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Relative to the largest value: what the order of a sum in f32 may change.
const ORDER: f64 = 1e-5;
/// Half a unit in the last place of bf16.
const ROUNDING: f64 = 1.0 / 256.0;

fn random(seed: u64, shape: &[usize]) -> Tensor {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let values: Vec<f32> = (0..shape.iter().product())
        .map(|_| rng.random_range(-1.5..1.5))
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// Rounded to bf16, as f64.
fn rounded(x: &Tensor) -> Tensor {
    let half = x.to_dtype(DType::BF16).unwrap();
    half.to_dtype(DType::F64).unwrap()
}

fn values(t: &Tensor) -> Vec<f64> {
    let flat = t.flatten_all().unwrap().to_dtype(DType::F64).unwrap();
    flat.to_vec1().unwrap()
}

fn distance(a: &Tensor, b: &Tensor) -> f64 {
    let (a, b) = (values(a), values(b));
    assert_eq!(a.len(), b.len());
    let largest = b.iter().fold(1e-9f64, |m, x| m.max(x.abs()));
    let worst = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    worst.fold(0.0, |m, d| {
        assert!(d.is_finite());
        f64::max(m, d)
    }) / largest
}

/// Every way in which this machine can multiply bf16.
fn everywhere(mut f: impl FnMut(&str)) {
    for &level in levels() {
        for unit in bf16_units() {
            with_level(level, || {
                with_bf16_unit(unit, || f(&format!("{level:?} {unit:?}")))
            });
        }
    }
}

/// Rows, columns and inner dimension: none is a whole number of tiles, then all are.
const SHAPES: [[usize; 3]; 7] = [
    [1, 1, 1],
    [1, 33, 31],
    [5, 7, 64],
    [17, 40, 33],
    [33, 96, 100],
    [130, 70, 65],
    [64, 64, 64],
];

fn layer(n: usize, k: usize) -> Linear {
    let (weight, bias) = (random(1, &[n, k]), random(2, &[n]));
    let whole = Linear::new(weight, Some(bias)).unwrap();
    whole.in_precision(Precision::Bf16).unwrap()
}

#[test]
fn a_layer_gives_the_product_of_its_rounded_operands() {
    with_reference_path(false, || {
        for [m, n, k] in SHAPES {
            let (layer, x) = (layer(n, k), random(3, &[m, k]));
            let weight = rounded(&random(1, &[n, k])).t().unwrap();
            let bias = random(2, &[n]).to_dtype(DType::F64).unwrap();
            let product = rounded(&x).matmul(&weight).unwrap();
            let expected = product.broadcast_add(&bias).unwrap();
            let plain = with_reference_path(true, || layer.forward(&x).unwrap());
            let d = distance(&plain, &expected);
            assert!(d < ORDER, "reference, {m} x {n} x {k}: {d:e}");
            everywhere(|at| {
                let d = distance(&layer.forward(&x).unwrap(), &expected);
                assert!(d < ORDER, "{at}, {m} x {n} x {k}: {d:e}");
                let active = layer.forward_activated(&x, Activation::Gelu).unwrap();
                let d = distance(&active, &activate(&expected, Activation::Gelu).unwrap());
                assert!(d < ORDER, "{at}, {m} x {n} x {k}, activated: {d:e}");
            });
        }
    });
}

#[test]
fn the_gradient_of_the_input_is_the_product_with_the_same_rounded_weight() {
    with_reference_path(false, || {
        for [m, n, k] in SHAPES {
            let (layer, x, g) = (layer(n, k), random(3, &[m, k]), random(4, &[m, n]));
            let x = Var::from_tensor(&x).unwrap();
            let gradient = |f: Option<Activation>| {
                let y = match f {
                    None => layer.forward(&x),
                    Some(f) => layer.forward_activated(&x, f),
                };
                let loss = (y.unwrap() * &g).unwrap().sum_all().unwrap();
                let found = loss.backward().unwrap();
                found.get(&x).unwrap().clone()
            };
            let weight = rounded(&random(1, &[n, k]));
            let expected = rounded(&g).matmul(&weight).unwrap();
            let plain = with_reference_path(true, || gradient(Some(Activation::Gelu)));
            everywhere(|at| {
                let d = distance(&gradient(None), &expected);
                assert!(d < ORDER, "{at}, {m} x {n} x {k}: {d:e}");
                // The reference does not round the gradient.
                let d = distance(&gradient(Some(Activation::Gelu)), &plain);
                assert!(d < ROUNDING, "{at}, {m} x {n} x {k}, activated: {d:e}");
            });
        }
    });
}

#[test]
fn the_gradient_of_the_input_is_the_slope_of_the_layer_with_its_rounded_weight() {
    // In f64 nothing but the weight is rounded, so that the loss has a slope.
    let [m, n, k] = [3, 7, 9];
    let weight = random(1, &[n, k]).to_dtype(DType::F64).unwrap();
    let layer = Linear::new(weight, None).unwrap();
    let layer = layer.in_precision(Precision::Bf16).unwrap();
    assert_eq!(distance(layer.weight(), &rounded(&random(1, &[n, k]))), 0.0);
    let g = random(4, &[m, n]).to_dtype(DType::F64).unwrap();
    let loss = |x: &Tensor| {
        let y = layer.forward_activated(x, Activation::Gelu).unwrap();
        (y * &g).unwrap().sum_all().unwrap()
    };
    let at = values(&random(3, &[m, k]));
    let x = Var::from_vec(at.clone(), (m, k), &Device::Cpu).unwrap();
    let gradient = values(loss(&x).backward().unwrap().get(&x).unwrap());
    for (i, gradient) in gradient.iter().enumerate() {
        let shifted = |step: f64| {
            let mut at = at.clone();
            at[i] += step;
            let x = Tensor::from_vec(at, (m, k), &Device::Cpu).unwrap();
            loss(&x).to_scalar::<f64>().unwrap()
        };
        let slope = (shifted(1e-5) - shifted(-1e-5)) / 2e-5;
        assert!((slope - gradient).abs() < 1e-8, "{i}: {gradient}, {slope}");
    }
}

#[test]
fn a_row_has_the_same_bits_beside_any_rows_and_on_any_number_of_threads() {
    with_reference_path(false, || {
        let [m, n, k] = [301, 384, 160];
        let (layer, x) = (layer(n, k), random(3, &[m, k]));
        everywhere(|at| {
            let bits = |x: &Tensor| -> Vec<u32> {
                let y = layer.forward(x).unwrap().flatten_all().unwrap();
                let y = y.to_vec1::<f32>().unwrap();
                y.into_iter().map(f32::to_bits).collect()
            };
            let whole = with_threads(1, || bits(&x));
            for threads in [2, 3, 8] {
                assert!(
                    with_threads(threads, || bits(&x)) == whole,
                    "{at}, {threads} threads"
                );
            }
            for (start, rows) in [(0, 1), (7, 16), (40, 40), (300, 1)] {
                let part = bits(&x.narrow(0, start, rows).unwrap());
                assert!(
                    part == whole[start * n..(start + rows) * n],
                    "{at}, {rows} rows"
                );
            }
        });
    });
}

#[test]
fn rounding_costs_what_the_type_costs_and_what_is_trained_stays_whole() {
    let (weight, x) = (random(1, &[40, 200]), random(3, &[20, 200]));
    let whole = Linear::new(weight.clone(), None).unwrap();
    let half = whole.in_precision(Precision::Bf16).unwrap();
    assert_eq!(half.precision(), Precision::Bf16);
    let d = distance(&half.forward(&x).unwrap(), &whole.forward(&x).unwrap());
    assert!(d > 0.0 && d < 2.0 * ROUNDING, "{d:e}");

    let trained = Var::from_tensor(&weight).unwrap().as_tensor().clone();
    let trained = Linear::new(trained, None).unwrap();
    let trained = trained.in_precision(Precision::Bf16).unwrap();
    assert_eq!(trained.precision(), Precision::F32);
}

#[test]
fn what_is_not_a_number_is_not_hidden_and_values_beyond_bf16_become_infinite() {
    with_reference_path(false, || {
        let layer = layer(3, 40);
        for (value, nan) in [(f32::NAN, true), (f32::INFINITY, false), (f32::MAX, false)] {
            let mut x = vec![0.5f32; 40];
            x[17] = value;
            let x = Tensor::from_vec(x, (1, 40), &Device::Cpu).unwrap();
            everywhere(|at| {
                for y in values(&layer.forward(&x).unwrap()) {
                    assert!(if nan { y.is_nan() } else { y.is_infinite() }, "{at}: {y}");
                }
            });
        }
    });
}
