//! Records of runs, and everything that is derived from them: statistics, tables, plots and the HTML page.
//!
//! A report never sees a tensor: it reads [`record::RunRecord`]s only.
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate self as peftbench_reports;

pub mod comparison;
pub mod error;
pub mod format;
pub mod latency;
pub mod quantity;
pub mod record;
pub mod statistics;
pub mod store;
pub mod tables;

#[cfg(test)]
#[path = "../tests/support/sample.rs"]
mod sample;

pub use comparison::Comparison;
pub use error::{Error, Result};

use std::path::{Path, PathBuf};

/// The files of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Every file that was written.
    pub files: Vec<PathBuf>,
}

/// Writes tables (Markdown, CSV, JSON) of every comparison in `records`, and `report.html` with all of them.
///
/// # Errors
/// If a file cannot be written.
pub fn write_report(records: &[record::RunRecord], out: &Path) -> Result<Written> {
    let mut files = Vec::new();
    let mut write = |name: String, content: String| {
        let path = out.join(name);
        let written = std::fs::create_dir_all(out).and_then(|()| std::fs::write(&path, content));
        written.map_err(|source| Error::Write {
            path: path.clone(),
            source,
        })?;
        files.push(path);
        Ok::<_, Error>(())
    };
    let mut sections = String::new();
    for comparison in Comparison::from_records(records) {
        write(
            format!("{}.md", comparison.slug),
            tables::markdown(&comparison),
        )?;
        write(
            format!("{}.csv", comparison.slug),
            tables::csv(&comparison)?,
        )?;
        write(
            format!("{}.json", comparison.slug),
            serde_json::to_string_pretty(&tables::json(&comparison))?,
        )?;
        sections += &format!("<h2>{}</h2>\n", escape(&comparison.name));
        for sentence in comparison.answer() {
            sections += &format!("<p>{}</p>\n", escape(&sentence));
        }
        sections += &format!(
            "<pre>{}</pre>\n",
            escape(&tables::terminal(&comparison, 140, false))
        );
    }
    let page = include_str!("../templates/report.html").replace("{{ sections }}", &sections);
    write("report.html".to_owned(), page)?;
    Ok(Written { files })
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
