//! `list`: methods, data sets, backbones, studies, suites, runs.

use std::{path::Path, process::ExitCode};

use anyhow::Result;
use clap::ValueEnum;

use crate::{backbones, capabilities, execute::progress, output, records, study, suite};

/// What can be listed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Kind {
    /// Methods with what each can do (found out by trying it); as JSON with their defaults too.
    Methods,
    /// Data sets.
    Datasets,
    /// Backbones.
    Backbones,
    /// Studies for sweep.
    Studies,
    /// Suites for compare.
    Suites,
    /// Runs that have a record; as JSON with every column of records.parquet.
    Runs,
}

/// What can be listed, and how much of it there is.
///
/// # Errors
/// If standard output cannot be written.
fn kinds(as_json: bool) -> Result<ExitCode> {
    let counts = [
        ("methods", methods::registry::ALL.len()),
        ("datasets", datasets::names().count()),
        ("backbones", backbones::names().count()),
        ("studies", study::names().count()),
        ("suites", suite::names().count()),
    ];
    if as_json {
        let map: serde_json::Map<_, _> = counts
            .map(|(name, n)| (name.to_owned(), n.into()))
            .into_iter()
            .collect();
        say!("{}", serde_json::to_string_pretty(&map)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    for kind in Kind::value_variants() {
        let value = kind.to_possible_value();
        let (name, help) = value.as_ref().map_or(("", String::new()), |v| {
            (
                v.get_name(),
                v.get_help().map(ToString::to_string).unwrap_or_default(),
            )
        });
        let count = counts.iter().find(|(known, _)| *known == name);
        let count = count.map_or(String::new(), |(_, n)| n.to_string());
        let before = format!("peftbench list {name:9}  {count:>3}  ");
        say!("{before}{}", beside(&before, &help))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A text that stands behind another one on its line: broken at words, its further lines under its first.
fn beside(before: &str, text: &str) -> String {
    let indent = before.chars().count();
    let room = output::table_width().saturating_sub(indent).max(30);
    reports::table::wrap(text, room).replace('\n', &format!("\n{:indent$}", ""))
}

/// `list`.
///
/// # Errors
/// If a YAML is not valid or records cannot be read.
pub fn list(what: Option<Kind>, folder: &Path, as_json: bool) -> Result<ExitCode> {
    let Some(what) = what else {
        return kinds(as_json);
    };
    let rows: Vec<(String, serde_json::Value, String)> = match what {
        Kind::Methods if !as_json => {
            let width = output::table_width();
            say!("{}", capabilities::table(width)?.trim_end())?;
            return Ok(ExitCode::SUCCESS);
        }
        Kind::Methods => capabilities::json()?
            .into_iter()
            .map(|(name, value)| (name, value, String::new()))
            .collect(),
        Kind::Datasets => datasets::names()
            .map(|name| {
                let spec = datasets::spec(name)?;
                let metrics: Vec<_> = spec.metrics.iter().map(|m| m.name()).collect();
                let about = format!("{} ({})", spec.about, spec.licence);
                let value = serde_json::json!({
                    "about": spec.about, "objective": spec.objective.name(), "metrics": metrics, "licence": spec.licence,
                    "citation": spec.citation,
                });
                Ok((name.to_owned(), value, about))
            })
            .collect::<Result<_>>()?,
        Kind::Backbones => backbones::names()
            .map(|name| {
                let spec = backbones::spec(name)?;
                let value = serde_json::json!({ "about": spec.about, "licence": spec.licence, "pooling": spec.pooling, "head": spec.head });
                Ok((spec.name, value, spec.about))
            })
            .collect::<Result<_>>()?,
        Kind::Suites => suite::names()
            .filter_map(|name| suite::find(name).transpose())
            .map(|found| {
                let found = found?;
                let names: Vec<String> = found.datasets.iter().map(|d| d.name()).collect();
                let value = serde_json::json!({ "title": found.title, "about": found.about, "datasets": names });
                let about = format!("{} ({})", found.title, names.join(", "));
                Ok((found.name, value, about))
            })
            .collect::<Result<_>>()?,
        Kind::Studies => study::names()
            .map(|name| {
                let spec = study::study(name)?;
                let value = serde_json::json!({ "title": spec.title, "question": spec.question, "runs_per_seed": spec.runs(1) });
                let about = format!("{} ({} runs per seed)", spec.question, spec.runs(1));
                Ok((spec.name, value, about))
            })
            .collect::<Result<_>>()?,
        Kind::Runs => {
            let records = records::read(folder)?;
            let all: Vec<&record::RunRecord> = records.iter().collect();
            let rows = reports::frame::rows(&reports::frame::frame(&all)?)?;
            records
                .into_iter()
                .zip(rows)
                .map(|(record, row)| {
                    let asked = &record.asked;
                    let about = format!(
                        "{} {} {} seed {}: {}",
                        asked.dataset.name,
                        asked.method.name,
                        asked.method.variant,
                        asked.seed,
                        progress::summary(&record)
                    );
                    (record.id, row.into(), about)
                })
                .collect()
        }
    };
    if as_json {
        let map: serde_json::Map<_, _> = rows
            .into_iter()
            .map(|(name, value, _)| (name, value))
            .collect();
        say!("{}", serde_json::to_string_pretty(&map)?)?;
    } else {
        let width = rows.iter().map(|(name, ..)| name.len()).max().unwrap_or(0);
        for (name, _, about) in rows {
            let before = format!("{name:width$}  ");
            say!("{before}{}", beside(&before, &about))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
