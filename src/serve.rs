//! Predicting rows with saved weights, of one task or of many: `predict` and `tasks`.
//!
//! Rows are read by a thread of their own, so a pass takes all rows that have come while the last one was computed:
//! a slow writer gets its answers at once, a fast one gets full batches, and only a few hundred rows are in memory.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Read, Write},
    path::Path,
    process::ExitCode,
    sync::mpsc::{Receiver, sync_channel},
    thread,
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    cli,
    commands::SOME_FAILED,
    output::reader_left,
    prepare::Files,
    task_library::{Prediction, Row, TaskLibrary, task_folders},
    weights::{self, SavedConfig},
};

/// Rows that are predicted together at most: rows of a task are gathered from among them.
const CHUNK: usize = 512;
/// Name of the only task where there is one.
const ONLY: &str = "";

/// A row as it is written; the task's name is needed where there are many.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    task: Option<String>,
    text: String,
    pair: Option<String>,
}

/// A row as it is answered.
#[derive(Serialize)]
struct Answer<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<&'a str>,
    #[serde(flatten)]
    said: Said<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Said<'a> {
    Predicted(&'a Prediction),
    Refused { line: usize, error: String },
}

/// `predict`.
///
/// # Errors
/// If weights or backbone cannot be had; with `--weights`, on the first row that cannot be answered, naming its line. With
/// `--tasks` such a row is answered with an error and the exit code is 1.
pub fn predict(arguments: &cli::Predict) -> Result<ExitCode> {
    let (library, many) = match (&arguments.weights, &arguments.tasks) {
        (Some(folder), None) => {
            let config = weights::read_config(folder)?;
            let library = library(&config, arguments.backbone.as_deref(), arguments.offline)?;
            library.add(ONLY, folder)?;
            (library, None)
        }
        (None, Some(folder)) => {
            let (library, unusable) =
                library_of(folder, arguments.backbone.as_deref(), arguments.offline)?;
            for (name, error) in &unusable {
                eprintln!("note: task '{name}' cannot be used: {error}");
            }
            (library, Some(unusable))
        }
        _ => bail!("name either --weights (one task) or --tasks (a folder of tasks)"),
    };
    let name = arguments.input.display().to_string();
    let input: Box<dyn Read + Send> = if name == "-" {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(&arguments.input).with_context(|| name.clone())?)
    };
    let lines = read_lines(input);
    let mut out = BufWriter::new(io::stdout().lock());
    let (mut refused, mut answered) = (0usize, 0usize);
    while let Some(chunk) = take(&lines, CHUNK) {
        // Where a row goes: to the library, or straight to its error.
        let mut rows = Vec::new();
        let mut places = Vec::with_capacity(chunk.len());
        for (number, line) in chunk {
            let line = line.with_context(|| name.clone())?;
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            match parse(&line, many.as_ref()) {
                Ok(row) => {
                    places.push((number, Ok(rows.len())));
                    rows.push(row);
                }
                Err(error) => places.push((number, Err(error))),
            }
        }
        let mut predictions: Vec<_> = library.predict(&rows).into_iter().map(Some).collect();
        for (number, place) in places {
            let (task, prediction) = match place {
                Ok(i) => (
                    Some(rows[i].task.as_str()),
                    predictions[i]
                        .take()
                        .unwrap_or_else(|| bail!("a row without an answer")),
                ),
                Err(error) => (None, Err(error)),
            };
            let said = match &prediction {
                Ok(prediction) => Said::Predicted(prediction),
                Err(error) if many.is_some() => {
                    refused += 1;
                    Said::Refused {
                        line: number,
                        error: format!("{error:#}"),
                    }
                }
                Err(_) => {
                    out.flush()?;
                    return prediction
                        .map(|_| ExitCode::SUCCESS)
                        .with_context(|| format!("{name}: line {number}"));
                }
            };
            answered += 1;
            let task = task.filter(|_| many.is_some());
            let answer = serde_json::to_string(&Answer { task, said })?;
            if reader_left(writeln!(out, "{answer}"))? {
                return Ok(ExitCode::SUCCESS);
            }
        }
        if reader_left(out.flush())? {
            return Ok(ExitCode::SUCCESS);
        }
    }
    let unusable = many.map_or(0, |unusable| unusable.len());
    if refused > 0 {
        eprintln!("{refused} of {answered} rows could not be answered; their lines say why");
    }
    Ok(if refused > 0 || unusable > 0 {
        ExitCode::from(SOME_FAILED)
    } else {
        ExitCode::SUCCESS
    })
}

/// The row of a line, if its task can be used.
fn parse(line: &[u8], unusable: Option<&BTreeMap<String, String>>) -> Result<Row> {
    let expected = match unusable {
        Some(_) => "expected {\"task\": …, \"text\": …, \"pair\": … (optional)}",
        None => "expected {\"text\": …, \"pair\": … (optional)}",
    };
    let line: Line = serde_json::from_slice(line).context(expected)?;
    let task = match (line.task, unusable) {
        (Some(task), Some(unusable)) => {
            if let Some(error) = unusable.get(&task) {
                bail!("task '{task}' cannot be used: {error}");
            }
            task
        }
        (None, None) => ONLY.to_owned(),
        (None, Some(_)) => bail!("{expected}: 'task' is missing"),
        (Some(task), None) => {
            bail!("{expected}: 'task' ('{task}') is for --tasks, a folder of many tasks")
        }
    };
    Ok(Row {
        task,
        text: line.text,
        pair: line.pair,
    })
}

/// Lines with their numbers from 1, read ahead by a thread.
fn read_lines(input: Box<dyn Read + Send>) -> Receiver<(usize, io::Result<Vec<u8>>)> {
    let (sender, receiver) = sync_channel(CHUNK);
    thread::spawn(move || {
        for (i, line) in BufReader::new(input).split(b'\n').enumerate() {
            // After an error there is nothing more to read; without a receiver, nobody to read for.
            let last = line.is_err();
            if sender.send((i + 1, line)).is_err() || last {
                break;
            }
        }
    });
    receiver
}

/// What has come, at least one item and at most `most`; nothing at the end.
fn take<T>(items: &Receiver<T>, most: usize) -> Option<Vec<T>> {
    let mut taken = vec![items.recv().ok()?];
    taken.extend(items.try_iter().take(most - 1));
    Some(taken)
}

/// A library over the backbone of `config`, or the named one.
fn library(config: &SavedConfig, named: Option<&str>, offline: bool) -> Result<TaskLibrary> {
    let files = Files::new(offline)?;
    let loaded = files
        .backbone(named.unwrap_or(&config.backbone), &BTreeMap::new())?
        .load()?;
    Ok(TaskLibrary::new(loaded))
}

/// A library of the tasks in a folder, over the named backbone or that of the first task that names one; and why the
/// others cannot be used.
fn library_of(
    folder: &Path,
    named: Option<&str>,
    offline: bool,
) -> Result<(TaskLibrary, BTreeMap<String, String>)> {
    let mut first_error = None;
    let first = task_folders(folder)?
        .values()
        .find_map(|path| match weights::read_config(path) {
            Ok(config) => Some(config),
            Err(error) => {
                first_error = first_error.take().or(Some(error));
                None
            }
        });
    let Some(first) = first else {
        let error = first_error.context("no task")?;
        return Err(error.context(format!("{}: no task there is readable", folder.display())));
    };
    let library = library(&first, named, offline)?;
    let unusable = library
        .add_all(folder)?
        .into_iter()
        .filter_map(|(name, added)| Some((name, format!("{:#}", added.err()?))))
        .collect();
    Ok((library, unusable))
}

/// `tasks`.
///
/// # Errors
/// If the folder or the backbone cannot be had. A task that cannot be loaded is listed with its error, and the exit code
/// is 1.
pub fn tasks(arguments: &cli::Tasks) -> Result<ExitCode> {
    let (library, unusable) = library_of(
        &arguments.folder,
        arguments.backbone.as_deref(),
        arguments.offline,
    )?;
    let names = library.names();
    let loaded = names
        .iter()
        .filter_map(|name| Some((name, library.get(name)?)));
    if arguments.json {
        let mut all: Vec<serde_json::Value> = loaded
            .map(|(name, task)| {
                let config = task.config();
                json!({
                    "name": name, "method": config.method, "dataset": config.dataset, "labels": config.labels,
                    "metrics": config.metrics, "backbone": config.backbone, "max_tokens": config.max_tokens,
                    "file_bytes": task.file_bytes(), "resident_bytes": task.resident_bytes(),
                })
            })
            .collect();
        all.extend(
            unusable
                .iter()
                .map(|(name, error)| json!({ "name": name, "error": error })),
        );
        say!("{}", serde_json::to_string_pretty(&all)?)?;
    } else {
        let bytes = |n: u64| reports::format::bytes(n as f64);
        let mut rows = vec![
            [
                "task", "method", "data set", "labels", "metric", "file", "resident",
            ]
            .map(str::to_owned)
            .to_vec(),
        ];
        rows.extend(loaded.map(|(name, task)| {
            let config = task.config();
            let metric = config.metrics.get_key_value("accuracy");
            let metric = metric.or_else(|| config.metrics.first_key_value());
            vec![
                name.clone(),
                config.method.clone(),
                config.dataset.clone(),
                config.labels.join(", "),
                metric.map_or("–".into(), |(name, value)| format!("{name} {value:.3}")),
                bytes(task.file_bytes()),
                bytes(task.resident_bytes()),
            ]
        }));
        say!("{}", columns(&rows).trim_end())?;
        for (name, error) in &unusable {
            eprintln!("error: task '{name}': {error}");
        }
    }
    Ok(if unusable.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(SOME_FAILED)
    })
}

/// Rows of cells as aligned columns; all rows have as many cells as the first.
pub(crate) fn columns(rows: &[Vec<String>]) -> String {
    let cells = rows.first().map_or(0, Vec::len);
    let width = |c: usize| rows.iter().map(|r| r[c].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..cells).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, w)| format!("{cell:w$}"));
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}
