//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Which parameter-efficient fine-tuning method should I use, and how sure can I be?
#[derive(Debug, Parser)]
#[command(name = "peftbench", version, about, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Threads that compute; all cores by default.
    #[arg(long, global = true, env = "PEFTBENCH_THREADS")]
    pub threads: Option<usize>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train every method on a data set over one frozen backbone, and report.
    Compare(Compare),
    /// Train one method with one seed; saves its weights.
    Train(Train),
    /// Metrics of saved weights on a split of a data set.
    Evaluate(Evaluate),
    /// Predict rows of JSON with saved weights: {"text": …, "pair": …} in, label, probabilities and logits out.
    Predict(Predict),
    /// Make tables, plots and the page from records.
    Report(Report),
    /// List what there is.
    List(List),
    /// Fetch backbones and data sets into the cache.
    Fetch(Fetch),
    /// Check every YAML, and the plan of a comparison, without training; all problems at once.
    Check(Check),
    /// Make the run whose plan stands on standard input (used by compare).
    #[command(hide = true)]
    RunPlan,
}

/// The data set of a command.
#[derive(Debug, Args)]
pub struct DataArguments {
    /// A data set's name, or a CSV, TSV, JSONL, parquet or YAML file.
    pub dataset: String,
    /// Text column of a file; twice for sentence pairs.
    #[arg(long = "text-column", value_name = "COLUMN")]
    pub text_columns: Vec<String>,
    /// Label column of a file.
    #[arg(long, value_name = "COLUMN")]
    pub label_column: Option<String>,
    /// Refuse when the data set cannot be had, instead of going on with its stand-in.
    #[arg(long)]
    pub no_stand_in: bool,
    /// Do not use the network.
    #[arg(long)]
    pub offline: bool,
}

/// What every run of a comparison shares.
#[derive(Debug, Args)]
pub struct RunArguments {
    /// The data.
    #[command(flatten)]
    pub data: DataArguments,
    /// How long to train: quick (150 steps), standard (500) or full (three epochs).
    #[arg(long, default_value = "standard")]
    pub budget: String,
    /// A backbone's name, or a folder with config.json, tokenizer.json and model.safetensors.
    #[arg(long, default_value = "minilm")]
    pub backbone: String,
    /// Override a default: method.key=value, recipe.key=value or backbone.key=value.
    #[arg(long = "set", value_name = "NAME.KEY=VALUE")]
    pub settings: Vec<String>,
    /// Folder of records, weights and report [default: reports/out/DATASET].
    #[arg(long)]
    pub out: Option<PathBuf>,
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
    #[arg(long)]
    pub seeds: Option<usize>,
    /// Print the comparison as JSON.
    #[arg(long)]
    pub json: bool,
    /// Say nothing on standard error but errors.
    #[arg(long, short)]
    pub quiet: bool,
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
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Print the record as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `evaluate`.
#[derive(Debug, Args)]
pub struct Evaluate {
    /// Folder of saved weights.
    #[arg(long)]
    pub weights: PathBuf,
    /// A data set's name or file.
    #[arg(long)]
    pub dataset: String,
    /// Which split.
    #[arg(long, value_enum, default_value_t = SplitName::Validation)]
    pub split: SplitName,
    /// The backbone; by default the one that the weights name.
    #[arg(long)]
    pub backbone: Option<String>,
    /// Text column of a file; twice for sentence pairs.
    #[arg(long = "text-column", value_name = "COLUMN")]
    pub text_columns: Vec<String>,
    /// Label column of a file.
    #[arg(long, value_name = "COLUMN")]
    pub label_column: Option<String>,
    /// Do not use the network.
    #[arg(long)]
    pub offline: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// A split of a data set.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum SplitName {
    /// Training examples.
    Train,
    /// Validation examples.
    Validation,
    /// Test examples.
    Test,
}

impl From<SplitName> for datasets::Split {
    fn from(name: SplitName) -> Self {
        match name {
            SplitName::Train => Self::Train,
            SplitName::Validation => Self::Validation,
            SplitName::Test => Self::Test,
        }
    }
}

/// `predict`.
#[derive(Debug, Args)]
pub struct Predict {
    /// Folder of saved weights.
    #[arg(long)]
    pub weights: PathBuf,
    /// JSONL file, or - for standard input.
    #[arg(long, default_value = "-")]
    pub input: PathBuf,
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
    /// Folder of the report [default: the records' own].
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Print the comparisons as JSON.
    #[arg(long)]
    pub json: bool,
}

/// What can be listed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Kind {
    /// Methods with what each can do (found out by trying it); as JSON with their defaults too.
    Methods,
    /// Data sets.
    Datasets,
    /// Backbones.
    Backbones,
    /// Runs that have a record.
    Runs,
}

/// `list`.
#[derive(Debug, Args)]
pub struct List {
    /// What.
    #[arg(value_enum)]
    pub what: Kind,
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
    /// Text column of a file; twice for sentence pairs.
    #[arg(long = "text-column", value_name = "COLUMN", requires = "dataset")]
    pub text_columns: Vec<String>,
    /// Label column of a file.
    #[arg(long, value_name = "COLUMN", requires = "dataset")]
    pub label_column: Option<String>,
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
