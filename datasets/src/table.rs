//! Columns of a file as strings.
//!
//! Parquet is read by polars. CSV, TSV and JSON lines are read by the `csv` and `serde_json` crates: polars 0.55 knows no
//! line numbers, refuses a CSV with a quote inside an unquoted field and panics on JSON lines that are all blank.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    path::Path,
};

use polars::prelude::{DataType, ParquetReader, SerReader};
use serde_json::{Map, Value};

use crate::{Error, Format, Result, caught};

/// The columns asked for, in the order asked for.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// Values by column, then row.
    pub columns: Vec<Vec<Option<String>>>,
    /// The line where each row begins, counted from 1; empty when the format has no lines.
    lines: Vec<usize>,
}

impl Table {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.columns.first().map_or(0, Vec::len)
    }

    /// Where a row is, in words.
    pub fn at(&self, row: usize) -> String {
        match self.lines.get(row) {
            Some(line) => format!("line {line}"),
            None => format!("row {}", row + 1),
        }
    }
}

/// Which columns to read.
pub(crate) struct Wanted<'a> {
    /// Names of the columns of a file without a header.
    pub header: Option<&'a [String]>,
    /// Columns to read, in this order.
    pub columns: &'a [&'a str],
    /// One of them that may be missing from the file; then it has no values.
    pub optional: Option<&'a str>,
}

impl Wanted<'_> {
    /// The place of each wanted column among the file's.
    fn places(&self, path: &Path, names: &[String]) -> Result<Vec<Option<usize>>> {
        let place = |column: &&str| {
            let place = names.iter().position(|name| name == column);
            if place.is_none() && self.optional != Some(column) {
                return Err(Error::MissingColumn {
                    path: path.to_owned(),
                    column: column.to_string(),
                    columns: names.join(", "),
                });
            }
            Ok(place)
        };
        self.columns.iter().map(place).collect()
    }
}

/// Reads the wanted columns of a file that has at least one row.
pub(crate) fn read_table(path: &Path, format: Format, wanted: &Wanted) -> Result<Table> {
    let io = |error| Error::Io {
        path: path.to_owned(),
        error,
    };
    let table = if fs::metadata(path).map_err(io)?.len() == 0 {
        Table::default()
    } else if format == Format::Parquet {
        parquet(path, File::open(path).map_err(io)?, wanted)?
    } else {
        let bytes = fs::read(path).map_err(io)?;
        let text = utf8(path, &bytes)?;
        match format {
            Format::Csv => delimited(path, text, b',', true, wanted)?,
            Format::Tsv => delimited(path, text, b'\t', false, wanted)?,
            Format::Jsonl | Format::Parquet => json_lines(path, text, wanted)?,
        }
    };
    if table.rows() == 0 {
        return Err(Error::Empty {
            path: path.to_owned(),
        });
    }
    Ok(table)
}

fn utf8<'a>(path: &Path, bytes: &'a [u8]) -> Result<&'a str> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let good = &bytes[..error.valid_up_to()];
        let line = 1 + good.iter().filter(|byte| **byte == b'\n').count();
        let in_line = good.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
        Error::Format {
            path: path.to_owned(),
            message: format!(
                "line {line}, byte {in_line}: 0x{:02x} is not UTF-8 here; save the file as UTF-8",
                bytes[error.valid_up_to()]
            ),
        }
    })?;
    // A byte-order mark is no part of the first column's name.
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

fn delimited(
    path: &Path,
    text: &str,
    separator: u8,
    quotes: bool,
    wanted: &Wanted,
) -> Result<Table> {
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(separator)
        .quoting(quotes)
        .has_headers(wanted.header.is_none())
        .from_reader(text.as_bytes());
    let mut lines = Lines {
        text,
        byte: 0,
        line: 1,
    };
    let mut error = |error: csv::Error, columns: usize| {
        let message = match error.kind() {
            csv::ErrorKind::UnequalLengths {
                pos: Some(pos),
                len,
                ..
            } => format!(
                "line {}: {len} fields, but there are {columns} columns{}",
                lines.at(pos),
                if quotes {
                    "; put quotes around a text that holds a comma"
                } else {
                    ""
                }
            ),
            _ => error.to_string(),
        };
        Error::Format {
            path: path.to_owned(),
            message,
        }
    };
    let names: Vec<String> = match wanted.header {
        Some(names) => names.to_vec(),
        None => match reader.headers() {
            Ok(names) => names.iter().map(str::to_owned).collect(),
            Err(e) => return Err(error(e, 0)),
        },
    };
    let places = wanted.places(path, &names)?;
    let mut starts = Vec::new();
    let mut columns = vec![Vec::new(); places.len()];
    let mut record = csv::StringRecord::new();
    loop {
        match reader.read_record(&mut record) {
            Ok(true) => {}
            Ok(false) => break,
            Err(e) => return Err(error(e, names.len())),
        }
        starts.extend(record.position().cloned());
        if record.len() != names.len() {
            return Err(Error::Format {
                path: path.to_owned(),
                message: format!(
                    "{} fields in a row, but there are {} columns: {}",
                    record.len(),
                    names.len(),
                    names.join(", ")
                ),
            });
        }
        for (column, place) in columns.iter_mut().zip(&places) {
            column.push(place.and_then(|place| record.get(place)).map(str::to_owned));
        }
    }
    let mut lines = Lines {
        text,
        byte: 0,
        line: 1,
    };
    Ok(Table {
        columns,
        lines: starts.iter().map(|start| lines.at(start)).collect(),
    })
}

/// Line numbers of ascending positions. The reader's own are one behind after `\r\n` and blank lines, which it passes
/// over only when it goes on to the next row.
struct Lines<'a> {
    text: &'a str,
    byte: usize,
    line: usize,
}

impl Lines<'_> {
    fn at(&mut self, position: &csv::Position) -> usize {
        let bytes = self.text.as_bytes();
        let mut end = position.byte() as usize;
        while matches!(bytes.get(end), Some(b'\r' | b'\n')) {
            end += 1;
        }
        let passed = bytes.get(self.byte..end).unwrap_or_default();
        self.line += passed.iter().filter(|byte| **byte == b'\n').count();
        self.byte = end;
        self.line
    }
}

fn json_lines(path: &Path, text: &str, wanted: &Wanted) -> Result<Table> {
    let format = |line: usize, message: String| Error::Format {
        path: path.to_owned(),
        message: format!("line {line}: {message}"),
    };
    let mut table = Table {
        columns: vec![Vec::new(); wanted.columns.len()],
        lines: Vec::new(),
    };
    let mut names = BTreeSet::new();
    for (number, line) in text.split('\n').enumerate().map(|(i, line)| (i + 1, line)) {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let mut row: Map<String, Value> = serde_json::from_str(line).map_err(|e| {
            let what = e.to_string();
            let what = what.split(" at line ").next().unwrap_or_default();
            format(
                number,
                format!("column {}: not a JSON object: {what}", e.column()),
            )
        })?;
        for (values, column) in table.columns.iter_mut().zip(wanted.columns) {
            values.push(match row.get_mut(*column).map(Value::take) {
                None | Some(Value::Null) => None,
                Some(Value::String(value)) => Some(value),
                Some(value @ (Value::Bool(_) | Value::Number(_))) => Some(value.to_string()),
                Some(value @ (Value::Array(_) | Value::Object(_))) => {
                    let kind = if value.is_array() {
                        "a list"
                    } else {
                        "an object"
                    };
                    let accepted = "accepted: a string, a number, true or false";
                    return Err(format(number, format!("'{column}' is {kind}; {accepted}")));
                }
            });
        }
        table.lines.push(number);
        for name in row.keys() {
            if !names.contains(name) {
                names.insert(name.clone());
            }
        }
    }
    if !table.lines.is_empty() {
        wanted.places(path, &names.into_iter().collect::<Vec<_>>())?;
    }
    Ok(table)
}

fn parquet(path: &Path, file: File, wanted: &Wanted) -> Result<Table> {
    let format = |message: String| Error::Format {
        path: path.to_owned(),
        message: format!("not a readable parquet file: {message}"),
    };
    let mut reader = ParquetReader::new(file);
    let names = caught(|| {
        let schema = reader.schema().map_err(|error| error.to_string())?;
        Ok(schema.iter_names().map(|name| name.to_string()).collect())
    });
    let names: Vec<String> = names.map_err(format)?;
    let places = wanted.places(path, &names)?;
    let present = places
        .iter()
        .flatten()
        .map(|place| names[*place].clone())
        .collect();
    let frame = caught(|| {
        reader
            .with_columns(Some(present))
            .finish()
            .map_err(|error| error.to_string())
    });
    let frame = frame.map_err(format)?;
    let mut columns = Vec::with_capacity(places.len());
    for (name, place) in wanted.columns.iter().zip(&places) {
        if place.is_none() {
            columns.push(vec![None; frame.height()]);
            continue;
        }
        let column = frame
            .column(name)
            .map_err(|error| format(error.to_string()))?;
        let kind = column.dtype();
        if !(kind.is_string() || kind.is_primitive_numeric() || kind.is_bool() || kind.is_null()) {
            return Err(Error::Format {
                path: path.to_owned(),
                message: format!(
                    "column '{name}' is of type {kind}; accepted: strings, numbers, booleans"
                ),
            });
        }
        let strings = column
            .cast(&DataType::String)
            .map_err(|error| format(error.to_string()))?;
        let values = strings.str().map_err(|error| format(error.to_string()))?;
        columns.push(
            values
                .iter()
                .map(|value| value.map(str::to_owned))
                .collect(),
        );
    }
    Ok(Table {
        columns,
        lines: Vec::new(),
    })
}
