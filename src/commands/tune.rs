//! `tune`: the same compute of random search with successive halving for every method, judged on examples held out of the training split;
//! then the best configuration of each over fresh seeds, judged on the validation split.

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context, Result, ensure};
use methods::{Range, Resolved};
use record::{RunRecord, Status, Tuned, store};
use reports::{
    Kept, Margin, tables,
    tuning::{self, Edge, HALVING, Manifest, MethodTrials, TrialPlan, Tuning},
};
use serde_json::Value;

use super::{
    plan_only::{Elsewhere, Then},
    report,
};
use crate::{
    card,
    execute::{
        local::{self, How},
        planned::{self, Planned},
        progress::Verbosity,
    },
    exit, folders,
    plan::{self, Overrides, RunPlan, Shared, Trial},
    signals::Signals,
    study,
};

/// Seed of every trial's run: none of those that the winners and comparisons use.
const TRIAL_SEED: u64 = 1_000_000;

/// Trials of a method at most.
pub const MOST_TRIALS: usize = 10_000;

/// Rungs at most: a trial's first look is at no less than a ninth of a run.
const MOST_RUNGS: usize = 3;

/// Learning rates are drawn from three decades, the method's default in their middle.
const HALF_RANGE: f64 = 1.5;

/// Learning rates that are tried beyond an edge at which the winner lies, in a decade.
const BEYOND: usize = 3;

/// The key whose range all methods share.
const LEARNING_RATE: &str = "learning_rate";

/// How winners are searched.
#[derive(Clone, Copy)]
pub struct Asked {
    /// How much each method gets.
    pub compute: Compute,
    /// Share of the training split that judges the trials.
    pub held_out: f64,
    /// The margin that is declared now.
    pub margin: Option<Margin>,
}

/// How much compute each method gets.
#[derive(Clone, Copy)]
pub enum Compute {
    /// So many configurations, all of the same steps.
    Trials(usize),
    /// So many hours of training for all methods together, each its equal part.
    Hours(f64),
}

/// What a method is searched for.
#[derive(Clone)]
struct Wanted {
    trial: Trial,
    learning_rates: Option<[f64; 2]>,
    ranges: BTreeMap<String, Range>,
}

impl Wanted {
    /// The ranges of a method's YAML, and three decades around its learning rate. What the user sets is not searched.
    fn new(trial: Trial) -> Result<Self> {
        let mut ranges = methods::search(trial.name())?;
        ranges.retain(|key, _| key != LEARNING_RATE && !trial.method.overrides().contains_key(key));
        let own = &trial.method;
        let default = own.config.get(LEARNING_RATE).and_then(Value::as_f64);
        let learning_rates = default
            .filter(|_| own.entry.steps && !own.overrides().contains_key(LEARNING_RATE))
            .map(around);
        if let Some(range) = learning_rates {
            ranges.insert(LEARNING_RATE.to_owned(), Range::LogUniform(range));
        }
        Ok(Self {
            trial,
            learning_rates,
            ranges,
        })
    }

    /// The same around the learning rate of this configuration: a method's default depends on what answers.
    fn over(mut self, config: &Value) -> Self {
        let rate = config.get(LEARNING_RATE).and_then(Value::as_f64);
        if let (Some(range), Some(rate)) = (&mut self.learning_rates, rate) {
            *range = around(rate);
            let range = Range::LogUniform(*range);
            self.ranges.insert(LEARNING_RATE.to_owned(), range);
        }
        self
    }

    /// The configurations that are drawn. The first ones do not depend on how many follow.
    fn draw(&self, trials: usize) -> Vec<BTreeMap<String, Value>> {
        let mut rng = datasets::stream(0, &format!("search {}", self.trial.name()));
        let one = |_| {
            let ranges = self.ranges.iter();
            ranges
                .map(|(key, range)| (key.clone(), range.draw(&mut rng)))
                .collect()
        };
        (0..trials).map(one).collect()
    }

    /// The method with what is drawn over what the user sets.
    fn configured(&self, drawn: &BTreeMap<String, Value>) -> Result<Resolved> {
        let set = self.trial.method.overrides().clone().into_iter();
        // In the order of the keys, as what is typed: it names the variant.
        let mut all: BTreeMap<String, Value> = set.collect();
        all.extend(drawn.clone());
        let all = all.into_iter().collect();
        Ok(methods::resolve_values(self.trial.name(), all)?)
    }
}

/// Three decades around a learning rate.
fn around(rate: f64) -> [f64; 2] {
    [rate / 10f64.powf(HALF_RANGE), rate * 10f64.powf(HALF_RANGE)]
}

/// A search on its way.
struct Searching<'a> {
    wanted: Vec<Wanted>,
    /// Steps of a whole run.
    whole: usize,
    base: &'a RunPlan,
    folder: PathBuf,
    held_out: f64,
    manifest: Manifest,
    records: Vec<RunRecord>,
    how: How,
    elsewhere: Option<&'a Elsewhere>,
    signals: &'a Signals,
}

/// `tune`; the runs are made here, or `elsewhere`: each stage when the same command is given again.
///
/// # Errors
/// On bad input.
pub fn tune(
    shared: &Shared,
    methods: &[String],
    asked: Asked,
    seeds: Option<usize>,
    how: How,
    elsewhere: Option<&Elsewhere>,
) -> Result<ExitCode> {
    let verbosity = how.verbosity;
    let (base, overrides) = shared.plan()?;
    ensure!(
        base.recipe.setting("held_out").is_none(),
        "--set recipe.held_out: give --held-out"
    );
    let seeds = plan::seeds(seeds, base.recipe.budget())?;
    let (wanted, mut left_out) = wanted(methods, &overrides)?;
    let folder = study::folder(&base.out, "tuning");
    folders::check_writable(&folders::records_folder(&folder), "--out")?;
    // As in a comparison, what this backbone or data cannot have is left out, which planning says.
    let trials: Vec<Trial> = wanted.iter().map(|w| w.trial.clone()).collect();
    let possible = planned::plan(&base, &trials, &[TRIAL_SEED], verbosity)?;
    let whole = possible
        .first()
        .and_then(|p| p.asked.recipe["steps"].as_u64());
    let whole = whole.context("there is nothing to search")? as usize;
    let planned = |w: &Wanted| {
        possible
            .iter()
            .find(|p| p.plan.trial.name() == w.trial.name())
    };
    // Where classes are words, head_only stands for a method that trains nothing.
    let is_another = |w: &Wanted| planned(w).is_some_and(|p| p.asked.method.name != w.trial.name());
    let others = wanted.iter().filter(|w| is_another(w));
    left_out.extend(others.map(|w| w.trial.name().to_owned()));
    let wanted: Vec<Wanted> = wanted
        .into_iter()
        .filter(|w| !is_another(w))
        .filter_map(|w| {
            let config = &planned(&w)?.asked.method.config;
            Some(w.over(config))
        })
        .collect();
    ensure!(!wanted.is_empty(), "there is nothing to search");
    let signals = Signals::handle()?;
    let judged_by = format!(
        "{} % of the training split, held out",
        (1000.0 * asked.held_out).round() / 10.0
    );
    let mut searching = Searching {
        manifest: Manifest {
            rungs: Vec::new(),
            judged_by: judged_by.clone(),
            methods: wanted
                .iter()
                .map(|w| MethodTrials {
                    method: w.trial.name().to_owned(),
                    learning_rates: w.learning_rates,
                    trials: Vec::new(),
                })
                .collect(),
            left_out,
        },
        wanted,
        whole,
        base: &base,
        folder: folder.clone(),
        held_out: asked.held_out,
        records: Vec::new(),
        how,
        elsewhere,
        signals: &signals,
    };
    if let Some(code) = searching.search(asked.compute)? {
        return Ok(code);
    }
    shared.write_events(&folder, searching.records.iter().map(|r| &r.id))?;
    let tuning = searching.found()?;
    if verbosity == Verbosity::Normal {
        for note in &tuning.notes {
            eprintln!("note: {note}");
        }
        eprintln!("the best of each method over {} fresh seeds:", seeds.len());
    }

    // The winners, judged by the validation split, which no trial has seen.
    let winners: Vec<Trial> = searching
        .wanted
        .iter()
        .zip(&tuning.searches)
        .filter_map(|(wanted, found)| {
            let best = &found.trials[found.best?];
            let tuned = Tuned {
                trials: found.trials.len(),
                judged_by: judged_by.clone(),
            };
            Some(wanted.configured(&best.drawn).map(|method| Trial {
                tuned: Some(tuned),
                ..Trial::new(method)
            }))
        })
        .collect::<Result<_>>()?;
    ensure!(
        !winners.is_empty(),
        "no trial ended well; see {}",
        folders::records_folder(&folder).display()
    );
    if let Some(elsewhere) = elsewhere {
        let planned = planned::plan(&base, &winners, &seeds, Verbosity::Quiet)?;
        if let Some(code) = elsewhere.make(&planned, &base.out, Then::Report)? {
            return Ok(code);
        }
    }
    let winning = local::compare(&base, &winners, &seeds, how, &signals)?;
    shared.write_events(&base.out, winning.records.iter().map(|r| &r.id))?;
    if let Some(code) = winning.say_end(winners.len() * seeds.len(), verbosity) {
        return Ok(code);
    }

    tuning::write(&tuning, &folder)?;
    // Rows with defaults that were made under the same conditions stand beside the tuned ones.
    let ids: Vec<&str> = winning.records.iter().map(|r| r.id.as_str()).collect();
    let report = report::looked(&base.out, &ids, asked.margin, None, verbosity)?;
    let files = report.write(&base.out, true)?;
    let comparisons: Vec<_> = report.about(&ids).collect();
    for comparison in &comparisons {
        card::write_all(comparison, &base.out)?;
    }
    if verbosity == Verbosity::Json {
        let all: Vec<_> = comparisons.iter().map(|c| tables::json(c)).collect();
        crate::output::event(
            serde_json::json!({ "event": "tuned", "tuning": tuning, "comparisons": all }),
        )?;
    } else {
        say!("{}", tuning::markdown(&tuning))?;
        report::show(&comparisons, &files, verbosity)?;
    }
    let failed = searching.records.iter().any(|r| r.status != Status::Ok)
        || winning.records.iter().any(|r| r.status != Status::Ok);
    Ok(exit::after(failed))
}

/// What is searched for, and the methods that have nothing to search.
fn wanted(methods: &[String], overrides: &Overrides) -> Result<(Vec<Wanted>, Vec<String>)> {
    let (mut all, mut left_out) = (Vec::new(), Vec::new());
    for trial in plan::trials(methods, overrides)? {
        let wanted = Wanted::new(trial)?;
        if !wanted.ranges.is_empty() {
            all.push(wanted);
        } else {
            ensure!(
                methods.is_empty() || methods == ["all"],
                "method {}: there is nothing to search: its YAML declares no ranges, and its learning rate is set or it has none",
                wanted.trial.name()
            );
            left_out.push(wanted.trial.name().to_owned());
        }
    }
    Ok((all, left_out))
}

impl Searching<'_> {
    /// Makes all trials; the exit code if the user stopped it.
    fn search(&mut self, compute: Compute) -> Result<Option<ExitCode>> {
        let whole = self.whole;
        let trials: Vec<usize> = match compute {
            Compute::Trials(trials) => {
                self.manifest.rungs = tuning::rungs(trials, whole, MOST_RUNGS);
                vec![trials; self.wanted.len()]
            }
            Compute::Hours(hours) => {
                self.manifest.rungs =
                    tuning::rungs(HALVING.pow(MOST_RUNGS as u32 - 1), whole, MOST_RUNGS);
                // The first trial of each method says how long it takes.
                self.add(&vec![1; self.wanted.len()]);
                let all: Vec<(usize, usize)> = (0..self.wanted.len()).map(|m| (m, 0)).collect();
                if let Some(code) = self.run(&all, self.manifest.rungs[0])? {
                    return Ok(Some(code));
                }
                let each = hours * 3600.0 / self.wanted.len() as f64;
                let rungs = &self.manifest.rungs;
                let per_step: Vec<f64> = self
                    .found()?
                    .searches
                    .iter()
                    .map(|s| s.seconds_per_trial / rungs[0] as f64)
                    .collect();
                // A first trial that failed tells nothing: its method is taken to be as slow as the slowest.
                let slowest = per_step.iter().copied().fold(0.0, f64::max);
                let known = |own: f64| if own > 0.0 { own } else { slowest };
                let trials = per_step.iter();
                trials
                    .map(|&own| trials_within(rungs, known(own), each))
                    .collect()
            }
        };
        self.add(&trials);
        for (rung, steps) in self.manifest.rungs.clone().into_iter().enumerate() {
            let runs: Vec<(usize, usize)> = match rung {
                0 => (0..trials.len())
                    .flat_map(|m| (0..trials[m]).map(move |i| (m, i)))
                    .collect(),
                _ => {
                    let before = self.manifest.rungs[rung - 1];
                    let kept = |m: usize| tuning::kept(trials[m], rung + 1)[rung];
                    let found = self.found()?.searches.into_iter().enumerate();
                    found
                        .flat_map(|(m, s)| {
                            s.survivors(before, kept(m))
                                .into_iter()
                                .map(move |i| (m, i))
                        })
                        .collect()
                }
            };
            if let Some(code) = self.run(&runs, steps)? {
                return Ok(Some(code));
            }
        }
        self.beyond_edges(whole)
    }

    /// Adds the configurations that are missing for so many trials of each method.
    fn add(&mut self, trials: &[usize]) {
        for ((method, wanted), &trials) in self
            .manifest
            .methods
            .iter_mut()
            .zip(&self.wanted)
            .zip(trials)
        {
            let drawn = wanted.draw(trials).into_iter().skip(method.trials.len());
            method.trials.extend(drawn.map(|drawn| TrialPlan {
                drawn,
                ..TrialPlan::default()
            }));
        }
    }

    /// Makes these trials of methods for so many steps, the first of every method before the second.
    fn run(&mut self, runs: &[(usize, usize)], steps: usize) -> Result<Option<ExitCode>> {
        let mut recipe = self.base.recipe.with("held_out", self.held_out)?;
        recipe = recipe.with("steps", steps)?;
        // The held-out part is large, and only the end of a trial counts.
        if recipe.setting("evaluations").is_none() {
            recipe = recipe.with("evaluations", 1)?;
        }
        let mut columns: BTreeMap<usize, VecDeque<usize>> = BTreeMap::new();
        for &(m, i) in runs {
            columns.entry(m).or_default().push_back(i);
        }
        let mut order = Vec::new();
        while columns.values().any(|c| !c.is_empty()) {
            let next = columns.iter_mut();
            order.extend(next.filter_map(|(&m, c)| Some((m, c.pop_front()?))));
        }
        let plan = |&(m, i): &(usize, usize)| -> Result<RunPlan> {
            let drawn = &self.manifest.methods[m].trials[i].drawn;
            Ok(RunPlan {
                trial: Trial::new(self.wanted[m].configured(drawn)?),
                recipe: recipe.clone(),
                seed: TRIAL_SEED,
                out: self.folder.clone(),
                keep_weights: false,
                ..self.base.clone()
            })
        };
        let plans = order.iter().map(plan).collect::<Result<Vec<_>>>()?;
        // What is done to the data was said when the first run was planned.
        let planned = planned::plan_all(plans.into_iter(), Verbosity::Quiet)
            .into_iter()
            .collect::<Result<Vec<Planned>>>()?;
        for (&(m, i), run) in order.iter().zip(&planned) {
            let known = &mut self.manifest.methods[m].trials[i].runs;
            if !known.iter().any(|(_, id)| *id == run.id) {
                known.push((steps, run.id.clone()));
            }
        }
        self.manifest.write(&self.folder)?;
        if let Some(elsewhere) = self.elsewhere
            && let Some(code) = elsewhere.make(&planned, &self.base.out, Then::Again)?
        {
            return Ok(Some(code));
        }
        let ended = local::run_all(&planned, &[], self.how, self.signals)?;
        let stopped = ended.say_end(planned.len(), self.how.verbosity);
        self.records
            .retain(|r| !ended.records.iter().any(|e| e.id == r.id));
        let folder = folders::records_folder(&self.folder);
        for head in &ended.records {
            self.records.extend(store::find(&folder, &head.id)?);
        }
        Ok(stopped)
    }

    /// Where a method's winner lies at an edge of the learning rates that were drawn, tries some in the decade beyond it, whole runs with the
    /// winner's other values.
    fn beyond_edges(&mut self, steps: usize) -> Result<Option<ExitCode>> {
        let mut runs = Vec::new();
        for (m, search) in self.found()?.searches.iter().enumerate() {
            let (Some(edge), Some([low, high]), Some(best)) =
                (search.edge, search.learning_rates, search.best)
            else {
                continue;
            };
            let trials = &mut self.manifest.methods[m].trials;
            for k in 1..=BEYOND {
                let factor = 10f64.powf(k as f64 / BEYOND as f64);
                let rate = match edge {
                    Edge::Low => low / factor,
                    Edge::High => high * factor,
                };
                let mut drawn = search.trials[best].drawn.clone();
                // With three digits, as those that are drawn.
                let rate: f64 = format!("{rate:.2e}").parse()?;
                drawn.insert(LEARNING_RATE.to_owned(), rate.into());
                runs.push((m, trials.len()));
                trials.push(TrialPlan {
                    drawn,
                    beyond_edge: true,
                    ..TrialPlan::default()
                });
            }
        }
        match runs.is_empty() {
            true => Ok(None),
            false => self.run(&runs, steps),
        }
    }

    /// What has been found so far.
    fn found(&self) -> Result<Tuning> {
        Tuning::new(&self.manifest, &self.records).context("no trial has a record")
    }
}

/// The most trials whose rungs take no more than so many seconds, at so many seconds a step; one at least, and where the time of a step is
/// not known.
fn trials_within(rungs: &[usize], per_step: f64, seconds: f64) -> usize {
    let takes = |trials: usize| -> f64 {
        let kept = tuning::kept(trials, rungs.len());
        let steps: usize = kept.iter().zip(rungs).map(|(n, steps)| n * steps).sum();
        steps as f64 * per_step
    };
    (1..=MOST_TRIALS)
        .take_while(|&n| per_step > 0.0 && takes(n) <= seconds)
        .last()
        .unwrap_or(1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn wanted(method: &str, set: &[(&str, &str)]) -> Wanted {
        let set = set.iter().map(|(k, v)| (k.to_string(), v.to_string()));
        Wanted::new(Trial::new(
            methods::resolve(method, &set.collect()).unwrap(),
        ))
        .unwrap()
    }

    #[test]
    fn hours_buy_as_many_trials_as_their_rungs_take_and_one_at_least() {
        let rungs = [55, 166, 500];
        // 9 × 55 + 3 × 166 + 500 steps, and 8 × 55 + 2 × 166 + 500.
        assert_eq!(trials_within(&rungs, 1.0, 1493.0), 9);
        assert_eq!(trials_within(&rungs, 1.0, 1492.0), 8);
        assert_eq!(trials_within(&rungs, 2.0, 2.0 * 1493.0), 9);
        assert_eq!(trials_within(&rungs, 1.0, 10.0), 1);
        // Nothing is known where every first trial failed.
        assert_eq!(trials_within(&rungs, 0.0, 1e9), 1);
    }

    #[test]
    fn fewer_trials_are_the_first_of_more_and_what_the_user_sets_is_not_drawn() {
        let lora = wanted("lora", &[("rank", "4")]);
        let many = lora.draw(8);
        assert_eq!(lora.draw(3), many[..3]);
        assert!(many.iter().all(|d| !d.contains_key("rank")));
        assert!(many.iter().all(|d| d.contains_key(LEARNING_RATE)));
        assert_ne!(many[0], many[1]);
        let fixed = wanted("lora", &[(LEARNING_RATE, "0.1")]);
        assert!(fixed.learning_rates.is_none());
        assert!(fixed.draw(2).iter().all(|d| !d.contains_key(LEARNING_RATE)));
    }

    #[test]
    fn the_learning_rates_lie_around_the_default_over_what_answers() {
        let config = |rate: f64| serde_json::json!({ LEARNING_RATE: rate });
        let same = wanted("lora", &[]).over(&config(2e-3));
        assert_eq!(same.learning_rates, wanted("lora", &[]).learning_rates);
        assert_eq!(same.draw(3), wanted("lora", &[]).draw(3));
        let words = wanted("lora", &[]).over(&config(1e-3));
        let [low, high] = words.learning_rates.unwrap();
        assert!(((low * high).sqrt() / 1e-3 - 1.0).abs() < 1e-9);
        let set = wanted("lora", &[(LEARNING_RATE, "0.1")]).over(&config(0.1));
        assert!(set.learning_rates.is_none());
    }

    #[test]
    fn every_method_with_a_learning_rate_gets_three_decades_around_its_own() {
        for entry in methods::registry::ALL {
            let wanted = wanted(entry.name, &[]);
            let config = methods::resolve(entry.name, &BTreeMap::new())
                .unwrap()
                .config;
            let own = config[LEARNING_RATE].as_f64().unwrap();
            if !entry.steps {
                assert!(wanted.learning_rates.is_none(), "{}", entry.name);
                continue;
            }
            let [low, high] = wanted.learning_rates.unwrap();
            assert!(((high / low).log10() - 3.0).abs() < 1e-9, "{}", entry.name);
            assert!(
                ((low * high).sqrt() / own - 1.0).abs() < 1e-9,
                "{}",
                entry.name
            );
            for drawn in wanted.draw(20) {
                methods::resolve_values(entry.name, drawn.into_iter().collect()).unwrap();
            }
        }
    }
}
