//! Records of runs, and everything that is derived from them: statistics, tables, plots and the HTML page.
//!
//! A report never sees a tensor: it reads [`record::RunRecord`]s only.
#![forbid(unsafe_code)]

pub mod answer;
pub mod changes;
mod claims;
pub mod comparison;
mod conditions;
pub mod costs;
mod error;
mod figures;
mod files;
pub mod format;
pub mod frame;
pub mod going_on;
pub mod judging;
mod kept;
pub mod latency;
pub mod measurement;
mod needs;
mod notes;
mod objective;
mod page;
mod pair;
mod quantity;
pub mod recommend;
pub mod row;
pub mod studies;
pub mod suite;
pub mod table;
pub mod tables;
pub mod tuning;
pub mod words;

#[cfg(test)]
#[path = "../tests/support/sample.rs"]
mod sample;

pub use comparison::Comparison;
pub use error::{Error, Result};
pub use judging::Judging;
pub use kept::Kept;
pub use pair::Pair;
pub use statistics::Margin;

use std::path::{Path, PathBuf};

use files::Files;
use record::RunRecord;

/// What was found out beside comparisons.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Studies, each of one thing that is varied.
    pub studies: Vec<studies::Study>,
    /// Searches with equal budgets.
    pub tunings: Vec<tuning::Tuning>,
    /// Suites of many data sets.
    pub suites: Vec<suite::Manifest>,
    /// Tables of other measurements.
    pub measurements: Vec<measurement::Measurement>,
}

impl Findings {
    /// What lies below a comparison's folder, or below a folder of comparisons. A margin that is asked for goes over the declared ones.
    ///
    /// # Errors
    /// If a manifest or a folder cannot be read.
    pub fn read(folder: &Path, margin: Option<Margin>) -> Result<Self> {
        Ok(Self {
            studies: studies::read_all(folder, margin)?,
            tunings: tuning::read_all(folder)?,
            suites: suite::read_all(folder, margin)?,
            measurements: measurement::read_all(folder)?,
        })
    }
}

/// Everything that records say, worked out once.
#[derive(Debug)]
pub struct Report {
    /// A comparison for each data set, backbone and recipe.
    pub comparisons: Vec<Comparison>,
    /// What was found out beside them.
    pub findings: Findings,
    /// The verdicts over the data sets of each suite, with its name.
    pub suites: Vec<(String, measurement::Measurement)>,
    /// The claims, judged by all of it.
    pub claims: Vec<claims::Judged>,
}

impl Report {
    /// Works out what these records say. A report shows **all** records of its folder, and not only those of the last command.
    ///
    /// # Errors
    /// If the claims' YAML is not valid; not expected.
    pub fn new(records: Vec<RunRecord>, findings: Findings, judging: &Judging) -> Result<Self> {
        let comparisons = Comparison::judged(records, judging);
        let verdict =
            |suite: &suite::Manifest| Some((suite.name.clone(), suite.verdict(&comparisons)?));
        Ok(Self {
            suites: findings.suites.iter().filter_map(verdict).collect(),
            claims: claims::judge_all(&comparisons, &findings.studies)?,
            comparisons,
            findings,
        })
    }

    /// The comparisons that hold any of these records, whole.
    pub fn about<'a>(&'a self, ids: &'a [&'a str]) -> impl Iterator<Item = &'a Comparison> {
        let holds = |c: &&Comparison| c.records.iter().any(|r| ids.contains(&r.id.as_str()));
        self.comparisons.iter().filter(holds)
    }

    /// Writes tables (Markdown, LaTeX, CSV, JSON) and plots (PNG, SVG, PDF) of every comparison, study, search and suite, the judged claims,
    /// `records.parquet` with a row per run, and `report.html` with everything. Each file is written whole or not at all; the
    /// files that were written are returned.
    ///
    /// # Errors
    /// If a file cannot be written, or a plot or the page cannot be made.
    pub fn write(&self, out: &Path, csv_safe: bool) -> Result<Vec<PathBuf>> {
        // What is written does not depend on the order in which they were read.
        let records = self.comparisons.iter().flat_map(|c| &c.records);
        let mut records: Vec<&RunRecord> = records.collect();
        records.sort_by(|a, b| a.id.cmp(&b.id));
        let mut files = Files::new(out);
        for comparison in &self.comparisons {
            let slug = &comparison.slug;
            let json = serde_json::to_string_pretty(&tables::json(comparison))?;
            for (ending, content) in [
                ("md", tables::markdown(comparison)),
                ("tex", tables::latex(comparison)),
                ("csv", tables::table(comparison).csv(csv_safe)?),
                ("json", json),
            ] {
                files.write(&format!("{slug}.{ending}"), content)?;
            }
            files.plots(slug, &figures::plots(comparison))?;
        }
        for (name, verdict) in &self.suites {
            let name = comparison::slug(name);
            files.write(&format!("suite-{name}.md"), verdict.markdown())?;
            if let Some(matrix) = verdict.tables.first() {
                files.write(&format!("suite-{name}.csv"), matrix.csv(csv_safe)?)?;
            }
        }
        files.write("claims.md", claims::markdown(&self.claims))?;
        files.write("claims.json", serde_json::to_string_pretty(&self.claims)?)?;
        files.write("records.parquet", frame::parquet(&records)?)?;
        files.write("report.html", self.page()?)?;
        let mut paths = files.paths;
        for study in &self.findings.studies {
            paths.extend(studies::write(study, out)?);
        }
        for tuning in &self.findings.tunings {
            paths.extend(tuning::write(tuning, out)?);
        }
        Ok(paths)
    }

    /// The HTML page.
    ///
    /// # Errors
    /// If a plot or the page cannot be made; not expected.
    pub fn page(&self) -> Result<String> {
        let studies = self.findings.studies.iter().map(studies::page_view);
        let tunings = self.findings.tunings.iter().map(tuning::page_view);
        let suites = self.suites.iter().map(|(_, verdict)| verdict.clone());
        let extras = page::Extras {
            suites: &suites.collect::<Vec<_>>(),
            claims: &self.claims,
            studies: studies.collect::<Result<_>>()?,
            tuning: tunings.collect::<Result<_>>()?,
            measurements: &self.findings.measurements,
        };
        page::render(&self.comparisons, &extras)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use super::*;

    #[test]
    fn the_same_records_give_the_same_report_byte_for_byte_in_whatever_order() {
        let mut records = sample::realistic_comparison(&sample::FIVE, 3);
        let write = |records: &[RunRecord]| {
            let out = tempfile::tempdir().unwrap();
            let report =
                Report::new(records.to_vec(), Findings::default(), &Judging::default()).unwrap();
            let files = report.write(out.path(), true).unwrap();
            let read = |path: PathBuf| {
                let name = path.file_name().unwrap().to_owned();
                (name, fs::read(path).unwrap())
            };
            files.into_iter().map(read).collect::<Vec<_>>()
        };
        let first = write(&records);
        assert!(first.len() > 10);
        records.reverse();
        for ((name, first), (_, again)) in first.iter().zip(write(&records)) {
            assert!(*first == again, "{name:?} differs");
        }
    }
}
