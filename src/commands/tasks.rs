//! `tasks`: lists the tasks of a folder.

use std::{path::Path, process::ExitCode};

use anyhow::Result;
use serde_json::json;

use crate::{exit, output::columns, task_library};

/// `tasks`.
///
/// # Errors
/// If the folder or the backbone is not found. A task that cannot be loaded is listed with its error, and the exit code
/// is 1.
pub fn tasks(
    folder: &Path,
    backbone: Option<&str>,
    offline: bool,
    as_json: bool,
) -> Result<ExitCode> {
    let (library, unusable) = task_library::open_all(folder, backbone, offline)?;
    let names = library.names();
    let loaded = names
        .iter()
        .filter_map(|name| Some((name, library.get(name)?)));
    if as_json {
        let mut all: Vec<serde_json::Value> = loaded
            .map(|(name, task)| {
                let config = task.config();
                json!({
                    "name": name, "method": config.method, "dataset": config.dataset, "labels": config.labels,
                    "metrics": config.metrics, "backbone": config.backbone, "max_tokens": config.max_tokens,
                    "file_bytes": task.file_bytes(), "resident_bytes": task.resident_bytes(),
                })
            })
            .collect();
        all.extend(
            unusable
                .iter()
                .map(|(name, error)| json!({ "name": name, "error": error })),
        );
        say!("{}", serde_json::to_string_pretty(&all)?)?;
    } else {
        let bytes = |n: u64| reports::format::bytes(n as f64);
        let mut rows = vec![
            [
                "task", "method", "data set", "labels", "metric", "file", "resident",
            ]
            .map(str::to_owned)
            .to_vec(),
        ];
        rows.extend(loaded.map(|(name, task)| {
            let config = task.config();
            let metric = config.metrics.get_key_value("accuracy");
            let metric = metric.or_else(|| config.metrics.first_key_value());
            vec![
                name.clone(),
                config.method.clone(),
                config.dataset.clone(),
                config.labels.join(", "),
                metric.map_or("–".into(), |(name, value)| format!("{name} {value:.3}")),
                bytes(task.file_bytes()),
                bytes(task.resident_bytes()),
            ]
        }));
        say!("{}", columns(&rows))?;
        for (name, error) in &unusable {
            eprintln!("error: task '{name}': {error}");
        }
    }
    Ok(if unusable.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(exit::SOME_FAILED)
    })
}
