//! Writes reports of invented runs, to look at pages and plots and to test them in a browser:
//! `cargo run --example sample_report -- DIR`.
//!
//! With a folder of records behind it, the report of these is written to DIR instead.

use std::path::Path;

use record::{RunRecord, Status, store};
use reports::{
    Comparison, Findings, Judging, Report,
    recommend::{Wishes, recommend},
};
use serde_json::json;

#[path = "../reports/tests/support/sample.rs"]
mod sample;

fn main() -> reports::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [out, records] => {
            let read = store::read_dir(Path::new(records))?;
            write(read.records, Path::new(out))?;
        }
        [out] => {
            let five = || sample::realistic_comparison(&sample::FIVE, 3);
            let mut two = sample::troubled_comparison(3);
            let other = sample::realistic_comparison(&["lora", "full"], 1);
            two.extend(sample::on_data(other, "tweets", None));
            for (name, records) in [
                ("five", five()),
                ("troubled", two),
                ("twenty", sample::realistic_comparison(&sample::twenty(), 3)),
                ("one", sample::realistic_comparison(&["lora"], 1)),
                ("one-seed", sample::realistic_comparison(&sample::FIVE, 1)),
                (
                    "stand-in",
                    sample::on_data(five(), "movie_snippets", Some("sst2")),
                ),
                ("unfinished", unfinished()),
            ] {
                write(records, &Path::new(out).join(name))?;
            }
            let path = Path::new(out).join("five/recommended.json");
            record::write_whole(&path, recommended(&five()).to_string().as_bytes())?;
        }
        _ => eprintln!("usage: sample_report DIR [RECORDS]"),
    }
    Ok(())
}

fn write(records: Vec<RunRecord>, out: &Path) -> reports::Result<()> {
    Report::new(records, Findings::default(), &Judging::default())?.write(out, true)?;
    Ok(())
}

/// What `peftbench recommend` answers to some limits, by the names and units of the page's controls: both must agree.
fn recommended(records: &[RunRecord]) -> serde_json::Value {
    let comparisons = Comparison::from_records(records);
    let cases = [
        json!({}),
        json!({ "parameters": 10_000 }),
        json!({ "parameters": 0 }),
        json!({ "file_size": 100 }),
        json!({ "file_size": 350, "overhead": 10 }),
        json!({ "overhead": 10 }),
        json!({ "overhead": 1 }),
        json!({ "metric": 84 }),
        json!({ "metric": 84, "parameters": 100_000 }),
        json!({ "metric": 99 }),
        json!({ "peak_memory": 400, "training_time": 60 }),
        json!({ "training_time": 30 }),
    ];
    let answers = cases.map(|limits| {
        let limit = |name: &str, factor: f64| limits[name].as_f64().map(|l| l * factor);
        let wishes = Wishes {
            dataset: comparisons[0].dataset.name.clone(),
            train_size: None,
            max_size: limit("file_size", 1e3),
            max_latency_overhead: limit("overhead", 0.01),
            max_parameters: limit("parameters", 1.0),
            max_memory: limit("peak_memory", 1e6),
            max_training_seconds: limit("training_time", 1.0),
            min_metric: limit("metric", 0.01),
        };
        let answer = recommend(&comparisons, &wishes).and_then(|found| found.recommended);
        json!({ "limits": limits, "recommended": answer })
    });
    answers.to_vec().into()
}

/// Nothing ended well.
fn unfinished() -> Vec<RunRecord> {
    let ended = |m: &str| sample::realistic(m, 0).ended(Status::Interrupted);
    ["lora", "full"].map(|m| ended(m).record()).to_vec()
}
