//! What can go wrong with a method.

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong with a method.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No method has this name.
    #[error("unknown method '{name}'; known: {}", known.join(", "))]
    UnknownMethod {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<&'static str>,
    },
    /// A configuration is not valid.
    #[error("method {method}: {what}")]
    Config {
        /// The method.
        method: String,
        /// Key, offending value and accepted values.
        what: String,
    },
    /// Saved weights do not fit the method.
    #[error("weights: {0}")]
    Weights(String),
    /// The backbone refused.
    #[error(transparent)]
    Backbone(#[from] backbone::Error),
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// Why a method cannot be merged into the backbone's weights.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotMergeable(pub String);

impl From<candle_core::Error> for NotMergeable {
    fn from(e: candle_core::Error) -> Self {
        Self(e.to_string())
    }
}

impl From<backbone::Error> for NotMergeable {
    fn from(e: backbone::Error) -> Self {
        Self(e.to_string())
    }
}
