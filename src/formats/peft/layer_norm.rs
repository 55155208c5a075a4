//! Layer norms.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, json};

use super::{
    super::foreign::Method,
    folder::{Reading, WEIGHTS, Writing, Written, object},
    rules::Rules,
};
use crate::saved::Tensors;

const NORM: &str = "ln_tuning_layers";

pub(super) fn read_layer_norm(reading: &mut Reading<'_>) -> Result<Method> {
    let rules = Rules::read(&mut reading.keys, &reading.modules_to_save)?;
    let parts =
        ["weight", "bias"].map(|part| (part, reading.take_by_path(&format!("{NORM}.{part}"))));
    let mut tensors = Tensors::new();
    for (part, norms) in parts {
        for (path, tensor) in norms {
            ensure!(
                rules.matches(&path)?,
                "{WEIGHTS} has weights for the module '{path}', which target_modules does not name"
            );
            let name = path.strip_prefix(&reading.prefix).unwrap_or(&path);
            tensors.insert(format!("{name}.{part}"), tensor);
        }
    }
    ensure!(!tensors.is_empty(), "{WEIGHTS} has no layer norms");
    // Norms that the folder leaves as they are stay the backbone's.
    if let Some(loaded) = reading.loaded {
        let backbone = &loaded.backbone;
        for at in backbone.norms() {
            let (name, frozen) = (backbone.config().norm_name(at), backbone.norm(at));
            let named = rules.matches(&format!("{}{name}", reading.prefix))?;
            let beta = frozen.has_bias().then(|| ("bias", frozen.beta()));
            for (part, frozen) in [("weight", frozen.gamma())].into_iter().chain(beta) {
                let name = format!("{name}.{part}");
                ensure!(
                    tensors.contains_key(&name) || !named,
                    "target_modules names a layer norm, but {WEIGHTS} has no '{name}' of it"
                );
                tensors.entry(name).or_insert_with(|| frozen.clone());
            }
        }
    }
    Ok(Method {
        name: "layer_norm",
        config: Map::new(),
        tensors,
    })
}

pub(super) fn write_layer_norm(writing: &Writing<'_>) -> Result<Written> {
    let (mut tensors, mut targets) = (Tensors::new(), BTreeSet::new());
    for (name, tensor) in &writing.tensors {
        let (norm, part) = name.rsplit_once('.').context("a norm before the name")?;
        targets.insert(norm.rsplit('.').next().unwrap_or(norm));
        tensors.insert(
            format!("{}{norm}.{NORM}.{part}", writing.prefix),
            tensor.clone(),
        );
    }
    Ok(Written {
        peft_type: "LN_TUNING",
        config: object(json!({ "target_modules": targets })),
        tensors,
    })
}
