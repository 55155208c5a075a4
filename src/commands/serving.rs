//! `serving`: what it takes to serve N tasks as N models, or as one backbone with N sets of weights.
//!
//! A model of its own for each task is a fully trained one or one with its method merged: both have the size and the speed of the
//! backbone, so they are one row. Memory and disk are counted; times are measured here, on this machine, in turn.

use std::{
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use backbone::{Backbone, Batch};
use methods::{HeadOnly, PeftMethod};
use rand::Rng;
use reports::{
    format,
    latency::PASSES_FOR_P99,
    table::{ABSENT, Cell, Column, Table},
};
use serde_json::json;

use crate::{
    latency::percentile,
    output,
    task_library::{self, LoadedTask, Part, mixed_logits},
};

/// Rows of the mixed batch.
const ROWS: usize = 32;
/// Tokens of a row.
const LENGTH: usize = 24;

/// One way to serve.
struct Way {
    name: &'static str,
    disk: f64,
    memory: f64,
    start: f64,
    /// Median of one row, in milliseconds, and its 99th percentile where there were passes enough for one.
    row: (f64, Option<f64>),
    /// Median of a mixed batch, in milliseconds.
    batch: f64,
}

/// `serving`.
///
/// # Errors
/// If the tasks or their backbone cannot be loaded.
pub fn serving(
    folder: &Path,
    named: Option<&str>,
    offline: bool,
    seconds: f64,
    as_json: bool,
) -> Result<ExitCode> {
    let clock = Instant::now();
    let library = task_library::open_for(folder, named, offline)?;
    let base_start = clock.elapsed().as_secs_f64();
    for (name, added) in library.add_all(folder)? {
        if let Err(error) = added {
            eprintln!("note: task '{name}' cannot be used: {error:#}");
        }
    }
    let start = clock.elapsed().as_secs_f64();
    let has_its_own = |name: &String| {
        library
            .get(name)
            .is_some_and(|task| owns_its_backbone(&task))
    };
    let left_out: Vec<String> = library.names().into_iter().filter(has_its_own).collect();
    if !left_out.is_empty() {
        eprintln!(
            "note: left out, for a backbone of its own that is not shared: {}",
            format::list(&left_out)
        );
    }
    let tasks: Vec<_> = library
        .names()
        .iter()
        .filter_map(|name| library.get(name))
        .filter(|task| !owns_its_backbone(task))
        .collect();
    let n = tasks.len();
    ensure!(
        n >= 2,
        "{}: {n} tasks there share a backbone; two are needed (a method that trains the backbone itself shares none)",
        folder.display()
    );
    let frozen = &library.loaded().backbone;
    let base = frozen.bytes() as f64;
    let [_, _, weights] = &library.loaded().files;
    let file = std::fs::metadata(weights)?.len() as f64;

    // Of each task its own model: merged where the method can be, else a copy of the backbone, which is as large and as fast.
    let models: Vec<Backbone> = tasks
        .iter()
        .map(|task| {
            let merged = task.part(1).method.merge(task.backbone());
            merged.unwrap_or_else(|_| task.backbone().clone())
        })
        .collect();
    let mut rng = datasets::stream(0, "serving");
    let mut batch = |rows: usize| {
        let vocabulary = frozen.config().vocabulary as u32;
        let ids = (0..rows * LENGTH).map(|_| rng.random_range(0..vocabulary));
        let offsets = (0..=rows).map(|i| i * LENGTH).collect();
        Batch::new(ids.collect(), vec![0; rows * LENGTH], offsets)
    };
    let one = batch(1)?;
    let shares: Vec<usize> = (0..n).map(|i| (i + 1) * ROWS / n - i * ROWS / n).collect();
    let all = batch(ROWS)?;
    let parts_of_all: Vec<Batch> = shares
        .iter()
        .filter(|s| **s > 0)
        .map(|s| batch(*s))
        .collect::<backbone::Result<_>>()?;
    let plain = |i: usize, batch: &Batch| {
        let own = tasks[i].part(0);
        let part = Part {
            method: &HeadOnly as &dyn PeftMethod,
            head: own.head,
            examples: batch.spans().count(),
        };
        mixed_logits(&models[i], batch, &[part]).map(drop)
    };
    let budget = Duration::from_secs_f64(seconds / 4.0);
    let [rows_own, rows_shared] = in_turn(budget, &|k| plain(k % n, &one), &|k| {
        let task = &tasks[k % n];
        mixed_logits(task.backbone(), &one, &[task.part(1)]).map(drop)
    })?;
    let [batch_own, batch_shared] = in_turn(
        budget,
        &|_| {
            let mut models = shares.iter().enumerate().filter(|(_, s)| **s > 0);
            parts_of_all
                .iter()
                .try_for_each(|b| models.next().map_or(Ok(()), |(i, _)| plain(i, b)))
        },
        &|_| {
            let parts: Vec<Part<'_>> = tasks.iter().zip(&shares).map(|(t, s)| t.part(*s)).collect();
            mixed_logits(tasks[0].backbone(), &all, &parts).map(drop)
        },
    )?;
    let sum = |f: &dyn Fn(&LoadedTask) -> u64| tasks.iter().map(|t| f(t) as f64).sum::<f64>();
    let ways = [
        Way {
            name: "a model each, full or merged",
            disk: n as f64 * file,
            memory: n as f64 * base,
            start: n as f64 * base_start,
            row: percentiles(&rows_own),
            batch: percentile(&batch_own, 0.5),
        },
        Way {
            name: "one backbone, weights each",
            disk: file + sum(&LoadedTask::file_bytes),
            memory: base + sum(&LoadedTask::resident_bytes),
            start,
            row: percentiles(&rows_shared),
            batch: percentile(&batch_shared, 0.5),
        },
    ];
    if as_json {
        let rows: Vec<_> = ways
            .iter()
            .map(|w| {
                json!({
                    "way": w.name, "tasks": n, "disk_bytes": w.disk, "memory_bytes": w.memory,
                    "cold_start_seconds": w.start, "row_p50_ms": w.row.0, "row_p99_ms": w.row.1,
                    "batch_rows": ROWS, "batch_p50_ms": w.batch,
                    "rows_per_second": 1e3 * ROWS as f64 / w.batch,
                })
            })
            .collect();
        say!("{}", serde_json::to_string_pretty(&rows)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    say!(
        "{n} tasks over {}, rows of {LENGTH} tokens, {}\n",
        library.loaded().name,
        format::plural(kernels::threads(), "thread")
    )?;
    say!(
        "{}",
        table(&ways, n)
            .terminal(output::terminal_width())
            .trim_end()
    )?;
    say!(
        "\nDisk and memory are counted (a start from the disk's cache, {n} starts one after the other); times are measured in turn. A \
         mixed batch has {ROWS} rows of all tasks: as many passes as tasks, or one."
    )?;
    Ok(ExitCode::SUCCESS)
}

fn owns_its_backbone(task: &LoadedTask) -> bool {
    task.part(0).method.backbone().is_some()
}

fn table(ways: &[Way], n: usize) -> Table {
    let row = |w: &Way| {
        let ms = |v: f64| format::ms(v);
        [
            w.name.to_owned(),
            format::bytes(w.disk),
            format::bytes(w.memory),
            format::seconds(w.start),
            format!("{}/{}", ms(w.row.0), w.row.1.map_or(ABSENT.to_owned(), ms)),
            ms(w.batch),
            format::count_short(1e3 * ROWS as f64 / w.batch),
        ]
        .map(Cell::text)
        .to_vec()
    };
    let columns = vec![
        Column::text("way", &format!("{n} tasks as"), "way", 0),
        Column::number("disk", "disk", "disk", 0),
        Column::number("memory", "memory", "memory", 0),
        Column::number("start", "start", "start", 1),
        Column::number("row", "row p50/p99 ms", "one row, p50/p99 (ms)", 0),
        Column::number("batch", "batch ms", "mixed batch, p50 (ms)", 0),
        Column::number("rows", "rows/s", "rows per second", 2),
    ];
    Table::new(columns, ways.iter().map(row))
}

/// Milliseconds of two things in turn, sorted, after a first round that does not count.
fn in_turn(
    budget: Duration,
    first: &dyn Fn(usize) -> backbone::Result<()>,
    second: &dyn Fn(usize) -> backbone::Result<()>,
) -> Result<[Vec<f64>; 2]> {
    let mut times = [Vec::new(), Vec::new()];
    let begun = Instant::now();
    for round in 0.. {
        for turn in 0..2 {
            let which = (round + turn) % 2;
            let clock = Instant::now();
            [first, second][which](round)?;
            if round > 0 {
                times[which].push(1e3 * clock.elapsed().as_secs_f64());
            }
        }
        if round >= 5 && begun.elapsed() >= budget {
            break;
        }
    }
    times.iter_mut().for_each(|t| t.sort_by(f64::total_cmp));
    Ok(times)
}

fn percentiles(sorted: &[f64]) -> (f64, Option<f64>) {
    let p99 = (sorted.len() >= PASSES_FOR_P99).then(|| percentile(sorted, 0.99));
    (percentile(sorted, 0.5), p99)
}
