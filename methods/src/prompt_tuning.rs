//! Prompt tuning (Lester et al. 2021, arXiv:2104.08691).
//!
//! `[P; E(x)]`: P trainable vectors of the embedding space, `[P, H]`, stand before the embeddings of every
//! input, and everything else is frozen. Positions continue through them: virtual tokens take the first P
//! positions, the text the following ones. They get token type 0.

use backbone::{Backbone, Hooks, Input, Phase};
use candle_core::{Tensor, Var};
use rand::seq::index;
use serde::Deserialize;

use crate::{
    Context, Error, NotMergeable, PeftMethod, Result, init,
    registry::{Entry, MethodConfig},
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

#[derive(Deserialize)]
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
        // Two special tokens and one of the text must still fit behind the virtual ones.
        let most = backbone.max_tokens().saturating_sub(3);
        if self.virtual_tokens == 0 || self.virtual_tokens > most {
            return Err(format!(
                "virtual_tokens {} must be in 1 … {most}: the position table has {} rows and the text needs room",
                self.virtual_tokens,
                backbone.max_tokens()
            ));
        }
        if self.init == Init::Text && self.init_text.trim().is_empty() {
            return Err("init_text: init: text needs a text".into());
        }
        init::check_dropout(self.dropout)
    }

    fn build(self, context: &mut Context<'_>) -> Result<Box<dyn PeftMethod>> {
        let words = context.backbone.word_embeddings();
        let (h, dtype, p) = (words.dim(1)?, words.dtype(), self.virtual_tokens);
        let bad = |what: String| Error::Config {
            method: "prompt_tuning".into(),
            what,
        };
        let rows = |ids: &[u32]| -> Result<Var> {
            if let Some(id) = ids
                .iter()
                .find(|id| **id as usize >= context.backbone.config().vocabulary)
            {
                return Err(bad(format!(
                    "init: token {id} is outside the backbone's vocabulary"
                )));
            }
            Ok(Var::from_tensor(&kernels::embed(&words.detach(), ids)?)?)
        };
        let prompt = match self.init {
            // The start of torch.nn.Embedding, which Hugging Face PEFT uses.
            Init::Random => init::normal(context.rng, &[p, h], 1.0, dtype)?,
            Init::SampledVocab => {
                let mut ids = context.words.ordinary();
                ids.truncate(COMMON);
                if ids.len() < p {
                    return Err(bad(format!(
                        "init: the vocabulary has {} ordinary tokens for {p} virtual ones",
                        ids.len()
                    )));
                }
                let drawn: Vec<u32> = index::sample(context.rng, ids.len(), p)
                    .iter()
                    .map(|i| ids[i])
                    .collect();
                rows(&drawn)?
            }
            Init::Text => {
                let ids = context
                    .words
                    .encode(&self.init_text)
                    .map_err(|e| bad(format!("init_text: {e}")))?;
                if ids.is_empty() {
                    return Err(bad(format!(
                        "init_text: '{}' has no tokens",
                        self.init_text
                    )));
                }
                rows(&ids.into_iter().cycle().take(p).collect::<Vec<_>>())?
            }
        };
        Ok(Box::new(PromptTuning {
            prompt,
            dropout: self.dropout,
            pooling: self.pooling,
        }))
    }
}

struct PromptTuning {
    prompt: Var,
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
    fn vars(&self) -> Vec<(String, Var)> {
        vec![("prompt".to_owned(), self.prompt.clone())]
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
