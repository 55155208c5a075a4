//! What one method scored: one number per seed and example.
//!
//! A score is 1 for right and 0 for wrong, or a pseudo-value of the jackknife, so that the mean over examples is the metric of the
//! seed's run. The metric is one that lies within −1 and 1. Seeds are named, so that two methods are paired by seed and never by place.

use std::collections::BTreeMap;

use crate::Error;

/// Scores of one method: `seeds` rows of equally many examples, at least one row of at least two finite numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    examples: usize,
    rows: BTreeMap<u64, Vec<f64>>,
}

impl Scores {
    /// Scores by seed; every row has one number per example, in the same order of examples.
    ///
    /// # Errors
    /// Without a seed, with a seed that comes twice, with fewer than two examples, with rows of unequal length, or with a number
    /// that is not finite.
    pub fn new(rows: impl IntoIterator<Item = (u64, Vec<f64>)>) -> Result<Self, Error> {
        let mut by_seed = BTreeMap::new();
        let mut expected = None;
        for (seed, row) in rows {
            let found = row.len();
            if found < 2 {
                return Err(Error::FewExamples { seed, found });
            }
            let expected = *expected.get_or_insert(found);
            if found != expected {
                return Err(Error::Examples {
                    seed,
                    found,
                    expected,
                });
            }
            if let Some((example, &value)) = row.iter().enumerate().find(|(_, v)| !v.is_finite()) {
                return Err(Error::NotFinite {
                    seed,
                    example,
                    value,
                });
            }
            if by_seed.insert(seed, row).is_some() {
                return Err(Error::SeedTwice(seed));
            }
        }
        Ok(Self {
            examples: expected.ok_or(Error::NoSeed)?,
            rows: by_seed,
        })
    }

    /// Scores of right (1) and wrong (0) predictions.
    ///
    /// # Errors
    /// As [`Scores::new`].
    pub fn right(rows: impl IntoIterator<Item = (u64, Vec<bool>)>) -> Result<Self, Error> {
        let number = |row: Vec<bool>| row.into_iter().map(|r| f64::from(u8::from(r))).collect();
        Self::new(rows.into_iter().map(|(seed, row)| (seed, number(row))))
    }

    /// Number of examples.
    pub fn examples(&self) -> usize {
        self.examples
    }

    /// The seeds, ascending.
    pub fn seeds(&self) -> impl Iterator<Item = u64> + '_ {
        self.rows.keys().copied()
    }

    /// The rows, by ascending seed.
    pub fn rows(&self) -> impl Iterator<Item = &[f64]> {
        self.rows.values().map(Vec::as_slice)
    }

    /// Mean over seeds and examples: the metric.
    pub fn mean(&self) -> f64 {
        let sum: f64 = self.rows.values().flatten().sum();
        sum / (self.examples * self.rows.len()) as f64
    }

    /// Differences to another method on the seeds that both have; `None` if they share no seed or are not judged on equally many
    /// examples.
    pub fn minus(&self, other: &Self) -> Option<Self> {
        if self.examples != other.examples {
            return None;
        }
        self.with(self.rows.iter().filter_map(|(seed, a)| {
            let b = other.rows.get(seed)?;
            Some((*seed, a.iter().zip(b).map(|(a, b)| a - b).collect()))
        }))
    }

    /// Other rows on as many examples; `None` without any.
    fn with(&self, rows: impl Iterator<Item = (u64, Vec<f64>)>) -> Option<Self> {
        let (examples, rows): (usize, BTreeMap<_, _>) = (self.examples, rows.collect());
        (!rows.is_empty()).then_some(Self { examples, rows })
    }

    /// The weighted sum of several scores on the seeds that all have, such as the mean over a curve; `None` without any, if they share no
    /// seed or are not judged on equally many examples.
    pub fn weighted(parts: &[(Self, f64)]) -> Option<Self> {
        let (first, _) = parts.first()?;
        if parts.iter().any(|(p, _)| p.examples != first.examples) {
            return None;
        }
        first.with(first.rows.keys().filter_map(|seed| {
            let mut sum = vec![0.0; first.examples];
            for (part, weight) in parts {
                for (total, x) in sum.iter_mut().zip(part.rows.get(seed)?) {
                    *total += weight * x;
                }
            }
            Some((*seed, sum))
        }))
    }

    /// The first so many seeds, ascending; `None` if there are fewer.
    pub fn first(&self, seeds: usize) -> Option<Self> {
        if seeds > self.rows.len() {
            return None;
        }
        let rows = self.rows.iter().map(|(seed, row)| (*seed, row.clone()));
        self.with(rows.take(seeds))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn scores_that_make_no_statistic_are_refused_with_their_place() {
        assert_eq!(Scores::new([]), Err(Error::NoSeed));
        assert_eq!(
            Scores::new([(3, vec![1.0])]),
            Err(Error::FewExamples { seed: 3, found: 1 })
        );
        assert_eq!(
            Scores::new([(0, vec![1.0, 0.0]), (1, vec![1.0, 0.0, 1.0])]),
            Err(Error::Examples {
                seed: 1,
                found: 3,
                expected: 2
            })
        );
        assert_eq!(
            Scores::new([(7, vec![1.0, 0.0]), (7, vec![1.0, 0.0])]),
            Err(Error::SeedTwice(7))
        );
        assert!(matches!(
            Scores::new([(0, vec![1.0, f64::NAN])]),
            Err(Error::NotFinite { example: 1, .. })
        ));
    }

    #[test]
    fn methods_are_paired_by_seed_and_not_by_place() {
        let a = Scores::right([(1, vec![true, true]), (2, vec![false, true])]).unwrap();
        let b = Scores::right([(2, vec![true, true]), (3, vec![true, true])]).unwrap();
        let d = a.minus(&b).unwrap();
        assert_eq!(d.seeds().collect::<Vec<_>>(), [2]);
        assert_eq!(d.rows().next().unwrap(), [-1.0, 0.0]);
        let c = Scores::right([(9, vec![true, true])]).unwrap();
        assert_eq!(a.minus(&c), None);
        let longer = Scores::right([(1, vec![true; 3])]).unwrap();
        assert_eq!(a.minus(&longer), None);
        let both = Scores::weighted(&[(a.clone(), 0.5), (b, 0.5)]).unwrap();
        assert_eq!(both.seeds().collect::<Vec<_>>(), [2]);
        assert_eq!(both.rows().next().unwrap(), [0.5, 1.0]);
        assert_eq!(Scores::weighted(&[(a, 0.5), (longer, 0.5)]), None);
    }
}
