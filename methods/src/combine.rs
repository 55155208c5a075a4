//! Methods together, declared in YAML: `combine: [prefix_tuning, adapter]`.
//!
//! The parts act in the order in which they are named, each on what the one before it left. A part's keys are
//! written `PART.KEY`; those that the YAML does not list have the part's own defaults. `mam` is one such YAML
//! (mix-and-match adapters, He et al. 2021, arXiv:2110.04366); another needs a YAML and a line in the registry.

use std::{collections::BTreeMap, sync::Arc};

use backbone::{
    Backbone, Hooks, Input, KeyValues, LayerNorm, Linear, Norm, Pass, Phase, Site, Sublayer,
};
use candle_core::{DType, Device, Tensor};
use kernels::Spans;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    NotMergeable, Parameters, PeftMethod, Result,
    config::{self, Resolved},
    entry::{Building, Entry, MethodConfig, find, plain},
};

pub(crate) const MAM: Entry = Entry::parsed_by("mam", include_str!("../configs/mam.yaml"), parse)
    .parameters("prefix_tuning.virtual_tokens · 2 · L · H + L · (2 · H · b + b + H)");

#[derive(Deserialize)]
struct Written {
    combine: Vec<String>,
    #[serde(flatten)]
    keys: BTreeMap<String, Value>,
}

/// The parts with their configurations.
#[derive(Debug)]
struct Config(Vec<Resolved>);

fn parse(
    value: Value,
    known: &'static [Entry],
) -> std::result::Result<Arc<dyn MethodConfig>, String> {
    let written: Written = serde_json::from_value(value).map_err(|e| plain(&e.to_string()))?;
    let names = &written.combine;
    if names.len() < 2 {
        return Err("combine: name at least two methods".into());
    }
    for (i, name) in names.iter().enumerate() {
        if names[..i].contains(name) {
            return Err(format!("combine: '{name}' is named twice"));
        }
    }
    let mut of_part: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for (key, value) in &written.keys {
        let (part, key) = key.split_once('.').unwrap_or(("", key));
        if !names.iter().any(|name| name == part) {
            return Err(format!(
                "{part}.{key}: '{part}' is not among combine ({})",
                names.join(", ")
            ));
        }
        let keys = of_part.entry(part).or_default();
        keys.insert(key.to_owned(), value.clone());
    }
    let resolved = |name: &String| {
        let keys = of_part.remove(name.as_str()).unwrap_or_default();
        let part = find(name, known)
            .and_then(|entry| config::resolve(entry, known, config::Answer::default(), keys));
        part.map_err(|e| format!("combine: {e}"))
    };
    let parts = names
        .iter()
        .map(resolved)
        .collect::<std::result::Result<_, _>>()?;
    Ok(Arc::new(Config(parts)))
}

impl MethodConfig for Config {
    fn check(&self, backbone: &backbone::Config) -> std::result::Result<(), String> {
        let mut parts = self.0.iter();
        parts.try_for_each(|part| part.check(backbone).map_err(|e| format!("combine: {e}")))
    }

    fn parameters(&self, backbone: &Backbone) -> std::result::Result<f64, String> {
        let counts = self.0.iter().map(|part| part.parameters(backbone));
        counts.sum::<Result<f64>>().map_err(|e| e.to_string())
    }

    fn of_family(&self, backbone: &backbone::Config) -> Map<String, Value> {
        let of_part = |part: &Resolved| {
            let keys = part.of_family(backbone).into_iter();
            let name = part.entry.name;
            keys.map(move |(key, value)| (format!("{name}.{key}"), value))
        };
        self.0.iter().flat_map(of_part).collect()
    }

    fn numerics(&self) -> u32 {
        self.0.iter().map(Resolved::numerics).sum()
    }

    fn build(&self, at: &mut Building<'_, '_>) -> Result<Box<dyn PeftMethod>> {
        let parts = self.0.iter().map(|part| part.build_part(at));
        let parts = parts.collect::<Result<Vec<_>>>()?;
        if parts.iter().any(|part| part.backbone().is_some()) {
            let what = "combine: a method with a backbone of its own stands alone";
            return at.valid(Err(what.into()));
        }
        Ok(Box::new(Combined {
            parameters: Parameters::of_parts(parts.iter().map(|part| part.parameters())),
            parts,
        }))
    }
}

struct Combined {
    parameters: Parameters,
    parts: Vec<Box<dyn PeftMethod>>,
}

impl Hooks for Combined {
    fn input(&self, input: Input, phase: Phase<'_>) -> backbone::Result<Input> {
        self.parts
            .iter()
            .try_fold(input, |input, part| part.input(input, phase))
    }

    fn acts_on(&self, site: Site) -> bool {
        self.parts.iter().any(|part| part.acts_on(site))
    }

    fn linear_input(&self, site: Site, x: &Tensor, pass: Pass<'_>) -> backbone::Result<Tensor> {
        self.parts
            .iter()
            .try_fold(x.clone(), |x, part| part.linear_input(site, &x, pass))
    }

    fn linear(
        &self,
        site: Site,
        x: &Tensor,
        y: Tensor,
        pass: Pass<'_>,
    ) -> backbone::Result<Tensor> {
        self.parts
            .iter()
            .try_fold(y, |y, part| part.linear(site, x, y, pass))
    }

    fn keys_values(
        &self,
        layer: usize,
        own: KeyValues,
        phase: Phase<'_>,
    ) -> backbone::Result<KeyValues> {
        self.parts
            .iter()
            .try_fold(own, |own, part| part.keys_values(layer, own, phase))
    }

    fn sublayer(
        &self,
        layer: usize,
        which: Sublayer,
        h: Tensor,
        residual: &Tensor,
        norm: &LayerNorm,
        pass: Pass<'_>,
    ) -> backbone::Result<Tensor> {
        let norm = self.norm(Norm::Layer(layer, which), norm);
        self.parts.iter().try_fold(h, |h, part| {
            part.sublayer(layer, which, h, residual, norm, pass)
        })
    }

    fn norm<'a>(&'a self, at: Norm, frozen: &'a LayerNorm) -> &'a LayerNorm {
        self.parts
            .iter()
            .fold(frozen, |norm, part| part.norm(at, norm))
    }
}

impl PeftMethod for Combined {
    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn shipped(&self) -> Result<Vec<(String, Tensor)>> {
        let parts = self.parts.iter().map(|part| part.shipped());
        Ok(parts.collect::<Result<Vec<_>>>()?.concat())
    }

    fn virtual_tokens(&self) -> usize {
        self.parts.iter().map(|part| part.virtual_tokens()).sum()
    }

    fn starts_as_backbone(&self) -> std::result::Result<(), &'static str> {
        self.parts
            .iter()
            .try_for_each(|part| part.starts_as_backbone())
    }

    fn merge(&self, backbone: &Backbone) -> std::result::Result<Backbone, NotMergeable> {
        let mut parts = self.parts.iter();
        // Right wherever one part acts alone.
        let mut merged = parts.try_fold(backbone.clone(), |merged, part| part.merge(&merged))?;
        for site in backbone.sites() {
            let acting = self.parts.iter().filter(|part| part.acts_on(site)).count();
            if acting > 1 {
                merged = merged.with_linear(site, self.affine(site, backbone.linear(site))?)?;
            }
        }
        Ok(merged)
    }
}

impl Combined {
    /// What the parts together make of a layer, which is an affine map: found by what it makes of zero and of each unit
    /// vector. (The product of the parts' own merges is another one where one part scales what another adds.)
    fn affine(&self, site: Site, frozen: &Linear) -> backbone::Result<Linear> {
        let (i, device) = (frozen.in_features(), Device::Cpu);
        let dtype = frozen.dtype();
        kernels::without_gradients(|| {
            let units = Tensor::eye(i, DType::F32, &device)?.to_dtype(dtype)?;
            let x = Tensor::cat(&[Tensor::zeros((1, i), dtype, &device)?, units], 0)?;
            let pass = Pass {
                phase: Phase::Eval,
                spans: &Spans::from_lengths(&[i + 1])?,
            };
            let x = self.linear_input(site, &x, pass)?;
            let y = self.linear(site, &x, frozen.forward(&x)?, pass)?;
            let bias = y.narrow(0, 0, 1)?;
            let weight = y.narrow(0, 1, i)?.broadcast_sub(&bias)?.t()?.contiguous()?;
            Ok(Linear::new(weight, Some(bias.squeeze(0)?))?)
        })
    }
}
