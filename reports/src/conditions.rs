//! What must be equal for a fair comparison, and what sets one comparison apart from another.

use std::collections::{BTreeMap, BTreeSet};

use record::RunRecord;
use serde_json::Value;

use crate::format;

/// Versions of what all methods share.
pub(crate) fn shared_numerics(record: &RunRecord) -> BTreeMap<String, u32> {
    let mut numerics = record.asked.numerics.clone();
    // A method's own version sets its row apart, not the comparison.
    numerics.remove(&record.asked.method.name);
    numerics
}

/// What must be equal for a fair comparison.
pub fn conditions(record: &RunRecord) -> Value {
    let asked = &record.asked;
    let (d, b) = (&asked.dataset, &asked.backbone);
    // `truncated` is left out: it depends on the method (virtual tokens take room).
    serde_json::json!({
        "dataset": d.name,
        "stand_in_for": d.stand_in_for,
        "backbone": b.label(),
        "train_examples": d.train_examples,
        "validation_examples": d.validation_examples,
        "metric": d.main_metric,
        "labels": d.labels,
        "pooling": b.pooling,
        "recipe": asked.recipe,
        "op_path": asked.op_path,
        "numerics": shared_numerics(record),
        "data": d.digest,
        "weights": b.digest,
    })
}

/// The leaves of a JSON value by path, so that the order of keys does not matter.
pub fn flat(value: &Value) -> BTreeMap<String, Value> {
    fn walk(path: &str, value: &Value, into: &mut BTreeMap<String, Value>) {
        let Value::Object(map) = value else {
            into.insert(path.to_owned(), value.clone());
            return;
        };
        for (key, value) in map {
            let dot = if path.is_empty() { "" } else { "." };
            walk(&format!("{path}{dot}{key}"), value, into);
        }
    }
    let mut leaves = BTreeMap::new();
    walk("", value, &mut leaves);
    leaves
}

/// For each group of records, of which one is given, what sets it apart from the groups with the same data set and backbone.
pub(crate) fn distinctions(groups: &[&RunRecord]) -> Vec<Vec<String>> {
    let all: Vec<_> = groups.iter().map(|r| flat(&conditions(r))).collect();
    let place = |c: &BTreeMap<String, Value>| {
        ["dataset", "stand_in_for", "backbone"].map(|k| c.get(k).cloned())
    };
    let text = |v: Option<&Value>| match v {
        None | Some(Value::Null) => "none".to_owned(),
        Some(v) => format::value(v),
    };
    all.iter()
        .map(|own| {
            let siblings: Vec<_> = all.iter().filter(|c| place(c) == place(own)).collect();
            let keys: BTreeSet<&String> = siblings.iter().flat_map(|c| c.keys()).collect();
            let varies = |k: &&String| siblings.iter().any(|c| c.get(*k) != own.get(*k));
            let mut vary: Vec<&String> = keys.into_iter().filter(varies).collect();
            // A budget decides the steps, another number of examples the digest: name the cause only.
            let has = |k: &str, vary: &[&String]| vary.iter().any(|v| *v == k);
            if has("recipe.budget", &vary) {
                vary.retain(|k| *k != "recipe.steps");
            }
            if has("train_examples", &vary) {
                vary.retain(|k| *k != "data" && *k != "recipe.steps");
            }
            vary.iter()
                .map(|k| {
                    let (name, value) = (k.trim_start_matches("recipe."), text(own.get(*k)));
                    match name {
                        "data" | "weights" => {
                            format!("{name} {}", value.get(..8).unwrap_or(&value))
                        }
                        "train_examples" => format!("train {value}"),
                        _ => format!("{} {value}", name.replace('_', " ")),
                    }
                })
                .collect()
        })
        .collect()
}
