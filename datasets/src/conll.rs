//! Sentences in the form of CoNLL's shared tasks: one token on each line with its tags, a blank line after each sentence.
//!
//! Fields are separated by tabs, or by spaces where a line has no tab. Unless they are named, the first is `tokens` and the last
//! `tags`. Lines that begin with `-DOCSTART-` belong to no sentence.

use serde_json::{Map, Value};

use crate::{Error, Result, Row, problems::Fault, text::Text};

/// Begins a document.
const DOCUMENT: &str = "-DOCSTART-";

/// Sentences of a text.
pub(crate) struct Conll {
    text: Text,
    line: usize,
    /// Names of the fields of a line.
    pub columns: Vec<String>,
}

fn fields(line: &str) -> Vec<&str> {
    match line.contains('\t') {
        true => line.split('\t').collect(),
        false => line.split_whitespace().collect(),
    }
}

impl Conll {
    pub fn new(mut text: Text, named: Option<Vec<String>>) -> Result<Self> {
        let mut line = 0;
        let first = loop {
            let next = text.peek(1, 1 << 16)?;
            if !next.trim().is_empty() {
                break next;
            }
            if text.line()?.is_none() {
                break String::new();
            }
            line += 1;
        };
        let count = fields(&first).len();
        let columns = match named {
            Some(columns) if columns.len() == count || count == 0 => columns,
            Some(columns) => {
                return Err(Error::Format {
                    path: text.path().to_owned(),
                    message: format!(
                        "line {}: {count} fields where `columns` names {}: {}",
                        line + 1,
                        columns.len(),
                        columns.join(", ")
                    ),
                });
            }
            None => (0..count)
                .map(|i| match i {
                    0 => "tokens".to_owned(),
                    i if i + 1 == count => "tags".to_owned(),
                    i => format!("column {}", i + 1),
                })
                .collect(),
        };
        Ok(Self {
            text,
            line,
            columns,
        })
    }

    /// The next sentence, its columns as lists.
    pub fn next(&mut self) -> Result<Option<std::result::Result<Row, Fault>>> {
        let mut lists: Vec<Vec<Value>> = vec![Vec::new(); self.columns.len()];
        let (mut begin, mut fault) = (0, None);
        while let Some(line) = self.text.line()? {
            self.line += 1;
            if line.trim().is_empty() {
                if begin > 0 {
                    break;
                }
                continue;
            }
            if line.starts_with(DOCUMENT) {
                continue;
            }
            if begin == 0 {
                begin = self.line;
            }
            let fields = fields(&line);
            if fields.len() != lists.len() {
                fault.get_or_insert_with(|| {
                    Fault::new(
                        self.line,
                        format!("{} fields where there are {}", fields.len(), lists.len()),
                        None,
                        format!(
                            "each line has {}, with a tab or spaces between, and a blank line ends a sentence",
                            self.columns.join(", ")
                        ),
                    )
                });
                continue;
            }
            for (list, field) in lists.iter_mut().zip(fields) {
                list.push(field.into());
            }
        }
        if let Some(fault) = fault {
            return Ok(Some(Err(fault)));
        }
        let columns = self.columns.iter().cloned();
        let fields: Map<String, Value> = columns.zip(lists.into_iter().map(Value::Array)).collect();
        Ok((begin > 0).then_some(Ok(Row {
            place: begin,
            fields,
        })))
    }
}
