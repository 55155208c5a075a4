//! Methods together, declared in YAML: `combine: [prefix_tuning, adapter]`.
//!
//! The parts act in the order in which they are named, each on what the one before it left. A part's keys are
//! written `PART.KEY`; those that the YAML does not list have the part's own defaults. `mam` is one such YAML
//! (mix-and-match adapters, He et al. 2021, arXiv:2110.04366); another needs a YAML and a line in the registry.

use std::collections::BTreeMap;

use backbone::{Backbone, Hooks, Input, KeyValues, LayerNorm, Norm, Pass, Phase, Site, Sublayer};
use candle_core::{Tensor, Var};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    Context, Error, NotMergeable, PeftMethod, Resolved, Result,
    config::resolve_values,
    registry::{Entry, MethodConfig},
};

pub(crate) const MAM: Entry = Entry::of::<Config>("mam", include_str!("../configs/mam.yaml"))
    .parameters("prefix_tuning.virtual_tokens · 2 · L · H + L · (2 · H · b + b + H)");

#[derive(Deserialize)]
struct Config {
    combine: Vec<String>,
    #[serde(flatten)]
    keys: BTreeMap<String, Value>,
}

impl Config {
    /// The parts with their configurations.
    fn parts(&self) -> std::result::Result<Vec<Resolved>, String> {
        if self.combine.len() < 2 {
            return Err("combine: name at least two methods".into());
        }
        let mut of_part: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
        for (key, value) in &self.keys {
            let (part, key) = key.split_once('.').unwrap_or(("", key));
            if !self.combine.iter().any(|name| name == part) {
                return Err(format!(
                    "{part}.{key}: '{part}' is not among combine ({})",
                    self.combine.join(", ")
                ));
            }
            of_part
                .entry(part)
                .or_default()
                .insert(key.to_owned(), value.clone());
        }
        let resolved = |name: &String| {
            let keys = of_part.get(name.as_str()).cloned().unwrap_or_default();
            resolve_values(name, keys).map_err(|e| format!("combine: {e}"))
        };
        self.combine.iter().map(resolved).collect()
    }
}

impl MethodConfig for Config {
    fn check(&self, backbone: &backbone::Config) -> std::result::Result<(), String> {
        for (i, name) in self.combine.iter().enumerate() {
            if self.combine[..i].contains(name) {
                return Err(format!("combine: '{name}' is named twice"));
            }
        }
        self.parts()?
            .iter()
            .try_for_each(|part| part.check(backbone).map_err(|e| format!("combine: {e}")))
    }

    fn build(self, context: &mut Context<'_>) -> Result<Box<dyn PeftMethod>> {
        let refused = |what: String| Error::Config {
            method: self.combine.join(" + "),
            what,
        };
        let parts = self
            .parts()
            .map_err(refused)?
            .iter()
            .map(|part| part.build(context))
            .collect::<Result<Vec<_>>>()?;
        if parts.iter().any(|part| part.backbone().is_some()) {
            return Err(refused(
                "combine: a method with a backbone of its own stands alone".into(),
            ));
        }
        let mut names: Vec<_> = parts
            .iter()
            .flat_map(|p| p.vars())
            .map(|(n, _)| n)
            .collect();
        names.sort();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(refused(format!("combine: two of them train '{}'", pair[0])));
        }
        Ok(Box::new(Combined { parts }))
    }
}

struct Combined {
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
    fn vars(&self) -> Vec<(String, Var)> {
        self.parts.iter().flat_map(|part| part.vars()).collect()
    }

    fn shipped(&self) -> Result<Vec<(String, Tensor)>> {
        let parts = self.parts.iter().map(|part| part.shipped());
        Ok(parts.collect::<Result<Vec<_>>>()?.concat())
    }

    fn load(&mut self, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
        let mut rest = tensors.clone();
        for part in &mut self.parts {
            // Each part gets the tensors of its own names, and complains about those that are missing.
            let names: Vec<String> = part.shipped()?.into_iter().map(|(name, _)| name).collect();
            let own = names
                .into_iter()
                .filter_map(|name| rest.remove_entry(&name))
                .collect();
            part.load(&own)?;
        }
        match rest.keys().next() {
            Some(name) => Err(Error::Weights(format!(
                "tensor '{name}' does not belong to this method"
            ))),
            None => Ok(()),
        }
    }

    fn learning_rate_factor(&self, variable: &str) -> f64 {
        let owner = self
            .parts
            .iter()
            .find(|part| part.vars().iter().any(|(name, _)| name == variable));
        owner.map_or(1.0, |part| part.learning_rate_factor(variable))
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
        self.parts
            .iter()
            .try_fold(backbone.clone(), |merged, part| part.merge(&merged))
    }
}
