//! Layer-norm tuning: the scale and shift of every layer norm are trained and nothing else (Qi et al. 2022,
//! arXiv:2211.08682; Zhao et al. 2023, arXiv:2312.11420).
//!
//! `y = γ ∘ x̂ + β` with γ and β `[H]` trained, starting at the backbone's own; of a norm without a shift γ alone. Merging puts them in the place of the
//! frozen ones.

use std::collections::BTreeMap;

use backbone::{Backbone, Hooks, LayerNorm, Norm};
use candle_core::Tensor;
use serde::Deserialize;

use crate::{
    NotMergeable, Parameters, PeftMethod, Result,
    entry::{Building, Entry, MethodConfig},
};

pub(crate) const ENTRY: Entry =
    Entry::of::<Config>("layer_norm", include_str!("../configs/layer_norm.yaml"))
        .parameters("2 · H · (1 + 2 · L)");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {}

impl MethodConfig for Config {
    fn parameters(&self, backbone: &Backbone) -> std::result::Result<f64, String> {
        let tensors = backbone
            .norms()
            .map(|at| 1 + usize::from(backbone.norm(at).has_bias()));
        Ok((tensors.sum::<usize>() * backbone.config().hidden) as f64)
    }

    fn build(&self, at: &mut Building<'_, '_>) -> Result<Box<dyn PeftMethod>> {
        let backbone = at.backbone;
        let mut norms = BTreeMap::new();
        for norm in backbone.norms() {
            let (frozen, name) = (backbone.norm(norm), backbone.config().norm_name(norm));
            let mut variable = |part: &str, frozen: &Tensor| {
                let name = format!("{name}.{part}");
                at.tensors.variable(name, frozen.dims(), |_| frozen.copy())
            };
            let gamma = variable("weight", frozen.gamma())?;
            let beta = match frozen.has_bias() {
                true => Some(variable("bias", frozen.beta())?),
                false => None,
            };
            norms.insert(norm, frozen.with(gamma, beta)?);
        }
        Ok(Box::new(LayerNormTuning {
            parameters: at.take(),
            norms,
        }))
    }
}

struct LayerNormTuning {
    parameters: Parameters,
    norms: BTreeMap<Norm, LayerNorm>,
}

impl Hooks for LayerNormTuning {
    fn norm<'a>(&'a self, at: Norm, frozen: &'a LayerNorm) -> &'a LayerNorm {
        self.norms.get(&at).unwrap_or(frozen)
    }
}

impl PeftMethod for LayerNormTuning {
    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn merge(&self, backbone: &Backbone) -> std::result::Result<Backbone, NotMergeable> {
        self.norms
            .iter()
            .try_fold(backbone.clone(), |merged, (at, trained)| {
                let copy = |tensor: &Tensor| tensor.detach().copy();
                let (gamma, beta) = (copy(trained.gamma())?, copy(trained.beta())?);
                let norm = trained.with(gamma, Some(beta))?;
                Ok(merged.with_norm(*at, norm)?)
            })
    }
}
