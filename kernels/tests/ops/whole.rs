//! Ops in a row, wrong shapes, and zeros.

use candle_core::{DType, Device, Tensor, Var};
use peftbench_kernels::*;

use crate::support::*;

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
