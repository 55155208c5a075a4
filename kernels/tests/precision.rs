//! Frozen weights in fewer bits, at every instruction set of this machine: bf16 against the product of the rounded operands in
//! f64, eight and four bits against the product with the values that they stand for.
#![allow(clippy::unwrap_used)]

use candle_core::quantized::{GgmlDType, QTensor};
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
    assert_eq!(
        distance(&layer.weight(), &rounded(&random(1, &[n, k]))),
        0.0
    );
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

/// The same weight in blocks as candle writes them, and what candle makes of them again.
fn blocks(kind: BlockKind, n: usize, k: usize) -> (Quantised, Tensor) {
    let theirs = match kind {
        BlockKind::Q4_0 => GgmlDType::Q4_0,
        BlockKind::Q4_1 => GgmlDType::Q4_1,
        BlockKind::Q5_0 => GgmlDType::Q5_0,
        BlockKind::Q5_1 => GgmlDType::Q5_1,
        BlockKind::Q8_0 => GgmlDType::Q8_0,
        BlockKind::Q4K => GgmlDType::Q4K,
        BlockKind::Q5K => GgmlDType::Q5K,
        BlockKind::Q6K => GgmlDType::Q6K,
    };
    let written = QTensor::quantize(&random(1, &[n, k]), theirs).unwrap();
    let bytes = written.data().unwrap();
    let own = Quantised::from_blocks(kind, n, k, &bytes).unwrap();
    (own, written.dequantize(&Device::Cpu).unwrap())
}

const KINDS: [BlockKind; 8] = [
    BlockKind::Q4_0,
    BlockKind::Q4_1,
    BlockKind::Q5_0,
    BlockKind::Q5_1,
    BlockKind::Q8_0,
    BlockKind::Q4K,
    BlockKind::Q5K,
    BlockKind::Q6K,
];

fn bits(t: &Tensor) -> Vec<u32> {
    let flat = t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    flat.into_iter().map(f32::to_bits).collect()
}

/// A layer in few bits, and the layer in f32 with the values that they stand for.
fn pairs(n: usize, k: usize) -> Vec<(String, Linear, Linear)> {
    let bias = random(2, &[n]);
    let whole = |weight: Tensor| Linear::new(weight, Some(bias.clone())).unwrap();
    let eight = whole(random(1, &[n, k]))
        .in_precision(Precision::Int8)
        .unwrap();
    let mut all = vec![("int8".to_owned(), eight.clone(), whole(eight.weight()))];
    for kind in KINDS
        .into_iter()
        .filter(|kind| k.is_multiple_of(kind.values()))
    {
        let (own, theirs) = blocks(kind, n, k);
        let own = Linear::of_blocks(own, Some(bias.clone())).unwrap();
        all.push((format!("{kind:?}"), own, whole(theirs)));
    }
    all
}

#[test]
fn blocks_have_the_values_that_candle_reads_from_them() {
    for kind in KINDS {
        for (n, k) in [(1, 1), (7, 2), (40, 3)] {
            let k = k * kind.values();
            let (own, theirs) = blocks(kind, n, k);
            let own = Linear::of_blocks(own, None).unwrap();
            assert_eq!(own.precision(), Precision::Q4);
            assert_eq!(bits(&own.weight()), bits(&theirs), "{kind:?} {n} x {k}");
        }
    }
    // Rows that blocks do not fill, bytes that are missing, and a scale that is no number.
    assert!(Quantised::from_blocks(BlockKind::Q4_0, 2, 33, &[0; 36]).is_none());
    assert!(Quantised::from_blocks(BlockKind::Q4_0, 2, 32, &[0; 35]).is_none());
    assert!(Quantised::from_blocks(BlockKind::Q4_0, usize::MAX, 32, &[0; 36]).is_none());
    let mut bytes = [0; 20];
    bytes[3] = 0x7c;
    assert!(Quantised::from_blocks(BlockKind::Q4_1, 1, 32, &bytes).is_none());
}

#[test]
fn a_layer_in_few_bits_has_the_bits_of_the_f32_layer_with_their_values() {
    for reference in [false, true] {
        with_reference_path(reference, || {
            for [m, n, k] in SHAPES.into_iter().chain([[3, 40, 256], [9, 5, 512]]) {
                for (name, few, whole) in pairs(n, k) {
                    let (x, g) = (random(3, &[m, k]), random(4, &[m, n]));
                    let x = Var::from_tensor(&x).unwrap();
                    let run = |layer: &Linear, f: Option<Activation>| {
                        let y = match f {
                            None => layer.forward(&x).unwrap(),
                            Some(f) => layer.forward_activated(&x, f).unwrap(),
                        };
                        let loss = (&y * &g).unwrap().sum_all().unwrap();
                        let found = loss.backward().unwrap();
                        (bits(&y), bits(found.get(&x).unwrap()))
                    };
                    for &level in levels() {
                        with_level(level, || {
                            for f in [None, Some(Activation::Gelu)] {
                                let same = run(&few, f) == run(&whole, f);
                                assert!(same, "{name}, {level:?}, {m} x {n} x {k}, {f:?}");
                            }
                        });
                    }
                }
            }
        });
    }
}

#[test]
fn eight_bits_lose_half_a_step_of_each_rows_largest_value() {
    let [n, k] = [37, 130];
    let mut weight = random(1, &[n, k]).to_vec2::<f32>().unwrap();
    weight[5] = vec![0.0; k];
    for x in &mut weight[6] {
        *x *= 1e-3;
    }
    let whole = Linear::new(Tensor::new(weight.clone(), &Device::Cpu).unwrap(), None).unwrap();
    let eight = whole.in_precision(Precision::Int8).unwrap();
    let rounded = eight.weight().to_vec2::<f32>().unwrap();
    for (row, (exact, rounded)) in weight.iter().zip(&rounded).enumerate() {
        let largest = exact.iter().fold(0f32, |most, x| most.max(x.abs()));
        for (x, y) in exact.iter().zip(rounded) {
            // (A little for the rounding of scale and product.)
            assert!(
                (x - y).abs() <= largest / 254.0 * 1.0001,
                "{row}: {x} became {y}"
            );
        }
    }
    // And so a layer of this size, whose errors are independent: well below the step itself.
    let x = random(3, &[20, k]);
    let d = distance(&eight.forward(&x).unwrap(), &whole.forward(&x).unwrap());
    assert!(d > 0.0 && d < 1.0 / 127.0, "{d:e}");
}

#[test]
fn a_weight_in_fewer_bits_is_held_once() {
    with_reference_path(false, || {
        let [n, k] = [96, 192];
        let values = n * k;
        let whole = Linear::new(random(1, &[n, k]), None).unwrap();
        assert_eq!(whole.bytes(), 4 * values);
        let train = |layer: &Linear| {
            let x = Var::from_tensor(&random(3, &[5, k])).unwrap();
            let y = layer.forward(&x).unwrap();
            let held = layer.bytes();
            y.sum_all().unwrap().backward().unwrap();
            (held, layer.bytes())
        };
        // f32: the weight and its panels, others for the backward.
        assert_eq!(train(&whole), (8 * values, 12 * values));
        // bf16: panels for the forward, and others for the backward; no f32.
        let half = whole.in_precision(Precision::Bf16).unwrap();
        assert_eq!(half.bytes(), 2 * values);
        assert_eq!(train(&half), (2 * values, 4 * values));
        let eight = whole.in_precision(Precision::Int8).unwrap();
        assert_eq!(train(&eight), (values + 4 * n, values + 4 * n));
        // Four bits, and for each block of 32 two numbers.
        let four = Linear::of_blocks(blocks(BlockKind::Q4_1, n, k).0, None).unwrap();
        assert_eq!(
            train(&four),
            (values / 2 + values / 4, values / 2 + values / 4)
        );
        // Whatever takes the place of blocks is rounded to bf16.
        let other = whole.in_precision(Precision::Q4).unwrap();
        assert_eq!(
            (other.precision(), other.bytes()),
            (Precision::Bf16, 2 * values)
        );
    });
}

#[test]
fn a_weight_in_bf16_comes_back_as_it_was_rounded_at_every_level() {
    for [_, n, k] in SHAPES {
        let expected = rounded(&random(1, &[n, k]));
        for &made in levels() {
            let layer = with_level(made, || layer(n, k));
            for &read in levels() {
                let weight = with_level(read, || layer.weight());
                assert_eq!(distance(&weight, &expected), 0.0, "{made:?} {read:?}");
            }
        }
    }
}
