//! Prefix tuning (Li and Liang 2021, arXiv:2101.00190).
//!
//! Every layer attends to P rows more: `softmax(q [Kₚ; K]ᵀ/√d) [Vₚ; V]`, with trained Kₚ and Vₚ `[P, H]` per layer put
//! before the layer's own keys and values, after projection (and after rotary positions, which the prefix does not have).
//! Where keys and values have fewer heads than queries, H is the width of their rows. A layer with a window sees the
//! prefix as what it is: rows before the text. `reparametrisation: mlp` makes all of them from an
//! embedding E `[P, H]` by `tanh(E W₁ᵀ + b₁) W₂ᵀ + b₂`; only the rows that come out are shipped. A row of the shipped
//! `prefix` `[P, 2·L·H]` holds layer l's keys at 2l and its values at 2l + 1, as Hugging Face PEFT's.
//!
//! With `positions: shifted` the text's positions begin at P, as if the prefix stood before it (PEFT, where it is a
//! cache of the past); with `kept` at 0 (AdapterHub).

use backbone::{Activation, Backbone, Hooks, Input, KeyValues, Linear, Phase};
use candle_core::Tensor;
use serde::Deserialize;

use crate::{
    NotMergeable, Parameters, PeftMethod, Result,
    entry::{Building, Entry, MethodConfig},
    init,
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

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    virtual_tokens: usize,
    reparametrisation: Reparametrisation,
    width: usize,
    positions: Positions,
}

impl MethodConfig for Config {
    fn check(&self, backbone: &backbone::Config) -> std::result::Result<(), String> {
        init::check_virtual_tokens(self.virtual_tokens, backbone)?;
        if self.width == 0 {
            return Err("width 0 must be at least 1".into());
        }
        Ok(())
    }

    fn parameters(&self, backbone: &Backbone) -> std::result::Result<f64, String> {
        let config = backbone.config();
        let (p, h) = (self.virtual_tokens as f64, config.key_width() as f64);
        let (pieces, w) = (2.0 * config.layers as f64, self.width as f64);
        Ok(match self.reparametrisation {
            Reparametrisation::None => p * pieces * h,
            Reparametrisation::Mlp => p * h + (h * w + w) + pieces * (w * h + h),
        })
    }

    fn build(&self, at: &mut Building<'_, '_>) -> Result<Box<dyn PeftMethod>> {
        let (h, l) = (
            at.backbone.config().key_width(),
            at.backbone.config().layers,
        );
        let (p, dtype) = (self.virtual_tokens, at.backbone.dtype());
        // N(0, 1) and torch's linear layers, as both libraries start.
        let rows = match self.reparametrisation {
            Reparametrisation::Mlp if !at.tensors.is_saved() => {
                let name = "encoder.embedding.weight";
                let embedding = at
                    .tensors
                    .variable(name, &[p, h], |rng| init::normal(rng, &[p, h], 1.0, dtype))?;
                let name = "encoder.transform.0";
                let first = init::dense(at.tensors, [name, ""], self.width, h, dtype)?;
                let second = (0..2 * l).map(|piece| {
                    let name = ["encoder.transform.2", &format!(".{piece}")];
                    init::dense(at.tensors, name, h, self.width, dtype)
                });
                Rows::Mlp {
                    second: second.collect::<Result<_>>()?,
                    embedding,
                    first,
                }
            }
            _ => {
                let rows = [p * 2 * l, h];
                let shape = match at.tensors.is_saved() {
                    true => [p, 2 * l * h],
                    false => rows,
                };
                let prefix = at
                    .tensors
                    .variable("prefix", &shape, |rng| init::normal(rng, &rows, 1.0, dtype))?;
                Rows::Direct(match at.tensors.is_saved() {
                    true => prefix.reshape(&rows[..])?,
                    false => prefix,
                })
            }
        };
        Ok(Box::new(PrefixTuning {
            parameters: at.take(),
            rows,
            virtual_tokens: p,
            layers: l,
            width: h,
            positions: self.positions,
        }))
    }
}

/// Where the rows come from.
enum Rows {
    /// They are there, `[P · 2L, H]`.
    Direct(Tensor),
    /// An MLP makes them, its second layer in one piece for each layer's keys and values.
    Mlp {
        embedding: Tensor,
        first: Linear,
        second: Vec<Linear>,
    },
}

struct PrefixTuning {
    parameters: Parameters,
    rows: Rows,
    virtual_tokens: usize,
    layers: usize,
    /// Of a row of keys or values.
    width: usize,
    positions: Positions,
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
                let inner = first.forward_activated(embedding, Activation::Tanh)?;
                let of = |piece: usize| second[piece].forward(&inner);
                Ok([of(keys)?, of(values)?])
            }
        }
    }

    fn shape(&self) -> (usize, usize) {
        (self.virtual_tokens, 2 * self.layers * self.width)
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
    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn shipped(&self) -> Result<Vec<(String, Tensor)>> {
        let prefix = match &self.rows {
            Rows::Direct(rows) => rows.detach().reshape(self.shape())?,
            Rows::Mlp { .. } => {
                let rows = (0..self.layers)
                    .map(|layer| self.of_layer(layer))
                    .collect::<candle_core::Result<Vec<_>>>()?;
                Tensor::cat(&rows.concat(), 1)?.detach()
            }
        };
        Ok(vec![("prefix".to_owned(), prefix)])
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
