//! Standard output, where results go, and standard error, where everything else goes.

use std::{
    fmt,
    io::{self, IsTerminal, Write},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use humantime::Rfc3339Timestamp;
use reports::{format, table::Table};

/// Characters of a message at most; of a longer one, which holds something of a file, the middle is left out.
const LONGEST: usize = 8_000;

/// Writes a line to standard output. A reader who left early (`peftbench … | head -1`) is no error: what was asked for
/// is done all the same.
///
/// # Errors
/// If standard output cannot be written, a full disk for example.
pub fn line(text: fmt::Arguments<'_>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    reader_left(writeln!(out, "{text}").and_then(|()| out.flush())).map(drop)
}

/// Writes a message to standard error. It may hold names and texts from anywhere: what would steer the terminal is written
/// out, and nothing long is shown whole. Where nobody listens any more the work goes on.
pub fn tell(text: fmt::Arguments<'_>) {
    writeln!(io::stderr().lock(), "{}", message(&text.to_string())).ok();
}

/// A cell of CSV (RFC 4180) among those that `separator` parts: in quotes where it would be read as something else.
pub fn csv_cell(text: &str, separator: char) -> String {
    match text.contains([separator, '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

fn message(text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(format::visible).collect();
    format::cut(&lines.join("\n"), LONGEST)
}

/// Writes an event of a `--json` stream, with the time at which it happened.
///
/// # Errors
/// As [`line()`].
pub fn event(mut value: serde_json::Value) -> io::Result<()> {
    value["time"] = utc(SystemTime::now(), humantime::format_rfc3339_millis).into();
    line(format_args!("{value}"))
}

/// A time as RFC 3339 in UTC, by the function that writes it; `unknown` for one that a wrong clock gives (before 1970, after 9999).
pub fn utc(time: SystemTime, write: fn(SystemTime) -> Rfc3339Timestamp) -> String {
    const AFTER_9999: Duration = Duration::from_secs(253_402_300_800);
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) if since < AFTER_9999 => write(time).to_string(),
        _ => "unknown".to_owned(),
    }
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

/// Whether standard output takes colours: a terminal, and NO_COLOR is not set (no-color.org).
pub fn colour() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// Columns of the terminal; COLUMNS overrides it.
pub fn terminal_width() -> usize {
    let columns = std::env::var("COLUMNS").ok().and_then(|c| c.parse().ok());
    columns.unwrap_or_else(|| {
        console::Term::stdout()
            .size_checked()
            .map_or(100, |(_, columns)| columns.into())
    })
}

/// Columns for a wide table: those of the terminal (or COLUMNS); what is written to a file has no edge.
pub fn table_width() -> usize {
    match io::stdout().is_terminal() || std::env::var_os("COLUMNS").is_some() {
        true => terminal_width(),
        false => usize::MAX,
    }
}

/// Rows of cells as aligned columns; all rows have as many cells as the first. They may hold names from anywhere.
pub fn columns(rows: &[Vec<String>]) -> String {
    let Some((first, others)) = rows.split_first() else {
        return String::new();
    };
    let table = Table::of_texts("", first.len(), first, others.to_vec());
    table.lines(usize::MAX).0.join("\n")
}

/// [`line`] of a formatted text.
macro_rules! say {
    ($($part:tt)*) => { $crate::output::line(format_args!($($part)*)) };
}

/// In this crate [`tell`] stands behind the name that everybody uses: the one of the standard library passes control characters
/// on, and ends the program where standard error was closed.
macro_rules! eprintln {
    ($($part:tt)*) => { $crate::output::tell(format_args!($($part)*)) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_wrong_gives_no_time_and_no_panic() {
        let years = |n: u64| Duration::from_secs(n * 366 * 24 * 3600);
        let of = |time| {
            let seconds = utc(time, humantime::format_rfc3339_seconds);
            (seconds, utc(time, humantime::format_rfc3339_millis))
        };
        let text = str::to_owned;
        let first = (
            text("1970-01-01T00:00:00Z"),
            text("1970-01-01T00:00:00.000Z"),
        );
        assert_eq!(of(UNIX_EPOCH), first);
        for time in [UNIX_EPOCH - years(1), UNIX_EPOCH + years(9000)] {
            assert_eq!(of(time), (text("unknown"), text("unknown")));
        }
    }

    #[test]
    fn a_message_steers_no_terminal_and_is_not_longer_than_anybody_reads() {
        assert_eq!(
            message("label \u{1b}[2J\rok\nnext \u{202e}line"),
            "label \\u{1b}[2J\\rok\nnext \\u{202e}line"
        );
        let long = message(&format!("begin {} end", "x".repeat(500_000)));
        assert!(long.starts_with("begin x") && long.ends_with("x end"));
        assert_eq!(long.chars().count(), LONGEST);
    }
}
