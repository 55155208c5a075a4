//! `train`: one method with one seed.

use std::{process::ExitCode, time::Instant};

use anyhow::{Context, Result, bail};
use record::Status;

use crate::{
    execute::{
        claim::{Claimed, Claims},
        progress::{RunProgress, ToCome, Verbosity},
    },
    exit, folders,
    plan::{self, Shared},
    signals::Signals,
    train::{
        prepared::{Prepared, id_of},
        run::run,
    },
};

/// `train`.
///
/// # Errors
/// On bad input.
pub fn train(
    shared: &Shared,
    method: &str,
    seed: u64,
    json: bool,
    started: Instant,
) -> Result<ExitCode> {
    let (mut plan, overrides) = shared.plan()?;
    let trials = plan::trials(&[method.to_owned()], &overrides)?;
    plan.trial = trials.into_iter().next().context("one method")?;
    plan.seed = seed;
    let signals = Signals::handle()?;
    let records = folders::records_folder(&plan.out);
    folders::check_writable(&records, "--out")?;
    let prepared = Prepared::load(&plan)?;
    let id = id_of(&prepared.asked(&plan)?.0)?;
    let claim = match Claims::default().claim(&records, &id)? {
        Claimed::Own(claim) => claim,
        Claimed::Other(owner) => bail!(
            "{}: {owner} is making this run; wait for it, or choose another folder with --out",
            plan.out.display()
        ),
    };
    let mut progress = RunProgress::new(
        vec![ToCome {
            label: plan.trial.name().to_owned(),
            operations: 0.0,
        }],
        Verbosity::Normal,
        1,
    );
    progress.start(0, plan.seed, &id);
    let mut tell = |event| progress.tell(0, &event);
    let record = run(
        &plan,
        &prepared,
        claim.nonce(),
        started,
        &signals,
        &mut tell,
    )?;
    progress.finish(0, &record);
    progress.close();
    drop(claim);
    shared.write_events(&plan.out, [&record.id])?;
    if json {
        say!("{}", serde_json::to_string_pretty(&record)?)?;
    } else if record.status == Status::Ok {
        say!(
            "{}",
            folders::weights_folder(&plan.out, &record.id).display()
        )?;
    }
    Ok(match record.status {
        Status::Ok => ExitCode::SUCCESS,
        Status::Interrupted => signals.exit(),
        Status::Diverged { .. } | Status::Failed { .. } => ExitCode::from(exit::SOME_FAILED),
    })
}
