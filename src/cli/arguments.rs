//! Arguments that several commands share.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use datasets::{FileOptions, Split};

use crate::{
    commands::{latency::MOST_TOKENS, plan_only::Elsewhere},
    execute::{local::How, progress::Verbosity},
    folders,
    plan::{DataChoice, Shared},
    units,
};

/// Tasks of a plan at most; no cluster takes as many.
pub(super) const MOST_TASKS: usize = 100_000_000;

/// How a file of the user's own is read.
#[derive(Debug, Default, Args)]
pub struct FileArguments {
    /// Text column of a file; twice for sentence pairs.
    #[arg(long = "text-column", value_name = "COLUMN")]
    pub text_columns: Vec<String>,
    /// Label column of a file; for multi_label also several, each with 0 or 1, with commas between.
    #[arg(long, value_name = "COLUMN")]
    pub label_column: Option<String>,
    /// What a file's labels are: classification, multi_label, regression, tokens or completion [default: classification].
    #[arg(long)]
    pub objective: Option<String>,
    /// Main metric of a file; of classification accuracy, f1, macro_f1, weighted_f1 or matthews [default: its objective's
    /// first].
    #[arg(long)]
    pub metric: Option<String>,
    /// What separates the fields of a file: one character, or tab [default: as its header shows].
    #[arg(long, value_name = "CHARACTER", hide_short_help = true)]
    pub separator: Option<String>,
    /// What encloses fields that hold a separator: one character, or none [default: "].
    #[arg(long, value_name = "CHARACTER", hide_short_help = true)]
    pub quote: Option<String>,
    /// Encoding of a file that is not UTF-8, such as cp1252, gb18030 or utf-16le.
    #[arg(long, hide_short_help = true)]
    pub encoding: Option<String>,
    /// Leave out rows without a text or a label (and say how many) instead of refusing the file.
    #[arg(long, hide_short_help = true)]
    pub drop_missing: bool,
    /// File of the validation split [default: a tenth of the rows].
    ///
    /// It has the same columns. Without it the rows are drawn by a hash of the text.
    #[arg(long, value_name = "FILE")]
    pub validation: Option<PathBuf>,
    /// File of the test split [default: a tenth of the rows].
    ///
    /// It has the same columns. Training and comparing leave it alone: it is for the end, with evaluate --split test.
    /// Without it the rows are drawn by a hash of the text.
    #[arg(long, value_name = "FILE")]
    pub test: Option<PathBuf>,
    /// What stands around a text where a language model is asked for the class: 'Review: {text}\nSentiment:'; of a pair
    /// also {pair}. \n is a new line.
    #[arg(long, hide_short_help = true)]
    pub template: Option<String>,
    /// The word that stands for each class behind the template, separated by commas, in the order of the classes: ' bad, good'.
    #[arg(long, value_delimiter = ',', hide_short_help = true)]
    pub words: Vec<String>,
    /// What a completion is written behind: 'Facts: {text}\nSentence:' [default: the text on a line of its own].
    #[arg(long, hide_short_help = true)]
    pub prompt: Option<String>,
    /// The most tokens of a completion, the end of the text among them [default: 64].
    #[arg(long, value_name = "N", value_parser = units::number(1..=MOST_TOKENS), hide_short_help = true)]
    pub max_new_tokens: Option<usize>,
}

impl FileArguments {
    /// The same as plain values.
    pub fn options(&self) -> FileOptions {
        FileOptions {
            text_columns: self.text_columns.clone(),
            label_column: self.label_column.clone(),
            objective: self.objective.clone(),
            metric: self.metric.clone(),
            separator: self.separator.clone(),
            quote: self.quote.clone(),
            encoding: self.encoding.clone(),
            drop_missing: self.drop_missing,
            split_files: [
                (Split::Validation, &self.validation),
                (Split::Test, &self.test),
            ]
            .into_iter()
            .filter_map(|(split, file)| Some((split, file.clone()?)))
            .collect(),
            template: self.template.as_ref().map(|t| t.replace("\\n", "\n")),
            words: self.words.clone(),
            prompt: self.prompt.as_ref().map(|t| t.replace("\\n", "\n")),
            max_new_tokens: self.max_new_tokens,
        }
    }
}

/// The data set of a command.
#[derive(Debug, Args)]
pub struct DataArguments {
    /// A data set's name; a CSV, TSV, JSONL, parquet or YAML file; or hub:OWNER/NAME, with /SUBSET and @REVISION where wanted.
    pub dataset: String,
    /// How a file of the user's own is read.
    #[command(flatten)]
    pub file: FileArguments,
    /// Stop when the data set is not found, instead of going on with its stand-in.
    #[arg(long, hide_short_help = true)]
    pub no_stand_in: bool,
    /// Do not use the network.
    #[arg(long)]
    pub offline: bool,
}

impl DataArguments {
    /// Which data.
    pub fn choice(&self) -> DataChoice {
        DataChoice {
            stand_in: !self.no_stand_in,
            ..DataChoice::of(&self.dataset, self.file.options())
        }
    }
}

/// Having the runs made elsewhere.
#[derive(Debug, Args)]
pub struct PlanArguments {
    /// Train nothing here: write the runs that are missing into this folder, with scripts for Slurm, HyperQueue and
    /// Kubernetes, and print the lines that submit them.
    #[arg(long, value_name = "DIR", hide_short_help = true)]
    pub plan_only: Option<PathBuf>,
    /// The same, and submit them to Slurm, with a last job that makes the report [default folder: OUT/plan].
    #[arg(long, hide_short_help = true)]
    pub submit: bool,
    /// Runs that one task of the plan makes, one after the other [default: as many as last 15 minutes by the records].
    #[arg(long, value_parser = units::number(1..=u16::MAX), hide_short_help = true)]
    pub per_task: Option<u16>,
    /// Tasks of the plan at the same time at most [default: as the cluster allows].
    #[arg(long, value_parser = units::number(1..=MOST_TASKS), hide_short_help = true)]
    pub parallel: Option<usize>,
    /// Arguments for sbatch, behind --.
    #[arg(last = true, value_name = "SBATCH", hide_short_help = true)]
    pub more: Vec<String>,
    /// Which last job of an earlier submission this is.
    #[arg(long, hide = true, env = "PEFTBENCH_AGAIN", default_value_t = 0, value_parser = units::number(0..=u8::MAX))]
    pub again: u8,
}

impl PlanArguments {
    /// The same as plain values; `None` where the runs are made here.
    ///
    /// # Errors
    /// If something is said of a plan that is not asked for.
    pub fn asked(&self) -> Result<Option<Elsewhere>> {
        if self.plan_only.is_none() && !self.submit {
            let said = [
                ("--per-task", self.per_task.is_some()),
                ("--parallel", self.parallel.is_some()),
                ("arguments behind --", !self.more.is_empty()),
            ];
            if let Some((what, _)) = said.iter().find(|(_, said)| *said) {
                bail!("{what}: only with --plan-only DIR or --submit");
            }
            return Ok(None);
        }
        if let Some(folder) = &self.plan_only {
            folders::check_no_file(folder, "--plan-only")?;
        }
        Ok(Some(Elsewhere {
            folder: self.plan_only.clone(),
            submit: self.submit,
            per_task: self.per_task.map(usize::from),
            parallel: self.parallel,
            more: self.more.clone(),
            again: self.again,
        }))
    }
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
    /// A backbone's name; a folder with config.json, tokenizer.json and model.safetensors; or OWNER/NAME of the hub, with @REVISION where wanted.
    #[arg(long, default_value = "minilm")]
    pub backbone: String,
    /// Override a default: method.key=value, recipe.key=value or backbone.key=value.
    #[arg(long = "set", value_name = "NAME.KEY=VALUE")]
    pub settings: Vec<String>,
    /// Folder of records, weights and report [default: reports/out/DATASET].
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Write event files for TensorBoard too, a folder per run.
    #[arg(long, value_name = "DIR", hide_short_help = true)]
    pub tensorboard: Option<PathBuf>,
}

impl RunArguments {
    /// The same as plain values.
    pub fn shared(&self) -> Shared {
        Shared {
            data: self.data.choice(),
            offline: self.data.offline,
            budget: self.budget.clone(),
            backbone: self.backbone.clone(),
            settings: self.settings.clone(),
            out: self.out.clone(),
            tensorboard: self.tensorboard.clone(),
        }
    }
}

/// How runs are made.
#[derive(Debug, Args)]
pub struct HowArguments {
    /// Runs that go on at the same time, each with its share of the threads. Their times and latencies are then those
    /// of a busy machine.
    #[arg(long, default_value_t = 1, value_parser = units::number(1..=1024u16), hide_short_help = true)]
    pub jobs: u16,
    /// Print events, and at the end the result, as JSON lines.
    #[arg(long)]
    pub json: bool,
    /// Say nothing on standard error but errors.
    #[arg(long, short)]
    pub quiet: bool,
}

impl HowArguments {
    /// The same as plain values.
    pub fn how(&self) -> How {
        How {
            verbosity: Verbosity::of(self.quiet, self.json),
            jobs: self.jobs.into(),
        }
    }
}
