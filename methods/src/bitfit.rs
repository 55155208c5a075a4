//! BitFit: every bias of the backbone is trained and nothing else (Ben Zaken et al. 2022, arXiv:2106.10199).
//!
//! `y = x Wᵀ + b` and `y = γ ∘ x̂ + β` with b and β trained, W and γ frozen. At a linear layer the frozen bias is in
//! y already, so what is added is the difference of the two: zero at the start. Merging puts the trained biases
//! in the place of the frozen ones.

use std::collections::BTreeMap;

use backbone::{Backbone, Hooks, LayerNorm, Linear, Norm, Pass, Site};
use candle_core::Tensor;
use serde::Deserialize;

use crate::{
    NotMergeable, Parameters, PeftMethod, Result,
    entry::{Building, Entry, MethodConfig},
};

pub(crate) const ENTRY: Entry =
    Entry::of::<Config>("bitfit", include_str!("../configs/bitfit.yaml"))
        .parameters("H + L · (7 · H + I)");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {}

impl MethodConfig for Config {
    fn check(&self, backbone: &backbone::Config) -> std::result::Result<(), String> {
        match backbone.description.has_biases() {
            true => Ok(()),
            false => Err(format!(
                "this {} has no biases, and nothing else is trained; layer_norm trains the scales of its norms",
                backbone.architecture.name()
            )),
        }
    }

    fn parameters(&self, backbone: &Backbone) -> std::result::Result<f64, String> {
        let linears = backbone.sites().filter_map(|s| backbone.linear(s).bias());
        let linears: usize = linears.map(Tensor::elem_count).sum();
        let norms = backbone.norms().filter(|at| backbone.norm(*at).has_bias());
        Ok((linears + norms.count() * backbone.config().hidden) as f64)
    }

    fn build(&self, at: &mut Building<'_, '_>) -> Result<Box<dyn PeftMethod>> {
        let backbone = at.backbone;
        let config = backbone.config();
        let mut linears = BTreeMap::new();
        for site in backbone.sites() {
            let Some(frozen) = backbone.linear(site).bias() else {
                continue;
            };
            let name = format!("{}.bias", config.tensor_name(site));
            let trained = at
                .tensors
                .variable(name, frozen.dims(), |_| frozen.copy())?;
            let minus_frozen = frozen.neg()?;
            let change = at
                .tensors
                .once(|| Ok(vec![kernels::add(&trained, &minus_frozen)?]))?;
            let bias = Bias {
                trained,
                minus_frozen,
                change: change.into_iter().next(),
            };
            linears.insert(site, bias);
        }
        let mut norms = BTreeMap::new();
        for norm in backbone.norms() {
            let frozen = backbone.norm(norm);
            if !frozen.has_bias() {
                continue;
            }
            let name = format!("{}.bias", config.norm_name(norm));
            let beta = frozen.beta();
            let beta = at.tensors.variable(name, beta.dims(), |_| beta.copy())?;
            let trained = LayerNorm::new(frozen.gamma().clone(), beta, frozen.eps())?;
            norms.insert(norm, trained);
        }
        Ok(Box::new(BitFit {
            parameters: at.take(),
            linears,
            norms,
        }))
    }
}

struct Bias {
    trained: Tensor,
    minus_frozen: Tensor,
    /// The sum of the two, where none of it is trained.
    change: Option<Tensor>,
}

struct BitFit {
    parameters: Parameters,
    linears: BTreeMap<Site, Bias>,
    norms: BTreeMap<Norm, LayerNorm>,
}

impl Hooks for BitFit {
    fn acts_on(&self, site: Site) -> bool {
        self.linears.contains_key(&site)
    }

    fn linear(&self, site: Site, _: &Tensor, y: Tensor, _: Pass<'_>) -> backbone::Result<Tensor> {
        let Some(bias) = self.linears.get(&site) else {
            return Ok(y);
        };
        let computed;
        let change = match &bias.change {
            Some(change) => change,
            None => {
                computed = kernels::add(&bias.trained, &bias.minus_frozen)?;
                &computed
            }
        };
        Ok(kernels::scale_shift(&y, None, Some(change))?)
    }

    fn norm<'a>(&'a self, at: Norm, frozen: &'a LayerNorm) -> &'a LayerNorm {
        self.norms.get(&at).unwrap_or(frozen)
    }
}

impl PeftMethod for BitFit {
    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn merge(&self, backbone: &Backbone) -> std::result::Result<Backbone, NotMergeable> {
        let mut merged = backbone.clone();
        for (site, bias) in &self.linears {
            let bias = bias.trained.detach().copy()?;
            let linear = Linear::new(merged.linear(*site).weight(), Some(bias))?;
            merged = merged.with_linear(*site, linear)?;
        }
        for (at, trained) in &self.norms {
            let (norm, beta) = (merged.norm(*at), trained.beta().detach().copy()?);
            let norm = LayerNorm::new(norm.gamma().clone(), beta, norm.eps())?;
            merged = merged.with_norm(*at, norm)?;
        }
        Ok(merged)
    }
}
