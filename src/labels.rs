//! Which class of a classifier a class of the data is: the one of the same name.

use anyhow::{Result, bail, ensure};

/// The name that transformers gives to a class without one.
pub fn anonymous(class: usize) -> String {
    format!("LABEL_{class}")
}

/// Whether the classes have no names of their own.
pub fn are_anonymous(labels: &[String]) -> bool {
    let mut labels = labels.iter().enumerate();
    labels.all(|(i, label)| *label == anonymous(i))
}

/// The classifier's class for each of the data's classes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matched {
    /// By the data's class.
    pub classes: Vec<u32>,
    /// What to say about it, if anything.
    pub note: Option<String>,
}

impl Matched {
    /// A row of the classifier's logits in the order of the data's classes; those that only the classifier has come after
    /// them.
    pub fn in_order(&self, logits: &[f32]) -> Vec<f32> {
        let known = self.classes.iter().map(|class| logits[*class as usize]);
        let others = (0..logits.len() as u32).filter(|class| !self.classes.contains(class));
        known
            .chain(others.map(|class| logits[class as usize]))
            .collect()
    }
}

/// Matches classes by name; the classifier may have more than the data. Data whose names are numbers is matched by number to
/// names that are none, as in the Python libraries; a classifier without names also by order, where it has as many classes as
/// the data. Then there is a note.
///
/// # Errors
/// If the data has a class that the classifier lacks; the message names all of them.
pub fn matched(classifier: &[String], data: &[String]) -> Result<Matched> {
    let place = |name: &String| classifier.iter().position(|label| label == name);
    let missing: Vec<&str> = data
        .iter()
        .filter(|name| place(name).is_none())
        .map(String::as_str)
        .collect();
    let twice = data.iter().find(|name| {
        let same = classifier.iter().filter(|label| label == name);
        same.count() > 1
    });
    if let Some(name) = twice {
        bail!(
            "the classifier has two classes of the name '{name}': which is which is not known; name them with peftbench \
             import --labels"
        );
    }
    if missing.is_empty() {
        let classes = data.iter().filter_map(place).map(|i| i as u32).collect();
        let note = None;
        return Ok(Matched { classes, note });
    }
    let numbers: Option<Vec<u32>> = data.iter().map(|name| name.parse().ok()).collect();
    let numbers = numbers.filter(|n| n.iter().all(|n| (*n as usize) < classifier.len()));
    let unnamed = are_anonymous(classifier);
    if let (false, Some(numbers)) = (unnamed, &numbers)
        && classifier.iter().all(|name| name.parse::<f64>().is_err())
    {
        let each = numbers
            .iter()
            .map(|n| format!("{n} is {}", classifier[*n as usize]));
        let each: Vec<String> = each.take(20).collect();
        let note = format!(
            "the data's classes are numbers, taken as those of the classifier's classes: {}",
            each.join(", ")
        );
        return Ok(Matched {
            classes: numbers.clone(),
            note: Some(note),
        });
    }
    ensure!(
        unnamed,
        "the data has the class{} {}, but the classifier knows {}",
        if missing.len() == 1 { "" } else { "es" },
        missing.join(", "),
        classifier.join(", ")
    );
    let (classes, how) = match numbers {
        Some(numbers) => (numbers, "by number"),
        None if data.len() == classifier.len() => ((0..data.len() as u32).collect(), "in order"),
        None => bail!(
            "the classifier has {} classes without names and the data {} ({}): which is which is not known; name them \
             with peftbench import --labels",
            classifier.len(),
            data.len(),
            data.join(", ")
        ),
    };
    let note = format!(
        "the classifier has no names for its {} classes; taken {how}: {}",
        classifier.len(),
        data.join(", ")
    );
    Ok(Matched {
        classes,
        note: Some(note),
    })
}

/// New names for a classifier's classes. Where they are the names that it has, in another order, each class keeps its name.
///
/// # Errors
/// If there are more or fewer of them, or one twice.
pub fn renamed(classifier: &[String], names: &[String]) -> Result<(Vec<String>, Option<String>)> {
    ensure!(
        names.len() == classifier.len(),
        "--labels {}: the classifier has {} classes",
        names.join(","),
        classifier.len()
    );
    for (i, name) in names.iter().enumerate() {
        ensure!(
            !names[..i].contains(name),
            "--labels {}: '{name}' is named twice",
            names.join(",")
        );
    }
    if names == classifier {
        return Ok((names.to_owned(), None));
    }
    if names.iter().all(|name| classifier.contains(name)) {
        let note = format!(
            "--labels {}: the folder names its classes {}, in this order; they are matched by name and stay as they are",
            names.join(","),
            classifier.join(", ")
        );
        return Ok((classifier.to_owned(), Some(note)));
    }
    let note = (!are_anonymous(classifier)).then(|| {
        format!(
            "the classes {} are renamed to {}, in this order",
            classifier.join(", "),
            names.join(", ")
        )
    });
    Ok((names.to_owned(), note))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|n| n.to_string()).collect()
    }

    fn classes(classifier: &[&str], data: &[&str]) -> Vec<u32> {
        matched(&names(classifier), &names(data)).unwrap().classes
    }

    #[test]
    fn classes_are_matched_by_name_whatever_their_order() {
        assert_eq!(classes(&["pos", "neg"], &["neg", "pos"]), [1, 0]);
        assert_eq!(classes(&["a", "b", "c"], &["c"]), [2]);
        assert_eq!(classes(&["LABEL_0", "LABEL_1"], &["LABEL_1"]), [1]);
        let two = matched(&names(&["a", "b", "c"]), &names(&["c", "a"])).unwrap();
        assert_eq!(two.in_order(&[0.1, 0.2, 0.3]), [0.3, 0.1, 0.2]);
        let message = matched(&names(&["a", "b", "a"]), &names(&["a", "b"]));
        let message = message.unwrap_err().to_string();
        assert!(message.contains("two classes of the name 'a'"), "{message}");
        let message = matched(&names(&["a", "b"]), &names(&["b", "d", "e"]));
        let message = message.unwrap_err().to_string();
        assert!(message.contains("classes d, e"), "{message}");
    }

    #[test]
    fn classes_without_names_are_matched_by_number_or_in_order_with_a_note() {
        let anonymous = names(&["LABEL_0", "LABEL_1", "LABEL_2"]);
        let found = matched(&anonymous, &names(&["2", "0"])).unwrap();
        assert_eq!(found.classes, [2, 0]);
        assert!(found.note.unwrap().contains("by number"));
        let found = matched(&anonymous, &names(&["a", "b", "c"])).unwrap();
        assert_eq!(found.classes, [0, 1, 2]);
        assert!(found.note.unwrap().contains("in order"));
        let named = names(&["neg", "pos"]);
        let found = matched(&named, &names(&["0", "1"])).unwrap();
        assert_eq!(found.classes, [0, 1]);
        assert!(found.note.unwrap().contains("0 is neg, 1 is pos"));
        for (classifier, data) in [(&["neg", "pos"], ["1", "2"]), (&["1", "2"], ["0", "1"])] {
            let message = matched(&names(classifier), &names(&data)).unwrap_err();
            assert!(
                message.to_string().contains("the data has the class"),
                "{message}"
            );
        }
        let message = matched(&anonymous, &names(&["a", "b"])).unwrap_err();
        assert!(message.to_string().contains("import --labels"));
        assert!(matched(&anonymous, &names(&["0", "3"])).is_err());
    }

    #[test]
    fn new_names_do_not_swap_classes_that_have_them() {
        let known = names(&["pos", "neg"]);
        let (kept, note) = renamed(&known, &names(&["neg", "pos"])).unwrap();
        assert_eq!(kept, known);
        assert!(note.unwrap().contains("matched by name"));
        let anonymous = names(&["LABEL_0", "LABEL_1"]);
        let (new, note) = renamed(&anonymous, &known).unwrap();
        assert_eq!((new, note), (known.clone(), None));
        assert!(renamed(&known, &names(&["a", "a"])).is_err());
        assert!(renamed(&known, &names(&["a"])).is_err());
    }
}
