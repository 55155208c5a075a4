//! How what stands in the label columns becomes targets: by the objective of the data set.

use std::collections::BTreeSet;

use crate::{
    LabelSpec, Objective, Target,
    label::{self, Classes, Label},
};

/// What a word has that belongs to no entity.
pub(crate) const OUTSIDE: &str = "O";

/// The prefixes of tags in BIO, IOB2, IOBES and BILOU.
const PREFIXES: [char; 6] = ['B', 'I', 'E', 'S', 'L', 'U'];

/// How labels become targets.
pub(crate) enum Meaning {
    Class {
        classes: Classes,
        threshold: Option<f64>,
    },
    Classes(Classes),
    Number,
    Tags(Classes),
    Text,
}

/// Why labels are no target: what is wrong, the value, and what is accepted.
pub(crate) struct NoTarget {
    pub what: String,
    pub value: String,
    pub accepted: String,
}

impl Meaning {
    /// Of a data set with these labels in its training rows, and in all its rows; with what has to be said about them, or why
    /// they are not what the objective asks for.
    pub fn learnt(
        objective: Objective,
        spec: &LabelSpec,
        train: &[Label],
        all: impl Iterator<Item = Label>,
    ) -> Result<(Self, Vec<String>), String> {
        let column = spec.column.as_str();
        let names = spec.names.as_deref();
        let given = |names: &[String]| (Classes::given(names), Vec::new());
        Ok(match objective {
            Objective::Classification => {
                let (classes, notes) = match names {
                    Some(names) => given(names),
                    None => Classes::learnt(train, column)?,
                };
                let threshold = spec.threshold;
                (Self::Class { classes, threshold }, notes)
            }
            Objective::MultiLabel => {
                let (classes, notes) = match names {
                    Some(names) => given(names),
                    None if !spec.columns.is_empty() => given(&spec.columns),
                    None => Classes::learnt(train, column)?,
                };
                (Self::Classes(classes), notes)
            }
            Objective::Regression => (Self::Number, Vec::new()),
            Objective::Completion => (Self::Text, Vec::new()),
            Objective::Tokens => {
                let names = match names {
                    Some(names) => names.to_vec(),
                    None => {
                        let mut names: BTreeSet<String> = all.map(|l| l.text).collect();
                        names.insert(OUTSIDE.to_owned());
                        names.into_iter().collect()
                    }
                };
                check_scheme(&names)?;
                (Self::Tags(Classes::given(&names)), Vec::new())
            }
        })
    }

    /// Names of the classes or tags; none of a number or a text.
    pub fn names(self) -> Vec<String> {
        match self {
            Self::Class { classes, .. } | Self::Classes(classes) | Self::Tags(classes) => {
                classes.names
            }
            Self::Number | Self::Text => Vec::new(),
        }
    }

    /// The target of a row that has these labels and, where each has a tag, so many words; nothing for a rating on the
    /// threshold.
    pub fn target(&self, labels: &[Label], words: usize) -> Result<Option<Target>, NoTarget> {
        let no_label = |label: &Label, accepted: String| NoTarget {
            what: "holds no label".to_owned(),
            value: format!("'{}'", label.text.chars().take(80).collect::<String>()),
            accepted,
        };
        let first = labels.first();
        match (self, first) {
            (Self::Class { threshold, .. }, Some(label)) if threshold.is_some() => {
                let rating = label::rating(label);
                if rating.is_some() && rating == *threshold {
                    return Ok(None);
                }
                let rating = rating.ok_or_else(|| no_label(label, "a number".to_owned()))?;
                Ok(Some(Target::Class(u32::from(Some(rating) > *threshold))))
            }
            (Self::Class { classes, .. }, Some(label)) => match classes.of(label) {
                Some(class) => Ok(Some(Target::Class(class))),
                None => Err(no_label(label, classes.accepted())),
            },
            (Self::Number, Some(label)) => match label::rating(label) {
                Some(number) => Ok(Some(Target::Number(number))),
                None => Err(NoTarget {
                    what: "holds no number".to_owned(),
                    ..no_label(
                        label,
                        "a finite number, with a point for decimals".to_owned(),
                    )
                }),
            },
            (Self::Text, Some(label)) => Ok(Some(Target::Text(label.text.clone()))),
            (Self::Class { .. } | Self::Number | Self::Text, None) => Ok(None),
            (Self::Classes(classes), _) => {
                let mut target = vec![false; classes.names.len()];
                for label in labels {
                    match classes.of(label) {
                        Some(class) => target[class as usize] = true,
                        None => return Err(no_label(label, classes.accepted())),
                    }
                }
                Ok(Some(Target::Classes(target)))
            }
            (Self::Tags(classes), _) => {
                if labels.len() != words {
                    return Err(NoTarget {
                        what: "does not have one tag for each token".to_owned(),
                        value: format!("{} tags for {words} tokens", labels.len()),
                        accepted: "a list of as many tags as there are tokens".to_owned(),
                    });
                }
                let tag = |label: &Label| {
                    let tag = classes.of(label);
                    tag.ok_or_else(|| no_label(label, classes.accepted()))
                };
                let tags = labels.iter().map(tag).collect::<Result<_, _>>()?;
                Ok(Some(Target::Tags(tags)))
            }
        }
    }
}

/// Whether these are the tags of entities in BIO, IOB2, IOBES or BILOU.
fn check_scheme(names: &[String]) -> Result<(), String> {
    let how = "an entity's first word has B-TYPE and its others I-TYPE (BIO, IOB2), or as in IOBES or BILOU; every other word \
               has O";
    let mut begun = BTreeSet::new();
    let mut inside = Vec::new();
    for name in names.iter().filter(|name| *name != OUTSIDE) {
        let parts = name.split_once('-').and_then(|(prefix, of)| {
            let mut letters = prefix.chars();
            let letter = letters.next().filter(|l| PREFIXES.contains(l))?;
            (letters.next().is_none() && !of.is_empty()).then_some((letter, of))
        });
        match parts {
            None => {
                return Err(format!(
                    "the tag '{name}' belongs to no scheme that is known: {how}"
                ));
            }
            Some(('B' | 'S' | 'U', of)) => {
                begun.insert(of);
            }
            Some((_, of)) => inside.push((name, of)),
        }
    }
    if !names.iter().any(|name| name == OUTSIDE) {
        return Err(format!("label.names lacks the tag O: {how}"));
    }
    match inside.iter().find(|(_, of)| !begun.contains(of)) {
        Some((name, of)) => Err(format!(
            "there is the tag '{name}' but never 'B-{of}', so where an entity begins is not said: {how}"
        )),
        None => Ok(()),
    }
}
