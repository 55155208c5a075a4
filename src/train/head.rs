//! The trained head on top of the vectors that are read: the same recipe for every method, counted apart.

use std::collections::BTreeMap;

use backbone::{Activation, HeadKind, Linear};
use candle_core::{DType, Device, Result, Tensor, Var};
use methods::{Builder, Parameters};
use rand_chacha::ChaCha8Rng;

/// Standard deviation of initial weights, as transformers' `initializer_range`.
const DEVIATION: f64 = 0.02;

/// A head `[B, H]` → `[B, C]`; C is 1 where a number is predicted.
pub struct Head {
    dense: Option<(Linear, Activation)>,
    output: Linear,
    parameters: Parameters,
}

impl Head {
    /// A classifier with seeded initial weights: N(0, 0.02²), biases zero.
    ///
    /// # Errors
    /// If a tensor cannot be made.
    pub fn new(
        kind: HeadKind,
        hidden: usize,
        classes: usize,
        rng: &mut ChaCha8Rng,
        dtype: DType,
    ) -> methods::Result<Self> {
        Self::build(kind, hidden, classes, dtype, Builder::start(rng))
    }

    /// A classifier to predict with: its tensors are frozen.
    ///
    /// # Errors
    /// If a tensor is missing, misshapen or of no use; the message names it.
    pub fn load(
        kind: HeadKind,
        hidden: usize,
        classes: usize,
        tensors: BTreeMap<String, Tensor>,
    ) -> methods::Result<Self> {
        Self::build(kind, hidden, classes, DType::F32, Builder::saved(tensors))
    }

    fn build(
        kind: HeadKind,
        hidden: usize,
        classes: usize,
        dtype: DType,
        mut tensors: Builder<'_>,
    ) -> methods::Result<Self> {
        let mut linear = |name: &str, o: usize, i: usize| -> methods::Result<Linear> {
            let weight = tensors.variable(format!("{name}.weight"), &[o, i], |rng| {
                methods::normal(rng, &[o, i], DEVIATION, dtype)
            })?;
            let zeros = |_: &mut _| Tensor::zeros(o, dtype, &Device::Cpu);
            let bias = tensors.variable(format!("{name}.bias"), &[o], zeros)?;
            Ok(Linear::new(weight, Some(bias))?)
        };
        let dense = match kind {
            HeadKind::Linear => None,
            HeadKind::DenseTanh => Some((linear("head.dense", hidden, hidden)?, Activation::Tanh)),
            HeadKind::DenseRelu => Some((linear("head.dense", hidden, hidden)?, Activation::Relu)),
        };
        let output = linear("head.output", classes, hidden)?;
        let parameters = tensors.take();
        tensors.finish()?;
        Ok(Self {
            dense,
            output,
            parameters,
        })
    }

    /// Logits `[B, C]` of pooled vectors `[B, H]`.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn forward(&self, pooled: &Tensor) -> Result<Tensor> {
        match &self.dense {
            None => self.output.forward(pooled),
            Some((dense, f)) => self.output.forward(&dense.forward_activated(pooled, *f)?),
        }
    }

    /// Makes the head give these outputs `[C]` for every vector: zero weights, and the outputs as bias.
    ///
    /// # Errors
    /// If a tensor cannot be set.
    pub fn say_always(&self, outputs: &[f64]) -> Result<()> {
        let logs = Tensor::new(outputs, &Device::Cpu)?;
        for (name, var) in self.parameters.vars() {
            match name.as_str() {
                "head.output.weight" => var.set(&var.zeros_like()?)?,
                "head.output.bias" => var.set(&logs.to_dtype(var.dtype())?)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Its named tensors, `head.…`.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The trainable variables; a classifier that was loaded to predict has none.
    pub fn vars(&self) -> Vec<(String, Var)> {
        self.parameters.vars()
    }
}
