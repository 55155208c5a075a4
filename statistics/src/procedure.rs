//! Going on until it is decided.
//!
//! All methods are compared at the first look ([`Looks`]). Between looks, seeds are added only to methods that stand in an open pair
//! that the user cares about. A pair is looked at whenever both its methods have a look's number of seeds in common; its p-values are
//! compared with the level of that look, corrected after Holm over **all** pairs of the comparison (Maurer and Bretz 2013: each
//! look's bounds are those of the error rate that Holm leaves), so that it does not matter that which pairs are cared about was
//! chosen on the numbers. A decision stands: a pair is not looked at again.
//!
//! [`Procedure::state`] replays all looks from the scores that there are, in the order of seeds. It needs no memory of earlier calls.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    ALPHA, Family, Looks, Margin, Remedy, Scores, Verdict, every_two,
    holm::{Tested, Unrejected},
};

/// Seeds from which on a pair is given up if no number of seeds would decide it; before, its components are too uncertain.
const GIVE_UP_FROM: usize = 5;

/// How a comparison goes on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Procedure {
    /// When it is looked at.
    pub looks: Looks,
    /// The declared margin.
    pub margin: Margin,
}

/// Where a comparison stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct State {
    /// All pairs, with the evidence of all the seeds that they have in common and the verdicts of the looks.
    pub family: Family,
    /// Every pair, by first and second.
    pub pairs: Vec<Standing>,
    /// Methods that are to have more seeds, and how many in all. Empty when nothing is left to do.
    pub wanted: BTreeMap<usize, usize>,
}

/// Where a pair stands.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Standing {
    /// Place of the first method.
    pub first: usize,
    /// Place of the second; above the first.
    pub second: usize,
    /// What was shown of the first at a look.
    pub verdict: Verdict,
    /// Seeds of the look that decided it; else of the last look at it, 0 if there was none.
    pub seeds: usize,
    /// Why it is open; absent once it is decided.
    pub open: Option<Open>,
}

/// Why a pair is open.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "because")]
pub enum Open {
    /// More seeds may decide it.
    NextLook {
        /// Seeds of the next look.
        seeds: usize,
    },
    /// All looks have been made.
    LooksSpent {
        /// What a new comparison would need.
        remedy: Remedy,
    },
    /// No number of seeds is expected to decide it.
    SeedsDoNotHelp {
        /// What would.
        remedy: Remedy,
    },
}

impl Procedure {
    /// All pairs of these methods: with the verdicts of these looks where seeds were added between several, else those of a number of
    /// seeds that was fixed beforehand.
    pub fn family(methods: &[Scores], margin: Margin, looks: Option<&Looks>) -> Family {
        let Some(looks) = looks.cloned() else {
            return Family::new(methods, margin);
        };
        Self { looks, margin }.state(methods, |_, _| false).family
    }

    /// Where the comparison of these methods stands. `cares` says of a pair whether it is worth more seeds.
    pub fn state(&self, methods: &[Scores], cares: impl Fn(usize, usize) -> bool) -> State {
        let mut family = Family::new(methods, self.margin);
        let places: BTreeMap<(usize, usize), usize> = every_two(methods.len()).zip(0..).collect();
        let mut pairs: Vec<Standing> = every_two(methods.len())
            .map(|(first, second)| Standing {
                first,
                second,
                verdict: Verdict::Undecided,
                seeds: 0,
                open: None,
            })
            .collect();
        // Holm: the error rate is divided by the number of hypotheses that are left.
        let alpha = |left: usize| ALPHA / left.max(1) as f64;
        let mut unrejected = Unrejected::new(pairs.len());
        for (look, &seeds) in self.looks.seeds().iter().enumerate() {
            // Methods that have not got so far take no part; pairs that are decided stay decided.
            let there = methods.iter().enumerate();
            let (own, there): (Vec<usize>, Vec<Scores>) = there
                .filter_map(|(i, m)| Some((i, m.first(seeds)?)))
                .unzip();
            let at_look = Family::new(&there, self.margin);
            let mut tested = Vec::new();
            for pair in &at_look.pairs {
                let (place, e) = (places[&(own[pair.first], own[pair.second])], &pair.evidence);
                if pairs[place].verdict == Verdict::Undecided && e.components.seeds == seeds {
                    pairs[place].seeds = seeds;
                    tested.push(Tested {
                        pair: place,
                        difference: e.difference,
                        p: e.p,
                        p_equivalent: e.p_equivalent(self.margin),
                    });
                }
            }
            let level = |left| self.looks.levels(alpha(left))[look];
            let one_sided = |left| self.looks.levels_one_sided(alpha(left))[look];
            for (place, verdict) in unrejected.reject(tested, level, one_sided) {
                pairs[place].verdict = verdict;
            }
        }
        let mut wanted: BTreeMap<usize, usize> = BTreeMap::new();
        let undecided = |s: &&mut Standing| s.verdict == Verdict::Undecided;
        for standing in pairs.iter_mut().filter(undecided) {
            let open = self.open(&family, standing, places.len());
            standing.open = Some(open);
            if let Open::NextLook { seeds } = open
                && cares(standing.first, standing.second)
            {
                for method in [standing.first, standing.second] {
                    let most = wanted.entry(method).or_default();
                    *most = (*most).max(seeds);
                }
            }
        }
        wanted.retain(|&method, seeds| methods[method].seeds().count() < *seeds);
        family.looks = Some(self.looks.clone());
        for pair in &mut family.pairs {
            pair.verdict = pairs[places[&(pair.first, pair.second)]].verdict;
        }
        State {
            family,
            pairs,
            wanted,
        }
    }

    fn open(&self, family: &Family, standing: &Standing, all: usize) -> Open {
        let next = self.looks.seeds().iter().find(|&&s| s > standing.seeds);
        let pair = family.pair(standing.first, standing.second);
        let remedy = pair.map(|p| Remedy::of(&p.evidence, self.margin, all));
        match (next, remedy) {
            (None, Some(remedy)) => Open::LooksSpent { remedy },
            (Some(_), Some(remedy)) if standing.seeds >= GIVE_UP_FROM && remedy.seeds.is_none() => {
                Open::SeedsDoNotHelp { remedy }
            }
            (next, _) => Open::NextLook {
                // A pair without a look has all of them before it.
                seeds: next.copied().unwrap_or_default(),
            },
        }
    }
}

/// Whether a pair matters to who looks for the best: one of the two has the highest mean, or they are neighbours. `means` are of
/// all methods.
pub fn with_best_or_neighbours(means: &[f64], first: usize, second: usize) -> bool {
    let mut order: Vec<usize> = (0..means.len()).collect();
    order.sort_by(|&a, &b| means[b].total_cmp(&means[a]));
    let place = |i| order.iter().position(|&k| k == i).unwrap_or(usize::MAX);
    let (a, b) = (place(first), place(second));
    a.min(b) == 0 || a.abs_diff(b) == 1
}
