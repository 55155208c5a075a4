//! What every method promises. The registry is iterated, so that no method can be left out.
#![allow(clippy::unwrap_used)]

use std::{cell::RefCell, collections::BTreeMap};

use backbone::{
    Activation, Architecture, Backbone, Batch, Config, Hooks, Mixed, NoHooks, Phase, Pooling,
};
use candle_core::{Tensor, Var, backprop::GradStore};
use kernels::{AdamWStep, Moments};
use methods::{Context, HeadOnly, PeftMethod, Resolved, Words, registry};
use peftbench_methods as methods;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

const HIDDEN: usize = 16;
const LAYERS: usize = 3;

fn backbone() -> Backbone {
    let config = Config {
        architecture: Architecture::Bert,
        layers: LAYERS,
        hidden: HIDDEN,
        heads: 2,
        intermediate: 24,
        vocabulary: 40,
        positions: 48,
        position_offset: 0,
        position_padding: None,
        position_table: true,
        token_types: 2,
        activation: Activation::Gelu,
        epsilon: 1e-12,
        description: backbone::Description::post_norm(2, HIDDEN),
    };
    let random = Backbone::random(config, &mut ChaCha8Rng::seed_from_u64(3)).unwrap();
    larger(&random).with_pooling(Pooling::Cls).unwrap()
}

/// Larger weights than a fresh model's: near-zero ones would hide differences.
fn larger(random: &Backbone) -> Backbone {
    let larger = random.map(&mut |name, t| {
        Ok(match name.to_lowercase().contains("norm") {
            true => t,
            false => ((t * 10.0)? + 0.01)?,
        })
    });
    larger.unwrap()
}

/// An encoder with norms before the sublayers, rotary positions and local attention; a decoder with grouped heads and norms
/// over queries and keys.
fn of(architecture: Architecture) -> Backbone {
    let own = Config::of(architecture);
    let decoder = own.description.causal;
    let description = backbone::Description {
        key_value_heads: if decoder { 1 } else { 2 },
        head_width: 8,
        windows: if decoder {
            Vec::new()
        } else {
            vec![None, Some(6), Some(6)]
        },
        ..own.description.clone()
    };
    let config = Config {
        layers: LAYERS,
        hidden: HIDDEN,
        heads: 2,
        intermediate: 24,
        vocabulary: 40,
        positions: 48,
        description,
        ..own
    };
    let random = Backbone::random(config, &mut ChaCha8Rng::seed_from_u64(3)).unwrap();
    larger(&random)
        .with_pooling(if decoder { Pooling::Last } else { Pooling::Cls })
        .unwrap()
}

/// A small backbone of each kind.
fn backbones() -> Vec<Backbone> {
    let mut all = vec![backbone()];
    all.extend(
        [
            Architecture::ModernBert,
            Architecture::Llama,
            Architecture::Qwen3,
        ]
        .map(of),
    );
    all
}

/// A method with what it computes over a backbone.
struct Case {
    frozen: Backbone,
    /// The method with its variant.
    name: String,
    /// The family before it.
    said: String,
    resolved: Resolved,
}

/// Every method with its variants over every kind of backbone, but for those that say why not.
fn everywhere() -> Vec<Case> {
    let mut all = Vec::new();
    for frozen in backbones() {
        let family = frozen.config().architecture.name();
        for (name, resolved) in cases_over(&frozen) {
            let said = format!("{family}: {name}");
            match resolved.check(frozen.config()) {
                Ok(()) => all.push(Case {
                    frozen: frozen.clone(),
                    name,
                    said,
                    resolved,
                }),
                Err(why) => {
                    assert_eq!(name, "bitfit", "{said}: {why}");
                    assert!(
                        family != "bert" && why.to_string().contains("layer_norm"),
                        "{why}"
                    );
                }
            }
        }
    }
    all
}

struct Letters;

impl Words for Letters {
    fn encode(&self, text: &str) -> Result<Vec<u32>, String> {
        Ok(text.bytes().map(|b| u32::from(b) % 40).collect())
    }

    fn ordinary(&self) -> Vec<u32> {
        (5..40).collect()
    }
}

/// Small values for keys whose defaults do not fit 16 hidden units.
fn resolve(name: &str, more: &[(&str, &str)]) -> Resolved {
    let small: &[(&str, &str)] = match name {
        "prompt_tuning" => &[("virtual_tokens", "5")],
        "lora" => &[("rank", "3")],
        "adapter" => &[("reduction_factor", "4")],
        "prefix_tuning" => &[("virtual_tokens", "5"), ("width", "6")],
        "dora" => &[("rank", "3")],
        "p_tuning" => &[("virtual_tokens", "5"), ("width", "6")],
        "compacter" => &[("phm_dim", "2"), ("reduction_factor", "4")],
        "mam" => &[("prefix_tuning.virtual_tokens", "5")],
        _ => &[],
    };
    let overrides: BTreeMap<_, _> = small
        .iter()
        .chain(more)
        .map(|(k, v)| (k.to_string(), v.to_string()))
        .collect();
    methods::resolve(name, &overrides).unwrap()
}

fn build(resolved: &Resolved, backbone: &Backbone, seed: u64) -> Box<dyn PeftMethod> {
    let rng = &mut ChaCha8Rng::seed_from_u64(seed);
    resolved
        .build(&mut Context {
            backbone,
            rng,
            words: &Letters,
        })
        .unwrap()
}

/// A method as it is loaded from what another one ships.
fn loaded(resolved: &Resolved, frozen: &Backbone, method: &dyn PeftMethod) -> Box<dyn PeftMethod> {
    let shipped = method.shipped().unwrap().into_iter().collect();
    resolved.load(frozen, shipped).unwrap()
}

/// Every method with its variants that compute something else.
fn cases() -> Vec<(String, Resolved)> {
    cases_over(&backbone())
}

/// The same with the names that the linear layers of a backbone have.
fn cases_over(frozen: &Backbone) -> Vec<(String, Resolved)> {
    let architecture = frozen.config().architecture;
    let named = |value: &str| match architecture {
        Architecture::ModernBert => value
            .replace("query, key, value", "query_key_value")
            .replace(
                "encoder.0.query, value",
                "encoder.0.query_key_value, output",
            )
            .replace("[query, a", "[query_key_value, a")
            .replace("0.query:", "0.query_key_value:")
            .replace("1.value", "1.query_key_value"),
        Architecture::Bert => value.to_owned(),
        _ => value.replace("output, intermediate", "output, gate, up"),
    };
    let mut cases: Vec<_> = registry::ALL
        .iter()
        .map(|e| (e.name.to_owned(), resolve(e.name, &[])))
        .collect();
    for (name, more) in [
        ("prompt_tuning", ("pooling", "first")),
        ("prompt_tuning", ("init", "random")),
        ("prompt_tuning", ("init", "text")),
        ("lora", ("rslora", "true")),
        (
            "lora",
            (
                "target_modules",
                "[query, key, value, attention_output, intermediate, output]",
            ),
        ),
        ("lora", ("layers", "[2]")),
        ("lora", ("rank_pattern", "{encoder.1.value: 2}")),
        ("lora", ("alpha_pattern", "{encoder.0.query: 3}")),
        ("lora", ("target_modules", "[encoder.0.query, value]")),
        ("adapter", ("placement", "pfeiffer")),
        ("adapter", ("activation", "gelu")),
        (
            "ia3",
            (
                "target_modules",
                "[query, attention_output, intermediate, output]",
            ),
        ),
        ("prefix_tuning", ("positions", "kept")),
        ("prefix_tuning", ("reparametrisation", "mlp")),
        ("lora", ("init", "gaussian")),
        ("lora", ("init", "pissa")),
        ("lora", ("init", "olora")),
        ("adapter", ("placement", "parallel")),
        ("adapter", ("placement", "scaled_parallel")),
        ("adapter", ("drop_layers", "1")),
        ("p_tuning", ("encoder", "lstm")),
        ("p_tuning", ("pooling", "first")),
        ("mam", ("prefix_tuning.reparametrisation", "mlp")),
    ] {
        let value = named(more.1);
        cases.push((
            format!("{name} {}={}", more.0, more.1),
            resolve(name, &[(more.0, value.as_str())]),
        ));
    }
    assert!(cases.len() >= registry::ALL.len() + 8);
    cases
}

fn examples() -> Vec<Vec<u32>> {
    vec![
        vec![2, 9, 31, 4],
        vec![2, 3],
        (0..30).map(|i| i * 11 % 40).collect(),
        vec![7],
    ]
}

fn packed(examples: &[Vec<u32>]) -> Batch {
    let mut offsets = vec![0];
    offsets.extend(examples.iter().scan(0, |end, e| {
        *end += e.len();
        Some(*end)
    }));
    let ids: Vec<u32> = examples.concat();
    let types = ids.iter().map(|i| i % 2).collect();
    Batch::new(ids, types, offsets).unwrap()
}

fn pooled(method: &dyn PeftMethod, frozen: &Backbone, batch: &Batch, phase: Phase<'_>) -> Tensor {
    method
        .backbone()
        .unwrap_or(frozen)
        .pooled(batch, method, phase)
        .unwrap()
}

fn evaluated(method: &dyn PeftMethod, frozen: &Backbone, examples: &[Vec<u32>]) -> Vec<Vec<f32>> {
    pooled(method, frozen, &packed(examples), Phase::Eval)
        .to_vec2()
        .unwrap()
}

fn gradients(method: &dyn PeftMethod, frozen: &Backbone) -> GradStore {
    let rng = RefCell::new(ChaCha8Rng::seed_from_u64(9));
    let rows = pooled(method, frozen, &packed(&examples()), Phase::Train(&rng));
    kernels::backward(&kernels::cross_entropy(&rows, &[0, 1, 2, 3]).unwrap()).unwrap()
}

fn step(vars: &[(String, Var)], moments: &mut [Moments], grads: &GradStore, number: usize) {
    for ((name, var), moments) in vars.iter().zip(moments) {
        let grad = grads
            .get(var)
            .unwrap_or_else(|| panic!("{name} got no gradient"));
        let step = AdamWStep {
            lr: 1e-2,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
            step: number,
            grad_scale: 1.0,
        };
        kernels::adamw_step(var, grad, moments, &step).unwrap();
    }
}

fn zero_moments(vars: &[(String, Var)]) -> Vec<Moments> {
    vars.iter()
        .map(|(_, v)| Moments::zeros(v.elem_count()))
        .collect()
}

/// Moves every variable away from its start, so that nothing is the identity any more.
fn perturb(method: &dyn PeftMethod) {
    for (i, (_, var)) in method.vars().iter().enumerate() {
        let n = var.elem_count();
        let noise: Vec<f32> = (0..n)
            .map(|j| 0.1 * ((i * 31 + j * 7) as f32).sin())
            .collect();
        let noise = Tensor::from_vec(noise, var.shape(), var.device()).unwrap();
        var.set(&(var.as_tensor() + noise).unwrap().detach())
            .unwrap();
    }
}

fn largest_difference(a: &[Vec<f32>], b: &[Vec<f32>]) -> f32 {
    let scale = b.iter().flatten().fold(0f32, |m, v| m.max(v.abs()));
    a.iter()
        .flatten()
        .zip(b.iter().flatten())
        .fold(0f32, |m, (x, y)| m.max((x - y).abs()))
        / scale
}

#[test]
fn an_untrained_method_equals_the_backbone_or_says_why_not() {
    for Case {
        frozen,
        said,
        resolved,
        ..
    } in everywhere()
    {
        let bare = evaluated(&HeadOnly, &frozen, &examples());
        let method = build(&resolved, &frozen, 1);
        let difference = largest_difference(&evaluated(&*method, &frozen, &examples()), &bare);
        match method.starts_as_backbone() {
            Ok(()) => assert!(difference <= 1e-6, "{said}: {difference}"),
            Err(why) => assert!(difference > 1e-6 && !why.is_empty(), "{said}: {difference}"),
        }
    }
}

#[test]
fn frozen_weights_are_the_same_bits_after_twenty_steps_and_trained_ones_are_not() {
    for Case {
        frozen,
        said,
        resolved,
        ..
    } in everywhere()
    {
        let before = frozen.weights_digest().unwrap();
        let method = build(&resolved, &frozen, 1);
        let vars = method.vars();
        let start = backbone::digest_of(vars.iter().map(|(_, v)| v.as_tensor())).unwrap();
        let mut moments = zero_moments(&vars);
        for number in 1..=20 {
            if !vars.is_empty() {
                step(&vars, &mut moments, &gradients(&*method, &frozen), number);
            }
        }
        assert_eq!(frozen.weights_digest().unwrap(), before, "{said}");
        let end = backbone::digest_of(vars.iter().map(|(_, v)| v.as_tensor())).unwrap();
        assert_eq!(start == end, vars.is_empty(), "{said}");
    }
}

#[test]
fn every_trainable_gets_a_finite_gradient_other_than_zero_within_two_steps() {
    for Case {
        frozen,
        said,
        resolved,
        ..
    } in everywhere()
    {
        let method = build(&resolved, &frozen, 1);
        let vars = method.vars();
        let mut moments = zero_moments(&vars);
        let mut reached = vec![false; vars.len()];
        for number in 1..=2 {
            if vars.is_empty() {
                continue;
            }
            let grads = gradients(&*method, &frozen);
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
    for Case {
        frozen,
        said,
        resolved,
        ..
    } in everywhere()
    {
        let method = build(&resolved, &frozen, 1);
        if method.vars().is_empty() || method.backbone().is_some() {
            continue;
        }
        let grads = gradients(&*method, &frozen);
        for (name, tensor) in frozen.tensors() {
            assert!(grads.get(&tensor).is_none(), "{said}: {name}");
        }
    }
}

#[test]
fn merged_weights_give_what_the_unmerged_method_gives() {
    let mut merged_cases = 0;
    for Case {
        frozen,
        said,
        resolved,
        ..
    } in everywhere()
    {
        let method = build(&resolved, &frozen, 1);
        perturb(&*method);
        let unmerged = evaluated(&*method, &frozen, &examples());
        match method.merge(&frozen) {
            Ok(merged) => {
                merged_cases += 1;
                let bare = evaluated(&HeadOnly, &frozen, &examples());
                assert!(
                    largest_difference(&unmerged, &bare) > 1e-3,
                    "{said}: the perturbed method is the identity"
                );
                let difference =
                    largest_difference(&evaluated(&HeadOnly, &merged, &examples()), &unmerged);
                assert!(difference < 1e-5, "{said}: {difference}");
            }
            Err(why) => assert!(!why.to_string().is_empty(), "{said}"),
        }
    }
    assert!(merged_cases >= 40, "{merged_cases}");
}

#[test]
fn restored_weights_give_the_same_bits() {
    for Case {
        frozen,
        said,
        resolved,
        ..
    } in everywhere()
    {
        let method = build(&resolved, &frozen, 1);
        perturb(&*method);
        let other = loaded(&resolved, &frozen, &*method);
        assert_eq!(
            evaluated(&*method, &frozen, &examples()),
            evaluated(&*other, &frozen, &examples()),
            "{said}"
        );
    }
}

#[test]
fn what_is_loaded_to_predict_is_frozen_and_so_is_all_that_it_computes() {
    for Case {
        frozen,
        said,
        resolved,
        ..
    } in everywhere()
    {
        let method = build(&resolved, &frozen, 1);
        let loaded = loaded(&resolved, &frozen, &*method);
        assert!(loaded.vars().is_empty(), "{said}");
        for (name, tensor) in loaded.parameters().tensors() {
            assert!(!tensor.track_op(), "{said}: {name}");
        }
        if let Some(own) = loaded.backbone() {
            for (name, tensor) in own.tensors() {
                assert!(!tensor.track_op(), "{said}: {name}");
            }
        }
        let rows = pooled(&*loaded, &frozen, &packed(&examples()), Phase::Eval);
        assert!(!kernels::is_recorded(&rows), "{said}: a gradient is kept");
        // Loaded once more, it ships the same.
        let again: Vec<_> = loaded.shipped().unwrap();
        for ((name, a), (other, b)) in method.shipped().unwrap().iter().zip(&again) {
            assert_eq!(name, other, "{said}");
            assert_eq!(flat_f32(a), flat_f32(b), "{said}: {name}");
        }
    }
}

fn flat_f32(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
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
fn a_combination_that_scales_and_adds_merges_to_what_it_computes() {
    let frozen = backbone();
    let parts = ["lora", "ia3", "dora", "bitfit"];
    let mut compared = 0;
    for a in parts {
        for b in parts.into_iter().filter(|b| *b != a) {
            // Both LoRA and DoRA have A and B.
            if a.replace("dora", "lora") == b.replace("dora", "lora") {
                continue;
            }
            let mut keys = serde_json::Map::new();
            keys.insert("combine".into(), serde_json::json!([a, b]));
            for part in [a, b] {
                let modules = serde_json::json!(["query", "output"]);
                if part != "bitfit" {
                    keys.insert(format!("{part}.target_modules"), modules);
                }
                match part {
                    "ia3" => drop(keys.insert(
                        "ia3.feedforward_modules".into(),
                        serde_json::json!(["output"]),
                    )),
                    "lora" | "dora" => drop(keys.insert(format!("{part}.rank"), 3.into())),
                    _ => {}
                }
            }
            let resolved = methods::resolve_values("mam", keys).unwrap();
            let method = build(&resolved, &frozen, 1);
            perturb(&*method);
            let unmerged = evaluated(&*method, &frozen, &examples());
            let merged = method.merge(&frozen).unwrap();
            let d = largest_difference(&evaluated(&HeadOnly, &merged, &examples()), &unmerged);
            assert!(d < 1e-5, "{a} + {b}: {d}");
            compared += 1;
        }
    }
    assert_eq!(compared, 10);
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

/// The value of a formula of names, numbers, `+`, `·` and brackets.
fn value(formula: &str, variables: &dyn Fn(&str) -> usize) -> usize {
    fn sum(tokens: &mut &[String], variables: &dyn Fn(&str) -> usize) -> usize {
        let mut total = product(tokens, variables);
        while tokens.first().is_some_and(|t| t == "+") {
            *tokens = &tokens[1..];
            total += product(tokens, variables);
        }
        total
    }
    fn product(tokens: &mut &[String], variables: &dyn Fn(&str) -> usize) -> usize {
        let mut total = factor(tokens, variables);
        while tokens.first().is_some_and(|t| t == "·") {
            *tokens = &tokens[1..];
            total *= factor(tokens, variables);
        }
        total
    }
    fn factor(tokens: &mut &[String], variables: &dyn Fn(&str) -> usize) -> usize {
        let first = tokens[0].clone();
        *tokens = &tokens[1..];
        if first == "(" {
            let inner = sum(tokens, variables);
            assert_eq!(tokens[0], ")");
            *tokens = &tokens[1..];
            return inner;
        }
        first.parse().unwrap_or_else(|_| variables(&first))
    }
    let tokens: Vec<String> = formula
        .replace('(', " ( ")
        .replace(')', " ) ")
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    let mut rest = tokens.as_slice();
    let value = sum(&mut rest, variables);
    assert!(rest.is_empty(), "{formula}: {rest:?} is left over");
    value
}

/// What the names in a registry entry's formula stand for.
fn variable(name: &str, resolved: &Resolved, frozen: &Backbone) -> usize {
    let config = &resolved.config;
    let number = |key: &str| config[key].as_f64().unwrap();
    let h = frozen.config().hidden;
    match name {
        "H" => h,
        "I" => frozen.config().intermediate,
        "L" => frozen.config().layers,
        "backbone" => frozen.parameters() - (h * h + h),
        "b" => {
            let key = config.keys().find(|k| k.ends_with("reduction_factor"));
            (h as f64 / number(key.unwrap())) as usize
        }
        "w" => config["width"].as_u64().map_or(h, |w| w as usize),
        key => match &config[key] {
            serde_json::Value::Array(list) => list.len(),
            _ => number(key) as usize,
        },
    }
}

fn count(method: &dyn PeftMethod) -> usize {
    method.vars().iter().map(|(_, v)| v.elem_count()).sum()
}

#[test]
fn parameter_counts_equal_the_functions_and_the_formulas_of_the_registry() {
    let frozen = backbone();
    for entry in registry::ALL {
        let resolved = resolve(entry.name, &[]).over(frozen.config());
        let documented = value(entry.parameters, &|name| variable(name, &resolved, &frozen));
        let computed = resolved.parameters(&frozen).unwrap();
        assert_eq!(
            documented as f64, computed,
            "{}: {}",
            entry.name, entry.parameters
        );
    }
    for case in everywhere() {
        let counted = count(&*build(&case.resolved, &case.frozen, 1)) as f64;
        let computed = case.resolved.parameters(&case.frozen).unwrap();
        assert_eq!(computed, counted, "{}", case.said);
    }
}

#[test]
fn parameter_counts_of_variants_equal_their_closed_forms() {
    let frozen = backbone();
    let (h, l, i) = (HIDDEN, LAYERS, 24);
    let bottleneck = h / 4;
    let adapter = 2 * h * bottleneck + bottleneck + h;
    // Width 6, five rows of an embedding, a second layer that makes keys and values of every layer.
    let prefix_mlp = 5 * h + (6 * h + 6) + 2 * l * (6 * h + h);
    // Four gates from the layer's input and from its last output, with two biases, in two directions.
    let lstm_layer = |input: usize| 2 * (4 * 6 * input + 4 * 6 * 6 + 2 * 4 * 6);
    for (case, resolved) in cases() {
        let Some((method, variant)) = case.split_once(' ') else {
            continue;
        };
        let expected = match (method, variant) {
            ("lora", "layers=[2]") => 2 * 3 * 2 * h,
            ("lora", v) if v.starts_with("rank_pattern") => (l * 2 * 3 - 1) * 2 * h,
            ("lora", v) if v.starts_with("target_modules=[encoder") => (l + 1) * 3 * 2 * h,
            ("lora", v) if v.starts_with("target_modules") => l * 3 * (4 * 2 * h + 2 * (h + i)),
            ("lora", _) => l * 2 * 3 * 2 * h,
            ("prompt_tuning", _) => 5 * h,
            ("adapter", "activation=gelu") => 2 * l * adapter,
            ("adapter", "drop_layers=1") => 2 * (l - 1) * adapter,
            ("adapter", _) => l * adapter,
            ("ia3", _) => l * (h + h + i + i),
            ("prefix_tuning", "positions=kept") => 5 * 2 * l * h,
            ("prefix_tuning", _) => prefix_mlp,
            ("p_tuning", "encoder=lstm") => {
                let head = 12 * 12 + 12 + 12 * h + h;
                5 * h + lstm_layer(h) + lstm_layer(12) + head
            }
            ("p_tuning", _) => 5 * h + (6 * h + 6) + (6 * 6 + 6) + (6 * h + h),
            ("mam", _) => {
                let width = 512;
                let prefix = 5 * h + (width * h + width) + 2 * l * (width * h + h);
                prefix + l * (2 * h * 8 + 8 + h)
            }
            (other, _) => panic!("{other} has no closed form for its variant here: add one"),
        };
        assert_eq!(count(&*build(&resolved, &frozen, 1)), expected, "{case}");
    }
}

#[test]
fn what_is_shipped_is_what_is_trained_but_for_a_reparametrisation() {
    for Case {
        frozen,
        name: case,
        said,
        resolved,
    } in everywhere()
    {
        let method = build(&resolved, &frozen, 1);
        let names = |vars: Vec<(String, Var)>| vars.into_iter().map(|(n, _)| n).collect::<Vec<_>>();
        let shipped = method.shipped().unwrap();
        let trained_names = names(method.vars());
        match case.as_str() {
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
fn the_default_configurations_have_the_published_counts_at_hidden_size_384() {
    let config = Config {
        hidden: 384,
        heads: 12,
        intermediate: 16,
        layers: 6,
        description: backbone::Description::post_norm(12, 384),
        ..backbone().config().clone()
    };
    let frozen = Backbone::random(config, &mut ChaCha8Rng::seed_from_u64(0)).unwrap();
    for (name, expected) in [
        ("prompt_tuning", 7_680),
        ("lora", 73_728),
        ("adapter", 226_080),
    ] {
        let resolved = methods::resolve(name, &BTreeMap::new()).unwrap();
        assert_eq!(count(&*build(&resolved, &frozen, 1)), expected, "{name}");
    }
}

#[test]
fn the_same_seed_gives_the_same_bits_and_another_seed_does_not() {
    for Case {
        frozen,
        name: case,
        said,
        resolved,
    } in everywhere()
    {
        let digest = |seed| {
            let vars = build(&resolved, &frozen, seed).vars();
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
        let drawn = !fixed.iter().any(|name| case.starts_with(name))
            && !["text", "pissa", "olora"]
                .iter()
                .any(|i| case.ends_with(&format!("init={i}")))
            && case != "random_features";
        assert_eq!(digest(1) != digest(2), drawn, "{said}");
    }
}

#[test]
fn a_packed_batch_equals_one_example_at_a_time_in_any_order() {
    for Case {
        frozen,
        said,
        resolved,
        ..
    } in everywhere()
    {
        let method = build(&resolved, &frozen, 1);
        perturb(&*method);
        let together = evaluated(&*method, &frozen, &examples());
        let alone: Vec<_> = examples()
            .into_iter()
            .flat_map(|e| evaluated(&*method, &frozen, &[e]))
            .collect();
        assert!(largest_difference(&together, &alone) < 1e-6, "{said}");
        let mut reversed: Vec<_> = examples();
        reversed.reverse();
        let mut reversed = evaluated(&*method, &frozen, &reversed);
        reversed.reverse();
        assert!(largest_difference(&together, &reversed) < 1e-6, "{said}");
    }
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
    assert!(largest_difference(&training.to_vec2().unwrap(), &evaluation) > 1e-3);
    // In evaluation only the last layer's adapters are left.
    let upper: BTreeMap<_, _> = all
        .into_iter()
        .filter(|(name, _)| name.starts_with("encoder.2"))
        .map(|(name, var)| (name, var.as_detached_tensor()))
        .collect();
    methods::restore(&always.vars(), &upper).unwrap();
    assert_eq!(evaluated(&*always, &frozen, &examples()), evaluation);
}

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
fn the_bare_backbone_is_the_head_only_method() {
    let frozen = backbone();
    let bare: Vec<Vec<f32>> = frozen
        .pooled(&packed(&examples()), &NoHooks, Phase::Eval)
        .unwrap()
        .to_vec2()
        .unwrap();
    assert_eq!(evaluated(&HeadOnly, &frozen, &examples()), bare);
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

/// A case's name, its method, and the examples that are its own.
type Neighbour = (String, Box<dyn PeftMethod>, Vec<Vec<u32>>);

/// All methods that share the frozen backbone, each moved away from its start, with a few examples each.
fn neighbours(frozen: &Backbone) -> Vec<Neighbour> {
    let mut all = cases_over(frozen);
    all.retain(|(_, resolved)| resolved.check(frozen.config()).is_ok());
    all.push((
        "prompt_tuning of another length".into(),
        resolve("prompt_tuning", &[("virtual_tokens", "9")]),
    ));
    all.into_iter()
        .enumerate()
        .map(|(i, (case, resolved))| {
            let method = build(&resolved, frozen, i as u64);
            perturb(&*method);
            let own = (0..1 + i % 3)
                .map(|j| {
                    let length = 2 + (7 * i + 5 * j) as u32 % 23;
                    (0..length).map(|t| (t * 11 + i as u32) % 40).collect()
                })
                .collect();
            (case, method, own)
        })
        .filter(|(_, method, _)| method.backbone().is_none())
        .collect()
}

fn mixed(frozen: &Backbone, all: &[&Neighbour]) -> Vec<Vec<f32>> {
    let hooks = Mixed::new(
        all.iter()
            .map(|(_, method, own)| (&**method as &dyn Hooks, own.len())),
    );
    let examples: Vec<Vec<u32>> = all.iter().flat_map(|(.., own)| own.clone()).collect();
    let rows =
        kernels::without_gradients(|| frozen.pooled(&packed(&examples), &hooks, Phase::Eval));
    rows.unwrap().to_vec2().unwrap()
}

#[test]
fn examples_of_all_methods_in_one_batch_get_what_they_get_alone() {
    let own = backbones().into_iter();
    let by_mean = backbones()
        .into_iter()
        .map(|b| b.with_pooling(Pooling::Mean).unwrap());
    for frozen in own.chain(by_mean) {
        let pooling = frozen.pooling();
        let all = neighbours(&frozen);
        assert!(all.len() + 2 >= registry::ALL.len());
        let together = mixed(&frozen, &all.iter().collect::<Vec<_>>());
        let mut first = 0;
        for (case, method, own) in &all {
            let alone = evaluated(&**method, &frozen, own);
            let rows = &together[first..first + own.len()];
            let difference = largest_difference(rows, &alone);
            // The reference path's sums, candle's own, depend on the batch: √k roundings of half an epsilon for a product of
            // k ≤ 64 terms, and twelve products one behind the other. The fast path is asked for equal bits below.
            let bound = (12.0f32 * 64.0).sqrt() * f32::EPSILON / 2.0;
            assert!(
                difference <= bound,
                "{case}, {}: {difference}",
                pooling.name()
            );
            if !kernels::reference_path() {
                assert_eq!(rows, alone, "{case}, {}: other bits", pooling.name());
            }
            first += own.len();
        }
        assert_eq!(together.len(), first);
    }
}

#[test]
fn a_neighbour_in_the_batch_changes_no_bit() {
    kernels::with_reference_path(false, || {
        let frozen = backbone();
        let all = neighbours(&frozen);
        let of = |all: &[&Neighbour], case: &str| {
            let before = all.iter().take_while(|(name, ..)| name != case);
            let first: usize = before.map(|(.., own)| own.len()).sum();
            let own = all.iter().find(|(name, ..)| name == case).unwrap().2.len();
            mixed(&frozen, all)[first..first + own].to_vec()
        };
        for (left_out, case) in [
            ("lora", "adapter"),
            ("prompt_tuning", "lora"),
            ("head_only", "prompt_tuning"),
        ] {
            let with: Vec<_> = all.iter().collect();
            let without: Vec<_> = all.iter().filter(|(name, ..)| name != left_out).collect();
            let reversed: Vec<_> = all.iter().rev().collect();
            assert_eq!(
                of(&with, case),
                of(&without, case),
                "{case} without {left_out}"
            );
            assert_eq!(
                of(&with, case),
                of(&reversed, case),
                "{case} in another order"
            );
        }
    });
}

#[test]
fn a_mixed_batch_is_refused_in_training_and_when_its_groups_do_not_fit() {
    let frozen = backbone();
    let hooks = |n: usize| Mixed::new([(&HeadOnly as &dyn Hooks, 1), (&HeadOnly as &dyn Hooks, n)]);
    let batch = packed(&examples());
    let rng = RefCell::new(ChaCha8Rng::seed_from_u64(9));
    let training = frozen
        .pooled(&batch, &hooks(3), Phase::Train(&rng))
        .unwrap_err();
    assert!(training.to_string().contains("not trained"), "{training}");
    let short = frozen.pooled(&batch, &hooks(2), Phase::Eval).unwrap_err();
    assert!(
        short.to_string().contains("3 examples but the batch has 4"),
        "{short}"
    );
    assert!(frozen.pooled(&batch, &hooks(3), Phase::Eval).is_ok());
}
/// A backbone in f64 with room for examples whose lengths differ a hundredfold.
fn precise() -> Backbone {
    let config = Config {
        positions: 112,
        ..backbone().config().clone()
    };
    let random = Backbone::random(config, &mut ChaCha8Rng::seed_from_u64(4)).unwrap();
    let larger = random.map(&mut |name, t| {
        let t = t.to_dtype(candle_core::DType::F64)?;
        Ok(if name.contains("LayerNorm") {
            t
        } else {
            ((t * 10.0)? + 0.01)?
        })
    });
    larger.unwrap().with_pooling(Pooling::Cls).unwrap()
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
                perturb_precisely(&*method);
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

fn flat(t: &Tensor) -> Vec<f64> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

fn perturb_precisely(method: &dyn PeftMethod) {
    for (i, (_, var)) in method.vars().iter().enumerate() {
        let noise: Vec<f64> = (0..var.elem_count())
            .map(|j| 0.1 * ((i * 31 + j * 7) as f64).sin())
            .collect();
        let noise = Tensor::from_vec(noise, var.shape(), var.device()).unwrap();
        var.set(&(var.as_tensor() + noise).unwrap().detach())
            .unwrap();
    }
}
