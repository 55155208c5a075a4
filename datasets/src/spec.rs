//! What a data set is: one YAML each, or a file of the user's own.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use sources::{FileSpec, PathPlace, Place, Source};

use crate::{
    Completion, Error, Group, Metric, Objective, Result, Split, Words,
    delimited::character,
    format::{Format, extension},
    text::{check_regular, encoding, open_regular},
    yaml::from_yaml,
};

/// A data set, as its YAML describes it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetSpec {
    /// Its name.
    pub name: String,
    /// What it is, in a line.
    #[serde(default)]
    pub about: String,
    /// Under which terms it may be used.
    #[serde(default)]
    pub licence: String,
    /// Who made it.
    #[serde(default)]
    pub citation: String,
    /// Where to read about it.
    #[serde(default)]
    pub homepage: String,
    /// Its files, and where they are found.
    pub source: Source,
    /// Which file is which split. A validation or test split without a file is taken out of the training rows. Where each
    /// class has a file of its own ([`LabelSpec::files`]), those are the training rows.
    #[serde(default)]
    pub splits: BTreeMap<Split, String>,
    /// Rows in the file of each split, where they are known.
    #[serde(default)]
    pub rows: BTreeMap<Split, usize>,
    /// The files' format; without it, their extension says.
    #[serde(default)]
    pub format: Option<Format>,
    /// The columns of a CSV or TSV without a header, or of CoNLL's lines.
    #[serde(default)]
    pub columns: Option<Vec<String>>,
    /// What is predicted.
    #[serde(default)]
    pub objective: Objective,
    /// Rows below the header of a CSV or TSV that hold no data, such as a second header.
    #[serde(default)]
    pub skip: usize,
    /// The text's column, or the two of a pair; of tokens, the column with the list of words.
    pub text: Vec<String>,
    /// The label's column and values.
    pub label: LabelSpec,
    /// What stands around a text where a language model is asked for a word; see [`Words::template`].
    #[serde(default)]
    pub template: Option<String>,
    /// A word for each class; see [`Words::words`].
    #[serde(default)]
    pub words: Option<Vec<String>>,
    /// What a completion is written behind; see [`Completion::prompt`].
    #[serde(default)]
    pub prompt: Option<String>,
    /// The most tokens of a completion; see [`Completion::max_new_tokens`].
    #[serde(default)]
    pub max_new_tokens: Option<usize>,
    /// The longest text in tokens, in place of the recipe's own, where the user sets none.
    #[serde(default)]
    pub max_tokens: Option<usize>,
    /// How it is judged, the main metric first; without it, as its objective is.
    #[serde(default = "accuracy")]
    pub metrics: Vec<Metric>,
    /// Whether white space around texts is cut off; see [`crate::text_of`].
    #[serde(default)]
    pub strip: bool,
    /// Between fields of a CSV or TSV: one character, or `tab`; without it the header shows it.
    #[serde(default)]
    pub separator: Option<String>,
    /// Around fields of a CSV or TSV: one character, or `none`; without it `"`, where the file quotes fields.
    #[serde(default)]
    pub quote: Option<String>,
    /// The files' encoding, where it is not UTF-8.
    #[serde(default)]
    pub encoding: Option<String>,
    /// Whether rows without a text or a label are left out (and counted) instead of refused.
    #[serde(default)]
    pub drop_missing: bool,
    /// Whether training rows that repeat the text of another row are left out (and counted), and all rows of a text that has
    /// several labels.
    #[serde(default)]
    pub distinct: bool,
    /// What keeps examples together when a split is made or a part is held out.
    #[serde(default, with = "serde_yaml::with::singleton_map")]
    pub group: Option<Group>,
    /// Files from other places whose rows are added to a split, where they are found.
    #[serde(default)]
    pub also: Vec<Also>,
    /// A data set that may be used instead where this one is not found; the user is told.
    #[serde(default)]
    pub stand_in: Option<String>,
    /// Files of this machine that are whole splits, in place of what `splits` says; see [`FileOptions::split_files`].
    #[serde(skip)]
    pub split_files: BTreeMap<Split, PathBuf>,
}

/// A file from a place of its own whose rows are added to a split.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Also {
    /// Its name, among those of the files.
    pub name: String,
    /// What it is, in a line.
    #[serde(default)]
    pub about: String,
    /// The split.
    pub split: Split,
    /// Its one file, called `rows`, and where it is found.
    pub source: Source,
    /// Rows in it, where they are known.
    #[serde(default)]
    pub rows: Option<usize>,
    /// Its format; without it, the extension says.
    #[serde(default)]
    pub format: Option<Format>,
    /// Its text columns, where they have other names than the data set's.
    #[serde(default)]
    pub text: Option<Vec<String>>,
    /// Its label's column, where it has another name.
    #[serde(default)]
    pub label_column: Option<String>,
}

/// What a user says about a file or a YAML of their own; what is not said is left as it is.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct FileOptions {
    /// The text's column, or the two of a pair.
    pub text_columns: Vec<String>,
    /// The label's column; of several labels, their columns with commas between.
    pub label_column: Option<String>,
    /// What is predicted.
    pub objective: Option<String>,
    /// The main metric.
    pub metric: Option<String>,
    /// As [`DatasetSpec::separator`].
    pub separator: Option<String>,
    /// As [`DatasetSpec::quote`].
    pub quote: Option<String>,
    /// As [`DatasetSpec::encoding`].
    pub encoding: Option<String>,
    /// As [`DatasetSpec::drop_missing`].
    pub drop_missing: bool,
    /// Further files with the same columns: the validation and the test split, where they are not in or part of the
    /// first one.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub split_files: BTreeMap<Split, PathBuf>,
    /// As [`DatasetSpec::template`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// As [`DatasetSpec::words`]; nothing where empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub words: Vec<String>,
    /// As [`DatasetSpec::prompt`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// As [`DatasetSpec::max_new_tokens`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_new_tokens: Option<usize>,
}

impl FileOptions {
    /// Whether nothing is said of how a file is read.
    pub fn is_empty(&self) -> bool {
        let of_file = Self {
            template: None,
            words: Vec::new(),
            prompt: None,
            max_new_tokens: None,
            ..self.clone()
        };
        of_file == Self::default()
    }
}

/// Where labels are and what they mean.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LabelSpec {
    /// The column. It may hold names or, when `names` is given, their indices; lists of them where a text has several, or
    /// each token has one; a number, for regression; or a text, for completion.
    #[serde(default)]
    pub column: String,
    /// Where a text may have several classes: a column with 0 or 1 for each, in place of `column`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
    /// Where each class has a file of its own: the files' names by class, in place of `column`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
    /// Where tags are parts of speech, the type of entity that some of them stand for: neighbouring words of one such tag are one
    /// entity, and all others are outside.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub entities: BTreeMap<String, String>,
    /// Names of the classes in order; without them, the values of the training file in order.
    #[serde(default)]
    pub names: Option<Vec<String>>,
    /// The value of a label that is not public; accepted in a test split only.
    #[serde(default)]
    pub hidden: Option<String>,
    /// The column holds ratings: below this is the first of two classes, above it the second; rows on it are left out.
    #[serde(default)]
    pub threshold: Option<f64>,
}

impl LabelSpec {
    /// The columns: one, or one for each class; none where each class has a file.
    pub(crate) fn all(&self) -> Vec<&String> {
        match (self.columns.is_empty(), self.files.is_empty()) {
            (true, true) => vec![&self.column],
            _ => self.columns.iter().collect(),
        }
    }

    fn problems(&self, objective: Objective) -> Vec<String> {
        let mut problems = Vec::new();
        if !self.files.is_empty() {
            if !objective.is_classification() {
                problems.push("files: accepted with objective classification only".to_owned());
            }
            if !self.column.is_empty() || !self.columns.is_empty() || self.hidden.is_some() {
                problems.push(
                    "files: each says its class; leave column, columns and hidden out".to_owned(),
                );
            }
            if self.threshold.is_some() || self.files.len() < 2 {
                problems.push("files: two or more are needed, and no threshold".to_owned());
            }
            let known = |class: &&String| self.names.as_ref().is_none_or(|n| n.contains(class));
            if let Some(class) = self.files.keys().find(|class| !known(class)) {
                problems.push(format!("files: '{class}' is not among names"));
            }
            return problems;
        }
        if !self.entities.is_empty() && objective != Objective::Tokens {
            problems.push("entities: accepted with objective tokens only".to_owned());
        }
        let several = !self.columns.is_empty();
        if several && objective != Objective::MultiLabel {
            problems.push(format!(
                "columns: accepted with objective multi_label only, not with {}",
                objective.name()
            ));
        }
        if several != self.column.is_empty() {
            let what = match several {
                true => "column and columns are both given; name one of them",
                false => "missing field `column`: name the column of the labels",
            };
            problems.push(what.to_owned());
        }
        if several && self.columns.len() < 2 {
            problems.push("columns: one column; accepted: two or more".to_owned());
        }
        if several
            && self
                .names
                .as_ref()
                .is_some_and(|n| n.len() != self.columns.len())
        {
            problems.push("names: as many as columns are needed".to_owned());
        }
        let without_names = match objective {
            Objective::Regression => Some("a number"),
            Objective::Completion => Some("a text that is written"),
            _ => None,
        };
        if let (Some(what), true) = (without_names, self.names.is_some()) {
            problems.push(format!("names: {what} has none; leave them out"));
        }
        if self.threshold.is_some() && !objective.is_classification() {
            problems.push("threshold: accepted with objective classification only".to_owned());
        }
        problems
    }
}

/// The name of a file's data set: without extensions, and not longer than names of files that are made of it may be.
fn name_of(path: &Path) -> String {
    /// In bytes; file systems allow 255, and reports add extensions.
    const LONGEST: usize = 100;
    let stem = |path: &Path| {
        path.file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    let mut name = stem(path);
    if path
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("gz"))
    {
        name = stem(Path::new(&name));
    }
    if name.len() > LONGEST {
        let digest = crate::hex(&Sha256::digest(name.as_bytes()));
        // No letter is cut in two.
        let end = (0..=LONGEST - 9).rfind(|i| name.is_char_boundary(*i));
        name = format!("{}-{}", &name[..end.unwrap_or(0)], &digest[..8]);
    }
    name
}

fn accuracy() -> Vec<Metric> {
    vec![Metric::Accuracy]
}

/// Data sets by name with their YAML.
macro_rules! registry {
    ($($name:ident),+ $(,)?) => {
        &[$((stringify!($name), include_str!(concat!("../", stringify!($name), ".yaml")))),+]
    };
}

/// A new data set is a YAML in the crate's folder and its name here.
const REGISTRY: &[(&str, &str)] = registry!(
    sst2,
    cola,
    mrpc,
    rte,
    chnsenticorp,
    chinese_reviews,
    stsb,
    mnli,
    qnli,
    qqp,
    wnli,
    ag_news,
    imdb,
    trec,
    conll2003,
    wnut17,
    peoples_daily_entities,
    tnews,
    e2e_nlg,
    gsm8k,
    job_titles,
    newsgroups20,
    reuters8,
    sarcasm,
    movie_snippets,
    movie_ratings,
    amazon_snippets,
    nyt_snippets,
    tweets,
);

/// Names of the data sets that come with the program.
pub fn names() -> impl Iterator<Item = &'static str> {
    REGISTRY.iter().map(|(name, _)| *name)
}

/// The data set of a name.
///
/// # Errors
/// [`Error::UnknownDataset`] with all names.
pub fn spec(name: &str) -> Result<DatasetSpec> {
    let Some((_, yaml)) = REGISTRY.iter().find(|(known, _)| *known == name) else {
        return Err(Error::UnknownDataset {
            name: name.to_owned(),
            known: names().collect::<Vec<_>>().join(", "),
        });
    };
    DatasetSpec::from_yaml(yaml, &format!("datasets/{name}.yaml"))
}

/// A data set of the user's own: a CSV, TSV, JSONL or Parquet file, or a YAML as the program's own ones.
///
/// Without names of columns a file's are `text` and `label`. What `options` say takes the place of what a YAML says. Folders
/// in a YAML start at the YAML's folder.
///
/// # Errors
/// If the file cannot be read, its format is not known, or the YAML or an option is not valid.
pub fn spec_from_path(path: &Path, options: &FileOptions) -> Result<DatasetSpec> {
    let file = path.display().to_string();
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    let mut spec = if ["yaml", "yml"].contains(&extension(path).as_str()) {
        let mut spec = DatasetSpec::from_yaml(&read_yaml(path)?, &file)?;
        let also = spec
            .also
            .iter_mut()
            .flat_map(|also| &mut also.source.places);
        for place in spec.source.places.iter_mut().chain(also) {
            if let Place::Path(place) = place {
                place.folder = folder.join(&place.folder);
            }
        }
        spec
    } else {
        // A folder, or a name without a file and without an extension, is not a question of formats.
        if path.is_dir() || (!path.exists() && extension(path).is_empty()) {
            check_regular(path)?;
        }
        let format = Format::of(path)?;
        check_regular(path)?;
        let name = path.file_name().unwrap_or_default();
        let place = PathPlace {
            folder,
            files: [("train".to_owned(), name.to_string_lossy().into_owned())].into(),
            hashes: BTreeMap::new(),
        };
        DatasetSpec {
            name: name_of(path),
            about: format!("the rows of {file}"),
            licence: String::new(),
            citation: String::new(),
            homepage: String::new(),
            source: Source {
                files: [("train".to_owned(), FileSpec::default())].into(),
                places: vec![Place::Path(place)],
            },
            splits: [(Split::Train, "train".to_owned())].into(),
            rows: BTreeMap::new(),
            format: Some(format),
            columns: None,
            objective: Objective::default(),
            skip: 0,
            text: vec!["text".into()],
            label: LabelSpec {
                column: "label".into(),
                columns: Vec::new(),
                files: BTreeMap::new(),
                entities: BTreeMap::new(),
                names: None,
                hidden: None,
                threshold: None,
            },
            metrics: accuracy(),
            // Texts stay as they are written, as for the Python libraries.
            strip: false,
            separator: None,
            quote: None,
            encoding: None,
            drop_missing: false,
            distinct: false,
            template: None,
            words: None,
            prompt: None,
            max_new_tokens: None,
            max_tokens: None,
            group: None,
            also: Vec::new(),
            stand_in: None,
            split_files: BTreeMap::new(),
        }
    };
    for (split, file) in &options.split_files {
        // Its own extension says its format, and a mistyped name is told before anything else is read.
        Format::of(file)?;
        check_regular(file)?;
        spec.split_files.insert(*split, file.clone());
    }
    if !options.text_columns.is_empty() {
        spec.text = options.text_columns.clone();
    }
    if let Some(name) = &options.objective {
        let objective = Objective::of(name).map_err(|message| Error::Spec {
            file: "--objective".to_owned(),
            message,
        })?;
        if objective != spec.objective {
            spec.objective = objective;
            spec.metrics = objective.default_metrics();
        }
        let own_file = spec.homepage.is_empty() && spec.about == format!("the rows of {file}");
        if own_file && objective == Objective::Tokens {
            spec.text = vec!["tokens".into()];
            spec.label.column = "tags".into();
        }
        if own_file && objective == Objective::Completion {
            spec.text = vec!["prompt".into()];
            spec.label.column = "completion".into();
        }
        if !options.text_columns.is_empty() {
            spec.text.clone_from(&options.text_columns);
        }
    }
    if let Some(column) = &options.label_column {
        let several = spec.objective == Objective::MultiLabel && column.contains(',');
        (spec.label.column, spec.label.columns) = match several {
            true => (
                String::new(),
                column.split(',').map(|c| c.trim().to_owned()).collect(),
            ),
            false => (column.clone(), Vec::new()),
        };
    }
    if let Some(name) = &options.metric {
        let metric = Metric::of(name).map_err(|message| Error::Spec {
            file: "--metric".to_owned(),
            message,
        })?;
        spec.metrics.retain(|other| *other != metric);
        spec.metrics.insert(0, metric);
    }
    for (own, said) in [
        (&mut spec.separator, &options.separator),
        (&mut spec.quote, &options.quote),
        (&mut spec.encoding, &options.encoding),
    ] {
        if said.is_some() {
            own.clone_from(said);
        }
    }
    spec.drop_missing |= options.drop_missing;
    spec.check(&file)?;
    spec.with_words(options)
}

/// The text of a YAML, which is a regular file and no more than a few MiB of it.
fn read_yaml(path: &Path) -> Result<String> {
    /// More than what is parsed, so that what is larger is refused for its size.
    const MOST: u64 = 4 << 20;
    let mut text = String::new();
    open_regular(path)?
        .take(MOST)
        .read_to_string(&mut text)
        .map_err(|error| Error::Io {
            path: path.to_owned(),
            error,
        })?;
    Ok(text
        .strip_prefix('\u{feff}')
        .map(str::to_owned)
        .unwrap_or(text))
}

impl DatasetSpec {
    /// The template and the words, where it has them.
    pub fn words(&self) -> Option<Words> {
        Some(Words {
            template: self.template.clone()?,
            words: self.words.clone()?,
        })
    }

    /// The prompt and the length of completions, where it has completions.
    pub fn completion(&self) -> Option<Completion> {
        (self.objective == Objective::Completion).then(|| {
            let pairs = self.text.len() == 2;
            Completion::new(pairs, self.prompt.as_deref(), self.max_new_tokens)
        })
    }

    /// The same with the template and the words, or the prompt, that the user says.
    ///
    /// # Errors
    /// If they cannot be used.
    pub fn with_words(mut self, options: &FileOptions) -> Result<Self> {
        if options.template.is_some() {
            self.template.clone_from(&options.template);
        }
        if !options.words.is_empty() {
            self.words = Some(options.words.clone());
        }
        if options.prompt.is_some() {
            self.prompt.clone_from(&options.prompt);
        }
        self.max_new_tokens = options.max_new_tokens.or(self.max_new_tokens);
        let problems = self.words_problems();
        match problems.is_empty() {
            true => Ok(self),
            false => Err(Error::Words {
                message: problems.join("; "),
            }),
        }
    }

    /// What is wrong with template and words, or with the prompt.
    fn words_problems(&self) -> Vec<String> {
        if let Some(completion) = self.completion() {
            let mut found = completion.problems(self.text.len() == 2);
            if self.template.is_some() || self.words.is_some() {
                found.push("template: a completion has none, nor words; what stands before it is its prompt".into());
            }
            return found;
        }
        if self.prompt.is_some() || self.max_new_tokens.is_some() {
            let objective = self.objective.name();
            return vec![format!(
                "prompt: prompt and max_new_tokens are for objective completion, and this one is {objective}"
            )];
        }
        match (&self.template, &self.words) {
            (None, None) => Vec::new(),
            (Some(_), None) => vec!["words: missing beside a template: one for each class".into()],
            (None, Some(_)) => {
                vec!["template: missing beside words: what stands around a text, such as '{text} It is'".into()]
            }
            (Some(_), Some(_)) => {
                let classes = self.label.names.as_ref().map(Vec::len);
                let words = self.words();
                words.map_or(Vec::new(), |w| w.problems(self.text.len() == 2, classes))
            }
        }
    }

    fn from_yaml(yaml: &str, file: &str) -> Result<Self> {
        let mut spec: Self = from_yaml(yaml).map_err(|message| Error::Spec {
            file: file.to_owned(),
            message,
        })?;
        let said = from_yaml::<serde_yaml::Mapping>(yaml);
        if said.is_ok_and(|said| !said.contains_key("metrics")) {
            spec.metrics = spec.objective.default_metrics();
        }
        spec.check(file)?;
        Ok(spec)
    }

    /// Refuses what the types allow but reading could not follow; `file` is named in the message.
    pub(crate) fn check(&self, file: &str) -> Result<()> {
        let mut problems: Vec<String> = self
            .source
            .problems()
            .iter()
            .map(|p| format!("source.{p}"))
            .collect();
        let mut problem = |key: &str, message: String| problems.push(format!("{key}: {message}"));
        if self.name.is_empty() {
            problem("name", "is empty; give the data set a name".into());
        }
        if let Some(few @ 0..3) = self.max_tokens {
            problem(
                "max_tokens",
                format!("{few} leaves no text; accepted: 3 or more"),
            );
        }
        let tokens = self.objective == Objective::Tokens;
        if !(1..=2).contains(&self.text.len()) || tokens && self.text.len() > 1 {
            let accepted = match tokens {
                true => "one, with the list of tokens",
                false => "one, or two for pairs",
            };
            problem(
                "text",
                format!("{} columns; accepted: {accepted}", self.text.len()),
            );
        }
        for message in self.label.problems(self.objective) {
            problem("label", message);
        }
        let mut columns = BTreeSet::new();
        for column in self.label.all() {
            if !columns.insert(column) {
                problem(
                    "label.columns",
                    format!("the column '{column}' is named twice"),
                );
            }
        }
        for column in &self.text {
            if !columns.insert(column) {
                problem(
                    "text",
                    format!(
                        "the column '{column}' is used twice; text and label need columns of their own"
                    ),
                );
            }
        }
        if let Some(header) = &self.columns {
            for column in columns
                .into_iter()
                .filter(|column| !header.contains(column))
            {
                problem(
                    "columns",
                    format!("'{column}' is not among them: {}", header.join(", ")),
                );
            }
            if !matches!(self.format, Some(Format::Csv | Format::Tsv | Format::Conll)) {
                problem(
                    "columns",
                    "accepted with `format: csv`, `format: tsv` or `format: conll` only".into(),
                );
            }
        }
        for text in self.words_problems() {
            let (key, message) = text.split_once(": ").unwrap_or(("words", &text));
            problem(key, message.to_owned());
        }
        let judges = self.objective.metrics();
        let accepted = || {
            let names: Vec<_> = judges.iter().map(|metric| metric.name()).collect();
            names.join(", ")
        };
        match self.metrics.first() {
            None => problem("metrics", format!("is empty; accepted: {}", accepted())),
            Some(main) if judges.contains(main) && !main.higher_is_better() => problem(
                "metrics",
                format!(
                    "{}: less of it is better, and methods are ranked by what is better when there is more of it; name \
                     another metric first",
                    main.name()
                ),
            ),
            Some(_) => {}
        }
        for metric in self
            .metrics
            .iter()
            .filter(|metric| !judges.contains(metric))
        {
            problem(
                "metrics",
                format!(
                    "{} does not judge {}; accepted: {}",
                    metric.name(),
                    self.objective.name(),
                    accepted()
                ),
            );
        }
        for (key, value) in [("separator", &self.separator), ("quote", &self.quote)] {
            if let Some(Err(message)) = value.as_deref().map(|value| character(key, value)) {
                problem(key, message);
            }
        }
        if let Some(Err(message)) = self.encoding.as_deref().map(encoding) {
            problem("encoding", message);
        }
        let mut extra = BTreeSet::new();
        for also in &self.also {
            let key = format!("also.{}", also.name);
            if self.source.files.contains_key(&also.name) || !extra.insert(&also.name) {
                problem(
                    &key,
                    "the name is another file's; give it one of its own".into(),
                );
            }
            if also.source.files.keys().ne(["rows"]) {
                problem(
                    &key,
                    "source.files: one file, called rows, is accepted".into(),
                );
            }
            if also
                .text
                .as_ref()
                .is_some_and(|text| text.len() != self.text.len())
            {
                problem(
                    &key,
                    format!(
                        "text: as many columns as the data set's {} are needed",
                        self.text.len()
                    ),
                );
            }
            for message in also.source.problems() {
                problem(&key, format!("source.{message}"));
            }
        }
        let formats = self
            .also
            .iter()
            .map(|also| also.format)
            .chain([self.format]);
        let by_class = !self.label.files.is_empty();
        if !by_class && formats.flatten().any(|format| format == Format::Lines) {
            problem(
                "format",
                "lines have no labels; accepted: csv, tsv, jsonl, parquet, or lines with a file for each class \
                 (label.files)"
                    .into(),
            );
        }
        if by_class && (!self.splits.is_empty() || !self.also.is_empty() || self.group.is_some()) {
            problem(
                "label.files",
                "the classes' files are the training rows; leave splits, also and group out".into(),
            );
        } else if !by_class && !self.splits.contains_key(&Split::Train) {
            problem(
                "splits",
                "train is missing; name the file with the rows for training".into(),
            );
        }
        let of_split = self
            .splits
            .iter()
            .map(|(split, name)| ("splits", split.name(), name));
        let of_class = self.label.files.iter();
        let of_class = of_class.map(|(class, name)| ("label.files", class.as_str(), name));
        for (key, what, name) in of_split.chain(of_class) {
            if !self.source.files.contains_key(name) {
                let known: Vec<_> = self.source.files.keys().map(String::as_str).collect();
                problem(
                    key,
                    format!(
                        "{what}: unknown file '{name}'; source.files has: {}",
                        known.join(", ")
                    ),
                );
            }
        }
        if let Some(names) = &self.label.names {
            let distinct: BTreeSet<_> = names.iter().collect();
            let mut seen = BTreeSet::new();
            let twice = names.iter().find(|name| !seen.insert(*name));
            if names.len() < 2
                || distinct.len() < names.len()
                || names
                    .iter()
                    .any(|name| name.trim() != name || name.is_empty())
            {
                let twice =
                    twice.map_or_else(String::new, |name| format!(" ('{name}' stands twice)"));
                problem(
                    "label.names",
                    format!(
                        "[{}]{twice}; accepted: two or more different names, without spaces around them",
                        names.join(", ")
                    ),
                );
            }
        }
        if let Some(threshold) = self.label.threshold {
            if !threshold.is_finite() {
                problem(
                    "label.threshold",
                    format!("{threshold}; accepted: a finite number"),
                );
            }
            if self.label.names.as_ref().map(Vec::len) != Some(2) {
                problem(
                    "label.threshold",
                    "needs two label.names: below and above".into(),
                );
            }
        }
        if problems.is_empty() {
            return Ok(());
        }
        Err(Error::Spec {
            file: file.to_owned(),
            message: problems.join("; "),
        })
    }
}

#[cfg(test)]
mod tests;
