//! What all runs of a comparison share, and the machines and programs that made them.

use record::{CLASSIFICATION, Circumstances};
use serde::Serialize;
use serde_json::Value;

use crate::{Comparison, conditions::flat, format};

/// A machine and program that made runs.
#[derive(Serialize, PartialEq)]
pub(super) struct MadeWith {
    facts: Vec<(String, String)>,
    runs: usize,
}

/// Leaves of a JSON value by path, as text.
pub(super) fn leaves(value: &Value) -> Vec<(String, String)> {
    let leaves = flat(value).into_iter().filter(|(key, _)| !key.is_empty());
    let leaves = leaves.map(|(key, value)| (key, format::value(&value)));
    leaves.collect()
}

/// A name with its value.
fn row(name: &str, value: impl Into<String>) -> (String, String) {
    (name.to_owned(), value.into())
}

/// What all runs of a comparison share.
pub(super) fn conditions(comparison: &Comparison) -> Vec<(&'static str, Vec<(String, String)>)> {
    let (d, b) = (&comparison.dataset, &comparison.backbone);
    let predicted = (d.objective != CLASSIFICATION).then(|| d.objective.replace('_', " "));
    let mut data = vec![row("name", &d.name)];
    data.extend(
        d.stand_in_for
            .iter()
            .map(|asked| row("stands in for", asked)),
    );
    data.extend(predicted.map(|what| row("what is predicted", what)));
    data.extend([
        row("training examples", format::count(d.train_examples)),
        row("validation examples", format::count(d.validation_examples)),
        row("labels", d.labels.join(", ")),
        row("metric", &d.main_metric),
        row("digest of texts and labels", &d.digest),
    ]);
    let precision = b.precision.as_deref().unwrap_or("f32");
    let backbone = vec![
        row("name", &b.name),
        row("architecture", &b.architecture),
        row("layers L", b.layers.to_string()),
        row("hidden size H", b.hidden.to_string()),
        row("parameters", format::count(b.parameters)),
        row("pooling", &b.pooling),
        row("precision of its weights", precision),
        row("digest of the weights", &b.digest),
    ];
    let mut recipe = leaves(&comparison.recipe);
    let seeds: Vec<String> = comparison.seeds.iter().map(u64::to_string).collect();
    recipe.push(row("seeds", seeds.join(", ")));
    recipe.push(row("operations", &comparison.op_path));
    vec![
        ("Data set", data),
        ("Backbone", backbone),
        ("Recipe", recipe),
    ]
}

/// The machines and programs, with the number of their runs.
pub(super) fn environment(comparisons: &[Comparison]) -> Vec<MadeWith> {
    let facts = |c: &Circumstances| {
        let mut facts = vec![
            row("peftbench", &c.version),
            row("revision", c.revision.as_deref().unwrap_or("unknown")),
            row("processor", &c.processor),
            row("threads", c.threads.to_string()),
            row("system", &c.system),
        ];
        facts.extend(c.libraries.iter().map(|(k, v)| (k.clone(), v.clone())));
        facts
    };
    let mut found: Vec<MadeWith> = Vec::new();
    for record in comparisons.iter().flat_map(|c| &c.records) {
        let facts = facts(&record.circumstances);
        match found.iter_mut().find(|s| s.facts == facts) {
            Some(made) => made.runs += 1,
            None => found.push(MadeWith { facts, runs: 1 }),
        }
    }
    found.sort_by_key(|s| std::cmp::Reverse(s.runs));
    found
}
