//! A file of a data set, row by row: its texts and labels, or all that is wrong with them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use crate::{
    DatasetSpec, Error, Example, Format, Group, Objective, Result, Split,
    label::{self, Label},
    meaning::{Meaning, NoTarget},
    problems::{Fault, Problems},
    rows::{RowError, RowOptions, Rows, cell_text, require},
    split_words,
    text::check_regular,
    text_of,
};

/// A file of a data set, and how it is read.
pub(super) struct FileOf<'a> {
    spec: &'a DatasetSpec,
    split: Split,
    path: &'a Path,
    format: Option<Format>,
    text: &'a [String],
    label: Vec<&'a str>,
    /// The class of all its rows, where each class has a file.
    class: Option<&'a str>,
    rows: Option<usize>,
}

impl<'a> FileOf<'a> {
    pub(super) fn main(spec: &'a DatasetSpec, split: Split, path: &'a Path) -> Self {
        Self {
            spec,
            split,
            path,
            format: spec.format,
            text: &spec.text,
            label: spec.label.all().into_iter().map(String::as_str).collect(),
            class: None,
            rows: spec.rows.get(&split).copied(),
        }
    }

    /// Whether its cells are texts that pandas may have written, so that one may stand for a missing value.
    fn is_table(&self) -> bool {
        let format = self.format.or_else(|| Format::of(self.path).ok());
        matches!(format, Some(Format::Csv | Format::Tsv))
    }

    /// A file of rows of one class.
    pub(super) fn of_class(spec: &'a DatasetSpec, class: &'a str, path: &'a Path) -> Self {
        Self {
            class: Some(class),
            rows: None,
            ..Self::main(spec, Split::Train, path)
        }
    }

    /// A file that the user names for a split: its extension says its format, and nobody says how many rows it has.
    pub(super) fn own(spec: &'a DatasetSpec, split: Split, path: &'a Path) -> Self {
        Self {
            format: None,
            rows: None,
            ..Self::main(spec, split, path)
        }
    }

    pub(super) fn also(spec: &'a DatasetSpec, also: &'a crate::Also, path: &'a Path) -> Self {
        Self {
            spec,
            split: also.split,
            path,
            format: also.format,
            text: also.text.as_deref().unwrap_or(&spec.text),
            label: match &also.label_column {
                Some(column) => vec![column],
                None => spec.label.all().into_iter().map(String::as_str).collect(),
            },
            class: None,
            rows: also.rows,
        }
    }
}

/// The columns of a file that are needed, without its bad rows.
pub(super) struct Table {
    pub(super) path: PathBuf,
    pub(super) split: Split,
    pub(super) column: String,
    unit: &'static str,
    texts: Vec<(String, Option<String>)>,
    /// Those of each row; nothing where they are hidden.
    pub(super) labels: Vec<Option<Vec<Label>>>,
    groups: Option<Vec<String>>,
    places: Vec<usize>,
    pub(super) dropped: usize,
    /// Texts that pandas would read as missing: how many, and the first with its place.
    odd: (usize, Option<(usize, String)>),
}

impl Table {
    pub(super) fn read(file: &FileOf, notes: &mut Vec<String>) -> Result<Self> {
        let spec = file.spec;
        let group = match &spec.group {
            Some(Group::Column(column)) if file.split == Split::Train => Some(column.as_str()),
            _ => None,
        };
        let mut needed: Vec<&str> = file.text.iter().map(String::as_str).collect();
        needed.extend(group);
        let with_label: Vec<&str> = needed.iter().chain(&file.label).copied().collect();
        let options = RowOptions {
            format: Some(match file.format {
                Some(format) => format,
                None => Format::of(file.path)?,
            }),
            header: spec.columns.clone(),
            separator: spec.separator.clone(),
            quote: spec.quote.clone(),
            encoding: spec.encoding.clone(),
            skip: spec.skip,
            columns: with_label
                .iter()
                .map(|column| (*column).to_owned())
                .collect(),
            only_columns: true,
        };
        let empty = || Error::Empty {
            path: file.path.to_owned(),
        };
        check_regular(file.path)?;
        if std::fs::metadata(file.path).is_ok_and(|file| file.len() == 0) {
            return Err(empty());
        }
        let mut rows = Rows::open(file.path, &options)?;
        notes.extend(rows.notes().iter().cloned());
        if rows.header().is_some_and(<[String]>::is_empty) {
            return Err(empty());
        }
        // A test split may do without labels.
        let has_label = rows.header().is_none_or(|header| {
            file.label
                .iter()
                .all(|label| header.iter().any(|c| c == label))
        });
        rows.require(if file.split == Split::Test {
            &needed
        } else {
            &with_label
        })?;
        let unit = rows.unit();
        let mut table = Self {
            path: file.path.to_owned(),
            split: file.split,
            column: file.label.join("', '"),
            unit,
            texts: Vec::new(),
            labels: Vec::new(),
            groups: group.map(|_| Vec::new()),
            places: Vec::new(),
            dropped: 0,
            odd: (0, None),
        };
        let mut problems = Problems::new(unit);
        let mut missing: Vec<Fault> = Vec::new();
        let (mut count, mut keys) = (0, BTreeSet::new());
        for row in &mut rows {
            let row = match row {
                Ok(row) => row,
                Err(RowError::File(error)) => return Err(error),
                Err(RowError::Row(fault)) => {
                    count += 1;
                    problems.add(fault);
                    continue;
                }
            };
            count += 1;
            if keys.len() < 1000 {
                for key in row
                    .fields
                    .keys()
                    .filter(|key| !keys.contains(*key))
                    .collect::<Vec<_>>()
                {
                    keys.insert(key.clone());
                }
            }
            match table.take(file, group, row.place, row.fields, has_label) {
                Ok(()) => {}
                Err((true, fault)) => missing.push(fault),
                Err((false, fault)) => problems.add(fault),
            }
        }
        if count == 0 {
            return Err(empty());
        }
        if rows.header().is_none() {
            let keys: Vec<String> = keys.into_iter().collect();
            if !keys.is_empty() {
                require(
                    file.path,
                    &keys,
                    if file.split == Split::Test {
                        &needed
                    } else {
                        &with_label
                    },
                )?;
            }
        }
        table.hide_labels(&mut missing);
        if spec.drop_missing {
            table.dropped = missing.len();
        } else {
            missing.into_iter().for_each(|fault| problems.add(fault));
        }
        problems.check(file.path)?;
        if let (count, Some((place, text))) = &table.odd {
            notes.push(format!(
                "{}: texts that pandas reads as a missing value are read as texts: {count}, the first is '{text}' in {unit} \
                 {place}",
                file.path.display()
            ));
        }
        match file.rows {
            Some(expected) if expected != count => Err(Error::RowCount {
                path: file.path.to_owned(),
                dataset: spec.name.clone(),
                split: file.split.name(),
                rows: count,
                expected,
            }),
            _ => Ok(table),
        }
    }

    /// Takes a row; or says what is wrong with it, and whether it is that something is missing.
    fn take(
        &mut self,
        file: &FileOf,
        group: Option<&str>,
        place: usize,
        mut fields: Map<String, Value>,
        has_label: bool,
    ) -> std::result::Result<(), (bool, Fault)> {
        let mut value = |column: &str| fields.get_mut(column).map_or(Value::Null, Value::take);
        let odd = |column: &str, kind: &str| {
            let what = format!("column '{column}' is {kind}");
            (
                false,
                Fault::new(
                    place,
                    what,
                    None,
                    "accepted: a text, a number, true or false",
                ),
            )
        };
        let drop = "or leave such rows out with --drop-missing";
        let mut texts = Vec::with_capacity(2);
        for column in file.text {
            let cell = value(column);
            let cell = match file.spec.objective {
                Objective::Tokens => one_a_line(cell).map_err(|what| {
                    let what = format!("column '{column}' {what}");
                    let hint = "accepted: a list of tokens, none of them with a line break in it";
                    (false, Fault::new(place, what, None, hint))
                })?,
                _ => cell_text(&cell).map_err(|kind| odd(column, kind))?,
            };
            let text = cell.unwrap_or_default();
            if text.trim().is_empty() {
                let hint = format!("give the rows a text, remove them, {drop}");
                let what = format!("column '{column}' is empty");
                return Err((true, Fault::new(place, what, None, hint)));
            }
            if text.len() < 10 && label::MISSING.contains(&text.trim()) {
                self.odd.0 += 1;
                self.odd
                    .1
                    .get_or_insert_with(|| (place, text.trim().to_owned()));
            }
            let text = match text_of(&text, file.spec.strip) {
                stripped if stripped.len() < text.len() => stripped.to_owned(),
                _ => text,
            };
            texts.push(text);
        }
        let hidden = file.spec.label.hidden.as_deref();
        let is_hidden = |l: &Label| hidden.is_some_and(|hidden| label::is(l, hidden));
        let named = |l: &Label| {
            let names = &file.spec.label.names;
            names.iter().flatten().any(|name| *name == l.text)
        };
        let no_label = |column: &str, found: Option<Label>| {
            let found = found.map(|l| l.text).filter(|text| !text.is_empty());
            let found = found.map_or_else(|| "empty".to_owned(), |text| format!("'{text}'"));
            let what = format!("column '{column}' has no label");
            let hint = format!(
                "give the rows a label, remove them, {drop}; a value that is a label all the same is named in \
                 label.names of a YAML"
            );
            (true, Fault::new(place, what, Some(found), hint))
        };
        // Of a test split there may be none at all, which shows at the end.
        let may_lack = !has_label || file.split == Split::Test;
        let lists = matches!(
            file.spec.objective,
            Objective::MultiLabel | Objective::Tokens
        );
        let of_lists = match file.spec.objective {
            Objective::Tokens => "accepted: a list with a tag for each token",
            _ => {
                "accepted: a list such as [\"a\", \"b\"]; or a column with 0 or 1 for each class, all of them named \
                 (--label-column A,B, or label.columns of a YAML)"
            }
        };
        let completions = file.spec.objective == Objective::Completion;
        let label = match file.label.as_slice() {
            _ if file.class.is_some() => file.class.map(|class| vec![Label::named(class)]),
            [column] if completions => {
                let text = cell_text(&value(column)).map_err(|kind| odd(column, kind))?;
                let text = text.unwrap_or_default();
                let label = Label::written(text_of(&text, file.spec.strip));
                let missing = text.trim().is_empty()
                    || file.is_table() && Label::named(&text).is_missing()
                    || is_hidden(&label);
                match missing {
                    false => Some(vec![label]),
                    true if may_lack => None,
                    true => {
                        let found = match text.trim() {
                            "" => "empty".to_owned(),
                            text => format!("'{text}'"),
                        };
                        let what = format!("column '{column}' has no completion");
                        let hint = format!("give the rows a text to write, remove them, {drop}");
                        return Err((true, Fault::new(place, what, Some(found), hint)));
                    }
                }
            }
            [column] if lists => {
                let found = labels_of(value(column));
                let found = found.map_err(|what| {
                    let what = format!("column '{column}' {what}");
                    (false, Fault::new(place, what, None, of_lists))
                })?;
                match found {
                    None if !may_lack => return Err(no_label(column, None)),
                    found => found.map(|tags| as_entities(tags, &file.spec.label.entities)),
                }
            }
            [column] => {
                let label = Label::of(&value(column)).map_err(|kind| odd(column, kind))?;
                match label {
                    Some(label) if is_hidden(&label) && file.split == Split::Test => None,
                    Some(label) if named(&label) || !(label.is_missing() || is_hidden(&label)) => {
                        Some(vec![label])
                    }
                    _ if may_lack => None,
                    other => return Err(no_label(column, other)),
                }
            }
            columns => {
                let mut own = Some(Vec::new());
                for (i, column) in columns.iter().enumerate() {
                    let label = Label::of(&value(column)).map_err(|kind| odd(column, kind))?;
                    let yes = label.as_ref().and_then(label::yes);
                    match (yes, label) {
                        (Some(true), _) => {
                            let names = file.spec.label.names.as_ref();
                            let name = names.map_or(*column, |names| names[i].as_str());
                            own.iter_mut().for_each(|own| own.push(Label::named(name)));
                        }
                        (Some(false), _) => {}
                        (None, label) if label.as_ref().is_none_or(Label::is_missing) => {
                            if !may_lack {
                                return Err(no_label(column, label));
                            }
                            own = None;
                        }
                        (None, label) => {
                            let found = label.map(|l| format!("'{}'", l.text));
                            let what = format!("column '{column}' says neither yes nor no");
                            let hint = "accepted: 1 or 0, true or false";
                            return Err((false, Fault::new(place, what, found, hint)));
                        }
                    }
                }
                own
            }
        };
        if let (Some(groups), Some(column)) = (&mut self.groups, group) {
            let cell = cell_text(&value(column)).map_err(|kind| odd(column, kind))?;
            groups.push(cell.unwrap_or_default());
        }
        let mut texts = texts.into_iter();
        self.texts
            .push((texts.next().unwrap_or_default(), texts.next()));
        self.labels.push(label);
        self.places.push(place);
        Ok(())
    }

    /// Only a test split may hide its labels, and then all of them.
    fn hide_labels(&mut self, missing: &mut Vec<Fault>) {
        let some = self.labels.iter().any(Option::is_some);
        if self.split != Split::Test || !some {
            return;
        }
        for i in (0..self.labels.len())
            .rev()
            .filter(|i| self.labels[*i].is_none())
            .collect::<Vec<_>>()
        {
            let what = format!("column '{}' has no label", self.column);
            let hint = "of a test split all rows have a label, or none has";
            missing.push(Fault::new(
                self.places[i],
                what,
                Some("empty or hidden".into()),
                hint,
            ));
            self.labels.remove(i);
            self.texts.remove(i);
            self.places.remove(i);
        }
        missing.sort_by_key(|fault| fault.place);
    }

    pub(super) fn examples(self, meaning: &Meaning, dropped: &mut usize) -> Result<Kept> {
        let mut problems = Problems::new(self.unit);
        let mut kept = Kept {
            examples: Vec::with_capacity(self.texts.len()),
            groups: self.groups.as_ref().map(|_| Vec::new()),
        };
        let mut groups = self.groups.into_iter().flatten();
        for (((text, pair), label), place) in
            self.texts.into_iter().zip(self.labels).zip(self.places)
        {
            let group = groups.next();
            let label = match label {
                None => None,
                Some(labels) => match meaning.target(&labels, split_words(&text).count()) {
                    Ok(Some(target)) => Some(target),
                    Ok(None) => {
                        *dropped += 1;
                        continue;
                    }
                    Err(NoTarget {
                        what,
                        value,
                        accepted,
                    }) => {
                        let what = format!("column '{}' {what}", self.column);
                        let hint = format!("accepted: {accepted}");
                        problems.add(Fault::new(place, what, Some(value), hint));
                        continue;
                    }
                },
            };
            if let (Some(groups), Some(group)) = (&mut kept.groups, group) {
                groups.push(group);
            }
            kept.examples.push(Example { text, pair, label });
        }
        problems.check(&self.path)?;
        Ok(kept)
    }
}

/// The items of a list: of JSON, or of a text that is such a list. Nothing for an empty cell.
fn items(cell: Value) -> std::result::Result<Option<Vec<Value>>, &'static str> {
    match cell {
        Value::Null => Ok(None),
        Value::Array(items) => Ok(Some(items)),
        Value::String(text) if text.trim().is_empty() => Ok(None),
        Value::String(text) if text.trim_start().starts_with('[') => {
            let items = serde_json::from_str(&text);
            items
                .map(Some)
                .map_err(|_| "is no list in JSON (names stand in double quotes)")
        }
        _ => Err("is no list"),
    }
}

/// The labels of a list.
fn labels_of(cell: Value) -> std::result::Result<Option<Vec<Label>>, &'static str> {
    let Some(items) = items(cell)? else {
        return Ok(None);
    };
    let label = |item: &Value| match Label::of(item) {
        Ok(Some(label)) if !label.text.is_empty() => Ok(label),
        Ok(_) => Err("has an empty label in its list"),
        Err(_) => Err("has something other than texts and numbers in its list"),
    };
    items
        .iter()
        .map(label)
        .collect::<std::result::Result<_, _>>()
        .map(Some)
}

/// Tags of words as those of entities (BIO), where some of them stand for a type of entity.
fn as_entities(tags: Vec<Label>, types: &BTreeMap<String, String>) -> Vec<Label> {
    if types.is_empty() {
        return tags;
    }
    let mut before = None;
    let tag = |tag: &Label| {
        let kind = types.get(&tag.text);
        let begins = if before == kind { 'I' } else { 'B' };
        before = kind;
        Label::named(&kind.map_or("O".to_owned(), |kind| format!("{begins}-{kind}")))
    };
    tags.iter().map(tag).collect()
}

/// A list of tokens as a text with one on each line.
fn one_a_line(cell: Value) -> std::result::Result<Option<String>, &'static str> {
    let Some(items) = items(cell)? else {
        return Ok(None);
    };
    let mut tokens = Vec::with_capacity(items.len());
    for item in &items {
        let token = cell_text(item).map_err(|_| "has something other than texts in its list")?;
        let token = token.unwrap_or_default();
        if token.contains(['\n', '\r']) {
            return Err("has a token with a line break in it");
        }
        tokens.push(token);
    }
    Ok(Some(tokens.join("\n")))
}

/// The good rows of a file.
pub(super) struct Kept {
    pub(super) examples: Vec<Example>,
    pub(super) groups: Option<Vec<String>>,
}
