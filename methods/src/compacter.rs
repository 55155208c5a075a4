//! Compacter (Karimi Mahabadi et al. 2021, arXiv:2106.04647).
//!
//! Adapters in Houlsby's places, `h' = h + f(h M + b) M' + b'`, whose matrices are sums of Kronecker products
//! `M = Σᵢ Aᵢ ⊗ (lᵢ rᵢ)` of n terms: A `[n, n, n]` is shared by the whole model, lᵢ and rᵢ have rank one. A projection
//! from `in` to `out` values has `in + out + out` parameters instead of `in·out + out`. Starts as AdapterHub's,
//! A at N(0, 0.0001²) and l, r Xavier-normal, so equal to the backbone up to rounding.

use std::collections::BTreeMap;

use backbone::{Activation, Backbone, Hooks, LayerNorm, Linear, Pass, Sublayer};
use candle_core::Tensor;
use serde::Deserialize;

use crate::{
    NotMergeable, Parameters, PeftMethod, Result,
    entry::{Building, Entry, MethodConfig},
    init,
    targets::Layers,
};

pub(crate) const ENTRY: Entry =
    Entry::of::<Config>("compacter", include_str!("../configs/compacter.yaml"))
        .parameters("phm_dim · phm_dim · phm_dim + 2 · L · 3 · (H + b)");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    phm_dim: usize,
    reduction_factor: f64,
    activation: Activation,
    layers: Layers,
}

impl MethodConfig for Config {
    fn check(&self, backbone: &backbone::Config) -> std::result::Result<(), String> {
        let h = backbone.hidden;
        init::check_reduction_factor(h, self.reduction_factor)?;
        let (n, b) = (self.phm_dim, init::bottleneck(h, self.reduction_factor));
        if n == 0 || !h.is_multiple_of(n) || !b.is_multiple_of(n) {
            return Err(format!(
                "phm_dim {n} must divide the hidden size {h} and the bottleneck {b} (hidden size / reduction_factor)"
            ));
        }
        self.layers.resolve(backbone.layers).map(drop)
    }

    fn parameters(&self, backbone: &Backbone) -> std::result::Result<f64, String> {
        let config = backbone.config();
        let (n, h) = (self.phm_dim as f64, config.hidden);
        let b = init::bottleneck(h, self.reduction_factor);
        let layers = self.layers.resolve(config.layers)?.len();
        Ok(n.powi(3) + (2 * layers * 3 * (h + b)) as f64)
    }

    fn build(&self, at: &mut Building<'_, '_>) -> Result<Box<dyn PeftMethod>> {
        let (config, dtype) = (at.backbone.config(), at.backbone.dtype());
        let (n, h) = (self.phm_dim, config.hidden);
        let b = init::bottleneck(h, self.reduction_factor);
        let rule = at.tensors.variable("phm_rule", &[n, n, n], |rng| {
            init::normal(rng, &[n, n, n], 1e-4, dtype)
        })?;
        let mut adapters = BTreeMap::new();
        for layer in at.valid(self.layers.resolve(config.layers))? {
            for sublayer in [Sublayer::Attention, Sublayer::FeedForward] {
                let name = format!("encoder.{layer}.{}.adapter", sublayer.name());
                let mut projection = |part: &str, i, o| {
                    Projection::build(at, &format!("{name}.{part}"), &rule, [n, i, o])
                };
                let pair = [projection("down", h, b)?, projection("up", b, h)?];
                adapters.insert((layer, sublayer), pair);
            }
        }
        Ok(Box::new(Compacter {
            parameters: at.take(),
            rule,
            adapters,
            activation: self.activation,
        }))
    }
}

/// From `in` to `out` values: l `[n, in/n, 1]`, r `[n, 1, out/n]`, b `[out]`.
struct Projection {
    left: Tensor,
    right: Tensor,
    bias: Tensor,
    /// With its matrix, where nothing of it is trained.
    fixed: Option<Linear>,
}

impl Projection {
    fn build(
        at: &mut Building<'_, '_>,
        name: &str,
        rule: &Tensor,
        [n, i, o]: [usize; 3],
    ) -> Result<Self> {
        let dtype = at.backbone.dtype();
        let mut xavier = |part: &str, shape: &[usize], length: usize| {
            let deviation = (2.0 / (length + 1) as f64).sqrt();
            at.tensors.variable(format!("{name}.{part}"), shape, |rng| {
                init::normal(rng, shape, deviation, dtype)
            })
        };
        let left = xavier("W_left", &[n, i / n, 1], i / n)?;
        let right = xavier("W_right", &[n, 1, o / n], o / n)?;
        let zeros = |_: &mut _| init::zeros(&[o], dtype);
        let bias = at.tensors.variable(format!("{name}.b"), &[o], zeros)?;
        let matrix = at
            .tensors
            .once(|| Ok(vec![kernels::kronecker_sum(rule, &left, &right)?]))?;
        let fixed = matrix.into_iter().next();
        let fixed = fixed.map(|weight| Linear::new(weight, Some(bias.clone())));
        Ok(Self {
            fixed: fixed.transpose()?,
            left,
            right,
            bias,
        })
    }

    fn linear(&self, rule: &Tensor) -> candle_core::Result<Linear> {
        if let Some(fixed) = &self.fixed {
            return Ok(fixed.clone());
        }
        let weight = kernels::kronecker_sum(rule, &self.left, &self.right)?;
        Linear::new(weight, Some(self.bias.clone()))
    }
}

struct Compacter {
    parameters: Parameters,
    rule: Tensor,
    adapters: BTreeMap<(usize, Sublayer), [Projection; 2]>,
    activation: Activation,
}

impl Hooks for Compacter {
    fn sublayer(
        &self,
        layer: usize,
        which: Sublayer,
        h: Tensor,
        _: &Tensor,
        _: &LayerNorm,
        _: Pass<'_>,
    ) -> backbone::Result<Tensor> {
        let Some([down, up]) = self.adapters.get(&(layer, which)) else {
            return Ok(h);
        };
        let inner = down
            .linear(&self.rule)?
            .forward_activated(&h, self.activation)?;
        let change = up.linear(&self.rule)?.forward(&inner)?;
        Ok(kernels::add(&h, &change)?)
    }
}

impl PeftMethod for Compacter {
    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn merge(&self, _: &Backbone) -> std::result::Result<Backbone, NotMergeable> {
        Err(NotMergeable(
            "an adapter is not linear: it cannot become part of a weight matrix".into(),
        ))
    }
}
