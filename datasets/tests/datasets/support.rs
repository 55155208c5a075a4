//! Small files and specifications of them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use peftbench_datasets::{Dataset, DatasetSpec, Error, Example, FileOptions, read, spec_from_path};
use polars::prelude::{Column, DataFrame, IntoColumn, NamedFrom, ParquetWriter, Series};
use tempfile::TempDir;

/// A folder with files, gone when dropped.
pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        fs::write(&path, contents).unwrap();
        path
    }
}

/// Reads a file with the columns `text` and `label`.
pub fn read_file(path: &Path) -> Result<Dataset, Error> {
    read_columns(path, &["text"], "label")
}

pub fn read_columns(path: &Path, text: &[&str], label: &str) -> Result<Dataset, Error> {
    let options = FileOptions {
        text_columns: text.iter().map(|column| column.to_string()).collect(),
        label_column: Some(label.to_owned()),
        ..FileOptions::default()
    };
    let spec = spec_from_path(path, &options)?;
    read(&spec, &[("train".to_owned(), path.to_owned())].into())
}

/// Reads `contents` as a file of this name.
pub fn read_text(name: &str, contents: impl AsRef<[u8]>) -> Result<Dataset, Error> {
    let folder = Folder::new();
    read_file(&folder.write(name, contents))
}

/// The specification of a YAML with the files `train`, `validation` and `test`, none of which has a place.
pub fn spec(rest: &str) -> DatasetSpec {
    let folder = Folder::new();
    let yaml = format!(
        "name: mine
source:
  files: {{ train: {{}}, validation: {{ optional: true }}, test: {{ optional: true }} }}
  places: [path: {{ folder: ., files: {{ train: train.csv, validation: validation.csv, test: test.csv }} }}]
text: [text]
{rest}"
    );
    spec_from_path(&folder.write("mine.yaml", yaml), &FileOptions::default()).unwrap()
}

/// The files of a folder by the names of [`spec`].
pub fn files(folder: &Folder, files: &[(&str, &str)]) -> BTreeMap<String, PathBuf> {
    files
        .iter()
        .map(|(name, contents)| {
            (
                name.to_string(),
                folder.write(&format!("{name}.csv"), contents),
            )
        })
        .collect()
}

/// `n` rows of CSV with a header, labels taking turns.
pub fn csv_rows(n: usize, labels: &[&str]) -> String {
    let row = |i: usize| format!("the text number {i},{}\n", labels[i % labels.len()]);
    format!("text,label\n{}", (0..n).map(row).collect::<String>())
}

pub fn parquet(path: &Path, columns: Vec<Column>) {
    let height = columns[0].len();
    let mut frame = DataFrame::new(height, columns).unwrap();
    ParquetWriter::new(fs::File::create(path).unwrap())
        .finish(&mut frame)
        .unwrap();
}

pub fn strings(name: &str, values: &[Option<&str>]) -> Column {
    Series::new(name.into(), values).into_column()
}

pub fn numbers(name: &str, values: &[Option<i64>]) -> Column {
    Series::new(name.into(), values).into_column()
}

pub fn example(text: &str, pair: Option<&str>, label: Option<u32>) -> Example {
    Example {
        text: text.into(),
        pair: pair.map(str::to_owned),
        label: label.map(peftbench_datasets::Target::Class),
    }
}

/// Checks that an error's message names all of `words`, in one line.
#[track_caller]
pub fn says<T>(result: Result<T, Error>, words: &[&str]) {
    let Err(error) = result else {
        panic!("accepted, but should be refused naming {words:?}");
    };
    let message = error.to_string();
    for word in words {
        assert!(message.contains(word), "{word:?} is not in {message:?}");
    }
    assert!(!message.contains('\n'), "more than one line: {message:?}");
}
