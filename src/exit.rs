//! Exit codes: what a script can know of how a command ended.

use std::process::ExitCode;

/// Bad input; nothing was lost.
pub const BAD_INPUT: u8 = 2;
/// Some of the work did not end well.
pub const SOME_FAILED: u8 = 1;
/// A task of a plan that no further try can make: a scheduler need not start it again.
pub const NEVER_AGAIN: u8 = 42;
/// Stopped by ctrl-C.
pub const INTERRUPTED: u8 = 130;

/// The exit code of work of which some failed, or none.
pub fn after(failed: bool) -> ExitCode {
    if failed {
        ExitCode::from(SOME_FAILED)
    } else {
        ExitCode::SUCCESS
    }
}
