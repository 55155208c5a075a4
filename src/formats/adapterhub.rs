//! AdapterHub: `adapter_config.json` with a `config` of its own schema, `adapter.safetensors`, and a head in
//! `head_config.json` and `model_head.safetensors`.
//!
//! A `config` is a bottleneck (with hypercomplex layers: Compacter), a prefix, or a union of these: a combination.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context, Result, bail, ensure};
use backbone::{Activation, Architecture, HeadKind, Linear, Pooling};
use serde_json::{Map, Value, json};

use super::{
    ADAPTER_CONFIG, Export, Foreign, Method, Saved, Tensors, keys::Keys, layout, read_tensors,
    separate_head, write_json, write_tensors,
};
use crate::prepare::LoadedBackbone;

const WEIGHTS: &str = "adapter.safetensors";
const HEAD_CONFIG: &str = "head_config.json";
const HEAD: &str = "model_head.safetensors";

/// Our methods that the format holds, and whether it does with the defaults.
const METHODS: [(&str, bool); 4] = [
    ("adapter", true),
    ("compacter", true),
    ("mam", true),
    // It moves the text's positions by default.
    ("prefix_tuning", false),
];

/// Whether a method that is trained with its defaults can be written.
pub(super) fn writes(method: &str) -> bool {
    METHODS.contains(&(method, true))
}

/// Keys of a bottleneck's configuration that say where adapters are and how they are wired, by our placement.
const PLACEMENTS: [(&str, [(&str, bool); 7]); 3] = [
    (
        "houlsby",
        [
            ("mh_adapter", true),
            ("output_adapter", true),
            ("original_ln_before", false),
            ("original_ln_after", true),
            ("residual_before_ln", true),
            ("adapter_residual_before_ln", false),
            ("is_parallel", false),
        ],
    ),
    (
        "pfeiffer",
        [
            ("mh_adapter", false),
            ("output_adapter", true),
            ("original_ln_before", true),
            ("original_ln_after", true),
            ("residual_before_ln", true),
            ("adapter_residual_before_ln", false),
            ("is_parallel", false),
        ],
    ),
    (
        "parallel",
        [
            ("mh_adapter", false),
            ("output_adapter", true),
            ("original_ln_before", false),
            ("original_ln_after", true),
            ("residual_before_ln", true),
            ("adapter_residual_before_ln", false),
            ("is_parallel", true),
        ],
    ),
];

/// Whether our adapters can be placed so.
fn exists(placement: &str) -> bool {
    let overrides = [("placement".to_owned(), placement.to_owned())];
    methods::resolve("adapter", &overrides.into()).is_ok()
}

/// The library's own values of keys that an old folder may lack.
const DEFAULTS: [(&str, bool); 3] = [
    ("original_ln_after", true),
    ("residual_before_ln", true),
    ("original_ln_before", false),
];

/// Keys of hypercomplex layers that change what is computed, with the values of what we compute.
const COMPACTER: [(&str, bool); 5] = [
    ("factorized_phm_W", true),
    ("shared_W_phm", false),
    ("shared_phm_rule", true),
    ("factorized_phm_rule", false),
    ("phm_bias", true),
];

/// A bottleneck's parts, ours and theirs; with hypercomplex layers three for each matrix and its bias.
const PARTS: [(&str, &str); 10] = [
    ("down.weight", "adapter_down.0.weight"),
    ("down.bias", "adapter_down.0.bias"),
    ("up.weight", "adapter_up.weight"),
    ("up.bias", "adapter_up.bias"),
    ("down.W_left", "adapter_down.0.W_left"),
    ("down.W_right", "adapter_down.0.W_right"),
    ("down.b", "adapter_down.0.b"),
    ("up.W_left", "adapter_up.W_left"),
    ("up.W_right", "adapter_up.W_right"),
    ("up.b", "adapter_up.b"),
];

/// The one tensor that hypercomplex layers share.
const PHM_RULE: &str = "phm_rule";

/// The module that holds a layer's adapters of a sublayer (ours).
fn module(architecture: Architecture, layer: usize, sublayer: &str) -> String {
    match (architecture, sublayer) {
        (Architecture::DistilBert, "attention") => {
            format!("transformer.layer.{layer}.attention_adapters")
        }
        (Architecture::DistilBert, _) => format!("transformer.layer.{layer}.output_adapters"),
        (_, "attention") => format!("encoder.layer.{layer}.attention.output"),
        (_, _) => format!("encoder.layer.{layer}.output"),
    }
}

/// The name under which a model keeps the prefixes of its self-attention.
fn prefix_place(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::DistilBert => "self",
        _ => "self_prefix",
    }
}

/// A folder's tensors on their way in.
struct Reading<'a> {
    architecture: Architecture,
    /// The adapter's name.
    name: String,
    loaded: Option<&'a LoadedBackbone>,
    /// Tensors that nobody has taken yet, without the architecture's prefix.
    tensors: Tensors,
}

pub(super) fn read(
    folder: &Path,
    mut keys: Keys,
    loaded: Option<&LoadedBackbone>,
) -> Result<Saved> {
    let backbone: Option<String> = keys.take("model_name")?;
    let model_type: String = keys.take("model_type")?.context("model_type is missing")?;
    let architecture = architecture(&model_type)?;
    let name: String = keys.take("name")?.context("name is missing")?;
    keys.without_effect(&["hidden_size", "model_class", "version"]);
    let inner = keys.inner("config")?;
    keys.finish()?;
    let own = format!("{}.", architecture.name());
    let tensors = read_tensors(folder, WEIGHTS, "pytorch_adapter.bin")?.tensors;
    let mut reading = Reading {
        architecture,
        name,
        loaded,
        tensors: tensors
            .into_iter()
            .map(|(path, t)| (path.strip_prefix(&own).unwrap_or(&path).to_owned(), t))
            .collect(),
    };
    let method = read_method(&mut reading, inner)?;
    if let Some(path) = reading.tensors.keys().next() {
        bail!(
            "{WEIGHTS}: tensor '{path}' belongs to nothing that is computed here; it is not ignored"
        );
    }
    let (pooling, head, head_tensors, labels) = match separate_head::read(folder)? {
        Some(separate) => (
            separate.pooling,
            separate.head,
            separate.tensors,
            Some(separate.labels),
        ),
        None => read_head(folder, loaded)?,
    };
    Foreign {
        architecture,
        backbone,
        method,
        pooling,
        head,
        head_tensors,
        labels,
        virtual_tokens: 0,
        loaded,
    }
    .finish()
}

fn architecture(model_type: &str) -> Result<Architecture> {
    match model_type {
        "bert" => Ok(Architecture::Bert),
        "roberta" | "xlm-roberta" => Ok(Architecture::Roberta),
        "distilbert" => Ok(Architecture::DistilBert),
        other => {
            bail!("model_type '{other}' is not supported; supported: bert, roberta, distilbert")
        }
    }
}

fn read_method(reading: &mut Reading<'_>, mut keys: Keys) -> Result<Method> {
    let kind: Option<String> = keys.take("architecture")?;
    let method = match kind.as_deref() {
        None => read_bottleneck(reading, &mut keys)?,
        Some("prefix_tuning") => read_prefix(reading, &mut keys)?,
        Some("union") => read_union(reading, &mut keys)?,
        Some(other) => bail!(
            "architecture '{other}' is not supported; supported: bottleneck adapters, prefix_tuning, and a union of both"
        ),
    };
    keys.finish()?;
    Ok(method)
}

/// A prefix and a bottleneck together.
fn read_union(reading: &mut Reading<'_>, keys: &mut Keys) -> Result<Method> {
    let (mut names, mut config, mut tensors) = (Vec::new(), Map::new(), Tensors::new());
    for part in keys.list("configs")? {
        let part = read_method(reading, part)?;
        names.push(part.name);
        tensors.extend(part.tensors);
        for (key, value) in part.config {
            let all = json!("all");
            // Without the backbone it is not known which layers are all of them.
            if key == "layers" && (value == all || reading.loaded.is_none()) {
                continue;
            }
            config.insert(format!("{}.{key}", part.name), value);
        }
    }
    let mut sorted = names.clone();
    sorted.sort_unstable();
    ensure!(
        sorted == ["adapter", "prefix_tuning"],
        "a union of {} is not supported; supported: a prefix and a bottleneck adapter (MAMConfig)",
        names.join(", ")
    );
    config.insert("combine".into(), json!(names));
    Ok(Method {
        name: "mam",
        config,
        tensors,
    })
}

/// A prefix, or what makes it: then the rows that come out are kept.
fn read_prefix(reading: &mut Reading<'_>, keys: &mut Keys) -> Result<Method> {
    keys.only("encoder_prefix", &[true.into()])?;
    // (The tensors tell whether it is flat: the library leaves the key as it was when it ejects the rows.)
    keys.without_effect(&[
        "bottleneck_size",
        "cross_prefix",
        "dropout",
        "flat",
        "init_weights_seed",
        "shared_gating",
    ]);
    let activation = activation(keys)?;
    let tokens: usize = keys
        .take("prefix_length")?
        .context("prefix_length is missing")?;
    let at = format!(
        "prefix_tuning.prefix_tunings.{}.{}.",
        reading.name,
        prefix_place(reading.architecture)
    );
    let (mut own, mut aliases) = (Tensors::new(), Vec::new());
    for (path, tensor) in std::mem::take(&mut reading.tensors) {
        // Every layer names the one prefix of the model once more.
        let alias = path.split_once(".prefix_tuning.pool.");
        if let Some(part) = path.strip_prefix(&at) {
            own.insert(part.to_owned(), tensor);
        } else if let Some((_, rest)) = alias {
            aliases.push((format!("prefix_tuning.{rest}"), tensor));
        } else {
            reading.tensors.insert(path, tensor);
        }
    }
    for (path, tensor) in aliases {
        let original = path.strip_prefix(&at).and_then(|part| own.get(part));
        let flat = |t: &candle_core::Tensor| t.flatten_all()?.to_vec1::<f32>();
        let same = match original {
            Some(original) => flat(original)? == flat(&tensor)?,
            None => false,
        };
        ensure!(
            same,
            "{WEIGHTS}: a layer's tensor '{path}' differs from the model's"
        );
    }
    let mut take = |part: &str| {
        let tensor = own.remove(part);
        tensor.with_context(|| format!("{WEIGHTS}: tensor '{at}{part}' is missing"))
    };
    let rows = match take("control_trans") {
        Ok(flat) => flat,
        Err(_) => {
            let embedding = take("wte.weight")?;
            let mut layer = |i: usize| -> Result<Linear> {
                let weight = take(&format!("control_trans.{i}.weight"))?;
                let bias = take(&format!("control_trans.{i}.bias"))?;
                Linear::new(weight, Some(bias))
                    .with_context(|| format!("{WEIGHTS}: tensors '{at}control_trans.{i}.*'"))
            };
            let (first, second) = (layer(0)?, layer(2)?);
            let inner = first.forward_activated(&embedding, activation);
            let rows = inner.and_then(|inner| second.forward(&inner));
            rows.with_context(|| format!("{WEIGHTS}: the tensors '{at}*' do not fit together"))?
        }
    };
    if let Some(part) = own.keys().next() {
        bail!("{WEIGHTS}: tensor '{at}{part}' belongs to no prefix; it is not ignored");
    }
    let shape = rows.dims().to_vec();
    let rows = rows.reshape((tokens, ())).with_context(|| {
        format!("the prefix has shape {shape:?}, but prefix_length is {tokens}")
    })?;
    let config =
        json!({ "virtual_tokens": tokens, "reparametrisation": "none", "positions": "kept" });
    Ok(Method {
        name: "prefix_tuning",
        config: config.as_object().cloned().unwrap_or_default(),
        tensors: [("prefix".to_owned(), rows)].into(),
    })
}

fn activation(keys: &mut Keys) -> Result<Activation> {
    let name: String = keys
        .take("non_linearity")?
        .context("non_linearity is missing")?;
    serde_json::from_value(json!(name.to_lowercase()))
        .with_context(|| format!("non_linearity '{name}'"))
}

fn read_bottleneck(reading: &mut Reading<'_>, keys: &mut Keys) -> Result<Method> {
    let (architecture, loaded) = (reading.architecture, reading.loaded);
    let mut found = Map::new();
    for (key, _) in PLACEMENTS[0].1 {
        let default = DEFAULTS.iter().find(|(k, _)| *k == key);
        let value: Option<Value> = keys.take(key)?;
        let value = value.unwrap_or_else(|| default.is_some_and(|(_, v)| *v).into());
        found.insert(key.to_owned(), value);
    }
    let placement = PLACEMENTS.iter().find(|(placement, wiring)| {
        let same = |(k, v): &(&str, bool)| found.get(*k) == Some(&(*v).into());
        wiring.iter().all(same) && exists(placement)
    });
    let Some((placement, _)) = placement else {
        bail!(
            "adapters that are wired {} are not supported; supported: the wirings of DoubleSeqBnConfig (Houlsby) and \
             SeqBnConfig (Pfeiffer)",
            Value::from(found)
        );
    };
    let phm: bool = keys.take("phm_layer")?.unwrap_or(false);
    ensure!(
        !phm || *placement == "houlsby",
        "hypercomplex layers (phm_layer) that are wired as in '{placement}' are not supported; supported: CompacterConfig"
    );
    let scaling: Value = keys.take("scaling")?.unwrap_or(json!(1.0));
    let parallel = *placement == "parallel";
    ensure!(
        scaling.as_f64() == Some(1.0) || parallel && scaling.is_number(),
        "scaling {scaling} is not supported; supported: 1.0, and any number for parallel adapters"
    );
    let phm_dim: Option<usize> = keys.take("phm_dim")?;
    if phm {
        for (key, value) in COMPACTER {
            keys.only(key, &[value.into()])?;
        }
        keys.only("phm_rank", &[1.into()])?;
    }
    keys.without_effect(&[
        "dropout",
        "stochastic_depth",
        "init_weights",
        "init_weights_seed",
        // Of hypercomplex layers, which phm_layer turns on; those that change something are read above.
        "factorized_phm_W",
        "factorized_phm_rule",
        "hypercomplex_nonlinearity",
        "learn_phm",
        "phm_bias",
        "phm_c_init",
        "phm_init_range",
        "phm_rank",
        "shared_W_phm",
        "shared_phm_rule",
        // Of invertible adapters, which inv_adapter turns on.
        "inv_adapter_reduction_factor",
    ]);
    let activation = activation(keys)?;
    let reduction: Value = keys
        .take("reduction_factor")?
        .context("reduction_factor is missing")?;
    let reduction = match reduction.as_object() {
        None => reduction,
        Some(map) => {
            let values: BTreeSet<_> = map.values().map(Value::to_string).collect();
            ensure!(
                values.len() == 1,
                "reduction_factor {reduction}: one per layer is not supported; supported: one number"
            );
            map.values().next().cloned().unwrap_or_default()
        }
    };
    let left_out: BTreeSet<usize> = keys.take("leave_out")?.unwrap_or_default();

    let mut ours = Tensors::new();
    let mut layers = BTreeSet::new();
    for (path, tensor) in std::mem::take(&mut reading.tensors) {
        let layer: Option<usize> = path.split('.').find_map(|s| s.parse().ok());
        let place = layer.and_then(|layer| {
            ["attention", "feed_forward"].into_iter().find_map(|which| {
                let rest = path
                    .strip_prefix(&module(architecture, layer, which))?
                    .strip_prefix(".adapters.")?
                    .strip_prefix(&reading.name)?
                    .strip_prefix('.')?;
                let (part, _) = PARTS.iter().find(|(_, theirs)| *theirs == rest)?;
                Some((layer, format!("encoder.{layer}.{which}.adapter.{part}")))
            })
        });
        if let Some((layer, our_name)) = place {
            layers.insert(layer);
            ours.insert(our_name, tensor);
        } else {
            reading.tensors.insert(path, tensor);
        }
    }
    let name = &reading.name;
    if phm {
        let path = shared(name);
        let rule = reading.tensors.remove(&path);
        let rule = rule.with_context(|| {
            format!("{WEIGHTS}: phm_layer is on, but tensor '{path}' is missing")
        })?;
        ours.insert(PHM_RULE.to_owned(), rule);
    }
    ensure!(!layers.is_empty(), "{WEIGHTS} has no adapter '{name}'");
    if let Some(layer) = layers.iter().find(|l| left_out.contains(l)) {
        bail!("{WEIGHTS} has an adapter in layer {layer}, which leave_out leaves out");
    }
    let all = loaded.is_some_and(|l| {
        left_out.is_empty() && layers.iter().copied().eq(0..l.backbone.config().layers)
    });
    if let (Some(loaded), false) = (loaded, all) {
        let expected =
            (0..loaded.backbone.config().layers).filter(|layer| !left_out.contains(layer));
        ensure!(
            layers.iter().copied().eq(expected),
            "{WEIGHTS} has adapters in the layers {layers:?}, but leave_out is {left_out:?} of the backbone's {}",
            loaded.backbone.config().layers
        );
    }
    let mut config = Map::new();
    config.insert("reduction_factor".into(), reduction);
    config.insert("activation".into(), json!(our_activation(activation)));
    config.insert(
        "layers".into(),
        if all { json!("all") } else { json!(layers) },
    );
    if phm {
        config.insert("phm_dim".into(), json!(phm_dim.unwrap_or(4)));
    } else {
        config.insert("placement".into(), json!(placement));
    }
    if parallel {
        config.insert("scaling".into(), scaling);
    }
    Ok(Method {
        name: if phm { "compacter" } else { "adapter" },
        config,
        tensors: ours,
    })
}

/// Where the tensor that hypercomplex layers share is kept.
fn shared(name: &str) -> String {
    format!("shared_parameters.{name}.{PHM_RULE}")
}

fn our_activation(activation: Activation) -> &'static str {
    match activation {
        Activation::Gelu => "gelu",
        Activation::GeluTanh => "gelu_tanh",
        Activation::Relu => "relu",
        Activation::Swish => "swish",
        Activation::Tanh => "tanh",
    }
}

type Head = (Pooling, HeadKind, Tensors, Option<Vec<String>>);

fn read_head(folder: &Path, loaded: Option<&LoadedBackbone>) -> Result<Head> {
    ensure!(
        folder.join(HEAD_CONFIG).exists(),
        "it has no {HEAD_CONFIG}, so there is nothing to predict with; save it with with_head=True"
    );
    let mut keys = Keys::read(&folder.join(HEAD_CONFIG))?;
    let model_type: String = keys.take("model_type")?.context("model_type is missing")?;
    let architecture = architecture(&model_type)?;
    keys.without_effect(&["hidden_size", "model_class", "model_name", "version"]);
    let name: Option<String> = keys.take("name")?;
    let outer = labels(&mut keys)?;
    let flexible: Option<Map<String, Value>> = keys.take("config")?;
    keys.without_effect(&["num_labels"]);
    keys.finish()?;
    let mut left = read_tensors(folder, HEAD, "pytorch_model_head.bin")?.tensors;
    let Some(flexible) = flexible else {
        // The head of a transformers class. Its pooler is frozen.
        let (pooling, head) = layout::reading(architecture, false);
        let layers = layout::head_layers(architecture, pooling, head).context("no such head")?;
        let tensors = layout::take_head(&mut left, layers, &Tensors::new(), loaded)?;
        return finish_head(left, (pooling, head, tensors, outer));
    };
    let mut keys = Keys::of(&folder.join(HEAD_CONFIG), flexible);
    keys.only("head_type", &["classification".into()])?;
    keys.only("bias", &[true.into()])?;
    keys.without_effect(&["dropout_prob", "num_labels"]);
    let labels = labels(&mut keys)?.or(outer);
    let use_pooler: bool = keys.take("use_pooler")?.unwrap_or(false);
    let layers: usize = keys.take("layers")?.unwrap_or(2);
    let activation: Option<String> = keys.take("activation_function")?;
    keys.finish()?;
    let head = match (layers, activation.as_deref()) {
        (1, _) => HeadKind::Linear,
        (2, Some("tanh")) => HeadKind::DenseTanh,
        (2, Some("relu")) => HeadKind::DenseRelu,
        (layers, activation) => bail!(
            "{HEAD_CONFIG}: a head of {layers} layers with the activation {activation:?} is not supported; supported: \
             one layer, or two with tanh or relu"
        ),
    };
    let pooling = if use_pooler {
        Pooling::Pooler
    } else {
        Pooling::Cls
    };
    let name = name.context("name is missing")?;
    let mut tensors = Tensors::new();
    for (ours, theirs) in flexible_layers(head) {
        for part in ["weight", "bias"] {
            let theirs = format!("heads.{name}.{theirs}.{part}");
            let tensor = left.remove(&theirs);
            let tensor = tensor.with_context(|| format!("{HEAD}: tensor '{theirs}' is missing"))?;
            tensors.insert(format!("{ours}.{part}"), tensor);
        }
    }
    finish_head(left, (pooling, head, tensors, labels))
}

fn finish_head(left: Tensors, head: Head) -> Result<Head> {
    if let Some(name) = left.keys().next() {
        bail!(
            "{HEAD}: tensor '{name}' belongs to nothing that is computed here; it is not ignored"
        );
    }
    Ok(head)
}

/// Places of a head's layers in the library's own head: a dropout before each layer, the activation after the first.
fn flexible_layers(head: HeadKind) -> &'static [(&'static str, usize)] {
    match head {
        HeadKind::Linear => &[("head.output", 1)],
        HeadKind::DenseTanh | HeadKind::DenseRelu => &[("head.dense", 1), ("head.output", 4)],
    }
}

/// Labels in the order of their indices.
fn labels(keys: &mut Keys) -> Result<Option<Vec<String>>> {
    let map: Option<std::collections::BTreeMap<String, usize>> = keys.take("label2id")?;
    let Some(map) = map else { return Ok(None) };
    let mut labels: Vec<_> = map.into_iter().collect();
    labels.sort_by_key(|(_, index)| *index);
    ensure!(
        labels.iter().map(|(_, index)| *index).eq(0..labels.len()),
        "{HEAD_CONFIG}: label2id does not number the labels from 0 on"
    );
    let labels: Vec<String> = labels.into_iter().map(|(label, _)| label).collect();
    Ok((!labels.is_empty()).then_some(labels))
}

/// A method, or a part of a combination, on its way out.
struct Part {
    method: String,
    config: Map<String, Value>,
    /// By our names; then by theirs, without the architecture's prefix.
    tensors: Tensors,
}

impl Part {
    fn key(&self, key: &str) -> &Value {
        self.config.get(key).unwrap_or(&Value::Null)
    }

    /// Refuses a key that the format cannot say.
    fn only(&self, key: &str, accepted: &Value) -> Result<()> {
        let value = self.key(key);
        ensure!(
            value == accepted,
            "{}: {key} {value} cannot be written in the format of AdapterHub; only {accepted} can",
            self.method
        );
        Ok(())
    }
}

/// The method, or the parts of a combination.
fn parts(export: &Export<'_>, tensors: Tensors) -> Result<Vec<Part>> {
    let config = &export.task.config.config;
    let Some(names) = config.get("combine").and_then(Value::as_array) else {
        return Ok(vec![Part {
            method: export.task.config.method.clone(),
            config: config.clone(),
            tensors,
        }]);
    };
    let (prefix, rest): (Tensors, Tensors) = tensors.into_iter().partition(|(n, _)| n == "prefix");
    let names = names.iter().filter_map(Value::as_str);
    let part = |method: &str| {
        let own = format!("{method}.");
        let keys = config.iter();
        let keys = keys.filter_map(|(k, v)| Some((k.strip_prefix(&own)?.to_owned(), v.clone())));
        let resolved = methods::resolve_values(method, keys.collect())?;
        Ok(Part {
            method: method.to_owned(),
            config: resolved.config.as_object().cloned().unwrap_or_default(),
            tensors: if method == "prefix_tuning" {
                prefix.clone()
            } else {
                rest.clone()
            },
        })
    };
    names.map(part).collect()
}

const NAME: &str = "task";

/// Their configuration of a part; its tensors get their names.
fn write_part(part: &mut Part, loaded: &LoadedBackbone) -> Result<Value> {
    match part.method.as_str() {
        "adapter" | "compacter" => write_bottleneck(part, loaded),
        "prefix_tuning" => write_prefix(part, loaded),
        other => {
            let known: Vec<_> = METHODS.iter().map(|(name, _)| *name).collect();
            bail!(
                "method '{other}' cannot be written in the format of AdapterHub; methods that can: {}",
                known.join(", ")
            )
        }
    }
}

fn write_prefix(part: &mut Part, loaded: &LoadedBackbone) -> Result<Value> {
    part.only("positions", &"kept".into())?;
    let place = prefix_place(loaded.backbone.config().architecture);
    let rows = part.tensors.remove("prefix");
    let rows = rows.context("the prefix is missing")?;
    let tokens = rows.dims()[0];
    part.tensors.insert(
        format!("prefix_tuning.prefix_tunings.{NAME}.{place}.control_trans"),
        rows.flatten_all()?,
    );
    Ok(json!({
        "architecture": "prefix_tuning", "flat": true, "prefix_length": tokens, "encoder_prefix": true,
        "cross_prefix": true, "leave_out": [], "bottleneck_size": 512, "non_linearity": "tanh", "dropout": 0.0,
        "use_gating": false, "shared_gating": true,
    }))
}

fn write_bottleneck(part: &mut Part, loaded: &LoadedBackbone) -> Result<Value> {
    let architecture = loaded.backbone.config().architecture;
    let phm = part.method == "compacter";
    let placement = match part.key("placement").as_str() {
        Some(placement) => placement.to_owned(),
        None => "houlsby".to_owned(),
    };
    if !phm && !placement.ends_with("parallel") {
        part.only("scaling", &Value::Null)?;
    }
    // Layers whose adapters are left out in evaluation are left out.
    let dropped: Vec<_> = (0..part.key("drop_layers").as_u64().unwrap_or(0))
        .map(|layer| format!("encoder.{layer}."))
        .collect();
    let (mut tensors, mut layers) = (Tensors::new(), BTreeSet::new());
    for (name, tensor) in std::mem::take(&mut part.tensors) {
        if name == PHM_RULE {
            tensors.insert(shared(NAME), tensor);
            continue;
        }
        if dropped.iter().any(|layer| name.starts_with(layer)) {
            continue;
        }
        let their_name = (|| {
            let (layer, rest) = name.strip_prefix("encoder.")?.split_once('.')?;
            let layer: usize = layer.parse().ok()?;
            let (which, part) = rest.split_once(".adapter.")?;
            let (_, part) = PARTS.iter().find(|(ours, _)| *ours == part)?;
            layers.insert(layer);
            let module = module(architecture, layer, which);
            Some(format!("{module}.adapters.{NAME}.{part}"))
        })();
        let their_name = their_name
            .with_context(|| format!("variable '{name}' has no place in AdapterHub's adapters"))?;
        tensors.insert(their_name, tensor);
    }
    part.tensors = tensors;
    let (_, wiring) = PLACEMENTS
        .iter()
        .find(|(ours, _)| *ours == placement.trim_start_matches("scaled_"))
        .with_context(|| {
            format!("placement '{placement}' has no place in AdapterHub's adapters")
        })?;
    let activation = match part.key("activation").as_str() {
        None if placement == "houlsby" => "swish",
        None => "relu",
        Some("gelu_tanh") => "gelu_new",
        Some(other) => other,
    };
    let scaling = part
        .key("scaling")
        .as_f64()
        .unwrap_or(match placement.as_str() {
            "scaled_parallel" => 4.0,
            _ => 1.0,
        });
    let left_out: Vec<usize> = (0..loaded.backbone.config().layers)
        .filter(|layer| !layers.contains(layer))
        .collect();
    let mut config = json!({
        "non_linearity": activation, "reduction_factor": part.key("reduction_factor"), "leave_out": left_out,
        "ln_before": false, "ln_after": false, "init_weights": "bert", "scaling": scaling, "use_gating": false,
        "inv_adapter": null, "inv_adapter_reduction_factor": null, "cross_adapter": false,
        "dropout": part.key("dropout").as_f64().unwrap_or(0.0), "stochastic_depth": 0.0, "phm_layer": phm,
    });
    for (key, value) in wiring {
        config[*key] = (*value).into();
    }
    if phm {
        config["phm_dim"] = part.key("phm_dim").clone();
        config["phm_rank"] = 1.into();
        for (key, value) in COMPACTER {
            config[key] = value.into();
        }
    }
    Ok(config)
}

pub(super) fn write(export: &Export<'_>, out: &Path) -> Result<Option<String>> {
    let (task, loaded) = (export.task, export.loaded);
    let architecture = loaded.backbone.config().architecture;
    let (pooling, head) = (loaded.backbone.pooling(), task.config.head);
    let (ours, head_tensors) = export.tensors()?;
    let mut parts = parts(export, ours)?;
    let configs = parts.iter_mut().map(|part| write_part(part, loaded));
    let mut configs: Vec<Value> = configs.collect::<Result<_>>()?;
    let config = match configs.len() {
        1 => configs.remove(0),
        _ => json!({ "architecture": "union", "configs": configs }),
    };
    ensure!(
        pooling != Pooling::Mean || export.separate_head,
        "AdapterHub's heads read the first row, not the mean of all rows; train with --set backbone.pooling=cls, or write \
         the head into a file of its own, with the few lines of Python that read it: --separate-head"
    );
    let prefix = match export.separate_head {
        false => format!("{}.", architecture.name()),
        true => String::new(),
    };
    let tensors = parts.into_iter().flat_map(|part| part.tensors);
    let tensors = tensors
        .map(|(name, t)| (format!("{prefix}{name}"), t))
        .collect();
    let family = match architecture {
        Architecture::Bert => "Bert",
        Architecture::Roberta => "Roberta",
        Architecture::DistilBert => "DistilBert",
        other => bail!("AdapterHub: folders over {} are not written", other.name()),
    };
    let common = json!({
        "hidden_size": loaded.backbone.config().hidden,
        "model_class": format!("{family}{}", if export.separate_head { "Model" } else { "AdapterModel" }),
        "model_name": layout::base(loaded).name,
        "model_type": architecture.name(),
        "name": NAME,
    });
    let mut adapter = common.clone();
    adapter["config"] = config;
    write_tensors(&out.join(WEIGHTS), tensors, &[])?;
    write_json(&out.join(ADAPTER_CONFIG), &adapter)?;
    if export.separate_head {
        return separate_head::write(export, out).map(Some);
    }
    let mut tensors = Tensors::new();
    for (ours, theirs) in flexible_layers(head) {
        for part in ["weight", "bias"] {
            let tensor = head_tensors.get(&format!("{ours}.{part}"));
            let tensor = tensor.with_context(|| format!("{ours}.{part} is missing"))?;
            tensors.insert(format!("heads.{NAME}.{theirs}.{part}"), tensor.clone());
        }
    }
    let labels = task.config.labels.iter().enumerate();
    let mut config = common;
    config["config"] = json!({
        "head_type": "classification",
        "layers": flexible_layers(head).len(),
        "activation_function": if head == HeadKind::DenseRelu { "relu" } else { "tanh" },
        "use_pooler": pooling == Pooling::Pooler,
        "bias": true,
        "dropout_prob": null,
        "num_labels": task.config.labels.len(),
        "label2id": labels.map(|(i, l)| (l.clone(), json!(i))).collect::<Map<_, _>>(),
    });
    write_tensors(&out.join(HEAD), tensors, &[])?;
    write_json(&out.join(HEAD_CONFIG), &config)?;
    Ok(None)
}
