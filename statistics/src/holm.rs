//! One correction for testing many things together: of p-values, and of decisions at one look after the other.

use crate::Verdict;

/// p-values corrected for testing them all, after Holm (1979), in the order given.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let mut adjusted = vec![0.0; p.len()];
    let mut largest: f64 = 0.0;
    for (rank, &i) in order.iter().enumerate() {
        largest = largest.max((p.len() - rank) as f64 * p[i]).min(1.0);
        adjusted[i] = largest;
    }
    adjusted
}

/// What is known of an undecided pair at a look.
pub(crate) struct Tested {
    /// Its place among all pairs.
    pub pair: usize,
    pub difference: f64,
    /// Of no difference.
    pub p: f64,
    /// Of a difference of the margin or more.
    pub p_equivalent: f64,
}

/// How many hypotheses no look has rejected yet; each kind is a family of its own.
pub(crate) struct Unrejected {
    no_difference: usize,
    margin_or_more: usize,
}

impl Unrejected {
    /// Of so many pairs, before the first look.
    pub fn new(pairs: usize) -> Self {
        Self {
            no_difference: pairs,
            margin_or_more: pairs,
        }
    }

    /// The pairs that a look decides, with their verdicts. The smallest p comes first, and each is compared with what `level`, or
    /// `one_sided` for the margin, gives for the number of hypotheses that are left.
    pub fn reject(
        &mut self,
        mut tested: Vec<Tested>,
        level: impl Fn(usize) -> f64,
        one_sided: impl Fn(usize) -> f64,
    ) -> Vec<(usize, Verdict)> {
        let mut decided: Vec<(usize, Verdict)> = Vec::new();
        tested.sort_by(|a, b| a.p.total_cmp(&b.p));
        for t in &tested {
            if t.p >= level(self.no_difference) {
                break;
            }
            self.no_difference -= 1;
            decided.push((t.pair, Verdict::of(t.difference, true, false)));
        }
        tested.sort_by(|a, b| a.p_equivalent.total_cmp(&b.p_equivalent));
        for t in &tested {
            if t.p_equivalent >= one_sided(self.margin_or_more) {
                break;
            }
            self.margin_or_more -= 1;
            if decided.iter().all(|(pair, _)| *pair != t.pair) {
                decided.push((t.pair, Verdict::Equivalent));
            }
        }
        decided
    }
}
