//! A run that is ready to start: its plan checked against data and backbone, with the name that it comes to.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use anyhow::{Result, anyhow};
use record::{Asked, RunRecord, store};
use reports::row::method_label;

use super::{estimate, progress::Verbosity};
use crate::{
    folders,
    plan::{RunPlan, Trial},
    train::prepared::{Prepared, id_of},
};

/// A run that has been checked and is ready to start.
#[derive(Clone)]
pub struct Planned {
    /// Its plan.
    pub plan: RunPlan,
    /// What determines it.
    pub asked: Asked,
    /// Its name.
    pub id: String,
    /// What people call it: the method with what distinguishes it.
    pub label: String,
    /// Its operations, roughly.
    pub operations: f64,
}

/// The runs of a comparison, checked. `base` gives everything but method and seed.
///
/// # Errors
/// If a plan is not valid, or data or backbone are not found.
pub fn plan(
    base: &RunPlan,
    trials: &[Trial],
    seeds: &[u64],
    verbosity: Verbosity,
) -> Result<Vec<Planned>> {
    let plans = seeds.iter().flat_map(|seed| {
        trials.iter().map(|trial| RunPlan {
            trial: trial.clone(),
            seed: *seed,
            ..base.clone()
        })
    });
    plan_all(plans, verbosity).into_iter().collect()
}

/// Checks every plan before the first run starts, leaves out optional methods that cannot be used over their backbone,
/// and says of each data set what was done to it, unless it shall be quiet.
pub fn plan_all(
    plans: impl Iterator<Item = RunPlan>,
    verbosity: Verbosity,
) -> Vec<Result<Planned>> {
    let load = match verbosity {
        Verbosity::Quiet => Prepared::load_silently,
        Verbosity::Normal | Verbosity::Json => Prepared::load,
    };
    // Runs over the same data and backbone share what is in memory, or why it is not.
    let mut left_out = BTreeSet::new();
    let mut prepared: BTreeMap<String, Result<Prepared, String>> = BTreeMap::new();
    plans
        .filter_map(|mut plan| {
            let key = format!(
                "{:?} {} {:?}",
                plan.data, plan.backbone, plan.backbone_settings
            );
            let shared = prepared
                .entry(key)
                .or_insert_with(|| load(&plan).map_err(|e| format!("{e:#}")));
            let shared = match shared {
                Ok(shared) => shared,
                Err(e) => return Some(Err(anyhow!("{e}"))),
            };
            if plan.trial.optional
                && let Err(e) = shared.method(&plan.trial)
            {
                let name = plan.trial.name();
                if verbosity != Verbosity::Quiet && left_out.insert(name) {
                    eprintln!("note: {name} is left out: {e:#}");
                }
                return None;
            }
            if let Some(asked_for) = &shared.data.stand_in_for {
                plan.data.stand_in_for = Some(asked_for.clone());
                plan.data.name = shared.data.dataset.name.clone();
            }
            plan.trial.optional = false;
            let planned = shared.asked(&plan).and_then(|(asked, resolved, recipe)| {
                let encoded = shared.encoded(&recipe, plan.seed, 0)?;
                let backbone = &shared.backbone.backbone;
                Ok(Planned {
                    operations: estimate::operations(
                        backbone.config(),
                        &resolved,
                        resolved.parameters(backbone)?,
                        &recipe,
                        &encoded.train,
                        &encoded.validation,
                    ),
                    id: id_of(&asked)?,
                    label: method_label(resolved.entry.name, &resolved.variant),
                    plan,
                    asked,
                })
            });
            Some(planned)
        })
        .collect()
}

/// The runs that have no whole record, each once; a record that lies in one of `elsewhere` is copied to where it belongs.
///
/// # Errors
/// If records cannot be read or written.
pub fn missing<'a>(planned: &'a [Planned], elsewhere: &[PathBuf]) -> Result<Vec<&'a Planned>> {
    let (mut seen, mut missing) = (BTreeSet::new(), Vec::new());
    for run in planned {
        let records = folders::records_folder(&run.plan.out);
        if seen.insert(&run.id)
            && !store::is_whole(&records, &run.id)?
            && copied(&records, elsewhere, &run.id)?.is_none()
        {
            missing.push(run);
        }
    }
    Ok(missing)
}

/// The whole record of a run in one of the folders `elsewhere`, copied to where it belongs.
///
/// # Errors
/// If records cannot be read or written.
pub fn copied(own: &Path, elsewhere: &[PathBuf], id: &str) -> Result<Option<RunRecord>> {
    for folder in elsewhere {
        if !store::is_whole(own, id)?
            && store::is_whole(folder, id)?
            && let Some(record) = store::find(folder, id)?
        {
            store::write(own, &record)?;
            return Ok(Some(record));
        }
    }
    Ok(None)
}
