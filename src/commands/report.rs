//! `report`: tables, plots and the page from records; `--compare`: what changed between two folders of records.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Result, ensure};
use record::write_whole;
use reports::{Comparison, Findings, changes, claims, tables};

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
    let comparisons = Comparison::from_records(&records);
    let written = reports::write_report(&records, &findings, out)?;
    if json {
        let all: Vec<_> = comparisons.iter().map(tables::json).collect();
        say!("{}", serde_json::to_string_pretty(&all)?)?;
    } else {
        show(&comparisons, &written.files, Verbosity::Normal)?;
    }
    show_more(&comparisons, &findings, out, json)?;
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

/// Prints comparisons, and says which files hold the report.
///
/// # Errors
/// If standard output cannot be written.
pub fn show(comparisons: &[Comparison], files: &[PathBuf], verbosity: Verbosity) -> Result<()> {
    let (width, colour) = (output::terminal_width(), output::colour());
    for comparison in comparisons {
        say!("{}", tables::terminal(comparison, width, colour))?;
    }
    if verbosity == Verbosity::Normal {
        for file in files {
            eprintln!("wrote {}", file.display());
        }
    }
    Ok(())
}

/// Studies, searches and claims: files beside the report, and the claims' verdicts in the terminal.
fn show_more(
    comparisons: &[Comparison],
    findings: &Findings,
    out: &Path,
    json: bool,
) -> Result<()> {
    let mut files = Vec::new();
    for study in &findings.studies {
        files.extend(reports::studies::write(study, out)?);
    }
    for tuning in &findings.tunings {
        files.extend(reports::tuning::write(tuning, out)?);
    }
    let claims = claims::judge_all(comparisons, &findings.studies)?;
    for (name, content) in [
        ("claims.md", claims::markdown(&claims)),
        ("claims.json", serde_json::to_string_pretty(&claims)?),
    ] {
        let path = out.join(name);
        write_whole(&path, content.as_bytes())?;
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
