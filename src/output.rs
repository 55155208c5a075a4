//! Standard output: where results go.

use std::{fmt, io, io::Write};

/// Writes a line to standard output. A reader who left early (`peftbench … | head -1`) is no error: what was asked for
/// is done all the same.
///
/// # Errors
/// If standard output cannot be written, a full disk for example.
pub fn line(text: fmt::Arguments<'_>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(io::Error::new(
            e.kind(),
            format!("standard output cannot be written: {e}"),
        )),
        _ => Ok(()),
    }
}

/// [`line`] of a formatted text.
macro_rules! say {
    ($($part:tt)*) => { $crate::output::line(format_args!($($part)*)) };
}
