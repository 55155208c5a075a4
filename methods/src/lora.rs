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
//! touched: `y = x Wᵀ + b + s · (x Aᵀ) Bᵀ − s · (x A₀ᵀ) B₀ᵀ`. Merging adds `s · (B A − B₀ A₀)` to W. A₀ and B₀ are
//! shipped, so that nobody who loads the file has to factor W again.
//!
//! LoRA+ (Hayou et al. 2024, arXiv:2402.12354) gives B a learning rate of its own, `b_learning_rate_ratio` times A's.

use std::collections::BTreeMap;

use backbone::{Backbone, Hooks, Linear, Pass, Site};
use candle_core::Tensor;
use kernels::LowRank;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    NotMergeable, Parameters, PeftMethod, Result,
    entry::{Building, Entry, MethodConfig},
    init,
    parameters::Training,
    targets::{self, Layers},
};

pub(crate) const ENTRY: Entry = Entry::of::<Config>("lora", include_str!("../configs/lora.yaml"))
    .standard()
    .parameters("L · target_modules · 2 · rank · H");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    rank: usize,
    alpha: f64,
    target_modules: Option<Vec<String>>,
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
    /// The start of A and B that is taken out of a weight.
    fn factors(
        self,
        frozen: &Linear,
        r: usize,
        scaling: f64,
    ) -> candle_core::Result<Option<(Tensor, Tensor)>> {
        match self {
            Self::Kaiming | Self::Gaussian => Ok(None),
            Self::Pissa => init::singular_factors(&frozen.weight(), r, scaling).map(Some),
            Self::Olora => init::qr_factors(&frozen.weight(), r).map(Some),
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
    fn modules(&self, backbone: &backbone::Config) -> Vec<String> {
        targets::modules(&self.target_modules, backbone.lora_targets(), backbone)
    }

    fn sites(
        &self,
        backbone: &backbone::Config,
    ) -> std::result::Result<BTreeMap<Site, Strength>, String> {
        let modules = self.modules(backbone);
        if modules.is_empty() {
            return Err("target_modules: name at least one".into());
        }
        let strength = Strength {
            rank: self.rank,
            alpha: self.alpha,
        };
        let layers = self.layers.resolve(backbone.layers)?;
        let mut sites = BTreeMap::new();
        for module in &modules {
            if module.contains('.') {
                let site: Site = module.parse()?;
                targets::projection(site.projection.name(), backbone)?;
                if site.layer >= backbone.layers {
                    return Err(format!(
                        "target_modules: {site} does not exist; the backbone has layers 0 … {}",
                        backbone.layers - 1
                    ));
                }
                sites.insert(site, strength);
            } else {
                let projection = targets::projection(module, backbone)?;
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
        for (site, Strength { rank, alpha }) in &self.sites(backbone)? {
            if !(1..=backbone.hidden).contains(rank) {
                return Err(format!(
                    "rank {rank} must be in 1 … {} (the hidden size)",
                    backbone.hidden
                ));
            }
            let (o, i) = backbone.shape(site.projection);
            if matches!(self.init, Start::Pissa | Start::Olora) && *rank > o.min(i) {
                return Err(format!(
                    "rank {rank} is above {}, and {site} has no more factors to start from",
                    o.min(i)
                ));
            }
            init::check_alpha(*alpha)?;
        }
        let ratio = self.b_learning_rate_ratio;
        if !ratio.is_finite() || ratio <= 0.0 {
            return Err(format!("b_learning_rate_ratio {ratio} must be above 0"));
        }
        init::check_dropout(self.dropout)
    }

    fn of_family(&self, backbone: &backbone::Config) -> Map<String, Value> {
        let modules = self.modules(backbone);
        Map::from_iter([("target_modules".to_owned(), modules.into())])
    }

    fn parameters(&self, backbone: &Backbone) -> std::result::Result<f64, String> {
        let sites = self.sites(backbone.config())?;
        let of_site = |(site, strength): (&Site, &Strength)| {
            let (o, i) = backbone.shape(*site);
            strength.rank as f64 * (o + i) as f64
        };
        Ok(sites.iter().map(of_site).sum())
    }

    fn build(&self, at: &mut Building<'_, '_>) -> Result<Box<dyn PeftMethod>> {
        let (backbone, dtype) = (at.backbone, at.backbone.dtype());
        let mut updates = BTreeMap::new();
        for (site, Strength { rank: r, alpha }) in at.valid(self.sites(backbone.config()))? {
            let divisor = if self.rslora {
                (r as f64).sqrt()
            } else {
                r as f64
            };
            let scaling = alpha / divisor;
            let (o, i) = backbone.shape(site);
            let factors = match at.tensors.is_saved() {
                true => None,
                false => self.init.factors(backbone.linear(site), r, scaling)?,
            };
            let a = at
                .tensors
                .variable(format!("{site}.lora_a"), &[r, i], |rng| {
                    match (&factors, self.init) {
                        (Some((a, _)), _) => Ok(a.clone()),
                        (None, Start::Gaussian) => {
                            init::normal(rng, &[r, i], 1.0 / r as f64, dtype)
                        }
                        (None, _) => init::uniform(rng, &[r, i], 1.0 / (i as f64).sqrt(), dtype),
                    }
                })?;
            let training = Training {
                learning_rate_factor: self.b_learning_rate_ratio,
                decays: true,
            };
            let b =
                at.tensors.trained(
                    format!("{site}.lora_b"),
                    &[o, r],
                    training,
                    |_| match &factors {
                        Some((_, b)) => Ok(b.clone()),
                        None => init::zeros(&[o, r], dtype),
                    },
                )?;
            let start = match self.init {
                Start::Kaiming | Start::Gaussian => None,
                Start::Pissa | Start::Olora => {
                    // At the start they have just been computed.
                    let (a, b) = factors.unzip();
                    let missing = || candle_core::Error::Msg("no factors".into());
                    let mut keep = |name: &str, shape: &[usize], start: Option<Tensor>| {
                        let name = format!("{site}.{name}");
                        at.tensors
                            .constant(name, shape, |_| start.ok_or_else(missing))
                    };
                    let (a, b) = (keep("start_a", &[r, i], a)?, keep("start_b", &[o, r], b)?);
                    Some(LowRank::new(a, b, -scaling)?)
                }
            };
            let update = Update {
                change: LowRank::new(a, b, scaling)?,
                start,
            };
            updates.insert(site, update);
        }
        Ok(Box::new(Lora {
            parameters: at.take(),
            updates,
            dropout: self.dropout,
        }))
    }
}

struct Update {
    change: LowRank,
    /// What the change was at the start, negative, where that was taken out of W.
    start: Option<LowRank>,
}

struct Lora {
    parameters: Parameters,
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
        let Some(Update { change, start }) = self.updates.get(&site) else {
            return Ok(y);
        };
        let y = match start {
            Some(start) => start.add(&y, x)?,
            None => y,
        };
        let x = init::dropout(x, self.dropout, pass.phase)?;
        Ok(change.add(&y, &x)?)
    }
}

impl PeftMethod for Lora {
    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn merge(&self, backbone: &Backbone) -> std::result::Result<Backbone, NotMergeable> {
        let product = |update: &LowRank| {
            let product = update.b().detach().matmul(&update.a().detach())?;
            product * update.scaling()
        };
        let deltas = self
            .updates
            .iter()
            .map(|(site, Update { change, start })| {
                let mut delta = product(change)?;
                if let Some(start) = start {
                    delta = (delta + product(start)?)?;
                }
                Ok((*site, delta))
            })
            .collect::<candle_core::Result<Vec<_>>>()?;
        Ok(backbone.merged(&deltas)?)
    }
}
