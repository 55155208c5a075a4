//! `check`: every YAML, and the plan of a comparison, without training; all problems at once.

use std::{cell::Cell, collections::BTreeMap, process::ExitCode};

use anyhow::Result;

use crate::{
    backbones, exit,
    plan::{self, RunPlan, Shared},
    study, suite,
    train::{
        prepared::Prepared,
        recipe::{self, Recipe},
    },
};

/// `check`. Where a comparison is asked about, of the YAMLs that come with the program only problems are printed.
///
/// # Errors
/// If standard output cannot be written. Problems are printed, all of them, and the exit code says whether there were any.
pub fn check(comparison: Option<&Shared>) -> Result<ExitCode> {
    let mut problems = Vec::new();
    let mut said = Ok(());
    let mut count = 0;
    let shown = Cell::new(comparison.is_none());
    let mut one = |what: String, result: Result<()>| {
        count += 1;
        match result {
            Ok(()) if shown.get() => {
                if let Err(e) = say!("ok  {what}") {
                    said = Err(e);
                }
            }
            Ok(()) => {}
            Err(e) => problems.push(format!("{what}: {e:#}")),
        }
    };
    one(
        "recipe".into(),
        recipe::budgets().and_then(|budgets| {
            budgets
                .keys()
                .try_for_each(|b| Recipe::resolve(b, &Default::default(), 1000).map(drop))
        }),
    );
    for entry in methods::registry::ALL {
        one(
            format!("method {}", entry.name),
            methods::resolve(entry.name, &Default::default())
                .and_then(|_| methods::search(entry.name))
                .map(drop)
                .map_err(Into::into),
        );
    }
    for name in backbones::names() {
        one(format!("backbone {name}"), backbones::spec(name).map(drop));
    }
    for name in suite::names() {
        one(format!("suite {name}"), suite::find(name).map(drop));
    }
    for name in datasets::names() {
        one(
            format!("data set {name}"),
            datasets::spec(name).map(drop).map_err(Into::into),
        );
    }
    for name in study::names() {
        one(format!("study {name}"), study::study(name).map(drop));
    }
    shown.set(true);
    if let Some(shared) = comparison {
        let dataset = &shared.data.name;
        let plans = shared.plan().and_then(|(base, overrides)| {
            let prepared = Prepared::load(&base)?;
            Ok((plan::trials(&[], &overrides)?, base, prepared))
        });
        match plans {
            Err(e) => one(format!("comparison on {dataset}"), Err(e)),
            Ok((trials, base, prepared)) => {
                // What is wrong with the data is wrong with every method: said once.
                let mut said: BTreeMap<String, Vec<String>> = BTreeMap::new();
                for trial in trials {
                    let method = trial.name();
                    let plan = RunPlan {
                        trial,
                        ..base.clone()
                    };
                    match prepared.method(&plan.trial) {
                        Err(e) if plan.trial.optional => {
                            eprintln!("note: {method} is left out: {e:#}");
                            continue;
                        }
                        _ => {}
                    }
                    match prepared.asked(&plan) {
                        Ok(_) => one(format!("{dataset} with {method}"), Ok(())),
                        Err(e) => said
                            .entry(format!("{e:#}"))
                            .or_default()
                            .push(method.to_owned()),
                    }
                }
                for (error, methods) in said {
                    let what = format!("{dataset} with {}", methods.join(", "));
                    one(what, Err(anyhow::Error::msg(error)));
                }
            }
        }
    }
    said?;
    say!("{count} checked, {} with problems", problems.len())?;
    for problem in &problems {
        eprintln!("error: {problem}");
    }
    Ok(if problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(exit::BAD_INPUT)
    })
}
