//! The best of several methods, and which may stand in for it.
//!
//! The best is not known: the highest mean is a choice made on the same numbers, and testing others against it as if it had been named
//! beforehand is wrong too often. So a method counts as *shown non-inferior to the best* only if it is shown not to be worse by the
//! margin than **each** of the others (an intersection-union test, Berger 1982), whichever of them is the best; and these p-values are
//! corrected over the methods after Holm. This is the multiple comparison with the best of Hsu (1981, 1984) with Holm's
//! correction in place of the multivariate t. Whoever picks among the methods shown, by whatever cost, picks one that is truly
//! worse than the best by more than the margin in at most 5 %.

use serde::Serialize;

use crate::{ALPHA, Evidence, FEWEST_SEEDS, Family, Remedy, every_two, holm};

/// Corrected p-values of "worse than the best of these by the margin or more", one for each of `among` (places of methods in the family).
/// Absent where a pair has not been compared on [`FEWEST_SEEDS`] seeds, so that nothing can be shown; 0 for one method alone.
pub fn p_near_best(family: &Family, among: &[usize]) -> Vec<Option<f64>> {
    let raw = among.iter().map(|&i| against_all(family, among, i));
    let raw: Vec<Option<f64>> = raw.collect();
    // What cannot be shown counts in the correction as what is not.
    let all: Vec<f64> = raw.iter().map(|p| p.unwrap_or(1.0)).collect();
    let both = raw.iter().zip(holm(&all));
    both.map(|(raw, corrected)| raw.and(Some(corrected)))
        .collect()
}

/// Largest p-value of non-inferiority to any of the others.
fn against_all(family: &Family, among: &[usize], method: usize) -> Option<f64> {
    among
        .iter()
        .filter(|&&other| other != method)
        .map(|&other| family.p_non_inferior(method, other))
        .try_fold(0.0, |largest: f64, p| Some(largest.max(p?)))
}

fn tested(family: &Family, first: usize, second: usize) -> Option<Evidence> {
    let evidence = family.pair(first, second)?.evidence;
    (evidence.components.seeds >= FEWEST_SEEDS).then_some(evidence)
}

/// What to choose.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "answer")]
pub enum Recommendation {
    /// The cheapest method that is shown non-inferior to the best.
    Shown {
        /// Its place.
        method: usize,
        /// Corrected p-value of "worse than the best by the margin or more".
        p: f64,
        /// The others that are shown, cheapest first.
        others: Vec<usize>,
    },
    /// None is shown.
    NotShown {
        /// The method that would be shown with the fewest seeds, taking the differences found for the true ones; absent if no number
        /// of seeds would do.
        nearest: Option<usize>,
        /// What its open pairs need: the other method, and what would show non-inferiority to it.
        missing: Vec<(usize, Remedy)>,
        /// Pairs among the methods asked for with fewer than [`FEWEST_SEEDS`] seeds in common.
        untested: Vec<(usize, usize)>,
    },
}

/// The cheapest of `among` (places in the family) that is shown non-inferior to the best of them; else what is missing. `costs` has one number
/// for each method of the family; of equal ones the first is taken. `None` if `among` is empty.
pub fn recommend(family: &Family, costs: &[f64], among: &[usize]) -> Option<Recommendation> {
    if among.is_empty() {
        return None;
    }
    let cost = |i: usize| costs.get(i).copied().unwrap_or(f64::INFINITY);
    let mut shown: Vec<(usize, f64)> = among
        .iter()
        .zip(p_near_best(family, among))
        .filter_map(|(&i, p)| Some((i, p.filter(|&p| p < ALPHA)?)))
        .collect();
    shown.sort_by(|(a, _), (b, _)| cost(*a).total_cmp(&cost(*b)).then(a.cmp(b)));
    Some(match shown.split_first() {
        Some((&(method, p), others)) => Recommendation::Shown {
            method,
            p,
            others: others.iter().map(|(i, _)| *i).collect(),
        },
        None => missing(family, among),
    })
}

fn missing(family: &Family, among: &[usize]) -> Recommendation {
    let needs = |method: usize| -> Option<(usize, Vec<(usize, Remedy)>)> {
        // A method has no p-value against itself.
        let open = among.iter().filter_map(|&other| {
            let p = family.p_non_inferior(method, other);
            p.filter(|&p| p >= ALPHA / among.len() as f64)?;
            let e = tested(family, method, other)?;
            let remedy = Remedy::of_non_inferiority(&e, family.margin, among.len());
            Some((other, remedy))
        });
        let open: Vec<(usize, Remedy)> = open.collect();
        let mut seeds = open.iter().map(|(_, remedy)| remedy.seeds);
        let most = seeds.try_fold(0, |most, seeds| Some(seeds?.max(most)))?;
        Some((most, open))
    };
    let needed = among.iter().filter_map(|&i| Some((i, needs(i)?)));
    let (nearest, missing) = needed
        .filter(|(_, (_, open))| !open.is_empty())
        .min_by_key(|(_, (seeds, _))| *seeds)
        .map(|(method, (_, open))| (method, open))
        .unzip();
    let untested = every_two(among.len()).map(|(a, b)| (among[a], among[b]));
    Recommendation::NotShown {
        nearest,
        missing: missing.unwrap_or_default(),
        untested: untested
            .filter(|&(a, b)| tested(family, a, b).is_none())
            .collect(),
    }
}
