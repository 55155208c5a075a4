//! Writes reports of invented runs, to look at pages and plots and to test them in a browser:
//! `cargo run -p peftbench-reports --example sample_report -- DIR`.
//!
//! With a folder of records behind it, the report of these is written to DIR instead.

use std::path::Path;

use peftbench_reports::{record::RunRecord, store, write_report};

#[path = "../tests/support/sample.rs"]
mod sample;

fn main() -> peftbench_reports::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [out, records] => {
            let read = store::read_dir(Path::new(records))?;
            write_report(&read.records, Path::new(out))?;
        }
        [out] => {
            let stand_in = |mut r: RunRecord| {
                r.asked.dataset.stand_in_for = Some("sst2".into());
                r.asked.dataset.name = "movie_snippets".into();
                r
            };
            let five = || sample::realistic_comparison(&sample::FIVE, 3);
            let other_data = |mut r: RunRecord| {
                r.asked.dataset.name = "rte".into();
                r
            };
            let mut two = sample::troubled_comparison(3);
            two.extend(sample::realistic_comparison(&["lora", "full"], 1).into_iter().map(other_data));
            for (name, records) in [
                ("five", five()),
                ("troubled", two),
                ("twenty", sample::realistic_comparison(&sample::TWENTY, 3)),
                ("one", sample::realistic_comparison(&["lora"], 1)),
                ("stand-in", five().into_iter().map(stand_in).collect()),
                ("unfinished", unfinished()),
            ] {
                write_report(&records, &Path::new(out).join(name))?;
            }
        }
        _ => eprintln!("usage: sample_report DIR [RECORDS]"),
    }
    Ok(())
}

/// Nothing ended well.
fn unfinished() -> Vec<RunRecord> {
    let ended = |m: &str| sample::realistic(m, 0).ended(peftbench_reports::record::Status::Interrupted);
    ["lora", "full"].map(|m| ended(m).record()).to_vec()
}
