//! Texts that come more than once: what has to be said of them. They are left out only where the data set asks for it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::{Example, Objective, Split, completion::written};

/// A text's rows.
#[derive(Default)]
struct Seen {
    rows: usize,
    trained: bool,
    labels: BTreeSet<u32>,
}

/// What to say of rows that repeat a text, of texts with several labels, and of texts that are judged by though they were
/// trained on. Texts are the same where all their characters are.
pub(crate) fn notes(
    splits: &BTreeMap<Split, Vec<Example>>,
    labels: &[String],
    objective: Objective,
) -> Vec<String> {
    let mut seen: HashMap<(&str, Option<&str>), Seen> = HashMap::new();
    for (split, examples) in splits {
        for example in examples {
            let text = seen.entry(text_of(example)).or_default();
            text.rows += 1;
            text.trained |= *split == Split::Train;
            let class = example.label.as_ref().and_then(crate::Target::class);
            text.labels.extend(class);
        }
    }
    let mut notes = Vec::new();
    let rows: usize = seen.values().map(|text| text.rows).sum();
    if rows > seen.len() && objective == Objective::Completion {
        notes.push(format!(
            "its {rows} rows have {} different prompts; what is written behind one is judged by all of its completions",
            seen.len()
        ));
    } else if rows > seen.len() {
        notes.push(format!(
            "{} of {rows} rows repeat the text of another row; they stay",
            rows - seen.len()
        ));
    }
    let torn = seen.iter().filter(|(_, text)| text.labels.len() > 1);
    // The first in the order of letters, so that the note is the same each time.
    if let Some(((text, _), of)) = torn.clone().min_by_key(|(text, _)| *text) {
        let shown: String = text.chars().take(60).collect();
        let names = of
            .labels
            .iter()
            .map(|label| labels[*label as usize].as_str());
        notes.push(format!(
            "{} texts have more than one label ({shown:?} has {}): no classifier gets all of these rows right; they stay",
            torn.count(),
            names.collect::<Vec<_>>().join(" and ")
        ));
    }
    for split in [Split::Validation, Split::Test] {
        let examples = splits.get(&split).map_or(&[][..], Vec::as_slice);
        let trained = |example: &&Example| seen.get(&text_of(example)).is_some_and(|t| t.trained);
        let known = examples.iter().filter(trained).count();
        if known > 0 {
            notes.push(format!(
                "{known} of {} {} examples have a text that is trained on too, so that what is measured there is better \
                 than on new texts; they stay",
                examples.len(),
                split.name()
            ));
        }
    }
    notes
}

/// The rows that stay where each text is to come once.
pub(crate) struct Distinct {
    keep: Vec<bool>,
    repeated: usize,
    torn: usize,
}

/// A text and what is paired with it.
type Text<'a> = (&'a str, Option<&'a str>);

/// The first row of each text that has one class; no row of a text that has several. Of a prompt each completion is another text.
pub(crate) fn distinct(examples: &[Example]) -> Distinct {
    type Row<'a> = (Text<'a>, Option<&'a str>);
    fn row(example: &Example) -> Row<'_> {
        (text_of(example), written(example))
    }
    let mut seen: HashMap<Row, (usize, BTreeSet<u32>)> = HashMap::new();
    for example in examples {
        let (rows, classes) = seen.entry(row(example)).or_default();
        *rows += 1;
        classes.extend(example.label.as_ref().and_then(crate::Target::class));
    }
    let torn = seen.values().filter(|(_, classes)| classes.len() > 1);
    let torn: usize = torn.map(|(rows, _)| rows).sum();
    let stays = |example| {
        seen.remove(&row(example))
            .is_some_and(|(_, classes)| classes.len() <= 1)
    };
    let keep: Vec<bool> = examples.iter().map(stays).collect();
    let kept = keep.iter().filter(|keep| **keep).count();
    Distinct {
        repeated: keep.len() - kept - torn,
        torn,
        keep,
    }
}

impl Distinct {
    /// What is left of things that belong to the rows.
    pub fn of<T>(&self, rows: Vec<T>) -> Vec<T> {
        let rows = rows.into_iter().zip(&self.keep);
        rows.filter_map(|(row, keep)| keep.then_some(row)).collect()
    }

    /// What is said of the rows that are left out, if there are any.
    pub fn note(&self) -> Option<String> {
        let Self { repeated, torn, .. } = self;
        let said = [
            (*repeated > 0).then(|| {
                format!("{repeated} rows that repeat the text of another row were left out")
            }),
            (*torn > 0)
                .then(|| format!("{torn} rows of texts that have several labels were left out")),
        ];
        let said: Vec<String> = said.into_iter().flatten().collect();
        (!said.is_empty()).then(|| said.join(", and "))
    }
}

/// How many different texts there are.
pub(crate) fn texts(examples: &[Example]) -> usize {
    examples.iter().map(text_of).collect::<BTreeSet<_>>().len()
}

fn text_of(example: &Example) -> (&str, Option<&str>) {
    (&example.text, example.pair.as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(text: &str, label: u32) -> Example {
        Example {
            text: text.into(),
            pair: None,
            label: Some(crate::Target::Class(label)),
        }
    }

    fn said(train: &[(&str, u32)], test: &[(&str, u32)]) -> Vec<String> {
        let examples = |rows: &[(&str, u32)]| rows.iter().map(|(t, l)| example(t, *l)).collect();
        let splits = [
            (Split::Train, examples(train)),
            (Split::Test, examples(test)),
        ];
        let labels = ["down".into(), "up".into()];
        notes(&splits.into(), &labels, Objective::Classification)
    }

    #[test]
    fn nothing_is_said_of_texts_that_come_once() {
        assert_eq!(said(&[("a", 0), ("b", 1)], &[("c", 1)]), [""; 0]);
    }

    #[test]
    fn repeated_texts_contradictions_and_leaks_are_counted() {
        let said = said(
            &[("a", 0), ("a", 0), ("b", 1), ("b", 0)],
            &[("b", 1), ("c", 1)],
        );
        assert!(said[0].starts_with("3 of 6 rows repeat"), "{said:?}");
        assert!(
            said[1].starts_with("1 texts have more than one label (\"b\" has down and up)"),
            "{said:?}"
        );
        assert!(
            said[2].starts_with("1 of 2 test examples have a text that is trained on"),
            "{said:?}"
        );
        assert_eq!(said.len(), 3);
    }

    #[test]
    fn of_repeated_texts_the_first_row_stays_and_of_contradictory_ones_none() {
        let rows: Vec<Example> = [("a", 0), ("b", 1), ("a", 0), ("c", 1), ("b", 0), ("a", 0)]
            .map(|(text, label)| example(text, label))
            .into();
        let keep = distinct(&rows);
        assert_eq!(
            keep.note().unwrap(),
            "2 rows that repeat the text of another row were left out, and 2 rows of texts that have several labels \
             were left out"
        );
        assert_eq!(keep.of(rows), [example("a", 0), example("c", 1)]);
        assert_eq!(keep.of(vec![1, 2, 3, 4, 5, 6]), [1, 4]);
        assert_eq!(distinct(&[example("a", 0)]).note(), None);
    }

    #[test]
    fn of_completions_only_those_that_a_prompt_has_twice_are_left_out() {
        let rows: Vec<Example> = [("a", "one"), ("a", "two"), ("b", "one"), ("a", "one")]
            .map(|(text, completion)| Example {
                label: Some(crate::Target::Text(completion.into())),
                ..example(text, 0)
            })
            .into();
        assert_eq!(distinct(&rows).of(vec![1, 2, 3, 4]), [1, 2, 3]);
    }
}
