//! What a reader has to know before believing the numbers of a comparison.

use std::collections::{BTreeMap, BTreeSet};

use statistics::{FEWEST_SEEDS, every_two};

use crate::{Comparison, format, words};

/// What a reader has to know before believing the numbers.
pub fn of(comparison: &Comparison) -> Vec<String> {
    let records = &comparison.records;
    let mut notes: Vec<String> = words::stand_in_note(&comparison.dataset)
        .into_iter()
        .collect();
    let ranked = comparison.ranked();
    let well: BTreeSet<usize> = ranked.iter().map(|r| r.ended_well().0).collect();
    let most = well.iter().max().copied().unwrap_or(0);
    if well.len() > 1 {
        let each = ranked
            .iter()
            .map(|r| format!("{} {}", r.label, r.ended_well().0));
        notes.push(format!(
            "The methods have unequal numbers of finished seeds ({}); pairs are compared on the seeds that both have.",
            each.collect::<Vec<_>>().join(", ")
        ));
    }
    if ranked.len() == 1 && most == 1 {
        notes.push("One seed only: there is no spread over seeds.".to_owned());
    }
    if (FEWEST_SEEDS..5).contains(&most) && ranked.len() > 2 {
        notes.push(
            "With three or four seeds all pairs are taken to vary alike from seed to seed. Where two methods vary ten times as much as \
             the others, a false difference between these two is found in up to 10 % instead of 5 %; five seeds need no such assumption."
                .to_owned(),
        );
    }
    notes.extend(comparison.looks.as_ref().map(words::looked_at));
    for (a, b) in every_two(ranked.len()) {
        if comparison.pair(a, b).is_none() && ranked[a].scores.is_some() {
            notes.push(format!(
                "{} and {} have no seed in common and are not compared with each other.",
                ranked[a].label, ranked[b].label
            ));
        }
    }

    let mut orders: BTreeMap<u64, BTreeSet<[&str; 2]>> = BTreeMap::new();
    for record in records {
        if let Some(o) = &record.outcome {
            let own = orders.entry(record.asked.seed).or_default();
            own.insert([&o.order_digest, &o.head_digest]);
        }
    }
    let uneven = orders.iter().filter(|(_, digests)| digests.len() > 1);
    let uneven: Vec<String> = uneven.map(|(seed, _)| seed.to_string()).collect();
    if !uneven.is_empty() {
        notes.push(format!(
            "The order of examples or the initial head differs between methods at seed {}: the conditions were not the same.",
            format::list(&uneven)
        ));
    }

    notes.extend(comparison.costs.notes.iter().cloned());
    let versions = records.iter().map(|r| {
        let c = &r.circumstances;
        let revision = c.revision.as_ref().map(|r| format!(" ({r})"));
        format!("{}{}", c.version, revision.unwrap_or_default())
    });
    let versions: Vec<String> = versions.collect::<BTreeSet<_>>().into_iter().collect();
    if versions.len() > 1 {
        notes.push(format!(
            "Runs were made by different versions of peftbench: {}.",
            versions.join(", ")
        ));
    }
    let mut revisions = records.iter().flat_map(|r| &r.circumstances.revision);
    if revisions.any(|revision| revision.ends_with("-dirty")) {
        notes.push("Some runs were made by a program with uncommitted changes.".to_owned());
    }
    let truncated = records.iter().map(|r| r.asked.dataset.truncated).max();
    let truncated = truncated.unwrap_or(0);
    if truncated > 0 {
        notes.push(format!(
            "Up to {} training examples were longer than what a run reads (recipe.max_tokens, the backbone's positions, for completions max_new_tokens) and were cut.",
            format::count(truncated)
        ));
    }
    notes
}
