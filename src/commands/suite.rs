//! `compare SUITE`: a comparison per data set under one recipe, and the verdict over all of them. The runs of all data sets are made
//! together, here or elsewhere; where each goes on until it is decided, one data set comes after the other.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, ensure};
use record::{Status, store};
use reports::{
    Kept, Margin, format,
    going_on::Progress,
    suite::{Manifest, Part as PartOf},
};
use serde_json::{Map, json};

use super::{
    plan_only::{Elsewhere, Then},
    report,
    until_decided::{GoingOn, Seeds, UntilDecided},
};
use crate::{
    card,
    execute::{
        cost::Cost,
        local::{self, Executed, How},
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
    /// With how many seeds.
    pub seeds: &'a Seeds,
    /// The margin that is declared now.
    pub margin: Option<Margin>,
    /// How runs are made.
    pub how: How,
    /// Having them made elsewhere.
    pub elsewhere: Option<&'a Elsewhere>,
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
        .map(|(key, value)| format!("{key}={}", format::value(value)));
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
    let verbosity = asked.how.verbosity;
    let mut parts = parts(suite, &bases, &trials, asked)?;
    let runs: Vec<Planned> = parts.iter().flat_map(|p| p.runs.clone()).collect();
    let cost = Cost::of(&runs, &out)?;
    if asked.dry_run {
        cost.show(verbosity)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(elsewhere) = asked.elsewhere
        && let Some(code) = elsewhere.make(&runs, &out, Then::Again)?
    {
        return Ok(code);
    }
    // Where no record tells, the runs are counted by their operations before the first one starts.
    if verbosity == Verbosity::Normal && cost.seconds > 0.0 {
        eprintln!("{}", cost.sentence());
    }
    for base in &bases {
        folders::check_writable(&folders::records_folder(&base.out), "--out")?;
    }
    let signals = Signals::handle()?;
    let (ended, wanted) = match asked.seeds {
        Seeds::Fixed(_) => (local::run_all(&runs, &[], asked.how, &signals)?, runs.len()),
        Seeds::UntilDecided(goal) => until_decided(&mut parts, goal, asked.how, &signals)?,
    };
    if let Some(code) = ended.say_end(wanted, verbosity) {
        return Ok(code);
    }
    let (mut going_on, mut decided, mut ended_parts) = (Map::new(), Vec::new(), 0);
    for part in &mut parts {
        shared.write_events(&part.out, &part.ids)?;
        if let Some(progress) = part.look(asked.margin, verbosity)? {
            ended_parts += usize::from(progress.wanted.is_empty());
            let said = progress.sentences().into_iter();
            decided.extend(said.map(|sentence| format!("{}: {sentence}", part.name)));
            going_on.insert(part.name.clone(), serde_json::to_value(progress)?);
        }
    }
    let mut manifest = manifest(suite, &parts, &out, asked.margin);
    manifest.ended = ended_parts == parts.len();
    manifest.write(&out)?;
    let report = report::of_folder(&out, asked.margin, None)?;
    let files = report.write(&out, true)?;
    for part in &parts {
        let ids: Vec<&str> = part.ids.iter().map(String::as_str).collect();
        for comparison in report.about(&ids) {
            card::write_all(comparison, &part.out)?;
        }
    }
    let mut verdicts = report.suites.iter();
    let verdict = verdicts.find_map(|(name, verdict)| (*name == suite.name).then_some(verdict));
    let verdict =
        verdict.with_context(|| format!("{}: none of its runs has a record", suite.name))?;
    if verbosity == Verbosity::Json {
        let going_on = (!going_on.is_empty()).then_some(going_on);
        output::event(json!({ "event": "suite", "verdict": verdict, "going_on": going_on }))?;
    } else {
        let width = output::terminal_width();
        for table in &verdict.tables {
            say!("{}\n", table.terminal(width).trim_end())?;
        }
        for sentence in verdict.sentences.iter().chain(&decided) {
            say!("{sentence}")?;
        }
    }
    if verbosity == Verbosity::Normal {
        report::tell_written(&files);
    }
    let failed = ended.records.iter().any(|r| r.status != Status::Ok);
    Ok(exit::after(failed))
}

/// A data set of the suite.
struct Part {
    name: String,
    /// The folder of its comparison.
    out: PathBuf,
    /// The metrics whose mean is its part of the average.
    average: Vec<String>,
    /// How much that part counts.
    weight: f64,
    /// The runs that are to be made now: all, or those of the next look.
    runs: Vec<Planned>,
    /// Names of all runs that it may come to.
    ids: Vec<String>,
    /// How it goes on, where it does.
    going_on: Option<GoingOn>,
}

impl Part {
    /// Looks at what there is, and keeps that beside the records: a verdict depends on it. How far it is, where it goes on; nothing
    /// is looked at without a record.
    fn look(&mut self, margin: Option<Margin>, verbosity: Verbosity) -> Result<Option<Progress>> {
        let records = folders::records_folder(&self.out);
        let mut found = self.ids.iter().map(|id| store::find(&records, id));
        if found.find_map(Result::transpose).transpose()?.is_none() {
            return Ok(None);
        }
        if let Some(going_on) = &mut self.going_on {
            return Ok(going_on.look()?.1);
        }
        let ids: Vec<&str> = self.ids.iter().map(String::as_str).collect();
        report::looked(&self.out, &ids, margin, None, verbosity)?;
        Ok(None)
    }
}

/// Goes on with one data set after the other; with how many runs there are to be by now.
fn until_decided(
    parts: &mut [Part],
    goal: &UntilDecided,
    how: How,
    signals: &Signals,
) -> Result<(Executed, usize)> {
    let is_late = goal.clock();
    let (mut ended, mut wanted) = (Executed::default(), 0);
    for part in parts {
        let Some(going_on) = &mut part.going_on else {
            continue;
        };
        if how.verbosity == Verbosity::Normal {
            eprintln!("note: now {}", part.name);
        }
        ended.add(going_on.run(&is_late, how, signals)?);
        wanted += going_on.wanted();
        if ended.interrupted.is_some() {
            break;
        }
    }
    Ok((ended, wanted))
}

/// The data sets, all of them checked before the first run starts.
fn parts(
    suite: &Suite,
    bases: &[RunPlan],
    trials: &[Trial],
    asked: &Asked<'_>,
) -> Result<Vec<Part>> {
    let verbosity = asked.how.verbosity;
    let of = |base: &RunPlan| -> Result<(Vec<Planned>, Option<GoingOn>)> {
        match asked.seeds {
            Seeds::Fixed(seeds) => {
                let seeds = plan::seeds(*seeds, base.recipe.budget())?;
                Ok((planned::plan(base, trials, &seeds, verbosity)?, None))
            }
            Seeds::UntilDecided(goal) => {
                let mut going_on =
                    GoingOn::new(base, trials, goal.clone(), asked.margin, verbosity)?;
                Ok((going_on.next_look()?, Some(going_on)))
            }
        }
    };
    let (mut parts, mut missing) = (Vec::new(), Vec::new());
    for (entry, base) in suite.datasets.iter().zip(bases) {
        let name = entry.name();
        match of(base) {
            Ok((mut runs, going_on)) => {
                for run in &mut runs {
                    run.label = format!("{name} {}", run.label);
                }
                parts.push(Part {
                    ids: match &going_on {
                        Some(going_on) => going_on.ids(),
                        None => runs.iter().map(|run| run.id.clone()).collect(),
                    },
                    out: base.out.clone(),
                    average: entry.average.clone(),
                    weight: entry.weight,
                    name,
                    runs,
                    going_on,
                });
            }
            Err(error) => missing.push(format!("{name}: {error:#}")),
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
    Ok(parts)
}

/// What is compared, as the report finds it again. A margin that was declared before stays, unless another is declared now.
fn manifest(suite: &Suite, parts: &[Part], out: &Path, margin: Option<Margin>) -> Manifest {
    let before = Manifest::read(out).unwrap_or_else(|_| {
        eprintln!(
            "note: {}: cannot be read and is written anew; a margin that was declared in it is not kept",
            out.join(Manifest::FILE).display()
        );
        None
    });
    let part = |part: &Part| PartOf {
        name: part.name.clone(),
        average: part.average.clone(),
        weight: part.weight,
        runs: part.ids.clone(),
    };
    Manifest {
        name: suite.name.clone(),
        title: suite.title.clone(),
        about: suite.about.clone(),
        margin: margin.or(before.map(|m| m.margin)).unwrap_or_default(),
        ended: false,
        datasets: parts.iter().map(part).collect(),
    }
}
