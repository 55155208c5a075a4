//! Bottleneck adapters (Houlsby et al. 2019, arXiv:1902.00751; Pfeiffer et al. 2020, arXiv:2005.00247; He et al. 2021,
//! arXiv:2110.04366).
//!
//! `h' = h + s · (f(x D ᵀ + d) Uᵀ + u)` with D `[H/r, H]` and U `[H, H/r]`, r the reduction factor. `houlsby` puts
//! one after each of the two sublayers, with x = h. `pfeiffer` puts one after the feed-forward network
//! only, with x = LN(h + residual), the residual around it taken before that norm: the arrangement of
//! AdapterHub's `seq_bn`. `parallel` and `scaled_parallel` put one beside the feed-forward network: x is its input.
//! s is 1 but for the last one. The first two start at N(0, 0.02²), so near the backbone; the parallel ones with
//! D from U(±1/√H) and U at zero, so equal to it; biases at zero.
//!
//! AdapterDrop (Rücklé et al. 2021, arXiv:2010.11918) leaves out the adapters of the lowest layers, always or, for faster
//! inference, in evaluation only.

use std::collections::BTreeMap;

use backbone::{Activation, Backbone, Hooks, LayerNorm, Linear, Pass, Phase, Sublayer};
use candle_core::{Device, Tensor, Var};
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
    Parallel,
    ScaledParallel,
}

impl Placement {
    fn sublayers(self) -> &'static [Sublayer] {
        match self {
            Self::Houlsby => &[Sublayer::Attention, Sublayer::FeedForward],
            Self::Pfeiffer | Self::Parallel | Self::ScaledParallel => &[Sublayer::FeedForward],
        }
    }

    fn is_parallel(self) -> bool {
        matches!(self, Self::Parallel | Self::ScaledParallel)
    }
}

/// When the lowest layers do without their adapters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Drop {
    Always,
    Inference,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    placement: Placement,
    reduction_factor: f64,
    activation: Option<Activation>,
    scaling: Option<f64>,
    layers: Layers,
    drop_layers: usize,
    drop: Drop,
    dropout: f64,
}

impl MethodConfig for Config {
    fn check(&self, backbone: &backbone::Config) -> std::result::Result<(), String> {
        init::check_reduction_factor(backbone.hidden, self.reduction_factor)?;
        if let Some(scaling) = self.scaling.filter(|s| !s.is_finite() || *s == 0.0) {
            return Err(format!("scaling {scaling} must be a number other than 0"));
        }
        init::check_dropout(self.dropout)?;
        if self
            .layers
            .resolve(backbone.layers)?
            .iter()
            .all(|l| *l < self.drop_layers)
        {
            return Err(format!(
                "drop_layers {} leaves no layer with an adapter",
                self.drop_layers
            ));
        }
        Ok(())
    }

    fn build(self, context: &mut Context<'_>) -> Result<Box<dyn PeftMethod>> {
        let backbone = context.backbone;
        let (h, dtype) = (backbone.config().hidden, backbone.dtype());
        let b = init::bottleneck(h, self.reduction_factor);
        let activation = self.activation.unwrap_or(match self.placement {
            Placement::Houlsby => Activation::Swish,
            _ => Activation::Relu,
        });
        let scaling = self.scaling.unwrap_or(match self.placement {
            Placement::ScaledParallel => 4.0,
            _ => 1.0,
        });
        let mut bottlenecks = BTreeMap::new();
        for layer in self
            .layers
            .resolve(backbone.config().layers)
            .unwrap_or_default()
        {
            if layer < self.drop_layers && self.drop == Drop::Always {
                continue;
            }
            for &sublayer in self.placement.sublayers() {
                let (down, up) = if self.placement.is_parallel() {
                    let bound = 1.0 / (h as f64).sqrt();
                    let down = init::uniform(context.rng, &[b, h], bound, dtype)?;
                    (down, init::zeros(&[h, b], dtype)?)
                } else {
                    (
                        init::normal(context.rng, &[b, h], 0.02, dtype)?,
                        init::normal(context.rng, &[h, b], 0.02, dtype)?,
                    )
                };
                let vars = [
                    ("down.weight", down),
                    ("down.bias", init::zeros(&[b], dtype)?),
                    ("up.weight", up),
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
            scale: (scaling != 1.0)
                .then(|| Tensor::full(scaling, h, &Device::Cpu)?.to_dtype(dtype))
                .transpose()?,
            without_in_evaluation: self.drop_layers,
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
    /// The scaling for every column, `[H]`, where it is not 1.
    scale: Option<Tensor>,
    /// The lowest layers, whose adapters evaluation leaves out.
    without_in_evaluation: usize,
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
        if layer < self.without_in_evaluation && matches!(pass.phase, Phase::Eval) {
            return Ok(h);
        }
        let x = match self.placement {
            Placement::Houlsby => h.clone(),
            Placement::Pfeiffer => norm.forward_residual(&h, residual)?,
            Placement::Parallel | Placement::ScaledParallel => residual.clone(),
        };
        let x = init::dropout(&x, self.dropout, pass.phase)?;
        let inner = bottleneck.down.forward_activated(&x, self.activation)?;
        let mut change = bottleneck.up.forward(&inner)?;
        if let Some(scale) = &self.scale {
            change = kernels::scale_shift(&change, Some(scale), None)?;
        }
        Ok(kernels::add(&h, &change)?)
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
        if self.placement.is_parallel() {
            return Ok(());
        }
        Err("its weights start near zero, not at zero")
    }

    fn merge(&self, _: &Backbone) -> std::result::Result<Backbone, NotMergeable> {
        Err(NotMergeable(
            "an adapter is not linear: it cannot become part of a weight matrix".into(),
        ))
    }
}
