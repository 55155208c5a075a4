//! Layer-norm tuning: the scale and shift of every layer norm are trained and nothing else (Qi et al. 2022,
//! arXiv:2211.08682; Zhao et al. 2023, arXiv:2312.11420).
//!
//! `y = γ ∘ x̂ + β` with γ and β `[H]` trained, starting at the backbone's own. Merging puts them in the place of the
//! frozen ones.

use std::collections::BTreeMap;

use backbone::{Backbone, Hooks, LayerNorm, Norm};
use candle_core::Var;
use serde::Deserialize;

use crate::{
    Context, NotMergeable, PeftMethod, Result,
    registry::{Entry, MethodConfig},
};

pub(crate) const ENTRY: Entry =
    Entry::of::<Config>("layer_norm", include_str!("../configs/layer_norm.yaml"))
        .parameters("2 · H · (1 + 2 · L)");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {}

impl MethodConfig for Config {
    fn check(&self, _: &backbone::Config) -> std::result::Result<(), String> {
        Ok(())
    }

    fn build(self, context: &mut Context<'_>) -> Result<Box<dyn PeftMethod>> {
        let backbone = context.backbone;
        let mut norms = BTreeMap::new();
        for at in backbone.norms() {
            let frozen = backbone.norm(at);
            let gamma = Var::from_tensor(frozen.gamma())?;
            let beta = Var::from_tensor(frozen.beta())?;
            let (g, b) = (gamma.as_tensor().clone(), beta.as_tensor().clone());
            let trained = Trained {
                name: backbone.config().norm_name(at),
                norm: LayerNorm::new(g, b, frozen.eps())?,
                gamma,
                beta,
            };
            norms.insert(at, trained);
        }
        Ok(Box::new(LayerNormTuning { norms }))
    }
}

struct Trained {
    name: String,
    gamma: Var,
    beta: Var,
    norm: LayerNorm,
}

struct LayerNormTuning {
    norms: BTreeMap<Norm, Trained>,
}

impl Hooks for LayerNormTuning {
    fn norm<'a>(&'a self, at: Norm, frozen: &'a LayerNorm) -> &'a LayerNorm {
        self.norms.get(&at).map_or(frozen, |trained| &trained.norm)
    }
}

impl PeftMethod for LayerNormTuning {
    fn vars(&self) -> Vec<(String, Var)> {
        self.norms
            .values()
            .flat_map(|t| {
                [
                    (format!("{}.weight", t.name), t.gamma.clone()),
                    (format!("{}.bias", t.name), t.beta.clone()),
                ]
            })
            .collect()
    }

    fn merge(&self, backbone: &Backbone) -> std::result::Result<Backbone, NotMergeable> {
        self.norms
            .iter()
            .try_fold(backbone.clone(), |merged, (at, trained)| {
                let copy = |var: &Var| var.as_detached_tensor().copy();
                let norm = LayerNorm::new(
                    copy(&trained.gamma)?,
                    copy(&trained.beta)?,
                    trained.norm.eps(),
                )?;
                Ok(merged.with_norm(*at, norm)?)
            })
    }
}
