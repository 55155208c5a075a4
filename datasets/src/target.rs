//! What is true of an example.

use crate::Objective;

/// What is true of an example.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// Its class, an index into [`crate::Dataset::labels`].
    Class(u32),
    /// Whether each of the classes is its own, in the order of [`crate::Dataset::labels`].
    Classes(Vec<bool>),
    /// A finite number, in the data's own unit.
    Number(f64),
    /// The tag of each word, indices into [`crate::Dataset::labels`].
    Tags(Vec<u32>),
    /// The text that is to be written.
    Text(String),
}

impl Target {
    /// The objective it is a target of.
    pub fn objective(&self) -> Objective {
        match self {
            Self::Class(_) => Objective::Classification,
            Self::Classes(_) => Objective::MultiLabel,
            Self::Number(_) => Objective::Regression,
            Self::Tags(_) => Objective::Tokens,
            Self::Text(_) => Objective::Completion,
        }
    }

    /// The class, where it is one.
    pub fn class(&self) -> Option<u32> {
        match self {
            Self::Class(class) => Some(*class),
            _ => None,
        }
    }

    /// The number, where it is one.
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// The text, where it is one.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Indices into [`crate::Dataset::labels`], one for each time that one is meant.
    pub fn labels(&self) -> Vec<u32> {
        match self {
            Self::Class(class) => vec![*class],
            Self::Number(_) | Self::Text(_) => Vec::new(),
            Self::Tags(tags) => tags.clone(),
            Self::Classes(all) => (0..)
                .zip(all)
                .filter(|(_, is)| **is)
                .map(|(i, _)| i)
                .collect(),
        }
    }

    /// Its numbers, as records keep them: the class, the number, 0 or 1 for each class, or the tags; none of a text.
    pub fn numbers(&self) -> Vec<f64> {
        match self {
            Self::Class(class) => vec![f64::from(*class)],
            Self::Number(number) => vec![*number],
            Self::Classes(all) => all.iter().map(|is| f64::from(u8::from(*is))).collect(),
            Self::Tags(tags) => tags.iter().map(|tag| f64::from(*tag)).collect(),
            Self::Text(_) => Vec::new(),
        }
    }

    /// Bytes that tell it from every other one, for digests.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Class(class) => class.to_le_bytes().into(),
            Self::Number(number) => number.to_le_bytes().into(),
            Self::Classes(all) => all.iter().map(|is| u8::from(*is)).collect(),
            Self::Tags(tags) => tags.iter().flat_map(|tag| tag.to_le_bytes()).collect(),
            Self::Text(text) => text.clone().into_bytes(),
        }
    }
}
