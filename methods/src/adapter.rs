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
use candle_core::{Device, Tensor};
use serde::Deserialize;

use crate::{
    NotMergeable, Parameters, PeftMethod, Result,
    entry::{Building, Entry, MethodConfig},
    init,
    targets::Layers,
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

#[derive(Debug, Deserialize)]
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

impl Config {
    /// The layers that have adapters in training.
    fn layers(&self, backbone: &backbone::Config) -> std::result::Result<Vec<usize>, String> {
        let mut layers = self.layers.resolve(backbone.layers)?;
        if layers.iter().all(|l| *l < self.drop_layers) {
            return Err(format!(
                "drop_layers {} leaves no layer with an adapter",
                self.drop_layers
            ));
        }
        layers.retain(|l| *l >= self.drop_layers || self.drop == Drop::Inference);
        Ok(layers)
    }
}

impl MethodConfig for Config {
    fn check(&self, backbone: &backbone::Config) -> std::result::Result<(), String> {
        init::check_reduction_factor(backbone.hidden, self.reduction_factor)?;
        if let Some(scaling) = self
            .scaling
            .filter(|s| s.is_nan() || s.abs() > 1e6 || *s == 0.0)
        {
            return Err(format!(
                "scaling {scaling:e} must be a number other than 0, at most 1e6"
            ));
        }
        init::check_dropout(self.dropout)?;
        self.layers(backbone).map(drop)
    }

    fn parameters(&self, backbone: &Backbone) -> std::result::Result<f64, String> {
        let config = backbone.config();
        let (h, places) = (config.hidden as f64, self.placement.sublayers().len());
        let b = init::bottleneck(config.hidden, self.reduction_factor) as f64;
        let adapters = self.layers(config)?.len() * places;
        Ok(adapters as f64 * (2.0 * h * b + b + h))
    }

    fn build(&self, at: &mut Building<'_, '_>) -> Result<Box<dyn PeftMethod>> {
        let (config, dtype) = (at.backbone.config(), at.backbone.dtype());
        let h = config.hidden;
        let b = init::bottleneck(h, self.reduction_factor);
        let activation = self.activation.unwrap_or(match self.placement {
            Placement::Houlsby => Activation::Swish,
            _ => Activation::Relu,
        });
        let scaling = self.scaling.unwrap_or(match self.placement {
            Placement::ScaledParallel => 4.0,
            _ => 1.0,
        });
        let parallel = self.placement.is_parallel();
        let mut bottlenecks = BTreeMap::new();
        for layer in at.valid(self.layers(config))? {
            for &sublayer in self.placement.sublayers() {
                let name = format!("encoder.{layer}.{}.adapter", sublayer.name());
                let mut linear = |part: &str, o: usize, i: usize| -> Result<Linear> {
                    let name = format!("{name}.{part}");
                    let weight = at
                        .tensors
                        .variable(format!("{name}.weight"), &[o, i], |rng| {
                            match (parallel, part) {
                                (true, "down") => {
                                    init::uniform(rng, &[o, i], 1.0 / (i as f64).sqrt(), dtype)
                                }
                                (true, _) => init::zeros(&[o, i], dtype),
                                (false, _) => init::normal(rng, &[o, i], 0.02, dtype),
                            }
                        })?;
                    let name = format!("{name}.bias");
                    let zeros = |_: &mut _| init::zeros(&[o], dtype);
                    let bias = at.tensors.variable(name, &[o], zeros)?;
                    Ok(Linear::new(weight, Some(bias))?)
                };
                let bottleneck = Bottleneck {
                    down: linear("down", b, h)?,
                    up: linear("up", h, b)?,
                };
                bottlenecks.insert((layer, sublayer), bottleneck);
            }
        }
        Ok(Box::new(Adapter {
            parameters: at.take(),
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
}

struct Adapter {
    parameters: Parameters,
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
    fn parameters(&self) -> &Parameters {
        &self.parameters
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
