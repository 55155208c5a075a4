//! LoRA: low-rank adaptation (Hu et al. 2021, arXiv:2106.09685).
//!
//! `y = x Wᵀ + b + s · (x Aᵀ) Bᵀ` with W `[out, in]` frozen, A `[R, in]` and B `[out, R]` trained, and
//! `s = alpha / R`, or `alpha / √R` with `rslora` (Kalajdzievski 2023, arXiv:2312.03732). A starts
//! Kaiming-uniform with a = √5, which is U(±1/√in); B starts at zero, so the start equals the backbone.
//! Merging adds `s · B A` to W.

use std::collections::BTreeMap;

use backbone::{Backbone, Hooks, Pass, Projection, Site};
use candle_core::{Tensor, Var};
use serde::Deserialize;

use crate::{
    Context, NotMergeable, PeftMethod, Result, init,
    registry::{Entry, MethodConfig},
};

pub(crate) const ENTRY: Entry = Entry::of::<Config>("lora", include_str!("../configs/lora.yaml"))
    .standard()
    .parameters("L · target_modules · 2 · rank · H");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    rank: usize,
    alpha: f64,
    target_modules: Vec<String>,
    layers: Layers,
    dropout: f64,
    rslora: bool,
}

/// Which encoder layers a method acts on.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Layers {
    /// The word `all`.
    All(All),
    /// Layers counted from 0.
    These(Vec<usize>),
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum All {
    All,
}

impl Layers {
    pub(crate) fn resolve(&self, layers: usize) -> std::result::Result<Vec<usize>, String> {
        match self {
            Self::All(_) => Ok((0..layers).collect()),
            Self::These(these) if these.is_empty() => {
                Err("layers: name at least one, or all".into())
            }
            Self::These(these) => match these.iter().find(|l| **l >= layers) {
                Some(layer) => Err(format!(
                    "layers: {layer} does not exist; the backbone has 0 … {}",
                    layers - 1
                )),
                None => Ok(these.clone()),
            },
        }
    }
}

impl Config {
    fn sites(&self, backbone: &backbone::Config) -> std::result::Result<Vec<Site>, String> {
        if self.target_modules.is_empty() {
            return Err("target_modules: name at least one".into());
        }
        let projections = self
            .target_modules
            .iter()
            .map(|m| m.parse())
            .collect::<std::result::Result<Vec<Projection>, _>>()?;
        let mut sites: Vec<Site> = self
            .layers
            .resolve(backbone.layers)?
            .into_iter()
            .flat_map(|layer| {
                projections
                    .iter()
                    .map(move |&projection| Site { layer, projection })
            })
            .collect();
        sites.sort();
        sites.dedup();
        Ok(sites)
    }
}

impl MethodConfig for Config {
    fn check(&self, backbone: &backbone::Config) -> std::result::Result<(), String> {
        if self.rank == 0 || self.rank > backbone.hidden {
            return Err(format!(
                "rank {} must be in 1 … {} (the hidden size)",
                self.rank, backbone.hidden
            ));
        }
        if !self.alpha.is_finite() || self.alpha <= 0.0 {
            return Err(format!("alpha {} must be above 0", self.alpha));
        }
        init::check_dropout(self.dropout)?;
        self.sites(backbone).map(drop)
    }

    fn build(self, context: &mut Context<'_>) -> Result<Box<dyn PeftMethod>> {
        let backbone = context.backbone;
        let r = self.rank;
        let scaling = self.alpha
            / if self.rslora {
                (r as f64).sqrt()
            } else {
                r as f64
            };
        let dtype = backbone.dtype();
        let mut updates = BTreeMap::new();
        for site in self.sites(backbone.config()).unwrap_or_default() {
            let (o, i) = backbone.shape(site);
            let a = init::uniform(context.rng, &[r, i], 1.0 / (i as f64).sqrt(), dtype)?;
            updates.insert(
                site,
                Update {
                    a,
                    b: init::zeros(&[o, r], dtype)?,
                },
            );
        }
        Ok(Box::new(Lora {
            updates,
            scaling,
            dropout: self.dropout,
        }))
    }
}

struct Update {
    a: Var,
    b: Var,
}

struct Lora {
    updates: BTreeMap<Site, Update>,
    scaling: f64,
    dropout: f64,
}

impl Hooks for Lora {
    fn acts_on(&self, site: Site) -> bool {
        self.updates.contains_key(&site)
    }

    fn linear(
        &self,
        site: Site,
        x: &Tensor,
        y: Tensor,
        pass: Pass<'_>,
    ) -> backbone::Result<Tensor> {
        match self.updates.get(&site) {
            None => Ok(y),
            Some(Update { a, b }) => {
                let x = init::dropout(x, self.dropout, pass.phase)?;
                Ok(kernels::low_rank_add(&y, &x, a, b, self.scaling)?)
            }
        }
    }
}

impl PeftMethod for Lora {
    fn vars(&self) -> Vec<(String, Var)> {
        self.updates
            .iter()
            .flat_map(|(site, u)| {
                [
                    (format!("{site}.lora_a"), u.a.clone()),
                    (format!("{site}.lora_b"), u.b.clone()),
                ]
            })
            .collect()
    }

    fn merge(&self, backbone: &Backbone) -> std::result::Result<Backbone, NotMergeable> {
        let deltas = self
            .updates
            .iter()
            .map(|(site, Update { a, b })| {
                let product = b.as_detached_tensor().matmul(&a.as_detached_tensor())?;
                Ok((*site, (product * self.scaling)?))
            })
            .collect::<Result<Vec<_>>>()
            .map_err(|e| NotMergeable(e.to_string()))?;
        Ok(backbone.merged(&deltas)?)
    }
}
