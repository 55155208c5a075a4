//! Standard output: where results go.

use std::{fmt, io, io::Write};

/// Writes a line to standard output. A reader who left early (`peftbench … | head -1`) is no error: what was asked for
/// is done all the same.
///
/// # Errors
/// If standard output cannot be written, a full disk for example.
pub fn line(text: fmt::Arguments<'_>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    reader_left(writeln!(out, "{text}").and_then(|()| out.flush())).map(drop)
}

/// Whether the reader of standard output left early, by what writing to it gave.
///
/// # Errors
/// If it cannot be written for another reason, a full disk for example.
pub fn reader_left(written: io::Result<()>) -> io::Result<bool> {
    match written {
        Ok(()) => Ok(false),
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(true),
        Err(e) => Err(io::Error::new(
            e.kind(),
            format!("standard output cannot be written: {e}"),
        )),
    }
}

/// [`line`] of a formatted text.
macro_rules! say {
    ($($part:tt)*) => { $crate::output::line(format_args!($($part)*)) };
}
