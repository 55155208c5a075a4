//! From names to things in memory: files fetched, data read and tokenised, the backbone loaded.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, bail, ensure};
use backbone::{Architecture, Backbone, Config, Gguf, HeadKind, Pooling, Precision};
use datasets::{Completion, Dataset, DatasetSpec, Example, TextTokenizer, Words};
use record::BackboneFacts;
use serde_json::{Map, Value};
use sources::{Fetched, Fetcher, Progress};

use crate::{
    backbone_settings::BackboneSettings, backbones, digest_note::DigestNote, download_bar,
    folders::ADAPTER_CONFIG, gguf_tokenizer, hub_id, nearest, plan::DataChoice,
};

/// Fetches files and knows whether the network may be used.
pub struct Files {
    fetcher: Fetcher,
    silent: bool,
}

impl Files {
    /// Files from the places of this machine's environment, with a progress bar for downloads.
    ///
    /// # Errors
    /// If the environment is not usable.
    pub fn new(offline: bool) -> Result<Self> {
        let bar: Arc<dyn Progress> = Arc::new(download_bar::Download::default());
        Ok(Self {
            fetcher: Fetcher::from_env(offline)?.with_progress(bar),
            silent: false,
        })
    }

    /// The same without notes: for a run whose comparison has said them.
    #[must_use]
    pub fn silent(mut self) -> Self {
        self.silent = true;
        self
    }

    /// Says what was done to the user's data.
    pub fn note(&self, note: &str) {
        if !self.silent {
            eprintln!("note: {note}");
        }
    }

    /// Fetches files, and says which places failed before one gave them.
    fn fetch(&self, name: &str, source: &sources::Source) -> sources::Result<Fetched> {
        let fetched = self.fetcher.fetch(name, source)?;
        for warning in &fetched.warnings {
            self.note(&format!("{name}: {warning}"));
        }
        Ok(fetched)
    }

    /// The cache folder for things that can be made again.
    pub fn cache(&self) -> &Path {
        self.fetcher.cache()
    }
}

/// A data set in memory.
pub struct LoadedData {
    /// Its texts, labels and metrics.
    pub dataset: Dataset,
    /// Name of the data set that was asked for, when this is a stand-in.
    pub stand_in_for: Option<String>,
    /// Where it came from, in words.
    pub place: String,
}

/// Finds a data set's specification by name or path.
///
/// # Errors
/// If there is none, or the columns of a file are not named.
pub fn data_spec(choice: &DataChoice) -> Result<DatasetSpec> {
    let path = Path::new(&choice.name);
    let known = datasets::names().any(|n| n == choice.name);
    if let (Some(hint), false) = (elsewhere(&choice.name), path.exists()) {
        bail!("data set '{}': {hint}", choice.name);
    }
    if !known && (path.exists() || path.extension().is_some() || choice.name.contains('/')) {
        return Ok(datasets::spec_from_path(path, &choice.options)?);
    }
    ensure!(
        choice.options.is_empty(),
        "--text-column, --label-column, --objective, --metric, --separator, --quote, --encoding, --drop-missing, --validation \
         and --test belong to a file named by its path, not to the data set '{}'",
        choice.name
    );
    let known: Vec<&str> = datasets::names().collect();
    ensure!(
        known.contains(&choice.name.as_str()),
        "there is no data set '{}'; {}; or name a CSV, TSV, JSONL, parquet or YAML file",
        choice.name,
        nearest::known(&choice.name, &known)
    );
    Ok(datasets::spec(&choice.name)?.with_words(&choice.options)?)
}

/// What to write in place of an address or a name that is no file, where that is plain.
fn elsewhere(name: &str) -> Option<String> {
    let hub = ["https://huggingface.co/datasets/", "hf://datasets/"];
    if let Some(id) = hub.iter().find_map(|start| name.strip_prefix(start)) {
        let id: Vec<&str> = id.split('/').take(2).collect();
        return Some(format!(
            "a data set of the hub goes by its id: hub:{}",
            id.join("/")
        ));
    }
    if name.contains("://") {
        return Some("addresses are not read; download the file and name it".to_owned());
    }
    if name.starts_with('~') {
        return Some(
            "there is no such file; '~' stands for the home folder in a shell only".to_owned(),
        );
    }
    let id = Path::new(name).extension().is_none() && name.split('/').count() == 2;
    (id && !name.starts_with(['.', '/'])).then(|| {
        format!("there is no such file; a data set of the hub goes by its id with hub: before it, hub:{name}")
    })
}

impl Files {
    /// Reads a data set, or its stand-in where it is not found and the choice allows it.
    ///
    /// # Errors
    /// If neither is found, or the data is not valid.
    pub fn data(&self, choice: &DataChoice) -> Result<LoadedData> {
        let spec = if hub_id::is_data(&choice.name) {
            let file = hub_id::data(&self.fetcher, &choice.name, |note| self.note(note))?;
            data_spec(&DataChoice {
                name: file.display().to_string(),
                ..choice.clone()
            })?
        } else {
            data_spec(choice)?
        };
        let fetched = match self.fetch(&spec.name, &spec.source) {
            Ok(fetched) => fetched,
            Err(e) => {
                let Some(other) = spec.stand_in.as_ref().filter(|_| choice.stand_in) else {
                    let hint = match &spec.stand_in {
                        Some(other) => format!("; without --no-stand-in, '{other}' would stand in"),
                        None => String::new(),
                    };
                    return Err(anyhow::Error::new(e)
                        .context(format!("data set '{}' was not found{hint}", spec.name)));
                };
                self.note(&format!("data set '{}' was not found ({e})", spec.name));
                self.note(&format!(
                    "going on with '{other}' as its stand-in; every result says so. --no-stand-in refuses."
                ));
                let spec = datasets::spec(other)?.with_words(&choice.options)?;
                let fetched = self.fetch(&spec.name, &spec.source)?;
                return Ok(LoadedData {
                    dataset: self.read(&spec, fetched.files)?,
                    stand_in_for: Some(choice.name.clone()),
                    place: fetched.place,
                });
            }
        };
        Ok(LoadedData {
            dataset: self.read(&spec, fetched.files)?,
            stand_in_for: choice.stand_in_for.clone(),
            place: fetched.place,
        })
    }

    /// Says under which terms a data set may be used, where it says so.
    fn terms(&self, spec: &DatasetSpec) {
        if !spec.licence.is_empty() {
            let terms = spec.licence.trim_end_matches('.');
            self.note(&format!("data set '{}': terms of use: {terms}", spec.name));
        }
    }

    /// Reads a data set with what else there is of it, and says its terms and what was done to its rows.
    fn read(&self, spec: &DatasetSpec, mut files: BTreeMap<String, PathBuf>) -> Result<Dataset> {
        for also in &spec.also {
            // Where it is not found, reading says so.
            if let Ok(mut fetched) = self.fetch(&also.name, &also.source)
                && let Some(path) = fetched.files.remove("rows")
            {
                files.insert(also.name.clone(), path);
            }
        }
        self.terms(spec);
        let dataset = datasets::read(spec, &files)?;
        for note in &dataset.notes {
            self.note(note);
        }
        Ok(dataset)
    }

    /// Fetches a data set's files and says its terms; returns where they came from.
    ///
    /// # Errors
    /// If the name is unknown or the files are not found.
    pub fn fetch_data(&self, name: &str) -> Result<String> {
        if hub_id::is_data(name) {
            let file = hub_id::data(&self.fetcher, name, |note| self.note(note))?;
            return Ok(format!("Hugging Face hub, as {} says", file.display()));
        }
        let spec = datasets::spec(name)?;
        let place = self.fetch(&spec.name, &spec.source)?.place;
        self.terms(&spec);
        Ok(place)
    }

    /// Finds a backbone's files by its name or folder, to be read as its YAML and these settings say.
    ///
    /// # Errors
    /// If there is none of that name, or its files are not found.
    pub fn backbone(&self, choice: &str, settings: &BackboneSettings) -> Result<BackboneFiles> {
        if let Some(id) = choice.strip_prefix("https://huggingface.co/") {
            let id: Vec<&str> = id.split('/').take(2).collect();
            bail!(
                "backbone '{choice}': a model of the hub goes by its id: {}",
                id.join("/")
            );
        }
        // A known name wins over a folder of that name: write ./NAME for the folder.
        let known = backbones::names().any(|name| name == choice);
        if !known && hub_id::is_model(choice) {
            let (name, model) = hub_id::model(&self.fetcher, choice, |note| self.note(note))?;
            let found = self.backbone(&model.folder.display().to_string(), settings)?;
            return Ok(BackboneFiles {
                name,
                folder: None,
                place: model.fetched.place,
                ..found
            });
        }
        let mut found = if !known && Path::new(choice).is_file() {
            let file = Path::new(choice);
            ensure!(
                backbone::is_gguf(file),
                "{choice}: is a file, but no GGUF; name a folder with config.json, tokenizer.json and model.safetensors, or a \
                 GGUF"
            );
            let config = Config::read(file)?;
            let (pooling, head) = backbone::conventions(&config);
            let name = file.file_stem().map(|n| n.to_string_lossy().into_owned());
            BackboneFiles {
                name: name.unwrap_or_else(|| choice.to_owned()),
                folder: Some(file.to_owned()),
                config_file: file.to_owned(),
                tokenizer: file.to_owned(),
                weights: file.to_owned(),
                config,
                pooling,
                precision: Precision::F32,
                chat: false,
                head,
                place: format!("file {choice}"),
                digests: self.cache().join("digests"),
            }
        } else if !known && Path::new(choice).is_dir() {
            let folder = Path::new(choice);
            let config_file = folder.join("config.json");
            let config = Config::read(&config_file)?;
            ensure!(
                !folder.join(ADAPTER_CONFIG).exists(),
                "{choice}: an adapter lies beside the model ({ADAPTER_CONFIG}), and transformers would read it over the base that \
                 it names; name a folder without it, or read the adapter: --weights {choice}"
            );
            let (by_convention, head) = backbone::conventions(&config);
            let pooling = match settings.pooling {
                Some(_) => by_convention,
                None => sentence_pooling(folder)?.unwrap_or(by_convention),
            };
            if pooling != by_convention {
                self.note(&format!(
                    "{choice}: its {SENTENCE_POOLING} reads texts by '{0}', and so they are read here (backbone.pooling={0})",
                    pooling.name()
                ));
            }
            let name = folder
                .canonicalize()
                .ok()
                .and_then(|p| Some(p.file_name()?.to_string_lossy().into_owned()));
            BackboneFiles {
                name: name.unwrap_or_else(|| choice.to_owned()),
                folder: Some(folder.to_owned()),
                config_file,
                tokenizer: datasets::tokenizer_file(folder)?,
                weights: backbone::weights_file(folder)?,
                config,
                pooling,
                precision: Precision::F32,
                chat: false,
                head,
                place: format!("folder {choice}"),
                digests: self.cache().join("digests"),
            }
        } else {
            let known: Vec<&str> = backbones::names().collect();
            if let Some(why) = Architecture::why_not(choice) {
                bail!(
                    "backbone '{choice}' is not supported ({why}); known: {}",
                    known.join(", ")
                );
            }
            ensure!(
                known.contains(&choice),
                "there is no backbone '{choice}'; {}; or name a folder with config.json, tokenizer.json and \
                 model.safetensors, or a GGUF",
                nearest::known(choice, &known)
            );
            let spec = backbones::spec(choice)?;
            let fetched = self.fetch(&spec.name, &spec.source)?;
            // A GGUF is all three.
            let file = |name: &str| -> Result<PathBuf> {
                let path = fetched.files.get(name).or(fetched.files.get("gguf"));
                path.cloned()
                    .with_context(|| format!("backbone {choice}: its YAML names no file '{name}'"))
            };
            BackboneFiles {
                name: spec.name.clone(),
                folder: None,
                config_file: file("config")?,
                config: Config::read(&file("config")?)?,
                tokenizer: file("tokenizer")?,
                weights: file("weights")?,
                pooling: spec.pooling,
                precision: Precision::F32,
                chat: false,
                head: spec.head,
                place: fetched.place.clone(),
                digests: self.cache().join("digests"),
            }
        };
        found.pooling = settings.pooling.unwrap_or(found.pooling);
        found.precision = settings.precision.unwrap_or(found.precision);
        found.head = settings.head.unwrap_or(found.head);
        found.chat = settings.chat.unwrap_or(found.chat);
        Ok(found)
    }
}

/// Where sentence-transformers has how a model is read.
const SENTENCE_POOLING: &str = "1_Pooling/config.json";

/// How sentence-transformers reads the model of a folder, where it is one of theirs.
fn sentence_pooling(folder: &Path) -> Result<Option<Pooling>> {
    let path = folder.join(SENTENCE_POOLING);
    if !path.is_file() {
        return Ok(None);
    }
    let at = || path.display().to_string();
    let text = crate::folders::read_small(&path)?;
    let config: Map<String, Value> = serde_json::from_slice(&text).with_context(at)?;
    let modes: Vec<&str> = match config.get("pooling_mode").and_then(Value::as_str) {
        Some(mode) => vec![mode],
        None => {
            let on = config.iter().filter(|(_, value)| **value == true);
            on.filter_map(|(key, _)| key.strip_prefix("pooling_mode_"))
                .collect()
        }
    };
    match modes[..] {
        ["mean_tokens" | "mean"] => Ok(Some(Pooling::Mean)),
        ["cls_token" | "cls"] => Ok(Some(Pooling::Cls)),
        ["lasttoken"] => Ok(Some(Pooling::Last)),
        _ => bail!(
            "{}: the model reads texts by {}, which is not followed; say by what they are to be read: \
             --set backbone.pooling=mean, or cls",
            at(),
            match modes[..] {
                [] => "nothing".to_owned(),
                _ => modes.join(" and "),
            }
        ),
    }
}

/// A backbone's files and how it is read.
pub struct BackboneFiles {
    /// Its name.
    pub name: String,
    /// Its folder, where it was named by one.
    pub folder: Option<PathBuf>,
    /// Sizes and constants.
    pub config: Config,
    /// Their file.
    pub config_file: PathBuf,
    /// The tokenizer's file.
    pub tokenizer: PathBuf,
    /// The weights' file.
    pub weights: PathBuf,
    /// How an example's vector is read.
    pub pooling: Pooling,
    /// The precision of its weights.
    pub precision: Precision,
    /// The classifier on top.
    pub head: HeadKind,
    /// Whether words are asked for in the tokenizer's chat template.
    pub chat: bool,
    /// Where it came from, in words.
    pub place: String,
    /// The folder of the cache in which digests are remembered.
    pub digests: PathBuf,
}

/// A backbone in memory, with its tokenizer.
pub struct LoadedBackbone {
    /// The frozen weights.
    pub backbone: Backbone,
    /// SHA-256 over weights, configuration and tokenizer: all that decides what it makes of a text.
    pub digest: String,
    /// SHA-256 over the weights alone, as their file has them.
    pub weights_digest: String,
    /// Its tokenizer.
    pub tokenizer: TextTokenizer,
    /// The classifier on top.
    pub head: HeadKind,
    /// Whether words are asked for in the tokenizer's chat template.
    pub chat: bool,
    /// Its name.
    pub name: String,
    /// Its folder, where it was named by one.
    pub folder: Option<PathBuf>,
    /// The files of configuration, tokenizer and weights.
    pub files: [PathBuf; 3],
}

impl BackboneFiles {
    /// Loads weights and tokenizer.
    ///
    /// # Errors
    /// If a file is damaged, or the tokenizer's vocabulary is larger than the backbone's.
    pub fn load(self) -> Result<LoadedBackbone> {
        let tokenizer = match backbone::is_gguf(&self.tokenizer) {
            true => gguf_tokenizer::read(&self.tokenizer)?,
            false => TextTokenizer::from_file(&self.tokenizer)?,
        };
        let vocabulary = self.config.vocabulary;
        ensure!(
            tokenizer.vocabulary_size() <= vocabulary,
            "{}: its vocabulary has {} tokens but the backbone's embedding table has {vocabulary} rows: \
             the tokenizer belongs to another backbone",
            self.tokenizer.display(),
            tokenizer.vocabulary_size()
        );
        let id = tokenizer.largest_around();
        ensure!(
            (id as usize) < vocabulary,
            "{}: post_processor: token id {id} is put around every text, but the backbone's embedding table has {vocabulary} rows: \
             the tokenizer belongs to another backbone, or tokenizer_class is another one",
            self.tokenizer.display()
        );
        let note = DigestNote::of(&self.weights, &self.config, &self.digests);
        let known = note.as_ref().and_then(DigestNote::digest);
        let is_known = known.is_some();
        let (backbone, weights_digest) =
            Backbone::load_in(self.config, &self.weights, self.precision, known)?;
        if let Some(note) = note.filter(|_| !is_known) {
            note.keep(&weights_digest);
        }
        let backbone = backbone
            .with_pooling(self.pooling)
            .with_context(|| self.weights.display().to_string())?;
        for note in tokenizer.notes() {
            eprintln!("note: {note}");
        }
        Ok(LoadedBackbone {
            digest: backbone.digest(&weights_digest, tokenizer.digest()),
            weights_digest,
            backbone,
            tokenizer,
            head: self.head,
            chat: self.chat,
            name: self.name,
            folder: self.folder,
            files: [self.config_file, self.tokenizer, self.weights],
        })
    }
}

impl LoadedBackbone {
    /// What a record says about it.
    pub fn facts(&self, words: Option<&Words>, completion: Option<&Completion>) -> BackboneFacts {
        let config = self.backbone.config();
        let head = match (self.head, words) {
            (HeadKind::Linear, _) => String::new(),
            (HeadKind::Vocabulary, _) => {
                completion.map_or_else(String::new, |completion| format!(" + {completion}"))
            }
            (HeadKind::Words, Some(words)) => format!(" + {words}"),
            (other, _) => format!(" + {}", other.name().replace('_', " ")),
        };
        BackboneFacts {
            name: self.name.clone(),
            digest: self.digest.clone(),
            architecture: config.architecture.name().to_owned(),
            layers: config.layers,
            hidden: config.hidden,
            parameters: self.backbone.parameters(),
            pooling: format!("{}{head}", self.backbone.pooling().name()),
            precision: match self.backbone.precision() {
                Precision::F32 => None,
                other => Some(other.name().to_owned()),
            },
        }
    }

    /// Its `config.json`; of a GGUF what stands for one.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn config_json(&self) -> Result<Map<String, Value>> {
        let [path, ..] = &self.files;
        if backbone::is_gguf(path) {
            return Ok(Gguf::open(path)?.config()?);
        }
        let at = || path.display().to_string();
        let text = crate::folders::read_small(path)?;
        serde_json::from_slice(&text).with_context(at)
    }

    /// Refuses pairs of texts, before any run meets one, where the backbone has no token type for the second.
    ///
    /// # Errors
    /// If that is so.
    pub fn check_pairs(&self) -> Result<()> {
        let known = self.backbone.config().token_types;
        let pair = Example {
            text: "a".to_owned(),
            pair: Some("b".to_owned()),
            label: None,
        };
        ensure!(
            known != 1
                || self
                    .tokenizer
                    .encode(&[pair], 16)?
                    .types
                    .iter()
                    .all(|kind| *kind == 0),
            "{}: its tokenizer gives the second text of a pair token type 1, but its type_vocab_size is 1; name single texts, or \
             another backbone",
            self.name
        );
        Ok(())
    }

    /// The longest text in tokens: the recipe's limit, or what the position table or the tokenizer leaves.
    pub fn max_tokens(&self, limit: usize, virtual_tokens: usize) -> usize {
        let positions = self.backbone.config().max_tokens();
        limit
            .min(positions.saturating_sub(virtual_tokens))
            .min(self.tokenizer.max_length().unwrap_or(usize::MAX))
    }
}

/// A tokenizer as methods see it.
pub struct Vocabulary<'a>(pub &'a TextTokenizer);

impl methods::Vocabulary for Vocabulary<'_> {
    fn encode(&self, text: &str) -> std::result::Result<Vec<u32>, String> {
        self.0.encode_text(text).map_err(|e| e.to_string())
    }

    fn ordinary(&self) -> Vec<u32> {
        self.0.ordinary_tokens()
    }
}
