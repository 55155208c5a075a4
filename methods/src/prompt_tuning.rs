//! Prompt tuning (Lester et al. 2021, arXiv:2104.08691).
//!
//! `[P; E(x)]`: P trainable vectors of the embedding space, `[P, H]`, stand before the embeddings of every
//! input, and everything else is frozen. Positions continue through them: virtual tokens take the first P
//! positions, the text the following ones. They get token type 0.

use backbone::{Backbone, Hooks, Input, Phase};
use candle_core::Tensor;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;

use crate::{
    NotMergeable, Parameters, PeftMethod, Result,
    entry::{Building, Entry, MethodConfig},
    init,
};

pub(crate) const ENTRY: Entry = Entry::of::<Config>(
    "prompt_tuning",
    include_str!("../configs/prompt_tuning.yaml"),
)
.standard()
.parameters("virtual_tokens · H");

/// Sampled-vocabulary starts draw from this many ordinary tokens, as in Lester et al., section 3.2.
const COMMON: usize = 5_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Init {
    Random,
    SampledVocab,
    Text,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FirstRow {
    Cls,
    First,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    virtual_tokens: usize,
    init: Init,
    init_text: String,
    dropout: f64,
    pooling: FirstRow,
}

impl MethodConfig for Config {
    fn check(&self, backbone: &backbone::Config) -> std::result::Result<(), String> {
        init::check_virtual_tokens(self.virtual_tokens, backbone)?;
        if self.init == Init::Text && self.init_text.trim().is_empty() {
            return Err("init_text: init: text needs a text".into());
        }
        init::check_dropout(self.dropout)
    }

    fn parameters(&self, backbone: &Backbone) -> std::result::Result<f64, String> {
        Ok(self.virtual_tokens as f64 * backbone.config().hidden as f64)
    }

    fn build(&self, at: &mut Building<'_, '_>) -> Result<Box<dyn PeftMethod>> {
        let (h, p) = (at.backbone.config().hidden, self.virtual_tokens);
        let start = match at.tensors.is_saved() {
            true => Rows::Drawn,
            false => self.start(at)?,
        };
        let words = at.backbone.word_embeddings().detach();
        let prompt = at
            .tensors
            .variable("prompt", &[p, h], |rng| start.rows(rng, &words, p))?;
        Ok(Box::new(PromptTuning {
            parameters: at.take(),
            prompt,
            dropout: self.dropout,
            pooling: self.pooling,
        }))
    }
}

/// What the virtual tokens are at the start.
enum Rows {
    /// Drawn, as torch.nn.Embedding and so Hugging Face PEFT start.
    Drawn,
    /// P of these words, drawn.
    SomeOf(Vec<u32>),
    /// These words, again and again.
    These(Vec<u32>),
}

impl Rows {
    /// P rows `[P, H]` from a table of words `[V, H]`.
    fn rows(self, rng: &mut ChaCha8Rng, words: &Tensor, p: usize) -> candle_core::Result<Tensor> {
        let ids: Vec<u32> = match self {
            Self::Drawn => return init::normal(rng, &[p, words.dim(1)?], 1.0, words.dtype()),
            Self::SomeOf(ids) => {
                let drawn = index::sample(rng, ids.len(), p);
                drawn.iter().map(|i| ids[i]).collect()
            }
            Self::These(ids) => ids.into_iter().cycle().take(p).collect(),
        };
        kernels::embed(words, &ids)
    }
}

impl Config {
    fn start(&self, at: &Building<'_, '_>) -> Result<Rows> {
        let (p, vocabulary) = (self.virtual_tokens, at.backbone.config().vocabulary);
        let known = |ids: Vec<u32>| match ids.iter().find(|id| **id as usize >= vocabulary) {
            Some(id) => Err(format!(
                "init: token {id} is outside the backbone's vocabulary"
            )),
            None => Ok(ids),
        };
        at.valid(match (self.init, at.words) {
            (Init::Random, _) | (_, None) => Ok(Rows::Drawn),
            (Init::SampledVocab, Some(words)) => {
                let mut ids = words.ordinary();
                ids.truncate(COMMON);
                match ids.len() {
                    n if n < p => Err(format!(
                        "init: the vocabulary has {n} ordinary tokens for {p} virtual ones"
                    )),
                    _ => known(ids).map(Rows::SomeOf),
                }
            }
            (Init::Text, Some(words)) => {
                let ids = words.encode(&self.init_text);
                let ids = ids.map_err(|e| format!("init_text: {e}"));
                ids.and_then(|ids| match ids.is_empty() {
                    true => Err(format!("init_text: '{}' has no tokens", self.init_text)),
                    false => known(ids).map(Rows::These),
                })
            }
        })
    }
}

struct PromptTuning {
    parameters: Parameters,
    prompt: Tensor,
    dropout: f64,
    pooling: FirstRow,
}

impl Hooks for PromptTuning {
    fn input(&self, input: Input, phase: Phase<'_>) -> backbone::Result<Input> {
        let prompt = init::dropout(&self.prompt, self.dropout, phase)?;
        prepend(&prompt, input, self.pooling)
    }
}

/// The input with the virtual tokens `prompt` `[P, H]` before every example.
pub(crate) fn prepend(prompt: &Tensor, input: Input, pooling: FirstRow) -> backbone::Result<Input> {
    let p = prompt.dim(0)?;
    let (embeddings, spans) = kernels::prepend_rows(prompt, &input.embeddings, &input.spans)?;
    let skip = if pooling == FirstRow::Cls { p } else { 0 };
    Ok(Input {
        embeddings,
        spans,
        virtual_tokens: input.virtual_tokens.iter().map(|n| n + p).collect(),
        first_position: input.first_position,
        read_from: input.read_from.iter().map(|n| n + skip).collect(),
    })
}

impl PeftMethod for PromptTuning {
    fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    fn virtual_tokens(&self) -> usize {
        self.prompt.dims()[0]
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
