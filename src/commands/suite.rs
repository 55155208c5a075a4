//! `compare SUITE`: a comparison per data set under one recipe, and the verdict over all of them.

use std::{path::Path, process::ExitCode};

use anyhow::{Context, Result, ensure};
use record::Status;
use reports::{
    Comparison, Margin,
    measurement::{self, Measurement},
    suite::{Judged, judge},
};
use serde_json::{Value, json};

use super::report;
use crate::{
    execute::{
        cost::Cost,
        local::{self, How},
        planned::{self, Planned},
        progress::Verbosity,
    },
    exit, folders, output,
    plan::{self, DataChoice, RunPlan, Shared, Trial},
    signals::Signals,
    suite::Suite,
};

/// What is asked of a suite.
pub struct Asked<'a> {
    /// What every run shares; its data set is the suite.
    pub shared: &'a Shared,
    /// Methods, or those of the suite.
    pub methods: &'a [String],
    /// Number of seeds.
    pub seeds: Option<usize>,
    /// The margin that is declared now.
    pub margin: Option<Margin>,
    /// How runs are made.
    pub how: How,
    /// Only say what it would cost.
    pub dry_run: bool,
}

/// `compare` of a suite.
///
/// # Errors
/// On bad input; all data sets that are not found are named at once.
pub fn suite(suite: &Suite, asked: &Asked<'_>) -> Result<ExitCode> {
    let shared = asked.shared;
    ensure!(
        shared.data.options.is_empty(),
        "options of a file (--text-column, --label-column, --objective …) belong to one data set, not to the suite '{}'; \
         describe a data set in a YAML and name that in the suite",
        suite.name
    );
    let out = shared
        .out
        .clone()
        .unwrap_or_else(|| Path::new("reports").join("out").join(&suite.name));
    let settings = suite
        .set
        .iter()
        .map(|(key, value)| format!("{key}={}", plain(value)));
    let settings: Vec<String> = settings.chain(shared.settings.iter().cloned()).collect();
    let mut bases = Vec::new();
    let mut overrides = plan::Overrides::new();
    for entry in &suite.datasets {
        let of_dataset = Shared {
            data: DataChoice {
                name: entry.dataset.clone(),
                stand_in: false,
                ..shared.data.clone()
            },
            settings: settings.clone(),
            out: Some(out.join(entry.name())),
            ..shared.clone()
        };
        let (base, own) = of_dataset.plan()?;
        overrides = own;
        bases.push(base);
    }
    let methods = match asked.methods {
        [] => &suite.methods[..],
        named => named,
    };
    let trials = plan::trials(methods, &overrides)?;
    let seeds = plan::seeds(asked.seeds, &shared.budget)?;
    let verbosity = asked.how.verbosity;
    let planned = planned(suite, &bases, &trials, &seeds, verbosity)?;
    let runs: Vec<Planned> = planned.into_iter().flatten().collect();
    let cost = Cost::of(&runs, &out)?;
    if asked.dry_run {
        cost.show(verbosity)?;
        return Ok(ExitCode::SUCCESS);
    }
    if verbosity == Verbosity::Normal {
        eprintln!("{}", cost.sentence());
    }
    for base in &bases {
        folders::check_writable(&folders::records_folder(&base.out), "--out")?;
    }
    let signals = Signals::handle()?;
    let ended = local::run_all(&runs, &[], asked.how, &signals)?;
    if let Some(code) = ended.say_end(runs.len(), verbosity) {
        return Ok(code);
    }
    for base in &bases {
        let own = runs.iter().filter(|run| run.plan.out == base.out);
        shared.write_events(&base.out, own.map(|run| &run.id))?;
    }
    let verdict = verdict(suite, &runs, &out, asked.margin)?;
    let report = report::of_folder(&out, asked.margin, None)?;
    let files = report.write(&out, true)?;
    if verbosity == Verbosity::Json {
        let event = json!({ "event": "suite", "verdict": verdict });
        say!("{event}")?;
    } else {
        let width = output::terminal_width();
        for table in &verdict.tables {
            say!("{}\n", table.terminal(width).trim_end())?;
        }
        for sentence in &verdict.sentences {
            say!("{sentence}")?;
        }
    }
    if verbosity == Verbosity::Normal {
        let page = out.join("report.html");
        eprintln!(
            "wrote {} and {} other files",
            page.display(),
            files.len().saturating_sub(1)
        );
    }
    let failed = ended.records.iter().any(|r| r.status != Status::Ok);
    Ok(exit::after(failed))
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The runs of every data set, all checked before the first one starts.
fn planned(
    suite: &Suite,
    bases: &[RunPlan],
    trials: &[Trial],
    seeds: &[u64],
    verbosity: Verbosity,
) -> Result<Vec<Vec<Planned>>> {
    let (mut planned, mut missing) = (Vec::new(), Vec::new());
    for (entry, base) in suite.datasets.iter().zip(bases) {
        match planned::plan(base, trials, seeds, verbosity) {
            Ok(runs) => planned.push(
                runs.into_iter()
                    .map(|run| Planned {
                        label: format!("{} {}", entry.name(), run.label),
                        ..run
                    })
                    .collect(),
            ),
            Err(error) => missing.push(format!("{}: {error:#}", entry.name())),
        }
    }
    ensure!(
        missing.is_empty(),
        "suite '{}': {} of its {} data sets cannot be compared; a YAML with the others is a suite too:\n  {}",
        suite.name,
        missing.len(),
        suite.datasets.len(),
        missing.join("\n  ")
    );
    Ok(planned)
}

/// The verdict over all data sets, which is written where the page finds it.
fn verdict(
    suite: &Suite,
    runs: &[Planned],
    out: &Path,
    margin: Option<Margin>,
) -> Result<Measurement> {
    let mut comparisons: Vec<(String, &[String], Comparison)> = Vec::new();
    for entry in &suite.datasets {
        let name = entry.name();
        let folder = out.join(&name);
        let own = runs.iter().filter(|run| run.plan.out == folder);
        let ids: Vec<&str> = own.map(|run| run.id.as_str()).collect();
        let report = report::of_folder(&folder, margin, None)?;
        let found = report.about(&ids).next().cloned();
        let found = found.with_context(|| format!("{name}: no record of this suite"))?;
        comparisons.push((name, &entry.average[..], found));
    }
    let judged: Vec<Judged<'_>> = comparisons
        .iter()
        .map(|(name, average, comparison)| Judged {
            name,
            average,
            comparison,
        })
        .collect();
    let verdict = judge(
        &suite.title,
        &suite.about,
        &judged,
        margin.unwrap_or(Margin::POINT),
    );
    verdict.write_as(out, measurement::SUITE)?;
    Ok(verdict)
}
