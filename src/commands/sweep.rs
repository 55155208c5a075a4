//! `sweep`: makes the runs of a study and draws its curve.

use std::{collections::BTreeMap, path::Path, process::ExitCode};

use anyhow::{Result, ensure};
use record::Status;
use reports::{
    Kept, Margin, format,
    studies::{self, Manifest, PointPlan, SeriesPlan, Study},
};

use super::{
    plan_only::{Elsewhere, Then},
    report,
};
use crate::{
    execute::{
        local::{self, How},
        planned::{self, Planned},
        progress::Verbosity,
    },
    exit, folders, output,
    plan::{self, RunPlan, Shared},
    signals::Signals,
    study::{folder, plain, points, study},
};

/// `sweep`; the runs are made here, or `elsewhere`.
///
/// # Errors
/// On bad input.
pub fn sweep(
    shared: &Shared,
    name: &str,
    seeds: Option<usize>,
    margin: Option<Margin>,
    how: How,
    elsewhere: Option<&Elsewhere>,
) -> Result<ExitCode> {
    let spec = study(name)?;
    let verbosity = how.verbosity;
    let (base, user) = shared.plan()?;
    for owner in user.keys().filter(|o| *o != "recipe" && *o != "backbone") {
        ensure!(
            spec.series.iter().any(|s| s.method == *owner),
            "--set {owner}.…: '{owner}' is not among the methods of the study {}",
            spec.name
        );
    }
    let seeds = plan::seeds(seeds, base.recipe.budget())?;
    let main = base.out.clone();
    let base = RunPlan {
        out: folder(&main, &spec.name),
        ..base
    };
    folders::check_writable(&folders::records_folder(&base.out), "--out")?;
    let signals = Signals::handle()?;
    let points = points(&spec, &base, &user, &seeds)?;

    let earlier = Manifest::read(&base.out)?;
    let seen = Study::read(&base.out, None)?.map_or(0, |study| study.seeds());
    // Every run is checked before the first one starts; what this backbone or data cannot have is left out and said.
    let plans: Vec<RunPlan> = points.iter().flat_map(|p| p.plans.clone()).collect();
    let mut checked = planned::plan_all(plans.into_iter(), how.verbosity).into_iter();
    let mut manifest = Manifest {
        name: spec.name.clone(),
        title: spec.title.clone(),
        question: spec.question.clone(),
        reference: spec.reference.clone(),
        curves: spec.curves,
        axis: spec.axis()?,
        series: spec
            .series
            .iter()
            .map(|s| SeriesPlan {
                label: s.label().to_owned(),
                method: s.method.clone(),
                points: Vec::new(),
            })
            .collect(),
        left_out: Vec::new(),
        margin: margin
            .or(earlier.as_ref().map(|m| m.margin))
            .unwrap_or_default(),
        looks: Vec::new(),
    };
    let (mut planned, mut first_error) = (Vec::new(), None);
    let mut impossible: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for point in &points {
        let series = &mut manifest.series[point.series];
        let label = plain(&point.label);
        // All of a point's results are taken, also behind the first error.
        let runs: Vec<Result<Planned>> = checked.by_ref().take(point.plans.len()).collect();
        match runs.into_iter().collect::<Result<Vec<Planned>>>() {
            Ok(runs) => {
                series.points.push(PointPlan {
                    value: point.label.as_f64(),
                    runs: runs.iter().map(|r| r.id.clone()).collect(),
                    label: label.clone(),
                });
                let name = format!("{} {label}", spec.series[point.series].label());
                let named = |run| Planned {
                    label: name.clone(),
                    ..run
                };
                planned.push(runs.into_iter().map(named).collect::<Vec<_>>().into_iter());
            }
            Err(e) => {
                impossible
                    .entry((label, format!("{e:#}")))
                    .or_default()
                    .push(series.label.clone());
                first_error.get_or_insert(e);
            }
        }
    }
    manifest.left_out = impossible
        .into_iter()
        .map(|((label, why), series)| format!("{} at {label}: {why}", format::list(&series)))
        .collect();
    manifest.series.retain(|s| !s.points.is_empty());
    if planned.is_empty() {
        return Err(first_error.unwrap_or_else(|| anyhow::anyhow!("nothing to run")));
    }
    if verbosity == Verbosity::Normal {
        for left_out in &manifest.left_out {
            eprintln!("note: left out: {left_out}");
        }
    }
    if let Some(earlier) = &earlier {
        manifest.go_on_from(earlier, seen);
    }
    manifest.write(&base.out)?;

    // Seed by seed, so that a study that is stopped early is whole for the seeds it has.
    let mut runs = Vec::new();
    let mut columns: Vec<_> = planned;
    while columns.iter().any(|c| c.len() > 0) {
        runs.extend(columns.iter_mut().filter_map(Iterator::next));
    }
    if let Some(elsewhere) = elsewhere
        && let Some(code) = elsewhere.make(&runs, &main, Then::Report)?
    {
        return Ok(code);
    }
    let ended = local::run_all(&runs, &[folders::records_folder(&main)], how, &signals)?;
    shared.write_events(&base.out, ended.records.iter().map(|r| &r.id))?;
    let stopped = ended.say_end(runs.len(), verbosity);
    if let Some(study) = Study::read(&base.out, None)? {
        show(&study, &base.out, verbosity)?;
    }
    Ok(stopped.unwrap_or_else(|| {
        let failed = ended.records.iter().any(|r| r.status != Status::Ok);
        exit::after(failed)
    }))
}

fn show(study: &Study, out: &Path, verbosity: Verbosity) -> Result<()> {
    let files = studies::write(study, out)?;
    if verbosity == Verbosity::Json {
        crate::output::event(serde_json::json!({ "event": "study", "study": study }))?;
    } else {
        let table = studies::terminal(study, output::terminal_width());
        say!("{}", table.trim_end())?;
    }
    if verbosity == Verbosity::Normal {
        report::tell_written(&files);
    }
    Ok(())
}
