//! The commands that turn folders of weights into those of other libraries, and back.

use std::{path::Path, process::ExitCode};

use anyhow::{Result, ensure};

use crate::{
    cli,
    commands::task_backbone,
    formats::{self, Export},
    prepare::Files,
    weights,
};

/// `export`.
///
/// # Errors
/// On bad input, or if the format cannot hold the weights.
pub fn export(arguments: &cli::Export) -> Result<ExitCode> {
    check_empty(&arguments.out)?;
    let config = weights::read_config(&arguments.weights)?;
    let files = Files::new(arguments.offline)?;
    let loaded = task_backbone(&files, &config, arguments.backbone.as_deref())?;
    let task = weights::load(&arguments.weights, &loaded)?;
    let export = Export {
        task: &task,
        loaded: &loaded,
        separate_head: arguments.separate_head,
    };
    if let Some(note) = formats::export(&export, arguments.format, &arguments.out)? {
        eprintln!("note: {note}");
    }
    say!("{}", arguments.out.display())?;
    Ok(ExitCode::SUCCESS)
}

/// `import`.
///
/// # Errors
/// On bad input, or if the folder holds something that we do not compute.
pub fn import(arguments: &cli::Import) -> Result<ExitCode> {
    check_empty(&arguments.out)?;
    let config = weights::read_config(&arguments.weights)?;
    let files = Files::new(arguments.offline)?;
    let loaded = task_backbone(&files, &config, arguments.backbone.as_deref())?;
    let mut task = weights::load(&arguments.weights, &loaded)?;
    if let Some(backbone) = &arguments.backbone {
        task.config.backbone = backbone.clone();
    }
    if let Some(labels) = &arguments.labels {
        let count = task.config.labels.len();
        ensure!(
            labels.len() == count,
            "--labels {}: the classifier has {count} classes",
            labels.join(",")
        );
        task.config.labels = labels.clone();
    }
    weights::save(&arguments.out, &task.config, &*task.method, &task.head)?;
    say!("{}", arguments.out.display())?;
    Ok(ExitCode::SUCCESS)
}

/// A folder that is written must not mix with what is there.
fn check_empty(folder: &Path) -> Result<()> {
    let used = std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some());
    ensure!(
        !used && !folder.is_file(),
        "--out {}: it is there already; name a new folder",
        folder.display()
    );
    Ok(())
}
