//! `export`: saved weights in the format of another library.

use std::{path::Path, process::ExitCode};

use anyhow::Result;
use backbone::Precision;

use super::report;
use crate::{
    card::{self, Card},
    folders,
    formats::{self, Export, Format},
    prepare::Files,
    weights,
};

/// `export`.
///
/// # Errors
/// On bad input, or if the format cannot hold the weights.
pub fn export(
    folder: &Path,
    format: Format,
    out: &Path,
    separate_head: bool,
    backbone: Option<&str>,
    offline: bool,
) -> Result<ExitCode> {
    folders::check_empty(out)?;
    let config = weights::read_config(folder)?;
    let files = Files::new(offline)?;
    let loaded = weights::task_backbone(&files, &config, backbone)?;
    let task = weights::load(folder, &loaded)?;
    let export = Export {
        task: &task,
        loaded: &loaded,
        separate_head,
    };
    if let Some(note) = formats::export(&export, format, out)? {
        eprintln!("note: {note}");
    }
    let record = card::record_of(folder);
    let report = record.as_ref().and_then(|_| {
        let folder = folder.canonicalize().ok()?;
        report::of_folder(folder.parent()?.parent()?, None, None).ok()
    });
    let ids = [record.as_ref().map_or("", |r| r.id.as_str())];
    let card = Card {
        config: &task.config,
        record: record.as_ref(),
        comparison: report.as_ref().and_then(|r| r.about(&ids).next()),
        format: Some(format),
        separate_head,
    };
    card.write(out)?;
    if !matches!(task.config.precision, Precision::F32 | Precision::Q4) {
        eprintln!(
            "note: trained over frozen weights in {}; a program that has them in f32 gives numbers that differ by that rounding",
            task.config.precision.name()
        );
    }
    say!("{}", out.display())?;
    Ok(ExitCode::SUCCESS)
}
