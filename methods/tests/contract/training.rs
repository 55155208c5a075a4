//! Training: what is trained, what is not, and by which gradients.

use std::{cell::RefCell, collections::BTreeMap};

use backbone::{Backbone, Config, Phase, Pooling};
use candle_core::Tensor;
use methods::{HeadOnly, registry};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use crate::{methods, support::*};

#[test]
fn an_untrained_method_equals_the_backbone_or_says_why_not() {
    for case in everywhere() {
        let (frozen, said) = (&case.frozen, &case.said);
        let bare = evaluated(&HeadOnly, frozen, &examples());
        let method = case.built();
        let difference = largest_difference(&evaluated(&*method, frozen, &examples()), &bare);
        match method.starts_as_backbone() {
            Ok(()) => assert!(difference <= 1e-6, "{said}: {difference}"),
            Err(why) => assert!(difference > 1e-6 && !why.is_empty(), "{said}: {difference}"),
        }
    }
}

#[test]
fn frozen_weights_are_the_same_bits_after_twenty_steps_and_trained_ones_are_not() {
    for case in everywhere() {
        let (frozen, said) = (&case.frozen, &case.said);
        let before = frozen.weights_digest().unwrap();
        let method = case.built();
        let vars = method.vars();
        let start = backbone::digest_of(vars.iter().map(|(_, v)| v.as_tensor())).unwrap();
        let mut moments = zero_moments(&vars);
        for number in 1..=20 {
            if !vars.is_empty() {
                step(&vars, &mut moments, &gradients(&*method, frozen), number);
            }
        }
        assert_eq!(frozen.weights_digest().unwrap(), before, "{said}");
        let end = backbone::digest_of(vars.iter().map(|(_, v)| v.as_tensor())).unwrap();
        assert_eq!(start == end, vars.is_empty(), "{said}");
    }
}

#[test]
fn every_trainable_gets_a_finite_gradient_other_than_zero_within_two_steps() {
    for case in everywhere() {
        let (frozen, said) = (&case.frozen, &case.said);
        let method = case.built();
        let vars = method.vars();
        let mut moments = zero_moments(&vars);
        let mut reached = vec![false; vars.len()];
        for number in 1..=2 {
            if vars.is_empty() {
                continue;
            }
            let grads = gradients(&*method, frozen);
            for ((name, var), reached) in vars.iter().zip(&mut reached) {
                let square = kernels::sum_of_squares(grads.get(var).unwrap()).unwrap();
                assert!(square.is_finite(), "{said}: {name}");
                *reached |= square > 0.0;
            }
            step(&vars, &mut moments, &grads, number);
        }
        let missed: Vec<_> = vars
            .iter()
            .zip(&reached)
            .filter(|(_, r)| !**r)
            .map(|((name, _), _)| name)
            .collect();
        assert!(
            missed.is_empty(),
            "{said}: no gradient other than zero for {missed:?}"
        );
    }
}

#[test]
fn a_frozen_operand_gets_no_gradient() {
    for case in everywhere() {
        let (frozen, said) = (&case.frozen, &case.said);
        let method = case.built();
        if method.vars().is_empty() || method.backbone().is_some() {
            continue;
        }
        let grads = gradients(&*method, frozen);
        for (name, tensor) in frozen.tensors() {
            assert!(grads.get(&tensor).is_none(), "{said}: {name}");
        }
    }
}

#[test]
fn weight_decay_pulls_towards_zero_only_what_is_neutral_there() {
    let frozen = backbone();
    for (case, resolved) in cases() {
        let method = build(&resolved, &frozen, 1);
        for (name, var) in method.vars() {
            let training = method.parameters().training(&name).unwrap();
            let spared = var.rank() == 1 || case.starts_with("ia3");
            assert_eq!(training.decays, !spared, "{case}: {name}");
        }
    }
    let plus = build(
        &resolve("lora", &[("b_learning_rate_ratio", "16")]),
        &frozen,
        1,
    );
    let rate = |name| {
        plus.parameters()
            .training(name)
            .unwrap()
            .learning_rate_factor
    };
    assert_eq!(rate("encoder.0.query.lora_a"), 1.0);
    assert_eq!(rate("encoder.0.query.lora_b"), 16.0);
}

#[test]
fn the_same_seed_gives_the_same_bits_and_another_seed_does_not() {
    for case in everywhere() {
        let (frozen, said) = (&case.frozen, &case.said);
        let digest = |seed| {
            let vars = build(&case.resolved, frozen, seed).vars();
            backbone::digest_of(vars.iter().map(|(_, v)| v.as_tensor())).unwrap()
        };
        assert_eq!(digest(1), digest(1), "{said}");
        let fixed = [
            "head_only",
            "zero_shot",
            "linear_probe",
            "knn",
            "full",
            "ia3",
            "bitfit",
            "layer_norm",
            "majority",
        ];
        // What it draws is its backbone.
        let drawn = !fixed.iter().any(|name| case.name.starts_with(name))
            && !["text", "pissa", "olora"]
                .iter()
                .any(|i| case.name.ends_with(&format!("init={i}")))
            && case.name != "random_features";
        assert_eq!(digest(1) != digest(2), drawn, "{said}");
    }
}

#[test]
fn dropout_acts_in_training_only() {
    let frozen = backbone();
    let mut with_dropout = 0;
    for entry in registry::ALL
        .iter()
        .filter(|e| e.yaml.lines().any(|l| l.starts_with("dropout:")))
    {
        with_dropout += 1;
        let method = build(&resolve(entry.name, &[("dropout", "0.5")]), &frozen, 1);
        let without = build(&resolve(entry.name, &[]), &frozen, 1);
        perturb(&*method);
        perturb(&*without);
        assert_eq!(
            evaluated(&*method, &frozen, &examples()),
            evaluated(&*without, &frozen, &examples()),
            "{}",
            entry.name
        );
        let rng = RefCell::new(ChaCha8Rng::seed_from_u64(9));
        let train = || {
            pooled(&*method, &frozen, &packed(&examples()), Phase::Train(&rng))
                .to_vec2::<f32>()
                .unwrap()
        };
        assert_ne!(train(), train(), "{}", entry.name);
    }
    assert_eq!(with_dropout, 3);
}

#[test]
fn adapters_dropped_for_inference_are_trained_and_not_evaluated() {
    let frozen = backbone();
    let method = |drop: &str| {
        let keys = [("drop_layers", "2"), ("drop", drop)];
        let method = build(&resolve("adapter", &keys), &frozen, 1);
        perturb(&*method);
        method
    };
    let (dropped, always) = (method("inference"), method("always"));
    let all = method("inference").vars();
    assert_eq!((dropped.vars().len(), always.vars().len()), (24, 8));
    let rng = RefCell::new(ChaCha8Rng::seed_from_u64(0));
    let training = pooled(&*dropped, &frozen, &packed(&examples()), Phase::Train(&rng));
    let evaluation = evaluated(&*dropped, &frozen, &examples());
    assert!(largest_difference(&values(&training), &evaluation) > 1e-3);
    // In evaluation only the last layer's adapters are left.
    let upper: BTreeMap<_, _> = all
        .into_iter()
        .filter(|(name, _)| name.starts_with("encoder.2"))
        .map(|(name, var)| (name, var.as_detached_tensor()))
        .collect();
    methods::restore(&always.vars(), &upper).unwrap();
    assert_eq!(evaluated(&*always, &frozen, &examples()), evaluation);
}

/// A backbone in f64 with room for examples whose lengths differ a hundredfold.
fn precise() -> Backbone {
    let config = Config {
        positions: 112,
        ..backbone().config().clone()
    };
    let random = Backbone::random(config, &mut ChaCha8Rng::seed_from_u64(4)).unwrap();
    in_f64(&larger(&random)).with_pooling(Pooling::Cls).unwrap()
}

/// Gradients against finite differences in f64, at the start (LoRA's B and all biases are exactly zero there) and away
/// from it; for one example of one token, and for lengths that differ a hundredfold.
#[test]
fn gradients_are_the_slopes_of_the_loss() {
    let long: Vec<u32> = (0..100).map(|i| i * 7 % 40).collect();
    let batches: [(Vec<Vec<u32>>, &[u32]); 2] = [
        (vec![vec![7]], &[2]),
        (vec![vec![5], long, vec![2, 9, 31]], &[0, 15, 3]),
    ];
    let frozen = precise();
    let mut compared = 0;
    for (case, resolved) in cases() {
        for (away, (examples, labels)) in [false, true].into_iter().zip(&batches) {
            let method = build(&resolved, &frozen, 1);
            if away {
                perturb(&*method);
            }
            let batch = packed(examples);
            let loss = || {
                let rows = pooled(&*method, &frozen, &batch, Phase::Eval);
                kernels::cross_entropy(&rows, labels).unwrap()
            };
            let vars = method.vars();
            if vars.is_empty() {
                continue;
            }
            let grads = kernels::backward(&loss()).unwrap();
            let grads: Vec<Vec<f64>> = vars
                .iter()
                .map(|(_, v)| flat(grads.get(v).unwrap()))
                .collect();
            let largest = grads.iter().flatten().fold(1e-9f64, |m, g| m.max(g.abs()));
            for (i, ((name, var), grad)) in vars.iter().zip(&grads).enumerate() {
                // DoRA's norm counts as a constant, so for A and B its gradient is not the slope, by design.
                if case == "dora" && !name.ends_with("magnitude") {
                    continue;
                }
                // The steepest element of every other variable, and one anywhere of the rest.
                let steepest = (0..grad.len())
                    .max_by(|a, b| grad[*a].abs().total_cmp(&grad[*b].abs()))
                    .unwrap();
                let index = match i % 2 {
                    0 => steepest,
                    _ => (i * 131 + 17) % grad.len(),
                };
                let start = flat(var.as_tensor());
                let at = |step: f64| {
                    let mut moved = start.clone();
                    moved[index] += step;
                    let moved = Tensor::from_vec(moved, var.shape(), var.device());
                    var.set(&moved.unwrap()).unwrap();
                    loss().to_scalar::<f64>().unwrap()
                };
                // So small that no ReLU is crossed on the way, and far above the rounding of f64.
                let h = 1e-6;
                let slope = (at(h) - at(-h)) / (2.0 * h);
                at(0.0);
                let d = (slope - grad[index]).abs() / largest;
                assert!(
                    d < 1e-6,
                    "{case}: {name}[{index}]: {} but the slope is {slope}",
                    grad[index]
                );
                compared += 1;
            }
        }
    }
    assert!(compared > 200, "{compared}");
}
