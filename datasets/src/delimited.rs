//! Rows of separated values (CSV, TSV, `;` …), read as pandas reads them.
//!
//! A field that begins with the quote ends at the next single quote; two quotes stand for one; what follows until the
//! separator belongs to it. A quote elsewhere is a character like any other. Blank lines are passed over. The first line
//! may name the separator (`sep=;`, as Excel does).

use crate::{
    Result,
    problems::Fault,
    text::{LONGEST_ROW, Text},
};

/// What stands between fields and around them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dialect {
    pub separator: u8,
    pub quote: Option<u8>,
}

/// A row: its first line, counted from 1, and its fields.
pub(crate) struct Fields {
    pub line: usize,
    pub fields: Vec<String>,
}

/// Fields of a text, row by row.
pub(crate) struct Delimited {
    text: Text,
    dialect: Dialect,
    line: usize,
    after_return: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    /// At the beginning of a field.
    Begin,
    Plain,
    Quoted,
    /// After a quote inside a quoted field: the end of it, or the first of two.
    Quote,
}

impl Delimited {
    pub fn new(text: Text, dialect: Dialect) -> Self {
        Self {
            text,
            dialect,
            line: 1,
            after_return: false,
        }
    }

    /// Passes over the first line if it names the separator; the separator that it names.
    pub fn separator_line(&mut self) -> Result<Option<u8>> {
        let first = self.text.peek(1, 16)?;
        let named = first
            .strip_prefix("sep=")
            .filter(|rest| rest.len() == 1)
            .map(|rest| rest.as_bytes()[0]);
        if named.is_some() {
            self.text.line()?;
            self.line += 1;
        }
        Ok(named)
    }

    pub fn set_separator(&mut self, separator: u8) {
        self.dialect.separator = separator;
    }

    /// The first line, without consuming it.
    pub fn peek(&mut self) -> Result<String> {
        self.text.peek(1, 1 << 16)
    }

    /// The next row. `strict` also refuses what follows a closing quote and is no separator: then the file does not quote.
    pub fn next(&mut self, strict: bool) -> Result<std::result::Result<Option<Fields>, Fault>> {
        let Dialect { separator, quote } = self.dialect;
        let (mut fields, mut field) = (Vec::new(), Vec::new());
        let (mut state, mut quotes, mut begin, mut opened) = (State::Begin, false, self.line, 0);
        let (mut i, mut length) = (0, 0);
        loop {
            if i == self.text.rest().len() {
                self.text.consume(i);
                length += i;
                if length > LONGEST_ROW {
                    return Err(self.text.too_long(begin));
                }
                i = 0;
                if !self.text.more()? {
                    if state == State::Quoted {
                        return Ok(Err(Fault::new(
                            opened,
                            "a quote is opened and never closed",
                            None,
                            "close it, or write a quote inside a quoted field twice; --quote none reads quotes as text",
                        )));
                    }
                    let nothing = fields.is_empty() && field.is_empty() && !quotes;
                    fields.push(string(field));
                    return Ok(Ok((!nothing).then_some(Fields {
                        line: begin,
                        fields,
                    })));
                }
            }
            let byte = self.text.rest()[i];
            i += 1;
            if self.after_return {
                self.after_return = false;
                if byte == b'\n' && state != State::Quoted {
                    if fields.is_empty() && field.is_empty() {
                        begin = self.line;
                    }
                    continue;
                }
                if byte == b'\n' {
                    field.push(byte);
                    continue;
                }
            }
            if matches!(byte, b'\n' | b'\r') {
                self.line += 1;
                self.after_return = byte == b'\r';
            }
            match (state, byte) {
                (State::Quoted, byte) if Some(byte) == quote => state = State::Quote,
                (State::Quoted, byte) => field.push(byte),
                (State::Quote, byte) if Some(byte) == quote => {
                    field.push(byte);
                    state = State::Quoted;
                }
                (State::Begin, byte) if Some(byte) == quote => {
                    (state, quotes, opened) = (State::Quoted, true, self.line);
                }
                (_, byte) if byte == separator => {
                    fields.push(string(std::mem::take(&mut field)));
                    state = State::Begin;
                }
                (_, b'\n' | b'\r') => {
                    let blank = fields.is_empty()
                        && !quotes
                        && field.iter().all(|byte| matches!(byte, b' ' | b'\t'));
                    if blank {
                        field.clear();
                        (state, begin) = (State::Begin, self.line);
                        continue;
                    }
                    fields.push(string(field));
                    self.text.consume(i);
                    return Ok(Ok(Some(Fields {
                        line: begin,
                        fields,
                    })));
                }
                (State::Quote, _) if strict => {
                    return Ok(Err(Fault::new(
                        begin,
                        "text behind a closing quote",
                        None,
                        "",
                    )));
                }
                (State::Begin | State::Quote, byte) => {
                    field.push(byte);
                    state = State::Plain;
                }
                (State::Plain, byte) => field.push(byte),
            }
        }
    }
}

fn string(bytes: Vec<u8>) -> String {
    // Separators and quotes are ASCII, so that a field of UTF-8 is UTF-8.
    String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

/// Whether every field that begins with a quote is a quoted one. A TSV whose texts merely begin with a quote is not: its
/// quotes are text.
pub(crate) fn quotes_fields(text: Text, dialect: Dialect) -> Result<Option<usize>> {
    let mut rows = Delimited::new(text, dialect);
    loop {
        match rows.next(true)? {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(None),
            Err(fault) => return Ok(Some(fault.place)),
        }
    }
}

/// The separator of a header that has `wanted` columns: the format's own, or another where only that finds them.
pub(crate) fn separator_of(header: &str, own: u8, wanted: &[&str]) -> u8 {
    let found = |separator: u8| {
        let names: Vec<&str> = header
            .split(char::from(separator))
            .map(|name| name.trim().trim_matches('"'))
            .collect();
        wanted.iter().filter(|name| names.contains(name)).count()
    };
    let mut best = (own, found(own));
    for separator in *b",;\t|" {
        if found(separator) > best.1 {
            best = (separator, found(separator));
        }
    }
    // No name is found at all: the one that the header holds most of.
    if best.1 == 0 && !header.contains(char::from(own)) {
        let count = |separator: u8| header.matches(char::from(separator)).count();
        let most = b",;\t|".iter().copied().max_by_key(|s| count(*s));
        if let Some(most) = most.filter(|s| count(*s) > 0) {
            return most;
        }
    }
    best.0
}

/// A separator in words.
pub(crate) fn named(separator: u8) -> String {
    match separator {
        b'\t' => "tab".to_owned(),
        other => format!("'{}'", char::from(other)),
    }
}

/// Reads a separator or quote as a user writes it: one ASCII character, `tab`, `\t`; `none` for no quote.
pub(crate) fn character(key: &str, text: &str) -> std::result::Result<Option<u8>, String> {
    match text {
        "tab" | "\\t" | "\t" => Ok(Some(b'\t')),
        "none" if key == "quote" => Ok(None),
        _ => match text.as_bytes() {
            [byte] if byte.is_ascii() && !matches!(byte, b'\n' | b'\r' | b'\0') => Ok(Some(*byte)),
            _ => Err(format!(
                "'{text}' is not one character; accepted: one ASCII character{}",
                if key == "quote" {
                    ", or none"
                } else {
                    ", or tab"
                }
            )),
        },
    }
}
