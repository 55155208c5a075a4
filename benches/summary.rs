//! The medians that criterion wrote, in one Markdown table.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::common;

/// Folders below `folder` that hold a finished bench.
fn benches(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.join("new/estimates.json").is_file() {
            found.push(path);
        } else if path.is_dir() {
            benches(&path, found)?;
        }
    }
    Ok(())
}

fn json(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    Ok(serde_json::from_str(&text)?)
}

/// What the throughput of a group counts.
fn unit(group: &str) -> &'static str {
    match group {
        "training_step" | "latency" => "examples/s",
        _ if group.starts_with("linear")
            || group.starts_with("attention")
            || group.starts_with("low_rank") =>
        {
            "GFLOP/s"
        }
        _ => "10⁹ values/s",
    }
}

/// Writes `bench.md` beside criterion's folder and prints it.
pub fn write() -> Result<()> {
    let out = common::out()?;
    let mut folders = Vec::new();
    benches(&out.join("criterion"), &mut folders)?;
    let mut rows = Vec::new();
    for folder in folders {
        let about = json(&folder.join("new/benchmark.json"))?;
        let estimates = json(&folder.join("new/estimates.json"))?;
        let text = |key: &str| about[key].as_str().unwrap_or_default().to_owned();
        let (group, shape, variant) = (text("group_id"), text("function_id"), text("value_str"));
        let seconds = estimates["median"]["point_estimate"]
            .as_f64()
            .unwrap_or(f64::NAN)
            / 1e9;
        let elements = about["throughput"]["Elements"].as_f64().unwrap_or(f64::NAN);
        rows.push((group, shape, variant, seconds, elements));
    }
    rows.sort_by(|a, b| {
        (&a.0, &a.1, a.3)
            .partial_cmp(&(&b.0, &b.1, b.3))
            .unwrap_or(std::cmp::Ordering::Equal)
    });
    let mut text =
        String::from("| op | shape | variant | median | throughput |\n|---|---|---|---:|---:|\n");
    for (group, shape, variant, seconds, elements) in rows {
        let unit = unit(&group);
        let per_second = elements / seconds / if unit == "examples/s" { 1.0 } else { 1e9 };
        writeln!(
            text,
            "| {group} | {shape} | {variant} | {:.3} ms | {per_second:.1} {unit} |",
            seconds * 1e3
        )?;
    }
    let path = out.join("bench.md");
    fs::write(&path, &text)?;
    println!("{text}");
    eprintln!("wrote {}", path.display());
    Ok(())
}
