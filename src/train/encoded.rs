//! Token ids of the examples that a run trains on and is judged by.

use std::path::Path;

use anyhow::{Result, ensure};
use datasets::{Augmentation, Dataset, Encoded, Example, Objective, Split, TextTokenizer};
use record::DatasetFacts;

use super::recipe::Recipe;
use crate::prepare::LoadedData;

/// Examples that evaluations before the last step judge at most: a learning curve needs no more.
pub const ON_THE_WAY: usize = 800;

/// Token ids of the splits that a run uses.
pub struct EncodedData {
    /// Training split.
    pub train: Encoded,
    /// Validation split.
    pub validation: Encoded,
    /// What is judged of it before the last step, if that is not all.
    pub sample: Option<Sample>,
    /// Prompts of the validation split that have the tokens of another one.
    pub same_prompts: usize,
}

/// Some examples of a split.
pub struct Sample {
    /// Their indices, ascending.
    pub indices: Vec<u32>,
    /// Their token ids.
    pub examples: Encoded,
}

/// Examples that a run judges in all, of so many in the validation split.
pub fn judged(evaluations: usize, examples: usize) -> usize {
    evaluations.saturating_sub(1) * examples.min(ON_THE_WAY) + examples
}

impl EncodedData {
    /// Tokenises the examples that the recipe and the seed choose, or reads them from the cache.
    ///
    /// # Errors
    /// If the recipe asks for more examples than there are, or the tokenizer fails.
    pub fn new(
        data: &Dataset,
        recipe: &Recipe,
        seed: u64,
        tokenizer: &TextTokenizer,
        max_tokens: usize,
        cache: &Path,
    ) -> Result<Self> {
        data.check_trainable()?;
        let by_words = data.objective == Objective::Tokens;
        ensure!(
            !by_words || recipe.augmentation() == Augmentation::default(),
            "recipe: '{}' has a tag for each token, so tokens can be neither dropped nor swapped; leave the recipe's \
             augmentation out",
            data.name
        );
        let encode = |examples: &[Example]| match by_words {
            true => tokenizer.encode_tagged(examples, max_tokens),
            false => tokenizer.encode_cached(examples, max_tokens, cache),
        };
        let (mut train, mut validation) = (data.split(Split::Train), data.split(Split::Validation));
        let parts;
        if recipe.held_out > 0.0 {
            parts = hold_out(data, recipe.held_out)?;
            (train, validation) = (&parts.0, &parts.1);
        }
        let train = match recipe.train_examples {
            None => encode(train)?,
            // Another set for every seed: not worth a file of the cache.
            Some(n) => {
                ensure!(
                    n <= train.len() && n >= data.labels.len(),
                    "recipe: train_examples: {n} is not between the {} classes and the {} training \
                     examples of '{}'",
                    data.labels.len(),
                    train.len(),
                    data.name
                );
                let chosen = datasets::subset(train, n, seed);
                let chosen: Vec<_> = chosen.iter().map(|i| train[*i as usize].clone()).collect();
                match by_words {
                    true => tokenizer.encode_tagged(&chosen, max_tokens)?,
                    false => tokenizer.encode(&chosen, max_tokens)?,
                }
            }
        };
        let sample =
            (validation.len() > ON_THE_WAY).then(|| datasets::sample(validation, ON_THE_WAY));
        let texts = validation;
        let validation = encode(texts)?;
        Ok(Self {
            train,
            same_prompts: match data.objective {
                Objective::Completion => validation.same_prompts(texts),
                _ => 0,
            },
            sample: sample.map(|indices| Sample {
                examples: validation.some(&indices),
                indices,
            }),
            validation,
        })
    }
}

/// The training examples that are left, and those held out of them.
fn hold_out(data: &Dataset, share: f64) -> Result<(Vec<Example>, Vec<Example>)> {
    let train = data.split(Split::Train);
    let (kept, held) = data.hold_out(share);
    ensure!(
        !kept.is_empty() && !held.is_empty(),
        "recipe: held_out: {share} of the {} training examples of '{}' leaves nothing to train on or to judge by",
        train.len(),
        data.name
    );
    let take = |indices: Vec<u32>| indices.iter().map(|i| train[*i as usize].clone()).collect();
    Ok((take(kept), take(held)))
}

/// What a record says about the data.
pub fn data_facts(data: &LoadedData, encoded: &EncodedData) -> DatasetFacts {
    DatasetFacts {
        name: data.dataset.name.clone(),
        stand_in_for: data.stand_in_for.clone(),
        digest: data.dataset.digest(),
        labels: data.dataset.labels.clone(),
        train_examples: encoded.train.len(),
        validation_examples: encoded.validation.len(),
        main_metric: data.dataset.metrics[0].name().to_owned(),
        truncated: encoded.train.truncated,
        objective: data.dataset.objective.name().to_owned(),
    }
}
