//! P-tuning (Liu et al. 2021, arXiv:2103.10385).
//!
//! Virtual tokens as in prompt tuning, made in training by an encoder of P trained embeddings E `[P, H]`:
//! - `mlp`: `W₃ relu(W₂ relu(W₁ E + b₁) + b₂) + b₃`,
//! - `lstm`: `W₂ relu(W₁ LSTM(E) + b₁) + b₂` with two bidirectional layers, gates in torch's order i, f, g, o:
//!   `c ← σ(f) c + σ(i) tanh(g)`, `h ← σ(o) tanh(c)`.
//!
//! Only the virtual tokens that come out are shipped, `[P, H]`.

use backbone::{Activation, Backbone, Hooks, Input, Linear, Phase};
use candle_core::{DType, Tensor};
use serde::Deserialize;

use crate::{
    NotMergeable, Parameters, PeftMethod, Result,
    entry::{Building, Entry, MethodConfig},
    init,
    parameters::Builder,
    prompt_tuning::{self, FirstRow},
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

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    virtual_tokens: usize,
    encoder: Kind,
    width: Option<usize>,
    pooling: FirstRow,
}

impl MethodConfig for Config {
    fn check(&self, backbone: &backbone::Config) -> std::result::Result<(), String> {
        init::check_virtual_tokens(self.virtual_tokens, backbone)?;
        match self.width {
            Some(0) => Err("width 0 must be at least 1, or null for the hidden size".into()),
            _ => Ok(()),
        }
    }

    fn parameters(&self, backbone: &Backbone) -> std::result::Result<f64, String> {
        let h = backbone.config().hidden as f64;
        let w = self.width.map_or(h, |width| width as f64);
        let linear = |i: f64, o: f64| i * o + o;
        let encoder = match self.encoder {
            Kind::Mlp => linear(h, w) + linear(w, w) + linear(w, h),
            // Two layers of two directions, each with four gates and two biases.
            Kind::Lstm => {
                let layer = |input: f64| 2.0 * 4.0 * w * (input + w + 2.0);
                layer(h) + layer(2.0 * w) + linear(2.0 * w, 2.0 * w) + linear(2.0 * w, h)
            }
        };
        Ok(self.virtual_tokens as f64 * h + encoder)
    }

    fn build(&self, at: &mut Building<'_, '_>) -> Result<Box<dyn PeftMethod>> {
        let (h, dtype) = (at.backbone.config().hidden, at.backbone.dtype());
        let (p, width) = (self.virtual_tokens, self.width.unwrap_or(h));
        let prompt = if at.tensors.is_saved() {
            // What the encoder made is what was saved.
            let never = |_: &mut _| init::zeros(&[p, h], dtype);
            Prompt::Direct(at.tensors.variable("prompt", &[p, h], never)?)
        } else {
            let name = "encoder.embedding.weight";
            // N(0, 1) as torch's embeddings, and torch's linear layers.
            let embedding = at
                .tensors
                .variable(name, &[p, h], |rng| init::normal(rng, &[p, h], 1.0, dtype))?;
            let (lstm, sizes) = match self.encoder {
                Kind::Mlp => (None, vec![h, width, width, h]),
                Kind::Lstm => (
                    Some(Lstm::new(at.tensors, h, width, dtype)?),
                    vec![2 * width, 2 * width, h],
                ),
            };
            let dense = sizes.windows(2).enumerate().map(|(i, pair)| {
                // An activation stands between the layers.
                let name = format!("encoder.mlp_head.{}", 2 * i);
                init::dense(at.tensors, [&name, ""], pair[1], pair[0], dtype)
            });
            let dense = dense.collect::<Result<_>>()?;
            Prompt::Encoded {
                embedding,
                lstm,
                dense,
            }
        };
        Ok(Box::new(PTuning {
            parameters: at.take(),
            virtual_tokens: p,
            prompt,
            pooling: self.pooling,
        }))
    }
}

/// Where the virtual tokens come from.
enum Prompt {
    /// They are there, `[P, H]`: read from a file.
    Direct(Tensor),
    /// An encoder makes them.
    Encoded {
        embedding: Tensor,
        lstm: Option<Lstm>,
        dense: Vec<Linear>,
    },
}

struct PTuning {
    parameters: Parameters,
    virtual_tokens: usize,
    prompt: Prompt,
    pooling: FirstRow,
}

impl PTuning {
    /// The virtual tokens, `[P, H]`.
    fn prompt(&self) -> candle_core::Result<Tensor> {
        match &self.prompt {
            Prompt::Direct(prompt) => Ok(prompt.clone()),
            Prompt::Encoded {
                embedding,
                lstm,
                dense,
            } => {
                let mut rows = embedding.clone();
                if let Some(lstm) = lstm {
                    rows = lstm.forward(&rows)?;
                }
                for (i, layer) in dense.iter().enumerate() {
                    rows = if i + 1 < dense.len() {
                        layer.forward_activated(&rows, Activation::Relu)?
                    } else {
                        layer.forward(&rows)?
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
    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn shipped(&self) -> Result<Vec<(String, Tensor)>> {
        Ok(vec![("prompt".to_owned(), self.prompt()?.detach())])
    }

    fn virtual_tokens(&self) -> usize {
        self.virtual_tokens
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
    /// In torch's order, layer by layer, forwards before backwards: input and recurrent weights, then their biases.
    tensors: Vec<Tensor>,
}

impl Lstm {
    fn new(made: &mut Builder<'_>, input: usize, width: usize, dtype: DType) -> Result<Self> {
        let bound = 1.0 / (width as f64).sqrt();
        let mut tensors = Vec::new();
        for (layer, input) in [input, 2 * width].into_iter().enumerate() {
            for direction in ["", "_reverse"] {
                for (name, shape) in [
                    ("weight_ih", vec![4 * width, input]),
                    ("weight_hh", vec![4 * width, width]),
                    ("bias_ih", vec![4 * width]),
                    ("bias_hh", vec![4 * width]),
                ] {
                    let name = format!("encoder.lstm_head.{name}_l{layer}{direction}");
                    tensors.push(
                        made.variable(name, &shape, |rng| {
                            init::uniform(rng, &shape, bound, dtype)
                        })?,
                    );
                }
            }
        }
        Ok(Self { width, tensors })
    }

    /// `[P, H]` to `[P, 2·width]`.
    fn forward(&self, rows: &Tensor) -> candle_core::Result<Tensor> {
        let mut rows = rows.clone();
        for layer in self.tensors.chunks(8) {
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
        tensors: &[Tensor],
        reverse: bool,
    ) -> candle_core::Result<Tensor> {
        let [w_ih, w_hh, b_ih, b_hh] = tensors else {
            candle_core::bail!("an LSTM direction has four tensors");
        };
        let (p, width) = (rows.dim(0)?, self.width);
        let inputs = rows.matmul(&w_ih.t()?)?.broadcast_add(&(b_ih + b_hh)?)?;
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
