//! With how many seeds comparisons are made: a fixed number, or as many as the verdicts need.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use record::store;
use reports::{
    Margin, Report,
    going_on::{self, Named, Progress},
};
use statistics::{Looks, Procedure};

use super::report;
use crate::{
    execute::{
        local::{self, Executed, How},
        planned::{self, Planned},
        progress::Verbosity,
    },
    folders,
    plan::{RunPlan, Trial},
    signals::Signals,
};

/// With how many seeds a comparison is made.
pub enum Seeds {
    /// So many; as many as the budget has where none is given.
    Fixed(Option<usize>),
    /// As many as the verdicts need.
    UntilDecided(UntilDecided),
}

/// How far a comparison goes on.
#[derive(Clone)]
pub struct UntilDecided {
    /// Seeds of the last look.
    pub most: usize,
    /// No run is started after so many seconds.
    pub seconds: Option<f64>,
    /// The pairs that are to be decided; each with the best and neighbours where none is named.
    pub pairs: Vec<Named>,
}

impl UntilDecided {
    /// From now on tells whether its time is up.
    pub fn clock(&self) -> impl Fn() -> bool + use<> {
        let (started, time) = (Instant::now(), self.seconds.map(Duration::from_secs_f64));
        move || time.is_some_and(|time| started.elapsed() >= time)
    }
}

/// A comparison that goes on until the pairs that are cared about are decided.
///
/// It is looked at when all methods have 3 seeds, and then with 5, 10 and 20, up to the most that is allowed. Between looks only methods in
/// pairs that are not decided get more seeds ([`reports::going_on`]). Where it stands follows from the records alone, so that the same
/// command goes on after it was stopped.
pub struct GoingOn {
    /// The runs of each method, by seed.
    planned: Vec<Vec<Planned>>,
    /// Seeds that each method is to have by now.
    seeds: Vec<usize>,
    base: RunPlan,
    looks: Looks,
    goal: UntilDecided,
    margin: Option<Margin>,
    verbosity: Verbosity,
}

impl GoingOn {
    /// Before its first look.
    ///
    /// # Errors
    /// If a plan is not valid, or a pair names a method that is not compared.
    pub fn new(
        base: &RunPlan,
        trials: &[Trial],
        goal: UntilDecided,
        margin: Option<Margin>,
        verbosity: Verbosity,
    ) -> Result<Self> {
        ensure!(
            trials.len() >= 2,
            "--until-decided: name at least two methods; there is no pair to decide"
        );
        for name in goal.pairs.iter().flat_map(|(a, b)| [a, b]) {
            let names: Vec<&str> = trials.iter().map(|t| t.name()).collect();
            ensure!(
                names.contains(&name.as_str()),
                "--pairs: '{name}' is not compared; compared are {}",
                names.join(", ")
            );
        }
        let looks = Looks::up_to(goal.most)?;
        let seeds: Vec<u64> = (0..goal.most as u64).collect();
        let all = planned::plan(base, trials, &seeds, verbosity)?;
        // What this backbone cannot have is left out.
        let of = |trial: &Trial| {
            let own = all.iter().filter(|p| p.plan.trial.method == trial.method);
            own.cloned().collect::<Vec<Planned>>()
        };
        let planned: Vec<Vec<Planned>> = trials.iter().map(of).filter(|p| !p.is_empty()).collect();
        let names: Vec<&str> = planned
            .iter()
            .map(|runs| runs[0].plan.trial.method.entry.name)
            .collect();
        ensure!(
            planned.len() >= 2,
            "--until-decided: there is no pair to decide; of the methods named, this backbone and these data can have {}",
            match names.as_slice() {
                [] => "none",
                [only, ..] => only,
            }
        );
        for name in goal.pairs.iter().flat_map(|(a, b)| [a, b]) {
            ensure!(
                names.contains(&name.as_str()),
                "--pairs: '{name}' is left out, since this backbone or these data cannot have it; compared are {}",
                names.join(", ")
            );
        }
        Ok(Self {
            seeds: vec![looks.seeds()[0]; planned.len()],
            planned,
            base: base.clone(),
            looks,
            goal,
            margin,
            verbosity,
        })
    }

    /// The runs of the seeds that each method is to have, behind those that it had; seed by seed.
    fn runs(&self, before: &[usize]) -> Vec<Planned> {
        let most = self.seeds.iter().copied().max().unwrap_or(0);
        let mut runs = Vec::new();
        for seed in 0..most {
            let wanted =
                (0..self.seeds.len()).filter(|&t| (before[t]..self.seeds[t]).contains(&seed));
            runs.extend(wanted.map(|t| self.planned[t][seed].clone()));
        }
        runs
    }

    /// Runs that all methods together are to have by now.
    pub fn wanted(&self) -> usize {
        self.seeds.iter().sum()
    }

    /// Names of all runs that it may come to.
    pub fn ids(&self) -> Vec<String> {
        let all: BTreeSet<&String> = self.planned.iter().flatten().map(|p| &p.id).collect();
        all.into_iter().cloned().collect()
    }

    /// Makes runs until all is decided, no more seeds are wanted or the time is up.
    ///
    /// # Errors
    /// If records cannot be read or written.
    pub fn run(
        &mut self,
        is_late: &dyn Fn() -> bool,
        how: How,
        signals: &Signals,
    ) -> Result<Executed> {
        let mut all = Executed::default();
        let mut before = vec![0; self.seeds.len()];
        loop {
            let runs = self.runs(&before);
            before.clone_from(&self.seeds);
            // Where the time is limited, it is looked at the clock after every seed.
            let parts: Vec<&[Planned]> = match self.goal.seconds {
                Some(_) => runs.chunk_by(|a, b| a.plan.seed == b.plan.seed).collect(),
                None => vec![&runs],
            };
            for part in parts {
                if is_late() {
                    self.note("the time is up; the same command goes on");
                    return Ok(all);
                }
                all.add(local::run_all(part, &[], how, signals)?);
                if all.interrupted.is_some() {
                    return Ok(all);
                }
            }
            if all.records.iter().any(|r| !r.status.is_whole()) {
                self.note(
                    "some runs failed, so it does not go on; the same command tries them again",
                );
                return Ok(all);
            }
            let (_, Some(progress)) = self.look()? else {
                self.note("this metric cannot be tested, so there is nothing to decide");
                return Ok(all);
            };
            self.note(&progress.sentences()[0]);
            if self.seeds == before {
                return Ok(all);
            }
        }
    }

    fn note(&self, text: &str) {
        if self.verbosity == Verbosity::Normal {
            eprintln!("note: {text}");
        }
    }

    /// The runs of the next look, as the records stand; none when nothing is left to do.
    ///
    /// # Errors
    /// If records cannot be read.
    pub fn next_look(&mut self) -> Result<Vec<Planned>> {
        let records = folders::records_folder(&self.base.out);
        let mut before = vec![0; self.seeds.len()];
        loop {
            let runs = self.runs(&before);
            let has = |run: &Planned| -> Result<bool> {
                Ok(store::find(&records, &run.id)?.is_some_and(|r| r.status.is_whole()))
            };
            for run in &runs {
                if !has(run)? {
                    return Ok(runs);
                }
            }
            before.clone_from(&self.seeds);
            self.look()?;
            if self.seeds == before {
                return Ok(Vec::new());
            }
        }
    }

    /// Looks at what there is, and gives more seeds to the methods that want them.
    ///
    /// # Errors
    /// If there is no record yet, or they cannot be read.
    pub fn look(&mut self) -> Result<(Report, Option<Progress>)> {
        let ids = self.ids();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let report = report::looked(
            &self.base.out,
            &ids,
            self.margin,
            Some(&self.looks),
            self.verbosity,
        )?;
        let comparison = report
            .about(&ids)
            .next()
            .context("no run of this comparison has a record")?;
        let is_own =
            |run: &reports::row::Run, t: usize| self.planned[t].iter().any(|p| p.id == run.id);
        let trial_of = |row: usize| -> Option<usize> {
            let runs = &comparison.rows[row].runs;
            (0..self.planned.len()).find(|&t| runs.iter().any(|run| is_own(run, t)))
        };
        let own: Vec<usize> = (0..comparison.rows.len())
            .filter(|&row| trial_of(row).is_some())
            .collect();
        let procedure = comparison.procedure().unwrap_or(Procedure {
            looks: self.looks.clone(),
            margin: comparison.margin,
        });
        let progress = going_on::progress(comparison, &procedure, &own, &self.goal.pairs);
        let mut seeds = self.seeds.clone();
        for (&row, &wanted) in progress.iter().flat_map(|p| &p.wanted) {
            if let Some(t) = trial_of(row) {
                seeds[t] = seeds[t].max(wanted.min(self.goal.most));
            }
        }
        self.seeds = seeds;
        Ok((report, progress))
    }
}
