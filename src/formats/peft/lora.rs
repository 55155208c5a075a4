//! LoRA and DoRA.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use backbone::Site;
use candle_core::Tensor;
use serde_json::{Map, Value, json};

use super::{
    super::{foreign::Method, keys::Keys},
    folder::{Reading, WEIGHTS, Writing, Written, object},
    rules::{Patterns, Rules},
    targets::{every_module_in_every_layer, our_targets},
};
use crate::saved::Tensors;

/// Where training began, which changes nothing, unless the start was taken out of the backbone's weights.
fn read_start(keys: &mut Keys) -> Result<()> {
    // (What a start read beside the weights, what gradients are made of, where the work is done.)
    keys.without_effect(&[
        "runtime_config",
        "velora_config",
        "eva_config",
        "corda_config",
        "loftq_config",
        "lora_ga_config",
    ]);
    let start: Option<Value> = keys.take("init_lora_weights")?;
    let Some(Value::String(start)) = start else {
        return Ok(());
    };
    let plain = ["gaussian", "orthogonal", "eva", "mica", "lora_ga"];
    ensure!(
        plain.contains(&start.to_lowercase().as_str()),
        "init_lora_weights '{start}' takes its start out of the backbone's weights, and the folder does not hold what was \
         taken: save it once more from Python with save_pretrained(FOLDER, path_initial_model_for_weight_conversion=…), \
         which makes it a plain LoRA; supported: true, false, {}",
        plain.join(", ")
    );
    Ok(())
}

pub(super) fn read_lora(reading: &mut Reading<'_>) -> Result<Method> {
    let keys = &mut reading.keys;
    keys.only("bias", &["none".into()])?;
    read_start(keys)?;
    // (The library sets `fan_in_fan_out` to false over layers such as these.)
    keys.without_effect(&["fan_in_fan_out", "megatron_core", "qalora_group_size"]);
    let rank: usize = keys.take("r")?.unwrap_or(8);
    let alpha: f64 = keys.take("lora_alpha")?.unwrap_or(8.0);
    let dropout: f64 = keys.take("lora_dropout")?.unwrap_or(0.0);
    let rslora: bool = keys.take("use_rslora")?.unwrap_or(false);
    let dora: bool = keys.take("use_dora")?.unwrap_or(false);
    let ranks: Patterns<usize> = Patterns::read(keys, "rank_pattern")?;
    let alphas: Patterns<f64> = Patterns::read(keys, "alpha_pattern")?;
    let rules = Rules::read(keys, &reading.modules_to_save)?;

    let a = reading.take_by_path("lora_A.weight");
    let mut b = reading.take_by_path("lora_B.weight");
    reading.check_targets(&rules, a.keys())?;
    let (mut tensors, mut sites) = (Tensors::new(), Vec::new());
    let magnitudes = match dora {
        true => reading.take_by_path("lora_magnitude_vector"),
        false => Tensors::new(),
    };
    for (path, magnitude) in magnitudes {
        let site = reading.site(&path);
        let site =
            site.with_context(|| format!("module '{path}' is not a site of the backbone"))?;
        tensors.insert(format!("{site}.magnitude"), magnitude);
    }
    let (mut rank_pattern, mut alpha_pattern) = (Map::new(), Map::new());
    for (path, a) in a {
        let b = b
            .remove(&path)
            .with_context(|| format!("tensor '{path}.lora_B.weight' is missing"))?;
        let r = ranks.get(&path)?.unwrap_or(rank);
        let s = alphas.get(&path)?.unwrap_or(alpha);
        ensure!(
            a.rank() == 2 && b.rank() == 2 && a.dims()[0] == r && b.dims()[1] == r,
            "module '{path}': lora_A has shape {:?} and lora_B {:?}, but its rank is {r}",
            a.dims(),
            b.dims()
        );
        let Some(site) = reading.site(&path) else {
            ensure!(!dora, "module '{path}' is not a site of the backbone");
            // A layer of the head: it is trained as a whole here, so its change becomes part of it.
            let scaling = s / if rslora { (r as f64).sqrt() } else { r as f64 };
            let delta = (b.matmul(&a)? * scaling)?;
            reading.head_deltas.insert(path, delta);
            continue;
        };
        if r != rank {
            rank_pattern.insert(site.to_string(), r.into());
        }
        if s != alpha {
            alpha_pattern.insert(site.to_string(), s.into());
        }
        tensors.insert(format!("{site}.lora_a"), a);
        tensors.insert(format!("{site}.lora_b"), b);
        sites.push(site);
    }
    if let Some(path) = b.keys().next() {
        bail!("tensor '{path}.lora_A.weight' is missing");
    }
    ensure!(!sites.is_empty(), "{WEIGHTS} has no LoRA weights");
    if dora {
        ensure!(
            rank_pattern.is_empty() && alpha_pattern.is_empty(),
            "ranks or alphas by pattern are not supported with use_dora"
        );
        let (target_modules, layers) = every_module_in_every_layer(&sites, reading.loaded)?;
        let alpha = if rslora {
            alpha * (rank as f64).sqrt()
        } else {
            alpha
        };
        let config = json!({
            "rank": rank, "alpha": alpha, "target_modules": target_modules, "layers": layers,
        });
        return Ok(Method {
            name: "dora",
            config: object(config),
            tensors,
        });
    }
    let (target_modules, layers) = our_targets(&sites, reading.loaded);
    let config = json!({
        "rank": rank, "alpha": alpha, "target_modules": target_modules, "layers": layers,
        "rank_pattern": rank_pattern, "alpha_pattern": alpha_pattern, "dropout": dropout, "rslora": rslora,
    });
    Ok(Method {
        name: "lora",
        config: object(config),
        tensors,
    })
}

pub(super) fn write_lora(writing: &Writing<'_>) -> Result<Written> {
    let export = writing.export;
    let init = export.key("init").as_str().unwrap_or_default();
    let started = ["pissa", "olora"].contains(&init);
    let trained = match started {
        true => without_start(&writing.tensors)?,
        false => writing.tensors.clone(),
    };
    let mut tensors = Tensors::new();
    let mut sites = BTreeMap::new();
    for (name, tensor) in &trained {
        let (site, part) = name.rsplit_once('.').context("a site before the name")?;
        let path = writing.path(site)?;
        let part = match part {
            "lora_a" => {
                sites.insert(site.to_owned(), (path.clone(), tensor.dims()[0]));
                "lora_A.weight"
            }
            "lora_b" => "lora_B.weight",
            "magnitude" => "lora_magnitude_vector",
            other => bail!("variable '{site}.{other}' has no place in PEFT's LoRA"),
        };
        tensors.insert(format!("{path}.{part}"), tensor.clone());
    }
    // What is doubled, so that the scaling stays: alpha / rank, or alpha / √rank.
    let rslora = export.key("rslora") == true;
    let factor = match (started, rslora) {
        (false, _) => 1.0,
        (true, false) => 2.0,
        (true, true) => 2f64.sqrt(),
    };
    let rank = export.key("rank").as_u64().context("rank")? * if started { 2 } else { 1 };
    let alpha = |alpha: &Value| alpha.as_f64().map(|alpha| alpha * factor);
    let (mut rank_pattern, mut alpha_pattern) = (Map::new(), Map::new());
    for (site, (path, r)) in &sites {
        if rank != *r as u64 {
            rank_pattern.insert(path.clone(), (*r).into());
        }
        if let Some(own) = export.key("alpha_pattern").get(site) {
            alpha_pattern.insert(path.clone(), json!(alpha(own)));
        }
    }
    let sites: BTreeSet<Site> = sites
        .keys()
        .map(|s| s.parse().map_err(anyhow::Error::msg))
        .collect::<Result<_>>()?;
    let (targets, layers) = writing.their_targets(&sites)?;
    let config = json!({
        "r": rank, "lora_alpha": alpha(export.key("alpha")), "lora_dropout": export.key("dropout").as_f64().unwrap_or(0.0),
        "use_rslora": rslora, "rank_pattern": rank_pattern, "alpha_pattern": alpha_pattern,
        "target_modules": targets, "layers_to_transform": layers, "bias": "none", "fan_in_fan_out": false,
        "init_lora_weights": true, "use_dora": export.task.config.method == "dora",
    });
    Ok(Written {
        peft_type: "LORA",
        config: object(config),
        tensors,
    })
}

/// A start that was taken out of the backbone's weights as a part of the update: `B A − B₀ A₀` is a product of twice the
/// rank, `[B, −B₀] [A; A₀]`. It is what PEFT makes of such a file for use without the start
/// (`path_initial_model_for_weight_conversion`).
fn without_start(tensors: &Tensors) -> Result<Tensors> {
    let starts = tensors.iter().filter(|(name, _)| name.contains(".start_"));
    let mut whole = Tensors::new();
    for (name, start) in starts {
        let name = name.replace(".start_", ".lora_");
        let trained = tensors.get(&name);
        let trained = trained.with_context(|| format!("{name} is missing"))?;
        let joined = match name.ends_with("_a") {
            true => Tensor::cat(&[trained, start], 0)?,
            false => Tensor::cat(&[trained, &start.neg()?], 1)?,
        };
        whole.insert(name, joined);
    }
    Ok(whole)
}
