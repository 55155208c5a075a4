//! Bottleneck adapters, and those with hypercomplex layers: Compacter.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use backbone::{Activation, Architecture};
use serde_json::{Map, Value, json};

use super::{
    super::{foreign::Method, keys::Keys},
    folder::{NAME, Part, Reading, WEIGHTS, activation},
};
use crate::{prepare::LoadedBackbone, saved::Tensors};

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
        (Architecture::Llama, "attention") => format!("layers.{layer}.attention_adapters"),
        (Architecture::Llama, _) => format!("layers.{layer}.output_adapters"),
        (Architecture::DistilBert, _) => format!("transformer.layer.{layer}.output_adapters"),
        (_, "attention") => format!("encoder.layer.{layer}.attention.output"),
        (_, _) => format!("encoder.layer.{layer}.output"),
    }
}

pub(super) fn read_bottleneck(reading: &mut Reading<'_>, keys: &mut Keys) -> Result<Method> {
    let (architecture, loaded) = (reading.architecture, reading.loaded);
    let mut found = Map::new();
    for (key, _) in PLACEMENTS[0].1 {
        let default = DEFAULTS.iter().find(|(k, _)| *k == key);
        let value: Option<Value> = keys.take(key)?;
        let value = value.unwrap_or_else(|| default.is_some_and(|(_, v)| *v).into());
        found.insert(key.to_owned(), value);
    }
    let placement = PLACEMENTS.iter().find(|(_, wiring)| {
        let same = |(k, v): &(&str, bool)| found.get(*k) == Some(&(*v).into());
        wiring.iter().all(same)
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
        // Of adapter-transformers 1.x, where they were for fusion.
        "attention_type",
        "new_attention_norm",
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

pub(super) fn write_bottleneck(part: &mut Part, loaded: &LoadedBackbone) -> Result<Value> {
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
