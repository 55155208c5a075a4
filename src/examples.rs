//! The command line with two examples under the help of each command.

use clap::CommandFactory;

use crate::cli::Cli;

/// By command: what is typed, and what it does.
type Example = (&'static str, [(&'static str, &'static str); 2]);

const EXAMPLES: &[Example] = &[
    (
        "compare",
        [
            (
                "compare reviews.csv --text-column review --label-column stars",
                "all standard methods on your own file",
            ),
            (
                "compare sst2 --methods lora,adapter --seeds 5",
                "two methods, five seeds each",
            ),
        ],
    ),
    (
        "sweep",
        [
            (
                "sweep sst2 --study prompt_length",
                "how many virtual tokens are enough?",
            ),
            (
                "sweep reviews.csv --study train_size --seeds 5",
                "how many examples are enough?",
            ),
        ],
    ),
    (
        "tune",
        [
            ("tune sst2 --methods lora,adapter", "nine settings of each"),
            (
                "tune sst2 --trials 20 --seeds 5",
                "a larger search, five seeds for the winners",
            ),
        ],
    ),
    (
        "train",
        [
            (
                "train sst2 --method lora",
                "one run; prints the folder of its weights",
            ),
            (
                "train sst2 --method lora --set lora.rank=4 --seed 1 --json",
                "another rank and seed; prints the record",
            ),
        ],
    ),
    (
        "evaluate",
        [
            (
                "evaluate --weights my-lora --dataset sst2",
                "metrics on the validation split",
            ),
            (
                "evaluate --weights my-lora --dataset new.csv --split all",
                "on every row of another file",
            ),
        ],
    ),
    (
        "predict",
        [
            (
                "predict --weights my-lora --input rows.csv",
                "a label for each row",
            ),
            (
                "predict --tasks tasks --input rows.jsonl",
                "rows of many tasks in one pass",
            ),
        ],
    ),
    (
        "tasks",
        [
            ("tasks tasks", "what a folder of weights holds"),
            ("tasks tasks --json", "the same for a program"),
        ],
    ),
    (
        "serve",
        [
            ("serve --tasks tasks", "on http://127.0.0.1:8080"),
            (
                "serve --tasks tasks --port 0 --batch 64",
                "on a free port, larger passes",
            ),
        ],
    ),
    (
        "serving",
        [
            (
                "serving --tasks tasks",
                "is one backbone cheaper than a model each?",
            ),
            (
                "serving --tasks tasks --seconds 60 --json",
                "measured longer, for a program",
            ),
        ],
    ),
    (
        "latency",
        [
            (
                "latency --weights my-lora my-adapter",
                "two sets of weights side by side",
            ),
            (
                "latency --weights my-lora --batches 1,64 --lengths 128",
                "at other sizes",
            ),
        ],
    ),
    (
        "domains",
        [
            ("domains", "four domains, three methods"),
            (
                "domains --datasets a.csv,b.csv --methods lora",
                "your own domains",
            ),
        ],
    ),
    (
        "export",
        [
            (
                "export --weights my-lora --format peft --separate-head --out peft",
                "for Hugging Face PEFT; the head in a file of its own",
            ),
            (
                "export --weights my-lora --format merged --out model",
                "a whole transformers model",
            ),
        ],
    ),
    (
        "push",
        [
            ("push lora-peft me/my-lora --dry-run", "what would be sent"),
            (
                "push lora-peft me/my-lora --private",
                "with the token of HF_TOKEN or `hf auth login`",
            ),
        ],
    ),
    (
        "import",
        [
            ("import --weights lora-peft --out my-lora", "from PEFT"),
            (
                "import --weights lora-peft --out my-lora --labels bad,good",
                "with names for its classes",
            ),
        ],
    ),
    (
        "report",
        [
            ("report", "tables, plots and the page of reports/out"),
            (
                "report --records reports/out/sst2 --format latex",
                "a table for a paper",
            ),
        ],
    ),
    (
        "cite",
        [
            ("cite", "BibTeX of all that reports/out used"),
            ("cite --records reports/out/sst2", "of one comparison"),
        ],
    ),
    (
        "recommend",
        [
            (
                "recommend --dataset sst2 --max-size 100KB",
                "the weights must be small",
            ),
            (
                "recommend --dataset sst2 --max-latency-overhead 5%",
                "it must be fast",
            ),
        ],
    ),
    (
        "list",
        [
            ("list methods", "what each method can do"),
            ("list runs --records reports/out/sst2", "runs with a record"),
        ],
    ),
    (
        "fetch",
        [
            ("fetch minilm sst2", "a backbone and a data set"),
            (
                "fetch bert-base-uncased --offline",
                "whether it is in the cache",
            ),
        ],
    ),
    (
        "check",
        [
            ("check", "every YAML that comes with the program"),
            (
                "check reviews.csv --text-column review --label-column stars",
                "your file: its rows, classes and splits, and what is odd about it",
            ),
        ],
    ),
    (
        "run-plan",
        [
            (
                "run-plan --from plan/plans.jsonl",
                "the task that Slurm names",
            ),
            ("run-plan --from plan/plans.jsonl --task 3", "the fourth"),
        ],
    ),
    (
        "work",
        [
            ("work plan", "runs until none is left"),
            ("work plan --jobs 4", "four at the same time"),
        ],
    ),
    (
        "status",
        [
            ("status plan", "how far it is"),
            ("status reports/out/sst2 --json", "of a comparison"),
        ],
    ),
    (
        "doctor",
        [
            ("doctor", "what this machine has"),
            ("doctor --offline --json", "for a program"),
        ],
    ),
    (
        "completions",
        [
            (
                "completions bash",
                "for ~/.local/share/bash-completion/completions/peftbench",
            ),
            (
                "completions fish",
                "for ~/.config/fish/completions/peftbench.fish",
            ),
        ],
    ),
    (
        "man",
        [
            ("man", "the manual page; read it with man -l -"),
            ("man share/man/man1", "the pages of all commands"),
        ],
    ),
];

/// Under the help of the program itself.
const FIRST: [(&str, &str); 2] = [
    (
        "check reviews.csv --text-column review --label-column stars",
        "your own file, looked at before anything is trained",
    ),
    ("compare sst2 --budget quick", "a first look in minutes"),
];

fn shown(examples: &[(&str, &str); 2]) -> String {
    let lines = examples.iter();
    let lines = lines.map(|(typed, does)| format!("  peftbench {typed}\n      {does}"));
    format!("Examples:\n{}", lines.collect::<Vec<_>>().join("\n"))
}

/// The command line of [`Cli`] with the examples.
pub fn command() -> clap::Command {
    let all = EXAMPLES.iter();
    let whole = Cli::command().after_help(shown(&FIRST));
    all.fold(whole, |command, (name, examples)| {
        command.mut_subcommand(name, |c| c.after_help(shown(examples)))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use clap::error::ErrorKind;

    use super::*;

    #[test]
    fn every_command_has_two_examples_that_are_understood() {
        for (typed, _) in FIRST {
            let words = format!("peftbench {typed}");
            let parsed = command().try_get_matches_from(words.split(' '));
            assert!(parsed.is_ok(), "{typed}");
        }
        for command in command().get_subcommands() {
            let (_, examples) = EXAMPLES
                .iter()
                .find(|(name, _)| *name == command.get_name())
                .unwrap_or_else(|| panic!("{} has no examples", command.get_name()));
            for (typed, _) in examples {
                let words = format!("peftbench {typed}");
                assert!(words.starts_with(&format!("peftbench {}", command.get_name())));
                let parsed = super::command().try_get_matches_from(words.split(' '));
                assert!(parsed.is_ok(), "{typed}: {}", parsed.unwrap_err());
            }
        }
    }

    #[test]
    fn every_command_that_the_documents_name_is_understood() {
        let documents = [
            include_str!("../README.md"),
            include_str!("../README.zh-CN.md"),
            include_str!("../docs/ADDING.md"),
            include_str!("../docs/CLUSTER.md"),
            include_str!("../docs/COMPATIBILITY.md"),
            include_str!("../docs/DATASETS.md"),
            include_str!("../docs/EVENTS.md"),
            include_str!("../docs/METHODOLOGY.md"),
            include_str!("../docs/PERFORMANCE.md"),
            include_str!("../docs/RECORDS.md"),
            include_str!("../docs/RESULTS.md"),
            include_str!("../docs/SECURITY.md"),
            include_str!("../docs/SERVING.md"),
            include_str!("../docs/STUDIES.md"),
            include_str!("../docs/example/README.md"),
        ];
        let mut tried = 0;
        for document in documents {
            let in_text = document.split('`').skip(1).step_by(2);
            let lines = document.lines().map(|line| {
                let line = line.trim_start_matches("$ ").trim_start_matches("uvx ");
                // A comment, or another program behind a pipe.
                let end = line.find(" # ").or(line.find(" | ")).unwrap_or(line.len());
                &line[..end]
            });
            for typed in in_text.chain(lines) {
                // Choices and parts that are left out are no command.
                if !typed.starts_with("peftbench ") || typed.contains(['|', '[', '…', '`', '\n'])
                {
                    continue;
                }
                let parsed = super::command().try_get_matches_from(typed.split_whitespace());
                let refused = parsed.err().map(|e| e.kind());
                // A command may be named without what it needs.
                let fine = matches!(refused, None | Some(ErrorKind::MissingRequiredArgument));
                assert!(fine, "{typed}: {refused:?}");
                tried += 1;
            }
        }
        assert!(tried > 40, "{tried}");
    }

    #[test]
    fn help_fits_80_columns_breaks_at_words_and_is_short_where_it_is_asked_to_be() {
        let whole = command();
        for one in whole.get_subcommands().chain([&whole]) {
            let help = |width: usize| {
                let mut one = one.clone().term_width(width);
                let long = one.render_long_help().to_string();
                [long, one.render_help().to_string()]
            };
            let name = one.get_name();
            let ([long, short], [unbroken, _]) = (help(80), help(100_000));
            for line in long.lines().chain(short.lines()) {
                assert!(line.chars().count() <= 80, "{name}: {line}");
            }
            // What breaks inside a word leaves a piece that is no word of the text.
            let words: BTreeSet<&str> = unbroken.split_whitespace().collect();
            for word in long.split_whitespace() {
                assert!(words.contains(word), "{name}: {word}");
            }
            let lines = short.lines().count();
            assert!(lines <= 60, "{name}: {lines} lines");
        }
    }
}
