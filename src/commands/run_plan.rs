//! `run-plan`: makes the run whose plan stands on standard input; events go to standard output.

use std::{
    io::{self, BufRead, Read, Write},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::{
    exit,
    plan::RunPlan,
    signals::Signals,
    train::{
        prepared::Prepared,
        run::{GRACE, run},
        trainer::Event,
    },
};

/// `run-plan`, under a claim that whoever started it holds.
///
/// # Errors
/// If the plan is not valid, or data or backbone are not found. How the run itself ended is in its record.
pub fn run_plan(claim: &str, started: Instant) -> Result<ExitCode> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    let plan: RunPlan = serde_json::from_str(&line).context("the plan on standard input")?;
    let signals = Signals::handle()?;
    stop_with_parent(signals.flag());
    let prepared = Prepared::load_silently(&plan)?;
    let mut tell = |event: Event| {
        let said = serde_json::to_string(&event).map(|line| writeln!(io::stdout(), "{line}"));
        if !matches!(said, Ok(Ok(()))) {
            // The comparison that started this run is gone.
            signals.store(true, Ordering::SeqCst);
        }
    };
    run(&plan, &prepared, claim, started, &signals, &mut tell)?;
    Ok(ExitCode::SUCCESS)
}

/// Stops the run when standard input ends: the process that started it is gone, or wants it to stop.
fn stop_with_parent(stop: Arc<AtomicBool>) {
    thread::spawn(move || {
        // Nothing more is sent; this waits for the end.
        let _ = io::stdin().lock().read_to_end(&mut Vec::new());
        stop.store(true, Ordering::SeqCst);
        // For what takes no notice, such as reading the data.
        thread::sleep(GRACE + Duration::from_millis(300));
        std::process::exit(exit::INTERRUPTED.into());
    });
}
