//! What each command does.

use std::{
    fs::File,
    io::{BufRead, BufReader, IsTerminal, Read, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use datasets::Example;
use reports::{
    Comparison,
    record::{RunRecord, Status},
    store, tables,
};
use serde::{Deserialize, Serialize};

use crate::{
    cli::{self, Kind},
    compare::{self, Telling},
    plan::{self, DataChoice, RunPlan, Trial},
    prepare::{self, Files},
    recipe,
    run::{self, Setting},
    trainer::{Event, Model},
    weights,
};

/// Exit code of bad input: nothing was lost.
pub const BAD_INPUT: u8 = 2;
/// Exit code after ctrl-C.
const INTERRUPTED: u8 = 130;
/// Exit code when runs failed.
const RUNS_FAILED: u8 = 1;

/// A flag that ctrl-C (or a request to terminate) sets.
///
/// # Errors
/// If the handler cannot be set.
fn stop_flag() -> Result<Arc<AtomicBool>> {
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
fn base_plan(run: &cli::RunArguments) -> Result<(RunPlan, plan::Overrides)> {
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
        },
        recipe,
        budget: run.budget.clone(),
        seed: 0,
        offline: run.data.offline,
        out: run
            .out
            .clone()
            .unwrap_or_else(|| compare::default_out(&run.data.dataset)),
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
    let budgets = recipe::budgets()?;
    let seeds = arguments
        .seeds
        .or_else(|| budgets.get(&base.budget).copied())
        .unwrap_or(1);
    ensure!(seeds >= 1, "--seeds 0: at least one is needed");
    let stop = stop_flag()?;
    let telling = if arguments.quiet {
        Telling::Quiet
    } else {
        Telling::Normal
    };
    let ended = compare::compare(&base, &trials, &compare::seeds(seeds), telling, &stop)?;
    if ended.reused > 0 && telling == Telling::Normal {
        eprintln!(
            "{} of {} runs had a record already",
            ended.reused,
            trials.len() * seeds
        );
    }
    if ended.interrupted {
        eprintln!(
            "interrupted: {} of {} runs have ended; the same command goes on with the rest",
            ended
                .records
                .iter()
                .filter(|r| r.status != Status::Interrupted)
                .count(),
            trials.len() * seeds
        );
        return Ok(ExitCode::from(INTERRUPTED));
    }
    show(&ended.records, &base.out, arguments.json)?;
    let failed = ended.records.iter().any(|r| r.status != Status::Ok);
    Ok(if failed {
        ExitCode::from(RUNS_FAILED)
    } else {
        ExitCode::SUCCESS
    })
}

/// Prints the comparisons of records and writes the report.
fn show(records: &[RunRecord], out: &Path, json: bool) -> Result<()> {
    let comparisons = Comparison::from_records(records);
    let written = reports::write_report(records, out)?;
    let mut stdout = std::io::stdout().lock();
    if json {
        let all: Vec<_> = comparisons.iter().map(tables::json).collect();
        serde_json::to_writer_pretty(&mut stdout, &all)?;
        writeln!(stdout)?;
        return Ok(());
    }
    let width = terminal_width();
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    for comparison in &comparisons {
        writeln!(stdout, "{}", tables::terminal(comparison, width, colour))?;
    }
    for file in written.files {
        eprintln!("wrote {}", file.display());
    }
    Ok(())
}

fn terminal_width() -> usize {
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
    let line = compare::Line::new(&plan, 1, 1, Telling::Normal);
    let record = run::run(&plan, started, &stop, &mut |event| line.tell(&event))?;
    line.close(&record);
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&record)?);
    } else if record.status == Status::Ok {
        println!("{}", run::weights_folder(&plan.out, &record.id).display());
    }
    Ok(code_of(&record))
}

fn code_of(record: &RunRecord) -> ExitCode {
    match record.status {
        Status::Ok => ExitCode::SUCCESS,
        Status::Interrupted => ExitCode::from(INTERRUPTED),
        Status::Diverged { .. } | Status::Failed { .. } => ExitCode::from(RUNS_FAILED),
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
        println!(
            "{}",
            serde_json::json!({ "dataset": data.dataset.name, "split": split.name(), "examples": examples, "metrics": metrics })
        );
    } else {
        for (name, value) in metrics {
            println!(
                "{name} {value:.4} ({examples} examples of {}, {})",
                data.dataset.name,
                split.name()
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn task_backbone(
    files: &Files,
    config: &weights::SavedConfig,
    named: Option<&str>,
) -> Result<prepare::LoadedBackbone> {
    let overrides = [
        ("pooling".to_owned(), config.pooling.name().to_owned()),
        (
            "head".to_owned(),
            serde_yaml::to_string(&config.head)?.trim().to_owned(),
        ),
    ];
    files
        .backbone(named.unwrap_or(&config.backbone), &overrides.into())?
        .load()
}

/// A row to predict.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    text: String,
    pair: Option<String>,
}

/// A predicted row.
#[derive(Serialize)]
struct Prediction<'a> {
    label: &'a str,
    probabilities: Vec<f32>,
    logits: Vec<f32>,
}

/// Rows that share a forward pass.
const ROWS: usize = 32;

/// `predict`.
///
/// # Errors
/// On bad input, naming the line.
pub fn predict(arguments: &cli::Predict) -> Result<ExitCode> {
    let config = weights::read_config(&arguments.weights)?;
    let files = Files::new(arguments.offline)?;
    let loaded = task_backbone(&files, &config, arguments.backbone.as_deref())?;
    let task = weights::load(&arguments.weights, &loaded)?;
    let model = Model {
        backbone: &loaded.backbone,
        method: &*task.method,
        head: &task.head,
    };
    let name = arguments.input.display().to_string();
    let input: Box<dyn BufRead> = if name == "-" {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(BufReader::new(
            File::open(&arguments.input).with_context(|| name.clone())?,
        ))
    };
    let mut out = std::io::stdout().lock();
    let mut lines = input.split(b'\n').enumerate();
    loop {
        let mut examples = Vec::new();
        for (number, line) in lines.by_ref() {
            let line = line.with_context(|| name.clone())?;
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let row: Row = serde_json::from_slice(&line).with_context(|| {
                format!(
                    "{name}: line {}: expected {{\"text\": …, \"pair\": … (optional)}}",
                    number + 1
                )
            })?;
            examples.push(Example {
                text: row.text,
                pair: row.pair,
                label: None,
            });
            if examples.len() == ROWS {
                break;
            }
        }
        if examples.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        let encoded = loaded.tokenizer.encode(&examples, config.max_tokens)?;
        for logits in model.all_logits(&encoded)? {
            let best = crate::trainer::argmax(&logits) as usize;
            let prediction = Prediction {
                label: &config.labels[best],
                probabilities: softmax(&logits),
                logits,
            };
            serde_json::to_writer(&mut out, &prediction)?;
            writeln!(out)?;
        }
        out.flush()?;
    }
}

fn softmax(logits: &[f32]) -> Vec<f32> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exp: Vec<f32> = logits.iter().map(|v| (v - max).exp()).collect();
    let sum: f32 = exp.iter().sum();
    exp.into_iter().map(|e| e / sum).collect()
}

/// Reads the records of a folder, or of a comparison's folder, or of all comparisons below it.
fn read_records(folder: &Path) -> Result<Vec<RunRecord>> {
    ensure!(
        folder.is_dir(),
        "{}: no such folder; run peftbench compare first, or name --records",
        folder.display()
    );
    let mut folders: Vec<PathBuf> = vec![folder.to_owned(), folder.join("records")];
    for entry in std::fs::read_dir(folder)
        .with_context(|| folder.display().to_string())?
        .flatten()
    {
        folders.push(entry.path().join("records"));
    }
    let mut records = Vec::new();
    for folder in folders.iter().filter(|f| f.is_dir()) {
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
    let records = read_records(&arguments.records)?;
    ensure!(
        !records.is_empty(),
        "{}: no records there; run peftbench compare first",
        arguments.records.display()
    );
    show(
        &records,
        arguments.out.as_ref().unwrap_or(&arguments.records),
        arguments.json,
    )?;
    Ok(ExitCode::SUCCESS)
}

/// `list`.
///
/// # Errors
/// If a YAML is not valid or records cannot be read.
pub fn list(arguments: &cli::List) -> Result<ExitCode> {
    let rows: Vec<(String, serde_json::Value, String)> = match arguments.what {
        Kind::Methods if !arguments.json => {
            print!("{}", crate::capabilities::table()?);
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
        Kind::Runs => read_records(&arguments.records)?
            .iter()
            .map(|record| {
                let asked = &record.asked;
                let about = format!(
                    "{} {} {} seed {}: {}",
                    asked.dataset.name, asked.method.name, asked.method.variant, asked.seed, compare::summary(record)
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
        println!("{}", serde_json::to_string_pretty(&map)?);
    } else {
        let width = rows.iter().map(|(name, ..)| name.len()).max().unwrap_or(0);
        for (name, _, about) in rows {
            println!("{name:width$}  {about}");
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
        println!("{name}: {place}");
    }
    Ok(ExitCode::SUCCESS)
}

/// `check`.
///
/// # Errors
/// Never: problems are printed, all of them, and the exit code says whether there were any.
pub fn check(arguments: &cli::Check) -> Result<ExitCode> {
    let mut problems = Vec::new();
    let mut count = 0;
    let mut one = |what: String, result: Result<()>| {
        count += 1;
        match result {
            Ok(()) => println!("ok  {what}"),
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
    println!("{count} checked, {} with problems", problems.len());
    for problem in &problems {
        eprintln!("error: {problem}");
    }
    Ok(if problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(BAD_INPUT)
    })
}
