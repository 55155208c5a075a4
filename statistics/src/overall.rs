//! Pairs of methods over many data sets, looked at once or several times.
//!
//! At a look, each data set brings the differences of the seeds that it has by then, and all of them together give a [`Combined`]. A
//! data set on which all was decided earlier brings the seeds that it has. What is found is judged at the level of the look ([`Looks`]) and
//! corrected after Holm over all pairs, apart for "no difference" and for "a difference of the margin or more"; a decision stands.
//! Information is taken to grow with the number of seeds. Where data sets differ from one another it grows more slowly: the looks
//! are then more alike than assumed, and less than 5 % is spent.
//!
//! Where all data sets have ended before the last look, no seed will come: one more test of all seeds spends what the looks that were
//! made leave of the error rate (their levels are subtracted, as Bonferroni does, which asks nothing of how they depend on each other).

use crate::{
    ALPHA, Combined, Components, Estimate, Looks, Margin, Scores, Verdict,
    holm::{Tested, Unrejected},
};

impl Combined {
    /// Of a method's scores minus another's, of one data set each ([`Scores::minus`]), by their first `seeds` seeds, or all where there
    /// are fewer; `None` as [`Combined::of`], or where a data set has one seed.
    pub fn of_scores(datasets: &[Scores], seeds: usize) -> Option<Self> {
        let estimate = |all: &Scores| {
            let own = all.first(seeds.min(all.seeds().count()))?;
            Some(Estimate {
                difference: own.mean(),
                variance: Components::of(&own)?.variance(),
            })
        };
        let estimates: Option<Vec<Estimate>> = datasets.iter().map(estimate).collect();
        Self::of(&estimates?)
    }
}

/// What is shown over all data sets of the first method of each pair. A pair is given by the first method's scores minus the
/// second's, of one data set each. Without `looks` the number of seeds was fixed beforehand, and all of them are taken. `ended` says that
/// no data set goes on, whatever looks are left.
pub fn overall_verdicts(
    pairs: &[Vec<Scores>],
    looks: Option<&Looks>,
    ended: bool,
    margin: Margin,
) -> Vec<Verdict> {
    let most = pairs.iter().flatten().map(|d| d.seeds().count()).max();
    let made = looks.map_or(0, |looks| looks.made(most.unwrap_or(0)));
    let mut at = looks.map_or(vec![usize::MAX], |looks| looks.seeds().to_vec());
    if ended && made < at.len() {
        at.truncate(made);
        at.push(usize::MAX);
    }
    let alpha = |left: usize| ALPHA / left.max(1) as f64;
    let of_look = |look: usize, left: usize, levels: &dyn Fn(&Looks, f64) -> Vec<f64>| {
        let Some(looks) = looks else {
            return alpha(left);
        };
        let levels = levels(looks, alpha(left));
        match at[look] {
            usize::MAX => alpha(left) - levels[..made].iter().sum::<f64>(),
            _ => levels[look],
        }
    };
    let level = |look, left| of_look(look, left, &Looks::levels);
    let one_sided = |look, left| of_look(look, left, &Looks::levels_one_sided);
    // A look is made once a data set has got there.
    let is_made = |pair: &[Scores], seeds: usize| {
        seeds == usize::MAX || pair.iter().any(|d| d.seeds().count() >= seeds)
    };
    let mut verdicts = vec![Verdict::Undecided; pairs.len()];
    let mut unrejected = Unrejected::new(pairs.len());
    for (look, &seeds) in at.iter().enumerate() {
        let open = (0..pairs.len()).filter(|&i| verdicts[i] == Verdict::Undecided);
        let tested = open
            .filter(|&i| is_made(&pairs[i], seeds))
            .filter_map(|pair| {
                let found = Combined::of_scores(&pairs[pair], seeds)?;
                Some(Tested {
                    pair,
                    difference: found.difference,
                    p: found.p,
                    p_equivalent: found.p_equivalent(margin),
                })
            })
            .collect();
        let (level, one_sided) = (|left| level(look, left), |left| one_sided(look, left));
        for (pair, verdict) in unrejected.reject(tested, level, one_sided) {
            verdicts[pair] = verdict;
        }
    }
    verdicts
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Differences of a data set by seed: on so many of 100 examples the first method alone is right.
    fn ahead(by_seed: &[usize]) -> Scores {
        let row = |n: usize| (0..100).map(|j| f64::from(u8::from(j < n))).collect();
        Scores::new((0..).zip(by_seed).map(|(seed, n)| (seed, row(*n)))).unwrap()
    }

    #[test]
    fn a_data_set_brings_the_first_seeds_or_all_that_it_has() {
        let few = [ahead(&[4, 6, 5]), ahead(&[5, 7, 6])];
        let many = [ahead(&[4, 6, 5, 50, 90]), ahead(&[5, 7, 6])];
        assert_eq!(
            Combined::of_scores(&few, 3).unwrap(),
            Combined::of_scores(&many, 3).unwrap()
        );
        assert!(Combined::of_scores(&many, 5).unwrap().difference > 0.06);
        assert_eq!(Combined::of_scores(&few[..1], 3), None);
        assert_eq!(Combined::of_scores(&[ahead(&[4]), ahead(&[5])], 3), None);
    }

    #[test]
    fn what_one_look_shows_an_early_one_of_several_does_not_and_a_decision_stands() {
        let pair: Vec<Scores> = [5, 7, 6, 8]
            .map(|n| ahead(&[n, n + 1, n - 1, n, n + 1]))
            .into();
        let three: Vec<Scores> = pair.iter().map(|d| d.first(3).unwrap()).collect();
        let p = Combined::of_scores(&three, 3).unwrap().p;
        let looks = Looks::default();
        // Between what an only look and the first of four may spend.
        assert!(looks.levels(ALPHA)[0] < p && p < ALPHA, "{p}");
        let of = |pair: &[Scores], looks: Option<&Looks>| {
            overall_verdicts(&[pair.to_vec()], looks, false, Margin::POINT)[0]
        };
        assert_eq!(of(&three, None), Verdict::Better);
        assert_eq!(of(&three, Some(&looks)), Verdict::Undecided);
        // Unless no look is to come; then what was spent is not to be had again.
        let last = |pair: &[Scores]| {
            overall_verdicts(&[pair.to_vec()], Some(&looks), true, Margin::POINT)[0]
        };
        assert_eq!(last(&three), Verdict::Better);
        let weak: Vec<Scores> = [1, 9, 2, 12].map(|n| ahead(&[n, n, n, n, n])).into();
        let p = Combined::of_scores(&weak, 5).unwrap().p;
        assert!(p > ALPHA, "{p}");
        assert_eq!(last(&weak), Verdict::Undecided);
        // Shown at its first look, and taken back by no later one.
        let one = Looks::new(vec![3]).unwrap();
        assert_eq!(of(&three, Some(&one)), Verdict::Better);
        let two = Looks::new(vec![3, 5]).unwrap();
        let turned: Vec<Scores> = [60, 61, 59, 60].map(|n| ahead(&[n, n, n, 0, 0])).into();
        assert!(Combined::of_scores(&turned, 3).unwrap().p < two.levels(ALPHA)[0]);
        assert_eq!(of(&turned, Some(&two)), Verdict::Better);
    }

    #[test]
    fn holm_leaves_more_to_those_behind_a_rejected_one_and_margins_have_a_family_of_their_own() {
        let sure: Vec<Scores> = [40, 41, 39, 40].map(|n| ahead(&[n, n, n])).into();
        // Right and wrong alone on as many of 4,000 examples each, moved by the seed; right on up to three more.
        let equal: Vec<Scores> = (0..4)
            .map(|d| {
                let row = |seed: usize| -> Vec<f64> {
                    let sign = |j: usize| match (j + d + seed) % 50 {
                        0 => 1.0,
                        25 => -1.0,
                        _ => f64::from(u8::from(j % 50 == 7 && j / 50 < d)),
                    };
                    (0..4000).map(sign).collect()
                };
                Scores::new((0..3).map(|seed| (seed as u64, row(seed)))).unwrap()
            })
            .collect();
        let found = overall_verdicts(&[sure, equal], None, false, Margin::POINT);
        assert_eq!(found, [Verdict::Better, Verdict::Equivalent]);
        assert!(overall_verdicts(&[], None, false, Margin::POINT).is_empty());
    }
}
