//! What must hold in a record, so that everything behind the store can rely on it.

use crate::{CLASSIFICATION, Cost, Outcome, Predictions, Rows, RunRecord, Status};

/// The first contradiction in predictions of classes.
fn problem_of_classes(predictions: &Predictions, classes: usize) -> Option<String> {
    let (labels, logits) = (&predictions.labels, &predictions.logits);
    if predictions.targets.len() + predictions.outputs.len() + predictions.texts.len() > 0 {
        return Some(
            "`outcome.predictions` has `targets`, `outputs` or `texts`, which belong to other tasks than classification".into(),
        );
    }
    if logits.len() != labels.len() {
        return Some(format!(
            "`outcome.predictions` has {} labels but {} rows of logits",
            labels.len(),
            logits.len()
        ));
    }
    if let Some(i) = logits.iter().position(|row| row.len() != classes) {
        return Some(format!(
            "`outcome.predictions.logits[{i}]` has {} values for {classes} labels",
            logits[i].len()
        ));
    }
    let i = labels.iter().position(|&l| l as usize >= classes)?;
    Some(format!(
        "`outcome.predictions.labels[{i}]` is {}, but there are {classes} labels",
        labels[i]
    ))
}

/// The first contradiction in predictions of another objective with so many classes or tags.
fn problem_of_outputs(
    predictions: &Predictions,
    objective: &str,
    classes: usize,
) -> Option<String> {
    let (targets, outputs) = (&predictions.targets, &predictions.outputs);
    let texts = &predictions.texts;
    if objective == "completion" {
        let numbers = targets.len() + outputs.len() + predictions.labels.len();
        let bare = texts.iter().position(|text| text.references.is_empty());
        return match bare {
            _ if numbers + predictions.logits.len() > 0 || texts.is_empty() => Some(
                "`outcome.predictions` of completions has `texts`, at least one, and nothing else"
                    .into(),
            ),
            bare => bare.map(|i| format!("`outcome.predictions.texts[{i}]` has no reference")),
        };
    }
    if targets.len() != outputs.len()
        || !texts.is_empty()
        || predictions.labels.len() + predictions.logits.len() > 0
    {
        return Some(format!(
            "`outcome.predictions` has {} targets and {} outputs for {objective}, which must be equally many, and neither \
             labels nor logits",
            targets.len(),
            outputs.len()
        ));
    }
    let width = match objective {
        "regression" => Some(1),
        "multi_label" => Some(classes),
        _ => None,
    };
    let tag = |x: &f64| x.fract() == 0.0 && (0.0..classes as f64).contains(x);
    let fits = |(t, o): (&[f64], &[f64])| {
        t.len() == o.len()
            && width.map_or_else(|| t.iter().chain(o).all(tag), |width| width == t.len())
    };
    let mut pairs = targets.iter().zip(outputs.iter());
    let i = pairs.position(|pair| !fits(pair))?;
    Some(format!(
        "`outcome.predictions.targets[{i}]` and `outputs[{i}]` are not what {objective} with {classes} labels has"
    ))
}

/// The first contradiction in a record.
pub(crate) fn problem_of(record: &RunRecord) -> Option<String> {
    let of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if record.id.is_empty() || !record.id.chars().all(of_name) {
        return Some(format!(
            "`id` is {:?}, but it names a file: letters, digits, - and _ only",
            record.id
        ));
    }
    let ended_well = record.status == Status::Ok;
    if ended_well != record.outcome.is_some() || ended_well != record.cost.is_some() {
        return Some("`outcome` and `cost` must be there exactly when `status` is ok".into());
    }
    let (Some(outcome), Some(cost)) = (&record.outcome, &record.cost) else {
        return None;
    };
    let (dataset, predictions) = (&record.asked.dataset, &outcome.predictions);
    let of_predictions = match dataset.objective.as_str() {
        CLASSIFICATION => problem_of_classes(predictions, dataset.labels.len()),
        other => problem_of_outputs(predictions, other, dataset.labels.len()),
    };
    if of_predictions.is_some() {
        return of_predictions;
    }
    let shares = dataset.objective == CLASSIFICATION;
    let metrics = outcome.evaluations.iter().enumerate();
    let mut beyond = metrics.flat_map(|(i, e)| e.metrics.iter().map(move |m| (i, m)));
    if let Some((i, (name, x))) = beyond.find(|(_, (_, x))| shares && x.abs() > 1.0 + 1e-9) {
        return Some(format!(
            "`outcome.evaluations[{i}].metrics.{name}` is {x}, and no metric of classes is beyond 1"
        ));
    }
    let Some(last) = outcome.evaluations.last() else {
        return Some("`outcome.evaluations` is empty; the last entry is the final result".into());
    };
    if !last.metrics.contains_key(&dataset.main_metric) {
        return Some(format!(
            "the last of `outcome.evaluations` lacks the main metric `{}`",
            dataset.main_metric
        ));
    }
    if last.examples.is_some() {
        return Some("the last of `outcome.evaluations` is the final result, which is about all examples, and not some".into());
    }

    if let Some((field, x)) = not_finite(outcome, cost) {
        return Some(format!(
            "`{field}` is {x}, and a record holds finite numbers only; end such a run as diverged"
        ));
    }
    let (field, x) = negative(cost)?;
    Some(format!("`{field}` is {x}, and no time is negative"))
}

/// The first number that is not finite, with its place. Names are made of bad numbers only: a record has many good ones.
fn not_finite(outcome: &Outcome, cost: &Cost) -> Option<(String, f64)> {
    fn in_rows<T: Copy + Into<f64>>(name: &str, rows: &Rows<T>) -> Option<(String, f64)> {
        let is_bad = |x: &f64| !x.is_finite();
        let bad = |row: &[T]| row.iter().map(|&x| x.into()).find(is_bad);
        let mut rows = rows.iter().enumerate();
        rows.find_map(|(i, row)| Some((format!("outcome.predictions.{name}[{i}]"), bad(row)?)))
    }
    let not_finite = |x: f64| !x.is_finite();
    let evaluations = outcome.evaluations.iter().enumerate().flat_map(|(i, e)| {
        let metrics = e.metrics.iter();
        let metrics = metrics.map(|(name, x)| (format!("metrics.{name}"), *x));
        let all = metrics.chain([("loss".to_owned(), e.loss)]);
        all.map(move |(name, x)| (format!("outcome.evaluations[{i}].{name}"), x))
    });
    let mut others = evaluations.chain(times(cost));
    let predictions = &outcome.predictions;
    in_list("outcome.loss", &outcome.loss, not_finite)
        .or_else(|| in_rows("logits", &predictions.logits))
        .or_else(|| in_rows("targets", &predictions.targets))
        .or_else(|| in_rows("outputs", &predictions.outputs))
        .or_else(|| in_list("cost.step_seconds", &cost.step_seconds, not_finite))
        .or_else(|| others.find(|(_, x)| not_finite(*x)))
}

/// The first number of a list that is bad, with its place.
fn in_list(name: &str, values: &[f32], is_bad: impl Fn(f64) -> bool) -> Option<(String, f64)> {
    let mut values = values.iter().map(|&x| f64::from(x)).enumerate();
    let (i, x) = values.find(|(_, x)| is_bad(*x))?;
    Some((format!("{name}[{i}]"), x))
}

/// The times of a run but for those of single steps, each with its place.
fn times(cost: &Cost) -> impl Iterator<Item = (String, f64)> {
    let latencies = cost.latency.iter().enumerate().flat_map(|(i, l)| {
        let all = [
            ("p50_ms", l.p50_ms),
            ("p90_ms", l.p90_ms),
            ("p99_ms", l.p99_ms),
        ];
        all.map(|(name, x)| (format!("cost.latency[{i}].{name}"), x))
    });
    let seconds = [
        ("training_seconds", cost.training_seconds),
        ("evaluation_seconds", cost.evaluation_seconds),
        ("seconds_to_first_step", cost.seconds_to_first_step),
    ];
    latencies.chain(seconds.map(|(name, x)| (format!("cost.{name}"), x)))
}

/// The first time below 0, with its place.
fn negative(cost: &Cost) -> Option<(String, f64)> {
    in_list("cost.step_seconds", &cost.step_seconds, |x| x < 0.0)
        .or_else(|| times(cost).find(|(_, x)| *x < 0.0))
}
