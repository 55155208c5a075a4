//! Cross-entropy, over classes and over a vocabulary.

use candle_core::{DType, Device, Tensor, Var};
use peftbench_kernels::*;

use crate::support::*;

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
