//! `import`: turns a folder of Hugging Face PEFT or AdapterHub into one of our own.

use std::{path::Path, process::ExitCode};

use anyhow::Result;

use crate::{folders, labels, prepare::Files, weights};

/// `import`.
///
/// # Errors
/// On bad input, or if the folder holds something that we do not compute.
pub fn import(
    folder: &Path,
    out: &Path,
    labels: Option<&[String]>,
    backbone: Option<&str>,
    offline: bool,
) -> Result<ExitCode> {
    folders::check_empty(out)?;
    let config = weights::read_config(folder)?;
    let files = Files::new(offline)?;
    let loaded = weights::task_backbone(&files, &config, backbone)?;
    let mut task = weights::load(folder, &loaded)?;
    if let Some(backbone) = backbone {
        task.config.backbone = backbone.to_owned();
    }
    if let Some(names) = labels {
        anyhow::ensure!(
            names.iter().all(|name| !name.trim().is_empty()),
            "--labels: the name of class {} is empty; give every class a name, separated by commas",
            names
                .iter()
                .take_while(|name| !name.trim().is_empty())
                .count()
        );
        let (names, note) = labels::renamed(&task.config.labels, names)?;
        if let Some(note) = note {
            eprintln!("note: {note}");
        }
        task.config.labels = names;
    }
    weights::save(out, &task.config, &*task.method, &task.head)?;
    say!("{}", out.display())?;
    Ok(ExitCode::SUCCESS)
}
