//! What is wrong with the rows of a file, gathered: every kind once, with its places and how many there are.

use std::{fmt, path::Path};

use crate::{Error, Result};

/// Places of one kind that a message names.
const SHOWN: usize = 10;

/// One thing that is wrong with one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The line, or the row of a file without lines; counted from 1.
    pub place: usize,
    /// What is wrong, the same words for all rows of the kind.
    pub what: String,
    /// What is peculiar to this row, such as the value found.
    pub detail: Option<String>,
    /// What to do.
    pub hint: String,
}

impl Fault {
    pub(crate) fn new(
        place: usize,
        what: impl Into<String>,
        detail: Option<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            place,
            what: what.into(),
            detail,
            hint: hint.into(),
        }
    }
}

/// `what (detail); hint`, without the place.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(detail) = &self.detail {
            write!(f, " ({detail})")?;
        }
        if !self.hint.is_empty() {
            write!(f, "; {}", self.hint)?;
        }
        Ok(())
    }
}

#[derive(Clone, Debug)]
struct Kind {
    what: String,
    hint: String,
    places: Vec<(usize, Option<String>)>,
    count: usize,
}

/// All that is wrong with the rows of a file.
#[derive(Clone, Debug)]
pub struct Problems {
    /// `line`, or `row` where there are no lines.
    unit: &'static str,
    kinds: Vec<Kind>,
}

impl Problems {
    pub(crate) fn new(unit: &'static str) -> Self {
        Self {
            unit,
            kinds: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, fault: Fault) {
        let at = (fault.place, fault.detail);
        match self.kinds.iter_mut().find(|kind| kind.what == fault.what) {
            Some(kind) => {
                kind.count += 1;
                if kind.places.len() < SHOWN {
                    kind.places.push(at);
                }
            }
            None => self.kinds.push(Kind {
                what: fault.what,
                hint: fault.hint,
                places: vec![at],
                count: 1,
            }),
        }
    }

    /// An error if there is anything.
    pub(crate) fn check(self, path: &Path) -> Result<()> {
        if self.kinds.is_empty() {
            return Ok(());
        }
        Err(Error::Rows {
            path: path.to_owned(),
            problems: self,
        })
    }
}

/// `line 3 (empty), line 5 ('NA'): what; hint. Also: …`
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, kind) in self.kinds.iter().enumerate() {
            if i > 0 {
                f.write_str(". Also: ")?;
            }
            if kind.count > 1 {
                write!(f, "{} {}s: ", kind.count, self.unit)?;
            }
            for (k, (place, detail)) in kind.places.iter().enumerate() {
                let comma = if k > 0 { ", " } else { "" };
                write!(f, "{comma}{} {place}", self.unit)?;
                if let Some(detail) = detail {
                    write!(f, " ({detail})")?;
                }
            }
            if kind.count > kind.places.len() {
                write!(f, " … and {} more", kind.count - kind.places.len())?;
            }
            write!(f, ": {}", kind.what)?;
            if !kind.hint.is_empty() {
                write!(f, "; {}", kind.hint)?;
            }
        }
        Ok(())
    }
}
