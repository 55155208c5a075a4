//! `latency`: times saved weights side by side, without training.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use backbone::Backbone;
use datasets::{Encoded, Objective, Split};
use record::{Circumstances, Latency};
use reports::{
    Kept,
    costs::MARK,
    format,
    latency::{self as overhead, BACKBONE, noise_floor, overhead_text},
    measurement::Measurement,
    table::Table,
};
use serde_json::json;
use statistics::Ratio;

use crate::{
    execute::submit,
    folders,
    latency::{
        Contender, Effort, bare_contenders, copies, length_cells, measure_cell, own, prefix_cached,
        sentence_cells, task_contenders,
    },
    measure::Load,
    plan::DataChoice,
    prepare::{Files, LoadedBackbone},
    weights::{self, Task},
};

/// Lengths in tokens where none are named.
const LENGTHS: [usize; 3] = [16, 64, 128];
/// Tokens of a pass at most.
pub const MOST_TOKENS: usize = 1 << 20;

/// What is timed.
pub struct Asked {
    /// Folders of saved weights over one backbone.
    pub weights: Vec<PathBuf>,
    /// Batch sizes.
    pub batches: Vec<usize>,
    /// Lengths in tokens; without any the usual ones that the backbone reads.
    pub lengths: Vec<usize>,
    /// The data set whose validation sentences are timed too; that of the first weights where absent.
    pub dataset: Option<String>,
    /// How a file is read.
    pub options: datasets::FileOptions,
    /// Whether texts of fixed length only are timed.
    pub no_sentences: bool,
    /// Seconds for each batch size and length.
    pub seconds: f64,
    /// The backbone; the one that the first weights name where absent.
    pub backbone: Option<String>,
    /// Whether the network is off.
    pub offline: bool,
    /// Folder of a comparison whose report shall show the tables.
    pub out: Option<PathBuf>,
    /// Whether JSON is printed.
    pub json: bool,
    /// Folder of a batch script that measures on a node, instead of measuring here.
    pub plan_only: Option<PathBuf>,
    /// Goes to sbatch as it is.
    pub more: Vec<String>,
}

/// Weights under measurement.
struct Measured {
    name: String,
    folder: PathBuf,
    task: Task,
    copies: Vec<Task>,
    backbone: Backbone,
    merged: Option<Backbone>,
}

/// `latency`.
///
/// # Errors
/// If weights, backbone or data are not found.
pub fn latency(asked: &Asked) -> Result<ExitCode> {
    let most = |values: &[usize]| values.iter().copied().max().unwrap_or(0);
    let (batch, length) = (most(&asked.batches), most(&asked.lengths));
    ensure!(
        batch * length <= MOST_TOKENS,
        "--batches {batch} with --lengths {length}: a pass of {} tokens; at most {MOST_TOKENS} are timed",
        batch * length
    );
    ensure!(
        asked.more.is_empty() || asked.plan_only.is_some(),
        "arguments behind --: only with --plan-only DIR"
    );
    let weights = all_of(&asked.weights)?;
    let files = Files::new(asked.offline)?;
    let first = weights::read_config(&weights[0])?;
    let named = asked.backbone.as_deref();
    let loaded = weights::backbone_of(&files, &first, named, &Default::default())?;
    let room = loaded.backbone.config().max_tokens();
    let too_long: Vec<String> = asked
        .lengths
        .iter()
        .filter(|length| **length > room)
        .map(usize::to_string)
        .collect();
    ensure!(
        too_long.is_empty(),
        "--lengths {}: the backbone's table has {room} positions; accepted: 1 to {room}",
        too_long.join(",")
    );
    let lengths = match asked.lengths.is_empty() {
        true => LENGTHS
            .into_iter()
            .filter(|length| *length <= room)
            .collect(),
        false => asked.lengths.clone(),
    };
    let mut all = Vec::new();
    for folder in &weights {
        let task = weights::load(folder, &loaded)?;
        let backbone = loaded.backbone.clone().with_pooling(task.config.pooling)?;
        all.push(Measured {
            name: name_of(folder, &weights, &task),
            copies: copies(folder, &loaded, &*task.method, batch)?,
            merged: task.method.merge(&backbone).ok(),
            folder: folder.clone(),
            backbone,
            task,
        });
    }

    let effort = Effort {
        budget: Duration::from_secs_f64(asked.seconds),
        most: 1000,
    };
    let sizes: Vec<_> = asked.batches.iter().map(|b| (*b, effort)).collect();
    let vocabulary = loaded.tokenizer.vocabulary_size();
    let mut cells = length_cells(vocabulary, &lengths, &sizes)?;
    let examples = match sentences(&files, asked, &all[0].task, &loaded) {
        Ok(examples) => examples,
        Err(error) if asked.dataset.is_none() => {
            eprintln!("note: no real sentences are timed: {error:#}; --dataset names others");
            None
        }
        Err(error) => return Err(error),
    };
    if let Some(examples) = &examples {
        cells.extend(sentence_cells(examples, &sizes)?);
    }

    if let Some(folder) = &asked.plan_only {
        return plan_only(folder, asked.seconds * cells.len() as f64, &asked.more);
    }
    let load = Load::watch();
    // Rows: whose they are, and how they ran.
    let mut names: Vec<String> = vec!["–".into(); 2];
    let mut contenders = bare_contenders(&all[0].backbone, &all[0].task.head);
    for m in &all {
        let mut own = task_contenders(&m.backbone, &m.task, &m.copies, m.merged.as_ref());
        if let Some(examples) = &examples {
            own.extend(prefix_cached(&m.backbone, &m.task, examples)?);
        }
        names.extend(own.iter().map(|_| m.name.clone()));
        contenders.extend(own);
    }
    let shared: Vec<&Measured> = all
        .iter()
        .filter(|m| m.task.method.backbone().is_none())
        .collect();
    if shared.len() > 1 {
        names.push("all of them".into());
        let tasks: Vec<_> = shared.iter().map(|m| own(&m.task)).collect();
        let variant = format!("mixed_{}", tasks.len());
        contenders.push(Contender::new(variant, &shared[0].backbone, tasks));
    }
    let mut rows: Vec<(usize, Latency)> = Vec::new();
    for (i, cell) in cells.iter().enumerate() {
        if asked.seconds * cells.len() as f64 > 2.0 {
            eprintln!(
                "[{}/{}] batch {}, {}",
                i + 1,
                cells.len(),
                cell.batch,
                length_name(cell.length)
            );
        }
        rows.extend(measure_cell(&contenders, cell)?);
    }
    show(
        &rows,
        &names,
        &contenders,
        &all,
        &circumstances(load),
        asked.json,
        asked.out.as_deref(),
    )?;
    Ok(ExitCode::SUCCESS)
}

fn circumstances(load: Load) -> Circumstances {
    Circumstances {
        load: load.of_others(),
        ..crate::measure::circumstances(None)
    }
}

/// Folders of weights as they are; for the folder of a comparison, all weights that it has saved.
fn all_of(named: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for folder in named {
        let saved = folder.join("weights");
        if !saved.is_dir() || !folders::records_folder(folder).is_dir() {
            all.push(folder.clone());
            continue;
        }
        let entries = fs::read_dir(&saved).with_context(|| saved.display().to_string())?;
        let mut below: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
        below.retain(|f| f.is_dir());
        below.sort();
        ensure!(
            !below.is_empty(),
            "{}: no weights are saved there; name folders of weights, or the folder of a comparison that keeps them",
            saved.display()
        );
        all.extend(below);
    }
    Ok(all)
}

/// Writes a batch script that measures all of it in one process on one node with nobody else on it.
fn plan_only(folder: &Path, seconds: f64, more: &[String]) -> Result<ExitCode> {
    let folder = std::path::absolute(folder)?;
    let logs = folder.join("logs");
    fs::create_dir_all(&logs).with_context(|| logs.display().to_string())?;
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let mut command = vec![program.to_string_lossy().into_owned()];
    // As it was typed, but for what makes it a plan; Slurm starts it in the same folder.
    let mut typed = std::env::args().skip(1).take_while(|word| word != "--");
    while let Some(word) = typed.next() {
        if word == "--plan-only" {
            typed.next();
        } else if !word.starts_with("--plan-only=") && word != "--offline" {
            command.push(word);
        }
    }
    command.push("--offline".to_owned());
    let path = folder.join("latency.sbatch");
    // Reading the weights, and passes that are made whatever they take.
    let seconds = (2.0 * seconds) as u64 + 900;
    let script = submit::sbatch_once(&folder, "latency", seconds, true, &command);
    record::write_whole(&path, script.as_bytes())?;
    let mut words = vec!["sbatch".to_owned()];
    words.extend_from_slice(more);
    words.push(path.to_string_lossy().into_owned());
    say!("{}", submit::line(&words))?;
    say!(
        "# what it measures stands in {}/JOB.log, and with --out in the report",
        logs.display()
    )?;
    Ok(ExitCode::SUCCESS)
}

fn length_name(length: Option<usize>) -> String {
    length.map_or("sentences".to_owned(), |n| format!("{n} tokens"))
}

/// The method's name, with the folder's where several weights have one method.
fn name_of(folder: &Path, all: &[PathBuf], task: &Task) -> String {
    let method = &task.config.method;
    let others = all.iter().filter(|other| other.as_path() != folder);
    let same = others
        .filter_map(|other| weights::read_config(other).ok())
        .any(|config| config.method == *method);
    let name = folder.file_name().unwrap_or(folder.as_os_str());
    if same {
        format!("{method} ({})", name.to_string_lossy())
    } else {
        method.clone()
    }
}

/// Real sentences: of the data set that is named, or that the weights were trained on.
fn sentences(
    files: &Files,
    asked: &Asked,
    task: &Task,
    loaded: &LoadedBackbone,
) -> Result<Option<Encoded>> {
    if asked.no_sentences {
        return Ok(None);
    }
    let name = asked.dataset.as_ref().unwrap_or(&task.config.dataset);
    let data = files.data(&DataChoice::of(name, asked.options.clone()))?;
    let examples = data.dataset.split(Split::Validation);
    let max = task.config.max_tokens;
    let tokenizer = task.tokenizer(loaded);
    let encoded = match task.config.objective {
        Objective::Tokens => tokenizer.encode_tagged(examples, max),
        _ => tokenizer.encode_cached(examples, max, files.cache()),
    };
    Ok(Some(encoded.context("tokenising the sentences")?))
}

fn show(
    rows: &[(usize, Latency)],
    names: &[String],
    contenders: &[Contender<'_>],
    all: &[Measured],
    circumstances: &Circumstances,
    as_json: bool,
    out: Option<&Path>,
) -> Result<()> {
    let latencies: Vec<Latency> = rows.iter().map(|(_, l)| l.clone()).collect();
    let noise = noise_floor(&[&latencies], None);
    let memory = |m: &Measured| -> Result<(u64, u64)> {
        Ok((
            crate::task_library::weights_bytes(&m.folder)?,
            m.task.resident_bytes(&m.backbone),
        ))
    };
    if as_json {
        let cells: Vec<_> = rows
            .iter()
            .map(|(i, l)| {
                json!({
                    "weights": names[*i], "variant": l.variant, "batch": l.batch, "length": l.length,
                    "samples": l.samples, "p50_ms": l.p50_ms, "p90_ms": l.p90_ms, "p99_ms": l.p99_ms,
                    "rows_per_second": l.batch as f64 / l.p50_ms * 1e3, "overhead": over_backbone(rows, l).map(|r| r.ratio - 1.0),
                })
            })
            .collect();
        let weights = all
            .iter()
            .map(|m| {
                let (file, resident) = memory(m)?;
                Ok(json!({
                    "weights": m.name, "folder": m.folder, "method": m.task.config.method,
                    "file_bytes": file, "resident_bytes": resident,
                }))
            })
            .collect::<Result<Vec<_>>>()?;
        let value = json!({
            "noise_floor": noise, "circumstances": circumstances,
            "cells": cells, "weights": weights,
        });
        say!("{}", serde_json::to_string_pretty(&value)?)?;
        return Ok(());
    }
    let bytes = |n: u64| format::bytes(n as f64);
    let sizes = all
        .iter()
        .map(|m| {
            let (file, resident) = memory(m)?;
            Ok([m.name.clone(), bytes(file), bytes(resident)])
        })
        .collect::<Result<Vec<_>>>()?;
    let found = measurement(rows, names, contenders, &sizes, noise, circumstances);
    for table in &found.tables {
        if !table.caption.is_empty() {
            say!(
                "{}: p50/p99 in ms, and p50 over the backbone's",
                table.caption
            )?;
        }
        say!("{}", table.terminal(usize::MAX).trim_end())?;
    }
    for sentence in &found.sentences {
        say!("{sentence}")?;
    }
    if let Some(out) = out {
        let path = found.write(&out.join("latency"))?;
        eprintln!(
            "wrote {}; peftbench report --records {} shows it",
            path.display(),
            out.display()
        );
    }
    Ok(())
}

/// What was measured as tables: one per batch size, and the sizes of the weights.
fn measurement(
    rows: &[(usize, Latency)],
    names: &[String],
    contenders: &[Contender<'_>],
    sizes: &[[String; 3]],
    noise: Option<f64>,
    machine: &Circumstances,
) -> Measurement {
    let mark = if machine.busy() { MARK } else { "" };
    let batches: BTreeSet<usize> = rows.iter().map(|(_, l)| l.batch).collect();
    let mut tables = Vec::new();
    for batch in batches {
        // In the order of measurement.
        let mut lengths: Vec<Option<usize>> = Vec::new();
        for (_, l) in rows.iter().filter(|(_, l)| l.batch == batch) {
            if !lengths.contains(&l.length) {
                lengths.push(l.length);
            }
        }
        let titles = ["weights".to_owned(), "variant".to_owned()];
        let headings: Vec<String> = titles
            .into_iter()
            .chain(lengths.iter().map(|l| length_name(*l)))
            .collect();
        let mut cells = Vec::new();
        for (i, contender) in contenders.iter().enumerate() {
            let cell = |length: &Option<usize>| {
                let found = rows
                    .iter()
                    .find(|(j, l)| *j == i && l.batch == batch && l.length == *length);
                let Some((_, l)) = found else {
                    return "–".to_owned();
                };
                let over = match over_backbone(rows, l) {
                    Some(o) if contender.variant != BACKBONE => {
                        format!("{} at ", overhead_text(&o, noise))
                    }
                    _ => String::new(),
                };
                // The ratio first: two rows may have been timed in two states of the machine.
                let p99 = match l.samples >= overhead::PASSES_FOR_P99 {
                    true => format::ms(l.p99_ms),
                    false => "–".to_owned(),
                };
                format!("{over}{}/{p99}{mark}", format::ms(l.p50_ms))
            };
            let measured: Vec<String> = lengths.iter().map(cell).collect();
            if measured.iter().any(|c| c != "–") {
                let mut line = vec![names[i].clone(), contender.variant.clone()];
                line.extend(measured);
                cells.push(line);
            }
        }
        tables.push(Table::of_texts(
            &format!("batch {batch}"),
            2,
            &headings,
            cells,
        ));
    }
    let titles = ["weights", "file", "loaded"].map(str::to_owned);
    tables.push(Table::of_texts(
        "",
        1,
        &titles,
        sizes.iter().map(|row| row.to_vec()).collect(),
    ));
    let busy = machine.load.filter(|_| machine.busy()).map(|load| {
        format!("{MARK}: measured while other work kept {load:.1} cores of the machine busy; measure again on a quiet one")
    });
    Measurement {
        title: "Latency by batch and length".into(),
        description: format!(
            "p50/p99 in ms of one pass, and p50 over the backbone's, all variants in turn on {}, {}. mixed_N: the batch is \
             divided among N tasks of the method. prefix_cached: what all sentences begin with was read beforehand. Below: what the weights take on disk and, loaded, beside the backbone.",
            machine.processor,
            format::plural(machine.threads, "thread")
        ),
        tables,
        sentences: vec![match noise {
            Some(noise) => format!(
                "≈: below the noise floor of {:.1} %, which two measurements of the backbone keep below in 19 of 20 settings",
                100.0 * noise
            ),
            None => "no noise floor: no setting was measured".to_owned(),
        }]
        .into_iter()
        .chain(busy)
        .collect(),
    }
}

/// Median over the backbone's in the same setting of this process.
fn over_backbone(rows: &[(usize, Latency)], l: &Latency) -> Option<Ratio> {
    let same = |(_, b): &&(usize, Latency)| {
        b.variant == BACKBONE && b.batch == l.batch && b.length == l.length
    };
    let (_, backbone) = rows.iter().find(same)?;
    let process = [l.clone(), backbone.clone()];
    overhead::over_backbone(&[&process], &l.variant, (l.batch, l.length))
}
