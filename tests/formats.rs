//! Folders of other libraries: read, they predict what the library predicted (`tests/fixtures/generate.py`); written and
//! read again, they predict the same. What we do not compute is refused by its name.

mod classes;
mod reading;
mod refusing;
mod writing;

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use backbone::Batch;
use candle_core::{Device, Tensor};
use peftbench::{
    formats::{self, Export, Format},
    prepare::{Files, LoadedBackbone},
    train::model::Model,
    weights::{self, Task, task_backbone},
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Largest difference of logits in f32, relative to the largest: the same sums in another order.
const FORWARD: f32 = 1e-5;

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

fn open(folder: &Path) -> anyhow::Result<(LoadedBackbone, Task)> {
    let config = weights::read_config(folder)?;
    let loaded = task_backbone(&Files::new(true)?, &config, None)?;
    let task = weights::load(folder, &loaded)?;
    Ok((loaded, task))
}

fn error_of(folder: &Path) -> String {
    match open(folder) {
        Ok(_) => panic!("{}: was read", folder.display()),
        Err(error) => format!("{error:#}"),
    }
}

fn logits(loaded: &LoadedBackbone, task: &Task, batch: &Batch) -> Vec<Vec<f32>> {
    let model = Model::new(&loaded.backbone, &*task.method, &task.head);
    model.logits(batch).unwrap()
}

/// The inputs of a fixture, and the logits that the library computed.
fn expected(folder: &Path) -> (Batch, Vec<Vec<f32>>) {
    let path = folder.join("expected.safetensors");
    let tensors = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
    (inputs(&tensors), tensors["logits"].to_vec2().unwrap())
}

/// The inputs in the tensors of a fixture.
fn inputs(tensors: &HashMap<String, Tensor>) -> Batch {
    let numbers = |name: &str| tensors[name].to_vec1::<u32>().unwrap();
    let offsets = numbers("input.offsets")
        .iter()
        .map(|o| *o as usize)
        .collect();
    Batch::new(numbers("input.ids"), numbers("input.types"), offsets).unwrap()
}

/// Folders of the fixtures below `kind` whose method we have.
fn fixtures(kind: &str) -> Vec<PathBuf> {
    let mut folders: Vec<_> = fs::read_dir(fixture(kind))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| !missing(path))
        .collect();
    folders.sort();
    folders
}

/// Whether the fixture's method does not exist here: then it must be refused.
fn missing(folder: &Path) -> bool {
    let exists = |method: &str| methods::registry::entry(method).is_ok();
    match folder.file_name().unwrap().to_str().unwrap() {
        method @ ("dora" | "ia3" | "prefix_tuning") => !exists(method),
        "parallel" => {
            let placement = ("placement".to_owned(), "parallel".to_owned());
            methods::resolve("adapter", &[placement].into()).is_err()
        }
        _ => false,
    }
}

/// A copy of a folder in which a test can change things.
fn copy(folder: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    copy
}

/// A copy of a folder with one of its JSON files changed.
fn changed(folder: &Path, file: &str, change: impl FnOnce(&mut Value)) -> TempDir {
    let copy = copy(folder);
    let path = copy.path().join(file);
    let mut json: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    change(&mut json);
    fs::write(path, json.to_string()).unwrap();
    copy
}

/// A copy of a folder with the tensors of one of its files changed.
fn with_tensors(
    folder: &Path,
    file: &str,
    change: impl FnOnce(&mut HashMap<String, Tensor>),
) -> TempDir {
    let copy = copy(folder);
    let path = copy.path().join(file);
    let mut tensors = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    change(&mut tensors);
    candle_core::safetensors::save(&tensors, &path).unwrap();
    copy
}

/// Writes a task in a format and reads it again.
fn round_trip(
    loaded: &LoadedBackbone,
    task: &Task,
    format: Format,
    separate_head: bool,
) -> (TempDir, LoadedBackbone, Task) {
    let out = tempfile::tempdir().unwrap();
    let export = Export {
        task,
        loaded,
        separate_head,
    };
    formats::export(&export, format, out.path()).unwrap();
    let (loaded, task) = open(out.path()).unwrap_or_else(|e| panic!("{e:#}"));
    (out, loaded, task)
}

/// A copy of the tiny BERT whose configuration names its classes.
fn named_backbone(folder: &Path, names: &[&str]) -> PathBuf {
    fs::create_dir_all(folder).unwrap();
    for entry in fs::read_dir(fixture("bert")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
        }
    }
    let path = folder.join("config.json");
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let ids = names.iter().enumerate();
    config["id2label"] = ids
        .map(|(i, n)| (i.to_string(), json!(n)))
        .collect::<serde_json::Map<_, _>>()
        .into();
    fs::write(path, config.to_string()).unwrap();
    folder.to_owned()
}
