//! All pairs of a comparison, judged together.
//!
//! Every pair of methods is compared on the seeds that both have ([`Evidence`]). The p-values of all pairs are corrected together
//! after Holm: those of "no difference", and apart from them those of "a difference of the margin or more". Fewer than
//! [`FEWEST_SEEDS`] seeds give evidence but no verdict. With three or four seeds and two pairs or more, the variance between
//! seeds is moderated by that of all pairs ([`Components::moderated`]).

use serde::Serialize;

use crate::{ALPHA, Components, Evidence, Looks, Margin, Scores, Verdict, holm, letters};

/// Seeds that a verdict needs. With two the error rate is above 10 %.
pub const FEWEST_SEEDS: usize = 3;
/// Seeds from which a pair's own variance between seeds is used alone.
const OWN_VARIANCE: usize = 5;

/// Two methods, and what is shown of them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Pair {
    /// Place of the first method in the list given.
    pub first: usize,
    /// Place of the second; above the first.
    pub second: usize,
    /// The first minus the second.
    pub evidence: Evidence,
    /// What all pairs together say; absent with fewer than [`FEWEST_SEEDS`] seeds.
    pub corrected: Option<Corrected>,
    /// What is shown of the first method.
    pub verdict: Verdict,
}

/// p-values of a pair, corrected for testing all pairs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Corrected {
    /// Of "no difference".
    pub p: f64,
    /// Of "a difference of the margin or more".
    pub p_equivalent: f64,
}

impl Pair {
    /// Whether a difference is shown, of whatever size.
    pub fn told_apart(&self) -> bool {
        matches!(self.verdict, Verdict::Better | Verdict::Worse)
    }

    /// The same pair seen from the second method.
    #[must_use]
    pub fn reversed(&self) -> Self {
        Self {
            first: self.second,
            second: self.first,
            evidence: Evidence::with(-self.evidence.difference, self.evidence.components),
            corrected: self.corrected,
            verdict: self.verdict.reversed(),
        }
    }
}

/// The pairs of a list of methods.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Family {
    /// Number of methods.
    pub methods: usize,
    /// The declared margin.
    pub margin: Margin,
    /// The looks at which the verdicts were given; absent where the number of seeds was fixed beforehand. The corrected p-values are
    /// always those of a fixed number.
    pub looks: Option<Looks>,
    /// Every pair with at least two seeds in common, by first and second. A pair that is not here was never compared.
    pub pairs: Vec<Pair>,
}

impl Family {
    /// Compares every pair of these methods, best first if [`Family::letters`] are wanted.
    pub fn new(methods: &[Scores], margin: Margin) -> Self {
        let compared = every_two(methods.len()).filter_map(|(first, second)| {
            let d = methods[first].minus(&methods[second])?;
            Some((first, second, d.mean(), Components::of(&d)?))
        });
        let mut found: Vec<_> = compared.collect();
        moderate(&mut found);
        let mut pairs: Vec<Pair> = found
            .into_iter()
            .map(|(first, second, difference, components)| Pair {
                first,
                second,
                evidence: Evidence::with(difference, components),
                corrected: None,
                verdict: Verdict::Undecided,
            })
            .collect();
        judge(&mut pairs, margin);
        Self {
            methods: methods.len(),
            margin,
            looks: None,
            pairs,
        }
    }

    /// p-value of "the first is worse than the second by the margin or more"; `None` with fewer than [`FEWEST_SEEDS`] seeds in common. At
    /// one of several looks it is as much larger as what may be spent there is smaller, taking Holm's hardest step: so it can be
    /// judged, and corrected, as if there had been one look.
    pub fn p_non_inferior(&self, first: usize, second: usize) -> Option<f64> {
        let pair = self.pair(first, second).filter(|p| p.corrected.is_some())?;
        let p = pair.evidence.p_non_inferior(self.margin);
        let penalty = self.looks.as_ref().map_or(1.0, |looks| {
            let alpha = ALPHA / self.methods.max(1) as f64;
            let made = looks.made(pair.evidence.components.seeds).max(1);
            alpha / looks.levels_one_sided(alpha)[made - 1]
        });
        Some((p * penalty).min(1.0))
    }

    /// The pair of two methods as seen from the first named; `None` if they were never compared.
    pub fn pair(&self, first: usize, second: usize) -> Option<Pair> {
        let wanted = (first.min(second), first.max(second));
        let mut pairs = self.pairs.iter();
        let pair = pairs.find(|p| (p.first, p.second) == wanted)?;
        Some(if first == pair.first {
            *pair
        } else {
            pair.reversed()
        })
    }

    /// Letters of each method: two share one exactly if they were compared and not told apart. A method without a pair of
    /// [`FEWEST_SEEDS`] seeds has none (an empty text). A shared letter does not say "equal".
    pub fn letters(&self) -> Vec<String> {
        let judged = |i: usize, j: usize| self.pair(i, j).filter(|p| p.corrected.is_some());
        let lettered: Vec<usize> = (0..self.methods)
            .filter(|&i| (0..self.methods).any(|j| j != i && judged(i, j).is_some()))
            .collect();
        let apart = every_two(lettered.len())
            .filter(|&(a, b)| judged(lettered[a], lettered[b]).is_none_or(|p| p.told_apart()));
        let mut all = vec![String::new(); self.methods];
        let texts = letters(lettered.len(), &apart.collect::<Vec<_>>());
        for (place, text) in lettered.iter().zip(texts) {
            all[*place] = text;
        }
        all
    }
}

/// Every two of so many, by first and second; the first is below the second.
pub fn every_two(of: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..of).flat_map(move |first| (first + 1..of).map(move |second| (first, second)))
}

/// Moderates the pairs of three and four seeds by the pooled variance of all pairs. One pair has nothing to pool: drawn towards itself, its
/// variance would only count for better known than it is.
fn moderate(pairs: &mut [(usize, usize, f64, Components)]) {
    if pairs.len() < 2 {
        return;
    }
    let weight: f64 = pairs.iter().map(|(.., c)| c.between_df).sum();
    let sum: f64 = pairs.iter().map(|(.., c)| c.between_df * c.between).sum();
    for (.., c) in pairs {
        if (FEWEST_SEEDS..OWN_VARIANCE).contains(&c.seeds) {
            *c = c.moderated(sum / weight);
        }
    }
}

/// Corrects the pairs of enough seeds together and gives their verdicts.
fn judge(pairs: &mut [Pair], margin: Margin) {
    let enough: Vec<&mut Pair> = pairs
        .iter_mut()
        .filter(|p| p.evidence.components.seeds >= FEWEST_SEEDS)
        .collect();
    let p: Vec<f64> = enough.iter().map(|p| p.evidence.p).collect();
    let equivalent = enough.iter().map(|p| p.evidence.p_equivalent(margin));
    let equivalent = holm(&equivalent.collect::<Vec<_>>());
    for ((pair, p), p_equivalent) in enough.into_iter().zip(holm(&p)).zip(equivalent) {
        pair.corrected = Some(Corrected { p, p_equivalent });
        pair.verdict = Verdict::of(pair.evidence.difference, p < ALPHA, p_equivalent < ALPHA);
    }
}
