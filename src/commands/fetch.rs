//! `fetch`: backbones and data sets into the cache.

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::{backbones, hub_id, nearest::nearest, prepare::Files};

/// `fetch`.
///
/// # Errors
/// If a name is unknown, or its files are not found.
pub fn fetch(names: &[String], offline: bool) -> Result<ExitCode> {
    let files = Files::new(offline)?;
    let backbones: Vec<_> = backbones::names().collect();
    let datasets: Vec<_> = datasets::names().collect();
    // All names are checked before anything is fetched.
    for name in names {
        let id = hub_id::is_data(name) || hub_id::is_model(name);
        if !id && !backbones.contains(&name.as_str()) && !datasets.contains(&name.as_str()) {
            let all = [&backbones[..], &datasets[..]].concat();
            let hint = nearest(name, all)
                .map_or_else(String::new, |near| format!("; did you mean '{near}'?"));
            bail!(
                "'{name}' is neither a backbone ({}) nor a data set ({}){hint}",
                backbones.join(", "),
                datasets.join(", ")
            );
        }
    }
    for name in names {
        let model = !hub_id::is_data(name) && hub_id::is_model(name);
        let place = if model || backbones.contains(&name.as_str()) {
            files.backbone(name, &Default::default())?.place
        } else {
            files.fetch_data(name)?
        };
        say!("{name}: {place}")?;
    }
    Ok(ExitCode::SUCCESS)
}
