//! A comparison as a table: for the terminal, Markdown, CSV and JSON.

use polars::prelude::{Column, CsvWriter, DataFrame, SerWriter};
use serde_json::{Value, json};

use crate::Result;
use crate::comparison::{Comparison, Row, Standing};
use crate::format;
use crate::record::Status;
use crate::statistics::Summary;

/// What stands where there is no value.
const ABSENT: &str = "–";

/// A column of the table for people.
pub(crate) struct TableColumn {
    title: &'static str,
    /// Title in Markdown and on the page, where there is room.
    pub(crate) long: String,
    /// Columns with a larger number are left out first where the width does not suffice.
    rank: u8,
    pub(crate) left: bool,
    pub(crate) cell: fn(&Comparison, &Row) -> String,
    /// What the page sorts by.
    pub(crate) key: fn(&Row) -> Option<Value>,
}

pub(crate) fn columns(comparison: &Comparison) -> Vec<TableColumn> {
    let column = |title, long: &str, rank, cell, key| TableColumn {
        title,
        long: long.to_owned(),
        rank,
        left: false,
        cell,
        key,
    };
    let left = |c: TableColumn| TableColumn { left: true, ..c };
    let metric = match comparison.metric() {
        "accuracy" => "accuracy %",
        "f1" => "F1 %",
        "matthews" => "Matthews",
        _ => "metric",
    };
    let spread = format!("{} ± sd", format::metric_title(comparison.metric()));
    vec![
        left(column(
            "method",
            "method",
            0,
            |_, r| r.label.clone(),
            |r| Some(json!(r.label)),
        )),
        left(column(
            "tie",
            "tie group",
            0,
            |_, r| match &r.standing {
                Standing::Ranked => r.tie.clone(),
                Standing::Invalid { .. } => "invalid".into(),
                Standing::Unfinished => ABSENT.into(),
            },
            |r| (!r.tie.is_empty()).then(|| json!(r.tie)),
        )),
        column(
            metric,
            &spread,
            0,
            |c, r| match &r.metric {
                Some(m) => format::metric_spread(c.metric(), m.mean, m.sd),
                None => ABSENT.into(),
            },
            |r| mean(&r.metric),
        ),
        column(
            "95 % interval",
            "95 % interval",
            9,
            |c, r| match r.metric.as_ref().and_then(|m| m.interval) {
                Some([low, high]) => format!(
                    "{} – {}",
                    format::metric_spread(c.metric(), low, None),
                    format::metric_spread(c.metric(), high, None)
                ),
                None => ABSENT.into(),
            },
            |r| Some(json!(r.metric.as_ref()?.interval?[0])),
        ),
        column(
            "params",
            "trained parameters",
            0,
            |_, r| {
                r.parameters
                    .map_or(ABSENT.into(), |p| format::count_short(p.method as f64))
            },
            |r| Some(json!(r.parameters?.method)),
        ),
        column(
            "of bb.",
            "of the backbone",
            3,
            |_, r| r.share_of_backbone().map_or(ABSENT.into(), format::share),
            |r| Some(json!(r.share_of_backbone()?)),
        ),
        column(
            "head",
            "head",
            8,
            |_, r| {
                r.parameters
                    .map_or(ABSENT.into(), |p| format::count_short(p.head as f64))
            },
            |r| Some(json!(r.parameters?.head)),
        ),
        column(
            "training",
            "training time",
            1,
            |_, r| shown(&r.training_seconds, format::seconds),
            |r| mean(&r.training_seconds),
        ),
        column(
            "memory",
            "peak memory",
            2,
            |_, r| shown(&r.peak_memory_bytes, format::bytes),
            |r| mean(&r.peak_memory_bytes),
        ),
        column(
            "p50/p99 ms",
            "latency p50/p99 (ms)",
            1,
            |_, r| latency(r, "unmerged"),
            |r| Some(json!(r.latency.get("unmerged")?.p50_ms.mean)),
        ),
        column(
            "over bb.",
            "latency over the backbone",
            6,
            |c, r| {
                r.latency_overhead("unmerged").map_or(ABSENT.into(), |o| {
                    crate::latency::overhead_text(o, c.latency_noise)
                })
            },
            |r| Some(json!(r.latency_overhead("unmerged")?)),
        ),
        column(
            "merged ms",
            "merged p50/p99 (ms)",
            5,
            |_, r| latency(r, "merged"),
            |r| Some(json!(r.latency.get("merged")?.p50_ms.mean)),
        ),
        column(
            "file",
            "file",
            4,
            |_, r| shown(&r.file_bytes, format::bytes),
            |r| mean(&r.file_bytes),
        ),
        column(
            "loaded",
            "loaded beside the backbone",
            7,
            |_, r| shown(&r.resident_bytes, format::bytes),
            |r| mean(&r.resident_bytes),
        ),
        column(
            "seeds",
            "seeds ok",
            6,
            |_, r| {
                let (well, all) = r.ended_well();
                format!("{well}/{all}")
            },
            |r| Some(json!(r.ended_well().0)),
        ),
    ]
}

fn mean(summary: &Option<Summary>) -> Option<Value> {
    summary.as_ref().map(|s| json!(s.mean))
}

fn shown(summary: &Option<Summary>, show: fn(f64) -> String) -> String {
    summary.as_ref().map_or(ABSENT.into(), |s| show(s.mean))
}

fn latency(row: &Row, variant: &str) -> String {
    row.latency.get(variant).map_or(ABSENT.into(), |l| {
        format!(
            "{}/{}",
            format::ms(l.p50_ms.mean),
            format::ms(l.p99_ms.mean)
        )
    })
}

/// What is said under the table: troubles, notes and the answer.
fn remarks(comparison: &Comparison) -> Vec<String> {
    let troubles = comparison.rows.iter().flat_map(|row| {
        row.troubles()
            .into_iter()
            .map(move |t| format!("{}: {t}", row.label))
    });
    troubles.chain(comparison.notes.iter().cloned()).collect()
}

/// How to read the table, in one sentence each.
const LEGEND: &str =
    "Methods that share a tie letter can't be told apart (paired bootstrap, Holm, 5 %).";

/// A table for a terminal of this width, best method first, with the answer in words above it.
/// Columns that do not fit are left out and named. With `colour`, ANSI colours are used: the caller
/// decides after `NO_COLOR` and whether it is a terminal at all.
pub fn terminal(comparison: &Comparison, width: usize, colour: bool) -> String {
    let paint = |code: &str, text: &str| match colour {
        true => format!("\x1b[{code}m{text}\x1b[0m"),
        false => text.to_owned(),
    };
    let mut columns = columns(comparison);
    let mut cells: Vec<Vec<String>> = comparison
        .rows
        .iter()
        .map(|r| columns.iter().map(|c| (c.cell)(comparison, r)).collect())
        .collect();
    let chars = |s: &str| s.chars().count();
    let widths = |columns: &[TableColumn], cells: &[Vec<String>]| -> Vec<usize> {
        let widest = |(i, c): (usize, &TableColumn)| {
            cells
                .iter()
                .map(|row| chars(&row[i]))
                .max()
                .unwrap_or(0)
                .max(chars(c.title))
        };
        columns.iter().enumerate().map(widest).collect()
    };
    // A column without any value says nothing.
    for i in (0..columns.len()).rev() {
        if columns[i].rank > 0 && cells.iter().all(|row| row[i] == ABSENT) {
            columns.remove(i);
            cells.iter_mut().for_each(|row| drop(row.remove(i)));
        }
    }
    let mut left_out = Vec::new();
    loop {
        let widths = widths(&columns, &cells);
        let needed = widths.iter().sum::<usize>() + 2 * (widths.len().saturating_sub(1));
        let Some(last) = (0..columns.len()).max_by_key(|&i| columns[i].rank) else {
            break;
        };
        if needed <= width || columns[last].rank == 0 {
            break;
        }
        left_out.push(columns.remove(last).long);
        cells.iter_mut().for_each(|row| drop(row.remove(last)));
    }
    let widths = widths(&columns, &cells);
    let line = |texts: Vec<&str>| -> String {
        let padded = texts
            .iter()
            .zip(&widths)
            .zip(&columns)
            .map(|((text, &w), c)| {
                let pad = " ".repeat(w - chars(text));
                if c.left {
                    format!("{text}{pad}")
                } else {
                    format!("{pad}{text}")
                }
            });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };

    let mut text = paint("1", &wrap(&comparison.name, width)) + "\n";
    for sentence in comparison.answer() {
        text += &(wrap(&sentence, width) + "\n");
    }
    text.push('\n');
    text += &(paint("2", &line(columns.iter().map(|c| c.title).collect())) + "\n");
    for (row, cells) in comparison.rows.iter().zip(&cells) {
        let line = line(cells.iter().map(String::as_str).collect());
        let leads = row.standing == Standing::Ranked && row.tie.contains('a');
        text += &match &row.standing {
            Standing::Ranked if leads => paint("32", &line),
            Standing::Ranked => line,
            Standing::Invalid { .. } => paint("31", &line),
            Standing::Unfinished => paint("33", &line),
        };
        text.push('\n');
    }
    text.push('\n');
    if !comparison.pairs.is_empty() {
        text += &(wrap(LEGEND, width) + "\n");
    }
    for remark in remarks(comparison) {
        text += &(wrap(&format!("! {remark}"), width) + "\n");
    }
    if !left_out.is_empty() {
        left_out.reverse();
        let more = format!(
            "A wider terminal and the report also show: {}.",
            left_out.join(", ")
        );
        text += &(paint("2", &wrap(&more, width)) + "\n");
    }
    text
}

/// Breaks lines at spaces.
pub(crate) fn wrap(text: &str, width: usize) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let Some(line) = lines.last_mut() else { break };
        let length = line.chars().count();
        if length == 0 {
            line.push_str(word);
        } else if length + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines.join("\n")
}

/// A Markdown section: heading, answer, table, remarks.
pub fn markdown(comparison: &Comparison) -> String {
    let escape = |s: &str| s.replace('|', "\\|").replace('\n', " ");
    let columns = columns(comparison);
    let mut text = format!("## {}\n\n", comparison.name);
    text += &comparison.answer().join(" ");
    text += "\n\n|";
    for c in &columns {
        text += &format!(" {} |", escape(&c.long));
    }
    text += "\n|";
    for c in &columns {
        text += if c.left { " :-- |" } else { " --: |" };
    }
    text.push('\n');
    for row in &comparison.rows {
        text.push('|');
        for c in &columns {
            text += &format!(" {} |", escape(&(c.cell)(comparison, row)));
        }
        text.push('\n');
    }
    text.push('\n');
    if !comparison.pairs.is_empty() {
        text += LEGEND;
        text += "\n\n";
    }
    for remark in remarks(comparison) {
        text += &format!("- {}\n", escape(&remark));
    }
    text
}

/// One line per method in basic units (fractions, seconds, bytes, milliseconds); absent values are empty.
///
/// # Errors
/// If the table cannot be built; not expected.
pub fn csv(comparison: &Comparison) -> Result<String> {
    let rows = &comparison.rows;
    let text = |name: &str, f: &dyn Fn(&Row) -> String| {
        Column::new(name.into(), rows.iter().map(f).collect::<Vec<String>>())
    };
    let number = |name: &str, f: &dyn Fn(&Row) -> Option<f64>| {
        Column::new(
            name.into(),
            rows.iter().map(f).collect::<Vec<Option<f64>>>(),
        )
    };
    let whole = |name: &str, f: &dyn Fn(&Row) -> Option<u64>| {
        Column::new(
            name.into(),
            rows.iter().map(f).collect::<Vec<Option<u64>>>(),
        )
    };
    let mean = |s: &Option<Summary>| s.as_ref().map(|s| s.mean);
    let parameters = |name: &str, f: fn(&crate::record::Parameters) -> usize| {
        whole(name, &move |r: &Row| {
            r.parameters.as_ref().map(|p| f(p) as u64)
        })
    };
    let latency =
        |name: &str, variant: &'static str, f: fn(&crate::comparison::RowLatency) -> &Summary| {
            number(name, &move |r: &Row| {
                r.latency.get(variant).map(|l| f(l).mean)
            })
        };
    let metric = comparison.metric();
    let dataset = &comparison.dataset;
    let mut columns = vec![
        text("dataset", &|_| dataset.name.clone()),
        text("stand_in_for", &|_| {
            dataset.stand_in_for.clone().unwrap_or_default()
        }),
        text("backbone", &|_| comparison.backbone.name.clone()),
        text("method", &|r| r.method.clone()),
        text("variant", &|r| r.variant.clone()),
        text("standing", &|r| {
            match r.standing {
                Standing::Ranked => "ranked",
                Standing::Invalid { .. } => "invalid",
                Standing::Unfinished => "unfinished",
            }
            .to_owned()
        }),
        text("tie_group", &|r| r.tie.clone()),
        whole("runs_ok", &|r| Some(r.ended_well().0 as u64)),
        whole("runs", &|r| Some(r.ended_well().1 as u64)),
        number(&format!("{metric}_mean"), &|r| mean(&r.metric)),
        number(&format!("{metric}_sd"), &|r| r.metric.as_ref()?.sd),
        number(&format!("{metric}_low_95"), &|r| {
            Some(r.metric.as_ref()?.interval?[0])
        }),
        number(&format!("{metric}_high_95"), &|r| {
            Some(r.metric.as_ref()?.interval?[1])
        }),
        parameters("parameters", |p| p.method),
        parameters("head_parameters", |p| p.head),
        parameters("backbone_parameters", |p| p.backbone),
        parameters("shipped_parameters", |p| p.shipped),
        number("training_seconds", &|r| mean(&r.training_seconds)),
        number("examples_per_second", &|r| mean(&r.examples_per_second)),
        number("tokens_per_second", &|r| mean(&r.tokens_per_second)),
        number("peak_memory_bytes", &|r| mean(&r.peak_memory_bytes)),
        latency("latency_p50_ms", "unmerged", |l| &l.p50_ms),
        latency("latency_p99_ms", "unmerged", |l| &l.p99_ms),
        latency("merged_latency_p50_ms", "merged", |l| &l.p50_ms),
        latency("merged_latency_p99_ms", "merged", |l| &l.p99_ms),
        latency("backbone_latency_p50_ms", "backbone", |l| &l.p50_ms),
        number("latency_overhead", &|r| r.latency_overhead("unmerged")),
        number("merged_latency_overhead", &|r| r.latency_overhead("merged")),
        number("latency_noise", &|_| comparison.latency_noise),
        number("file_bytes", &|r| mean(&r.file_bytes)),
        number("resident_bytes", &|r| mean(&r.resident_bytes)),
        number("ece", &|r| r.calibration.map(|c| c.ece)),
        number("brier", &|r| r.calibration.map(|c| c.brier)),
        number("nll", &|r| r.calibration.map(|c| c.nll)),
        text("troubles", &|r| r.troubles().join("; ")),
    ];
    for (name, key) in comparison
        .rows
        .iter()
        .flat_map(|r| r.metrics.keys())
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .filter(|k| *k != metric)
        .map(|k| (format!("{k}_mean"), k))
    {
        columns.push(number(&name, &|r| r.metrics.get(key).map(|s| s.mean)));
    }
    let mut frame = DataFrame::new(rows.len(), columns)?;
    let mut bytes = Vec::new();
    CsvWriter::new(&mut bytes).finish(&mut frame)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Everything derived from the records, for other programs.
pub fn json(comparison: &Comparison) -> Value {
    // A comparison holds finite numbers only, so this cannot fail; and if, the reader sees why.
    let mut value =
        serde_json::to_value(comparison).unwrap_or_else(|e| json!({ "error": e.to_string() }));
    value["answer"] = json!(comparison.answer());
    value
}

/// How the runs of a comparison ended: e.g. `14 runs ended well, 1 diverged`.
pub fn status_counts(comparison: &Comparison) -> String {
    let count = |f: fn(&Status) -> bool| comparison.records.iter().filter(|r| f(&r.status)).count();
    let well = count(|s| *s == Status::Ok);
    let mut text = format!("{} ended well", format::plural(well, "run"));
    for (n, word) in [
        (count(|s| matches!(s, Status::Diverged { .. })), "diverged"),
        (count(|s| matches!(s, Status::Failed { .. })), "failed"),
        (count(|s| *s == Status::Interrupted), "interrupted"),
    ] {
        if n > 0 {
            text += &format!(", {n} {word}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sample::Sample;

    fn example() -> Comparison {
        let labels: Vec<u32> = (0..200).map(|i| i % 2).collect();
        let run = |m: &str, seed, wrong: usize| {
            Sample::new(m)
                .seed(seed)
                .predictions(&labels, move |i| i >= wrong + seed as usize)
        };
        let mut records = Vec::new();
        for seed in 0..3 {
            records.push(
                run("lora", seed, 30)
                    .latency("unmerged", 5.0, 7.5)
                    .latency("merged", 4.0, 6.0)
                    .latency("backbone", 4.0, 6.1)
                    .record(),
            );
            records.push(
                run("full", seed, 28)
                    .parameters(22_713_216)
                    .training_seconds(245.0)
                    .memory(Some(1_200_000_000))
                    .file_bytes(90_900_000)
                    .latency("unmerged", 4.0, 6.0)
                    .record(),
            );
            records.push(
                run("head_only", seed, 70)
                    .parameters(0)
                    .training_seconds(3.0)
                    .memory(None)
                    .file_bytes(3_300)
                    .record(),
            );
        }
        records.push(
            Sample::new("adapter")
                .predictions(&labels, |_| true)
                .seed(0)
                .ended(Status::Diverged {
                    step: 12,
                    reason: "loss is NaN".into(),
                })
                .record(),
        );
        Comparison::from_records(&records).remove(0)
    }

    #[test]
    fn the_terminal_table_fits_80_columns_and_names_what_is_left_out() {
        let text = terminal(&example(), 80, false);
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
        println!(
            "{text}\n{}\n{}\n{}",
            markdown(&example()),
            csv(&example()).unwrap(),
            serde_json::to_string(&json(&example())["pairs"][0]).unwrap()
        );
    }

    #[test]
    fn a_wide_terminal_shows_all_columns_and_colours_only_if_asked() {
        let comparison = example();
        let wide = terminal(&comparison, 200, false);
        assert!(
            wide.contains("95 % interval")
                && wide.contains("file")
                && !wide.contains("wider terminal"),
            "{wide}"
        );
        assert!(!wide.contains('\x1b'));
        assert!(terminal(&comparison, 200, true).contains("\x1b[32mfull"));
    }
}
