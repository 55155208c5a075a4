//! From files to examples.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use crate::{
    DatasetSpec, Error, Format, Metric, Result, Split, hex, split,
    table::{Table, Wanted, read_table},
};

/// A row of a data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// The text, or the first of two.
    pub text: String,
    /// The second text.
    pub pair: Option<String>,
    /// Index into [`Dataset::labels`]; `None` where the label is hidden.
    pub label: Option<u32>,
}

/// A data set in memory.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// Its name.
    pub name: String,
    /// Names of the classes; an example's label is an index into them.
    pub labels: Vec<String>,
    /// How it is judged, the main metric first.
    pub metrics: Vec<Metric>,
    /// Splits that had no file and were taken out of the training rows by hash of the text.
    pub made: Vec<Split>,
    /// Rows left out because their rating is on the threshold.
    pub dropped: usize,
    splits: BTreeMap<Split, Vec<Example>>,
}

impl Dataset {
    /// The examples of a split, in the order of the file. Every training and validation example has a label; of a test
    /// split all have or none has. A test split may be empty.
    pub fn split(&self, split: Split) -> &[Example] {
        self.splits.get(&split).map_or(&[], Vec::as_slice)
    }

    /// SHA-256 over labels, texts and their classes of the training and validation splits, which is what a run depends
    /// on, in hexadecimal digits.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        let mut part = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        for name in &self.labels {
            part(name.as_bytes());
        }
        for split in [Split::Train, Split::Validation] {
            part(split.name().as_bytes());
            for example in self.split(split) {
                part(example.text.as_bytes());
                part(example.pair.as_deref().unwrap_or_default().as_bytes());
                part(&example.label.unwrap_or(u32::MAX).to_le_bytes());
            }
        }
        hex(&hash.finalize())
    }
}

/// Reads a data set from `files`: the names of the specification's files, and where they are.
///
/// A split without a file takes 10 % of the training rows, by hash of the text.
///
/// # Errors
/// On anything in the files that is not as the specification says, with the file, the line, the column and the value.
pub fn read(spec: &DatasetSpec, files: &BTreeMap<String, PathBuf>) -> Result<Dataset> {
    let invalid = |message: String| Error::Spec {
        file: spec.name.clone(),
        message,
    };
    spec.check(&spec.name)?;
    let mut tables = BTreeMap::new();
    for (split, name) in &spec.splits {
        let Some(path) = files.get(name) else {
            if spec
                .source
                .files
                .get(name)
                .is_some_and(|file| file.optional)
                && *split != Split::Train
            {
                continue;
            }
            return Err(invalid(format!(
                "splits: the file '{name}' of {} was not fetched",
                split.name()
            )));
        };
        tables.insert(*split, (path.as_path(), table(spec, *split, path)?));
    }
    let Some((train_path, train_table)) = tables.get(&Split::Train) else {
        return Err(invalid("splits: train is missing".into()));
    };
    let train_path = *train_path;
    let labels = match &spec.label.names {
        Some(names) => names.clone(),
        None => distinct(train_table),
    };
    let mut dropped = 0;
    let mut splits = BTreeMap::new();
    for (split, (path, table)) in tables {
        let rows = Rows {
            spec,
            labels: &labels,
            split,
            path,
        };
        splits.insert(split, rows.examples(table, &mut dropped)?);
    }
    let made: Vec<Split> = [Split::Validation, Split::Test]
        .into_iter()
        .filter(|split| !spec.splits.contains_key(split))
        .collect();
    let train = splits.remove(&Split::Train).unwrap_or_default();
    let rows = train.len();
    splits.extend(split::make(train, &made));
    for split in [Split::Train, Split::Validation] {
        if splits.get(&split).is_some_and(Vec::is_empty) {
            let (dataset, split) = (spec.name.clone(), split.name());
            return Err(Error::TooFewRows {
                dataset,
                split,
                rows,
            });
        }
    }
    let dataset = Dataset {
        name: spec.name.clone(),
        labels,
        metrics: spec.metrics.clone(),
        made,
        dropped,
        splits,
    };
    let classes: BTreeSet<_> = dataset
        .split(Split::Train)
        .iter()
        .filter_map(|e| e.label)
        .collect();
    if let (1, Some(only)) = (classes.len(), classes.first()) {
        return Err(Error::OneClass {
            path: train_path.to_owned(),
            column: spec.label.column.clone(),
            value: dataset.labels[*only as usize].clone(),
        });
    }
    Ok(dataset)
}

/// Text columns, then the label.
fn table(spec: &DatasetSpec, split: Split, path: &Path) -> Result<Table> {
    let format = match spec.format {
        Some(format) => format,
        None => Format::of(path)?,
    };
    let mut columns: Vec<&str> = spec.text.iter().map(String::as_str).collect();
    columns.push(&spec.label.column);
    let wanted = Wanted {
        header: spec.columns.as_deref(),
        columns: &columns,
        optional: (split == Split::Test).then_some(spec.label.column.as_str()),
    };
    let table = read_table(path, format, &wanted)?;
    match spec.rows.get(&split) {
        Some(expected) if *expected != table.rows() => Err(Error::RowCount {
            path: path.to_owned(),
            dataset: spec.name.clone(),
            split: split.name(),
            rows: table.rows(),
            expected: *expected,
        }),
        _ => Ok(table),
    }
}

/// The label column's values, as numbers in ascending order if they all are, else as strings.
fn distinct(table: &Table) -> Vec<String> {
    let values = table.columns.last().into_iter().flatten().flatten();
    let values: BTreeSet<&str> = values
        .map(|value| value.trim())
        .filter(|value| !value.is_empty())
        .collect();
    let mut names: Vec<String> = values.into_iter().map(str::to_owned).collect();
    if names.iter().all(|name| name.parse::<i64>().is_ok()) {
        names.sort_by_key(|name| name.parse::<i64>().unwrap_or_default());
    }
    names
}

/// The rows of one file.
struct Rows<'a> {
    spec: &'a DatasetSpec,
    labels: &'a [String],
    split: Split,
    path: &'a Path,
}

impl Rows<'_> {
    fn examples(&self, mut table: Table, dropped: &mut usize) -> Result<Vec<Example>> {
        let labels = table.columns.pop().unwrap_or_default();
        // Only a test split may hide its labels, and then all of them.
        let hidden =
            self.split == Split::Test && labels.iter().all(|value| self.present(value).is_none());
        let mut columns: Vec<_> = table
            .columns
            .iter_mut()
            .map(std::mem::take)
            .map(Vec::into_iter)
            .collect();
        let mut examples = Vec::with_capacity(labels.len());
        for (row, label) in labels.iter().enumerate() {
            let mut texts = columns
                .iter_mut()
                .zip(&self.spec.text)
                .map(|(values, column)| {
                    let text = values.next().flatten().unwrap_or_default();
                    let stripped = text.trim();
                    if stripped.is_empty() {
                        return Err(self.missing(&table, row, column, "text"));
                    }
                    Ok(if self.spec.strip && stripped.len() < text.len() {
                        stripped.to_owned()
                    } else {
                        text
                    })
                });
            let text = texts.next().transpose()?.unwrap_or_default();
            let pair = texts.next().transpose()?;
            let label = match self.present(label) {
                _ if hidden => None,
                None => return Err(self.missing(&table, row, &self.spec.label.column, "label")),
                Some(value) => match self.class(value) {
                    Class::Is(class) => Some(class),
                    Class::OnThreshold => {
                        *dropped += 1;
                        continue;
                    }
                    Class::Unknown => return Err(self.unknown(&table, row, value)),
                },
            };
            examples.push(Example { text, pair, label });
        }
        Ok(examples)
    }

    /// A label's value, unless it is empty or stands for a hidden one.
    fn present<'v>(&self, value: &'v Option<String>) -> Option<&'v str> {
        let value = value.as_deref()?.trim();
        (!value.is_empty() && Some(value) != self.spec.label.hidden.as_deref()).then_some(value)
    }

    fn class(&self, value: &str) -> Class {
        if let Some(threshold) = self.spec.label.threshold {
            return match value.parse::<f64>() {
                Ok(rating) if rating == threshold => Class::OnThreshold,
                Ok(rating) if rating.is_finite() => Class::Is(u32::from(rating > threshold)),
                _ => Class::Unknown,
            };
        }
        let by_name = self.labels.iter().position(|name| name == value);
        // Where the names come from the specification, a file may hold their indices.
        let by_index = || {
            value
                .parse()
                .ok()
                .filter(|i| self.spec.label.names.is_some() && *i < self.labels.len())
        };
        match by_name.or_else(by_index) {
            Some(class) => Class::Is(class as u32),
            None => Class::Unknown,
        }
    }

    fn missing(&self, table: &Table, row: usize, column: &str, what: &'static str) -> Error {
        Error::MissingValue {
            path: self.path.to_owned(),
            at: table.at(row),
            column: column.to_owned(),
            what,
        }
    }

    fn unknown(&self, table: &Table, row: usize, value: &str) -> Error {
        /// Labels named in a message.
        const SHOWN: usize = 20;
        let mut accepted = match self.spec.label.threshold {
            Some(_) => "a number".to_owned(),
            None => self.labels[..self.labels.len().min(SHOWN)].join(", "),
        };
        if self.labels.len() > SHOWN {
            accepted += &format!(" … ({} in all)", self.labels.len());
        }
        if self.spec.label.names.is_some() && self.spec.label.threshold.is_none() {
            accepted += &format!(", or their indices 0 to {}", self.labels.len() - 1);
        }
        Error::UnknownLabel {
            path: self.path.to_owned(),
            at: table.at(row),
            column: self.spec.label.column.clone(),
            value: value.chars().take(80).collect(),
            accepted,
        }
    }
}

/// What a label's value means.
enum Class {
    Is(u32),
    OnThreshold,
    Unknown,
}
