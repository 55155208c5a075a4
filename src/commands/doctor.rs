//! `doctor`: what this machine has, and what is missing for which command.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::Result;
use reports::format;
use serde_json::{Map, Value, json};
use sources::{Fetcher, Settings};

use crate::{measure, output};

/// Python's libraries that other programs use weights with, and that our tests compare with.
const LIBRARIES: [&str; 6] = [
    "torch",
    "transformers",
    "peft",
    "adapters",
    "pandas",
    "tensorboard",
];

/// One thing that was looked at.
struct Finding {
    name: &'static str,
    /// For people.
    text: String,
    value: Value,
    /// What to do, where something is missing.
    advice: Option<String>,
}

impl Finding {
    fn new(name: &'static str, text: impl Into<String>, value: impl Into<Value>) -> Self {
        Self {
            name,
            text: text.into(),
            value: value.into(),
            advice: None,
        }
    }

    fn with_advice(self, advice: Option<String>) -> Self {
        Self { advice, ..self }
    }
}

/// `doctor`.
///
/// # Errors
/// If standard output cannot be written, or the environment names no usable cache.
pub fn doctor(offline: bool, as_json: bool) -> Result<ExitCode> {
    let settings = Settings::from_env(offline)?;
    let mut found = machine();
    found.extend(sizes(&settings));
    found.push(hub(&settings));
    found.push(python());
    if as_json {
        let map: Map<String, Value> = found
            .iter()
            .map(|f| (f.name.replace(' ', "_"), f.value.clone()))
            .collect();
        say!("{}", serde_json::to_string_pretty(&map)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<String>> = found
        .iter()
        .map(|f| vec![f.name.to_owned(), f.text.clone()])
        .collect();
    say!("{}", output::columns(&rows))?;
    for advice in found.iter().filter_map(|f| f.advice.as_ref()) {
        say!("! {advice}")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn machine() -> Vec<Finding> {
    let circumstances = measure::circumstances(None);
    let (cores, threads) = (kernels::available_threads(), kernels::threads());
    let levels: Vec<String> = kernels::levels()
        .iter()
        .map(|level| format!("{level:?}").to_lowercase())
        .collect();
    let load = load();
    let mut found = vec![
        Finding::new("version", &*circumstances.version, &*circumstances.version),
        Finding::new("system", &*circumstances.system, &*circumstances.system),
        Finding::new(
            "processor",
            &*circumstances.processor,
            &*circumstances.processor,
        ),
        Finding::new(
            "cores",
            format!("{cores}; {} used", format::plural(threads, "thread")),
            json!({ "available": cores, "threads": threads }),
        ),
        Finding::new(
            "instruction sets",
            format!("{} (best first)", levels.join(", ")),
            levels.clone(),
        ),
        Finding::new(
            "load",
            load.map_or("unknown".to_owned(), |l| {
                format!("{l:.2} over the last minute")
            }),
            load,
        )
        .with_advice(load.and_then(|load| busy(load, cores))),
    ];
    let free = measure::free_memory();
    let memory = measure::memory();
    let text = match (memory, free) {
        (Some(all), Some(free)) => format!(
            "{}, {} free",
            format::bytes(all as f64),
            format::bytes(free as f64)
        ),
        _ => "unknown".to_owned(),
    };
    let little = free.filter(|free| *free < 1_000_000_000);
    found.push(
        Finding::new(
            "memory",
            text,
            json!({ "bytes": memory, "free_bytes": free }),
        )
        .with_advice(little.map(|_| {
            "less than 1 GB of memory is free: training minilm takes 0.3 to 0.8 GB".to_owned()
        })),
    );
    found
}

/// What a load means for times that are measured now, where it means anything. More may wait than there are cores.
fn busy(load: f64, cores: usize) -> Option<String> {
    (load > 0.3 * cores as f64).then(|| {
        format!(
            "{} busy: times and latencies measured now are those of a busy machine",
            match load < cores as f64 {
                true => format!("{load:.1} of {cores} cores are"),
                false => format!("all of {} are", format::plural(cores, "core")),
            }
        )
    })
}

/// Processes that ran or waited for a core, mean over the last minute (Linux).
fn load() -> Option<f64> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    text.split_whitespace().next()?.parse().ok()
}

fn sizes(settings: &Settings) -> Vec<Finding> {
    let folder = |name, path: &Path| {
        let bytes = size(path);
        Finding::new(
            name,
            format!("{}, {}", format::bytes(bytes as f64), path.display()),
            json!({ "path": path, "bytes": bytes }),
        )
    };
    let mut found = Vec::new();
    if let Ok(program) = std::env::current_exe() {
        found.push(folder("program", &program));
        // A program that was built here, and what building it took.
        let target = program.ancestors().find(|p| p.ends_with("target"));
        found.extend(target.map(|target| folder("target", target)));
    }
    found.push(folder("cache", &settings.cache));
    found.push(folder("hub cache", &settings.hub_cache));
    // The cache itself may not be there yet.
    let existing = settings.cache.ancestors().find(|p| p.is_dir());
    let free = existing.and_then(|path| sources::free_space(path).ok());
    let text = free.map_or("unknown".to_owned(), |b| {
        format!("{} free for the cache", format::bytes(b as f64))
    });
    let little = free.filter(|free| *free < 1_000_000_000);
    found.push(
        Finding::new("disk", text, free).with_advice(little.map(|_| {
            "less than 1 GB of disk is free; PEFTBENCH_CACHE names another place".to_owned()
        })),
    );
    found
}

/// Bytes of the files in a folder, or of a file; links are not followed.
fn size(path: &Path) -> u64 {
    let Ok(metadata) = path.symlink_metadata() else {
        return 0;
    };
    if !metadata.is_dir() {
        return metadata.len();
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| size(&entry.path())).sum()
}

fn hub(settings: &Settings) -> Finding {
    let token = match &settings.token {
        Some(_) => "with a token",
        None => "without a token",
    };
    let place = sources::shown_address(&settings.endpoint);
    if settings.offline {
        return Finding::new("hub", format!("{place} not asked (offline)"), Value::Null);
    }
    match Fetcher::new(settings.clone()).ask_hub() {
        Ok(()) => Finding::new("hub", format!("{place} answers, {token}"), true),
        Err(error) => Finding::new("hub", format!("{place} does not answer"), false).with_advice(
            Some(format!(
                "{error}; what is in the cache, and stand-ins from Python's registry, work without it"
            )),
        ),
    }
}

fn python() -> Finding {
    let program = std::env::var_os("PEFTBENCH_PYTHON").map_or("python3".into(), PathBuf::from);
    let script = format!(
        "import importlib.metadata as m, json, sys\n\
         def version(name):\n\
         \ttry: return m.version(name)\n\
         \texcept m.PackageNotFoundError: return None\n\
         print(json.dumps({{'python': sys.version.split()[0], **{{n: version(n) for n in {LIBRARIES:?}}}}}))"
    );
    let output = Command::new(&program).args(["-c", &script]).output();
    let found = output.ok().filter(|o| o.status.success());
    let versions: Option<Map<String, Value>> =
        found.and_then(|o| serde_json::from_slice(&o.stdout).ok());
    let Some(versions) = versions else {
        let name = program.display().to_string();
        return Finding::new("python", format!("{name} was not found"), Value::Null).with_advice(
            Some(
                "Python is needed only to use exported weights there; PEFTBENCH_PYTHON names one"
                    .to_owned(),
            ),
        );
    };
    let (here, missing): (Vec<_>, Vec<_>) = versions.iter().partition(|(_, v)| v.is_string());
    let here: Vec<String> = here
        .iter()
        .map(|(name, v)| format!("{name} {}", v.as_str().unwrap_or_default()))
        .collect();
    let missing: Vec<&str> = missing.iter().map(|(name, _)| name.as_str()).collect();
    let text = match missing.is_empty() {
        true => here.join(", "),
        false => format!("{}; not found: {}", here.join(", "), missing.join(", ")),
    };
    Finding::new("python", text, versions)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn no_more_cores_are_called_busy_than_there_are() {
        assert_eq!(busy(0.2, 2), None);
        assert!(busy(1.4, 2).unwrap().starts_with("1.4 of 2 cores are busy"));
        assert!(busy(6.1, 2).unwrap().starts_with("all of 2 cores are busy"));
    }

    #[test]
    fn a_folder_is_as_large_as_its_files_and_one_that_is_not_there_has_no_size() {
        let folder = std::env::temp_dir().join(format!("peftbench-size-{}", std::process::id()));
        fs::create_dir_all(folder.join("below")).unwrap();
        fs::write(folder.join("a"), [0; 100]).unwrap();
        fs::write(folder.join("below/b"), [0; 20]).unwrap();
        assert_eq!(size(&folder), 120);
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(size(&folder), 0);
    }
}
