//! `compare`: trains every method on identical data over one frozen backbone, and reports. With `--until-decided` it goes on: see
//! [`GoingOn`].

use std::{
    collections::BTreeSet,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use record::{Status, store};
use reports::{
    Comparison, Margin, Report,
    going_on::{self, Named, Progress},
    tables,
};
use statistics::{Looks, Procedure};

use super::{
    plan_only::{Elsewhere, Then},
    report, suite,
};
use crate::{
    card,
    execute::{
        cost::Cost,
        local::{self, Executed, How},
        planned::{self, Planned},
        progress::Verbosity,
    },
    exit, folders,
    plan::{self, RunPlan, Shared, Trial},
    signals::Signals,
};

/// What is compared.
pub struct Asked {
    /// What every run shares.
    pub shared: Shared,
    /// The methods; the standard ones where none is named.
    pub methods: Vec<String>,
    /// With how many seeds.
    pub seeds: Seeds,
    /// The margin that is declared now.
    pub margin: Option<Margin>,
}

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

impl Asked {
    /// What all runs share, and the methods with what is set of them.
    ///
    /// # Errors
    /// On bad input.
    pub fn plan(&self) -> Result<(RunPlan, Vec<Trial>)> {
        let (base, overrides) = self.shared.plan()?;
        let trials = plan::trials(&self.methods, &overrides)?;
        Ok((base, trials))
    }

    /// The runs that are to be made now: all, or those of the next look.
    ///
    /// # Errors
    /// On bad input.
    pub fn planned(&self, verbosity: Verbosity) -> Result<(RunPlan, Vec<Planned>)> {
        let (base, trials) = self.plan()?;
        let planned = match &self.seeds {
            Seeds::Fixed(seeds) => {
                let seeds = plan::seeds(*seeds, base.recipe.budget())?;
                planned::plan(&base, &trials, &seeds, verbosity)?
            }
            Seeds::UntilDecided(goal) => {
                GoingOn::new(&base, &trials, goal.clone(), self.margin, verbosity)?.next_look()?
            }
        };
        Ok((base, planned))
    }
}

/// `compare`, of a data set or of a suite; in a dry run it only says what it would cost. The runs are made here, or `elsewhere`: those of the next look only, where it goes on until it is decided.
///
/// # Errors
/// On bad input.
pub fn compare(
    asked: &Asked,
    how: How,
    elsewhere: Option<&Elsewhere>,
    dry_run: bool,
) -> Result<ExitCode> {
    let verbosity = how.verbosity;
    if let Some(found) = crate::suite::find(&asked.shared.data.name)? {
        let Seeds::Fixed(seeds) = asked.seeds else {
            bail!(
                "--until-decided goes on with one data set; '{}' is a suite of several",
                found.name
            );
        };
        if elsewhere.is_some() {
            bail!(
                "a suite is made here; have its data sets made elsewhere one by one: '{}' is a suite of several",
                found.name
            );
        }
        let of_suite = suite::Asked {
            shared: &asked.shared,
            methods: &asked.methods,
            seeds,
            margin: asked.margin,
            how,
            dry_run,
        };
        return suite::suite(&found, &of_suite);
    }
    if dry_run {
        let (base, planned) = asked.planned(verbosity)?;
        Cost::of(&planned, &base.out)?.show(verbosity)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(elsewhere) = elsewhere {
        let (base, planned) = asked.planned(verbosity)?;
        let then = match asked.seeds {
            Seeds::Fixed(_) => Then::Report,
            Seeds::UntilDecided(_) => Then::Again,
        };
        if let Some(code) = elsewhere.make(&planned, &base.out, then)? {
            return Ok(code);
        }
    }
    let (base, trials) = asked.plan()?;
    let (ended, report, progress) = match &asked.seeds {
        Seeds::Fixed(seeds) => {
            let seeds = plan::seeds(*seeds, base.recipe.budget())?;
            let signals = Signals::handle()?;
            let ended = local::compare(&base, &trials, &seeds, how, &signals)?;
            if let Some(code) = ended.say_end(trials.len() * seeds.len(), verbosity) {
                return Ok(code);
            }
            // A part of the methods is made, all that was made under the same conditions is reported.
            let ids: Vec<&str> = ended.records.iter().map(|r| r.id.as_str()).collect();
            let report = report::looked(&base.out, &ids, asked.margin, None, verbosity)?;
            (ended, report, None)
        }
        Seeds::UntilDecided(goal) => {
            folders::check_writable(&folders::records_folder(&base.out), "--out")?;
            let mut going_on = GoingOn::new(&base, &trials, goal.clone(), asked.margin, verbosity)?;
            let signals = Signals::handle()?;
            let ended = going_on.run(how, &signals)?;
            if let Some(code) = ended.say_end(going_on.seeds.iter().sum(), verbosity) {
                return Ok(code);
            }
            let (report, progress) = going_on.look()?;
            (ended, report, progress)
        }
    };
    let files = report.write(&base.out, true)?;
    let ids: Vec<&str> = ended.records.iter().map(|r| r.id.as_str()).collect();
    let comparisons: Vec<&Comparison> = report.about(&ids).collect();
    asked
        .shared
        .write_events(&base.out, ended.records.iter().map(|r| &r.id))?;
    for comparison in &comparisons {
        card::write_all(comparison, &base.out)?;
    }
    if verbosity == Verbosity::Json {
        let all: Vec<_> = comparisons.iter().map(|c| tables::json(c)).collect();
        crate::output::event(
            serde_json::json!({ "event": "compared", "comparisons": all, "going_on": progress }),
        )?;
    } else {
        report::show(&comparisons, &files, verbosity)?;
        for sentence in progress.iter().flat_map(Progress::sentences) {
            say!("{sentence}")?;
        }
    }
    let failed = ended.records.iter().any(|r| r.status != Status::Ok);
    Ok(exit::after(failed))
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

    /// Makes runs until all is decided, no more seeds are wanted or the time is up.
    fn run(&mut self, how: How, signals: &Signals) -> Result<Executed> {
        let started = Instant::now();
        let time = self.goal.seconds.map(Duration::from_secs_f64);
        let is_late = || time.is_some_and(|time| started.elapsed() >= time);
        let mut all = Executed {
            records: Vec::new(),
            reused: 0,
            interrupted: None,
        };
        let mut before = vec![0; self.seeds.len()];
        loop {
            let runs = self.runs(&before);
            before.clone_from(&self.seeds);
            // Where the time is limited, it is looked at the clock after every seed.
            let parts: Vec<&[Planned]> = match time {
                Some(_) => runs.chunk_by(|a, b| a.plan.seed == b.plan.seed).collect(),
                None => vec![&runs],
            };
            for part in parts {
                if is_late() {
                    self.note("the time is up; the same command goes on");
                    return Ok(all);
                }
                let ended = local::run_all(part, &[], how, signals)?;
                all.reused += ended.reused;
                all.records.extend(ended.records);
                all.interrupted = ended.interrupted;
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

    /// The runs of the next look that have no record yet, as the records stand; none when nothing is left to do.
    fn next_look(mut self) -> Result<Vec<Planned>> {
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
    fn look(&mut self) -> Result<(Report, Option<Progress>)> {
        let ids: BTreeSet<&str> = self
            .planned
            .iter()
            .flatten()
            .map(|p| p.id.as_str())
            .collect();
        let ids: Vec<&str> = ids.into_iter().collect();
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
