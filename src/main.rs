//! The `peftbench` command: parse, set up the machine, do what was asked, say how it ended.
#![forbid(unsafe_code)]

use std::{process::ExitCode, time::Instant};

use clap::FromArgMatches;
use peftbench::{
    cli::{self, Cli, Command},
    commands::{
        until_decided::{Seeds, UntilDecided},
        *,
    },
    examples,
    execute::{local::How, progress::Verbosity},
    exit, output,
    plan::{DataChoice, Shared},
};
use reports::recommend::Wishes;

fn main() -> ExitCode {
    let started = Instant::now();
    kernels::keep_freed_memory();
    let typed = examples::command().get_matches();
    let cli = Cli::from_arg_matches(&typed).unwrap_or_else(|e| e.exit());
    let result = set_threads(cli.threads).and_then(|()| execute(cli.command, started));
    result.unwrap_or_else(|error| {
        output::tell(format_args!("error: {error:#}"));
        ExitCode::from(exit::BAD_INPUT)
    })
}

fn set_threads(asked: Option<usize>) -> anyhow::Result<()> {
    let available = kernels::available_threads();
    // A task of Slurm has the cores that it was given.
    let given = std::env::var("SLURM_CPUS_PER_TASK").ok();
    let given = given.and_then(|n| n.parse().ok());
    let given = given.map_or(available, |n: usize| n.clamp(1, available));
    // An empty variable counts as unset.
    let variable = std::env::var("PEFTBENCH_THREADS").unwrap_or_default();
    let named = match (asked, variable.trim()) {
        (Some(threads), _) => Some(("--threads", threads.to_string())),
        (None, "") => None,
        (None, text) => Some(("PEFTBENCH_THREADS", text.to_owned())),
    };
    let threads = match named {
        None => given,
        Some((name, text)) => match text.parse() {
            Ok(threads) if (1..=available).contains(&threads) => threads,
            _ => anyhow::bail!(
                "{name} {text}: this process has {available} cores; accepted: 1 to {available}"
            ),
        },
    };
    Ok(kernels::set_threads(threads)?)
}

/// From what was typed to plain values.
fn execute(command: Command, started: Instant) -> anyhow::Result<ExitCode> {
    match command {
        Command::Compare(a) => {
            let seeds = match a.until_decided {
                false => Seeds::Fixed(a.seeds),
                true => Seeds::UntilDecided(UntilDecided {
                    most: a.max_seeds.into(),
                    seconds: a.max_time,
                    pairs: a.pairs,
                }),
            };
            let asked = compare::Asked {
                shared: a.run.shared(),
                methods: a.methods,
                seeds,
                margin: a.margin,
            };
            compare::compare(&asked, a.how.how(), a.plan.asked()?.as_ref(), a.dry_run)
        }
        Command::Sweep(a) => {
            let plan = a.plan.asked()?;
            let how = a.how.how();
            sweep::sweep(
                &a.run.shared(),
                &a.study,
                a.seeds,
                a.margin,
                how,
                plan.as_ref(),
            )
        }
        Command::Tune(a) => {
            let asked = tune::Asked {
                compute: match a.hours {
                    Some(hours) => tune::Compute::Hours(hours),
                    None => tune::Compute::Trials(a.trials),
                },
                held_out: a.held_out,
                margin: a.margin,
            };
            let plan = a.plan.asked()?;
            let how = a.how.how();
            tune::tune(
                &a.run.shared(),
                &a.methods,
                asked,
                a.seeds,
                how,
                plan.as_ref(),
            )
        }
        Command::Train(a) => train::train(&a.run.shared(), &a.method, a.seed, a.json, started),
        Command::Evaluate(a) => {
            let data = DataChoice::of(a.dataset, a.file.options());
            let backbone = a.backbone.as_deref();
            evaluate::evaluate(&a.weights, &data, a.split, backbone, a.offline, a.json)
        }
        Command::Predict(a) => {
            let weights = match (a.weights, a.tasks) {
                (Some(folder), _) => predict::Weights::One(folder),
                (_, folder) => predict::Weights::Many(folder.unwrap_or_default()),
            };
            let input = predict::Input {
                path: &a.input,
                options: datasets::FileOptions {
                    text_columns: a.text_columns,
                    separator: a.separator,
                    quote: a.quote,
                    encoding: a.encoding,
                    ..Default::default()
                },
                pair_column: a.pair_column,
            };
            let output = predict::Output {
                format: a.format,
                csv_safe: a.csv_safe,
            };
            predict::predict(&weights, &input, output, a.backbone.as_deref(), a.offline)
        }
        Command::Tasks(a) => tasks::tasks(&a.folder, a.backbone.as_deref(), a.offline, a.json),
        Command::Serve(a) => serve::serve(&serve::Asked {
            tasks: a.tasks,
            backbone: a.backbone,
            offline: a.offline,
            host: a.host,
            port: a.port,
            limits: serve::Limits {
                batch: a.batch.into(),
                queue: a.queue.into(),
                body: a.max_body as usize,
                callers: a.callers.into(),
            },
        }),
        Command::Serving(a) => serving::serving(
            &a.tasks,
            a.backbone.as_deref(),
            a.offline,
            a.seconds,
            a.json,
        ),
        Command::Domains(a) => domains::domains(&domains::Asked {
            datasets: a.datasets,
            methods: a.methods,
            budget: a.budget,
            seeds: a.seeds,
            backbone: a.backbone,
            settings: a.settings,
            out: a.out,
            offline: a.offline,
            jobs: a.how.jobs.into(),
            margin: a.margin.unwrap_or_default(),
            json: a.how.json,
            quiet: a.how.quiet,
        }),
        Command::Latency(a) => latency::latency(&latency::Asked {
            weights: a.weights,
            batches: a.batches,
            lengths: a.lengths,
            dataset: a.dataset,
            options: a.file.options(),
            no_sentences: a.no_sentences,
            seconds: a.seconds,
            backbone: a.backbone,
            offline: a.offline,
            out: a.out,
            json: a.json,
            plan_only: a.plan_only,
            more: a.more,
        }),
        Command::Export(a) => export::export(
            &a.weights,
            a.format,
            &a.out,
            a.separate_head,
            a.backbone.as_deref(),
            a.offline,
        ),
        Command::Push(a) => push::push(&a.folder, &a.repo, a.private, a.dry_run, a.offline),
        Command::Import(a) => import::import(
            &a.weights,
            &a.out,
            a.labels.as_deref(),
            a.backbone.as_deref(),
            a.offline,
        ),
        Command::Report(a) => match a.compare.as_deref() {
            Some([before, after]) => report::compare(before, after, a.margin, a.json),
            _ => report::report(
                &a.records,
                a.out.as_deref(),
                a.format,
                a.margin,
                a.costs_on.as_deref(),
                a.csv_safe,
                a.json,
            ),
        },
        Command::Cite(a) => cite::cite(&a.records),
        Command::Recommend(a) => {
            let wishes = Wishes {
                dataset: a.dataset,
                train_size: a.train_size,
                max_size: a.max_size,
                max_latency_overhead: a.max_latency_overhead,
                max_parameters: a.max_parameters,
                max_memory: a.max_memory,
                max_training_seconds: a.max_training_time,
                min_metric: a.min_metric,
            };
            recommend::recommend(&wishes, &a.records, a.margin, a.json)
        }
        Command::List(a) => list::list(a.what, &a.records, a.json),
        Command::Fetch(a) => fetch::fetch(&a.names, a.offline),
        Command::Check(a) => check::check(check_shared(a).as_ref()),
        Command::RunPlan(a) => match (a.claim, a.from) {
            (Some(claim), _) => run_plan::run_plan(&claim, started),
            (_, from) => work::task(
                &from.unwrap_or_default(),
                &work::Task {
                    index: a.task,
                    offset: a.offset,
                    per_task: a.per_task.into(),
                },
                How {
                    verbosity: Verbosity::Normal,
                    jobs: 1,
                },
            ),
        },
        Command::Work(a) => work::work(&a.folder, a.how.how()),
        Command::Status(a) => status::status(&a.folder, a.json, a.watch),
        Command::Doctor(a) => doctor::doctor(a.offline, a.json),
        Command::Completions(a) => completions::completions(a.shell),
        Command::Man(a) => completions::man(a.folder.as_deref()),
    }
}

/// The comparison that `check` looks at, if one is named.
fn check_shared(a: cli::Check) -> Option<Shared> {
    Some(Shared {
        data: DataChoice {
            stand_in: true,
            ..DataChoice::of(a.dataset?, a.file.options())
        },
        offline: a.offline,
        budget: "standard".into(),
        backbone: a.backbone,
        settings: a.settings,
        out: None,
        tensorboard: None,
    })
}
