//! LoRA: low-rank adaptation (Hu et al. 2021, arXiv:2106.09685).
//!
//! `y = x Wᵀ + b + s · (x Aᵀ) Bᵀ` with W `[out, in]` frozen, A `[R, in]` and B `[out, R]` trained, and
//! `s = alpha / R`, or `alpha / √R` with `rslora` (Kalajdzievski 2023, arXiv:2312.03732). A starts
//! Kaiming-uniform with a = √5, which is U(±1/√in); B starts at zero, so the start equals the backbone.
//! Merging adds `s · B A` to W.

use std::collections::BTreeMap;

use backbone::{Hooks, Pass, Projection, Site};
use candle_core::{Tensor, Var};
use serde::Deserialize;

use crate::{
    Context, NotMergeable, PeftMethod, Result, init,
    registry::{Entry, MethodConfig},
};

pub(crate) const ENTRY: Entry = Entry::of::<Config>("lora", include_str!("../configs/lora.yaml"));

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    rank: usize,
    alpha: f64,
    target_modules: Vec<String>,
    layers: Layers,
    rank_pattern: BTreeMap<String, usize>,
    alpha_pattern: BTreeMap<String, f64>,
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

/// The rank and the alpha of a site.
#[derive(Clone, Copy)]
struct Strength {
    rank: usize,
    alpha: f64,
}

impl Config {
    fn sites(
        &self,
        backbone: &backbone::Config,
    ) -> std::result::Result<BTreeMap<Site, Strength>, String> {
        if self.target_modules.is_empty() {
            return Err("target_modules: name at least one".into());
        }
        let strength = Strength {
            rank: self.rank,
            alpha: self.alpha,
        };
        let layers = self.layers.resolve(backbone.layers)?;
        let mut sites = BTreeMap::new();
        for module in &self.target_modules {
            if module.contains('.') {
                let site: Site = module.parse()?;
                if site.layer >= backbone.layers {
                    return Err(format!(
                        "target_modules: {site} does not exist; the backbone has layers 0 … {}",
                        backbone.layers - 1
                    ));
                }
                sites.insert(site, strength);
            } else {
                let projection: Projection = module.parse()?;
                let all = layers.iter().map(|&layer| Site { layer, projection });
                sites.extend(all.map(|site| (site, strength)));
            }
        }
        let mut of = |key: &str, name: &str, set: &dyn Fn(&mut Strength)| {
            match sites.get_mut(&name.parse::<Site>()?) {
                Some(strength) => set(strength),
                None => return Err(format!("{key}: {name} is not among the target modules")),
            }
            Ok(())
        };
        for (name, &rank) in &self.rank_pattern {
            of("rank_pattern", name, &|s| s.rank = rank)?;
        }
        for (name, &alpha) in &self.alpha_pattern {
            of("alpha_pattern", name, &|s| s.alpha = alpha)?;
        }
        Ok(sites)
    }
}

impl MethodConfig for Config {
    fn check(&self, backbone: &backbone::Config) -> std::result::Result<(), String> {
        for Strength { rank, alpha } in self.sites(backbone)?.values() {
            if !(1..=backbone.hidden).contains(rank) {
                return Err(format!(
                    "rank {rank} must be in 1 … {} (the hidden size)",
                    backbone.hidden
                ));
            }
            if !alpha.is_finite() || *alpha <= 0.0 {
                return Err(format!("alpha {alpha} must be above 0"));
            }
        }
        init::check_dropout(self.dropout)
    }

    fn build(self, context: &mut Context<'_>) -> Result<Box<dyn PeftMethod>> {
        let backbone = context.backbone;
        let dtype = backbone.dtype();
        let mut updates = BTreeMap::new();
        for (site, Strength { rank: r, alpha }) in self.sites(backbone.config()).unwrap_or_default()
        {
            let (o, i) = backbone.shape(site);
            let divisor = if self.rslora {
                (r as f64).sqrt()
            } else {
                r as f64
            };
            let a = init::uniform(context.rng, &[r, i], 1.0 / (i as f64).sqrt(), dtype)?;
            updates.insert(
                site,
                Update {
                    a,
                    b: init::zeros(&[o, r], dtype)?,
                    scaling: alpha / divisor,
                },
            );
        }
        Ok(Box::new(Lora {
            updates,
            dropout: self.dropout,
        }))
    }
}

struct Update {
    a: Var,
    b: Var,
    scaling: f64,
}

struct Lora {
    updates: BTreeMap<Site, Update>,
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
            Some(Update { a, b, scaling }) => {
                let x = init::dropout(x, self.dropout, pass.phase)?;
                Ok(kernels::low_rank_add(&y, &x, a, b, *scaling)?)
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

    fn merge(&self) -> std::result::Result<Vec<(Site, Tensor)>, NotMergeable> {
        self.updates
            .iter()
            .map(|(site, Update { a, b, scaling })| {
                Ok((
                    *site,
                    (b.as_detached_tensor().matmul(&a.as_detached_tensor())? * *scaling)?,
                ))
            })
            .collect()
    }
}
