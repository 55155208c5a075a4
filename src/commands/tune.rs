//! `tune`: the same number of random-search trials for every method, judged on examples held out of the training
//! split; then the best configuration of each over fresh seeds, judged on the validation split.

use std::{collections::BTreeMap, process::ExitCode};

use anyhow::{Context, Result, ensure};
use record::{Status, Tuned};
use reports::{
    tables,
    tuning::{self, Manifest, MethodTrials, Tuning},
};
use serde_json::Value;

use super::report;
use crate::{
    execute::{
        local::{self, How, Planned},
        progress::Verbosity,
    },
    exit, folders,
    plan::{self, RunPlan, Shared, Trial},
    signals::Signals,
    study,
};

/// Seed of every trial's run: none of those that the winners and comparisons use.
const TRIAL_SEED: u64 = 1_000_000;

/// Trials of a method at most.
const MOST_TRIALS: usize = 10_000;

/// How winners are searched.
#[derive(Clone, Copy)]
pub struct Search {
    /// Configurations to try of each method.
    pub trials: usize,
    /// Share of the training split that judges them.
    pub held_out: f64,
}

/// The configurations that a method's search draws. The first ones do not depend on how many follow.
///
/// # Errors
/// If the method's ranges are not valid.
fn draw(
    method: &str,
    fixed: &BTreeMap<String, String>,
    trials: usize,
) -> Result<Vec<BTreeMap<String, Value>>> {
    let mut ranges = methods::search(method)?;
    // What the user sets is not searched.
    ranges.retain(|key, _| !fixed.contains_key(key));
    let mut rng = datasets::stream(0, &format!("search {method}"));
    let one = |_| {
        ranges
            .iter()
            .map(|(key, range)| (key.clone(), range.draw(&mut rng)))
            .collect()
    };
    Ok((0..trials).map(one).collect())
}

/// `tune`.
///
/// # Errors
/// On bad input.
pub fn tune(
    shared: &Shared,
    methods: &[String],
    search: Search,
    seeds: Option<usize>,
    how: How,
) -> Result<ExitCode> {
    let verbosity = how.verbosity;
    let (base, overrides) = shared.plan()?;
    ensure!(
        (1..=MOST_TRIALS).contains(&search.trials),
        "--trials {}: accepted: 1 to {MOST_TRIALS}",
        search.trials
    );
    ensure!(
        search.held_out > 0.0,
        "--held-out {}: must be above 0 and at most 0.9",
        search.held_out
    );
    ensure!(
        !base.recipe.contains_key("held_out"),
        "--set recipe.held_out: give --held-out"
    );
    let seeds = plan::seeds(seeds, &base.budget)?;
    let (mut wanted, mut left_out) = (Vec::new(), Vec::new());
    let named = !methods.is_empty();
    for trial in plan::trials(methods, &overrides)? {
        if !methods::search(&trial.method)?.is_empty() {
            wanted.push(trial);
        } else {
            ensure!(
                !named,
                "method {}: its YAML declares no ranges to search; add e.g. \
                 search: {{ learning_rate: {{ log_uniform: [1.0e-4, 1.0e-2] }} }}",
                trial.method
            );
            left_out.push(trial.method);
        }
    }
    let folder = study::folder(&base.out, "tuning");
    folders::check_writable(&folders::records_folder(&folder))?;
    let signals = Signals::handle()?;

    // The trials, interleaved: the first of every method, then the second.
    let mut recipe = base.recipe.clone();
    recipe.insert("held_out".to_owned(), search.held_out.to_string());
    // The held-out part is large, and only the end of a trial counts.
    let once = || "1".to_owned();
    recipe.entry("evaluations".to_owned()).or_insert_with(once);
    let drawn = wanted
        .iter()
        .map(|t| draw(&t.method, &t.overrides, search.trials))
        .collect::<Result<Vec<_>>>()?;
    let configured = |trial: &Trial, values: &BTreeMap<String, Value>| {
        let mut overrides = trial.overrides.clone();
        overrides.extend(values.iter().map(|(k, v)| (k.clone(), v.to_string())));
        overrides
    };
    let plans = (0..search.trials).flat_map(|i| {
        let (base, recipe, folder) = (&base, &recipe, &folder);
        wanted
            .iter()
            .zip(&drawn)
            .map(move |(trial, drawn)| RunPlan {
                trial: Trial {
                    method: trial.method.clone(),
                    overrides: configured(trial, &drawn[i]),
                    tuned: None,
                    optional: false,
                },
                recipe: recipe.clone(),
                seed: TRIAL_SEED,
                out: folder.clone(),
                keep_weights: false,
                ..base.clone()
            })
    });
    let planned = local::plan_all(plans, how.verbosity)
        .into_iter()
        .collect::<Result<Vec<Planned>>>()?;
    let judged_by = format!(
        "{} % of the training split, held out",
        (1000.0 * search.held_out).round() / 10.0
    );
    let manifest = Manifest {
        trials: search.trials,
        judged_by: judged_by.clone(),
        methods: wanted
            .iter()
            .zip(&drawn)
            .enumerate()
            .map(|(m, (trial, drawn))| MethodTrials {
                method: trial.method.clone(),
                drawn: drawn.clone(),
                runs: planned
                    .iter()
                    .skip(m)
                    .step_by(wanted.len())
                    .map(|p| p.id.clone())
                    .collect(),
            })
            .collect(),
        left_out,
    };
    manifest.write(&folder)?;
    let ended = local::run_all(&planned, &[], how, &signals)?;
    if let Some(code) = ended.say_end(planned.len(), verbosity) {
        return Ok(code);
    }
    let tuning = Tuning::new(&manifest, &ended.records).context("no trial has a record")?;
    if verbosity == Verbosity::Normal {
        for note in &tuning.notes {
            eprintln!("note: {note}");
        }
        eprintln!("the best of each method over {} fresh seeds:", seeds.len());
    }

    // The winners, judged by the validation split, which no trial has seen.
    let winners = wanted
        .iter()
        .zip(&tuning.searches)
        .filter_map(|(trial, found)| {
            Some(Trial {
                method: trial.method.clone(),
                overrides: configured(trial, &found.trials[found.best?].drawn),
                optional: false,
                tuned: Some(Tuned {
                    trials: search.trials,
                    judged_by: judged_by.clone(),
                }),
            })
        });
    let winners: Vec<Trial> = winners.collect();
    ensure!(
        !winners.is_empty(),
        "no trial ended well; see {}",
        folders::records_folder(&folder).display()
    );
    let winning = local::compare(&base, &winners, &seeds, how, &signals)?;
    if let Some(code) = winning.say_end(winners.len() * seeds.len(), verbosity) {
        return Ok(code);
    }

    tuning::write(&tuning, &folder)?;
    // Rows with defaults that were made under the same conditions stand beside the tuned ones.
    let report = report::of_folder(&base.out)?;
    let files = report.write(&base.out, true)?;
    let ids: Vec<&str> = winning.records.iter().map(|r| r.id.as_str()).collect();
    let comparisons: Vec<_> = report.about(&ids).collect();
    if verbosity == Verbosity::Json {
        let all: Vec<_> = comparisons.iter().map(|c| tables::json(c)).collect();
        let event = serde_json::json!({ "event": "tuned", "tuning": tuning, "comparisons": all });
        say!("{event}")?;
    } else {
        say!("{}", tuning::markdown(&tuning))?;
        report::show(&comparisons, &files, verbosity)?;
    }
    let mut all = ended.records.iter().chain(&winning.records);
    Ok(exit::after(all.any(|r| r.status != Status::Ok)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn fewer_trials_are_the_first_of_more_and_what_the_user_sets_is_not_drawn() {
        let fixed = BTreeMap::from([("rank".to_owned(), "4".to_owned())]);
        let many = draw("lora", &fixed, 8).unwrap();
        assert_eq!(draw("lora", &fixed, 3).unwrap(), many[..3]);
        assert!(many.iter().all(|d| !d.contains_key("rank")));
        assert!(many.iter().all(|d| d.contains_key("learning_rate")));
        assert_ne!(many[0], many[1]);
    }
}
