//! The difference that matters.

use serde::{Deserialize, Serialize};

use crate::Error;

/// A margin δ, declared before looking: smaller differences do not matter. A fraction above 0 and below 1.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Margin(f64);

impl TryFrom<f64> for Margin {
    type Error = Error;

    fn try_from(fraction: f64) -> Result<Self, Error> {
        Self::new(fraction)
    }
}

impl From<Margin> for f64 {
    fn from(margin: Margin) -> Self {
        margin.0
    }
}

impl Margin {
    /// One percentage point.
    pub const POINT: Self = Self(0.01);

    /// A margin of this fraction.
    ///
    /// # Errors
    /// Unless it is above 0 and below 1.
    pub fn new(fraction: f64) -> Result<Self, Error> {
        if fraction > 0.0 && fraction < 1.0 {
            Ok(Self(fraction))
        } else {
            Err(Error::Margin(fraction))
        }
    }

    /// The fraction.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl Default for Margin {
    fn default() -> Self {
        Self::POINT
    }
}
