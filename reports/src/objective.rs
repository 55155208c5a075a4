//! What a run's predictions are worth, by the objective of its data set.

use std::collections::BTreeMap;

use record::{CLASSIFICATION, DatasetFacts, Predictions, Rows};
use statistics::{
    Correlation, Counts, EntityCounts, Metric, MultiLabel, TextCase, TextMetric, argmax, mean,
};

/// The predicted label of each example; `None` unless every example has one class of several.
pub fn classes(dataset: &DatasetFacts, predictions: &Predictions) -> Option<Vec<u32>> {
    let logits = predictions.logits.iter();
    (dataset.objective == CLASSIFICATION).then(|| logits.map(argmax).collect())
}

/// The main metric, computed from the predictions; `None` where its name is not known.
pub fn value(dataset: &DatasetFacts, predictions: &Predictions) -> Option<f64> {
    match classes(dataset, predictions) {
        Some(predicted) => {
            let metric = Metric::named(&dataset.main_metric)?;
            let classes = dataset.labels.len();
            let counts = Counts::of(&predictions.labels, &predicted, classes).ok()?;
            Some(metric.value(&counts))
        }
        None => mean(&scores(dataset, predictions)?),
    }
}

/// Scores of each example, with the main metric as their mean; `None` where it cannot be taken apart by example.
pub fn scores(dataset: &DatasetFacts, predictions: &Predictions) -> Option<Vec<f64>> {
    let main = dataset.main_metric.as_str();
    let (targets, outputs) = (&predictions.targets, &predictions.outputs);
    match dataset.objective.as_str() {
        CLASSIFICATION => {
            let predicted = classes(dataset, predictions)?;
            class_scores(dataset, &predictions.labels, &predicted)
        }
        "regression" => {
            let correlation = Correlation::named(main)?;
            correlation.scores(targets.values(), outputs.values()).ok()
        }
        "multi_label" => {
            let yes = |rows: &Rows<f64>, above: f64| -> Vec<Vec<bool>> {
                let rows = rows.iter();
                rows.map(|row| row.iter().map(|x| *x > above).collect())
                    .collect()
            };
            Some(MultiLabel::named(main)?.scores(&yes(targets, 0.5), &yes(outputs, 0.0)))
        }
        "completion" => Some(TextMetric::named(main)?.scores(&cases(predictions))),
        _ => {
            let sentences = targets.iter().zip(outputs.iter());
            let counts =
                sentences.map(|(t, p)| EntityCounts::of(&tags(dataset, t), &tags(dataset, p)));
            EntityCounts::scores(main, &counts.collect::<Vec<_>>())
        }
    }
}

/// How well each class or type is found: of entities by type, of sets of classes by class; nothing for other objectives.
pub fn parts(dataset: &DatasetFacts, predictions: &Predictions) -> BTreeMap<String, EntityCounts> {
    let mut parts: BTreeMap<String, EntityCounts> = BTreeMap::new();
    let both = predictions.targets.iter().zip(predictions.outputs.iter());
    for (truth, predicted) in both {
        let own: BTreeMap<String, EntityCounts> = match dataset.objective.as_str() {
            "tokens" => EntityCounts::by_type(&tags(dataset, truth), &tags(dataset, predicted)),
            "multi_label" => {
                let both = dataset.labels.iter().zip(truth.iter().zip(predicted));
                let counts = both.map(|(label, (t, p))| {
                    let (t, p) = (*t > 0.5, *p > 0.0);
                    let counts = EntityCounts {
                        right: usize::from(t && p),
                        truth: usize::from(t),
                        predicted: usize::from(p),
                    };
                    (label.clone(), counts)
                });
                counts.collect()
            }
            _ => return parts,
        };
        for (part, counts) in own {
            let sum = parts.entry(part).or_default();
            *sum = [*sum, counts].into_iter().sum();
        }
    }
    parts
}

/// What was written behind each prompt, and what may be.
fn cases(predictions: &Predictions) -> Vec<TextCase<'_>> {
    let texts = predictions.texts.iter();
    texts
        .map(|w| (w.text.as_str(), w.references.as_slice()))
        .collect()
}

/// Names of tags, given their indices.
pub fn tags<'a>(dataset: &'a DatasetFacts, indices: &[f64]) -> Vec<&'a str> {
    let name = |i: &f64| dataset.labels.get(*i as usize).map_or("O", String::as_str);
    indices.iter().map(name).collect()
}

/// Scores of what a run is taken for that diverged: of classes, of always answering the commonest; else of nothing right.
pub fn scores_of_nothing(dataset: &DatasetFacts, like: &Predictions) -> Option<Vec<f64>> {
    if dataset.objective != CLASSIFICATION {
        return Some(vec![0.0; like.len()]);
    }
    let classes = dataset.labels.len();
    let commonest = vec![commonest(&like.labels, classes); like.labels.len()];
    class_scores(dataset, &like.labels, &commonest)
}

/// Whether every example has the same answer.
pub fn is_constant(dataset: &DatasetFacts, predictions: &Predictions) -> bool {
    fn alike<T: PartialEq>(mut items: impl Iterator<Item = T>) -> bool {
        let first = items.next();
        items.all(|item| Some(item) == first)
    }
    if let Some(classes) = classes(dataset, predictions) {
        return alike(classes.into_iter());
    }
    let outputs = &predictions.outputs;
    let set = |row: &[f64]| row.iter().map(|x| *x > 0.0).collect::<Vec<_>>();
    match dataset.objective.as_str() {
        "tokens" => alike(outputs.values().iter()),
        "multi_label" => alike(outputs.iter().map(set)),
        "completion" => alike(predictions.texts.iter().map(|written| &written.text)),
        _ => alike(outputs.iter()),
    }
}

/// Whether two runs were judged by the same truth.
pub fn same_truth(a: &Predictions, b: &Predictions) -> bool {
    let mut texts = a.texts.iter().zip(&b.texts);
    a.labels == b.labels
        && a.targets == b.targets
        && a.texts.len() == b.texts.len()
        && texts.all(|(a, b)| a.prompt == b.prompt && a.references == b.references)
}

/// Scores of predicted classes; `None` if there is not one for each label.
pub fn class_scores(dataset: &DatasetFacts, labels: &[u32], predicted: &[u32]) -> Option<Vec<f64>> {
    if labels.len() != predicted.len() {
        return None;
    }
    let right = |(l, p): (&u32, &u32)| f64::from(u8::from(l == p));
    match Metric::named(&dataset.main_metric)? {
        // Right and wrong exactly; the jackknife gives the same up to rounding.
        Metric::Accuracy => Some(labels.iter().zip(predicted).map(right).collect()),
        metric => metric.scores(labels, predicted, dataset.labels.len()).ok(),
    }
}

/// The commonest of these labels, the first of equals.
fn commonest(labels: &[u32], classes: usize) -> u32 {
    let count = |k: u32| labels.iter().filter(|l| **l == k).count();
    (0..classes as u32)
        .rev()
        .max_by_key(|k| count(*k))
        .unwrap_or(0)
}
