//! Writes reports of invented runs, to look at pages and plots and to test them in a browser:
//! `cargo run -p peftbench-reports --example sample_report -- DIR`.
//!
//! With a folder of records behind it, the report of these is written to DIR instead.

use std::path::Path;

use peftbench_reports::{Findings, record::RunRecord, store, write_report};

#[path = "../tests/support/sample.rs"]
mod sample;

fn main() -> peftbench_reports::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [out, records] => {
            let read = store::read_dir(Path::new(records))?;
            write_report(&read.records, &Findings::default(), Path::new(out))?;
        }
        [out] => {
            let five = || sample::realistic_comparison(&sample::FIVE, 3);
            let mut two = sample::troubled_comparison(3);
            let other = sample::realistic_comparison(&["lora", "full"], 1);
            two.extend(sample::on_data(other, "tweets", None));
            for (name, records) in [
                ("five", five()),
                ("troubled", two),
                ("twenty", sample::realistic_comparison(&sample::TWENTY, 3)),
                ("one", sample::realistic_comparison(&["lora"], 1)),
                (
                    "stand-in",
                    sample::on_data(five(), "movie_snippets", Some("sst2")),
                ),
                ("unfinished", unfinished()),
            ] {
                write_report(&records, &Findings::default(), &Path::new(out).join(name))?;
            }
        }
        _ => eprintln!("usage: sample_report DIR [RECORDS]"),
    }
    Ok(())
}

/// Nothing ended well.
fn unfinished() -> Vec<RunRecord> {
    let ended =
        |m: &str| sample::realistic(m, 0).ended(peftbench_reports::record::Status::Interrupted);
    ["lora", "full"].map(|m| ended(m).record()).to_vec()
}
