//! The command line.

mod arguments;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use statistics::Margin;

use self::arguments::MOST_TASKS;
pub use self::arguments::{
    DataArguments, FileArguments, HowArguments, PlanArguments, RunArguments,
};
use crate::{
    commands::{
        evaluate::Part, latency::MOST_TOKENS, list::Kind, predict::AnswerFormat,
        report::ReportFormat, tune::MOST_TRIALS,
    },
    formats::Format,
    plan::MOST_SEEDS,
    train::recipe::MOST_HELD_OUT,
    units,
};

/// Which parameter-efficient fine-tuning method should I use, and how sure can I be?
#[derive(Debug, Parser)]
#[command(name = "peftbench", version, about, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Threads that compute, at most the cores of this machine [default: PEFTBENCH_THREADS, or all of them].
    #[arg(long, global = true, value_parser = units::number(1..=kernels::available_threads()), hide_short_help = true)]
    pub threads: Option<usize>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train methods on a data set over one frozen backbone, and report.
    ///
    /// Without --methods the standard ones are trained: prompt tuning, LoRA, adapters, all weights, the head alone, and two floors to
    /// compare with.
    Compare(Compare),
    /// Vary one thing, such as the prompt's length, and draw the curve.
    Sweep(Sweep),
    /// Search each method's settings with equal compute, train the best.
    ///
    /// The best settings of each method are trained over fresh seeds.
    Tune(Tune),
    /// Train one method with one seed; saves its weights.
    Train(Train),
    /// Metrics, scores per class, confusion matrix of saved weights.
    ///
    /// On a split of a data set, or on all of it.
    Evaluate(Evaluate),
    /// Predict the labels of rows with saved weights.
    ///
    /// Rows are read from JSONL, CSV, TSV, parquet or lines of text.
    Predict(Predict),
    /// List the tasks of a folder of weights.
    ///
    /// Of each: method, data set, labels, metric, size of its file and in memory.
    Tasks(Tasks),
    /// Answer over HTTP: one backbone, many tasks, shared passes.
    Serve(Serve),
    /// Serve N tasks as N models, or with one backbone: what each costs.
    ///
    /// Disk, memory, start, and latency of one row and of a mixed batch.
    Serving(Serving),
    /// Time saved weights side by side: alone, merged, and mixed.
    Latency(Latency),
    /// Train per domain and for all of them, try every set on each.
    Domains(Domains),
    /// Write saved weights in the format of another library.
    Export(Export),
    /// Put weights with their model card into a repository of the hub.
    Push(Push),
    /// Turn a folder of PEFT or AdapterHub into one of our own.
    Import(Import),
    /// Make tables, plots and the page from records.
    Report(Report),
    /// Print BibTeX of what a report used.
    ///
    /// Papers of methods, backbones and statistics, and data sets.
    Cite(Cite),
    /// Recommend the method that keeps to given limits, by records.
    Recommend(Recommend),
    /// List methods, data sets, backbones, studies, suites or runs.
    List(List),
    /// Fetch backbones and data sets into the cache.
    Fetch(Fetch),
    /// Check your data and plan, or every YAML, without training.
    ///
    /// All problems are said at once.
    Check(Check),
    /// Make the runs of one task of a plan file, for a scheduler.
    ///
    /// See compare --plan-only.
    RunPlan(RunPlan),
    /// Make the runs of a plan file that nobody else makes.
    ///
    /// On any number of machines over one shared folder.
    Work(Work),
    /// How far runs are: done, running, waiting, failed.
    ///
    /// Of a plan file, a comparison or a suite.
    Status(Status),
    /// Say what this machine has, and what is missing.
    ///
    /// Cores, instruction sets, load, memory, cache, disk, the hub, Python's libraries.
    Doctor(Doctor),
    /// Print the script that completes commands and flags in a shell.
    Completions(Completions),
    /// Print the manual page, or write those of all commands.
    Man(Man),
}

/// `run-plan`.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("whose").required(true).args(["claim", "from"])))]
pub struct RunPlan {
    /// The plan stands on standard input, and whoever started this holds the claim of this name.
    #[arg(long, hide = true)]
    pub claim: Option<String>,
    /// The plan file that compare --plan-only wrote.
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
    /// Which task of it, counted from 0 [default: as Slurm, Kubernetes or HyperQueue says].
    #[arg(long, requires = "from", value_parser = units::number(0..=MOST_TASKS))]
    pub task: Option<usize>,
    /// What is added to the scheduler's index, where a cluster takes no array as large as the plan.
    #[arg(long, default_value_t = 0, value_parser = units::number(0..=MOST_TASKS))]
    pub offset: usize,
    /// Runs that one task makes, one after the other.
    #[arg(long, default_value_t = 1, value_parser = units::number(1..=u16::MAX), hide_short_help = true)]
    pub per_task: u16,
}

/// `work`.
#[derive(Debug, Args)]
pub struct Work {
    /// The folder that compare --plan-only wrote.
    pub folder: PathBuf,
    /// How runs are made.
    #[command(flatten)]
    pub how: HowArguments,
}

/// `status`.
#[derive(Debug, Args)]
pub struct Status {
    /// The folder that compare --plan-only wrote, or that of a comparison or a suite.
    pub folder: PathBuf,
    /// Print JSON; with --watch one line each time.
    #[arg(long)]
    pub json: bool,
    /// Go on until all runs have ended.
    #[arg(long)]
    pub watch: bool,
}

/// `compare`.
#[derive(Debug, Args)]
pub struct Compare {
    /// What every run shares.
    #[command(flatten)]
    pub run: RunArguments,
    /// Methods to compare, separated by commas, or all [default: the standard ones].
    #[arg(long, value_delimiter = ',')]
    pub methods: Vec<String>,
    /// Number of seeds [default: the budget's].
    #[arg(long, value_parser = units::number(1..=MOST_SEEDS))]
    pub seeds: Option<usize>,
    /// Differences of the main metric that are smaller do not matter, e.g. 0.5% [default: the one declared before, else one point].
    #[arg(long, value_name = "SHARE", value_parser = units::margin)]
    pub margin: Option<Margin>,
    /// Look at 3, 5, 10 and 20 seeds, with bounds that keep the error rate, and give more seeds only to methods in undecided pairs.
    #[arg(long, conflicts_with = "seeds")]
    pub until_decided: bool,
    /// Seeds of the last look.
    #[arg(long, default_value_t = 20, requires = "until_decided", value_parser = units::number(3..=1000u16), hide_short_help = true)]
    pub max_seeds: u16,
    /// Start no run after this time, e.g. 3h; the same command goes on later.
    #[arg(long, value_name = "TIME", requires = "until_decided", value_parser = units::time, hide_short_help = true)]
    pub max_time: Option<f64>,
    /// Pairs to decide, e.g. lora:full,lora:adapter [default: each with the best, and neighbours].
    #[arg(long, value_delimiter = ',', value_name = "A:B", requires = "until_decided", value_parser = units::pair, hide_short_help = true)]
    pub pairs: Vec<(String, String)>,
    /// How runs are made.
    #[command(flatten)]
    pub how: HowArguments,
    /// Train nothing: say how many runs are missing, and how long they take by earlier records of this machine.
    #[arg(long, hide_short_help = true)]
    pub dry_run: bool,
    /// Having them made elsewhere.
    #[command(flatten)]
    pub plan: PlanArguments,
}

/// `sweep`.
#[derive(Debug, Args)]
pub struct Sweep {
    /// What every run shares.
    #[command(flatten)]
    pub run: RunArguments,
    /// A study's name (peftbench list studies), or the path of a YAML.
    #[arg(long)]
    pub study: String,
    /// Number of seeds [default: the budget's].
    #[arg(long, value_parser = units::number(1..=MOST_SEEDS))]
    pub seeds: Option<usize>,
    /// Differences of the main metric that are smaller do not matter, e.g. 0.5% [default: the one declared before, else one point].
    #[arg(long, value_name = "SHARE", value_parser = units::margin)]
    pub margin: Option<Margin>,
    /// How runs are made.
    #[command(flatten)]
    pub how: HowArguments,
    /// Having them made elsewhere.
    #[command(flatten)]
    pub plan: PlanArguments,
}

/// `tune`.
#[derive(Debug, Args)]
pub struct Tune {
    /// What every run shares.
    #[command(flatten)]
    pub run: RunArguments,
    /// Methods to tune, separated by commas; by default the standard ones that have anything to search.
    #[arg(long, value_delimiter = ',')]
    pub methods: Vec<String>,
    /// Configurations to try of each method: all for a ninth of the steps, the best third for a third, the best of these for all.
    #[arg(long, default_value_t = 9, value_parser = units::number(1..=MOST_TRIALS))]
    pub trials: usize,
    /// Instead of a number of trials: hours of training for the trials of all methods together, each method its equal part.
    #[arg(long, conflicts_with = "trials", value_parser = units::number(0.0001..=8760.0))]
    pub hours: Option<f64>,
    /// Share of the training split that is held out to judge the trials.
    #[arg(long, default_value_t = 0.1, value_parser = units::number(0.001..=MOST_HELD_OUT), hide_short_help = true)]
    pub held_out: f64,
    /// Number of seeds of the winners [default: the budget's].
    #[arg(long, value_parser = units::number(1..=MOST_SEEDS))]
    pub seeds: Option<usize>,
    /// Differences of the main metric that are smaller do not matter, e.g. 0.5% [default: the one declared before, else one point].
    #[arg(long, value_name = "SHARE", value_parser = units::margin)]
    pub margin: Option<Margin>,
    /// How runs are made.
    #[command(flatten)]
    pub how: HowArguments,
    /// Having them made elsewhere.
    #[command(flatten)]
    pub plan: PlanArguments,
}

/// `train`.
#[derive(Debug, Args)]
pub struct Train {
    /// What every run shares.
    #[command(flatten)]
    pub run: RunArguments,
    /// The method.
    #[arg(long)]
    pub method: String,
    /// Seed of every random stream.
    #[arg(long, default_value_t = 0, value_parser = units::number(0..=u64::MAX))]
    pub seed: u64,
    /// Print the record as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `evaluate`.
#[derive(Debug, Args)]
pub struct Evaluate {
    /// Folder of saved weights: ours, or of Hugging Face PEFT or AdapterHub.
    #[arg(long)]
    pub weights: PathBuf,
    /// A data set's name or file.
    #[arg(long)]
    pub dataset: String,
    /// Which split, or all rows that have labels.
    #[arg(long, value_enum, default_value_t = Part::Validation)]
    pub split: Part,
    /// The backbone; by default the one that the weights name.
    #[arg(long)]
    pub backbone: Option<String>,
    /// How a file of the user's own is read.
    #[command(flatten)]
    pub file: FileArguments,
    /// Do not use the network.
    #[arg(long)]
    pub offline: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `predict`.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["weights", "tasks"])))]
pub struct Predict {
    /// Folder of saved weights: ours, or of Hugging Face PEFT or AdapterHub.
    #[arg(long)]
    pub weights: Option<PathBuf>,
    /// Folder of folders of saved weights; each row then names its task by the folder's name.
    #[arg(long, value_name = "DIR")]
    pub tasks: Option<PathBuf>,
    /// JSONL, CSV, TSV or parquet file, file of one text per line, or - for standard input.
    #[arg(long, default_value = "-")]
    pub input: PathBuf,
    /// Column of the second text of a pair [default: pair, if there is one].
    #[arg(long, value_name = "COLUMN", hide_short_help = true)]
    pub pair_column: Option<String>,
    /// Text column [default: text].
    #[arg(long = "text-column", value_name = "COLUMN")]
    pub text_columns: Vec<String>,
    /// What separates the fields of the input: one character, or tab [default: as its header shows].
    #[arg(long, value_name = "CHARACTER", hide_short_help = true)]
    pub separator: Option<String>,
    /// What encloses fields that hold a separator: one character, or none [default: "].
    #[arg(long, value_name = "CHARACTER", hide_short_help = true)]
    pub quote: Option<String>,
    /// Encoding of an input that is not UTF-8, such as cp1252, gb18030 or utf-16le.
    #[arg(long, hide_short_help = true)]
    pub encoding: Option<String>,
    /// How answers are written.
    #[arg(long, value_enum, default_value_t)]
    pub format: AnswerFormat,
    /// Put an apostrophe in front of texts of a CSV that a spreadsheet would take for formulas; numbers stay.
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    pub csv_safe: bool,
    /// The backbone; by default the one that the weights name.
    #[arg(long)]
    pub backbone: Option<String>,
    /// Do not use the network.
    #[arg(long)]
    pub offline: bool,
}

/// `tasks`.
#[derive(Debug, Args)]
pub struct Tasks {
    /// Folder of folders of saved weights.
    pub folder: PathBuf,
    /// The backbone; by default the one that the first task names.
    #[arg(long)]
    pub backbone: Option<String>,
    /// Do not use the network.
    #[arg(long)]
    pub offline: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `serve`.
#[derive(Debug, Args)]
pub struct Serve {
    /// Folder of folders of saved weights; a task has the name of its folder.
    #[arg(long, value_name = "DIR")]
    pub tasks: PathBuf,
    /// Port; 0 takes one that is free. The address is printed.
    #[arg(long, default_value_t = 8080, value_parser = units::number(0..=u16::MAX))]
    pub port: u16,
    /// Address to listen on. There is no password: what listens elsewhere than on this machine belongs behind a proxy.
    #[arg(long, default_value = "127.0.0.1")]
    pub host: std::net::IpAddr,
    /// Rows that share a pass at most.
    #[arg(long, default_value_t = 32, value_parser = units::number(1..=u16::MAX))]
    pub batch: u16,
    /// Requests that wait at most; more are refused with status 503.
    #[arg(long, default_value_t = 256, value_parser = units::number(1..=u16::MAX), hide_short_help = true)]
    pub queue: u16,
    /// Size of a request at most.
    #[arg(long, value_name = "SIZE", default_value = "1MB", value_parser = units::body, hide_short_help = true)]
    pub max_body: f64,
    /// Requests that are read and answered at the same time.
    #[arg(long, default_value_t = 64, value_parser = units::number(1..=1024u16), hide_short_help = true)]
    pub callers: u16,
    /// The backbone; by default the one that the first task names.
    #[arg(long)]
    pub backbone: Option<String>,
    /// Do not use the network.
    #[arg(long, hide_short_help = true)]
    pub offline: bool,
}

/// `serving`.
#[derive(Debug, Args)]
pub struct Serving {
    /// Folder of folders of saved weights.
    #[arg(long, value_name = "DIR")]
    pub tasks: PathBuf,
    /// The backbone; by default the one that the first task names.
    #[arg(long)]
    pub backbone: Option<String>,
    /// Seconds to measure, all together.
    #[arg(long, default_value_t = 8.0, value_parser = units::number(0.1..=600.0))]
    pub seconds: f64,
    /// Do not use the network.
    #[arg(long, hide_short_help = true)]
    pub offline: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `latency`.
#[derive(Debug, Args)]
pub struct Latency {
    /// Folders of saved weights over one backbone, or of a comparison for all that it has saved.
    #[arg(long, required = true, num_args = 1.., value_name = "DIR")]
    pub weights: Vec<PathBuf>,
    /// Batch sizes.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8, 32], value_parser = units::number(1..=MOST_TOKENS), hide_short_help = true)]
    pub batches: Vec<usize>,
    /// Lengths in tokens [default: 16, 64 and 128, as far as the backbone reads them].
    #[arg(long, value_delimiter = ',', value_parser = units::number(1..=MOST_TOKENS), hide_short_help = true)]
    pub lengths: Vec<usize>,
    /// Data set or file whose validation sentences are timed too [default: the one of the first weights].
    #[arg(long)]
    pub dataset: Option<String>,
    /// How a file of the user's own is read.
    #[command(flatten)]
    pub file: FileArguments,
    /// Time texts of fixed length only, no real sentences.
    #[arg(long, hide_short_help = true)]
    pub no_sentences: bool,
    /// Seconds for each setting (batch size × length), all weights together; at least five passes each are made.
    #[arg(long, default_value_t = 3.0, value_parser = units::number(0.001..=86_400.0), hide_short_help = true)]
    pub seconds: f64,
    /// The backbone; by default the one that the first weights name.
    #[arg(long)]
    pub backbone: Option<String>,
    /// Do not use the network.
    #[arg(long)]
    pub offline: bool,
    /// Folder of a comparison, whose report shall show the tables too.
    #[arg(long, value_name = "DIR", conflicts_with = "json")]
    pub out: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Measure nothing here: write a batch script for Slurm that measures all of it in one process on one node, and print
    /// the line that submits it.
    #[arg(long, value_name = "DIR")]
    pub plan_only: Option<PathBuf>,
    /// Arguments for sbatch, behind --.
    #[arg(last = true, value_name = "SBATCH")]
    pub more: Vec<String>,
}

/// `domains`.
#[derive(Debug, Args)]
pub struct Domains {
    /// The domains: data sets with the same labels.
    #[arg(long, value_delimiter = ',', default_values_t = ["movie_snippets", "amazon_snippets", "nyt_snippets", "tweets"].map(str::to_owned))]
    pub datasets: Vec<String>,
    /// Methods, separated by commas.
    #[arg(long, value_delimiter = ',', default_values_t = ["prompt_tuning", "lora", "adapter"].map(str::to_owned))]
    pub methods: Vec<String>,
    /// How long to train each set of weights.
    #[arg(long, default_value = "quick")]
    pub budget: String,
    /// Number of seeds.
    #[arg(long, default_value_t = 1, value_parser = units::number(1..=MOST_SEEDS))]
    pub seeds: usize,
    /// Differences of the main metric that are smaller do not matter, e.g. 0.5% [default: the one declared before, else one point].
    #[arg(long, value_name = "SHARE", value_parser = units::margin)]
    pub margin: Option<Margin>,
    /// A backbone's name or folder.
    #[arg(long, default_value = "minilm")]
    pub backbone: String,
    /// Override a default: method.key=value, recipe.key=value or backbone.key=value.
    #[arg(long = "set", value_name = "NAME.KEY=VALUE")]
    pub settings: Vec<String>,
    /// Folder of records, weights and tables.
    #[arg(long, default_value = "reports/out/domains")]
    pub out: PathBuf,
    /// Do not use the network.
    #[arg(long)]
    pub offline: bool,
    /// How runs are made.
    #[command(flatten)]
    pub how: HowArguments,
}

/// `export`.
#[derive(Debug, Args)]
pub struct Export {
    /// Folder of saved weights.
    #[arg(long)]
    pub weights: PathBuf,
    /// Which format.
    #[arg(long, value_enum)]
    pub format: Format,
    /// Folder to write; it must not exist yet, or be empty.
    #[arg(long)]
    pub out: PathBuf,
    /// Write the classifier into a file of its own with the few lines of Python that read it; for heads that the
    /// library's classes cannot hold (those that read the mean).
    #[arg(long, hide_short_help = true)]
    pub separate_head: bool,
    /// The backbone; by default the one that the weights name.
    #[arg(long)]
    pub backbone: Option<String>,
    /// Do not use the network.
    #[arg(long)]
    pub offline: bool,
}

/// `push`.
#[derive(Debug, Args)]
pub struct Push {
    /// Folder that train or export wrote.
    pub folder: PathBuf,
    /// The repository, OWNER/NAME; it is created where it does not exist yet.
    pub repo: String,
    /// Make it private where it is created.
    #[arg(long)]
    pub private: bool,
    /// Send nothing: say what would be sent.
    #[arg(long)]
    pub dry_run: bool,
    /// Do not use the network.
    #[arg(long, hide_short_help = true)]
    pub offline: bool,
}

/// `import`.
#[derive(Debug, Args)]
pub struct Import {
    /// Folder of Hugging Face PEFT or AdapterHub.
    #[arg(long)]
    pub weights: PathBuf,
    /// Folder to write; it must not exist yet, or be empty.
    #[arg(long)]
    pub out: PathBuf,
    /// Names of the classes in their order, separated by commas; by default those of the folder.
    #[arg(long, value_delimiter = ',')]
    pub labels: Option<Vec<String>>,
    /// The backbone; by default the one that the weights name.
    #[arg(long)]
    pub backbone: Option<String>,
    /// Do not use the network.
    #[arg(long)]
    pub offline: bool,
}

/// `report`.
#[derive(Debug, Args)]
pub struct Report {
    /// Folder of records, or a comparison's folder.
    #[arg(long, default_value = "reports/out")]
    pub records: PathBuf,
    /// Instead of a report: what changed from one folder of records to another, and what of it exceeds the noise.
    #[arg(long, num_args = 2, value_names = ["BEFORE", "AFTER"])]
    pub compare: Option<Vec<PathBuf>>,
    /// Folder of the report [default: the records' own].
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Print the tables (or the page) in this format, and write no files unless --out names a folder.
    #[arg(long, value_enum, conflicts_with_all = ["compare", "json"])]
    pub format: Option<ReportFormat>,
    /// Put an apostrophe in front of names in the CSV that a spreadsheet would take for formulas; numbers stay.
    #[arg(long, hide_short_help = true, value_name = "BOOL", default_value_t = true, num_args = 0..=1, default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    pub csv_safe: bool,
    /// Differences of the main metric that are smaller do not matter, e.g. 0.5% [default: the one declared before, else one point].
    #[arg(long, value_name = "SHARE", value_parser = units::margin)]
    pub margin: Option<Margin>,
    /// Part of the name of the processor whose times, memory and latencies are shown [default: that of most runs].
    #[arg(long, value_name = "MODEL", conflicts_with = "compare")]
    pub costs_on: Option<String>,
    /// Print the comparisons as JSON, and write the report too.
    #[arg(long)]
    pub json: bool,
}

/// `cite`.
#[derive(Debug, Args)]
pub struct Cite {
    /// Folder of records, or a comparison's folder.
    #[arg(long, default_value = "reports/out")]
    pub records: PathBuf,
}

/// `recommend`.
#[derive(Debug, Args)]
pub struct Recommend {
    /// The data set.
    #[arg(long)]
    pub dataset: String,
    /// Examples that there are to train on.
    #[arg(long, value_name = "EXAMPLES", value_parser = units::number(1..=1_000_000_000usize))]
    pub train_size: Option<usize>,
    /// Largest size of the saved weights, head included, e.g. 100KB.
    #[arg(long, value_name = "SIZE", value_parser = units::size)]
    pub max_size: Option<f64>,
    /// Largest latency over the bare backbone's, e.g. 5%.
    #[arg(long, value_name = "SHARE", value_parser = units::share)]
    pub max_latency_overhead: Option<f64>,
    /// Most trained parameters, head apart, e.g. 100k.
    #[arg(long, value_name = "COUNT", value_parser = units::count)]
    pub max_parameters: Option<f64>,
    /// Largest peak memory of training, e.g. 500MB.
    #[arg(long, value_name = "SIZE", value_parser = units::size)]
    pub max_memory: Option<f64>,
    /// Longest training, e.g. 5min.
    #[arg(long, value_name = "TIME", value_parser = units::time)]
    pub max_training_time: Option<f64>,
    /// Smallest main metric, e.g. 80%.
    #[arg(long, value_name = "SHARE", value_parser = units::metric)]
    pub min_metric: Option<f64>,
    /// Differences of the main metric that are smaller do not matter, e.g. 0.5% [default: the one declared before, else one point].
    #[arg(long, value_name = "SHARE", value_parser = units::margin)]
    pub margin: Option<Margin>,
    /// Folder of records, or a comparison's folder.
    #[arg(long, default_value = "reports/out")]
    pub records: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `list`.
#[derive(Debug, Args)]
pub struct List {
    /// What [default: what can be listed].
    #[arg(value_enum)]
    pub what: Option<Kind>,
    /// Folder of records, for runs.
    #[arg(long, default_value = "reports/out")]
    pub records: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `fetch`.
#[derive(Debug, Args)]
pub struct Fetch {
    /// Names of backbones and data sets.
    #[arg(required = true)]
    pub names: Vec<String>,
    /// Do not use the network: only check what is there.
    #[arg(long)]
    pub offline: bool,
}

/// `check`.
#[derive(Debug, Args)]
pub struct Check {
    /// A data set or file whose comparison is checked too (nothing is trained).
    pub dataset: Option<String>,
    /// How a file of the user's own is read.
    #[command(flatten)]
    pub file: FileArguments,
    /// The backbone of that comparison.
    #[arg(long, default_value = "minilm")]
    pub backbone: String,
    /// Overrides of that comparison.
    #[arg(long = "set", value_name = "NAME.KEY=VALUE")]
    pub settings: Vec<String>,
    /// Do not use the network.
    #[arg(long)]
    pub offline: bool,
}

/// `doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Do not use the network.
    #[arg(long)]
    pub offline: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `completions`.
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell.
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// `man`.
#[derive(Debug, Args)]
pub struct Man {
    /// Folder for the pages of all commands [default: print that of peftbench itself].
    pub folder: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
