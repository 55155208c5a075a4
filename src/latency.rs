//! Latency that can be believed: every variant in turn, over the same batches, in one process.
//!
//! A **setting** is a batch size and a length in tokens, or real sentences. In each setting the contenders take turns,
//! a different one first each time, so that a change of the machine's speed hits all alike; the bare backbone takes part
//! twice, and what it differs from itself by is the noise floor (see [`reports::latency`]). A pass is the one that
//! prediction makes ([`mixed_logits`]): packed batch, backbone with hooks, head. The first eighth of the passes (at least
//! one) is warm-up.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use backbone::{Backbone, Batch};
use datasets::{Encoded, Split};
use methods::{HeadOnly, PeftMethod};
use rand::Rng;
use reports::{
    format,
    latency::{BACKBONE, BACKBONE_AGAIN, noise_floor, overhead, overhead_text},
    measurement::{Measurement, Table},
    record::Latency,
};
use serde_json::json;

use crate::{
    cli,
    head::Head,
    plan::DataChoice,
    prepare::{Files, LoadedBackbone},
    serve::columns,
    task_library::{Part, mixed_logits},
    trainer::batch_of,
    weights::{self, Task},
};

/// Numbers of tasks that share a mixed batch.
const TASKS: [usize; 2] = [4, 16];
/// Timed passes that each contender makes at least.
const LEAST: usize = 5;

/// How long a setting is measured.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Time for all contenders together, warm-up included.
    pub budget: Duration,
    /// Timed passes that each contender makes at most.
    pub most: usize,
}

/// Batch sizes of what a run records, over real sentences, each with its effort: a few seconds in all. The full grid of
/// lengths belongs to the `latency` command.
pub const RECORDED: [(usize, Effort); 3] = [
    (1, effort(2000, 128)),
    (8, effort(1000, 32)),
    (32, effort(1500, 16)),
];

const fn effort(milliseconds: u64, most: usize) -> Effort {
    Effort {
        budget: Duration::from_millis(milliseconds),
        most,
    }
}

/// One variant of one method: how it runs.
pub struct Contender<'a> {
    /// As in [`Latency::variant`].
    pub variant: String,
    /// The backbone it runs over.
    pub backbone: Backbone,
    /// The tasks that a batch is divided among.
    pub tasks: Vec<(&'a dyn PeftMethod, &'a Head)>,
}

impl Contender<'_> {
    fn run(&self, batch: &Batch) -> backbone::Result<()> {
        let (examples, n) = (batch.spans().count(), self.tasks.len());
        let parts: Vec<Part<'_>> = self
            .tasks
            .iter()
            .enumerate()
            .map(|(i, (method, head))| Part {
                method: *method,
                head,
                examples: (i + 1) * examples / n - i * examples / n,
            })
            .collect();
        mixed_logits(&self.backbone, batch, &parts).map(drop)
    }

    /// Whether every task gets an example and every example fits the position table.
    fn fits(&self, setting: &Setting) -> bool {
        let virtual_tokens = self.tasks.iter().map(|(m, _)| m.virtual_tokens()).max();
        let room = self.backbone.config().max_tokens();
        self.tasks.len() <= setting.batch && setting.longest + virtual_tokens.unwrap_or(0) <= room
    }
}

/// A batch size and a length with batches to run.
pub struct Setting {
    batch: usize,
    length: Option<usize>,
    longest: usize,
    batches: Vec<Batch>,
    effort: Effort,
}

/// Settings over real sentences; a batch size that there are too few sentences for is left out.
///
/// # Errors
/// If a batch cannot be made.
pub fn sentence_cells(
    examples: &Encoded,
    sizes: &[(usize, Effort)],
) -> backbone::Result<Vec<Setting>> {
    sizes
        .iter()
        .filter(|(batch, _)| *batch <= examples.len())
        .map(|(batch, effort)| {
            let indices: Vec<u32> = (0..examples.len() as u32).collect();
            let groups = indices.chunks_exact(*batch).take(effort.most);
            Ok(Setting {
                batch: *batch,
                length: None,
                longest: examples.lengths().into_iter().max().unwrap_or(0),
                batches: groups
                    .map(|group| batch_of(examples, group))
                    .collect::<backbone::Result<_>>()?,
                effort: *effort,
            })
        })
        .collect()
}

/// Settings of fixed length, over random tokens of the vocabulary: what the tokens are changes no time.
///
/// # Errors
/// If a batch cannot be made.
pub fn length_cells(
    vocabulary: usize,
    lengths: &[usize],
    sizes: &[(usize, Effort)],
) -> backbone::Result<Vec<Setting>> {
    let mut rng = datasets::stream(0, "latency");
    let mut settings = Vec::new();
    for (batch, effort) in sizes {
        for length in lengths {
            let ids = (0..batch * length)
                .map(|_| rng.random_range(0..vocabulary as u32))
                .collect();
            let offsets = (0..=*batch).map(|i| i * length).collect();
            settings.push(Setting {
                batch: *batch,
                length: Some(*length),
                longest: *length,
                batches: vec![Batch::new(ids, vec![0; batch * length], offsets)?],
                effort: *effort,
            });
        }
    }
    Ok(settings)
}

/// Times every contender in every setting. A contender that does not fit a setting (more tasks than rows, or too long
/// with its virtual tokens) is left out there.
///
/// # Errors
/// If a forward pass fails.
pub fn measure(
    contenders: &[Contender<'_>],
    settings: &[Setting],
) -> backbone::Result<Vec<Latency>> {
    let measured = settings.iter().map(|s| measure_setting(contenders, s));
    let measured: Vec<_> = measured.collect::<backbone::Result<_>>()?;
    Ok(measured.into_iter().flatten().map(|(_, l)| l).collect())
}

/// Latencies with the index of their contender.
fn measure_setting(
    contenders: &[Contender<'_>],
    setting: &Setting,
) -> backbone::Result<Vec<(usize, Latency)>> {
    let fitting: Vec<usize> = (0..contenders.len())
        .filter(|i| contenders[*i].fits(setting))
        .collect();
    let mut times = vec![Vec::new(); contenders.len()];
    let begun = Instant::now();
    let warm_up = |round: usize| (round / 8).max(1);
    for (round, batch) in setting.batches.iter().cycle().enumerate() {
        let timed = round.saturating_sub(warm_up(round));
        if timed >= setting.effort.most
            || timed >= LEAST && begun.elapsed() >= setting.effort.budget
        {
            break;
        }
        for turn in 0..fitting.len() {
            let i = fitting[(round + turn) % fitting.len()];
            let clock = Instant::now();
            contenders[i].run(batch)?;
            times[i].push(clock.elapsed().as_secs_f64() * 1e3);
        }
    }
    Ok(fitting
        .into_iter()
        .map(|i| {
            let first = warm_up(times[i].len());
            let mut timed = times[i].split_off(first);
            timed.sort_by(f64::total_cmp);
            let at = |p: f64| timed[((timed.len() as f64 * p) as usize).min(timed.len() - 1)];
            let latency = Latency {
                variant: contenders[i].variant.clone(),
                batch: setting.batch,
                length: setting.length,
                samples: timed.len(),
                p50_ms: at(0.5),
                p90_ms: at(0.9),
                p99_ms: at(0.99),
            };
            (i, latency)
        })
        .collect())
}

/// Loads saved weights so many more times that the largest mixed batch has a task each; none for a method that owns its
/// backbone, which shares no pass.
///
/// # Errors
/// As [`weights::load`].
pub fn copies(
    folder: &Path,
    loaded: &LoadedBackbone,
    method: &dyn PeftMethod,
) -> Result<Vec<Task>> {
    let n = match method.backbone() {
        Some(_) => 0,
        None => TASKS.into_iter().max().unwrap_or(1) - 1,
    };
    (0..n).map(|_| weights::load(folder, loaded)).collect()
}

fn own(task: &Task) -> (&dyn PeftMethod, &Head) {
    (&*task.method, &task.head)
}

fn bare(head: &Head) -> (&dyn PeftMethod, &Head) {
    (&HeadOnly, head)
}

/// The bare backbone twice.
pub fn bare_contenders<'a>(backbone: &Backbone, head: &'a Head) -> Vec<Contender<'a>> {
    [BACKBONE, BACKBONE_AGAIN]
        .map(|variant| Contender {
            variant: variant.to_owned(),
            backbone: backbone.clone(),
            tasks: vec![bare(head)],
        })
        .into()
}

/// The variants of one task: unmerged, merged if it can be, and mixed with copies of itself.
fn task_contenders<'a>(
    backbone: &Backbone,
    task: &'a Task,
    copies: &'a [Task],
    merged: Option<&Backbone>,
) -> Vec<Contender<'a>> {
    let mut contenders = vec![Contender {
        variant: "unmerged".to_owned(),
        backbone: task.method.backbone().unwrap_or(backbone).clone(),
        tasks: vec![own(task)],
    }];
    contenders.extend(merged.map(|merged| Contender {
        variant: "merged".to_owned(),
        backbone: merged.clone(),
        tasks: vec![bare(&task.head)],
    }));
    let all: Vec<_> = std::iter::once(task).chain(copies).map(own).collect();
    for n in TASKS.into_iter().filter(|n| *n <= all.len()) {
        contenders.push(Contender {
            variant: format!("mixed_{n}"),
            backbone: backbone.clone(),
            tasks: all[..n].to_vec(),
        });
    }
    contenders
}

/// The bare backbone twice, and the variants of one task.
pub fn contenders<'a>(
    backbone: &Backbone,
    task: &'a Task,
    copies: &'a [Task],
    merged: Option<&Backbone>,
) -> Vec<Contender<'a>> {
    let mut all = bare_contenders(backbone, &task.head);
    all.extend(task_contenders(backbone, task, copies, merged));
    all
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
/// If weights, backbone or data cannot be had.
pub fn command(arguments: &cli::Latency) -> Result<ExitCode> {
    ensure!(
        arguments
            .batches
            .iter()
            .chain(&arguments.lengths)
            .all(|n| *n > 0),
        "--batches and --lengths: 0 is not possible; accepted: 1 or more"
    );
    ensure!(
        arguments.seconds > 0.0 && arguments.seconds.is_finite(),
        "--seconds {}: accepted: above 0",
        arguments.seconds
    );
    let files = Files::new(arguments.offline)?;
    let first = weights::read_config(&arguments.weights[0])?;
    let named = arguments.backbone.as_ref().unwrap_or(&first.backbone);
    let loaded = files.backbone(named, &Default::default())?.load()?;
    let mut all = Vec::new();
    for folder in &arguments.weights {
        let task = weights::load(folder, &loaded)?;
        let backbone = loaded.backbone.clone().with_pooling(task.config.pooling)?;
        all.push(Measured {
            name: name_of(folder, &arguments.weights, &task),
            copies: copies(folder, &loaded, &*task.method)?,
            merged: task.method.merge(&backbone).ok(),
            folder: folder.clone(),
            backbone,
            task,
        });
    }

    let effort = Effort {
        budget: Duration::from_secs_f64(arguments.seconds),
        most: 1000,
    };
    let sizes: Vec<_> = arguments.batches.iter().map(|b| (*b, effort)).collect();
    let vocabulary = loaded.tokenizer.vocabulary_size();
    let mut settings = length_cells(vocabulary, &arguments.lengths, &sizes)?;
    match sentences(&files, arguments, &all[0].task, &loaded) {
        Ok(Some(examples)) => settings.extend(sentence_cells(&examples, &sizes)?),
        Ok(None) => {}
        Err(error) if arguments.dataset.is_none() => {
            eprintln!("note: no real sentences are timed: {error:#}; --dataset names others");
        }
        Err(error) => return Err(error),
    }

    // Rows: whose they are, and how they ran.
    let mut names: Vec<String> = vec!["–".into(); 2];
    let mut contenders = bare_contenders(&all[0].backbone, &all[0].task.head);
    for m in &all {
        let own = task_contenders(&m.backbone, &m.task, &m.copies, m.merged.as_ref());
        names.extend(own.iter().map(|_| m.name.clone()));
        contenders.extend(own);
    }
    let shared: Vec<&Measured> = all
        .iter()
        .filter(|m| m.task.method.backbone().is_none())
        .collect();
    if shared.len() > 1 {
        names.push("all of them".into());
        contenders.push(Contender {
            variant: format!("mixed_{}", shared.len()),
            backbone: shared[0].backbone.clone(),
            tasks: shared.iter().map(|m| own(&m.task)).collect(),
        });
    }
    let mut rows: Vec<(usize, Latency)> = Vec::new();
    for (i, setting) in settings.iter().enumerate() {
        if arguments.seconds * settings.len() as f64 > 2.0 {
            eprintln!(
                "[{}/{}] batch {}, {}",
                i + 1,
                settings.len(),
                setting.batch,
                length_name(setting.length)
            );
        }
        rows.extend(measure_setting(&contenders, setting)?);
    }
    show(
        &rows,
        &names,
        &contenders,
        &all,
        arguments.json,
        arguments.out.as_deref(),
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
    arguments: &cli::Latency,
    task: &Task,
    loaded: &LoadedBackbone,
) -> Result<Option<Encoded>> {
    if arguments.no_sentences {
        return Ok(None);
    }
    let data = files.data(&DataChoice {
        name: arguments
            .dataset
            .clone()
            .unwrap_or_else(|| task.config.dataset.clone()),
        text_columns: arguments.text_columns.clone(),
        label_column: arguments.label_column.clone(),
        stand_in: false,
        stand_in_for: None,
    })?;
    let examples = data.dataset.split(Split::Validation);
    let max = task.config.max_tokens;
    let encoded = loaded.tokenizer.encode_cached(examples, max, files.cache());
    Ok(Some(encoded.context("tokenising the sentences")?))
}

fn show(
    rows: &[(usize, Latency)],
    names: &[String],
    contenders: &[Contender<'_>],
    all: &[Measured],
    as_json: bool,
    out: Option<&Path>,
) -> Result<()> {
    let latencies: Vec<Latency> = rows.iter().map(|(_, l)| l.clone()).collect();
    let noise = noise_floor(&[&latencies]);
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
                    "rows_per_second": l.batch as f64 / l.p50_ms * 1e3, "overhead": over_backbone(rows, l),
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
            "noise_floor": noise, "circumstances": crate::measure::circumstances(),
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
    let found = measurement(rows, names, contenders, &sizes, noise);
    for table in &found.tables {
        if !table.caption.is_empty() {
            say!(
                "{}: p50/p99 in ms, and p50 over the backbone's",
                table.caption
            )?;
        }
        say!("{}", columns(&table.cells))?;
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
) -> Measurement {
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
        let mut cells = vec![
            titles
                .into_iter()
                .chain(lengths.iter().map(|l| length_name(*l)))
                .collect::<Vec<_>>(),
        ];
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
                        format!(" {}", overhead_text(o, noise))
                    }
                    _ => String::new(),
                };
                format!("{}/{}{over}", format::ms(l.p50_ms), format::ms(l.p99_ms))
            };
            let measured: Vec<String> = lengths.iter().map(cell).collect();
            if measured.iter().any(|c| c != "–") {
                let mut line = vec![names[i].clone(), contender.variant.clone()];
                line.extend(measured);
                cells.push(line);
            }
        }
        tables.push(Table {
            caption: format!("batch {batch}"),
            names: 2,
            cells,
        });
    }
    let titles = ["weights", "file", "loaded"].map(str::to_owned);
    tables.push(Table {
        caption: String::new(),
        names: 1,
        cells: std::iter::once(&titles)
            .chain(sizes)
            .map(|row| row.to_vec())
            .collect(),
    });
    let machine = crate::measure::circumstances();
    Measurement {
        title: "Latency by batch and length".into(),
        description: format!(
            "p50/p99 in ms of one pass, and p50 over the backbone's, all variants in turn on {}, {}. mixed_N: the batch is \
             divided among N tasks of the method. Below: what the weights take on disk and, loaded, beside the backbone.",
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
        }],
    }
}

/// Median over the backbone's in the same setting, minus 1.
fn over_backbone(rows: &[(usize, Latency)], l: &Latency) -> Option<f64> {
    let (_, backbone) = rows
        .iter()
        .find(|(_, b)| b.variant == BACKBONE && b.batch == l.batch && b.length == l.length)?;
    overhead(l.p50_ms, backbone.p50_ms)
}
