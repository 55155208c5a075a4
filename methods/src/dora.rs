//! DoRA: weight-decomposed low-rank adaptation (Liu et al. 2024, arXiv:2402.09353).
//!
//! `W' = m ∘ (W + s·BA) / ‖W + s·BA‖`: the direction of each output's row gets LoRA's update, its length m `[out]` is
//! trained by itself and starts at ‖W‖. The norm counts as a constant for the gradient (section 4.3), so with
//! `c = m / ‖W + s·BA‖` a layer gives `c ∘ (x Wᵀ + s · (x Aᵀ) Bᵀ) + b`. Starts as LoRA, equal to the backbone.
//! Merging puts W' in the place of W.

use std::collections::BTreeMap;

use backbone::{Backbone, Hooks, Linear, Pass, Site};
use candle_core::{D, Tensor, Var};
use serde::Deserialize;

use crate::{
    Context, NotMergeable, PeftMethod, Result, init,
    lora::Layers,
    registry::{Entry, MethodConfig},
    targets,
};

pub(crate) const ENTRY: Entry = Entry::of::<Config>("dora", include_str!("../configs/dora.yaml"))
    .parameters("L · target_modules · (2 · rank · H + H)");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    rank: usize,
    alpha: f64,
    target_modules: Vec<String>,
    layers: Layers,
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
        targets::sites(&self.target_modules, &self.layers, backbone).map(drop)
    }

    fn build(self, context: &mut Context<'_>) -> Result<Box<dyn PeftMethod>> {
        let backbone = context.backbone;
        let (r, dtype) = (self.rank, backbone.dtype());
        let sites = targets::sites(&self.target_modules, &self.layers, backbone.config());
        let mut updates = BTreeMap::new();
        for site in sites.unwrap_or_default() {
            let (o, i) = backbone.shape(site);
            let frozen = backbone.linear(site).clone();
            let squares = frozen.weight().sqr()?.sum(D::Minus1)?;
            let update = Update {
                a: init::uniform(context.rng, &[r, i], 1.0 / (i as f64).sqrt(), dtype)?,
                b: init::zeros(&[o, r], dtype)?,
                magnitude: Var::from_tensor(&squares.sqrt()?)?,
                minus_bias: frozen.bias().map(Tensor::neg).transpose()?,
                frozen,
                squares,
            };
            updates.insert(site, update);
        }
        Ok(Box::new(Dora {
            updates,
            scaling: self.alpha / r as f64,
        }))
    }
}

struct Update {
    a: Var,
    b: Var,
    magnitude: Var,
    frozen: Linear,
    /// ‖W‖² of each row, `[out]`.
    squares: Tensor,
    minus_bias: Option<Tensor>,
}

impl Update {
    /// `1 / ‖W + s·BA‖` of each row, `[out]`: `‖W‖² + 2s B·(W Aᵀ) + s² B·(B A Aᵀ)` needs no matrix of W's size.
    fn inverse_norm(&self, scaling: f64) -> candle_core::Result<Tensor> {
        let (a, b) = (self.a.as_detached_tensor(), self.b.as_detached_tensor());
        let a_t = a.t()?.contiguous()?;
        let mixed = (&b * self.frozen.weight().matmul(&a_t)?)?.sum(D::Minus1)?;
        let own = (&b * b.matmul(&a.matmul(&a_t)?)?)?.sum(D::Minus1)?;
        let squares = ((&self.squares + (mixed * (2.0 * scaling))?)? + (own * scaling.powi(2))?)?;
        squares.sqrt()?.recip()
    }
}

struct Dora {
    updates: BTreeMap<Site, Update>,
    scaling: f64,
}

impl Hooks for Dora {
    fn acts_on(&self, site: Site) -> bool {
        self.updates.contains_key(&site)
    }

    fn linear(&self, site: Site, x: &Tensor, y: Tensor, _: Pass<'_>) -> backbone::Result<Tensor> {
        let Some(update) = self.updates.get(&site) else {
            return Ok(y);
        };
        let inverse = update.inverse_norm(self.scaling)?;
        let scale = kernels::scale_shift(&update.magnitude, Some(&inverse), None)?;
        // y holds the bias, which is not scaled: c ∘ y + (b − c ∘ b).
        let shift = update
            .minus_bias
            .as_ref()
            .map(|minus| kernels::scale_shift(&scale, Some(minus), update.frozen.bias()))
            .transpose()?;
        let y = kernels::low_rank_add(&y, x, &update.a, &update.b, self.scaling)?;
        Ok(kernels::scale_shift(&y, Some(&scale), shift.as_ref())?)
    }
}

impl PeftMethod for Dora {
    fn vars(&self) -> Vec<(String, Var)> {
        self.updates
            .iter()
            .flat_map(|(site, u)| {
                [
                    (format!("{site}.lora_a"), u.a.clone()),
                    (format!("{site}.lora_b"), u.b.clone()),
                    (format!("{site}.magnitude"), u.magnitude.clone()),
                ]
            })
            .collect()
    }

    fn merge(&self, backbone: &Backbone) -> std::result::Result<Backbone, NotMergeable> {
        let mut merged = backbone.clone();
        for (site, update) in &self.updates {
            let linear = merged.linear(*site).clone();
            let (a, b) = (update.a.as_detached_tensor(), update.b.as_detached_tensor());
            let scale =
                (update.magnitude.as_detached_tensor() * update.inverse_norm(self.scaling)?)?;
            let weight = (linear.weight() + (b.matmul(&a)? * self.scaling)?)?
                .broadcast_mul(&scale.unsqueeze(1)?)?;
            merged = merged.with_linear(*site, Linear::new(weight, linear.bias().cloned())?)?;
        }
        Ok(merged)
    }
}
