//! A claim as its YAML says it.

use serde::Deserialize;
use statistics::Margin;

use crate::{Error, Result, quantity::Quantity};

/// The claims that come with the program.
pub const CLAIMS: &str = include_str!("../../claims.yaml");

/// A claim as its YAML says it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// Short name.
    pub id: String,
    /// The claim in words.
    pub claim: String,
    /// Who makes it.
    pub source: String,
    /// What must be so if it is right.
    pub rules: Vec<Rule>,
}

/// One thing to measure, and the values that the claim accepts.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What is measured.
    pub measure: Measure,
    /// Smallest accepted value.
    pub at_least: Option<Bound>,
    /// Largest accepted value.
    pub at_most: Option<Bound>,
}

/// An accepted value.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Bound {
    /// A number.
    Number(f64),
    /// The declared margin.
    Margin(Signed),
}

/// The declared margin with its sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Signed {
    /// Above zero.
    #[serde(rename = "margin")]
    Plus,
    /// Below zero.
    #[serde(rename = "-margin")]
    Minus,
}

impl Bound {
    pub(super) fn value(self, margin: Margin) -> f64 {
        match self {
            Self::Number(x) => x,
            Self::Margin(Signed::Plus) => margin.get(),
            Self::Margin(Signed::Minus) => -margin.get(),
        }
    }
}

/// What a rule measures.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Measure {
    /// A quantity of one method over that of another, or of the `backbone`; of latencies, over all settings that were timed.
    Ratio {
        /// The quantity; the metric is measured as a difference.
        quantity: Quantity,
        /// The method.
        of: String,
        /// Another method, or `backbone`.
        over: String,
    },
    /// The main metric of one method minus another's.
    Difference {
        /// The method.
        of: String,
        /// The other method.
        minus: String,
    },
    /// The main metric at one point of a study minus another's.
    Study {
        /// Name of the study.
        study: String,
        /// The point.
        of: At,
        /// The other point.
        minus: At,
    },
    /// The main metric at the best point of one series minus that at another's; the best is chosen on other examples than it is judged on.
    Best {
        /// Name of the study.
        study: String,
        /// Label of the series.
        of: String,
        /// Label of the other series.
        minus: String,
    },
    /// Where the best point of one series stands on the x axis, over where another's does.
    Place {
        /// Name of the study.
        study: String,
        /// Label of the series.
        of: String,
        /// Label of the other series.
        over: String,
    },
    /// One difference between two points of a study minus another such difference.
    Interaction {
        /// Name of the study.
        study: String,
        /// A point.
        of: At,
        /// What is taken from it.
        minus: At,
        /// The point of the other difference.
        beside: At,
        /// What is taken from that.
        beside_minus: At,
    },
    /// Trained parameters, head apart, at a point of a study over the backbone's.
    Share {
        /// Name of the study.
        study: String,
        /// The point.
        of: At,
    },
    /// The mean of the main metric over the learning curve at one point of a study minus another's.
    Curve {
        /// Name of the study.
        study: String,
        /// The point.
        of: At,
        /// The other point.
        minus: At,
    },
    /// The variance over seeds at one point of a study over another's.
    Spread {
        /// Name of the study.
        study: String,
        /// The point.
        of: At,
        /// The other point.
        over: At,
    },
    /// Share of a method's runs that passed some checks.
    Checks {
        /// The method.
        method: String,
        /// Names of the checks.
        checks: Vec<String>,
        /// On at least so many data sets.
        datasets: usize,
    },
}

impl Measure {
    /// The study that it is measured in; what has none is measured in comparisons.
    pub(super) fn study(&self) -> Option<&str> {
        match self {
            Self::Ratio { .. } | Self::Difference { .. } | Self::Checks { .. } => None,
            Self::Study { study, .. }
            | Self::Best { study, .. }
            | Self::Place { study, .. }
            | Self::Interaction { study, .. }
            | Self::Share { study, .. }
            | Self::Curve { study, .. }
            | Self::Spread { study, .. } => Some(study),
        }
    }
}

/// The label that stands for the best point of a series.
pub(super) const BEST: &str = "best";

/// A point of a study.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct At {
    /// Label of the series.
    pub series: String,
    /// Label of the point, or `best`.
    pub at: String,
}

/// The claims in a YAML.
///
/// # Errors
/// If it is not valid; the message says where.
pub fn parse(yaml: &str) -> Result<Vec<Claim>> {
    // By way of JSON values: YAML itself would want a tag where a measure is chosen.
    let values: Vec<serde_json::Value> =
        serde_yaml::from_str(yaml).map_err(|e| Error::Claims(e.to_string()))?;
    let claim = |value: serde_json::Value| {
        let id = value["id"].as_str().unwrap_or("a claim without id");
        Claim::deserialize(&value).map_err(|e| Error::Claims(format!("{id}: {e}")))
    };
    let claims = values.into_iter().map(claim).collect::<Result<Vec<_>>>()?;
    for claim in &claims {
        let bad = |what: &str| Error::Claims(format!("{}: {what}", claim.id));
        if claim.rules.is_empty() {
            return Err(bad("no rules; give at least one"));
        }
        for rule in &claim.rules {
            if let Measure::Ratio { quantity, .. } = &rule.measure
                && *quantity == Quantity::Metric
            {
                return Err(bad("a ratio of the metric; measure its difference"));
            }
            let ends = [rule.at_least, rule.at_most].map(|b| b.map(|b| b.value(Margin::default())));
            match ends {
                [None, None] => return Err(bad("a rule needs at_least, at_most or both")),
                [Some(low), Some(high)] if low > high => {
                    return Err(bad(&format!("at_least {low} is above at_most {high}")));
                }
                _ => {}
            }
        }
    }
    Ok(claims)
}
