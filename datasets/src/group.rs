//! Examples that belong together: a held-out part must not hold what training has all but seen.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use crate::Example;

/// What keeps examples together when a split is made or a part held out.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// Rows with the same value of this column, such as an author or a source.
    Column(String),
    /// Texts of which one is a run of words of the other, such as the phrases of a sentence.
    Parts,
}

/// Parts of fewer words stand in too many texts: each goes with the longest of them only.
const LONG: usize = 4;

/// The group of each example: the longest text of those that hold one another.
pub(crate) fn parts(examples: &[Example]) -> Vec<String> {
    let texts: Vec<Vec<&str>> = examples
        .iter()
        .map(|e| {
            let pair = e.pair.as_deref().unwrap_or_default();
            e.text
                .split_whitespace()
                .chain(pair.split_whitespace())
                .collect()
        })
        .collect();
    // Each text once, in an order that the file's does not change.
    let mut distinct: Vec<&[&str]> = texts.iter().map(Vec::as_slice).collect();
    distinct.sort_unstable_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
    distinct.dedup();
    let mut of_hash: HashMap<u64, Vec<usize>> = HashMap::new();
    let mut words: HashMap<&str, u64> = HashMap::new();
    let mut numbered: Vec<Vec<u64>> = Vec::with_capacity(distinct.len());
    let mut lengths = BTreeMap::new();
    for (i, text) in distinct.iter().enumerate() {
        let numbers: Vec<u64> = text
            .iter()
            .map(|word| {
                let next = words.len() as u64 + 1;
                *words.entry(word).or_insert(next)
            })
            .collect();
        of_hash.entry(hash(&numbers)).or_default().push(i);
        *lengths.entry(text.len()).or_insert(0usize) += 1;
        numbered.push(numbers);
    }
    let mut groups = Union((0..distinct.len()).collect());
    let mut placed = vec![false; distinct.len()];
    for (i, text) in numbered.iter().enumerate() {
        let sums = sums(text);
        for length in lengths.range(1..text.len()).map(|(length, _)| *length) {
            let power = BASE.wrapping_pow(length as u32);
            for begin in 0..=text.len() - length {
                let part = sums[begin + length].wrapping_sub(sums[begin].wrapping_mul(power));
                let Some(candidates) = of_hash.get(&part) else {
                    continue;
                };
                let is = |k: &&usize| numbered[**k] == text[begin..begin + length];
                // Texts come longest first, so the first that holds a short part is the longest.
                if let Some(k) = candidates.iter().find(is)
                    && (length >= LONG || !placed[*k])
                {
                    placed[*k] = true;
                    groups.join(i, *k);
                }
            }
        }
    }
    let place: HashMap<&[&str], usize> = distinct.iter().copied().zip(0..).collect();
    texts
        .iter()
        .map(|text| distinct[groups.root(place[text.as_slice()])].join(" "))
        .collect()
}

const BASE: u64 = 0x9e37_79b9_7f4a_7c15;

/// Hashes of all beginnings: that of a run of words follows from two of them.
fn sums(words: &[u64]) -> Vec<u64> {
    let mut sums = vec![0u64];
    for word in words {
        let last = sums[sums.len() - 1];
        sums.push(last.wrapping_mul(BASE).wrapping_add(*word));
    }
    sums
}

fn hash(words: &[u64]) -> u64 {
    sums(words).pop().unwrap_or_default()
}

/// Disjoint sets, each with its smallest index as root.
struct Union(Vec<usize>);

impl Union {
    fn root(&self, mut i: usize) -> usize {
        while self.0[i] != i {
            i = self.0[i];
        }
        i
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        self.0[a.max(b)] = a.min(b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(texts: &[&str]) -> Vec<String> {
        let examples: Vec<Example> = texts
            .iter()
            .map(|text| Example {
                text: (*text).to_owned(),
                pair: None,
                label: Some(crate::Target::Class(0)),
            })
            .collect();
        parts(&examples)
    }

    #[test]
    fn phrases_go_with_the_sentence_that_holds_them() {
        let found = groups(&[
            "a fine film about nothing at all",
            "about nothing",
            "film about nothing at",
            "fine",
            "another thing",
            "a fine film about nothing at all",
        ]);
        let whole = "a fine film about nothing at all";
        assert_eq!(found, [whole, whole, whole, whole, "another thing", whole]);
    }

    #[test]
    fn a_word_of_two_sentences_joins_the_longer_and_does_not_join_them() {
        let found = groups(&["good", "a good film", "a very good book indeed"]);
        assert_eq!(
            found,
            [
                "a very good book indeed",
                "a good film",
                "a very good book indeed"
            ]
        );
    }

    #[test]
    fn a_long_part_of_two_sentences_joins_them() {
        let found = groups(&["b c d e", "a b c d e", "b c d e f g"]);
        assert_eq!(found, ["b c d e f g"; 3]);
    }

    #[test]
    fn part_of_a_word_is_no_part_and_the_order_of_rows_changes_nothing() {
        assert_eq!(groups(&["art", "a party"]), ["art", "a party"]);
        let mut texts = ["x y", "y", "y z", "z w", "x y z w"];
        let mut there = groups(&texts);
        texts.reverse();
        there.reverse();
        assert_eq!(groups(&texts), there);
    }
}
