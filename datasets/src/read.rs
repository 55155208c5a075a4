//! From files to examples.

mod table;

use std::{collections::BTreeMap, path::PathBuf};

use crate::{
    Dataset, DatasetSpec, Error, Example, Format, Group, Objective, Result, Split, classes::gaps,
    group, label::Label, meaning::Meaning, parquet::class_names, repeats, rows::shown, split,
};
use table::{FileOf, Table};

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
