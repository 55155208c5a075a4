//! Families of transformers, one file each: what a `config.json` means, the defaults of its missing keys, and the names of
//! its tensors and modules in transformers.

pub(crate) mod bert;
pub(crate) mod distilbert;

use crate::{
    Architecture, Config,
    keys::Keys,
    site::{Site, Sublayer},
};

impl Architecture {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Bert, Self::Roberta, Self::DistilBert];

    /// The family of a `model_type`.
    pub(crate) fn of_model_type(name: &str) -> Option<Self> {
        match name {
            "bert" => Some(Self::Bert),
            "roberta" | "xlm-roberta" => Some(Self::Roberta),
            "distilbert" => Some(Self::DistilBert),
            _ => None,
        }
    }

    /// The `model_type` of a class of transformers, such as `XLMRobertaForMaskedLM`.
    pub(crate) fn model_type_of_class(class: &str) -> Option<&'static str> {
        let classes = [
            ("Bert", "bert"),
            ("Roberta", "roberta"),
            ("XLMRoberta", "xlm-roberta"),
            ("DistilBert", "distilbert"),
        ];
        classes.into_iter().find_map(|(name, model_type)| {
            let rest = class.strip_prefix(name)?;
            (rest == "Model" || rest.starts_with("For") || rest.starts_with("LMHead"))
                .then_some(model_type)
        })
    }

    /// What the library takes for a `config.json` without a key.
    pub(crate) fn defaults(self, model_type: &str) -> Config {
        match self {
            Self::Bert | Self::Roberta => bert::defaults(model_type),
            Self::DistilBert => distilbert::defaults(),
        }
    }

    /// Follows the keys of a `config.json`.
    pub(crate) fn read(self, keys: &mut Keys<'_>, defaults: Config) -> Config {
        match self {
            Self::Bert | Self::Roberta => bert::read(keys, defaults),
            Self::DistilBert => distilbert::read(keys, defaults),
        }
    }

    /// The path of the linear layer at a site inside the transformers model, without the architecture's prefix.
    pub fn module(self, site: Site) -> String {
        match self {
            Self::Bert | Self::Roberta => bert::module(site),
            Self::DistilBert => distilbert::module(site),
        }
    }

    /// The path of a layer's norm.
    pub(crate) fn norm_module(self, layer: usize, which: Sublayer) -> String {
        match self {
            Self::Bert | Self::Roberta => bert::norm(layer, which),
            Self::DistilBert => distilbert::norm(layer, which),
        }
    }
}
