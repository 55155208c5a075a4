//! Rows of a file or a stream, one after the other, in bounded memory: what training, evaluation and prediction read.
//!
//! ```text
//! open(file) or of_stream(input)  →  Row { place, fields }  →  Row { … }  → …
//! ```
//! A row that cannot be read is a [`Fault`] of its own, and the next one follows; what ends the file is an [`Error`].

use std::{
    collections::BTreeSet,
    io::Read,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use crate::{
    Error, Format, Result,
    conll::Conll,
    delimited::{self, Delimited, Dialect},
    json_lines,
    nearest::nearest,
    parquet::Parquet,
    problems::Fault,
    tagged::{self, Tagged},
    text::{Text, check_regular},
};

/// How rows are written, where the file does not say it itself.
#[derive(Clone, Debug, Default)]
pub struct RowOptions {
    /// The format; without it the extension says, and for streams and other extensions the first line.
    pub format: Option<Format>,
    /// Names of the columns of a file without a header.
    pub header: Option<Vec<String>>,
    /// Between fields: one character, or `tab`.
    pub separator: Option<String>,
    /// Around fields: one character, or `none`.
    pub quote: Option<String>,
    /// Of the bytes, where it is not UTF-8.
    pub encoding: Option<String>,
    /// Rows below the header that hold no data.
    pub skip: usize,
    /// Columns that are needed: they tell a header from a text, and one separator from another.
    pub columns: Vec<String>,
    /// Whether only the columns needed are read.
    pub only_columns: bool,
}

/// A row of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The line where it begins, or its number in a file without lines; counted from 1.
    pub place: usize,
    /// Its values by column, in the order of the file. A cell of a table of text is a string.
    pub fields: Map<String, Value>,
}

/// Why there is no row.
#[derive(Debug)]
pub enum RowError {
    /// This row is not good; others follow.
    Row(Fault),
    /// The file cannot be read any further.
    File(Error),
}

impl From<Error> for RowError {
    fn from(error: Error) -> Self {
        RowError::File(error)
    }
}

enum Body {
    Delimited(Delimited),
    /// With the last line, whether there was a row, and the columns that are JSON pointers to something further in.
    Json(Text, usize, bool, Vec<String>),
    Lines(Text, usize, String),
    Parquet(Parquet, usize),
    Conll(Conll),
    Tagged(Tagged),
}

/// Rows one after the other.
pub struct Rows {
    body: Body,
    path: PathBuf,
    /// Columns of a format that has a header.
    header: Option<Vec<String>>,
    separator: u8,
    /// What was found out about the file, and has to be said.
    notes: Vec<String>,
    ended: bool,
}

impl Rows {
    /// The rows of a file.
    ///
    /// # Errors
    /// If it is no regular file, is of no known format, or its header lacks a column that is needed or has one twice.
    pub fn open(path: &Path, options: &RowOptions) -> Result<Self> {
        check_regular(path)?;
        let format = options.format.or_else(|| Format::of(path).ok());
        if format == Some(Format::Parquet) {
            return Self::parquet(path, options);
        }
        let encoding = options.encoding.as_deref();
        let mut text = Text::open(path, encoding)?;
        let format = match format {
            Some(format) => format,
            None => recognised(&mut text, options)?,
        };
        let mut rows = Self::of_text(text, format, options)?;
        // A stream cannot be read twice; there a TSV quotes as pandas takes it.
        if format == Format::Tsv && options.quote.is_none() {
            let quoted = Dialect {
                separator: rows.separator,
                quote: Some(b'"'),
            };
            if let Some(line) = delimited::quotes_fields(Text::open(path, encoding)?, quoted)? {
                let unquoted = RowOptions {
                    quote: Some("none".to_owned()),
                    ..options.clone()
                };
                rows = Self::of_text(Text::open(path, encoding)?, format, &unquoted)?;
                rows.notes.push(format!(
                    "{}: quotes are read as text: the one that begins a field in line {line} does not enclose it (--quote \
                     '\"' reads them as pandas does)",
                    path.display()
                ));
            }
        }
        Ok(rows)
    }

    /// The rows of a stream, which `name` stands for in messages.
    ///
    /// # Errors
    /// As [`Rows::open`].
    pub fn of_stream(
        input: Box<dyn Read + Send>,
        name: &str,
        options: &RowOptions,
    ) -> Result<Self> {
        // Few bytes, so that nobody waits for a writer who waits for an answer.
        let mut text = Text::new(input, Path::new(name), options.encoding.as_deref(), 4)?;
        let format = match options.format {
            Some(Format::Parquet) => {
                return Err(Error::Format {
                    path: name.into(),
                    message: "a parquet file cannot be read from a stream; name the file".into(),
                });
            }
            Some(format) => format,
            None => recognised(&mut text, options)?,
        };
        Self::of_text(text, format, options)
    }

    fn of_text(mut text: Text, format: Format, options: &RowOptions) -> Result<Self> {
        let path = text.path().to_owned();
        let mut notes: Vec<String> = text.note.iter().cloned().collect();
        let (own, quote) = match format {
            Format::Jsonl | Format::Parquet => {
                return Ok(Self {
                    body: Body::Json(
                        text,
                        0,
                        false,
                        options
                            .columns
                            .iter()
                            .filter(|c| c.starts_with('/'))
                            .cloned()
                            .collect(),
                    ),
                    path,
                    header: None,
                    separator: b',',
                    notes,
                    ended: false,
                });
            }
            Format::Lines => {
                let column = options.columns.first().cloned();
                return Ok(Self {
                    body: Body::Lines(text, 0, column.unwrap_or_else(|| "text".to_owned())),
                    path,
                    header: None,
                    separator: b',',
                    notes,
                    ended: false,
                });
            }
            Format::Conll => {
                let file = Conll::new(text, options.header.clone())?;
                return Ok(Self {
                    header: Some(file.columns.clone()),
                    body: Body::Conll(file),
                    path,
                    separator: b'\t',
                    notes,
                    ended: false,
                });
            }
            Format::Tagged => {
                return Ok(Self {
                    header: Some(tagged::COLUMNS.map(str::to_owned).into()),
                    body: Body::Tagged(Tagged::new(text)),
                    path,
                    separator: b' ',
                    notes,
                    ended: false,
                });
            }
            Format::Csv => (b',', Some(b'"')),
            Format::Tsv => (b'\t', Some(b'"')),
        };
        if text.peek(1, 16)?.trim_start().starts_with("{\"") {
            return Err(Error::Format {
                path,
                message:
                    "holds JSON, not a table; give it the extension .jsonl (one object per line)"
                        .into(),
            });
        }
        let asked = |key: &str, value: &Option<String>| {
            let value = value
                .as_deref()
                .map(|value| delimited::character(key, value));
            value.transpose().map_err(|message| Error::Format {
                path: path.clone(),
                message: format!("--{key}: {message}"),
            })
        };
        let named = asked("separator", &options.separator)?.flatten();
        let quote = asked("quote", &options.quote)?.unwrap_or(quote);
        let first = text.peek(1, 16)?;
        let mut rows = Delimited::new(
            text,
            Dialect {
                separator: own,
                quote,
            },
        );
        let by_line = if first.starts_with("sep=") {
            rows.separator_line()?
        } else {
            None
        };
        let mut separator = named.or(by_line).unwrap_or(own);
        if named.is_none() && by_line.is_none() && options.header.is_none() {
            let wanted: Vec<&str> = options.columns.iter().map(String::as_str).collect();
            separator = delimited::separator_of(&rows.peek()?, own, &wanted);
            if separator != own {
                notes.push(format!(
                    "{}: fields are separated by {}",
                    path.display(),
                    delimited::named(separator)
                ));
            }
        }
        if Some(separator) == quote {
            return Err(Error::Format {
                path,
                message: format!(
                    "--separator {0}: {0} is what encloses fields too; accepted: another character, or another --quote \
                     (none, for a file that encloses no fields)",
                    delimited::named(separator)
                ),
            });
        }
        rows.set_separator(separator);
        let header = match &options.header {
            Some(header) => header.clone(),
            None => match rows.next(false)? {
                Ok(first) => named_columns(&path, first.map_or(Vec::new(), |row| row.fields))?,
                Err(fault) => {
                    return Err(Error::Format {
                        path,
                        message: format!("line {}: {fault}", fault.place),
                    });
                }
            },
        };
        for _ in 0..options.skip {
            // What cannot be read as a row is no row either.
            drop(rows.next(false)?);
        }
        Ok(Self {
            body: Body::Delimited(rows),
            path,
            header: Some(header),
            separator,
            notes,
            ended: false,
        })
    }

    fn parquet(path: &Path, options: &RowOptions) -> Result<Self> {
        let wanted: Vec<&str> = options.columns.iter().map(String::as_str).collect();
        let file = Parquet::open(path, options.only_columns.then_some(&wanted[..]))?;
        if let Some((column, kind)) = file
            .unread
            .iter()
            .find(|(name, _)| options.columns.contains(name))
        {
            return Err(Error::Format {
                path: path.to_owned(),
                message: format!(
                    "column '{column}' is {kind}; accepted: texts, numbers, true and false"
                ),
            });
        }
        let mut notes = Vec::new();
        if !file.unread.is_empty() && !options.only_columns {
            let unread: Vec<String> = file
                .unread
                .iter()
                .map(|(name, kind)| format!("'{name}' ({kind})"))
                .collect();
            notes.push(format!(
                "{}: columns that are not read: {}",
                path.display(),
                unread.join(", ")
            ));
        }
        Ok(Self {
            path: path.to_owned(),
            header: Some(file.names.clone()),
            body: Body::Parquet(file, 0),
            separator: b',',
            notes,
            ended: false,
        })
    }

    /// What was found out about the file and has to be said: its encoding, its separator, quotes that are text.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Columns of a file that has a header; JSON and plain lines have none.
    pub fn header(&self) -> Option<&[String]> {
        self.header.as_deref()
    }

    /// What a row's place counts.
    pub fn unit(&self) -> &'static str {
        match self.body {
            Body::Parquet(..) => "row",
            _ => "line",
        }
    }

    /// Whether every row is a line of plain text.
    pub fn are_plain_lines(&self) -> bool {
        matches!(self.body, Body::Lines(..))
    }

    /// Whether every line that is not blank is a row.
    pub fn are_lines(&self) -> bool {
        matches!(self.body, Body::Lines(..) | Body::Json(..))
    }

    /// Refuses a header without one of `columns`.
    ///
    /// # Errors
    /// [`Error::MissingColumn`].
    pub fn require(&self, columns: &[&str]) -> Result<()> {
        match &self.header {
            Some(header) => require(&self.path, header, columns),
            None => Ok(()),
        }
    }

    fn delimited_row(&mut self) -> Result<Option<std::result::Result<Row, Fault>>> {
        let (Body::Delimited(rows), Some(header)) = (&mut self.body, &self.header) else {
            return Ok(None);
        };
        let row = match rows.next(false)? {
            Ok(None) => return Ok(None),
            Ok(Some(row)) => row,
            Err(fault) => {
                self.ended = true;
                return Ok(Some(Err(fault)));
            }
        };
        if row.fields.len() != header.len() {
            return Ok(Some(Err(Fault::new(
                row.line,
                format!(
                    "{} fields where there are {} columns",
                    row.fields.len(),
                    header.len()
                ),
                None,
                format!(
                    "the columns are {}; put a field that holds {} into double quotes",
                    shown(header),
                    delimited::named(self.separator)
                ),
            ))));
        }
        let fields = header
            .iter()
            .cloned()
            .zip(row.fields.into_iter().map(Value::String));
        Ok(Some(Ok(Row {
            place: row.line,
            fields: fields.collect(),
        })))
    }

    fn row(&mut self) -> Result<Option<std::result::Result<Row, Fault>>> {
        match &mut self.body {
            Body::Delimited(_) => self.delimited_row(),
            Body::Json(text, line, begun, pointers) => {
                while let Some(next) = text.line()? {
                    *line += 1;
                    if next.trim().is_empty() {
                        continue;
                    }
                    let place = *line;
                    let row = json_lines::object(place, &next);
                    // Of a file that is another kind of JSON, every line would be a fault of its own.
                    if let (Err(fault), false) = (&row, *begun)
                        && matches!(next.trim(), "{" | "[")
                    {
                        return Err(Error::Format {
                            path: self.path.clone(),
                            message: format!("line {place}: {fault}"),
                        });
                    }
                    *begun = true;
                    return Ok(Some(row.map(|fields| Row {
                        place,
                        fields: with_pointed(fields, pointers),
                    })));
                }
                Ok(None)
            }
            Body::Lines(text, line, column) => {
                while let Some(next) = text.line()? {
                    *line += 1;
                    if !next.trim().is_empty() {
                        let fields = [(column.clone(), Value::String(next))];
                        return Ok(Some(Ok(Row {
                            place: *line,
                            fields: fields.into_iter().collect(),
                        })));
                    }
                }
                Ok(None)
            }
            Body::Conll(file) => file.next(),
            Body::Tagged(file) => file.next(),
            Body::Parquet(file, row) => Ok(file.next()?.map(|fields| {
                *row += 1;
                Ok(Row {
                    place: *row,
                    fields,
                })
            })),
        }
    }
}

impl Iterator for Rows {
    type Item = std::result::Result<Row, RowError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let row = self.row();
        if matches!(row, Err(_) | Ok(None)) {
            self.ended = true;
        }
        match row {
            Err(error) => Some(Err(RowError::File(error))),
            Ok(row) => row.map(|row| row.map_err(RowError::Row)),
        }
    }
}

/// An object with what these pointers lead to, each under the pointer itself.
fn with_pointed(fields: Map<String, Value>, pointers: &[String]) -> Map<String, Value> {
    if pointers.is_empty() {
        return fields;
    }
    let whole = Value::Object(fields);
    let found = |pointer: &String| Some((pointer.clone(), whole.pointer(pointer)?.clone()));
    let found: Vec<_> = pointers.iter().filter_map(found).collect();
    let mut fields = match whole {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    fields.extend(found);
    fields
}

/// The format that the first line shows: JSON, a header with the columns needed, or plain texts.
fn recognised(text: &mut Text, options: &RowOptions) -> Result<Format> {
    let first = text.peek(1, 1 << 16)?;
    let start = first.trim_start();
    if start.starts_with(['{', '[']) {
        return Ok(Format::Jsonl);
    }
    if start.starts_with("sep=") {
        return Ok(Format::Csv);
    }
    let wanted: Vec<&str> = options.columns.iter().map(String::as_str).collect();
    let has_all = |separator: char| {
        let names: Vec<&str> = first
            .split(separator)
            .map(|name| name.trim().trim_matches('"'))
            .collect();
        !wanted.is_empty() && names.len() > 1 && wanted.iter().all(|name| names.contains(name))
    };
    Ok(if has_all('\t') {
        Format::Tsv
    } else if [',', ';', '|'].into_iter().any(has_all) || wanted == [start.trim_matches('"')] {
        Format::Csv
    } else {
        Format::Lines
    })
}

/// Names of a header; a column without a name is called as pandas calls it.
fn named_columns(path: &Path, header: Vec<String>) -> Result<Vec<String>> {
    let mut seen = BTreeSet::new();
    if let Some(twice) = header
        .iter()
        .find(|name| !name.is_empty() && !seen.insert(name.as_str()))
    {
        return Err(Error::Format {
            path: path.to_owned(),
            message: format!(
                "the header names the column '{twice}' twice; give each column a name of its own (columns: {})",
                shown(&header)
            ),
        });
    }
    let named = header
        .iter()
        .enumerate()
        .map(|(i, name)| match name.is_empty() {
            true => format!("Unnamed: {i}"),
            false => name.clone(),
        });
    Ok(named.collect())
}

pub(crate) fn require(path: &Path, header: &[String], columns: &[&str]) -> Result<()> {
    let is_there = |column: &str| header.iter().any(|name| name == column);
    let missing: Vec<&str> = columns.iter().copied().filter(|c| !is_there(c)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let quoted = |names: &[&str], joined: &str| {
        let names: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
        names.join(joined)
    };
    if header.is_empty() {
        return Err(Error::Format {
            path: path.to_owned(),
            message: format!(
                "the file is empty; its first line has to name the columns, among them {}",
                quoted(columns, ", ")
            ),
        });
    }
    let several =
        |column: &&str| column.contains(',') && column.split(',').all(|c| is_there(c.trim()));
    let near: Vec<&str> = missing
        .iter()
        .filter_map(|column| nearest(column, header.iter().map(String::as_str)))
        .collect();
    Err(Error::MissingColumn {
        path: path.to_owned(),
        missing: quoted(&missing, " and no column "),
        columns: shown(header),
        near: match near.is_empty() {
            _ if missing.iter().any(several) => {
                "; a column for each of several classes goes with --objective multi_label"
                    .to_owned()
            }
            true => String::new(),
            false => format!("; did you mean {}?", quoted(&near, " and ")),
        },
    })
}

/// Names in a message: not more than twenty.
pub(crate) fn shown(names: &[String]) -> String {
    const MOST: usize = 20;
    let first = names[..names.len().min(MOST)].join(", ");
    match names.len() {
        0..=MOST => first,
        n => format!("{first} … ({n} in all)"),
    }
}

/// A cell as text: a text, number or boolean; nothing for null.
pub(crate) fn cell_text(value: &Value) -> std::result::Result<Option<String>, &'static str> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        Value::Bool(_) | Value::Number(_) => Ok(Some(value.to_string())),
        Value::Array(_) => Err("a list"),
        Value::Object(_) => Err("an object"),
    }
}
