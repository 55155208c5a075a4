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
    rank_pattern: BTreeMap<String, usize>,
    alpha_pattern: BTreeMap<String, f64>,
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
                    scaling,
                    start: Some((a, b)),
                });
            }
        };
        Ok(Update {
            a,
            b,
            scaling,
            start: None,
        })
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
        let ratio = self.b_learning_rate_ratio;
        if !ratio.is_finite() || ratio <= 0.0 {
            return Err(format!("b_learning_rate_ratio {ratio} must be above 0"));
        }
        init::check_dropout(self.dropout)
    }

    fn build(self, context: &mut Context<'_>) -> Result<Box<dyn PeftMethod>> {
        let backbone = context.backbone;
        let mut updates = BTreeMap::new();
        for (site, Strength { rank: r, alpha }) in self.sites(backbone.config()).unwrap_or_default()
        {
            let divisor = if self.rslora {
                (r as f64).sqrt()
            } else {
                r as f64
            };
            let scaling = alpha / divisor;
            let weight = backbone.linear(site).weight();
            let update = self.init.update(context.rng, weight, r, scaling)?;
            updates.insert(site, update);
        }
        Ok(Box::new(Lora {
            updates,
            dropout: self.dropout,
            b_learning_rate_ratio: self.b_learning_rate_ratio,
        }))
    }
}

struct Update {
    a: Var,
    b: Var,
    scaling: f64,
    /// What A and B were at the start, where that was taken out of W.
    start: Option<(Tensor, Tensor)>,
}

struct Lora {
    updates: BTreeMap<Site, Update>,
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
            Some(Update {
                a,
                b,
                scaling,
                start,
            }) => {
                let y = match start {
                    Some((a, b)) => kernels::low_rank_add(&y, x, a, b, -scaling)?,
                    None => y,
                };
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
            .map(|(site, u)| {
                let mut product = u.b.as_detached_tensor().matmul(&u.a.as_detached_tensor())?;
                if let Some((a, b)) = &u.start {
                    product = (product - b.matmul(a)?)?;
                }
                Ok((*site, (product * u.scaling)?))
            })
            .collect::<Result<Vec<_>>>()
            .map_err(|e| NotMergeable(e.to_string()))?;
        Ok(backbone.merged(&deltas)?)
    }
}
