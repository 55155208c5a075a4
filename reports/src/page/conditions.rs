//! What all runs of a comparison share, and the machines and programs that made them.

use record::{CLASSIFICATION, Circumstances, RunRecord};
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
    leaves
        .map(|(key, value)| (key, format::value(&value)))
        .collect()
}

/// What all runs of a comparison share.
pub(super) fn conditions(comparison: &Comparison) -> Vec<(&'static str, Vec<(String, String)>)> {
    let row = |name: &str, value: String| (name.to_owned(), value);
    let (d, b) = (&comparison.dataset, &comparison.backbone);
    let mut data = vec![row("name", d.name.clone())];
    if let Some(asked) = &d.stand_in_for {
        data.push(row("stands in for", asked.clone()));
    }
    if d.objective != CLASSIFICATION {
        data.push(row("what is predicted", d.objective.replace('_', " ")));
    }
    data.extend([
        row("training examples", format::count(d.train_examples)),
        row("validation examples", format::count(d.validation_examples)),
        row("labels", d.labels.join(", ")),
        row("metric", d.main_metric.clone()),
        row("digest of texts and labels", d.digest.clone()),
    ]);
    let backbone = vec![
        row("name", b.name.clone()),
        row("architecture", b.architecture.clone()),
        row("layers L", b.layers.to_string()),
        row("hidden size H", b.hidden.to_string()),
        row("parameters", format::count(b.parameters)),
        row("pooling", b.pooling.clone()),
        row(
            "precision of its weights",
            b.precision.clone().unwrap_or_else(|| "f32".into()),
        ),
        row("digest of the weights", b.digest.clone()),
    ];
    let mut recipe = leaves(&comparison.recipe);
    let seeds: Vec<String> = comparison.seeds.iter().map(u64::to_string).collect();
    recipe.push(row("seeds", seeds.join(", ")));
    recipe.push(row("operations", comparison.op_path.clone()));
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
            ("peftbench".to_owned(), c.version.clone()),
            (
                "revision".to_owned(),
                c.revision.clone().unwrap_or_else(|| "unknown".into()),
            ),
            ("processor".to_owned(), c.processor.clone()),
            ("threads".to_owned(), c.threads.to_string()),
            ("system".to_owned(), c.system.clone()),
        ];
        facts.extend(c.libraries.iter().map(|(k, v)| (k.clone(), v.clone())));
        facts
    };
    let records: Vec<&RunRecord> = comparisons.iter().flat_map(|c| &c.records).collect();
    let mut found: Vec<MadeWith> = Vec::new();
    for record in &records {
        let facts = facts(&record.circumstances);
        match found.iter_mut().find(|s| s.facts == facts) {
            Some(made) => made.runs += 1,
            None => found.push(MadeWith { facts, runs: 1 }),
        }
    }
    found.sort_by_key(|s| std::cmp::Reverse(s.runs));
    found
}
