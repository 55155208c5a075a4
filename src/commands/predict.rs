//! `predict`: rows in, labels out, with saved weights of one task or of many.
//!
//! Rows are read by a thread of their own, so a pass takes all rows that have come while the last one was computed:
//! a slow writer gets its answers at once, a fast one gets full batches, and only a few hundred rows are in memory.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::mpsc::{Receiver, sync_channel},
    thread,
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::{
    exit,
    output::reader_left,
    task_library::{self, Prediction, Row},
    weights,
};

/// Rows that are predicted together at most: rows of a task are gathered from among them.
const CHUNK: usize = 512;
/// Name of the only task where there is one.
const ONLY: &str = "";

/// Which weights answer.
pub enum Weights {
    /// A folder of saved weights.
    One(PathBuf),
    /// A folder of folders of saved weights; each row names its task by the folder's name.
    Many(PathBuf),
}

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
    reply: Reply<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Reply<'a> {
    Predicted(&'a Prediction),
    Refused { line: usize, error: String },
}

/// `predict`.
///
/// # Errors
/// If weights or backbone are not found; with `--weights`, on the first row that cannot be answered, naming its line. With
/// `--tasks` such a row is answered with an error and the exit code is 1.
pub fn predict(
    weights: &Weights,
    input: &Path,
    backbone: Option<&str>,
    offline: bool,
) -> Result<ExitCode> {
    let (library, many) = match weights {
        Weights::One(folder) => {
            let config = weights::read_config(folder)?;
            let library = task_library::open(&config, backbone, offline)?;
            library.add(ONLY, folder)?;
            (library, None)
        }
        Weights::Many(folder) => {
            let (library, unusable) = task_library::open_all(folder, backbone, offline)?;
            for (name, error) in &unusable {
                eprintln!("note: task '{name}' cannot be used: {error}");
            }
            (library, Some(unusable))
        }
    };
    let name = input.display().to_string();
    let source: Box<dyn Read + Send> = if name == "-" {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(input).with_context(|| name.clone())?)
    };
    let lines = read_lines(source);
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
            let reply = match &prediction {
                Ok(prediction) => Reply::Predicted(prediction),
                Err(error) if many.is_some() => {
                    refused += 1;
                    Reply::Refused {
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
            let answer = serde_json::to_string(&Answer { task, reply })?;
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
        ExitCode::from(exit::SOME_FAILED)
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
