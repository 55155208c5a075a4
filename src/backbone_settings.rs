//! How a backbone is read where the user says it: over what its YAML or its folder says.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use backbone::{HeadKind, Pooling, Precision};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::nearest;

/// What is set of a backbone; what is absent is as its YAML or its folder says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackboneSettings {
    /// How an example's vector is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pooling: Option<Pooling>,
    /// The precision of its weights; f32 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
    /// The classifier on top.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<HeadKind>,
    /// Whether words are asked for in the tokenizer's chat template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat: Option<bool>,
}

impl BackboneSettings {
    /// From values as they are written, by key.
    ///
    /// # Errors
    /// If a key is unknown or a value is not accepted; the message names both.
    pub fn parse(written: &BTreeMap<String, String>) -> Result<Self> {
        let mut settings = Self::default();
        for (key, text) in written {
            match key.as_str() {
                "pooling" => settings.pooling = Some(value(key, text)?),
                "precision" => settings.precision = Some(value(key, text)?),
                "head" => settings.head = Some(value(key, text)?),
                "chat" => settings.chat = Some(value(key, text)?),
                other => bail!(
                    "backbone: unknown key '{other}'; {}",
                    nearest::known(other, &["pooling", "precision", "head", "chat"])
                ),
            }
        }
        Ok(settings)
    }
}

fn value<T: DeserializeOwned>(key: &str, text: &str) -> Result<T> {
    serde_yaml::from_str(text).with_context(|| format!("backbone: {key}: '{text}'"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(key: &str, text: &str) -> Result<BackboneSettings> {
        BackboneSettings::parse(&[(key.to_owned(), text.to_owned())].into())
    }

    #[test]
    fn values_are_typed_and_others_are_refused_with_what_is_accepted() {
        let set = parse("pooling", "cls").unwrap();
        assert_eq!(set.pooling, Some(Pooling::Cls));
        assert_eq!((set.precision, set.head), (None, None));
        for (key, text, says) in [
            ("poling", "cls", "pooling"),
            ("pooling", "first", "mean"),
            ("precision", "f16", "bf16"),
        ] {
            let message = format!("{:#}", parse(key, text).unwrap_err());
            assert!(message.contains(key) && message.contains(says), "{message}");
        }
    }
}
