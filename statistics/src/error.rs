//! What cannot be computed, and why.

/// Numbers that no statistic can be made of.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// There is no seed.
    #[error("scores need at least one seed, there is none")]
    NoSeed,
    /// A seed came twice.
    #[error("seed {0} comes twice; give each seed once")]
    SeedTwice(u64),
    /// Too few examples.
    #[error("seed {seed} has {found} examples; a variance over examples needs at least two")]
    FewExamples {
        /// The seed.
        seed: u64,
        /// Examples found.
        found: usize,
    },
    /// A seed has other examples than the first.
    #[error(
        "seed {seed} has {found} examples where the others have {expected}; all seeds are judged on the same ones"
    )]
    Examples {
        /// The seed.
        seed: u64,
        /// Its examples.
        found: usize,
        /// Examples of the first seed.
        expected: usize,
    },
    /// Not a finite number.
    #[error("seed {seed}, example {example}: {value} is not a finite number")]
    NotFinite {
        /// The seed.
        seed: u64,
        /// The example, from 0.
        example: usize,
        /// What was found.
        value: f64,
    },
    /// A margin out of range.
    #[error(
        "a margin of {0} cannot be used; it is a fraction above 0 and below 1 (0.01 is one point)"
    )]
    Margin(f64),
    /// Labels and predictions do not match, or name a class that there is not.
    #[error("{0}")]
    Labels(String),
    /// Looks that do not ascend from 3 seeds.
    #[error(
        "looks at {0:?} seeds cannot be used; give ascending numbers of seeds from 3 on, e.g. 3, 5, 10, 20"
    )]
    Looks(Vec<usize>),
}
