//! Augmentation of training examples: dropping tokens and swapping neighbours, on token ids.
//!
//! Special tokens stay where they are, so an example keeps its form and its segments. Wei and Zou, "EDA", 2019
//! (arXiv:1901.11196) describe random deletion and random swap of words; here they act on tokens, with swaps of direct
//! neighbours only.

use std::collections::BTreeSet;

use rand::Rng;
use serde::{Deserialize, Serialize};

/// How much a training example is changed each time it is seen. The default changes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Augmentation {
    /// Probability that a token is dropped, 0 … 1.
    pub drop: f32,
    /// Probability that a token changes places with the next one, 0 … 1.
    pub swap: f32,
}

impl Augmentation {
    /// The changed token ids and types of one example. `special` are the ids that stay (`TextTokenizer::special_tokens`).
    ///
    /// At least one token that is not special is left, if there was one.
    pub fn apply(
        &self,
        ids: &[u32],
        types: &[u8],
        special: &BTreeSet<u32>,
        rng: &mut impl Rng,
    ) -> (Vec<u32>, Vec<u8>) {
        let mut kept: Vec<(u32, u8)> = Vec::with_capacity(ids.len());
        let (mut first_dropped, mut ordinary) = (None, false);
        for token in ids.iter().copied().zip(types.iter().copied()) {
            if special.contains(&token.0) {
                kept.push(token);
            } else if rng.random::<f32>() < self.drop {
                first_dropped.get_or_insert((kept.len(), token));
            } else {
                ordinary = true;
                kept.push(token);
            }
        }
        if let (false, Some((position, token))) = (ordinary, first_dropped) {
            kept.insert(position, token);
        }
        let mut i = 1;
        while i < kept.len() {
            let stays = |token: (u32, u8)| special.contains(&token.0);
            if !stays(kept[i - 1]) && !stays(kept[i]) && rng.random::<f32>() < self.swap {
                // Only the ids: types belong to the places, and two neighbours without a special token between share theirs.
                let id = kept[i].0;
                kept[i].0 = kept[i - 1].0;
                kept[i - 1].0 = id;
                i += 1;
            }
            i += 1;
        }
        kept.into_iter().unzip()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream;

    fn special() -> BTreeSet<u32> {
        [101, 102].into()
    }

    const IDS: [u32; 9] = [101, 1, 2, 3, 102, 4, 5, 6, 102];
    const TYPES: [u8; 9] = [0, 0, 0, 0, 0, 1, 1, 1, 1];

    fn apply(drop: f32, swap: f32, seed: u64) -> (Vec<u32>, Vec<u8>) {
        let mut rng = stream(seed, "augmentation");
        Augmentation { drop, swap }.apply(&IDS, &TYPES, &special(), &mut rng)
    }

    #[test]
    fn the_default_changes_nothing() {
        assert_eq!(apply(0.0, 0.0, 1), (IDS.to_vec(), TYPES.to_vec()));
    }

    #[test]
    fn special_tokens_stay_and_one_ordinary_token_is_always_left() {
        assert_eq!(
            apply(1.0, 0.0, 1),
            (vec![101, 1, 102, 102], vec![0, 0, 0, 1])
        );
    }

    #[test]
    fn swaps_stay_inside_their_segment() {
        assert_eq!(
            apply(0.0, 1.0, 1),
            (vec![101, 2, 1, 3, 102, 5, 4, 6, 102], TYPES.to_vec())
        );
    }

    #[test]
    fn tokens_are_dropped_at_the_rate_asked_for() {
        let ids: Vec<u32> = (0..10_000).collect();
        let types = vec![0; ids.len()];
        let mut rng = stream(3, "augmentation");
        let drop = Augmentation {
            drop: 0.2,
            swap: 0.0,
        };
        let (kept, kept_types) = drop.apply(&ids, &types, &BTreeSet::new(), &mut rng);
        // 8,000 expected; five standard deviations of a binomial are 200.
        assert!((7_800..8_200).contains(&kept.len()), "{}", kept.len());
        assert_eq!(kept.len(), kept_types.len());
        assert!(kept.is_sorted());
    }

    #[test]
    fn the_same_seed_gives_the_same_change() {
        assert_eq!(apply(0.3, 0.3, 4), apply(0.3, 0.3, 4));
    }
}
