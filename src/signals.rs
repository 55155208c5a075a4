//! Signals that ask the program to stop: INT (ctrl-C), TERM, HUP, USR1.
//!
//! While runs go on, a signal sets a flag: the run is recorded as interrupted, and the program ends. A second signal, or
//! one that comes at another time, ends the program at once.

use std::{
    ops::Deref,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use anyhow::{Context, Result};
use signal_hook::{consts, flag};

use crate::exit;

#[cfg(unix)]
const SIGNALS: [i32; 4] = [
    consts::SIGINT,
    consts::SIGTERM,
    consts::SIGHUP,
    // Slurm's, some time before the end of what a task may take.
    consts::SIGUSR1,
];
#[cfg(not(unix))]
const SIGNALS: [i32; 2] = [consts::SIGINT, consts::SIGTERM];

/// The flag that a signal sets.
pub struct Signals {
    stop: Arc<AtomicBool>,
    /// While it is set, a signal ends the program at once.
    at_once: Arc<AtomicBool>,
    code: Arc<AtomicUsize>,
}

impl Signals {
    /// Sets the handlers. Until [`Signals::flagged`], a signal ends the program at once.
    ///
    /// # Errors
    /// If the system refuses a handler.
    pub fn handle() -> Result<Self> {
        let signals = Self {
            stop: Arc::default(),
            at_once: Arc::new(AtomicBool::new(true)),
            code: Arc::default(),
        };
        for signal in SIGNALS {
            let code = exit_code(signal);
            // In this order: the first signal finds the condition unset and sets it for the second.
            flag::register_conditional_shutdown(signal, code, Arc::clone(&signals.at_once))
                .and_then(|_| flag::register(signal, Arc::clone(&signals.at_once)))
                .and_then(|_| {
                    flag::register_usize(signal, Arc::clone(&signals.code), code as usize)
                })
                .and_then(|_| flag::register(signal, Arc::clone(&signals.stop)))
                .with_context(|| format!("signal {signal} cannot be handled"))?;
        }
        Ok(signals)
    }

    /// From now on a signal ends the program at once: nothing is left that asks for the flag.
    pub fn at_once(&self) {
        self.at_once.store(true, Ordering::SeqCst);
    }

    /// From now on a first signal sets the flag.
    pub fn flagged(&self) {
        if !self.load(Ordering::SeqCst) {
            self.at_once.store(false, Ordering::SeqCst);
        }
    }

    /// The flag, to hand to another thread.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    /// The exit code after the signal that came; 130 where none did.
    pub fn code(&self) -> u8 {
        code(&self.code)
    }

    /// Tells the exit code in another thread.
    pub fn code_later(&self) -> impl Fn() -> u8 + Send + 'static {
        let shared = Arc::clone(&self.code);
        move || code(&shared)
    }

    /// The same as an exit code.
    pub fn exit(&self) -> ExitCode {
        ExitCode::from(self.code())
    }
}

impl Deref for Signals {
    type Target = AtomicBool;

    fn deref(&self) -> &AtomicBool {
        &self.stop
    }
}

fn code(came: &AtomicUsize) -> u8 {
    match came.load(Ordering::SeqCst) {
        0 => exit::INTERRUPTED,
        code => code.try_into().unwrap_or(exit::INTERRUPTED),
    }
}

/// 128 and the signal's number, as shells tell it.
const fn exit_code(signal: i32) -> i32 {
    128 + signal
}
