//! From files to examples.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::{
    Completion, DatasetSpec, Error, Format, Group, Metric, Objective, Result, Split, Target, Words,
    classes::gaps,
    group, hex,
    label::{self, Label},
    meaning::{Meaning, NoTarget, OUTSIDE},
    parquet::class_names,
    problems::{Fault, Problems},
    repeats,
    rows::{RowError, RowOptions, Rows, cell_text, require, shown},
    split,
    text::check_regular,
};

/// A row of a data set.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// The text, or the first of two; where each word has a tag, the words, one on each line.
    pub text: String,
    /// The second text.
    pub pair: Option<String>,
    /// What is true of it; `None` where that is hidden.
    pub label: Option<Target>,
}

/// The words of an example whose words have tags.
pub fn split_words(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n')
}

/// A text as it is tokenised: without white space around it where the data set or the task says so. Training, evaluation
/// and prediction all take their texts through this.
pub fn text_of(text: &str, strip: bool) -> &str {
    if strip { text.trim() } else { text }
}

/// A data set in memory.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// Its name.
    pub name: String,
    /// What is predicted.
    pub objective: Objective,
    /// Names of the classes or tags; an example's label is an index into them. None for a number or a text.
    pub labels: Vec<String>,
    /// How it is judged, the main metric first.
    pub metrics: Vec<Metric>,
    /// Splits that had no file and were taken out of the training rows by hash of the text.
    pub made: Vec<Split>,
    /// Rows left out because their rating is on the threshold.
    pub dropped: usize,
    /// Rows left out because they have no text or no label.
    pub dropped_missing: usize,
    /// Whether white space around texts was cut off: what saved weights have to keep, see [`text_of`].
    pub strip: bool,
    /// With what a language model is asked for the class.
    pub words: Option<Words>,
    /// What completions are written behind, and how long they may be.
    pub completion: Option<Completion>,
    /// The longest text in tokens, in place of the recipe's own.
    pub max_tokens: Option<usize>,
    /// What was done to the rows and has to be said.
    pub notes: Vec<String>,
    splits: BTreeMap<Split, Vec<Example>>,
    /// The group of each training example, where a column says it.
    groups: Option<Vec<String>>,
    parts: bool,
    /// The file of the training rows and its column of labels.
    labelled: (PathBuf, String),
}

impl Dataset {
    /// The examples of a split, in the order of the file. Every training and validation example has a label; of a test
    /// split all have or none has. A test split may be empty.
    pub fn split(&self, split: Split) -> &[Example] {
        self.splits.get(&split).map_or(&[], Vec::as_slice)
    }

    /// Whether its examples are pairs of texts.
    pub fn has_pairs(&self) -> bool {
        let first = self.splits.values().flatten().next();
        first.is_some_and(|example| example.pair.is_some())
    }

    /// Whether there is something to learn from it.
    ///
    /// # Errors
    /// If all training examples have one label, the same number or the same classes, or no word of them is of an entity.
    pub fn check_trainable(&self) -> Result<()> {
        let train = self.split(Split::Train).iter();
        let mut targets = train.filter_map(|e| e.label.as_ref());
        let Some(first) = targets.next() else {
            return Ok(());
        };
        let name = |label: &u32| self.labels[*label as usize].as_str();
        let no_entity = |target: &Target| target.labels().iter().all(|tag| name(tag) == OUTSIDE);
        let constant = match first {
            Target::Tags(_) => no_entity(first) && targets.all(no_entity),
            // One text may be the answer to everything.
            Target::Text(_) => false,
            _ => targets.all(|target| target == first),
        };
        if !constant {
            return Ok(());
        }
        let what = match first {
            Target::Class(only) => format!(
                "all rows for training have the label '{}'; a classifier needs at least two classes",
                name(only)
            ),
            Target::Number(only) => format!(
                "all rows for training have the number {only}; there is nothing to learn from it"
            ),
            Target::Classes(_) => {
                let own = first.labels();
                let own: Vec<&str> = own.iter().map(name).collect();
                format!(
                    "all rows for training have the same classes ({}); there is nothing to learn from them",
                    if own.is_empty() {
                        "none".to_owned()
                    } else {
                        own.join(", ")
                    }
                )
            }
            Target::Tags(_) | Target::Text(_) => format!(
                "every word for training has the tag {OUTSIDE}; without an entity there is nothing to find"
            ),
        };
        Err(Error::Constant {
            dataset: self.name.clone(),
            path: self.labelled.0.clone(),
            column: self.labelled.1.clone(),
            what,
        })
    }

    /// Indices of the training examples that stay, and of those held out: about `fraction` of them (0 … 1), by hash and
    /// independent of how splits were made. Examples of one group are on one side.
    pub fn hold_out(&self, fraction: f64) -> (Vec<u32>, Vec<u32>) {
        let train = self.split(Split::Train);
        let parts = self.parts.then(|| group::parts(train));
        let groups = parts.as_deref().or(self.groups.as_deref());
        split::hold_out(train, groups, fraction)
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
                let hidden = || u32::MAX.to_le_bytes().into();
                part(&example.label.as_ref().map_or_else(hidden, Target::bytes));
            }
        }
        if !self.objective.is_classification() {
            part(self.objective.name().as_bytes());
        }
        hex(&hash.finalize())
    }
}

/// Reads a data set from `files`: the names of the specification's files, and where they are.
///
/// A split without a file takes 10 % of the training rows, by hash of the text. A file of [`DatasetSpec::also`] that is not
/// among `files` is done without, which a note says.
///
/// # Errors
/// On anything in the files that is not as the specification says: all rows of a file that are not good at once, with
/// their lines, the column and the values.
pub fn read(spec: &DatasetSpec, files: &BTreeMap<String, PathBuf>) -> Result<Dataset> {
    let invalid = |message: String| Error::Spec {
        file: spec.name.clone(),
        message,
    };
    spec.check(&spec.name)?;
    let mut notes = Vec::new();
    let spec = &named_by_its_file(spec, files, &mut notes);
    let elsewhere = |split: &Split| spec.split_files.contains_key(split);
    let mut all: Vec<FileOf> = Vec::new();
    for (split, name) in spec.splits.iter().filter(|(split, _)| !elsewhere(split)) {
        let optional = spec
            .source
            .files
            .get(name)
            .is_some_and(|file| file.optional);
        match files.get(name) {
            Some(path) => all.push(FileOf::main(spec, *split, path)),
            None if optional && *split != Split::Train => {}
            None => {
                return Err(invalid(format!(
                    "splits: the file '{name}' of {} was not fetched",
                    split.name()
                )));
            }
        }
    }
    for (class, name) in &spec.label.files {
        let path = files.get(name).ok_or_else(|| {
            invalid(format!(
                "label.files: the file '{name}' of {class} was not fetched"
            ))
        })?;
        all.push(FileOf::of_class(spec, class, path));
    }
    let own = spec.split_files.iter();
    all.extend(own.map(|(split, path)| FileOf::own(spec, *split, path)));
    for also in spec.also.iter().filter(|also| !elsewhere(&also.split)) {
        match files.get(&also.name) {
            Some(path) => all.push(FileOf::also(spec, also, path)),
            None => notes.push(format!(
                "data set '{}': {} rows without '{}' ({}), which was not found",
                spec.name,
                also.split.name(),
                also.name,
                also.about
            )),
        }
    }
    // What is wrong with any of the files, before anything is made of one.
    let read: Vec<Result<Table>> = all.iter().map(|f| Table::read(f, &mut notes)).collect();
    let tables = all_or_errors(read)?;
    let train = tables.iter().find(|table| table.split == Split::Train);
    let Some(train) = train else {
        return Err(invalid("splits: train is missing".into()));
    };
    let train_path = train.path.clone();
    let labelled = (train.path.clone(), train.column.clone());
    // Those of the first file, or of each class's.
    let of_train = tables.iter().filter(|table| table.split == Split::Train);
    let of_train = of_train.take(spec.label.files.len().max(1));
    let labels = of_train.flat_map(|table| &table.labels);
    let labels: Vec<Label> = labels.flatten().flatten().cloned().collect();
    let all = tables.iter().flat_map(|table| &table.labels);
    let all = all.flatten().flatten().cloned();
    let learnt = Meaning::learnt(spec.objective, &spec.label, &labels, all);
    let (meaning, said) = learnt.map_err(|why| Error::NoClasses {
        path: train_path.clone(),
        column: spec.label.column.clone(),
        why,
    })?;
    let of_file = |note| format!("{}: {note}", train_path.display());
    notes.extend(said.into_iter().map(of_file));
    let (mut dropped, mut dropped_missing) = (0, 0);
    let mut splits: BTreeMap<Split, Vec<Example>> = BTreeMap::new();
    let mut groups = None;
    let order: Vec<Split> = tables.iter().map(|table| table.split).collect();
    dropped_missing += tables.iter().map(|table| table.dropped).sum::<usize>();
    let kept = tables
        .into_iter()
        .map(|table| table.examples(&meaning, &mut dropped))
        .collect();
    for (split, rows) in order.into_iter().zip(all_or_errors(kept)?) {
        if split == Split::Train {
            groups = rows.groups;
        }
        splits.entry(split).or_default().extend(rows.examples);
    }
    if dropped_missing > 0 {
        notes.push(format!(
            "data set '{}': {dropped_missing} rows without a text or a label were left out",
            spec.name
        ));
    }
    let made: Vec<Split> = [Split::Validation, Split::Test]
        .into_iter()
        .filter(|split| !spec.splits.contains_key(split) && !elsewhere(split))
        .collect();
    let mut train = splits.remove(&Split::Train).unwrap_or_default();
    if spec.distinct {
        let keep = repeats::distinct(&train);
        if let Some(note) = keep.note() {
            notes.push(format!("data set '{}': {note}", spec.name));
        }
        train = keep.of(train);
        groups = groups.map(|groups| keep.of(groups));
    }
    let (rows, texts) = (train.len(), repeats::texts(&train));
    let parts = spec.group == Some(Group::Parts);
    let of_parts = (parts && !made.is_empty()).then(|| group::parts(&train));
    let together = of_parts.as_deref().or(groups.as_deref());
    let taken = split::make(&train, together, &made);
    let mut train: Vec<Option<Example>> = train.into_iter().map(Some).collect();
    for (split, indices) in made.iter().copied().chain([Split::Train]).zip(&taken) {
        let examples = indices.iter().filter_map(|i| train[*i as usize].take());
        splits.entry(split).or_default().extend(examples);
    }
    let kept = taken.last().map_or(&[][..], Vec::as_slice);
    let groups = groups.map(|groups| kept.iter().map(|i| groups[*i as usize].clone()).collect());
    for split in [Split::Train, Split::Validation] {
        if splits.get(&split).is_some_and(Vec::is_empty) {
            let (dataset, split) = (spec.name.clone(), split.name());
            return Err(Error::TooFewRows {
                dataset,
                split,
                rows,
                texts,
            });
        }
    }
    let words = spec.words();
    let labels = meaning.names();
    if let Some(words) = &words {
        let problems = words.problems(spec.text.len() == 2, Some(labels.len()));
        if !problems.is_empty() {
            return Err(Error::Words {
                message: format!("data set '{}': {}", spec.name, problems.join("; ")),
            });
        }
    }
    let mut dataset = Dataset {
        name: spec.name.clone(),
        objective: spec.objective,
        words,
        completion: spec.completion(),
        max_tokens: spec.max_tokens,
        labels,
        metrics: spec.metrics.clone(),
        made,
        dropped,
        dropped_missing,
        strip: spec.strip,
        notes,
        splits,
        groups,
        parts,
        labelled,
    };
    let said = gaps(&dataset.classes()).into_iter();
    let what = match dataset.objective {
        Objective::Tokens => "tag",
        _ => "class",
    };
    let said = said.map(|gap| format!("{what} {gap}"));
    let said: Vec<String> = said
        .chain(repeats::notes(
            &dataset.splits,
            &dataset.labels,
            dataset.objective,
        ))
        .map(|said| format!("data set '{}': {said}", dataset.name))
        .collect();
    dataset.notes.extend(said);
    Ok(dataset)
}

/// The specification with the names of classes that the training file says itself, where it names none. Its mark of a label
/// that is missing comes along: `datasets` of Hugging Face writes -1.
fn named_by_its_file(
    spec: &DatasetSpec,
    files: &BTreeMap<String, PathBuf>,
    notes: &mut Vec<String>,
) -> DatasetSpec {
    let mut spec = spec.clone();
    let of_classes = matches!(
        spec.objective,
        Objective::Classification | Objective::MultiLabel | Objective::Tokens
    );
    let label = &mut spec.label;
    let open = label.names.is_none() && label.threshold.is_none() && label.entities.is_empty();
    let train = spec.splits.get(&Split::Train);
    let Some(path) = train.and_then(|name| files.get(name)) else {
        return spec;
    };
    let format = spec.format.or_else(|| Format::of(path).ok());
    if !of_classes || !open || label.column.is_empty() || format != Some(Format::Parquet) {
        return spec;
    }
    // (What is wrong with the file is said where its rows are read.)
    if let Ok(Some(names)) = class_names(path, &label.column) {
        notes.push(format!(
            "{}: column '{}' holds numbers of classes that the file names: {}",
            path.display(),
            label.column,
            shown(&names)
        ));
        label.names = Some(names);
        label.hidden.get_or_insert_with(|| "-1".to_owned());
    }
    spec
}

/// All values, or all errors as one.
fn all_or_errors<T>(results: Vec<Result<T>>) -> Result<Vec<T>> {
    let (mut values, mut errors) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(value) => values.push(value),
            Err(error) => errors.push(error),
        }
    }
    match (errors.pop(), errors.is_empty()) {
        (None, _) => Ok(values),
        (Some(only), true) => Err(only),
        (Some(last), false) => {
            errors.push(last);
            Err(Error::Several(errors))
        }
    }
}

/// A file of a data set, and how it is read.
struct FileOf<'a> {
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
    fn main(spec: &'a DatasetSpec, split: Split, path: &'a Path) -> Self {
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
    fn of_class(spec: &'a DatasetSpec, class: &'a str, path: &'a Path) -> Self {
        Self {
            class: Some(class),
            rows: None,
            ..Self::main(spec, Split::Train, path)
        }
    }

    /// A file that the user names for a split: its extension says its format, and nobody says how many rows it has.
    fn own(spec: &'a DatasetSpec, split: Split, path: &'a Path) -> Self {
        Self {
            format: None,
            rows: None,
            ..Self::main(spec, split, path)
        }
    }

    fn also(spec: &'a DatasetSpec, also: &'a crate::Also, path: &'a Path) -> Self {
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
struct Table {
    path: PathBuf,
    split: Split,
    column: String,
    unit: &'static str,
    texts: Vec<(String, Option<String>)>,
    /// Those of each row; nothing where they are hidden.
    labels: Vec<Option<Vec<Label>>>,
    groups: Option<Vec<String>>,
    places: Vec<usize>,
    dropped: usize,
    /// Texts that pandas would read as missing: how many, and the first with its place.
    odd: (usize, Option<(usize, String)>),
}

impl Table {
    fn read(file: &FileOf, notes: &mut Vec<String>) -> Result<Self> {
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

    fn examples(self, meaning: &Meaning, dropped: &mut usize) -> Result<Kept> {
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
struct Kept {
    examples: Vec<Example>,
    groups: Option<Vec<String>>,
}
