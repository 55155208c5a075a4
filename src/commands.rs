//! What each command does.

use std::{
    io::{IsTerminal, Read, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use reports::{
    Comparison, Findings, changes, claims,
    record::{RunRecord, Status},
    store, tables,
};

use crate::{
    board::{self, Board, Telling},
    cli::{self, Kind},
    compare,
    plan::{self, DataChoice, RunPlan, Trial},
    prepare::{self, Files},
    recipe,
    run::{self, Setting},
    sweep,
    trainer::Event,
    weights,
};

/// Exit code of bad input: nothing was lost.
pub const BAD_INPUT: u8 = 2;
/// Exit code after ctrl-C.
pub const INTERRUPTED: u8 = 130;
/// Exit code when some of the work could not be done.
pub const SOME_FAILED: u8 = 1;

/// A flag that ctrl-C (or a request to terminate) sets.
///
/// # Errors
/// If the handler cannot be set.
pub fn stop_flag() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        // The second time, the user means it.
        if flag.swap(true, Ordering::SeqCst) {
            std::process::exit(i32::from(INTERRUPTED));
        }
    })?;
    Ok(stop)
}

fn choice(data: &cli::DataArguments) -> DataChoice {
    DataChoice {
        name: data.dataset.clone(),
        text_columns: data.text_columns.clone(),
        label_column: data.label_column.clone(),
        stand_in: !data.no_stand_in,
        stand_in_for: None,
    }
}

/// The plan that all runs share, and the overrides of methods.
///
/// # Errors
/// If a setting is not valid.
pub fn base_plan(run: &cli::RunArguments) -> Result<(RunPlan, plan::Overrides)> {
    let mut overrides = plan::parse_settings(&run.settings)?;
    let recipe = overrides.remove("recipe").unwrap_or_default();
    let backbone_overrides = overrides.remove("backbone").unwrap_or_default();
    recipe::Recipe::resolve(&run.budget, &recipe, 1)?;
    let plan = RunPlan {
        data: choice(&run.data),
        backbone: run.backbone.clone(),
        backbone_overrides,
        trial: Trial {
            method: String::new(),
            overrides: Default::default(),
            tuned: None,
        },
        recipe,
        budget: run.budget.clone(),
        seed: 0,
        offline: run.data.offline,
        out: run
            .out
            .clone()
            .unwrap_or_else(|| compare::default_out(&run.data.dataset)),
        keep_weights: true,
    };
    Ok((plan, overrides))
}

/// `compare`.
///
/// # Errors
/// On bad input.
pub fn compare(arguments: &cli::Compare) -> Result<ExitCode> {
    let (base, overrides) = base_plan(&arguments.run)?;
    let trials = plan::trials(&arguments.methods, &overrides)?;
    let seeds = seeds(arguments.seeds, &base.budget)?;
    let stop = stop_flag()?;
    let telling = Telling::of(arguments.quiet, arguments.json);
    let ended = compare::compare(&base, &trials, &seeds, telling, &stop)?;
    if let Some(code) = said(&ended, trials.len() * seeds.len(), telling) {
        return Ok(code);
    }
    if arguments.json {
        let comparisons = Comparison::from_records(&ended.records);
        reports::write_report(&ended.records, &Findings::read(&base.out)?, &base.out)?;
        let all: Vec<_> = comparisons.iter().map(tables::json).collect();
        let event = serde_json::json!({ "event": "compared", "comparisons": all });
        say!("{event}")?;
    } else {
        let findings = Findings::read(&base.out)?;
        show(&ended.records, &findings, &base.out, false, telling)?;
    }
    Ok(code(ended.records.iter().any(|r| r.status != Status::Ok)))
}

/// The seeds 0 … n-1: as many as asked for, or as the budget has.
pub(crate) fn seeds(asked: Option<usize>, budget: &str) -> Result<Vec<u64>> {
    let budgets = recipe::budgets()?;
    let n = asked.or_else(|| budgets.get(budget).copied()).unwrap_or(1);
    ensure!(n >= 1, "--seeds 0: at least one is needed");
    Ok((0..n as u64).collect())
}

/// The exit code of runs.
pub(crate) fn code(failed: bool) -> ExitCode {
    if failed {
        ExitCode::from(SOME_FAILED)
    } else {
        ExitCode::SUCCESS
    }
}

/// Says what was reused and what is left; the exit code if the user stopped the runs.
pub(crate) fn said(ended: &compare::Ended, all: usize, telling: Telling) -> Option<ExitCode> {
    if ended.reused > 0 && telling == Telling::Normal {
        eprintln!("{} of {all} runs had a record already", ended.reused);
    }
    ended.interrupted.then(|| {
        eprintln!(
            "interrupted: {} of {all} runs have ended; the same command goes on with the rest",
            ended.whole()
        );
        ExitCode::from(INTERRUPTED)
    })
}

/// Prints the comparisons of records and writes the report.
fn show(
    records: &[RunRecord],
    findings: &Findings,
    out: &Path,
    json: bool,
    telling: Telling,
) -> Result<()> {
    let comparisons = Comparison::from_records(records);
    let written = reports::write_report(records, findings, out)?;
    if json {
        let all: Vec<_> = comparisons.iter().map(tables::json).collect();
        say!("{}", serde_json::to_string_pretty(&all)?)?;
        return Ok(());
    }
    let width = terminal_width();
    let colour = colour();
    for comparison in &comparisons {
        say!("{}", tables::terminal(comparison, width, colour))?;
    }
    if telling == Telling::Normal {
        for file in written.files {
            eprintln!("wrote {}", file.display());
        }
    }
    Ok(())
}

/// Whether standard output takes colours: a terminal, and NO_COLOR is not set (no-color.org).
pub(crate) fn colour() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// Studies, searches and claims: files beside the report, and the claims' verdicts in the terminal.
fn show_more(records: &[RunRecord], findings: &Findings, out: &Path, json: bool) -> Result<()> {
    let mut files = Vec::new();
    for study in &findings.studies {
        files.extend(reports::studies::write(study, out)?);
    }
    for tuning in &findings.tunings {
        files.extend(reports::tuning::write(tuning, out)?);
    }
    let claims = claims::judge_all(&Comparison::from_records(records), &findings.studies)?;
    for (name, content) in [
        ("claims.md", claims::markdown(&claims)),
        ("claims.json", serde_json::to_string_pretty(&claims)?),
    ] {
        let path = out.join(name);
        std::fs::write(&path, content).with_context(|| path.display().to_string())?;
        files.push(path);
    }
    if !json {
        say!("Claims, tested here (claims.md has the evidence):")?;
        for claim in &claims {
            say!("  {:<14} {}", claim.verdict.words(), claim.claim)?;
        }
    }
    for file in files {
        eprintln!("wrote {}", file.display());
    }
    Ok(())
}

pub(crate) fn terminal_width() -> usize {
    let columns = std::env::var("COLUMNS").ok().and_then(|c| c.parse().ok());
    columns.unwrap_or_else(|| {
        console::Term::stdout()
            .size_checked()
            .map_or(100, |(_, columns)| columns.into())
    })
}

/// `train`.
///
/// # Errors
/// On bad input.
pub fn train(arguments: &cli::Train, started: Instant) -> Result<ExitCode> {
    let (mut plan, overrides) = base_plan(&arguments.run)?;
    let trials = plan::trials(std::slice::from_ref(&arguments.method), &overrides)?;
    plan.trial = trials.into_iter().next().context("one method")?;
    plan.seed = arguments.seed;
    let stop = stop_flag()?;
    run::check_writable(&run::records_folder(&plan.out))?;
    let mut board = Board::new(vec![plan.trial.method.clone()], Telling::Normal);
    board.start(0, plan.seed, "");
    let record = run::run(&plan, started, &stop, &mut |event| board.tell(&event))?;
    board.finish(&record);
    board.close();
    if arguments.json {
        say!("{}", serde_json::to_string_pretty(&record)?)?;
    } else if record.status == Status::Ok {
        say!("{}", run::weights_folder(&plan.out, &record.id).display())?;
    }
    Ok(code_of(&record))
}

fn code_of(record: &RunRecord) -> ExitCode {
    match record.status {
        Status::Ok => ExitCode::SUCCESS,
        Status::Interrupted => ExitCode::from(INTERRUPTED),
        Status::Diverged { .. } | Status::Failed { .. } => ExitCode::from(SOME_FAILED),
    }
}

/// `run-plan`: a plan on standard input, events on standard output.
///
/// # Errors
/// On bad input.
pub fn run_plan(started: Instant) -> Result<ExitCode> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let plan: RunPlan = serde_json::from_str(&text).context("the plan on standard input")?;
    let stop = stop_flag()?;
    let record = run::run(&plan, started, &stop, &mut |event: Event| {
        let said = serde_json::to_string(&event).map(|line| writeln!(std::io::stdout(), "{line}"));
        if !matches!(said, Ok(Ok(()))) {
            // The comparison that started this run is gone.
            stop.store(true, Ordering::SeqCst);
        }
    })?;
    // The record says how the run ended.
    drop(record);
    Ok(ExitCode::SUCCESS)
}

/// `evaluate`.
///
/// # Errors
/// On bad input.
pub fn evaluate(arguments: &cli::Evaluate) -> Result<ExitCode> {
    let config = weights::read_config(&arguments.weights)?;
    let files = Files::new(arguments.offline)?;
    let loaded = task_backbone(&files, &config, arguments.backbone.as_deref())?;
    let data = files.data(&DataChoice {
        name: arguments.dataset.clone(),
        text_columns: arguments.text_columns.clone(),
        label_column: arguments.label_column.clone(),
        stand_in: false,
        stand_in_for: None,
    })?;
    let split = arguments.split.into();
    let (metrics, examples) =
        run::evaluate(&arguments.weights, &data, split, &loaded, files.cache())?;
    if arguments.json {
        say!(
            "{}",
            serde_json::json!({ "dataset": data.dataset.name, "split": split.name(), "examples": examples, "metrics": metrics })
        )?;
    } else {
        for (name, value) in metrics {
            say!(
                "{name} {value:.4} ({examples} examples of {}, {})",
                data.dataset.name,
                split.name()
            )?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The backbone that saved weights name, or the one that the user names, read as they ask for.
///
/// # Errors
/// If it cannot be had.
pub fn task_backbone(
    files: &Files,
    config: &weights::SavedConfig,
    named: Option<&str>,
) -> Result<prepare::LoadedBackbone> {
    let choice = named.unwrap_or(&config.backbone);
    let overrides = [
        ("pooling".to_owned(), config.pooling.name().to_owned()),
        (
            "head".to_owned(),
            serde_yaml::to_string(&config.head)?.trim().to_owned(),
        ),
    ];
    let found = files.backbone(choice, &overrides.into());
    match named {
        Some(_) => found,
        None => found.context("the backbone that the weights name; --backbone names another place"),
    }?
    .load()
}

/// Reads the records of a folder, or of a comparison's folder, or of all comparisons below it.
pub(crate) fn read_records(folder: &Path) -> Result<Vec<RunRecord>> {
    ensure!(
        folder.is_dir(),
        "{}: no such folder; run peftbench compare first, or name --records",
        folder.display()
    );
    let below = std::fs::read_dir(folder)
        .with_context(|| folder.display().to_string())?
        .flatten()
        .map(|entry| entry.path().join("records"));
    let mut folders: Vec<PathBuf> = std::iter::once(folder.join("records"))
        .chain(below)
        .filter(|f| f.is_dir())
        .collect();
    folders.sort();
    // Only a folder of records itself: a comparison's own folder holds other JSON files.
    if folders.is_empty() {
        folders.push(folder.to_owned());
    }
    let mut records = Vec::new();
    for folder in &folders {
        let read = store::read_dir(folder)?;
        for problem in &read.damaged {
            eprintln!("note: {problem}");
        }
        records.extend(read.records);
    }
    Ok(records)
}

/// `report`.
///
/// # Errors
/// If there are no records or the report cannot be written.
pub fn report(arguments: &cli::Report) -> Result<ExitCode> {
    if let Some([before, after]) = arguments.compare.as_deref() {
        let changes = changes::changes(&read_records(before)?, &read_records(after)?);
        if arguments.json {
            say!("{}", serde_json::to_string_pretty(&changes)?)?;
        } else {
            say!("{}", changes::terminal(&changes).trim_end())?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let records = read_records(&arguments.records)?;
    ensure!(
        !records.is_empty(),
        "{}: no records there; run peftbench compare first",
        arguments.records.display()
    );
    let out = arguments.out.as_ref().unwrap_or(&arguments.records);
    let findings = Findings::read(&arguments.records)?;
    show(&records, &findings, out, arguments.json, Telling::Normal)?;
    show_more(&records, &findings, out, arguments.json)?;
    Ok(ExitCode::SUCCESS)
}

/// `list`.
///
/// # Errors
/// If a YAML is not valid or records cannot be read.
pub fn list(arguments: &cli::List) -> Result<ExitCode> {
    let rows: Vec<(String, serde_json::Value, String)> = match arguments.what {
        Kind::Methods if !arguments.json => {
            say!("{}", crate::capabilities::table()?.trim_end())?;
            return Ok(ExitCode::SUCCESS);
        }
        Kind::Methods => crate::capabilities::json()?
            .into_iter()
            .map(|(name, value)| (name, value, String::new()))
            .collect(),
        Kind::Datasets => datasets::names()
            .map(|name| {
                let spec = datasets::spec(name)?;
                let metrics: Vec<_> = spec.metrics.iter().map(|m| m.name()).collect();
                let about = format!("{}; {} ({})", metrics.join(", "), spec.citation, spec.licence);
                Ok((name.to_owned(), serde_json::json!({ "metrics": metrics, "licence": spec.licence, "citation": spec.citation }), about))
            })
            .collect::<Result<_>>()?,
        Kind::Backbones => backbone::names()
            .map(|name| {
                let spec = backbone::spec(name)?;
                let value = serde_json::json!({ "about": spec.about, "licence": spec.licence, "pooling": spec.pooling, "head": spec.head });
                Ok((spec.name, value, spec.about))
            })
            .collect::<Result<_>>()?,
        Kind::Studies => sweep::names()
            .map(|name| {
                let spec = sweep::study(name)?;
                let value = serde_json::json!({ "title": spec.title, "question": spec.question, "runs_per_seed": spec.runs(1) });
                let about = format!("{} ({} runs per seed)", spec.question, spec.runs(1));
                Ok((spec.name, value, about))
            })
            .collect::<Result<_>>()?,
        Kind::Runs => read_records(&arguments.records)?
            .iter()
            .map(|record| {
                let asked = &record.asked;
                let about = format!(
                    "{} {} {} seed {}: {}",
                    asked.dataset.name, asked.method.name, asked.method.variant, asked.seed, board::summary(record)
                );
                Ok((record.id.clone(), serde_json::json!({ "dataset": asked.dataset.name, "method": asked.method.name, "variant": asked.method.variant, "seed": asked.seed, "status": record.status }), about))
            })
            .collect::<Result<_>>()?,
    };
    if arguments.json {
        let map: serde_json::Map<_, _> = rows
            .into_iter()
            .map(|(name, value, _)| (name, value))
            .collect();
        say!("{}", serde_json::to_string_pretty(&map)?)?;
    } else {
        let width = rows.iter().map(|(name, ..)| name.len()).max().unwrap_or(0);
        for (name, _, about) in rows {
            say!("{name:width$}  {about}")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `fetch`.
///
/// # Errors
/// If a name is unknown or cannot be had.
pub fn fetch(arguments: &cli::Fetch) -> Result<ExitCode> {
    let files = Files::new(arguments.offline)?;
    let backbones: Vec<_> = backbone::names().collect();
    let datasets: Vec<_> = datasets::names().collect();
    // All names are checked before anything is fetched.
    for name in &arguments.names {
        if !backbones.contains(&name.as_str()) && !datasets.contains(&name.as_str()) {
            bail!(
                "'{name}' is neither a backbone ({}) nor a data set ({})",
                backbones.join(", "),
                datasets.join(", ")
            );
        }
    }
    for name in &arguments.names {
        let place = if backbones.contains(&name.as_str()) {
            files.backbone(name, &Default::default())?.place
        } else {
            files.fetch_data(name)?
        };
        say!("{name}: {place}")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `check`.
///
/// # Errors
/// If standard output cannot be written. Problems are printed, all of them, and the exit code says whether there were any.
pub fn check(arguments: &cli::Check) -> Result<ExitCode> {
    let mut problems = Vec::new();
    let mut said = Ok(());
    let mut count = 0;
    let mut one = |what: String, result: Result<()>| {
        count += 1;
        match result {
            Ok(()) => {
                if let Err(e) = say!("ok  {what}") {
                    said = Err(e);
                }
            }
            Err(e) => problems.push(format!("{what}: {e:#}")),
        }
    };
    one(
        "recipe".into(),
        recipe::budgets().and_then(|budgets| {
            budgets
                .keys()
                .try_for_each(|b| recipe::Recipe::resolve(b, &Default::default(), 1000).map(drop))
        }),
    );
    for entry in methods::registry::ALL {
        one(
            format!("method {}", entry.name),
            methods::resolve(entry.name, &Default::default())
                .and_then(|_| methods::search(entry.name))
                .map(drop)
                .map_err(Into::into),
        );
    }
    for name in backbone::names() {
        one(
            format!("backbone {name}"),
            backbone::spec(name).map(drop).map_err(Into::into),
        );
    }
    for name in datasets::names() {
        one(
            format!("data set {name}"),
            datasets::spec(name).map(drop).map_err(Into::into),
        );
    }
    for name in sweep::names() {
        one(format!("study {name}"), sweep::study(name).map(drop));
    }
    if let Some(dataset) = &arguments.dataset {
        let overrides = plan::parse_settings(&arguments.settings);
        let run = cli::RunArguments {
            data: cli::DataArguments {
                dataset: dataset.clone(),
                text_columns: arguments.text_columns.clone(),
                label_column: arguments.label_column.clone(),
                no_stand_in: false,
                offline: arguments.offline,
            },
            budget: "standard".into(),
            backbone: arguments.backbone.clone(),
            settings: arguments.settings.clone(),
            out: None,
        };
        let plans = overrides
            .and_then(|_| base_plan(&run))
            .and_then(|(base, overrides)| {
                let setting = Setting::load(&base)?;
                Ok((plan::trials(&[], &overrides)?, base, setting))
            });
        match plans {
            Err(e) => one(format!("comparison on {dataset}"), Err(e)),
            Ok((trials, base, setting)) => {
                for trial in trials {
                    let what = format!("{dataset} with {}", trial.method);
                    let plan = RunPlan {
                        trial,
                        ..base.clone()
                    };
                    one(what, setting.asked(&plan).map(drop));
                }
            }
        }
    }
    said?;
    say!("{count} checked, {} with problems", problems.len())?;
    for problem in &problems {
        eprintln!("error: {problem}");
    }
    Ok(if problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(BAD_INPUT)
    })
}
