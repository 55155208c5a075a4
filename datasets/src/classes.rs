//! How many examples of each class there are.

use crate::{Dataset, Split};

/// A class and its examples in each split; a tag and its words.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ClassCount {
    /// Its name.
    pub name: String,
    /// Examples trained on.
    pub train: usize,
    /// Examples judged by.
    pub validation: usize,
    /// Examples kept for the end; 0 where their labels are hidden.
    pub test: usize,
}

impl Dataset {
    /// The classes in the order of their indices, with their examples.
    pub fn classes(&self) -> Vec<ClassCount> {
        let count = |split: Split| {
            let mut counts = vec![0; self.labels.len()];
            let targets = self.split(split).iter().filter_map(|e| e.label.as_ref());
            for class in targets.flat_map(crate::Target::labels) {
                counts[class as usize] += 1;
            }
            counts
        };
        let [train, validation, test] = [Split::Train, Split::Validation, Split::Test].map(count);
        let class = |(i, name): (usize, &String)| ClassCount {
            name: name.clone(),
            train: train[i],
            validation: validation[i],
            test: test[i],
        };
        self.labels.iter().enumerate().map(class).collect()
    }
}

/// What has to be said of classes that are not trained on or not judged.
pub(crate) fn gaps(classes: &[ClassCount]) -> Vec<String> {
    let few = |classes: Vec<&ClassCount>| {
        let names: Vec<String> = classes.iter().map(|c| format!("'{}'", c.name)).collect();
        crate::rows::shown(&names)
    };
    let (mut notes, untrained, unjudged) = (
        Vec::new(),
        classes.iter().filter(|c| c.train == 0).collect::<Vec<_>>(),
        classes
            .iter()
            .filter(|c| c.train > 0 && c.validation == 0)
            .collect::<Vec<_>>(),
    );
    if !untrained.is_empty() {
        notes.push(format!(
            "{} has 0 training examples: it is not learnt, and wrong wherever it is the label",
            few(untrained)
        ));
    }
    if !unjudged.is_empty() {
        notes.push(format!(
            "{} has 0 validation examples: it is trained but never judged",
            few(unjudged)
        ));
    }
    notes
}
