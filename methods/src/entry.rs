//! What is known about a method, and what it is built from.

use std::{fmt, sync::Arc};

use backbone::Backbone;
use rand_chacha::ChaCha8Rng;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{Error, Parameters, PeftMethod, Result, parameters::Builder};

/// What the registry knows about a method.
#[derive(Debug)]
pub struct Entry {
    /// Name on the command line, in records and in file names.
    pub name: &'static str,
    /// Default configuration with comments.
    pub yaml: &'static str,
    /// Whether it is among the methods that a comparison trains unless others are named.
    pub standard: bool,
    /// Number of trained parameters with the default choices, in words: a formula of H, I (intermediate size), L, the
    /// method's own keys (of a list: its length), `b` (bottleneck, H / reduction_factor), `w` (width, H where it is
    /// null) and `backbone` (all weights that the pooled vector depends on). [`crate::Resolved::parameters`] computes it;
    /// the tests compare the two.
    pub parameters: &'static str,
    /// Version of what the method computes: raised whenever a change gives a run of the same seed other numbers.
    pub numerics: u32,
    /// Its family, which has a colour in reports: `prompt`, `lora`, `adapter`, `selective`, `combined`, `whole`, `head`, or `floor`
    /// for what is no method to choose and shows what one has to be above: what learns nothing from the texts, and `knn`, whose cost is not
    /// what it trains but the examples that it keeps.
    pub family: &'static str,
    /// Its number in the family, which has a mark in reports. Never changed: people remember marks.
    pub member: usize,
    /// Whether an optimiser trains it in steps, so that its learning rate means something.
    pub steps: bool,
    pub(crate) parse: Parse,
}

/// Makes a configuration out of the structure part of a YAML; a combination finds its parts among the known methods.
type Parse = fn(Value, &'static [Entry]) -> std::result::Result<Arc<dyn MethodConfig>, String>;

impl Entry {
    /// The entry of the method whose configuration is `C`.
    pub(crate) const fn of<C: MethodConfig + DeserializeOwned>(
        name: &'static str,
        yaml: &'static str,
    ) -> Self {
        let parse: Parse = |value, _| match serde_json::from_value::<C>(value) {
            Ok(config) => Ok(Arc::new(config)),
            Err(e) => Err(plain(&e.to_string())),
        };
        Self::parsed_by(name, yaml, parse)
    }

    /// The entry of a method whose configuration needs the other methods.
    pub(crate) const fn parsed_by(name: &'static str, yaml: &'static str, parse: Parse) -> Self {
        Self {
            name,
            yaml,
            standard: false,
            parameters: "0",
            numerics: 1,
            family: "other",
            member: 0,
            steps: true,
            parse,
        }
    }

    /// Puts it among the methods that a comparison trains unless others are named.
    pub(crate) const fn standard(mut self) -> Self {
        self.standard = true;
        self
    }

    /// Says that no optimiser trains it.
    pub(crate) const fn without_steps(mut self) -> Self {
        self.steps = false;
        self
    }

    /// Sets [`Entry::parameters`].
    pub(crate) const fn parameters(mut self, formula: &'static str) -> Self {
        self.parameters = formula;
        self
    }

    /// Sets [`Entry::numerics`].
    pub(crate) const fn numerics(mut self, version: u32) -> Self {
        self.numerics = version;
        self
    }

    /// Says which family it belongs to, and its number there.
    pub(crate) const fn kind(mut self, family: &'static str, member: usize) -> Self {
        (self.family, self.member) = (family, member);
        self
    }
}

/// A method's own configuration: the structure part of its YAML, parsed.
pub(crate) trait MethodConfig: fmt::Debug + Send + Sync + 'static {
    /// Checks the values against the backbone's sizes; there may be none.
    fn check(&self, _backbone: &backbone::Config) -> std::result::Result<(), String> {
        Ok(())
    }

    /// The number of trained parameters, which may be beyond all memory; 0 of a method that trains nothing.
    ///
    /// # Errors
    /// As [`MethodConfig::check`].
    fn parameters(&self, _backbone: &Backbone) -> std::result::Result<f64, String> {
        Ok(0.0)
    }

    /// The keys that the backbone's family decides where the configuration leaves them open, with its choice.
    fn of_family(&self, _backbone: &backbone::Config) -> Map<String, Value> {
        Map::new()
    }

    /// Builds the method.
    fn build(&self, at: &mut Building<'_, '_>) -> Result<Box<dyn PeftMethod>>;

    /// The sum of the numerics versions of what it is made of.
    fn numerics(&self) -> u32 {
        0
    }
}

/// What a method's start is made from.
pub struct Context<'a> {
    /// The frozen backbone.
    pub backbone: &'a Backbone,
    /// The method's own random stream.
    pub rng: &'a mut ChaCha8Rng,
    /// The tokenizer's vocabulary, for methods that start from words.
    pub words: &'a dyn Vocabulary,
}

/// The part of a tokenizer that an initialisation may need.
pub trait Vocabulary {
    /// Token ids of a text, without special tokens.
    ///
    /// # Errors
    /// The tokenizer's own message.
    fn encode(&self, text: &str) -> std::result::Result<Vec<u32>, String>;

    /// Ids of ordinary tokens (neither special nor unused), the more common first where the vocabulary is so ordered.
    fn ordinary(&self) -> Vec<u32>;
}

/// A method being built: at its start, or from what was saved.
pub(crate) struct Building<'a, 'b> {
    /// The method's name.
    pub method: &'static str,
    /// The frozen backbone.
    pub backbone: &'a Backbone,
    /// Gives the method's tensors.
    pub tensors: &'a mut Builder<'b>,
    /// The vocabulary, where the method is at its start.
    pub words: Option<&'a dyn Vocabulary>,
}

impl Building<'_, '_> {
    /// What a check gave, with the method's name in its error.
    pub fn valid<T>(&self, checked: std::result::Result<T, String>) -> Result<T> {
        checked.map_err(|what| Error::Config {
            method: self.method.to_owned(),
            what,
        })
    }

    /// The tensors that were made since the last call.
    pub fn take(&mut self) -> Parameters {
        self.tensors.take()
    }
}

/// A message of the YAML reader in words that do not need to know Rust.
pub(crate) fn plain(message: &str) -> String {
    let words = [
        ("invalid type: ", "it is "),
        ("invalid value: ", "it is "),
        ("it is string ", "it is the text "),
        ("it is integer ", "it is the number "),
        ("it is floating point ", "it is the number "),
        ("it is boolean ", "it is "),
        ("it is sequence", "it is a list"),
        ("it is map", "it is a table of keys"),
        ("it is unit", "it is null"),
        ("it is null value", "it is null"),
        ("expected usize", "expected a whole number of at least 0"),
        ("expected u64", "expected a whole number of at least 0"),
        ("expected f64", "expected a number"),
        ("expected string or map", "expected a word"),
        ("expected a boolean", "expected true or false"),
        ("expected a sequence", "expected a list"),
        ("expected a map", "expected a table of keys"),
        ("expected a string", "expected a text"),
        ("unknown variant ", "unknown word "),
        ("expected struct Config", "expected a table of keys"),
        ("expected one of", "known:"),
        ("unknown field ", "unknown key "),
        ("missing field ", "missing key "),
    ];
    words
        .iter()
        .fold(message.to_owned(), |text, (theirs, ours)| {
            text.replace(theirs, ours)
        })
        .replace('`', "'")
}

/// The entry of a name among those that are known.
pub(crate) fn find(name: &str, known: &'static [Entry]) -> Result<&'static Entry> {
    let found = known.iter().find(|e| e.name == name);
    found.ok_or_else(|| Error::UnknownMethod {
        name: name.to_owned(),
        known: known.iter().map(|e| e.name).collect(),
    })
}
