//! The same bits on any number of threads.

use candle_core::{DType, Result, Tensor, Var};
use peftbench_kernels::*;

use crate::support::*;

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
