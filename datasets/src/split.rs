//! Splits by a hash of the text, and smaller training sets.
//!
//! An example's place is the number `sha256(purpose, 0, text [, 0, pair])`, its first 8 bytes read as a big-endian fraction
//! of 2⁶⁴. A split takes the places below its fraction. So a split is the same on every machine and after every change of
//! the order of rows, and duplicates of a text never straddle two splits. Where examples have groups, the group's name takes
//! the place of the texts.

use std::collections::{BTreeMap, BTreeSet};

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

/// Takes the splits `missing` out of the training rows, each [`MADE`] of them; `groups` (one per example, or none) stay
/// together. Returns for each of the missing splits and then for training the indices of its examples, ascending.
///
/// A class that a split would lack gets there the group of its examples whose place is lowest, if it has one to spare:
/// training and validation come before test.
pub(crate) fn make(
    train: &[Example],
    groups: Option<&[String]>,
    missing: &[Split],
) -> Vec<Vec<u32>> {
    let last = missing.len();
    let mut parts = vec![Vec::new(); last + 1];
    let mut of: Vec<usize> = Vec::with_capacity(train.len());
    let group = |i: usize| groups.map(|groups| groups[i].as_str());
    for (i, example) in train.iter().enumerate() {
        let number = (place("split", example, group(i)) / MADE) as usize;
        of.push(number.min(last));
    }
    if last > 0 {
        keep_classes(train, &group, &mut of, missing);
    }
    for (i, part) in of.into_iter().enumerate() {
        parts[part].push(i as u32);
    }
    parts
}

/// The class of an example; where it has not one class of several, all examples are of one.
fn class_of(example: &Example) -> Option<u32> {
    Some(example.label.as_ref()?.class().unwrap_or(0))
}

/// Moves groups of examples so that each class is in each part where it can be: in training, the part after all `missing`
/// ones, first. A test split that no example falls into stays empty: rows that were split before hold none for it.
fn keep_classes<'a>(
    examples: &'a [Example],
    group: &dyn Fn(usize) -> Option<&'a str>,
    of: &mut [usize],
    missing: &[Split],
) {
    let train = missing.len();
    let class = |i: usize| class_of(&examples[i]);
    let classes: BTreeSet<u32> = (0..examples.len()).filter_map(class).collect();
    let there: BTreeSet<(u32, usize)> = of
        .iter()
        .enumerate()
        .filter_map(|(i, part)| Some((class(i)?, *part)))
        .collect();
    if there.len() == classes.len() * (train + 1) {
        return;
    }
    /// Rows that move together.
    #[derive(Default)]
    struct Unit {
        rows: Vec<usize>,
        place: f64,
    }
    let mut units: BTreeMap<(&str, &str), Unit> = BTreeMap::new();
    for (i, example) in examples.iter().enumerate() {
        let key = match group(i) {
            Some(group) => (group, ""),
            None => (
                example.text.as_str(),
                example.pair.as_deref().unwrap_or_default(),
            ),
        };
        let unit = units.entry(key).or_default();
        unit.place = place("split", example, group(i));
        unit.rows.push(i);
    }
    let mut units: Vec<Unit> = units.into_values().collect();
    units.sort_by(|a, b| a.place.total_cmp(&b.place));
    let classes_of = |unit: &Unit| -> BTreeSet<u32> {
        let classes = unit.rows.iter().filter_map(|i| class(*i));
        classes.collect()
    };
    // Units that hold a class, and how many of them are in a part.
    let mut of_class: BTreeMap<u32, Vec<&Unit>> = BTreeMap::new();
    let mut left: BTreeMap<(u32, usize), usize> = BTreeMap::new();
    for unit in &units {
        for class in classes_of(unit) {
            of_class.entry(class).or_default().push(unit);
            *left.entry((class, of[unit.rows[0]])).or_default() += 1;
        }
    }
    for part in std::iter::once(train).chain(0..train) {
        if missing.get(part) == Some(&Split::Test) && !of.contains(&part) {
            continue;
        }
        for (wanted, units) in &of_class {
            let count = |class: u32, part: usize| left.get(&(class, part)).copied().unwrap_or(0);
            if count(*wanted, part) > 0 {
                continue;
            }
            let may_move = |unit: &&&Unit| {
                let from = of[unit.rows[0]];
                // A part gives its last only to one that comes before it.
                let least = if from != train && (part == train || from > part) {
                    1
                } else {
                    2
                };
                let mut classes = classes_of(unit).into_iter();
                from != part
                    && classes
                        .all(|class| count(class, from) >= if class == *wanted { least } else { 2 })
            };
            let Some(unit) = units.iter().find(may_move) else {
                continue;
            };
            for class in classes_of(unit) {
                *left.entry((class, of[unit.rows[0]])).or_default() -= 1;
                *left.entry((class, part)).or_default() += 1;
            }
            for i in &unit.rows {
                of[*i] = part;
            }
        }
    }
}

/// Indices of the training examples that stay, and of those held out: about `fraction` of them (0 … 1), by hash of the
/// text and independent of how splits were made. `groups` (one per example, or none) stay together.
pub(crate) fn hold_out(
    train: &[Example],
    groups: Option<&[String]>,
    fraction: f64,
) -> (Vec<u32>, Vec<u32>) {
    let group = |i: u32| groups.map(|groups| groups[i as usize].as_str());
    (0..train.len() as u32)
        .partition(|i| place("hold out", &train[*i as usize], group(*i)) >= fraction)
}

/// Indices of `n` training examples (all of them when `n` is larger), drawn at random with each class in proportion.
///
/// Smaller sets are prefixes of larger ones of the same seed, so a study of training-set sizes adds examples only.
pub fn subset(train: &[Example], n: usize, seed: u64) -> Vec<u32> {
    let mut order: Vec<u32> = (0..train.len() as u32).collect();
    order.shuffle(&mut stream(seed, "subset"));
    let class = |i: u32| class_of(&train[i as usize]);
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

/// Indices of `n` examples (all of them when `n` is larger), ascending: those whose place is lowest, so that they are the same on every
/// machine, for every seed and after every change of the order of rows.
pub fn sample(examples: &[Example], n: usize) -> Vec<u32> {
    let places: Vec<f64> = examples.iter().map(|e| place("sample", e, None)).collect();
    let mut indices: Vec<u32> = (0..examples.len() as u32).collect();
    indices.sort_by(|a, b| places[*a as usize].total_cmp(&places[*b as usize]));
    indices.truncate(n);
    indices.sort_unstable();
    indices
}

/// The place of an example, or of its group, in 0 … 1 for a purpose.
fn place(purpose: &str, example: &Example, group: Option<&str>) -> f64 {
    let mut hash = Sha256::new();
    hash.update(purpose);
    let own = [Some(example.text.as_str()), example.pair.as_deref()];
    let texts = group.map_or(own, |group| [Some(group), None]);
    for text in texts.into_iter().flatten() {
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
    use super::*;

    fn place(purpose: &str, example: &Example) -> f64 {
        super::place(purpose, example, None)
    }

    fn hold_out(train: &[Example], fraction: f64) -> (Vec<u32>, Vec<u32>) {
        super::hold_out(train, None, fraction)
    }

    fn make(train: Vec<Example>, missing: &[Split]) -> Vec<(Split, Vec<Example>)> {
        let parts = super::make(&train, None, missing);
        let names = missing.iter().copied().chain([Split::Train]);
        let of = |part: Vec<u32>| {
            part.into_iter()
                .map(|i| train[i as usize].clone())
                .collect()
        };
        names.zip(parts.into_iter().map(of)).collect()
    }

    fn example(text: &str, label: u32) -> Example {
        Example {
            text: text.into(),
            pair: None,
            label: Some(crate::Target::Class(label)),
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
    fn a_sample_does_not_depend_on_the_order_of_rows_and_holds_every_smaller_one() {
        let rows = examples(400);
        let texts = |rows: &[Example], n| -> BTreeSet<String> {
            let chosen = sample(rows, n);
            assert!(chosen.is_sorted());
            let text = |i: &u32| rows[*i as usize].text.clone();
            chosen.iter().map(text).collect()
        };
        let reversed: Vec<_> = rows.iter().rev().cloned().collect();
        assert_eq!(texts(&rows, 100), texts(&reversed, 100));
        assert_eq!(texts(&rows, 100).len(), 100);
        assert!(texts(&rows, 50).is_subset(&texts(&rows, 100)));
        assert_eq!(sample(&rows, 1000), (0..400).collect::<Vec<_>>());
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
                .filter(|i| rows[**i as usize].label == Some(crate::Target::Class(1)))
                .count();
            assert!(ones.abs_diff(n / 4) <= 1, "{ones} of {n}");
        }
    }

    const BOTH: [Split; 2] = [Split::Validation, Split::Test];

    /// Examples of a class in each of validation, test and training.
    fn counts(rows: &[Example], class: u32) -> [usize; 3] {
        let splits = make(rows.to_vec(), &BOTH);
        [0, 1, 2].map(|s: usize| {
            splits[s]
                .1
                .iter()
                .filter(|e| e.label == Some(crate::Target::Class(class)))
                .count()
        })
    }

    #[test]
    fn a_rare_class_is_trained_first_then_judged_then_kept_for_the_end() {
        for (rare, expected) in [
            (1, [0, 0, 1]),
            (2, [1, 0, 1]),
            (3, [1, 1, 1]),
            (8, [1, 1, 1]),
        ] {
            for version in 0..40 {
                let mut rows = examples(80);
                rows.extend((0..rare).map(|i| example(&format!("rare {version} {i}"), 2)));
                let found = counts(&rows, 2);
                assert_eq!(found.iter().sum::<usize>(), rare);
                for (found, least) in found.into_iter().zip(expected) {
                    assert!(found >= least, "{rare} rows, version {version}: {found}");
                }
            }
        }
    }

    #[test]
    fn classes_that_need_no_help_are_split_by_hash_alone() {
        let rows = examples(400);
        for (part, examples) in make(rows, &BOTH)
            .into_iter()
            .zip(0..)
            .map(|((_, e), i)| (i, e))
        {
            for example in examples {
                let number = ((place("split", &example) / MADE) as usize).min(2);
                assert_eq!(number, part);
            }
        }
    }

    #[test]
    fn a_class_of_one_text_many_times_is_only_trained() {
        let mut rows = examples(80);
        rows.extend((0..9).map(|_| example("always the same", 2)));
        assert_eq!(counts(&rows, 2), [0, 0, 9]);
    }

    #[test]
    fn groups_are_in_one_split_and_on_one_side_of_what_is_held_out() {
        let rows = examples(600);
        let groups: Vec<String> = (0..600).map(|i| format!("author {}", i % 60)).collect();
        let parts = super::make(&rows, Some(&groups), &BOTH);
        let (kept, held) = super::hold_out(&rows, Some(&groups), 0.2);
        for parts in [parts, vec![kept, held]] {
            let mut seen = BTreeSet::new();
            for part in &parts {
                let names: BTreeSet<&String> = part.iter().map(|i| &groups[*i as usize]).collect();
                assert!(!part.is_empty());
                for name in names {
                    assert!(seen.insert(name), "{name} is in two parts");
                }
            }
        }
    }
}
