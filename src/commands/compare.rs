//! `compare`: trains every method on identical data over one frozen backbone, and reports. With `--until-decided` it goes on: see
//! [`GoingOn`].

use std::process::ExitCode;

use anyhow::Result;
use record::Status;
use reports::{Comparison, Margin, going_on::Progress, tables};

use super::{
    plan_only::{Elsewhere, Then},
    report, suite,
    until_decided::{GoingOn, Seeds},
};
use crate::{
    card,
    execute::{
        cost::Cost,
        local::{self, How},
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
        let of_suite = suite::Asked {
            shared: &asked.shared,
            methods: &asked.methods,
            seeds: &asked.seeds,
            margin: asked.margin,
            how,
            elsewhere,
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
            let ended = going_on.run(&goal.clock(), how, &signals)?;
            if let Some(code) = ended.say_end(going_on.wanted(), verbosity) {
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
        crate::output::event(serde_json::json!({
            "event": "compared", "comparisons": all, "going_on": progress, "folder": base.out.to_string_lossy(),
        }))?;
    } else {
        report::show(&comparisons, &files, verbosity)?;
        for sentence in progress.iter().flat_map(Progress::sentences) {
            say!("{sentence}")?;
        }
    }
    let failed = ended.records.iter().any(|r| r.status != Status::Ok);
    Ok(exit::after(failed))
}
