//! Prefixes.

use anyhow::{Context, Result, bail, ensure};
use backbone::{Architecture, Linear};
use serde_json::{Value, json};

use super::{
    super::{foreign::Method, keys::Keys},
    folder::{NAME, Part, Reading, WEIGHTS, activation},
};
use crate::{prepare::LoadedBackbone, saved::Tensors};

/// The name under which a model keeps the prefixes of its self-attention.
fn prefix_place(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::DistilBert => "self",
        _ => "self_prefix",
    }
}

/// A prefix, or what makes it: then the rows that come out are kept.
pub(super) fn read_prefix(reading: &mut Reading<'_>, keys: &mut Keys) -> Result<Method> {
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

pub(super) fn write_prefix(part: &mut Part, loaded: &LoadedBackbone) -> Result<Value> {
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
