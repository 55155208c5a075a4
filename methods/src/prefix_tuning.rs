//! Prefix tuning (Li and Liang 2021, arXiv:2101.00190).
//!
//! Every layer attends to P rows more: `softmax(q [Kₚ; K]ᵀ/√d) [Vₚ; V]`, with trained Kₚ and Vₚ `[P, H]` per layer put
//! before the layer's own keys and values, after projection. `reparametrisation: mlp` makes all of them from an
//! embedding E `[P, H]` by `tanh(E W₁ᵀ + b₁) W₂ᵀ + b₂`; only the rows that come out are shipped. A row of the shipped
//! `prefix` `[P, 2·L·H]` holds layer l's keys at 2l and its values at 2l + 1, as Hugging Face PEFT's.
//!
//! With `positions: shifted` the text's positions begin at P, as if the prefix stood before it (PEFT, where it is a
//! cache of the past); with `kept` at 0 (AdapterHub).

use std::collections::BTreeMap;

use backbone::{Activation, Backbone, Hooks, Input, KeyValues, Phase};
use candle_core::{DType, Device, Tensor, Var};
use serde::Deserialize;

use crate::{
    Context, NotMergeable, PeftMethod, Result, init,
    registry::{Entry, MethodConfig},
};

pub(crate) const ENTRY: Entry = Entry::of::<Config>(
    "prefix_tuning",
    include_str!("../configs/prefix_tuning.yaml"),
)
.parameters("virtual_tokens · 2 · L · H");

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Reparametrisation {
    None,
    Mlp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Positions {
    Shifted,
    Kept,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    virtual_tokens: usize,
    reparametrisation: Reparametrisation,
    width: usize,
    positions: Positions,
}

impl MethodConfig for Config {
    fn check(&self, backbone: &backbone::Config) -> std::result::Result<(), String> {
        // Two special tokens and one of the text must still fit behind them.
        let most = backbone.max_tokens().saturating_sub(3);
        if self.virtual_tokens == 0 || self.virtual_tokens > most {
            return Err(format!(
                "virtual_tokens {} must be in 1 … {most}: the position table has {} rows and the text needs room",
                self.virtual_tokens,
                backbone.max_tokens()
            ));
        }
        if self.width == 0 {
            return Err("width 0 must be at least 1".into());
        }
        Ok(())
    }

    fn build(self, context: &mut Context<'_>) -> Result<Box<dyn PeftMethod>> {
        let backbone = context.backbone;
        let (h, l) = (backbone.config().hidden, backbone.config().layers);
        let (p, dtype, rng) = (self.virtual_tokens, backbone.dtype(), &mut *context.rng);
        // N(0, 1) and torch's linear layers, as both libraries start.
        let rows = match self.reparametrisation {
            Reparametrisation::None => {
                Rows::Direct(init::normal(rng, &[p * 2 * l, h], 1.0, dtype)?)
            }
            Reparametrisation::Mlp => {
                let embedding = init::normal(rng, &[p, h], 1.0, dtype)?;
                let first = init::Dense::new(rng, self.width, h, dtype)?;
                let second = (0..2 * l)
                    .map(|_| init::Dense::new(rng, h, self.width, dtype))
                    .collect::<candle_core::Result<_>>()?;
                Rows::Mlp {
                    embedding,
                    first,
                    second,
                }
            }
        };
        Ok(Box::new(PrefixTuning {
            rows,
            virtual_tokens: p,
            layers: l,
            hidden: h,
            positions: self.positions,
            dtype,
        }))
    }
}

/// Where the rows come from.
enum Rows {
    /// They are trained themselves, `[P · 2L, H]`.
    Direct(Var),
    /// An MLP makes them, its second layer in one piece for each layer's keys and values.
    Mlp {
        embedding: Var,
        first: init::Dense,
        second: Vec<init::Dense>,
    },
}

struct PrefixTuning {
    rows: Rows,
    virtual_tokens: usize,
    layers: usize,
    hidden: usize,
    positions: Positions,
    dtype: DType,
}

impl PrefixTuning {
    /// The rows of a layer's keys and of its values, `[P, H]` each.
    fn of_layer(&self, layer: usize) -> candle_core::Result<[Tensor; 2]> {
        let (p, pieces) = (self.virtual_tokens as u32, 2 * self.layers as u32);
        let [keys, values] = [2 * layer, 2 * layer + 1];
        match &self.rows {
            Rows::Direct(rows) => {
                let of = |piece: usize| {
                    let places: Vec<u32> = (0..p).map(|row| row * pieces + piece as u32).collect();
                    kernels::select_rows(rows, &places)
                };
                Ok([of(keys)?, of(values)?])
            }
            Rows::Mlp {
                embedding,
                first,
                second,
            } => {
                let inner = first
                    .linear
                    .forward_activated(embedding, Activation::Tanh)?;
                let of = |piece: usize| second[piece].linear.forward(&inner);
                Ok([of(keys)?, of(values)?])
            }
        }
    }

    fn shape(&self) -> (usize, usize) {
        (self.virtual_tokens, 2 * self.layers * self.hidden)
    }
}

impl Hooks for PrefixTuning {
    fn input(&self, mut input: Input, _: Phase<'_>) -> backbone::Result<Input> {
        let taken = self.virtual_tokens();
        input.first_position.iter_mut().for_each(|p| *p += taken);
        Ok(input)
    }

    fn keys_values(
        &self,
        layer: usize,
        own: KeyValues,
        _: Phase<'_>,
    ) -> backbone::Result<KeyValues> {
        let [keys, values] = self.of_layer(layer)?;
        let (keys, spans) = kernels::prepend_rows(&keys, &own.keys, &own.spans)?;
        let (values, _) = kernels::prepend_rows(&values, &own.values, &own.spans)?;
        Ok(KeyValues {
            keys,
            values,
            spans,
        })
    }
}

impl PeftMethod for PrefixTuning {
    fn vars(&self) -> Vec<(String, Var)> {
        match &self.rows {
            Rows::Direct(rows) => vec![("prefix".to_owned(), rows.clone())],
            Rows::Mlp {
                embedding,
                first,
                second,
            } => {
                let mut vars = vec![("encoder.embedding.weight".to_owned(), embedding.clone())];
                vars.extend(first.vars("encoder.transform.0", ""));
                for (piece, dense) in second.iter().enumerate() {
                    vars.extend(dense.vars("encoder.transform.2", &format!(".{piece}")));
                }
                vars
            }
        }
    }

    fn shipped(&self) -> Result<Vec<(String, Tensor)>> {
        let prefix = match &self.rows {
            Rows::Direct(rows) => rows.as_detached_tensor().reshape(self.shape())?,
            Rows::Mlp { .. } => {
                let rows = (0..self.layers)
                    .map(|layer| self.of_layer(layer))
                    .collect::<candle_core::Result<Vec<_>>>()?;
                Tensor::cat(&rows.concat(), 1)?.detach()
            }
        };
        Ok(vec![("prefix".to_owned(), prefix)])
    }

    fn load(&mut self, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
        let prefix = Var::zeros(self.shape(), self.dtype, &Device::Cpu)?;
        crate::restore(&[("prefix".to_owned(), prefix.clone())], tensors)?;
        let rows = (self.virtual_tokens * 2 * self.layers, self.hidden);
        let prefix = prefix.as_detached_tensor().reshape(rows)?;
        self.rows = Rows::Direct(Var::from_tensor(&prefix)?);
        Ok(())
    }

    fn virtual_tokens(&self) -> usize {
        match self.positions {
            Positions::Shifted => self.virtual_tokens,
            Positions::Kept => 0,
        }
    }

    fn starts_as_backbone(&self) -> std::result::Result<(), &'static str> {
        Err("every query attends to the prefix")
    }

    fn merge(&self, _: &Backbone) -> std::result::Result<Backbone, NotMergeable> {
        Err(NotMergeable(
            "a prefix is rows of keys and values, not a change of weights".into(),
        ))
    }
}
