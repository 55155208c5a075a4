//! P-tuning (Liu et al. 2021, arXiv:2103.10385).
//!
//! Virtual tokens as in prompt tuning, made in training by an encoder of P trained embeddings E `[P, H]`:
//! - `mlp`: `W₃ relu(W₂ relu(W₁ E + b₁) + b₂) + b₃`,
//! - `lstm`: `W₂ relu(W₁ LSTM(E) + b₁) + b₂` with two bidirectional layers, gates in torch's order i, f, g, o:
//!   `c ← σ(f) c + σ(i) tanh(g)`, `h ← σ(o) tanh(c)`.
//!
//! Only the virtual tokens that come out are shipped, `[P, H]`.

use std::collections::BTreeMap;

use backbone::{Activation, Backbone, Hooks, Input, Phase};
use candle_core::{DType, Device, Tensor, Var};
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;

use crate::{
    Context, NotMergeable, PeftMethod, Result, init,
    prompt_tuning::{self, FirstRow},
    registry::{Entry, MethodConfig},
};

pub(crate) const ENTRY: Entry =
    Entry::of::<Config>("p_tuning", include_str!("../configs/p_tuning.yaml"))
        .parameters("virtual_tokens · H + 2 · H · w + w · w + 2 · w + H");

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Mlp,
    Lstm,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    virtual_tokens: usize,
    encoder: Kind,
    width: Option<usize>,
    pooling: FirstRow,
}

impl MethodConfig for Config {
    fn check(&self, backbone: &backbone::Config) -> std::result::Result<(), String> {
        // Two special tokens and one of the text must still fit behind the virtual ones.
        let most = backbone.max_tokens().saturating_sub(3);
        if self.virtual_tokens == 0 || self.virtual_tokens > most {
            return Err(format!(
                "virtual_tokens {} must be in 1 … {most}: the position table has {} rows and the text needs room",
                self.virtual_tokens,
                backbone.max_tokens()
            ));
        }
        match self.width {
            Some(0) => Err("width 0 must be at least 1, or null for the hidden size".into()),
            _ => Ok(()),
        }
    }

    fn build(self, context: &mut Context<'_>) -> Result<Box<dyn PeftMethod>> {
        let (h, dtype) = (context.backbone.config().hidden, context.backbone.dtype());
        let (width, rng) = (self.width.unwrap_or(h), &mut *context.rng);
        // N(0, 1) as torch's embeddings, and torch's linear layers.
        let embedding = init::normal(rng, &[self.virtual_tokens, h], 1.0, dtype)?;
        let (lstm, sizes) = match self.encoder {
            Kind::Mlp => (None, vec![h, width, width, h]),
            Kind::Lstm => (
                Some(Lstm::new(rng, h, width, dtype)?),
                vec![2 * width, 2 * width, h],
            ),
        };
        let dense = sizes
            .windows(2)
            .map(|pair| init::Dense::new(rng, pair[1], pair[0], dtype))
            .collect::<candle_core::Result<_>>()?;
        Ok(Box::new(PTuning {
            shape: (self.virtual_tokens, h),
            dtype,
            prompt: Prompt::Encoded {
                embedding,
                lstm,
                dense,
            },
            pooling: self.pooling,
        }))
    }
}

/// Where the virtual tokens come from.
enum Prompt {
    /// They are there, `[P, H]`: read from a file.
    Direct(Var),
    /// An encoder makes them.
    Encoded {
        embedding: Var,
        lstm: Option<Lstm>,
        dense: Vec<init::Dense>,
    },
}

struct PTuning {
    shape: (usize, usize),
    dtype: DType,
    prompt: Prompt,
    pooling: FirstRow,
}

impl PTuning {
    /// The virtual tokens, `[P, H]`.
    fn prompt(&self) -> candle_core::Result<Tensor> {
        match &self.prompt {
            Prompt::Direct(prompt) => Ok(prompt.as_tensor().clone()),
            Prompt::Encoded {
                embedding,
                lstm,
                dense,
            } => {
                let mut rows = embedding.as_tensor().clone();
                if let Some(lstm) = lstm {
                    rows = lstm.forward(&rows)?;
                }
                for (i, layer) in dense.iter().enumerate() {
                    rows = if i + 1 < dense.len() {
                        layer.linear.forward_activated(&rows, Activation::Relu)?
                    } else {
                        layer.linear.forward(&rows)?
                    };
                }
                Ok(rows)
            }
        }
    }
}

impl Hooks for PTuning {
    fn input(&self, input: Input, _: Phase<'_>) -> backbone::Result<Input> {
        prompt_tuning::prepend(&self.prompt()?, input, self.pooling)
    }
}

impl PeftMethod for PTuning {
    fn vars(&self) -> Vec<(String, Var)> {
        match &self.prompt {
            Prompt::Direct(prompt) => vec![("prompt".to_owned(), prompt.clone())],
            Prompt::Encoded {
                embedding,
                lstm,
                dense,
            } => {
                let mut vars = vec![("encoder.embedding.weight".to_owned(), embedding.clone())];
                vars.extend(lstm.iter().flat_map(|lstm| lstm.vars.iter().cloned()));
                for (i, layer) in dense.iter().enumerate() {
                    // An activation stands between the layers.
                    vars.extend(layer.vars(&format!("encoder.mlp_head.{}", 2 * i), ""));
                }
                vars
            }
        }
    }

    fn shipped(&self) -> Result<Vec<(String, Tensor)>> {
        Ok(vec![("prompt".to_owned(), self.prompt()?.detach())])
    }

    fn load(&mut self, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
        let prompt = Var::zeros(self.shape, self.dtype, &Device::Cpu)?;
        crate::restore(&[("prompt".to_owned(), prompt.clone())], tensors)?;
        self.prompt = Prompt::Direct(prompt);
        Ok(())
    }

    fn virtual_tokens(&self) -> usize {
        self.shape.0
    }

    fn starts_as_backbone(&self) -> std::result::Result<(), &'static str> {
        Err("the text attends to the virtual tokens and moves to later positions")
    }

    fn merge(&self, _: &Backbone) -> std::result::Result<Backbone, NotMergeable> {
        Err(NotMergeable(
            "virtual tokens are rows of the input, not a change of weights".into(),
        ))
    }
}

/// Two bidirectional LSTM layers over the P rows, composed of candle's operations: a few small rows per step.
struct Lstm {
    width: usize,
    /// Named as torch's, layer by layer, forwards before backwards: input and recurrent weights, then their biases.
    vars: Vec<(String, Var)>,
}

impl Lstm {
    fn new(
        rng: &mut ChaCha8Rng,
        input: usize,
        width: usize,
        dtype: DType,
    ) -> candle_core::Result<Self> {
        let bound = 1.0 / (width as f64).sqrt();
        let mut vars = Vec::new();
        for (layer, input) in [input, 2 * width].into_iter().enumerate() {
            for direction in ["", "_reverse"] {
                for (name, shape) in [
                    ("weight_ih", vec![4 * width, input]),
                    ("weight_hh", vec![4 * width, width]),
                    ("bias_ih", vec![4 * width]),
                    ("bias_hh", vec![4 * width]),
                ] {
                    let name = format!("encoder.lstm_head.{name}_l{layer}{direction}");
                    vars.push((name, init::uniform(rng, &shape, bound, dtype)?));
                }
            }
        }
        Ok(Self { width, vars })
    }

    /// `[P, H]` to `[P, 2·width]`.
    fn forward(&self, rows: &Tensor) -> candle_core::Result<Tensor> {
        let mut rows = rows.clone();
        for layer in self.vars.chunks(8) {
            let (forwards, backwards) = layer.split_at(4);
            let both = [
                self.direction(&rows, forwards, false)?,
                self.direction(&rows, backwards, true)?,
            ];
            rows = Tensor::cat(&both, 1)?;
        }
        Ok(rows)
    }

    fn direction(
        &self,
        rows: &Tensor,
        vars: &[(String, Var)],
        reverse: bool,
    ) -> candle_core::Result<Tensor> {
        let [(_, w_ih), (_, w_hh), (_, b_ih), (_, b_hh)] = vars else {
            candle_core::bail!("an LSTM direction has four variables");
        };
        let (p, width) = (rows.dim(0)?, self.width);
        let inputs = rows
            .matmul(&w_ih.t()?)?
            .broadcast_add(&(b_ih.as_tensor() + b_hh.as_tensor())?)?;
        // σ(x) = (1 + tanh(x/2)) / 2
        let sigmoid = |x: Tensor| ((x * 0.5)?.tanh()? + 1.0)? * 0.5;
        let zeros = Tensor::zeros((1, width), rows.dtype(), rows.device())?;
        let (mut h, mut c) = (zeros.clone(), zeros);
        let mut out = Vec::with_capacity(p);
        for t in 0..p {
            let t = if reverse { p - 1 - t } else { t };
            let gates = (inputs.narrow(0, t, 1)? + h.matmul(&w_hh.t()?)?)?;
            let gate = |i: usize| gates.narrow(1, i * width, width);
            let kept = (sigmoid(gate(1)?)? * c)?;
            c = (kept + (sigmoid(gate(0)?)? * gate(2)?.tanh()?)?)?;
            h = (sigmoid(gate(3)?)? * c.tanh()?)?;
            out.push(h.clone());
        }
        if reverse {
            out.reverse();
        }
        Tensor::cat(&out, 0)
    }
}
