//! Compacter (Karimi Mahabadi et al. 2021, arXiv:2106.04647).
//!
//! Adapters in Houlsby's places, `h' = h + f(h M + b) M' + b'`, whose matrices are sums of Kronecker products
//! `M = Σᵢ Aᵢ ⊗ (lᵢ rᵢ)` of n terms: A `[n, n, n]` is shared by the whole model, lᵢ and rᵢ have rank one. A projection
//! from `in` to `out` values has `in + out + out` parameters instead of `in·out + out`. Starts as AdapterHub's,
//! A at N(0, 0.0001²) and l, r Xavier-normal, so equal to the backbone up to rounding.

use std::collections::BTreeMap;

use backbone::{Activation, Backbone, Hooks, LayerNorm, Linear, Pass, Sublayer};
use candle_core::{DType, Tensor, Var};
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;

use crate::{
    Context, NotMergeable, PeftMethod, Result, init,
    lora::Layers,
    registry::{Entry, MethodConfig},
};

pub(crate) const ENTRY: Entry =
    Entry::of::<Config>("compacter", include_str!("../configs/compacter.yaml"))
        .parameters("phm_dim · phm_dim · phm_dim + 2 · L · 3 · (H + b)");

#[derive(Deserialize)]
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

    fn build(self, context: &mut Context<'_>) -> Result<Box<dyn PeftMethod>> {
        let backbone = context.backbone;
        let (n, h, dtype) = (self.phm_dim, backbone.config().hidden, backbone.dtype());
        let b = init::bottleneck(h, self.reduction_factor);
        let rule = init::normal(context.rng, &[n, n, n], 1e-4, dtype)?;
        let mut adapters = BTreeMap::new();
        let layers = self.layers.resolve(backbone.config().layers);
        for layer in layers.unwrap_or_default() {
            for sublayer in [Sublayer::Attention, Sublayer::FeedForward] {
                let down = Projection::new(context.rng, n, h, b, dtype)?;
                let up = Projection::new(context.rng, n, b, h, dtype)?;
                adapters.insert((layer, sublayer), [("down", down), ("up", up)]);
            }
        }
        Ok(Box::new(Compacter {
            rule,
            adapters,
            activation: self.activation,
        }))
    }
}

/// From `in` to `out` values: l `[n, in/n, 1]`, r `[n, 1, out/n]`, b `[out]`.
struct Projection {
    left: Var,
    right: Var,
    bias: Var,
}

impl Projection {
    fn new(
        rng: &mut ChaCha8Rng,
        n: usize,
        i: usize,
        o: usize,
        dtype: DType,
    ) -> candle_core::Result<Self> {
        let xavier = |length: usize| (2.0 / (length + 1) as f64).sqrt();
        Ok(Self {
            left: init::normal(rng, &[n, i / n, 1], xavier(i / n), dtype)?,
            right: init::normal(rng, &[n, 1, o / n], xavier(o / n), dtype)?,
            bias: init::zeros(&[o], dtype)?,
        })
    }

    fn linear(&self, rule: &Var) -> candle_core::Result<Linear> {
        let weight = kernels::kronecker_sum(rule, &self.left, &self.right)?;
        Linear::new(weight, Some(self.bias.as_tensor().clone()))
    }
}

struct Compacter {
    rule: Var,
    adapters: BTreeMap<(usize, Sublayer), [(&'static str, Projection); 2]>,
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
        let Some([(_, down), (_, up)]) = self.adapters.get(&(layer, which)) else {
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
    fn vars(&self) -> Vec<(String, Var)> {
        let mut vars = vec![("phm_rule".to_owned(), self.rule.clone())];
        for ((layer, which), projections) in &self.adapters {
            for (name, p) in projections {
                let at = format!("encoder.{layer}.{}.adapter.{name}", which.name());
                vars.push((format!("{at}.W_left"), p.left.clone()));
                vars.push((format!("{at}.W_right"), p.right.clone()));
                vars.push((format!("{at}.b"), p.bias.clone()));
            }
        }
        vars
    }

    fn merge(&self, _: &Backbone) -> std::result::Result<Backbone, NotMergeable> {
        Err(NotMergeable(
            "an adapter is not linear: it cannot become part of a weight matrix".into(),
        ))
    }
}
