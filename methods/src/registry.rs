//! All methods. A new one is a file, a YAML and one line here.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    Context, Error, PeftMethod, Resolved, Result, adapter, bitfit, combine, compacter, dora, full,
    head_only, ia3, layer_norm, lora, majority, p_tuning, prefix_tuning, prompt_tuning,
    random_features,
};

/// All methods, in the order in which reports list equals.
pub const ALL: &[Entry] = &[
    prompt_tuning::ENTRY.kind("prompt", 0),
    lora::ENTRY.kind("lora", 0),
    adapter::ENTRY.kind("adapter", 0),
    ia3::ENTRY.kind("selective", 1),
    bitfit::ENTRY.kind("selective", 0),
    layer_norm::ENTRY.kind("selective", 2),
    prefix_tuning::ENTRY.kind("prompt", 1),
    dora::ENTRY.kind("lora", 1),
    p_tuning::ENTRY.kind("prompt", 2),
    compacter::ENTRY.kind("adapter", 1),
    combine::MAM.kind("combined", 0),
    majority::ENTRY.kind("floor", 0),
    random_features::ENTRY.kind("floor", 1),
    head_only::ENTRY.kind("head", 0),
    full::ENTRY.kind("whole", 0),
];

/// What the registry knows about a method.
#[derive(Debug)]
pub struct Entry {
    /// Name on the command line, in records and in file names.
    pub name: &'static str,
    /// Default configuration with comments.
    pub yaml: &'static str,
    /// Whether it is among the methods that a comparison trains unless others are named.
    pub standard: bool,
    /// Its family, which has a colour in reports: `prompt`, `lora`, `adapter`, `selective`, `combined`, `whole`, `head`, or `floor`
    /// for what learns nothing from the texts and is never recommended.
    pub family: &'static str,
    /// Its number in the family, which has a mark in reports. Never changed: people remember marks.
    pub member: usize,
    /// Number of trained parameters as a formula; `Entry::parameters` sets it.
    pub parameters: &'static str,
    pub(crate) parse: fn(Value) -> std::result::Result<(), String>,
    pub(crate) check: fn(Value, &backbone::Config) -> std::result::Result<(), String>,
    pub(crate) build: fn(Value, &mut Context<'_>) -> Result<Box<dyn PeftMethod>>,
}

/// A method's own configuration: the structure part of its YAML.
pub(crate) trait MethodConfig: DeserializeOwned {
    /// Checks the values against the backbone's sizes.
    fn check(&self, backbone: &backbone::Config) -> std::result::Result<(), String>;

    /// Builds the method.
    fn build(self, context: &mut Context<'_>) -> Result<Box<dyn PeftMethod>>;
}

impl Entry {
    /// The entry of the method whose configuration is `C`.
    pub(crate) const fn of<C: MethodConfig>(name: &'static str, yaml: &'static str) -> Self {
        Self {
            name,
            yaml,
            standard: false,
            family: "other",
            member: 0,
            parameters: "0",
            parse: |value| parse::<C>(value).map(drop),
            check: |value, backbone| parse::<C>(value)?.check(backbone),
            build: |value, context| {
                let bad = |what| Error::Config {
                    method: String::new(),
                    what,
                };
                parse::<C>(value).map_err(bad)?.build(context)
            },
        }
    }

    /// Says which family it belongs to, and its number there.
    const fn kind(mut self, family: &'static str, member: usize) -> Self {
        (self.family, self.member) = (family, member);
        self
    }

    /// Puts it among the methods that a comparison trains unless others are named.
    pub(crate) const fn standard(mut self) -> Self {
        self.standard = true;
        self
    }

    /// The number of trained parameters as a formula of H, I (intermediate size), L, the method's own keys (of a
    /// list: its length), `b` (bottleneck, H / reduction_factor), `w` (width, H where it is null) and `backbone` (all
    /// weights that the pooled vector depends on). It holds for the default choices of everything else; the
    /// contract tests evaluate it.
    pub(crate) const fn parameters(mut self, formula: &'static str) -> Self {
        self.parameters = formula;
        self
    }
}

fn parse<C: MethodConfig>(value: Value) -> std::result::Result<C, String> {
    serde_json::from_value(value).map_err(|e| e.to_string())
}

/// The entry of a method.
///
/// # Errors
/// If there is none of this name; the message lists them.
pub fn entry(name: &str) -> Result<&'static Entry> {
    ALL.iter()
        .find(|e| e.name == name)
        .ok_or_else(|| Error::UnknownMethod {
            name: name.to_owned(),
            known: ALL.iter().map(|e| e.name).collect(),
        })
}

impl Resolved {
    /// Checks the configuration against the sizes of a backbone, without building anything.
    ///
    /// # Errors
    /// With the key, the value and what would be accepted.
    pub fn check(&self, backbone: &backbone::Config) -> Result<()> {
        (self.entry.check)(self.structure(), backbone).map_err(|what| Error::Config {
            method: self.entry.name.to_owned(),
            what,
        })
    }

    /// Builds the method over a backbone.
    ///
    /// # Errors
    /// As [`Resolved::check`], or if a tensor operation fails.
    pub fn build(&self, context: &mut Context<'_>) -> Result<Box<dyn PeftMethod>> {
        self.check(context.backbone.config())?;
        (self.entry.build)(self.structure(), context)
    }
}
