//! IA3.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use backbone::Site;
use serde_json::json;

use super::{
    super::foreign::Method,
    folder::{Reading, WEIGHTS, Writing, Written, object},
    rules::{OneOrMany, Rules, whole},
    targets::every_module_in_every_layer,
};
use crate::saved::Tensors;

pub(super) fn read_ia3(reading: &mut Reading<'_>) -> Result<Method> {
    let keys = &mut reading.keys;
    // (The library sets `fan_in_fan_out` to false over layers such as these.)
    keys.without_effect(&["fan_in_fan_out", "init_ia3_weights"]);
    let feedforward: OneOrMany<String> = keys.take("feedforward_modules")?.context(
        "feedforward_modules is missing: the library writes the names it found for its defaults",
    )?;
    let scales_input = |path: &str| -> Result<bool> {
        Ok(match &feedforward {
            OneOrMany::One(pattern) => whole(pattern)?.is_match(path)?,
            // (Of a list the library compares ends, not whole segments.)
            OneOrMany::Many(ends) => ends.iter().any(|end| path.ends_with(end)),
        })
    };
    let rules = Rules::read(keys, &reading.modules_to_save)?;
    let scales = reading.take_by_path("ia3_l");
    reading.check_targets(&rules, scales.keys())?;
    let (mut tensors, mut sites) = (Tensors::new(), Vec::new());
    let (mut of_input, mut of_output) = (BTreeSet::new(), BTreeSet::new());
    for (path, scale) in scales {
        let site = reading.site(&path);
        let site =
            site.with_context(|| format!("module '{path}' is not a site of the backbone"))?;
        let part = if scales_input(&path)? {
            &mut of_input
        } else {
            &mut of_output
        };
        part.insert(site.projection.name());
        tensors.insert(format!("{site}.ia3"), scale);
        sites.push(site);
    }
    ensure!(!sites.is_empty(), "{WEIGHTS} has no IA3 weights");
    if let Some(module) = of_input.intersection(&of_output).next() {
        bail!("feedforward_modules names '{module}' in some layers only, which is not supported");
    }
    let (target_modules, layers) = every_module_in_every_layer(&sites, reading.loaded)?;
    Ok(Method {
        name: "ia3",
        config: object(json!({
            "target_modules": target_modules, "feedforward_modules": of_input, "layers": layers,
        })),
        tensors,
    })
}

pub(super) fn write_ia3(writing: &Writing<'_>) -> Result<Written> {
    let mut tensors = Tensors::new();
    let (mut sites, mut of_input) = (BTreeSet::new(), BTreeSet::new());
    for (name, tensor) in &writing.tensors {
        let site = name.strip_suffix(".ia3");
        let site = site.with_context(|| format!("variable '{name}' has no place in IA3"))?;
        let path = writing.path(site)?;
        let site: Site = site.parse().map_err(anyhow::Error::msg)?;
        sites.insert(site);
        let scaled = writing.export.key("feedforward_modules").as_array();
        if scaled.is_some_and(|m| m.iter().any(|m| m == site.projection.name())) {
            of_input.insert(path.clone());
        }
        tensors.insert(format!("{path}.ia3_l"), tensor.clone());
    }
    // (IA3 knows no layers_to_transform.)
    let paths: Vec<_> = sites
        .iter()
        .map(|site| writing.path(&site.to_string()))
        .collect::<Result<_>>()?;
    Ok(Written {
        peft_type: "IA3",
        config: object(json!({
            "target_modules": paths, "feedforward_modules": of_input, "fan_in_fan_out": false,
            "init_ia3_weights": true,
        })),
        tensors,
    })
}
