//! Splits by a hash of the text, and smaller training sets.
//!
//! An example's place is the number `sha256(purpose, 0, text [, 0, pair])`, its first 8 bytes read as a big-endian fraction
//! of 2⁶⁴. A split takes the places below its fraction. So a split is the same on every machine and after every change of
//! the order of rows, and duplicates of a text never straddle two splits.

use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Example, stream};

/// What examples are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Trained on.
    Train,
    /// Judged by.
    Validation,
    /// Kept for the end; its labels may be hidden.
    Test,
}

impl Split {
    /// Its name in YAML and records.
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Validation => "validation",
            Split::Test => "test",
        }
    }
}

/// Part of the training rows that becomes a split which has no file.
pub(crate) const MADE: f64 = 0.1;

/// Takes the splits `missing` out of `train`, each [`MADE`] of it.
pub(crate) fn make(train: Vec<Example>, missing: &[Split]) -> Vec<(Split, Vec<Example>)> {
    let mut splits: Vec<(Split, Vec<Example>)> = missing
        .iter()
        .map(|split| (*split, Vec::new()))
        .chain([(Split::Train, Vec::new())])
        .collect();
    for example in train {
        let number = (place("split", &example) / MADE) as usize;
        splits[number.min(missing.len())].1.push(example);
    }
    splits
}

/// Indices of the training examples that stay, and of those held out: about `fraction` of them (0 … 1), by hash of the
/// text and independent of how splits were made.
pub fn hold_out(train: &[Example], fraction: f64) -> (Vec<u32>, Vec<u32>) {
    (0..train.len() as u32).partition(|i| place("hold out", &train[*i as usize]) >= fraction)
}

/// Indices of `n` training examples (all of them when `n` is larger), drawn at random with each class in proportion.
///
/// Smaller sets are prefixes of larger ones of the same seed, so a study of training-set sizes adds examples only.
pub fn subset(train: &[Example], n: usize, seed: u64) -> Vec<u32> {
    let mut order: Vec<u32> = (0..train.len() as u32).collect();
    order.shuffle(&mut stream(seed, "subset"));
    let class = |i: u32| train[i as usize].label;
    order.sort_by_key(|i| class(*i));
    // The k-th of a class of m comes at (k + ½) / m of the way: any prefix holds the classes in proportion.
    let mut places: Vec<(f64, u32)> = Vec::with_capacity(order.len());
    for group in order.chunk_by(|a, b| class(*a) == class(*b)) {
        let m = group.len() as f64;
        places.extend(
            group
                .iter()
                .enumerate()
                .map(|(k, i)| ((k as f64 + 0.5) / m, *i)),
        );
    }
    places.sort_by(|a, b| a.0.total_cmp(&b.0));
    places.into_iter().take(n).map(|(_, i)| i).collect()
}

/// An example's place in 0 … 1 for a purpose.
fn place(purpose: &str, example: &Example) -> f64 {
    let mut hash = Sha256::new();
    hash.update(purpose);
    for text in [Some(&example.text), example.pair.as_ref()]
        .into_iter()
        .flatten()
    {
        hash.update([0]);
        hash.update(text);
    }
    let digest = hash.finalize();
    let first = digest
        .iter()
        .take(8)
        .fold(0u64, |value, byte| value << 8 | u64::from(*byte));
    first as f64 / 2f64.powi(64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn example(text: &str, label: u32) -> Example {
        Example {
            text: text.into(),
            pair: None,
            label: Some(label),
        }
    }

    /// `n` examples, every fourth of class 1.
    fn examples(n: u32) -> Vec<Example> {
        (0..n)
            .map(|i| example(&format!("text {i}"), u32::from(i % 4 == 0)))
            .collect()
    }

    #[test]
    fn a_place_is_the_sha256_of_purpose_and_texts() {
        // printf 'split\0a fine film' | sha256sum
        let mut one = example("a fine film", 1);
        assert_eq!(
            place("split", &one),
            0x7c38c1800b1290e2_u64 as f64 / 2f64.powi(64)
        );
        // printf 'split\0a fine film\0indeed' | sha256sum
        one.pair = Some("indeed".into());
        assert_eq!(
            place("split", &one),
            0x06d09f658208657c_u64 as f64 / 2f64.powi(64)
        );
    }

    #[test]
    fn made_splits_share_no_text_and_lose_none() {
        let mut rows = examples(3000);
        rows.extend(examples(500));
        let splits = make(rows.clone(), &[Split::Validation, Split::Test]);
        let mut seen = BTreeSet::new();
        for (split, part) in &splits {
            let texts: BTreeSet<_> = part.iter().map(|e| &e.text).collect();
            for text in texts {
                assert!(seen.insert(text), "{text} again in {split:?}");
            }
        }
        assert_eq!(
            splits.iter().map(|(_, part)| part.len()).sum::<usize>(),
            3500
        );
        for (_, part) in &splits[..2] {
            // 350 expected; five standard deviations of a binomial are 89, a little more with duplicates.
            assert!((250..450).contains(&part.len()), "{}", part.len());
        }
        assert_eq!(splits[2].0, Split::Train);
    }

    #[test]
    fn a_made_split_does_not_depend_on_the_order_of_rows() {
        let rows = examples(400);
        let reversed: Vec<_> = rows.iter().rev().cloned().collect();
        let validation = |rows| {
            let part = make(rows, &[Split::Validation]).swap_remove(0).1;
            part.into_iter().map(|e| e.text).collect::<BTreeSet<_>>()
        };
        assert_eq!(validation(rows), validation(reversed));
    }

    #[test]
    fn holding_out_parts_the_training_set_and_not_as_the_splits_do() {
        let rows = examples(2000);
        let (kept, held) = hold_out(&rows, 0.2);
        assert_eq!(kept.len() + held.len(), 2000);
        assert!((310..490).contains(&held.len()), "{}", held.len());
        let all: BTreeSet<_> = kept.iter().chain(&held).collect();
        assert_eq!(all.len(), 2000);
        // What is left after splits were made is held out at the same rate.
        let train = make(rows, &[Split::Validation, Split::Test])
            .swap_remove(2)
            .1;
        let held = hold_out(&train, 0.1).1.len();
        assert!((100..220).contains(&held), "{held} of {}", train.len());
        assert!(hold_out(&train, 0.0).1.is_empty());
        assert!(hold_out(&train, 1.0).0.is_empty());
    }

    #[test]
    fn a_smaller_subset_is_the_beginning_of_a_larger_one() {
        let rows = examples(400);
        let large = subset(&rows, 200, 3);
        assert_eq!(subset(&rows, 16, 3), large[..16]);
        assert_ne!(subset(&rows, 16, 4), large[..16]);
        assert_eq!(large.iter().collect::<BTreeSet<_>>().len(), 200);
        assert_eq!(subset(&rows, 1000, 3).len(), 400);
    }

    #[test]
    fn every_subset_holds_the_classes_in_proportion() {
        let rows = examples(400);
        let all = subset(&rows, 400, 5);
        for n in [4, 16, 64, 250] {
            let ones = all[..n]
                .iter()
                .filter(|i| rows[**i as usize].label == Some(1))
                .count();
            assert!(ones.abs_diff(n / 4) <= 1, "{ones} of {n}");
        }
    }
}
