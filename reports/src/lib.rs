//! Records of runs, and everything that is derived from them: statistics, tables, plots and the HTML page.
//!
//! A report never sees a tensor: it reads [`record::RunRecord`]s only.
#![forbid(unsafe_code)]

pub mod changes;
pub mod claims;
pub mod comparison;
pub mod error;
pub mod format;
pub mod latency;
pub mod measurement;
pub mod page;
pub mod plots;
pub mod quantity;
pub mod recommend;
pub mod statistics;
pub mod studies;
pub mod tables;
pub mod tuning;

#[cfg(test)]
#[path = "../tests/support/sample.rs"]
mod sample;

// The old paths, until their last user has the new ones.
pub use ::record::{self, store};
pub use comparison::Comparison;
pub use error::{Error, Result};

use std::path::{Path, PathBuf};

/// What was found out beside comparisons.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Studies, each of one thing that is varied.
    pub studies: Vec<studies::Study>,
    /// Searches with equal budgets.
    pub tunings: Vec<tuning::Tuning>,
    /// Tables of other measurements.
    pub measurements: Vec<measurement::Measurement>,
}

impl Findings {
    /// What lies below a comparison's folder, or below a folder of comparisons.
    ///
    /// # Errors
    /// If a manifest or a folder cannot be read.
    pub fn read(folder: &Path) -> Result<Self> {
        Ok(Self {
            studies: studies::read_all(folder)?,
            tunings: tuning::read_all(folder)?,
            measurements: measurement::read_all(folder)?,
        })
    }
}

/// The files of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Every file that was written.
    pub files: Vec<PathBuf>,
}

/// Writes tables (Markdown, CSV, JSON) and plots (PNG) of every comparison in `records`, and
/// `report.html` with all of them, the studies, the searches, the measurements and the judged claims.
///
/// # Errors
/// If a file cannot be written, or a plot or the page cannot be made.
pub fn write_report(
    records: &[record::RunRecord],
    findings: &Findings,
    out: &Path,
) -> Result<Written> {
    let mut files = Vec::new();
    let mut write = |name: String, content: &[u8]| {
        let path = out.join(name);
        ::record::write_whole(&path, content)?;
        files.push(path);
        Ok::<_, Error>(())
    };
    let comparisons = Comparison::from_records(records);
    for comparison in &comparisons {
        let slug = &comparison.slug;
        write(
            format!("{slug}.md"),
            tables::markdown(comparison).as_bytes(),
        )?;
        write(format!("{slug}.csv"), tables::csv(comparison)?.as_bytes())?;
        let json = serde_json::to_string_pretty(&tables::json(comparison))?;
        write(format!("{slug}.json"), json.as_bytes())?;
        for plot in plots::plots(comparison) {
            write(format!("{slug}-{}.png", plot.name), &plot.png()?)?;
        }
    }
    let claims = claims::judge_all(&comparisons, &findings.studies)?;
    let views = findings
        .studies
        .iter()
        .map(studies::page_view)
        .collect::<Result<Vec<_>>>()?;
    let searches = findings
        .tunings
        .iter()
        .map(tuning::page_view)
        .collect::<Result<Vec<_>>>()?;
    let extras = page::Extras {
        claims: Some(serde_json::to_value(claims)?),
        studies: (!views.is_empty()).then(|| views.into()),
        tuning: (!searches.is_empty()).then(|| searches.into()),
        measurements: (!findings.measurements.is_empty())
            .then(|| serde_json::to_value(&findings.measurements))
            .transpose()?,
    };
    let page = page::render(&comparisons, &extras)?;
    write("report.html".to_owned(), page.as_bytes())?;
    Ok(Written { files })
}
