//! DoRA: weight-decomposed low-rank adaptation (Liu et al. 2024, arXiv:2402.09353).
//!
//! `W' = m ∘ (W + s·BA) / ‖W + s·BA‖`: the direction of each output's row gets LoRA's update, its length m `[out]` is
//! trained by itself and starts at ‖W‖. The norm counts as a constant for the gradient (section 4.3), so with
//! `c = m / ‖W + s·BA‖` a layer gives `c ∘ (x Wᵀ + s · (x Aᵀ) Bᵀ) + b`. Starts as LoRA, equal to the backbone.
//! Merging puts W' in the place of W.

use std::collections::BTreeMap;

use backbone::{Backbone, Hooks, Linear, Pass, Site};
use candle_core::{D, Tensor};
use kernels::LowRank;
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    NotMergeable, Parameters, PeftMethod, Result,
    entry::{Building, Entry, MethodConfig},
    init,
    targets::{self, Layers},
};

pub(crate) const ENTRY: Entry = Entry::of::<Config>("dora", include_str!("../configs/dora.yaml"))
    .parameters("L · target_modules · (2 · rank · H + H)");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    rank: usize,
    alpha: f64,
    target_modules: Option<Vec<String>>,
    layers: Layers,
}

impl Config {
    fn modules(&self, backbone: &backbone::Config) -> Vec<String> {
        targets::modules(&self.target_modules, backbone.lora_targets(), backbone)
    }

    fn sites(&self, backbone: &backbone::Config) -> std::result::Result<Vec<Site>, String> {
        targets::sites(&self.modules(backbone), &self.layers, backbone)
    }
}

impl MethodConfig for Config {
    fn of_family(&self, backbone: &backbone::Config) -> Map<String, Value> {
        let modules = self.modules(backbone);
        Map::from_iter([("target_modules".to_owned(), modules.into())])
    }

    fn check(&self, backbone: &backbone::Config) -> std::result::Result<(), String> {
        if self.rank == 0 || self.rank > backbone.hidden {
            return Err(format!(
                "rank {} must be in 1 … {} (the hidden size)",
                self.rank, backbone.hidden
            ));
        }
        init::check_alpha(self.alpha)?;
        self.sites(backbone).map(drop)
    }

    fn parameters(&self, backbone: &Backbone) -> std::result::Result<f64, String> {
        let sites = self.sites(backbone.config())?;
        let of_site = |site: &Site| {
            let (o, i) = backbone.shape(*site);
            self.rank as f64 * (o + i) as f64 + o as f64
        };
        Ok(sites.iter().map(of_site).sum())
    }

    fn build(&self, at: &mut Building<'_, '_>) -> Result<Box<dyn PeftMethod>> {
        let backbone = at.backbone;
        let (r, dtype) = (self.rank, backbone.dtype());
        let sites = self.sites(backbone.config());
        let mut updates = BTreeMap::new();
        for site in at.valid(sites)? {
            let (o, i) = backbone.shape(site);
            let frozen = backbone.linear(site).clone();
            let squares = frozen.weight().sqr()?.sum(D::Minus1)?;
            let mut variable =
                |name: &str,
                 shape: &[usize],
                 start: &dyn Fn(&mut ChaCha8Rng) -> candle_core::Result<Tensor>| {
                    let name = format!("{site}.{name}");
                    at.tensors.variable(name, shape, |rng| start(rng))
                };
            let a = variable("lora_a", &[r, i], &|rng| {
                init::uniform(rng, &[r, i], 1.0 / (i as f64).sqrt(), dtype)
            })?;
            let b = variable("lora_b", &[o, r], &|_| init::zeros(&[o, r], dtype))?;
            let magnitude = variable("magnitude", &[o], &|_| squares.sqrt())?;
            let mut update = Update {
                change: LowRank::new(a, b, self.alpha / r as f64)?,
                magnitude,
                minus_bias: frozen.bias().map(Tensor::neg).transpose()?,
                frozen,
                squares,
                affine: None,
            };
            let fixed = at.tensors.once(|| {
                let (scale, shift) = update.affine()?;
                Ok(std::iter::once(scale).chain(shift).collect())
            })?;
            let mut fixed = fixed.into_iter();
            update.affine = fixed.next().map(|scale| (scale, fixed.next()));
            updates.insert(site, update);
        }
        Ok(Box::new(Dora {
            parameters: at.take(),
            updates,
        }))
    }
}

struct Update {
    change: LowRank,
    /// m, `[out]`.
    magnitude: Tensor,
    frozen: Linear,
    /// ‖W‖² of each row, `[out]`.
    squares: Tensor,
    minus_bias: Option<Tensor>,
    /// What [`Update::affine`] gives, where nothing of it is trained.
    affine: Option<(Tensor, Option<Tensor>)>,
}

impl Update {
    /// c, and the shift `b − c ∘ b` that leaves the bias as it is: y holds it, and it is not scaled.
    fn affine(&self) -> candle_core::Result<(Tensor, Option<Tensor>)> {
        let inverse = self.inverse_norm()?;
        let scale = kernels::scale_shift(&self.magnitude, Some(&inverse), None)?;
        let shift = self
            .minus_bias
            .as_ref()
            .map(|minus| kernels::scale_shift(&scale, Some(minus), self.frozen.bias()))
            .transpose()?;
        Ok((scale, shift))
    }

    /// `1 / ‖W + s·BA‖` of each row, `[out]`: `‖W‖² + 2s B·(W Aᵀ) + s² B·(B A Aᵀ)` needs no matrix of W's size.
    fn inverse_norm(&self) -> candle_core::Result<Tensor> {
        let (a, b) = (self.change.a().detach(), self.change.b().detach());
        let scaling = self.change.scaling();
        let a_t = a.t()?.contiguous()?;
        let mixed = (&b * self.frozen.weight().matmul(&a_t)?)?.sum(D::Minus1)?;
        let own = (&b * b.matmul(&a.matmul(&a_t)?)?)?.sum(D::Minus1)?;
        let squares = ((&self.squares + (mixed * (2.0 * scaling))?)? + (own * scaling.powi(2))?)?;
        squares.sqrt()?.recip()
    }
}

struct Dora {
    parameters: Parameters,
    updates: BTreeMap<Site, Update>,
}

impl Hooks for Dora {
    fn acts_on(&self, site: Site) -> bool {
        self.updates.contains_key(&site)
    }

    fn linear(&self, site: Site, x: &Tensor, y: Tensor, _: Pass<'_>) -> backbone::Result<Tensor> {
        let Some(update) = self.updates.get(&site) else {
            return Ok(y);
        };
        let computed;
        let (scale, shift) = match &update.affine {
            Some(affine) => affine,
            None => {
                computed = update.affine()?;
                &computed
            }
        };
        let y = update.change.add(&y, x)?;
        Ok(kernels::scale_shift(&y, Some(scale), shift.as_ref())?)
    }
}

impl PeftMethod for Dora {
    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn merge(&self, backbone: &Backbone) -> std::result::Result<Backbone, NotMergeable> {
        let mut merged = backbone.clone();
        for (site, update) in &self.updates {
            let linear = merged.linear(*site).clone();
            let (a, b) = (update.change.a().detach(), update.change.b().detach());
            let scale = (update.magnitude.detach() * update.inverse_norm()?)?;
            let weight = (linear.weight() + (b.matmul(&a)? * update.change.scaling())?)?
                .broadcast_mul(&scale.unsqueeze(1)?)?;
            merged = merged.with_linear(*site, Linear::new(weight, linear.bias().cloned())?)?;
        }
        Ok(merged)
    }
}
