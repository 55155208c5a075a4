//! `report`: tables, plots and the page from records; `--compare`: what changed between two folders of records.

use std::{path::Path, process::ExitCode};

use anyhow::{Context, Result, ensure};
use reports::{Comparison, Findings, changes, claims, record::RunRecord, tables};

use crate::{execute::progress::Verbosity, output, records};

/// `report`.
///
/// # Errors
/// If there are no records or the report cannot be written.
pub fn report(folder: &Path, out: Option<&Path>, json: bool) -> Result<ExitCode> {
    let records = records::read(folder)?;
    ensure!(
        !records.is_empty(),
        "{}: no records there; run peftbench compare first",
        folder.display()
    );
    let out = out.unwrap_or(folder);
    let findings = Findings::read(folder)?;
    show(&records, &findings, out, json, Verbosity::Normal)?;
    show_more(&records, &findings, out, json)?;
    Ok(ExitCode::SUCCESS)
}

/// `report --compare`: what changed from one folder of records to another.
///
/// # Errors
/// If records cannot be read.
pub fn compare(before: &Path, after: &Path, json: bool) -> Result<ExitCode> {
    let changes = changes::changes(&records::read(before)?, &records::read(after)?);
    if json {
        say!("{}", serde_json::to_string_pretty(&changes)?)?;
    } else {
        say!("{}", changes::terminal(&changes).trim_end())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the comparisons of records and writes the report.
///
/// # Errors
/// If the report cannot be written.
pub fn show(
    records: &[RunRecord],
    findings: &Findings,
    out: &Path,
    json: bool,
    verbosity: Verbosity,
) -> Result<()> {
    let comparisons = Comparison::from_records(records);
    let written = reports::write_report(records, findings, out)?;
    if json {
        let all: Vec<_> = comparisons.iter().map(tables::json).collect();
        say!("{}", serde_json::to_string_pretty(&all)?)?;
        return Ok(());
    }
    let width = output::terminal_width();
    let colour = output::colour();
    for comparison in &comparisons {
        say!("{}", tables::terminal(comparison, width, colour))?;
    }
    if verbosity == Verbosity::Normal {
        for file in written.files {
            eprintln!("wrote {}", file.display());
        }
    }
    Ok(())
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
