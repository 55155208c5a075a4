//! AdapterHub: `adapter_config.json` with a `config` of its own schema, `adapter.safetensors`, and a head in
//! `head_config.json` and `model_head.safetensors`.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context, Result, bail, ensure};
use backbone::{Activation, Architecture, HeadKind, Pooling};
use serde_json::{Map, Value, json};

use super::{
    ADAPTER_CONFIG, Export, Foreign, Method, Saved, Tensors, keys::Keys, layout, read_tensors,
    separate_head, write_json, write_tensors,
};
use crate::prepare::LoadedBackbone;

const WEIGHTS: &str = "adapter.safetensors";
const HEAD_CONFIG: &str = "head_config.json";
const HEAD: &str = "model_head.safetensors";

/// Our method that the format holds.
pub(super) const METHOD: &str = "adapter";

/// Keys of a bottleneck's configuration that say where adapters are and how they are wired, by our placement.
const PLACEMENTS: [(&str, [(&str, bool); 8]); 3] = [
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
            ("phm_layer", false),
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
            ("phm_layer", false),
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
            ("phm_layer", false),
        ],
    ),
];

/// Whether our adapters can be placed so.
fn exists(placement: &str) -> bool {
    let overrides = [("placement".to_owned(), placement.to_owned())];
    methods::resolve("adapter", &overrides.into()).is_ok()
}

/// The library's own values of keys that an old folder may lack.
const DEFAULTS: [(&str, bool); 4] = [
    ("original_ln_after", true),
    ("residual_before_ln", true),
    ("original_ln_before", false),
    ("phm_layer", false),
];

/// A bottleneck's parts, ours and theirs.
const PARTS: [(&str, &str); 4] = [
    ("down.weight", "adapter_down.0.weight"),
    ("down.bias", "adapter_down.0.bias"),
    ("up.weight", "adapter_up.weight"),
    ("up.bias", "adapter_up.bias"),
];

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
    let mut inner = keys.inner("config")?;
    keys.finish()?;
    let tensors = read_tensors(folder, WEIGHTS, "pytorch_adapter.bin")?.tensors;
    let method = read_bottleneck(&mut inner, tensors, architecture, &name, loaded)?;
    inner.finish()?;
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

fn read_bottleneck(
    keys: &mut Keys,
    mut tensors: Tensors,
    architecture: Architecture,
    name: &str,
    loaded: Option<&LoadedBackbone>,
) -> Result<Method> {
    if let Some(other) = keys.take::<String>("architecture")? {
        bail!("architecture '{other}' is not supported; supported: bottleneck adapters");
    }
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
    let scaling: Value = keys.take("scaling")?.unwrap_or(json!(1.0));
    let parallel = *placement == "parallel";
    ensure!(
        scaling.as_f64() == Some(1.0) || parallel && scaling.is_number(),
        "scaling {scaling} is not supported; supported: 1.0, and any number for parallel adapters"
    );
    keys.without_effect(&[
        "dropout",
        "stochastic_depth",
        "init_weights",
        "init_weights_seed",
        // Of hypercomplex layers, which phm_layer turns on.
        "factorized_phm_W",
        "factorized_phm_rule",
        "hypercomplex_nonlinearity",
        "learn_phm",
        "phm_bias",
        "phm_c_init",
        "phm_dim",
        "phm_init_range",
        "phm_rank",
        "shared_W_phm",
        "shared_phm_rule",
        // Of invertible adapters, which inv_adapter turns on.
        "inv_adapter_reduction_factor",
    ]);
    let activation: String = keys
        .take("non_linearity")?
        .context("non_linearity is missing")?;
    let activation: Activation = serde_json::from_value(json!(activation.to_lowercase()))
        .with_context(|| format!("non_linearity '{activation}'"))?;
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
    for (path, tensor) in std::mem::take(&mut tensors) {
        let own = format!("{}.", architecture.name());
        let short = path.strip_prefix(&own).unwrap_or(&path);
        let layer: Option<usize> = short.split('.').find_map(|s| s.parse().ok());
        let place = layer.and_then(|layer| {
            ["attention", "feed_forward"].into_iter().find_map(|which| {
                let rest = short
                    .strip_prefix(&module(architecture, layer, which))?
                    .strip_prefix(".adapters.")?
                    .strip_prefix(name)?
                    .strip_prefix('.')?;
                let (part, _) = PARTS.iter().find(|(_, theirs)| *theirs == rest)?;
                Some((layer, format!("encoder.{layer}.{which}.adapter.{part}")))
            })
        });
        let Some((layer, our_name)) = place else {
            bail!(
                "{WEIGHTS}: tensor '{path}' belongs to nothing that is computed here; it is not ignored"
            );
        };
        layers.insert(layer);
        ours.insert(our_name, tensor);
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
    config.insert("placement".into(), json!(placement));
    config.insert("reduction_factor".into(), reduction);
    config.insert("activation".into(), json!(our_activation(activation)));
    config.insert(
        "layers".into(),
        if all { json!("all") } else { json!(layers) },
    );
    if parallel {
        config.insert("scaling".into(), scaling);
    }
    Ok(Method {
        name: "adapter",
        config,
        tensors: ours,
    })
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

pub(super) fn write(export: &Export<'_>, out: &Path) -> Result<Option<String>> {
    let (task, loaded) = (export.task, export.loaded);
    let method = task.config.method.as_str();
    ensure!(
        method == METHOD,
        "method '{method}' cannot be written in the format of AdapterHub; methods that can: adapter"
    );
    let architecture = loaded.backbone.config().architecture;
    let (pooling, head) = (loaded.backbone.pooling(), task.config.head);
    ensure!(
        pooling != Pooling::Mean || export.separate_head,
        "AdapterHub's heads read the first row, not the mean of all rows; train with --set backbone.pooling=cls, or write \
         the head into a file of its own, with the few lines of Python that read it: --separate-head"
    );
    const NAME: &str = "task";
    let (ours, head_tensors) = export.tensors()?;
    let placement = export.key("placement").as_str().unwrap_or_default();
    for (key, plain, free) in [
        ("drop_layers", json!(0), false),
        ("scaling", Value::Null, placement.ends_with("parallel")),
    ] {
        ensure!(
            free || *export.key(key) == plain,
            "{key} {} cannot be written in the format of AdapterHub for placement '{placement}'; only {plain} can",
            export.key(key)
        );
    }
    let prefix = match export.separate_head {
        false => format!("{}.", architecture.name()),
        true => String::new(),
    };
    let mut tensors = Tensors::new();
    let mut layers = BTreeSet::new();
    // Layers whose adapters are left out in evaluation are left out.
    let dropped: Vec<_> = (0..export.key("drop_layers").as_u64().unwrap_or(0))
        .map(|layer| format!("encoder.{layer}."))
        .collect();
    for (name, tensor) in ours {
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
            Some(format!("{prefix}{module}.adapters.{NAME}.{part}"))
        })();
        let their_name = their_name
            .with_context(|| format!("variable '{name}' has no place in AdapterHub's adapters"))?;
        tensors.insert(their_name, tensor);
    }
    let (_, wiring) = PLACEMENTS
        .iter()
        .find(|(ours, _)| *ours == placement.trim_start_matches("scaled_"))
        .with_context(|| {
            format!("placement '{placement}' has no place in AdapterHub's adapters")
        })?;
    let activation = match export.key("activation").as_str() {
        None if placement == "houlsby" => "swish",
        None => "relu",
        Some("gelu_tanh") => "gelu_new",
        Some(other) => other,
    };
    let scaling = export.key("scaling").as_f64().unwrap_or(match placement {
        "scaled_parallel" => 4.0,
        _ => 1.0,
    });
    let left_out: Vec<usize> = (0..loaded.backbone.config().layers)
        .filter(|layer| !layers.contains(layer))
        .collect();
    let mut config = json!({
        "non_linearity": activation, "reduction_factor": export.key("reduction_factor"), "leave_out": left_out,
        "ln_before": false, "ln_after": false, "init_weights": "bert", "scaling": scaling, "use_gating": false,
        "inv_adapter": null, "inv_adapter_reduction_factor": null, "cross_adapter": false,
        "dropout": export.key("dropout"), "stochastic_depth": 0.0,
    });
    for (key, value) in wiring {
        config[*key] = (*value).into();
    }
    let family = match architecture {
        Architecture::Bert => "Bert",
        Architecture::Roberta => "Roberta",
        Architecture::DistilBert => "DistilBert",
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
