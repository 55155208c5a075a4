//! Linear layers.

use candle_core::{DType, Device, Tensor, Var};
use peftbench_kernels::*;

use crate::support::*;

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
