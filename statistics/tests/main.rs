//! One test binary: values against references, behaviour, and error rates by simulation.
#![allow(clippy::unwrap_used)]

mod error_rates;
mod objectives;
mod reference;
#[allow(dead_code)]
#[path = "support/study.rs"]
mod study;
mod verdicts;

use serde_json::Value;

/// The cases of this name in a fixture.
fn cases_of(fixture: &str, name: &str) -> Vec<Value> {
    let fixture: Value = serde_json::from_str(fixture).unwrap();
    let cases = fixture[name].as_array().unwrap().clone();
    assert!(!cases.is_empty());
    cases
}

fn numbers(v: &Value) -> Vec<f64> {
    let list = v.as_array().unwrap();
    list.iter().map(|x| x.as_f64().unwrap()).collect()
}
