//! `report`: tables, plots and the page from records; `--compare`: what changed between two folders of records.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Result, ensure};
use clap::ValueEnum;
use reports::{Comparison, Findings, Judging, Margin, Report, changes, judging, studies, tables};
use statistics::Looks;

use crate::{card, execute::progress::Verbosity, output, records};

/// How a report is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// Tables for a paper, with booktabs: pdflatex takes them as they are.
    Latex,
    /// The page.
    Html,
    /// Tables in Markdown, with the answer in words.
    Md,
    /// A line per method in basic units.
    Csv,
    /// All that is worked out, for programs.
    Json,
}

impl ReportFormat {
    fn of(self, report: &Report, csv_safe: bool) -> Result<String> {
        let (comparisons, studies) = (&report.comparisons, &report.findings.studies);
        let texts: Vec<String> = match self {
            Self::Html => vec![report.page()?],
            Self::Json => {
                let all: Vec<_> = comparisons.iter().map(tables::json).collect();
                vec![serde_json::to_string_pretty(&all)?]
            }
            Self::Latex => {
                let tables = comparisons.iter().map(tables::latex);
                tables.chain(studies.iter().map(studies::latex)).collect()
            }
            Self::Md => {
                let suites = report.suites.iter().map(|(_, verdict)| verdict.markdown());
                suites
                    .chain(comparisons.iter().map(tables::markdown))
                    .chain(studies.iter().map(studies::markdown))
                    .collect()
            }
            Self::Csv => {
                ensure!(
                    comparisons.len() == 1,
                    "--format csv prints one table, and these records hold {} comparisons: {}; name the folder of one with \
                     --records, or take --out, which writes a file for each",
                    comparisons.len(),
                    reports::format::list(&comparisons.iter().map(|c| &c.name).collect::<Vec<_>>())
                );
                vec![tables::table(&comparisons[0]).csv(csv_safe)?]
            }
        };
        Ok(texts.join("\n"))
    }
}

/// What all records of a folder say. A margin that is asked for goes over the declared ones; costs are those of the processor
/// model whose name holds `costs_on`, or of most runs.
///
/// # Errors
/// If records, studies or measurements cannot be read.
pub fn of_folder(folder: &Path, margin: Option<Margin>, costs_on: Option<&str>) -> Result<Report> {
    let records = records::read(folder)?;
    let findings = Findings::read(folder, margin)?;
    ensure!(
        !records.is_empty() || !findings.studies.is_empty() || !findings.tunings.is_empty(),
        "{}: no records there; run peftbench compare first",
        folder.display()
    );
    Ok(Report::new(
        records,
        findings,
        &Judging::read(folder, margin)?.with_costs_on(costs_on),
    )?)
}

/// The same after a command that made these runs: that they are looked at now is kept beside them, with the margin, and so are the looks
/// at which it is to go on; what that means for the verdicts is said.
///
/// # Errors
/// As [`of_folder`], or if that cannot be kept.
pub fn looked(
    folder: &Path,
    ids: &[&str],
    margin: Option<Margin>,
    planned: Option<&Looks>,
    verbosity: Verbosity,
) -> Result<Report> {
    let report = of_folder(folder, margin, None)?;
    for comparison in report.about(ids) {
        for note in judging::look(folder, comparison, margin, planned)? {
            if verbosity != Verbosity::Quiet {
                eprintln!("note: {note}");
            }
        }
    }
    // All of it is read again; twice in memory would be too much.
    drop(report);
    of_folder(folder, margin, None)
}

/// `report`; in the records' own folder also the cards of the weights that lie there.
///
/// # Errors
/// If there are no records or the report cannot be written.
pub fn report(
    folder: &Path,
    out: Option<&Path>,
    format: Option<ReportFormat>,
    margin: Option<Margin>,
    costs_on: Option<&str>,
    csv_safe: bool,
    json: bool,
) -> Result<ExitCode> {
    let report = of_folder(folder, margin, costs_on)?;
    if let Some(format) = format {
        say!("{}", format.of(&report, csv_safe)?.trim_end())?;
        if let Some(out) = out {
            tell_written(&report.write(out, csv_safe)?);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let files = report.write(out.unwrap_or(folder), csv_safe)?;
    // Weights beside the records, which other machines may have made, say what was found of all seeds.
    if out.is_none() {
        for comparison in &report.comparisons {
            card::write_all(comparison, folder)?;
        }
    }
    if json {
        let all: Vec<_> = report.comparisons.iter().map(tables::json).collect();
        say!("{}", serde_json::to_string_pretty(&all)?)?;
    } else {
        let comparisons: Vec<&Comparison> = report.comparisons.iter().collect();
        show(&comparisons, &[], Verbosity::Normal)?;
        say!("Claims, tested here (claims.md has the evidence):")?;
        for claim in &report.claims {
            say!("  {:<14} {}", claim.verdict.words(), claim.claim)?;
        }
    }
    tell_written(&files);
    Ok(ExitCode::SUCCESS)
}

/// `report --compare`: what changed from one folder of records to another.
///
/// # Errors
/// If records cannot be read.
pub fn compare(
    before: &Path,
    after: &Path,
    margin: Option<Margin>,
    json: bool,
) -> Result<ExitCode> {
    let (before, after) = (records::read(before)?, records::read(after)?);
    let changes = changes::changes(&before, &after, margin.unwrap_or_default());
    if json {
        say!("{}", serde_json::to_string_pretty(&changes)?)?;
    } else {
        say!("{}", changes::terminal(&changes).trim_end())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints comparisons, and says where the report is.
///
/// # Errors
/// If standard output cannot be written.
pub fn show(comparisons: &[&Comparison], files: &[PathBuf], verbosity: Verbosity) -> Result<()> {
    let (width, colour) = (output::terminal_width(), output::colour());
    for comparison in comparisons {
        say!("{}", tables::terminal(comparison, width, colour))?;
    }
    if verbosity == Verbosity::Normal {
        tell_written(files);
    }
    Ok(())
}

/// Says what was written: the page, or else the first of the files, and how many more. (All their names would push what was
/// printed out of sight.)
pub fn tell_written(files: &[PathBuf]) {
    let page = files.iter().find(|file| file.ends_with("report.html"));
    let Some(first) = page.or(files.first()) else {
        return;
    };
    let more = match files.len() - 1 {
        0 => String::new(),
        n => format!(" and {} beside it", reports::format::plural(n, "more file")),
    };
    eprintln!("wrote {}{more}", first.display());
}
