//! A method with its head over a backbone, and the batches that go through it.

use std::collections::BTreeMap;

use backbone::{Backbone, Batch, Phase};
use candle_core::Tensor;
use datasets::Encoded;
use methods::PeftMethod;

use super::head::{Head, Vocabulary};
use crate::generate;

/// Examples in a batch of an evaluation.
pub const EVALUATION_BATCH: usize = 32;

/// A method with its head over a backbone.
#[derive(Clone, Copy)]
pub struct Model<'a> {
    /// The frozen backbone.
    pub backbone: &'a Backbone,
    /// The method.
    pub method: &'a dyn PeftMethod,
    /// The head.
    pub head: &'a Head,
}

impl<'a> Model<'a> {
    /// This method with this head over this backbone.
    pub fn new(backbone: &'a Backbone, method: &'a dyn PeftMethod, head: &'a Head) -> Self {
        Self {
            backbone,
            method,
            head,
        }
    }
}

impl Model<'_> {
    /// The vectors of a batch that the head reads, `[B, H]`, or `[W, H]` of its words.
    ///
    /// # Errors
    /// As [`Backbone::pooled`].
    pub fn pooled(&self, batch: &Batch, phase: Phase<'_>) -> backbone::Result<Tensor> {
        let backbone = self.method.backbone().unwrap_or(self.backbone);
        backbone.pooled(batch, self.method, phase)
    }

    /// Outputs of each example of a batch without a gradient: B rows.
    ///
    /// # Errors
    /// As [`Backbone::pooled`].
    pub fn logits(&self, batch: &Batch) -> backbone::Result<Vec<Vec<f32>>> {
        kernels::without_gradients(|| {
            let logits = self.head.forward(&self.pooled(batch, Phase::Eval)?)?;
            let rows = logits.to_dtype(candle_core::DType::F32)?.to_vec2()?;
            Ok(by_example(
                rows,
                (0..batch.spans().count()).map(|i| batch.vectors(i)),
            ))
        })
    }

    /// Outputs of all examples in their own order. Examples of like length share a batch, and all share what a decoder has read
    /// of the tokens with which they begin: a template's, and the virtual tokens before it.
    ///
    /// # Errors
    /// As [`Backbone::pooled`].
    pub fn all_logits(&self, examples: &Encoded) -> backbone::Result<Vec<Vec<f32>>> {
        if let Some(vocabulary) = self.head.vocabulary() {
            return self.completions(examples, vocabulary);
        }
        let mut out = vec![Vec::new(); examples.len()];
        self.each_batch(examples, |indices, batch, pooled| {
            let logits = kernels::without_gradients(|| self.head.forward(&pooled))?;
            let rows = logits.to_dtype(candle_core::DType::F32)?.to_vec2()?;
            let counts = (0..indices.len()).map(|i| batch.vectors(i));
            for (i, row) in indices.iter().zip(by_example(rows, counts)) {
                out[*i as usize] = row;
            }
            Ok(())
        })?;
        Ok(out)
    }

    /// Of each example the loss of its completion in nats, summed over its tokens, and the tokens that are written behind its
    /// prompt; once for each prompt, and none where a loss is not finite.
    fn completions(
        &self,
        examples: &Encoded,
        vocabulary: &Vocabulary,
    ) -> backbone::Result<Vec<Vec<f32>>> {
        let mut out = vec![Vec::new(); examples.len()];
        self.each_batch(examples, |indices, _, pooled| {
            let mut first = 0;
            for i in indices {
                let tokens = examples.completion(*i as usize);
                let own = pooled.narrow(0, first, tokens.len())?;
                first += tokens.len();
                let mean = kernels::without_gradients(|| {
                    kernels::vocabulary_cross_entropy(&own, vocabulary.table(), tokens)
                })?;
                let mean: f32 = mean.to_dtype(candle_core::DType::F32)?.to_scalar()?;
                out[*i as usize].push(mean * tokens.len() as f32);
            }
            Ok(())
        })?;
        if out.iter().flatten().any(|nats| !nats.is_finite()) {
            return Ok(out);
        }
        let mut of_prompt: BTreeMap<&[u32], Vec<usize>> = BTreeMap::new();
        for i in 0..examples.len() {
            of_prompt.entry(examples.prompt(i)).or_default().push(i);
        }
        let prompts: Vec<&[u32]> = of_prompt.keys().copied().collect();
        let written = generate::greedy(self.backbone, self.method, vocabulary, &prompts)?;
        for (own, text) in of_prompt.values().zip(written) {
            for i in own {
                out[*i].extend(text.iter().map(|id| *id as f32));
            }
        }
        Ok(out)
    }

    /// Calls `f` with the vectors of every example, some at a time: their indices, their batch, their vectors.
    fn each_batch(
        &self,
        examples: &Encoded,
        mut f: impl FnMut(&[u32], &Batch, Tensor) -> backbone::Result<()>,
    ) -> backbone::Result<()> {
        let backbone = self.method.backbone().unwrap_or(self.backbone);
        let prefix = match shared_tokens(backbone, examples) {
            0 => None,
            n => Some((
                backbone.prefix(&examples.example(0).0[..n], self.method)?,
                n,
            )),
        };
        for indices in by_length(examples) {
            let batch = batch_of(examples, &indices)?;
            let pooled = match &prefix {
                None => kernels::without_gradients(|| self.pooled(&batch, Phase::Eval))?,
                Some((prefix, n)) => {
                    backbone.pooled_behind(prefix, &batch.behind(*n)?, self.method)?
                }
            };
            f(&indices, &batch, pooled)?;
        }
        Ok(())
    }
}

/// The vectors of every example in its own place, one after the other where it has several.
///
/// # Errors
/// As [`Backbone::pooled`].
pub fn pooled_rows(model: Model<'_>, examples: &Encoded) -> backbone::Result<Vec<Vec<f32>>> {
    let mut out = vec![Vec::new(); examples.len()];
    model.each_batch(examples, |indices, batch, pooled| {
        let rows = pooled.to_dtype(candle_core::DType::F32)?.to_vec2()?;
        let counts = (0..indices.len()).map(|i| batch.vectors(i));
        for (i, row) in indices.iter().zip(by_example(rows, counts)) {
            out[*i as usize] = row;
        }
        Ok(())
    })?;
    Ok(out)
}

/// Tokens with which all examples begin and that a decoder can read once for all of them; every example has more.
pub fn shared_tokens(backbone: &Backbone, examples: &Encoded) -> usize {
    if !backbone.shares_prefixes() || !examples.words.is_empty() || examples.len() < 2 {
        return 0;
    }
    let padding = backbone.config().description.padding;
    let first = examples.example(0).0;
    let mut shared = first.len();
    for i in 0..examples.len() {
        let ids = examples.example(i).0;
        if ids.last().copied() == padding {
            return 0;
        }
        let same = first.iter().zip(ids).take_while(|(a, b)| a == b).count();
        shared = shared.min(same).min(ids.len().saturating_sub(1));
    }
    shared
}

/// Rows of outputs, those of an example one after the other, given how many each example has.
pub fn by_example(rows: Vec<Vec<f32>>, counts: impl Iterator<Item = usize>) -> Vec<Vec<f32>> {
    let mut rows = rows.into_iter();
    counts
        .map(|count| match count {
            1 => rows.next().unwrap_or_default(),
            _ => rows.by_ref().take(count).flatten().collect(),
        })
        .collect()
}

/// Batches of examples of like length, for evaluation.
pub fn by_length(examples: &Encoded) -> Vec<Vec<u32>> {
    let mut order: Vec<u32> = (0..examples.len() as u32).collect();
    order.sort_by_key(|i| examples.length(*i as usize));
    order
        .chunks(EVALUATION_BATCH)
        .map(<[u32]>::to_vec)
        .collect()
}

/// The packed batch of some examples.
///
/// # Errors
/// If it would be empty.
pub fn batch_of(examples: &Encoded, indices: &[u32]) -> backbone::Result<Batch> {
    let (mut ids, mut types, mut offsets) = (Vec::new(), Vec::new(), vec![0]);
    for i in indices {
        let (example_ids, example_types) = examples.example(*i as usize);
        ids.extend_from_slice(example_ids);
        types.extend(example_types.iter().map(|t| u32::from(*t)));
        offsets.push(ids.len());
    }
    let batch = Batch::new(ids, types, offsets)?;
    if examples.words.is_empty() {
        return Ok(batch);
    }
    let words = indices.iter().map(|i| &examples.words[*i as usize]);
    batch.reading(
        words
            .map(|words| words.iter().map(|w| w.token).collect())
            .collect(),
    )
}
