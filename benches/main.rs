//! Everything that is measured apart from a comparison, one binary: `just bench [ops|roofline|scale|peer|busy|estimate RECORDS]`.
//!
//! - without a name: criterion over every operation, a training step and the latency of every method;
//! - `roofline`: the least time that a pass of each method needs on this machine, over the time that it takes;
//! - `scale`: time and memory as batch, length and number of steps grow;
//! - `busy`: one thread and all of them, beside busy processes;
//! - `estimate RECORDS`: how long runs took beside what is foretold before the first one;
//! - `peer`: the Python libraries beside ours, in turn; `peer smollm2-135m` for a decoder.

mod busy;
mod common;
mod estimate;
mod flops;
mod latency;
mod ops;
mod peer;
mod roofline;
mod scale;
mod step;
mod summary;

use std::time::Duration;

use anyhow::{Result, bail};
use criterion::Criterion;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // cargo bench passes --bench; cargo test, which compiles benches too, does not: then nothing is measured.
    if !arguments.iter().any(|a| a == "--bench") {
        return Ok(());
    }
    kernels::keep_freed_memory();
    let threads = std::env::var("PEFTBENCH_THREADS")
        .ok()
        .and_then(|t| t.parse().ok());
    kernels::set_threads(threads.unwrap_or_else(kernels::available_threads))?;
    let arguments: Vec<&str> = arguments
        .iter()
        .map(String::as_str)
        .filter(|a| *a != "--bench")
        .collect();
    match arguments[..] {
        ["roofline", ref methods @ ..] => roofline::main(methods),
        ["scale"] => scale::main(),
        ["scale-point", ref point @ ..] => scale::point(point),
        ["busy"] => busy::main(false),
        ["busy", "peer"] => busy::main(true),
        ["busy-load"] => busy::load(),
        ["peer", ref rest @ ..] => peer::main(rest),
        ["peer-decoder", what, method, precision] => peer::decoder::own(what, method, precision),
        ["estimate", records] => estimate::main(records),
        [] => criterion(None),
        [filter] if !filter.starts_with('-') => criterion(Some(filter)),
        _ => bail!(
            "expected nothing, roofline, scale, peer, busy, estimate RECORDS, or a part of a bench's name; got {arguments:?}"
        ),
    }
}

fn criterion(filter: Option<&str>) -> Result<()> {
    // Light: some three hundred benches have to fit into ten minutes.
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(400))
        .without_plots()
        .output_directory(&common::out()?.join("criterion"));
    if let Some(filter) = filter {
        criterion = criterion.with_filter(filter);
    }
    ops::define(&mut criterion)?;
    step::define(&mut criterion)?;
    latency::define(&mut criterion)?;
    criterion.final_summary();
    summary::write()
}
