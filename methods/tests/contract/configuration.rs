//! Configurations: values, combinations, capabilities.

use std::collections::BTreeMap;

use methods::{Context, registry};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use crate::{methods, support::*};

#[test]
fn methods_combine_in_the_order_in_which_they_are_named() {
    let frozen = backbone();
    let combined = |parts: &str| {
        let overrides = BTreeMap::from([("combine", parts)]);
        let mut values: serde_json::Map<_, _> = serde_json::Map::new();
        for (key, text) in overrides {
            values.insert(key.into(), serde_json::from_str(text).unwrap());
        }
        methods::resolve_values("mam", values)
    };
    // The YAML's keys of a part that is no longer named go with it.
    let refused = |parts: &str| {
        combined(parts)
            .and_then(|r| r.check(frozen.config()))
            .unwrap_err()
            .to_string()
    };
    for (parts, says) in [
        (r#"["prefix_tuning"]"#, "at least two"),
        (r#"["prefix_tuning", "adapter", "adapter"]"#, "named twice"),
        (
            r#"["prefix_tuning", "adapters"]"#,
            "unknown method 'adapters'",
        ),
        (
            r#"["prefix_tuning", "adapter", "lorra"]"#,
            "unknown method 'lorra'",
        ),
    ] {
        let message = refused(parts);
        assert!(message.contains(says), "{parts}: {message}");
    }
    let three = combined(r#"["prefix_tuning", "adapter", "lora", "ia3"]"#).unwrap();
    let method = build(&three, &frozen, 1);
    let names: Vec<_> = method.vars().into_iter().map(|(name, _)| name).collect();
    for part in ["prefix", "feed_forward.adapter", "lora_a", "ia3"] {
        assert!(names.iter().any(|n| n.contains(part)), "{part}: {names:?}");
    }
    let double = combined(r#"["prefix_tuning", "adapter", "bitfit", "layer_norm"]"#).unwrap();
    let rng = &mut ChaCha8Rng::seed_from_u64(0);
    let context = &mut Context {
        backbone: &frozen,
        rng,
        words: &Letters,
    };
    let message = double.build(context).err().unwrap().to_string();
    assert!(message.contains("LayerNorm.bias"), "{message}");
}

#[test]
fn a_name_of_pefts_stands_for_every_layer_whose_path_ends_in_it() {
    use backbone::{Architecture, Backbone, Config};
    let distilbert = Config {
        architecture: Architecture::DistilBert,
        token_types: 0,
        ..backbone().config().clone()
    };
    let distilbert = Backbone::random(distilbert, &mut ChaCha8Rng::seed_from_u64(3)).unwrap();
    let modernbert = of(Architecture::ModernBert);
    let llama = of(Architecture::Llama);
    for (frozen, theirs, ours) in [
        (&modernbert, "[Wo]", "[attention_output, output]"),
        (&modernbert, "[Wqkv, mlp.Wo]", "[query_key_value, output]"),
        (
            &modernbert,
            "[attn.Wo, Wi]",
            "[attention_output, intermediate]",
        ),
        (&llama, "[o_proj, mlp.up_proj]", "[attention_output, up]"),
        (&distilbert, "[q_lin, lin2]", "[query, output]"),
        (&backbone(), "[output.dense]", "[attention_output, output]"),
    ] {
        for method in ["lora", "dora", "ia3"] {
            let names = |written: &str| {
                let resolved = resolve(method, &[("target_modules", written)]);
                resolved.check(frozen.config()).unwrap();
                let vars = build(&resolved, frozen, 1).vars();
                vars.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
            };
            assert_eq!(names(theirs), names(ours), "{method}: {theirs}");
        }
    }
    // PEFT's would be the pooler as well.
    let dense = resolve("lora", &[("target_modules", "[dense]")]);
    let message = dense.check(backbone().config()).unwrap_err().to_string();
    assert!(message.contains("'dense'"), "{message}");
}

#[test]
fn capabilities_are_what_the_papers_say() {
    let of = |name: &str| methods::capabilities(registry::entry(name).unwrap()).unwrap();
    for (name, acts_on, mergeable) in [
        ("prompt_tuning", vec!["input"], false),
        ("lora", vec!["query", "value"], true),
        (
            "adapter",
            vec!["after attention", "after feed_forward"],
            false,
        ),
        (
            "ia3",
            vec!["key", "value", "attention_output", "output"],
            true,
        ),
        ("layer_norm", vec!["norms"], true),
        ("prefix_tuning", vec!["positions", "keys and values"], false),
        ("mam", vec!["keys and values", "after feed_forward"], false),
        ("head_only", vec![], false),
        ("full", vec!["own backbone"], false),
    ] {
        let found = of(name);
        assert_eq!(
            (found.acts_on, found.mergeable),
            (acts_on.iter().map(|p| p.to_string()).collect(), mergeable),
            "{name}"
        );
    }
    assert!(of("p_tuning").ships_less && !of("lora").ships_less);
    assert!(of("ia3").mixed_batches && !of("full").mixed_batches);
}

#[test]
fn bad_values_are_refused_with_key_value_and_what_is_accepted() {
    let config = backbone().config().clone();
    let refused = |method: &str, key: &str, value: &str| {
        let overrides = BTreeMap::from([(key.to_owned(), value.to_owned())]);
        let result = methods::resolve(method, &overrides).and_then(|r| r.check(&config));
        result
            .expect_err(&format!("{method}.{key}={value}"))
            .to_string()
    };
    for (method, key, value, says) in [
        ("lora", "rank", "0", "1 … 16"),
        ("lora", "rank", "17", "1 … 16"),
        ("lora", "rank", "many", "rank: many"),
        ("lora", "rnak", "4", "known: rank, alpha"),
        ("lora", "steps", "4", "unknown key 'steps'"),
        ("lora", "target_modules", "[qurey]", "query, key, value"),
        ("lora", "target_modules", "[]", "at least one"),
        ("lora", "layers", "[3]", "0 … 2"),
        ("lora", "dropout", "1.0", "below 1"),
        ("lora", "learning_rate", "0", "above 0"),
        ("lora", "learning_rate", ".nan", "not a finite number"),
        ("adapter", "scaling", ".nan", "not a finite number"),
        ("p_tuning", "width", ".inf", "not a finite number"),
        (
            "lora",
            "rank_pattern",
            "{encoder.0.query: -.inf}",
            "not a finite number",
        ),
        (
            "lora",
            "rank",
            "[1]",
            "rank: [1]: it is a list, expected a whole number",
        ),
        ("lora", "layers", "some", "all, or a list of layers"),
        ("adapter", "reduction_factor", "17", "0.125 to 16"),
        ("adapter", "reduction_factor", "1e-9", "0.125 to 16"),
        ("adapter", "placement", "middle", "houlsby"),
        ("adapter", "activation", "selu", "relu"),
        ("adapter", "drop_layers", "3", "no layer"),
        ("adapter", "scaling", "0", "other than 0"),
        (
            "ia3",
            "feedforward_modules",
            "[query]",
            "not among target_modules",
        ),
        ("prefix_tuning", "virtual_tokens", "46", "1 … 45"),
        ("prefix_tuning", "positions", "moved", "shifted"),
        ("dora", "rank", "17", "1 … 16"),
        ("lora", "init", "zeros", "pissa"),
        ("lora", "b_learning_rate_ratio", "0", "above 0"),
        ("p_tuning", "encoder", "gru", "lstm"),
        ("compacter", "reduction_factor", "5", "must divide"),
        (
            "mam",
            "adapter.reduction_factor",
            "many",
            "reduction_factor: many",
        ),
        ("mam", "adapter.placement", "middle", "houlsby"),
        ("prompt_tuning", "virtual_tokens", "0", "1 … 45"),
        ("prompt_tuning", "virtual_tokens", "46", "1 … 45"),
        ("prompt_tuning", "init", "zeros", "sampled_vocab"),
        (
            "head_only",
            "rank",
            "1",
            "known: learning_rate, weight_decay",
        ),
    ] {
        let message = refused(method, key, value);
        assert!(
            message.contains(says) && message.contains(method),
            "{method}.{key}={value}: {message}"
        );
    }
    assert!(
        methods::resolve("lorra", &BTreeMap::new())
            .unwrap_err()
            .to_string()
            .contains("prompt_tuning, lora")
    );
}
