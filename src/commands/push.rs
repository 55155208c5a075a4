//! `push`: a folder of weights into a repository of the Hugging Face hub.

use std::{path::Path, process::ExitCode};

use anyhow::{Result, ensure};
use reports::format;
use sources::Fetcher;

use crate::{card::CARD, folders::ADAPTER_CONFIG, saved::CONFIG};

/// `push`.
///
/// # Errors
/// If the folder holds no weights, the name is none, or the hub refuses.
pub fn push(
    folder: &Path,
    repo: &str,
    private: bool,
    dry_run: bool,
    offline: bool,
) -> Result<ExitCode> {
    let legal = |part: &str| {
        !part.is_empty()
            && !part.starts_with(['-', '.'])
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    let parts: Vec<&str> = repo.split('/').collect();
    ensure!(
        (1..=2).contains(&parts.len()) && parts.iter().all(|p| legal(p)) && repo.len() <= 96,
        "'{repo}' is not the name of a repository: write OWNER/NAME, or NAME for your own account (letters, digits, -, _ and .)"
    );
    ensure!(
        [CONFIG, ADAPTER_CONFIG, "config.json"]
            .iter()
            .any(|f| folder.join(f).is_file()),
        "{}: no weights there ({CONFIG}, {ADAPTER_CONFIG} or config.json); name a folder that train or export wrote",
        folder.display()
    );
    let files = sources::upload_folder(folder)?;
    if !files.iter().any(|f| f.name == CARD) {
        eprintln!("note: there is no {CARD}: the repository will have no model card");
    }
    if dry_run {
        for file in &files {
            say!("{:>10}  {}", format::bytes(file.bytes as f64), file.name)?;
        }
        let all: u64 = files.iter().map(|f| f.bytes).sum();
        eprintln!(
            "note: nothing was sent: {}, {} would go to {repo}{}",
            format::plural(files.len(), "file"),
            format::bytes(all as f64),
            if private { " (private)" } else { "" }
        );
        return Ok(ExitCode::SUCCESS);
    }
    let address = Fetcher::from_env(offline)?.push(repo, private, &files)?;
    say!("{address}")?;
    Ok(ExitCode::SUCCESS)
}
