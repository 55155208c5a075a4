//! How comparisons are judged: the margin that was declared for each, and the numbers of seeds at which each is looked at.
//!
//! Both are kept beside the records, because no record shows them and a verdict depends on them: a margin that is chosen
//! after looking proves nothing, and who looks several times while seeds are added must spend the error rate over all looks
//! ([`Looks`]).

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use statistics::{FEWEST_SEEDS, Looks, Margin};

use crate::{
    Comparison, Kept, Result,
    conditions::{conditions, flat},
};

/// What was declared in a folder, by comparison.
type Declarations = BTreeMap<String, Declared>;

impl Kept for Declarations {
    const FILE: &'static str = "judging.json";
}

/// What was declared for one comparison.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Declared {
    /// Smaller differences do not matter.
    pub margin: Margin,
    /// Numbers of seeds at which it was looked at, or will be, ascending.
    pub looks: Vec<usize>,
}

/// What was declared, by comparison.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judging {
    /// A margin that is asked for now, for all of them.
    asked: Option<Margin>,
    declared: Declarations,
    /// A part of the name of the processor whose costs are shown.
    costs_on: Option<String>,
}

/// What names a comparison in the file: digits of the digest of its conditions.
fn key(comparison: &Comparison) -> Option<String> {
    let conditions = flat(&conditions(comparison.records.first()?));
    let digest = Sha256::digest(format!("{conditions:?}"));
    Some(format!("{digest:x}")[..16].to_owned())
}

impl Judging {
    /// What was declared in a comparison's folder or in the folders of comparisons below. A margin that is asked for now is taken for all.
    ///
    /// # Errors
    /// If a file is there but not readable.
    pub fn read(folder: &Path, asked: Option<Margin>) -> Result<Self> {
        let found = Declarations::read_below(folder)?.into_iter();
        Ok(Self {
            asked,
            declared: found.flat_map(|(_, declared)| declared).collect(),
            costs_on: None,
        })
    }

    /// With the costs of the processor model whose name holds `model`; of most runs where none is chosen.
    pub fn with_costs_on(self, model: Option<&str>) -> Self {
        Self {
            costs_on: model.map(str::to_owned),
            ..self
        }
    }

    /// The processor model that was chosen.
    pub(crate) fn costs_on(&self) -> Option<&str> {
        self.costs_on.as_deref()
    }

    /// The margin that was asked for, for what nothing was declared for.
    pub fn margin(&self) -> Margin {
        self.asked.unwrap_or_default()
    }

    /// The margin and the looks of a comparison; no looks where the number of seeds was fixed.
    pub(crate) fn of(&self, comparison: &Comparison) -> (Margin, Option<Looks>) {
        let declared = key(comparison)
            .and_then(|key| self.declared.get(&key).cloned())
            .unwrap_or_default();
        let looks = (declared.looks.len() > 1).then(|| Looks::new(declared.looks).ok());
        (self.asked.unwrap_or(declared.margin), looks.flatten())
    }
}

/// Keeps in a comparison's folder that it is looked at now (where it has seeds enough for verdicts) and, if it is to go on, at these
/// numbers of seeds. With what a reader of the verdicts has to know about that, a sentence each.
///
/// # Errors
/// If the file cannot be read or written.
pub fn look(
    folder: &Path,
    comparison: &Comparison,
    margin: Option<Margin>,
    planned: Option<&Looks>,
) -> Result<Vec<String>> {
    let Some(key) = key(comparison) else {
        return Ok(Vec::new());
    };
    let mut all = Declarations::read(folder)?.unwrap_or_default();
    let known = all.get(&key).cloned();
    let mut now = known.clone().unwrap_or_default();
    let mut notes = Vec::new();
    if let Some(margin) = margin {
        if known.as_ref().is_some_and(|k| k.margin != margin) {
            notes.push(format!(
                "these records were judged with a margin of {} points before, and are with {} now; a margin that is chosen after looking \
                 proves nothing",
                100.0 * now.margin.get(),
                100.0 * margin.get()
            ));
        }
        now.margin = margin;
    }
    let scores = comparison.ranked().iter().flat_map(|r| &r.scores);
    let seeds = scores.map(|s| s.seeds().count()).max().unwrap_or(0);
    // Of a plan, what was looked at is part.
    let next = match planned {
        Some(looks) => looks.seeds().to_vec(),
        None if now.looks.iter().any(|&l| l >= seeds) => Vec::new(),
        None => vec![seeds],
    };
    let before = now.looks.clone();
    now.looks
        .extend(next.into_iter().filter(|&s| s >= FEWEST_SEEDS));
    now.looks.sort_unstable();
    now.looks.dedup();
    if planned.is_none() && !before.is_empty() && before != now.looks {
        let shown: Vec<String> = before.iter().map(usize::to_string).collect();
        notes.push(format!(
            "a verdict's 5 % assume that the number of seeds was fixed beforehand, and these records were looked at with {} seeds before; the \
             verdicts now spend the 5 % over all looks so far, as if these had been planned; whoever stops as soon as something is shown \
             is still wrong more often than that. --until-decided, which plans its looks, is not",
            shown.join(", ")
        ));
    }
    if known.as_ref() != Some(&now)
        && (comparison.is_tested() || planned.is_some() || margin.is_some())
    {
        all.insert(key, now);
        all.write(folder)?;
    }
    Ok(notes)
}
