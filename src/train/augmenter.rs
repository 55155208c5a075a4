//! Augmented training batches: tokens dropped and swapped each time an example is seen.

use std::collections::BTreeSet;

use backbone::Batch;
use datasets::{Augmentation, Encoded, TextTokenizer};
use rand_chacha::ChaCha8Rng;

use super::recipe::Recipe;

/// Changes training examples, with a random stream of its own: the same changes for every method of a seed.
#[derive(Clone)]
pub struct Augmenter {
    augmentation: Augmentation,
    special: BTreeSet<u32>,
    stream: ChaCha8Rng,
}

impl Augmenter {
    /// The recipe's augmentation; `None` where it has none.
    pub fn new(recipe: &Recipe, tokenizer: &TextTokenizer, seed: u64) -> Option<Self> {
        let augmentation = recipe.augmentation();
        (augmentation != Augmentation::default()).then(|| Self {
            augmentation,
            special: tokenizer.special_tokens(),
            stream: datasets::stream(seed, "augmentation"),
        })
    }

    /// The packed batch of some examples, changed.
    ///
    /// # Errors
    /// If it would be empty.
    pub fn batch(&mut self, examples: &Encoded, indices: &[u32]) -> backbone::Result<Batch> {
        let (mut ids, mut types, mut offsets) = (Vec::new(), Vec::new(), vec![0]);
        for i in indices {
            let (own_ids, own_types) = examples.example(*i as usize);
            let (own_ids, own_types) =
                self.augmentation
                    .apply(own_ids, own_types, &self.special, &mut self.stream);
            ids.extend(own_ids);
            types.extend(own_types.into_iter().map(u32::from));
            offsets.push(ids.len());
        }
        Batch::new(ids, types, offsets)
    }
}
