//! Entities in a sequence of tags, and how many of them are found: seqeval's definition (its default mode, that of CoNLL's own
//! `conlleval`).
//!
//! An entity is right if type, first and last word are. `L` and `U` of BILOU are read as `E` and `S` of IOBES, which they stand for.

use std::{collections::BTreeMap, iter::Sum};

use crate::{jackknife::ratio_scores, sample::ratio};

/// An entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entity<'a> {
    /// Its type.
    pub kind: &'a str,
    /// Its first word.
    pub start: usize,
    /// The word after its last.
    pub end: usize,
}

/// The prefix of a tag and its type.
fn parts(tag: &str) -> (char, &str) {
    let mut letters = tag.chars();
    let prefix = match letters.next().unwrap_or('O') {
        'L' => 'E',
        'U' => 'S',
        other => other,
    };
    let rest = letters.as_str();
    let kind = rest.split_once('-').map_or(rest, |(_, kind)| kind);
    (prefix, if kind.is_empty() { "_" } else { kind })
}

/// The entities of tags such as `B-person`, in order.
pub fn entities<'a>(tags: &[&'a str]) -> Vec<Entity<'a>> {
    let mut found = Vec::new();
    let (mut before, mut kind_before, mut start) = ('O', "", 0);
    for (i, tag) in tags.iter().copied().chain(["O"]).enumerate() {
        let (prefix, kind) = parts(tag);
        let other_kind = kind_before != kind;
        let ends = matches!(
            (before, prefix),
            ('E' | 'S', _) | ('B' | 'I', 'B' | 'S' | 'O')
        ) || before != 'O' && before != '.' && other_kind;
        if ends {
            found.push(Entity {
                kind: kind_before,
                start,
                end: i,
            });
        }
        let starts = matches!(
            (before, prefix),
            (_, 'B' | 'S') | ('E' | 'S' | 'O', 'E' | 'I')
        ) || prefix != 'O' && prefix != '.' && other_kind;
        if starts {
            start = i;
        }
        (before, kind_before) = (prefix, kind);
    }
    found
}

/// How many entities there are, are predicted, and are right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EntityCounts {
    /// Entities that are both.
    pub right: usize,
    /// Entities there are.
    pub truth: usize,
    /// Entities predicted.
    pub predicted: usize,
}

impl EntityCounts {
    /// Of one sequence of tags.
    pub fn of(truth: &[&str], predicted: &[&str]) -> Self {
        Self::by_type(truth, predicted).into_values().sum()
    }

    /// Of one sequence of tags, by type.
    pub fn by_type(truth: &[&str], predicted: &[&str]) -> BTreeMap<String, Self> {
        let (truth, predicted) = (entities(truth), entities(predicted));
        let mut counts: BTreeMap<String, Self> = BTreeMap::new();
        for entity in &truth {
            let counts = counts.entry(entity.kind.to_owned()).or_default();
            counts.truth += 1;
            counts.right += usize::from(predicted.contains(entity));
        }
        for entity in &predicted {
            counts.entry(entity.kind.to_owned()).or_default().predicted += 1;
        }
        counts
    }

    /// Of the predicted entities the fraction that is right; 0 of none.
    pub fn precision(&self) -> f64 {
        ratio(self.right as f64, self.predicted as f64)
    }

    /// Of the entities there are the fraction that is found; 0 of none.
    pub fn recall(&self) -> f64 {
        ratio(self.right as f64, self.truth as f64)
    }

    /// The harmonic mean of both.
    pub fn f1(&self) -> f64 {
        let both = (self.truth + self.predicted) as f64;
        ratio(2.0 * self.right as f64, both)
    }

    /// Numerator and denominator of the metric of this name in the records.
    fn parts(&self, metric: &str) -> Option<(f64, f64)> {
        let (above, below) = match metric {
            "entity_f1" => (2 * self.right, self.truth + self.predicted),
            "entity_precision" => (self.right, self.predicted),
            "entity_recall" => (self.right, self.truth),
            _ => return None,
        };
        Some((above as f64, below as f64))
    }

    /// Scores of one run, given the counts of each sentence: one per sentence, with the metric as their mean. `None` for a
    /// metric that is not one of entities.
    pub fn scores(metric: &str, sentences: &[Self]) -> Option<Vec<f64>> {
        let parts: Option<Vec<_>> = sentences.iter().map(|c| c.parts(metric)).collect();
        Some(ratio_scores(&parts?))
    }
}

impl Sum for EntityCounts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |a, b| Self {
            right: a.right + b.right,
            truth: a.truth + b.truth,
            predicted: a.predicted + b.predicted,
        })
    }
}
