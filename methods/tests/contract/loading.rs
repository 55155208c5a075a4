//! What is shipped, and what is loaded to predict.

use std::collections::BTreeMap;

use backbone::{Backbone, Phase};
use candle_core::{Tensor, Var};
use methods::PeftMethod;

use crate::{methods, support::*};

#[test]
fn restored_weights_give_the_same_bits() {
    for case in everywhere() {
        let (frozen, said) = (&case.frozen, &case.said);
        let method = case.perturbed();
        let other = loaded(&case.resolved, frozen, &*method);
        assert_eq!(
            evaluated(&*method, frozen, &examples()),
            evaluated(&*other, frozen, &examples()),
            "{said}"
        );
    }
}

#[test]
fn what_is_loaded_to_predict_is_frozen_and_so_is_all_that_it_computes() {
    for case in everywhere() {
        let (frozen, said) = (&case.frozen, &case.said);
        let method = case.built();
        let loaded = loaded(&case.resolved, frozen, &*method);
        assert!(loaded.vars().is_empty(), "{said}");
        for (name, tensor) in loaded.parameters().tensors() {
            assert!(!tensor.track_op(), "{said}: {name}");
        }
        if let Some(own) = loaded.backbone() {
            for (name, tensor) in own.tensors() {
                assert!(!tensor.track_op(), "{said}: {name}");
            }
        }
        let rows = pooled(&*loaded, frozen, &packed(&examples()), Phase::Eval);
        assert!(!kernels::is_recorded(&rows), "{said}: a gradient is kept");
        // Loaded once more, it ships the same.
        let again: Vec<_> = loaded.shipped().unwrap();
        for ((name, a), (other, b)) in method.shipped().unwrap().iter().zip(&again) {
            assert_eq!(name, other, "{said}");
            assert_eq!(flat(a), flat(b), "{said}: {name}");
        }
    }
}

#[test]
fn what_a_loaded_method_takes_in_memory_is_what_it_holds_to_predict() {
    let frozen = backbone();
    let (h, l) = (HIDDEN as u64, LAYERS as u64);
    let of = |name: &str, more: &[(&str, &str)]| {
        let resolved = resolve(name, more);
        let method = build(&resolved, &frozen, 1);
        methods::resident_bytes(&*loaded(&resolved, &frozen, &*method), &frozen)
    };
    // The tokens that the encoder made, not the encoder.
    assert_eq!(of("p_tuning", &[]), 4 * 5 * h);
    assert_eq!(of("p_tuning", &[("encoder", "lstm")]), 4 * 5 * h);
    assert_eq!(
        of("prefix_tuning", &[("reparametrisation", "mlp")]),
        4 * 5 * 2 * l * h
    );
    assert_eq!(of("lora", &[]), 4 * l * 2 * 3 * 2 * h);
    // With what was taken out of W.
    assert_eq!(of("lora", &[("init", "pissa")]), 2 * of("lora", &[]));
    // The two matrices that come out of each Kronecker sum as well.
    let b = h / 4;
    let raw = 2 * 2 * 2 + 2 * l * 3 * (h + b);
    assert_eq!(of("compacter", &[]), 4 * (raw + 2 * l * 2 * h * b));
    // A backbone of its own: all of it, or all but the pooler, which it shares.
    let whole = 4 * frozen.parameters() as u64;
    assert_eq!(of("random_features", &[]), whole + 4);
    assert_eq!(of("full", &[]), whole - 4 * (h * h + h));
    assert_eq!(of("head_only", &[]), 0);
}

#[test]
fn loading_draws_and_factors_nothing() {
    // Weights that no factorisation of another backbone could give are right all the same.
    let frozen = backbone();
    for init in ["pissa", "olora"] {
        let resolved = resolve("lora", &[("init", init)]);
        let method = build(&resolved, &frozen, 1);
        perturb(&*method);
        let before = evaluated(&*method, &frozen, &examples());
        let shipped: BTreeMap<_, _> = method.shipped().unwrap().into_iter().collect();
        // The columns of A and B in another sign, as another library's factorisation may have them.
        let turned = shipped
            .into_iter()
            .map(|(name, t)| {
                (
                    name.clone(),
                    if name.contains("start") {
                        t.neg().unwrap()
                    } else {
                        t
                    },
                )
            })
            .collect();
        let other = resolved.load(&frozen, turned).unwrap();
        let d = largest_difference(&evaluated(&*other, &frozen, &examples()), &before);
        assert!(d < 1e-6, "{init}: {d}");
    }
}

#[test]
fn what_is_shipped_is_what_is_trained_but_for_a_reparametrisation() {
    for case in everywhere() {
        let (frozen, said) = (&case.frozen, &case.said);
        let method = case.built();
        let names = |vars: Vec<(String, Var)>| vars.into_iter().map(|(n, _)| n).collect::<Vec<_>>();
        let shipped = method.shipped().unwrap();
        let trained_names = names(method.vars());
        match case.name.as_str() {
            "prefix_tuning reparametrisation=mlp" => {
                assert_eq!(
                    shipped[0].1.dims(),
                    [5, 2 * LAYERS * frozen.config().key_width()]
                );
            }
            c if c.starts_with("p_tuning") => assert_eq!(shipped[0].1.dims(), [5, HIDDEN]),
            "random_features" | "mam prefix_tuning.reparametrisation=mlp" => {}
            // And what was taken out of W.
            "lora init=pissa" | "lora init=olora" => {
                let sent: Vec<_> = shipped.into_iter().map(|(n, _)| n).collect();
                let (start, trained): (Vec<_>, Vec<_>) =
                    sent.into_iter().partition(|n| n.contains(".start_"));
                assert_eq!(start.len(), trained.len(), "{said}");
                assert_eq!(trained, trained_names, "{said}");
            }
            _ => {
                let sent: Vec<_> = shipped.into_iter().map(|(n, _)| n).collect();
                assert_eq!(sent, names(method.vars()), "{said}");
            }
        }
    }
}

#[test]
fn a_missing_foreign_or_misshapen_tensor_is_refused_by_name() {
    let frozen = backbone();
    let method = build(&resolve("lora", &[]), &frozen, 1);
    let saved: BTreeMap<_, _> = method
        .vars()
        .into_iter()
        .map(|(name, v)| (name, v.as_detached_tensor()))
        .collect();
    let name = "encoder.1.value.lora_a";
    let with = |f: &dyn Fn(&mut BTreeMap<String, Tensor>)| {
        let mut tensors = saved.clone();
        f(&mut tensors);
        let restored = methods::restore(&method.vars(), &tensors).unwrap_err();
        let loaded = resolve("lora", &[]).load(&frozen, tensors).err().unwrap();
        assert_eq!(restored.to_string(), loaded.to_string());
        loaded.to_string()
    };
    let missing = with(&|t| drop(t.remove(name)));
    assert!(
        missing.contains(name) && missing.contains("missing"),
        "{missing}"
    );
    let misshapen = with(&|t| drop(t.insert(name.into(), t[name].t().unwrap())));
    assert!(
        misshapen.contains(name) && misshapen.contains("[3, 16]"),
        "{misshapen}"
    );
    let foreign = with(&|t| drop(t.insert("stranger".into(), t[name].clone())));
    assert!(foreign.contains("stranger"), "{foreign}");
}

#[test]
fn what_is_loaded_to_predict_is_packed_once() {
    let packings = |method: &dyn PeftMethod, frozen: &Backbone| {
        let before = kernels::packings();
        evaluated(method, frozen, &examples());
        kernels::packings() - before
    };
    kernels::with_reference_path(false, || {
        for case in everywhere() {
            let method = case.built();
            let loaded = loaded(&case.resolved, &case.frozen, &*method);
            packings(&*loaded, &case.frozen);
            for _ in 0..2 {
                assert_eq!(packings(&*loaded, &case.frozen), 0, "{}", case.said);
            }
        }
        // The count counts: two matrices at two places of each layer, in every pass where they are trained.
        let frozen = backbone();
        let lora = resolve("lora", &[]);
        let trained = build(&lora, &frozen, 1);
        packings(&*trained, &frozen);
        assert_eq!(packings(&*trained, &frozen), 2 * 2 * LAYERS);
        let loaded = loaded(&lora, &frozen, &*trained);
        assert_eq!(packings(&*loaded, &frozen), 2 * 2 * LAYERS);
        assert_eq!(packings(&*loaded, &frozen), 0);
    });
}
