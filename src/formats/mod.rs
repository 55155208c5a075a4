//! Folders of weights that other libraries write and read.
//!
//! Reading: a foreign folder becomes what our own folder holds, a configuration and tensors under our names ([`read`]);
//! everything behind that knows one kind of folder. Writing: a loaded task becomes a foreign folder ([`export`]).
//! A key that would change a number and that we do not follow is refused by its name, never ignored.

mod adapterhub;
mod export;
mod foreign;
mod keys;
mod layout;
mod merged;
mod peft;
mod separate_head;

use std::{fs, path::Path};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use datasets::Objective;

use crate::{
    folders::ADAPTER_CONFIG,
    prepare::LoadedBackbone,
    saved::{CONFIG, Saved},
};

pub use export::Export;

/// A kind of folder that can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Hugging Face PEFT: adapter_config.json and adapter_model.safetensors.
    Peft,
    /// AdapterHub: adapter_config.json, adapter.safetensors, head_config.json and model_head.safetensors.
    Adapterhub,
    /// A plain transformers checkpoint, the method merged into the weights.
    Merged,
}

/// The formats other than our own in which a method that is trained with its defaults can be written, by name.
pub fn of(method: &str, mergeable: bool) -> Vec<&'static str> {
    let formats = [
        ("peft", peft::writes(method)),
        ("adapterhub", adapterhub::writes(method)),
        ("merged", mergeable),
    ];
    let can = formats.into_iter().filter(|(_, can)| *can);
    can.map(|(name, _)| name).collect()
}

/// The hub's repository and revision that a backbone's name means; nothing for a folder.
pub fn hub_repository(backbone: &str) -> Option<(String, String)> {
    layout::hub_repository(backbone)
}

/// Reads a foreign folder; nothing if the folder is one of our own, or none that we know.
///
/// Without the backbone the tensors may lack layers of the head that the folder takes from it, and what depends on its
/// number of layers is not checked.
///
/// # Errors
/// If the folder is damaged, or holds something that we do not compute; the message names it.
pub fn read(folder: &Path, loaded: Option<&LoadedBackbone>) -> Result<Option<Saved>> {
    sources::check_folder(folder)?;
    let path = folder.join(ADAPTER_CONFIG);
    if folder.join(CONFIG).exists() || !path.exists() {
        return Ok(None);
    }
    let keys = keys::Keys::read(&path)?;
    let saved = if keys.has("peft_type") {
        peft::read(folder, keys, loaded)
    } else if keys.has("config") {
        adapterhub::read(folder, keys, loaded)
    } else {
        bail!(
            "{}: neither 'peft_type' (Hugging Face PEFT) nor 'config' (AdapterHub) is there",
            path.display()
        )
    };
    saved
        .with_context(|| folder.display().to_string())
        .map(Some)
}

/// The class of PEFT that reads a folder with its classifier.
pub fn peft_class(objective: Objective) -> &'static str {
    match objective {
        Objective::Tokens => "AutoPeftModelForTokenClassification",
        Objective::Completion => "AutoPeftModelForCausalLM",
        Objective::Classification | Objective::MultiLabel | Objective::Regression => {
            "AutoPeftModelForSequenceClassification"
        }
    }
}

/// Writes a task into a foreign folder; returns what the reader must know, if anything.
///
/// # Errors
/// If the format cannot hold the task (the message says what could), or the folder cannot be written.
pub fn export(export: &Export<'_>, format: Format, out: &Path) -> Result<Option<String>> {
    let objective = export.task.config.objective;
    ensure!(
        objective.is_classification() || !export.separate_head,
        "--separate-head: its reader gives classes, not {}",
        objective.name()
    );
    ensure!(
        format != Format::Adapterhub
            || matches!(objective, Objective::Classification | Objective::Tokens),
        "this format is not written for {}; --format peft or merged is",
        objective.name()
    );
    fs::create_dir_all(out).with_context(|| format!("{}: cannot be made", out.display()))?;
    let said = match format {
        Format::Peft => peft::write(export, out)?,
        Format::Adapterhub => adapterhub::write(export, out)?,
        Format::Merged => merged::write(export, out)?,
    };
    // `head.py` has the names and does with texts what training did; a class of the library has to be told.
    let names = match format {
        Format::Peft => format!(
            "; {} takes number and names of the classes from the base: give it \
             id2label=AutoConfig.from_pretrained(FOLDER).id2label, as the README.md beside does",
            peft_class(objective)
        ),
        Format::Adapterhub | Format::Merged => String::new(),
    };
    Ok(said.or_else(|| Some(export.texts() + &names)))
}
