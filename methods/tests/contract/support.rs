//! What the contract's tests share: small backbones of each kind, every method with its variants, and how they compute.

use std::{cell::RefCell, collections::BTreeMap};

use backbone::{Activation, Architecture, Backbone, Batch, Config, Phase, Pooling};
use candle_core::{DType, Tensor, Var, backprop::GradStore};
use kernels::{AdamWStep, Moments};
use methods::{Context, PeftMethod, Resolved, Vocabulary, registry};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use crate::methods;

pub const HIDDEN: usize = 16;

pub const LAYERS: usize = 3;

pub fn backbone() -> Backbone {
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
pub fn larger(random: &Backbone) -> Backbone {
    let larger = random.map(&mut |name, t| {
        Ok(match name.to_lowercase().contains("norm") {
            true => t,
            false => ((t * 10.0)? + 0.01)?,
        })
    });
    larger.unwrap()
}

/// An encoder with norms before the sublayers, rotary positions and local attention; decoders with grouped heads, with biases
/// at query, key and value only, with norms over queries and keys.
pub fn of(architecture: Architecture) -> Backbone {
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
pub fn backbones() -> Vec<Backbone> {
    let mut all = vec![backbone()];
    all.extend(
        [
            Architecture::ModernBert,
            Architecture::Llama,
            Architecture::Qwen2,
            Architecture::Qwen3,
        ]
        .map(of),
    );
    all
}

/// A method with what it computes over a backbone.
pub struct Case {
    pub frozen: Backbone,
    /// The method with its variant.
    pub name: String,
    /// The family before it.
    pub said: String,
    pub resolved: Resolved,
}

impl Case {
    /// The method at its start.
    pub fn built(&self) -> Box<dyn PeftMethod> {
        build(&self.resolved, &self.frozen, 1)
    }

    /// The method moved away from its start.
    pub fn perturbed(&self) -> Box<dyn PeftMethod> {
        let method = self.built();
        perturb(&*method);
        method
    }
}

/// Every method with its variants over every kind of backbone, but for those that say why not.
pub fn everywhere() -> Vec<Case> {
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
                        !["bert", "qwen2"].contains(&family)
                            && why.to_string().contains("layer_norm"),
                        "{why}"
                    );
                }
            }
        }
    }
    all
}

pub struct Letters;

impl Vocabulary for Letters {
    fn encode(&self, text: &str) -> Result<Vec<u32>, String> {
        Ok(text.bytes().map(|b| u32::from(b) % 40).collect())
    }

    fn ordinary(&self) -> Vec<u32> {
        (5..40).collect()
    }
}

/// Small values for keys whose defaults do not fit 16 hidden units.
pub fn resolve(name: &str, more: &[(&str, &str)]) -> Resolved {
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

pub fn build(resolved: &Resolved, backbone: &Backbone, seed: u64) -> Box<dyn PeftMethod> {
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
pub fn loaded(
    resolved: &Resolved,
    frozen: &Backbone,
    method: &dyn PeftMethod,
) -> Box<dyn PeftMethod> {
    let shipped = method.shipped().unwrap().into_iter().collect();
    resolved.load(frozen, shipped).unwrap()
}

/// Every method with its variants that compute something else.
pub fn cases() -> Vec<(String, Resolved)> {
    cases_over(&backbone())
}

/// The same with the names that the linear layers of a backbone have.
pub fn cases_over(frozen: &Backbone) -> Vec<(String, Resolved)> {
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

pub fn examples() -> Vec<Vec<u32>> {
    vec![
        vec![2, 9, 31, 4],
        vec![2, 3],
        (0..30).map(|i| i * 11 % 40).collect(),
        vec![7],
    ]
}

pub fn packed(examples: &[Vec<u32>]) -> Batch {
    let mut offsets = vec![0];
    offsets.extend(examples.iter().scan(0, |end, e| {
        *end += e.len();
        Some(*end)
    }));
    let ids: Vec<u32> = examples.concat();
    let types = ids.iter().map(|i| i % 2).collect();
    Batch::new(ids, types, offsets).unwrap()
}

pub fn pooled(
    method: &dyn PeftMethod,
    frozen: &Backbone,
    batch: &Batch,
    phase: Phase<'_>,
) -> Tensor {
    method
        .backbone()
        .unwrap_or(frozen)
        .pooled(batch, method, phase)
        .unwrap()
}

pub fn evaluated(
    method: &dyn PeftMethod,
    frozen: &Backbone,
    examples: &[Vec<u32>],
) -> Vec<Vec<f64>> {
    values(&pooled(method, frozen, &packed(examples), Phase::Eval))
}

/// The rows of a matrix.
pub fn values(t: &Tensor) -> Vec<Vec<f64>> {
    t.to_dtype(DType::F64).unwrap().to_vec2().unwrap()
}

/// All values of a tensor.
pub fn flat(t: &Tensor) -> Vec<f64> {
    let t = t.to_dtype(DType::F64).unwrap();
    t.flatten_all().unwrap().to_vec1().unwrap()
}

/// The same weights in f64.
pub fn in_f64(backbone: &Backbone) -> Backbone {
    let precise = backbone.map(&mut |_, t| Ok(t.to_dtype(DType::F64)?));
    precise.unwrap()
}

pub fn gradients(method: &dyn PeftMethod, frozen: &Backbone) -> GradStore {
    let rng = RefCell::new(ChaCha8Rng::seed_from_u64(9));
    let rows = pooled(method, frozen, &packed(&examples()), Phase::Train(&rng));
    kernels::backward(&kernels::cross_entropy(&rows, &[0, 1, 2, 3]).unwrap()).unwrap()
}

pub fn step(vars: &[(String, Var)], moments: &mut [Moments], grads: &GradStore, number: usize) {
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

pub fn zero_moments(vars: &[(String, Var)]) -> Vec<Moments> {
    vars.iter()
        .map(|(_, v)| Moments::zeros(v.elem_count()))
        .collect()
}

/// Moves every variable away from its start, so that nothing is the identity any more.
pub fn perturb(method: &dyn PeftMethod) {
    for (i, (_, var)) in method.vars().iter().enumerate() {
        let noise: Vec<f64> = (0..var.elem_count())
            .map(|j| 0.1 * ((i * 31 + j * 7) as f64).sin())
            .collect();
        let noise = Tensor::from_vec(noise, var.shape(), var.device()).unwrap();
        let noise = noise.to_dtype(var.dtype()).unwrap();
        var.set(&(var.as_tensor() + noise).unwrap().detach())
            .unwrap();
    }
}

pub fn largest_difference(a: &[Vec<f64>], b: &[Vec<f64>]) -> f64 {
    assert_eq!(a.len(), b.len());
    let scale = b.iter().flatten().fold(0f64, |m, v| m.max(v.abs()));
    a.iter()
        .flatten()
        .zip(b.iter().flatten())
        .fold(0f64, |m, (x, y)| m.max((x - y).abs()))
        / scale
}

pub fn count(method: &dyn PeftMethod) -> usize {
    method.vars().iter().map(|(_, v)| v.elem_count()).sum()
}
