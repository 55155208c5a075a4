//! BitFit: every bias of the backbone is trained and nothing else (Ben Zaken et al. 2022, arXiv:2106.10199).
//!
//! `y = x Wᵀ + b` and `y = γ ∘ x̂ + β` with b and β trained, W and γ frozen. At a linear layer the frozen bias is in
//! y already, so what is added is the difference of the two: zero at the start. Merging puts the trained biases
//! in the place of the frozen ones.

use std::collections::BTreeMap;

use backbone::{Backbone, Hooks, LayerNorm, Linear, Norm, Pass, Site};
use candle_core::{Tensor, Var};
use serde::Deserialize;

use crate::{
    Context, NotMergeable, PeftMethod, Result,
    registry::{Entry, MethodConfig},
};

pub(crate) const ENTRY: Entry =
    Entry::of::<Config>("bitfit", include_str!("../configs/bitfit.yaml"))
        .parameters("H + L · (7 · H + I)");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {}

impl MethodConfig for Config {
    fn check(&self, _: &backbone::Config) -> std::result::Result<(), String> {
        Ok(())
    }

    fn build(self, context: &mut Context<'_>) -> Result<Box<dyn PeftMethod>> {
        let backbone = context.backbone;
        let config = backbone.config();
        let mut method = BitFit::default();
        for site in backbone.sites() {
            if let Some(frozen) = backbone.linear(site).bias() {
                let bias = Bias {
                    name: format!("{}.bias", config.tensor_name(site)),
                    trained: Var::from_tensor(frozen)?,
                    minus_frozen: frozen.neg()?,
                };
                method.linears.insert(site, bias);
            }
        }
        for at in backbone.norms() {
            let frozen = backbone.norm(at);
            let trained = Var::from_tensor(frozen.beta())?;
            let beta = trained.as_tensor().clone();
            let norm = LayerNorm::new(frozen.gamma().clone(), beta, frozen.eps())?;
            let name = format!("{}.bias", config.norm_name(at));
            method.norms.insert(at, (name, trained, norm));
        }
        Ok(Box::new(method))
    }
}

struct Bias {
    name: String,
    trained: Var,
    minus_frozen: Tensor,
}

#[derive(Default)]
struct BitFit {
    linears: BTreeMap<Site, Bias>,
    norms: BTreeMap<Norm, (String, Var, LayerNorm)>,
}

impl Hooks for BitFit {
    fn acts_on(&self, site: Site) -> bool {
        self.linears.contains_key(&site)
    }

    fn linear(&self, site: Site, _: &Tensor, y: Tensor, _: Pass<'_>) -> backbone::Result<Tensor> {
        let Some(bias) = self.linears.get(&site) else {
            return Ok(y);
        };
        let change = kernels::add(&bias.trained, &bias.minus_frozen)?;
        Ok(kernels::scale_shift(&y, None, Some(&change))?)
    }

    fn norm<'a>(&'a self, at: Norm, frozen: &'a LayerNorm) -> &'a LayerNorm {
        self.norms.get(&at).map_or(frozen, |(.., norm)| norm)
    }
}

impl PeftMethod for BitFit {
    fn vars(&self) -> Vec<(String, Var)> {
        let linears = self.linears.values().map(|b| (&b.name, &b.trained));
        let norms = self.norms.values().map(|(name, var, _)| (name, var));
        linears
            .chain(norms)
            .map(|(name, var)| (name.clone(), var.clone()))
            .collect()
    }

    fn merge(&self, backbone: &Backbone) -> std::result::Result<Backbone, NotMergeable> {
        let mut merged = backbone.clone();
        for (site, bias) in &self.linears {
            let bias = bias.trained.as_detached_tensor().copy()?;
            let linear = Linear::new(merged.linear(*site).weight().clone(), Some(bias))?;
            merged = merged.with_linear(*site, linear)?;
        }
        for (at, (_, beta, _)) in &self.norms {
            let (norm, beta) = (merged.norm(*at), beta.as_detached_tensor().copy()?);
            let norm = LayerNorm::new(norm.gamma().clone(), beta, norm.eps())?;
            merged = merged.with_norm(*at, norm)?;
        }
        Ok(merged)
    }
}
