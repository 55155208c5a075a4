//! Bottleneck adapters (Houlsby et al. 2019, arXiv:1902.00751; Pfeiffer et al. 2020, arXiv:2005.00247).
//!
//! `h' = h + f(x D ᵀ + d) Uᵀ + u` with D `[H/r, H]` and U `[H, H/r]`, r the reduction factor. `houlsby` puts
//! one after each of the two sublayers, with x = h. `pfeiffer` puts one after the feed-forward network
//! only, with x = LN(h + residual), the residual around it taken before that norm: the arrangement of
//! AdapterHub's `seq_bn`. Weights start at N(0, 0.02²) and biases at zero, so the start is near the backbone.

use std::collections::BTreeMap;

use backbone::{Activation, Backbone, Hooks, LayerNorm, Linear, Pass, Sublayer};
use candle_core::{Tensor, Var};
use serde::Deserialize;

use crate::{
    Context, NotMergeable, PeftMethod, Result, init,
    lora::Layers,
    registry::{Entry, MethodConfig},
};

pub(crate) const ENTRY: Entry =
    Entry::of::<Config>("adapter", include_str!("../configs/adapter.yaml"))
        .standard()
        .parameters("2 · L · (2 · H · b + b + H)");

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Placement {
    Houlsby,
    Pfeiffer,
}

impl Placement {
    fn sublayers(self) -> &'static [Sublayer] {
        match self {
            Self::Houlsby => &[Sublayer::Attention, Sublayer::FeedForward],
            Self::Pfeiffer => &[Sublayer::FeedForward],
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    placement: Placement,
    reduction_factor: f64,
    activation: Option<Activation>,
    layers: Layers,
    dropout: f64,
}

impl Config {
    fn bottleneck(&self, hidden: usize) -> usize {
        (hidden as f64 / self.reduction_factor) as usize
    }
}

impl MethodConfig for Config {
    fn check(&self, backbone: &backbone::Config) -> std::result::Result<(), String> {
        let h = backbone.hidden;
        if !(self.reduction_factor > 0.0 && self.bottleneck(h) >= 1) {
            return Err(format!(
                "reduction_factor {} must be above 0 and at most {h} (the hidden size)",
                self.reduction_factor
            ));
        }
        init::check_dropout(self.dropout)?;
        self.layers.resolve(backbone.layers).map(drop)
    }

    fn build(self, context: &mut Context<'_>) -> Result<Box<dyn PeftMethod>> {
        let backbone = context.backbone;
        let (h, dtype) = (backbone.config().hidden, backbone.dtype());
        let b = self.bottleneck(h);
        let activation = self.activation.unwrap_or(match self.placement {
            Placement::Houlsby => Activation::Swish,
            Placement::Pfeiffer => Activation::Relu,
        });
        let mut bottlenecks = BTreeMap::new();
        for layer in self
            .layers
            .resolve(backbone.config().layers)
            .unwrap_or_default()
        {
            for &sublayer in self.placement.sublayers() {
                let vars = [
                    (
                        "down.weight",
                        init::normal(context.rng, &[b, h], 0.02, dtype)?,
                    ),
                    ("down.bias", init::zeros(&[b], dtype)?),
                    (
                        "up.weight",
                        init::normal(context.rng, &[h, b], 0.02, dtype)?,
                    ),
                    ("up.bias", init::zeros(&[h], dtype)?),
                ];
                let linear = |w: usize| {
                    Linear::new(
                        vars[w].1.as_tensor().clone(),
                        Some(vars[w + 1].1.as_tensor().clone()),
                    )
                };
                bottlenecks.insert(
                    (layer, sublayer),
                    Bottleneck {
                        down: linear(0)?,
                        up: linear(2)?,
                        vars,
                    },
                );
            }
        }
        Ok(Box::new(Adapter {
            bottlenecks,
            placement: self.placement,
            activation,
            dropout: self.dropout,
        }))
    }
}

struct Bottleneck {
    down: Linear,
    up: Linear,
    vars: [(&'static str, Var); 4],
}

struct Adapter {
    bottlenecks: BTreeMap<(usize, Sublayer), Bottleneck>,
    placement: Placement,
    activation: Activation,
    dropout: f64,
}

impl Hooks for Adapter {
    fn sublayer(
        &self,
        layer: usize,
        which: Sublayer,
        h: Tensor,
        residual: &Tensor,
        norm: &LayerNorm,
        pass: Pass<'_>,
    ) -> backbone::Result<Tensor> {
        let Some(bottleneck) = self.bottlenecks.get(&(layer, which)) else {
            return Ok(h);
        };
        let x = match self.placement {
            Placement::Houlsby => h.clone(),
            Placement::Pfeiffer => norm.forward_residual(&h, residual)?,
        };
        let x = init::dropout(&x, self.dropout, pass.phase)?;
        let inner = bottleneck.down.forward_activated(&x, self.activation)?;
        Ok(kernels::add(&h, &bottleneck.up.forward(&inner)?)?)
    }
}

impl PeftMethod for Adapter {
    fn vars(&self) -> Vec<(String, Var)> {
        self.bottlenecks
            .iter()
            .flat_map(|((layer, which), bottleneck)| {
                let at = format!("encoder.{layer}.{}.adapter", which.name());
                bottleneck
                    .vars
                    .iter()
                    .map(move |(name, var)| (format!("{at}.{name}"), var.clone()))
            })
            .collect()
    }

    fn starts_as_backbone(&self) -> std::result::Result<(), &'static str> {
        Err("its weights start near zero, not at zero")
    }

    fn merge(&self, _: &Backbone) -> std::result::Result<Backbone, NotMergeable> {
        Err(NotMergeable(
            "an adapter is not linear: it cannot become part of a weight matrix".into(),
        ))
    }
}
