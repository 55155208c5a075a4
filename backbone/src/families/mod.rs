//! Families of transformers, one file each: what a `config.json` means, the defaults of its missing keys, and the names of
//! its tensors and modules in transformers.

mod bert;
mod distilbert;
mod llama;
mod modernbert;

use crate::{
    Architecture, Config, Projection,
    keys::Keys,
    site::{Site, Sublayer},
};

impl Architecture {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Bert,
        Self::Roberta,
        Self::DistilBert,
        Self::ModernBert,
        Self::Llama,
        Self::Qwen2,
        Self::Qwen3,
    ];

    /// The family of a `model_type`.
    pub(crate) fn of_model_type(name: &str) -> Option<Self> {
        match name {
            "bert" => Some(Self::Bert),
            "roberta" | "xlm-roberta" => Some(Self::Roberta),
            "distilbert" => Some(Self::DistilBert),
            "modernbert" => Some(Self::ModernBert),
            "llama" => Some(Self::Llama),
            "qwen2" => Some(Self::Qwen2),
            "qwen3" => Some(Self::Qwen3),
            _ => None,
        }
    }

    /// Why a family that is often asked for is not among them, by its `model_type` or by what a model of it is called; nothing for
    /// others.
    pub fn why_not(name: &str) -> Option<&'static str> {
        match name {
            name if name.starts_with("gemma3") || name.starts_with("gemma-3") => Some(
                "a Gemma 3 has norms behind its sublayers as well, norms whose weights are counted from one, and scaled \
                 embeddings, none of which is computed here, and comes under the Gemma Terms of Use (ai.google.dev/gemma/terms)",
            ),
            name if name.starts_with("gpt2") => Some(
                "a GPT-2 stores its matrices turned, as Conv1D, which loading, merging and PEFT's files would each have to undo",
            ),
            _ => None,
        }
    }

    /// The same behind a name in a message.
    pub(crate) fn because(name: &str) -> String {
        Self::why_not(name).map_or_else(String::new, |why| format!(" ({why})"))
    }

    /// The `model_type` of a class of transformers, such as `XLMRobertaForMaskedLM`.
    pub(crate) fn model_type_of_class(class: &str) -> Option<&'static str> {
        let classes = [
            ("Bert", "bert"),
            ("Roberta", "roberta"),
            ("XLMRoberta", "xlm-roberta"),
            ("DistilBert", "distilbert"),
            ("ModernBert", "modernbert"),
            ("Llama", "llama"),
            ("Qwen2", "qwen2"),
            ("Qwen3", "qwen3"),
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
            Self::ModernBert => modernbert::defaults(),
            Self::Llama | Self::Qwen2 | Self::Qwen3 => llama::defaults(self),
        }
    }

    /// Follows the keys of a `config.json`.
    pub(crate) fn read(self, keys: &mut Keys<'_>, defaults: Config) -> Config {
        match self {
            Self::Bert | Self::Roberta => bert::read(keys, defaults),
            Self::DistilBert => distilbert::read(keys, defaults),
            Self::ModernBert => modernbert::read(keys, defaults),
            Self::Llama | Self::Qwen2 | Self::Qwen3 => llama::read(keys, defaults),
        }
    }

    /// The path of the linear layer at a site inside the transformers model, without the architecture's prefix.
    pub fn module(self, site: Site) -> String {
        match self {
            Self::Bert | Self::Roberta => bert::module(site),
            Self::DistilBert => distilbert::module(site),
            Self::ModernBert => modernbert::module(site),
            Self::Llama | Self::Qwen2 | Self::Qwen3 => llama::module(site),
        }
    }

    /// The path of a layer's norm.
    pub(crate) fn norm_module(self, layer: usize, which: Sublayer) -> String {
        match self {
            Self::Bert | Self::Roberta => bert::norm(layer, which),
            Self::DistilBert => distilbert::norm(layer, which),
            Self::ModernBert => modernbert::norm(layer, which),
            Self::Llama | Self::Qwen2 | Self::Qwen3 => llama::norm(layer, which),
        }
    }

    /// What stands before the names of all tensors in a checkpoint with a head.
    pub fn prefix(self) -> String {
        match self {
            Self::Bert | Self::Roberta | Self::DistilBert => format!("{}.", self.name()),
            Self::ModernBert | Self::Llama | Self::Qwen2 | Self::Qwen3 => "model.".into(),
        }
    }

    /// The tensor of the word embeddings.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Bert | Self::Roberta | Self::DistilBert => "embeddings.word_embeddings.weight",
            Self::ModernBert => "embeddings.tok_embeddings.weight",
            Self::Llama | Self::Qwen2 | Self::Qwen3 => "embed_tokens.weight",
        }
    }

    /// The path of the norm over the embeddings.
    pub(crate) fn embedding_norm(self) -> &'static str {
        match self {
            Self::ModernBert => "embeddings.norm",
            _ => "embeddings.LayerNorm",
        }
    }

    /// The path of the norm behind the last layer.
    pub(crate) fn final_norm(self) -> &'static str {
        match self {
            Self::ModernBert => "final_norm",
            _ => "norm",
        }
    }

    /// The linear layers that Hugging Face PEFT's LoRA changes where nobody names any.
    pub(crate) fn lora_targets(self) -> &'static [Projection] {
        match self {
            Self::ModernBert => modernbert::LORA,
            _ => &[Projection::Query, Projection::Value],
        }
    }

    /// The linear layers that IA3 scales where nobody names any, and those of them whose input it scales.
    pub(crate) fn ia3_targets(self) -> [&'static [Projection]; 2] {
        match self {
            Self::Bert | Self::Roberta | Self::DistilBert => bert::IA3,
            Self::ModernBert => modernbert::IA3,
            Self::Llama | Self::Qwen2 | Self::Qwen3 => llama::ia3(self),
        }
    }

    /// The linear layers of a layer, in the order of the computation.
    pub fn projections(self) -> Vec<Projection> {
        Config::of(self).description.projections().collect()
    }
}
