//! LoRA: low-rank adaptation (Hu et al. 2021, arXiv:2106.09685).
//!
//! `y = x Wᵀ + b + s · (x Aᵀ) Bᵀ` with W `[out, in]` frozen, A `[R, in]` and B `[out, R]` trained, and
//! `s = alpha / R`, or `alpha / √R` with `rslora` (Kalajdzievski 2023, arXiv:2312.03732). Starts:
//! - `kaiming`: A from U(±1/√in), which is Kaiming-uniform with a = √5, and B zero;
//! - `gaussian`: A from N(0, 1/R²) and B zero;
//! - `pissa` (Meng et al. 2024, arXiv:2404.02948): A = √(Σ/s) Vᵀ and B = U √(Σ/s) of W's R largest singular values;
//! - `olora` (Büyükakyüz 2024, arXiv:2406.01775): with W = Q·R, B is Q's first R columns and A is R's first R rows.
//!
//! The last two take `s · B₀ A₀` of the start out of W, so that every start equals the backbone. W itself is never
//! touched: `y = x Wᵀ + b + s · (x Aᵀ) Bᵀ − s · (x A₀ᵀ) B₀ᵀ`. Merging adds `s · (B A − B₀ A₀)` to W.
//!
//! LoRA+ (Hayou et al. 2024, arXiv:2402.12354) gives B a learning rate of its own, `b_learning_rate_ratio` times A's.

use std::collections::BTreeMap;

use backbone::{Backbone, Hooks, Pass, Projection, Site};
use candle_core::{Tensor, Var};
use rand_chacha::ChaCha8Rng;
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
    init: Start,
    b_learning_rate_ratio: f64,
}

/// Where A and B start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Start {
    Kaiming,
    Gaussian,
    Pissa,
    Olora,
}

impl Start {
    /// The update `s · B A` of a site with this weight.
    fn update(
        self,
        rng: &mut ChaCha8Rng,
        weight: &Tensor,
        r: usize,
        scaling: f64,
    ) -> candle_core::Result<Update> {
        let ((o, i), dtype) = (weight.dims2()?, weight.dtype());
        let (a, b) = match self {
            Self::Kaiming => {
                let a = init::uniform(rng, &[r, i], 1.0 / (i as f64).sqrt(), dtype)?;
                (a, init::zeros(&[o, r], dtype)?)
            }
            Self::Gaussian => {
                let a = init::normal(rng, &[r, i], 1.0 / r as f64, dtype)?;
                (a, init::zeros(&[o, r], dtype)?)
            }
            Self::Pissa | Self::Olora => {
                let (a, b) = if self == Self::Pissa {
                    init::singular_factors(weight, r, scaling)?
                } else {
                    init::qr_factors(weight, r)?
                };
                return Ok(Update {
                    a: Var::from_tensor(&a)?,
                    b: Var::from_tensor(&b)?,
                    start: Some((a, b)),
                });
            }
        };
        Ok(Update { a, b, start: None })
    }
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
        let ratio = self.b_learning_rate_ratio;
        if !ratio.is_finite() || ratio <= 0.0 {
            return Err(format!("b_learning_rate_ratio {ratio} must be above 0"));
        }
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
        let mut updates = BTreeMap::new();
        for site in self.sites(backbone.config()).unwrap_or_default() {
            let weight = backbone.linear(site).weight();
            let update = self.init.update(context.rng, weight, r, scaling)?;
            updates.insert(site, update);
        }
        Ok(Box::new(Lora {
            updates,
            scaling,
            dropout: self.dropout,
            b_learning_rate_ratio: self.b_learning_rate_ratio,
        }))
    }
}

struct Update {
    a: Var,
    b: Var,
    /// What A and B were at the start, where that was taken out of W.
    start: Option<(Tensor, Tensor)>,
}

struct Lora {
    updates: BTreeMap<Site, Update>,
    scaling: f64,
    dropout: f64,
    b_learning_rate_ratio: f64,
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
            Some(Update { a, b, start }) => {
                let y = match start {
                    Some((a, b)) => kernels::low_rank_add(&y, x, a, b, -self.scaling)?,
                    None => y,
                };
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

    fn learning_rate_factor(&self, variable: &str) -> f64 {
        if variable.ends_with(".lora_b") {
            self.b_learning_rate_ratio
        } else {
            1.0
        }
    }

    fn merge(&self, backbone: &Backbone) -> std::result::Result<Backbone, NotMergeable> {
        let deltas = self
            .updates
            .iter()
            .map(|(site, Update { a, b, start })| {
                let mut product = b.as_detached_tensor().matmul(&a.as_detached_tensor())?;
                if let Some((a, b)) = start {
                    product = (product - b.matmul(a)?)?;
                }
                Ok((*site, (product * self.scaling)?))
            })
            .collect::<Result<Vec<_>>>()
            .map_err(|e| NotMergeable(e.to_string()))?;
        Ok(backbone.merged(&deltas)?)
    }
}
