//! Tables of what was found beside comparisons (a grid of latencies, domains, the verdict over a suite). What no record holds is kept
//! in a file so that the page can show it: a [`Measurement`] in every folder that has its file.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{
    Kept, Result,
    table::{Table, markdown_text},
};

/// What was measured, as people read it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measurement {
    /// Heading.
    pub title: String,
    /// What the cells are, on what machine.
    pub description: String,
    /// The tables.
    pub tables: Vec<Table>,
    /// What they say, a sentence each.
    pub sentences: Vec<String>,
}

impl Kept for Measurement {
    const FILE: &'static str = "measurement.json";
}

impl Measurement {
    /// A Markdown section: heading, sentences, tables.
    pub fn markdown(&self) -> String {
        let mut text = format!("## {}\n", markdown_text(&self.title));
        for paragraph in std::iter::once(&self.description).chain(&self.sentences) {
            if !paragraph.is_empty() {
                text += &format!("\n{}\n", markdown_text(paragraph));
            }
        }
        for table in &self.tables {
            text += "\n";
            if !table.caption.is_empty() {
                text += &format!("{}:\n\n", markdown_text(&table.caption));
            }
            text += &table.markdown();
        }
        text
    }
}

/// What is kept below a comparison's folder, or below a folder of comparisons.
///
/// # Errors
/// If a file or a folder cannot be read.
pub fn read_all(folder: &Path) -> Result<Vec<Measurement>> {
    let found = Measurement::read_below(folder)?.into_iter();
    Ok(found.map(|(_, measurement)| measurement).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_written_is_found_below_and_a_damaged_file_is_named() {
        let place = tempfile::tempdir().unwrap();
        let measurement = Measurement {
            title: "Latency".into(),
            description: "p50 in ms".into(),
            tables: vec![Table::of_texts(
                "batch 1",
                1,
                &["weights".into(), "16 tokens".into()],
                vec![vec!["lora".into(), "3.1".into()]],
            )],
            sentences: vec![],
        };
        let folder = place.path().join("sst2/latency");
        let path = measurement.write(&folder).unwrap();
        assert_eq!(read_all(place.path()).unwrap(), [measurement]);
        std::fs::write(&path, "{\"title\": 1}").unwrap();
        let message = read_all(place.path()).unwrap_err().to_string();
        assert!(message.contains(Measurement::FILE), "{message}");
    }
}
