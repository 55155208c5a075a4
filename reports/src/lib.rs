//! Records of runs, and everything that is derived from them: statistics, tables, plots and the HTML page.
//!
//! A report never sees a tensor: it reads [`record::RunRecord`]s only.
#![forbid(unsafe_code)]

pub mod answer;
pub mod changes;
pub mod claims;
pub mod comparison;
pub mod conditions;
pub mod costs;
pub mod error;
pub mod figures;
mod files;
pub mod format;
pub mod frame;
pub mod going_on;
pub mod judging;
pub mod latency;
pub mod measurement;
pub mod needs;
mod notes;
pub mod objective;
pub mod page;
pub mod pair;
pub mod quantity;
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
pub use statistics::Margin;

use std::path::{Path, PathBuf};

use record::{RunRecord, write_whole};

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
        let mut records: Vec<&RunRecord> =
            self.comparisons.iter().flat_map(|c| &c.records).collect();
        records.sort_by(|a, b| a.id.cmp(&b.id));
        let mut files = Vec::new();
        let mut write = |name: String, content: &[u8]| {
            let path = out.join(name);
            write_whole(&path, content)?;
            files.push(path);
            Ok::<_, Error>(())
        };
        for comparison in &self.comparisons {
            let slug = &comparison.slug;
            let json = serde_json::to_string_pretty(&tables::json(comparison))?;
            for (ending, content) in [
                ("md", tables::markdown(comparison)),
                ("tex", tables::latex(comparison)),
                ("csv", tables::csv(comparison, csv_safe)?),
                ("json", json),
            ] {
                write(format!("{slug}.{ending}"), content.as_bytes())?;
            }
            for plot in figures::plots(comparison) {
                for (ending, content) in plot.files()? {
                    write(format!("{slug}-{}.{ending}", plot.name), &content)?;
                }
            }
        }
        for (name, verdict) in &self.suites {
            let name = comparison::slug(name);
            write(format!("suite-{name}.md"), verdict.markdown().as_bytes())?;
            let matrix = verdict.tables.first().map(|table| table.csv(csv_safe));
            if let Some(matrix) = matrix.transpose()? {
                write(format!("suite-{name}.csv"), matrix.as_bytes())?;
            }
        }
        write(
            "claims.md".to_owned(),
            claims::markdown(&self.claims).as_bytes(),
        )?;
        write(
            "claims.json".to_owned(),
            serde_json::to_string_pretty(&self.claims)?.as_bytes(),
        )?;
        write("records.parquet".to_owned(), &frame::parquet(&records)?)?;
        write("report.html".to_owned(), self.page()?.as_bytes())?;
        for study in &self.findings.studies {
            files.extend(studies::write(study, out)?);
        }
        for tuning in &self.findings.tunings {
            files.extend(tuning::write(tuning, out)?);
        }
        Ok(files)
    }

    /// The HTML page.
    ///
    /// # Errors
    /// If a plot or the page cannot be made; not expected.
    pub fn page(&self) -> Result<String> {
        let findings = &self.findings;
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
        let measured = &findings.measurements;
        let suites: Vec<_> = self.suites.iter().map(|(_, verdict)| verdict).collect();
        let extras = page::Extras {
            suites: (!suites.is_empty())
                .then(|| serde_json::to_value(&suites))
                .transpose()?,
            claims: Some(serde_json::to_value(&self.claims)?),
            studies: (!views.is_empty()).then(|| views.into()),
            tuning: (!searches.is_empty()).then(|| searches.into()),
            measurements: (!measured.is_empty())
                .then(|| serde_json::to_value(measured))
                .transpose()?,
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
