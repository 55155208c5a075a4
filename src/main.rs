//! The `peftbench` command: parse, set up the machine, do what was asked, say how it ended.
#![forbid(unsafe_code)]

use std::{process::ExitCode, time::Instant};

use clap::Parser;
use peftbench::{
    cli::{Cli, Command},
    commands, domains, exchange, latency, recommend, serve, sweep, tune,
};

fn main() -> ExitCode {
    let started = Instant::now();
    kernels::keep_freed_memory();
    let cli = Cli::parse();
    let threads = cli.threads.unwrap_or_else(kernels::available_threads);
    let set = kernels::set_threads(threads).map_err(anyhow::Error::from);
    let result = set.and_then(|()| match &cli.command {
        Command::Compare(arguments) => commands::compare(arguments),
        Command::Sweep(arguments) => sweep::sweep(arguments),
        Command::Tune(arguments) => tune::tune(arguments),
        Command::Train(arguments) => commands::train(arguments, started),
        Command::Evaluate(arguments) => commands::evaluate(arguments),
        Command::Predict(arguments) => serve::predict(arguments),
        Command::Tasks(arguments) => serve::tasks(arguments),
        Command::Domains(arguments) => domains::command(arguments),
        Command::Latency(arguments) => latency::command(arguments),
        Command::Export(arguments) => exchange::export(arguments),
        Command::Import(arguments) => exchange::import(arguments),
        Command::Report(arguments) => commands::report(arguments),
        Command::Recommend(arguments) => recommend::recommend(arguments),
        Command::List(arguments) => commands::list(arguments),
        Command::Fetch(arguments) => commands::fetch(arguments),
        Command::Check(arguments) => commands::check(arguments),
        Command::RunPlan => commands::run_plan(started),
    });
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(commands::BAD_INPUT)
    })
}
