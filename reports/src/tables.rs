//! The table of a comparison: its columns and cells, and what stands around them.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use statistics::{Calibration, Summary};

use crate::{
    comparison::Comparison,
    costs::MARK,
    format, latency,
    row::{Row, Standing},
    table::{Cell, Column, Table, markdown_text, wrap},
    words,
};

/// Columns up to this rank are in LaTeX.
const PAPER: u8 = 4;

/// A table in the making, with a row for each of a comparison's.
struct Columns<'a> {
    rows: &'a [Row],
    table: Table,
}

impl Columns<'_> {
    /// A column with a cell for each row, given its place.
    fn add(&mut self, column: Column, cell: impl Fn(usize, &Row) -> Cell) {
        self.table.columns.push(column);
        let rows = self.rows.iter().zip(&mut self.table.rows).enumerate();
        rows.for_each(|(i, (row, cells))| cells.push(cell(i, row)));
    }

    /// A value with its text.
    fn shown<T: Copy + Into<Value>>(
        &mut self,
        column: Column,
        value: impl Fn(&Row) -> Option<T>,
        show: impl Fn(&Row, T) -> String,
    ) {
        self.add(column, |_, row| {
            let value = value(row);
            Cell::of(value, || value.map_or_else(String::new, |v| show(row, v)))
        });
    }

    /// A value that only programs read.
    fn hidden<T: Into<Value>>(&mut self, name: &str, value: impl Fn(&Row) -> Option<T>) {
        self.add(Column::hidden(name), |_, row| Cell::hidden(value(row)));
    }
}

/// The table of a comparison, highest mean first.
pub fn table(comparison: &Comparison) -> Table {
    let (metric, dataset) = (comparison.metric(), &comparison.dataset);
    let mut columns = Columns {
        rows: &comparison.rows,
        table: Table {
            caption: comparison.name.clone(),
            columns: Vec::new(),
            rows: vec![Vec::new(); comparison.rows.len()],
        },
    };
    let mean = |summary: &Option<Summary>| summary.as_ref().map(|s| s.mean);
    let interval = |row: &Row| row.metric.as_ref()?.interval;
    let count = |_: &Row, n: usize| format::count_short(n as f64);
    let bytes = |_: &Row, n: f64| format::bytes(n);
    let number = Column::number;

    columns.hidden("dataset", |_| Some(dataset.name.as_str()));
    columns.hidden("stand_in_for", |_| {
        Some(dataset.stand_in_for.as_deref().unwrap_or_default())
    });
    columns.hidden("backbone", |_| Some(comparison.backbone.label()));
    columns.add(Column::text("label", "method", "method", 0), |_, r| {
        Cell::text(r.label.clone())
    });
    columns.hidden("method", |r| Some(r.method.clone()));
    columns.hidden("variant", |r| Some(r.variant.clone()));
    columns.hidden("standing", |r| Some(r.standing.name()));
    let absent = || Cell::of(None::<f64>, String::new);
    let letters = Column::text("letters", "letters", "letters", 1);
    columns.add(letters, |_, r| match &r.standing {
        Standing::Invalid { .. } => Cell {
            text: "invalid".into(),
            value: Value::Null,
        },
        _ if r.letters.is_empty() => absent(),
        _ => Cell::text(r.letters.clone()),
    });
    let verdict = Column::text("verdict", "verdict", "against the highest mean", 2);
    columns.add(verdict, |i, _| match comparison.ranked() {
        [_, _, ..] if i < comparison.ranked().len() => Cell::text(comparison.verdict_on(i)),
        _ => absent(),
    });
    let title = format::metric_title(metric);
    let short = match title.strip_suffix(" (%)") {
        Some(name) => format!("{name} %"),
        None => title.trim_end_matches(" correlation").to_owned(),
    };
    let (name, long) = (format!("{metric}_mean"), format!("{title} ± sd"));
    columns.shown(
        number(&name, &short, &long, 0),
        |r| mean(&r.metric),
        |r, mean| format::metric_spread(metric, mean, r.metric.as_ref().and_then(|m| m.sd)),
    );
    columns.hidden(&format!("{metric}_sd"), |r| r.metric.as_ref()?.sd);
    columns.hidden(&format!("{metric}_standard_error"), |r| r.standard_error);
    let (name, title) = (format!("{metric}_low_95"), "95 % interval");
    columns.shown(
        number(&name, title, &format!("{title} over seeds and examples"), 3),
        |r| Some(interval(r)?[0]),
        |r, _| format::metric_interval(metric, interval(r).unwrap_or_default()),
    );
    columns.hidden(&format!("{metric}_high_95"), |r| Some(interval(r)?[1]));
    let parameters = number("parameters", "params", "trained parameters", 0);
    columns.shown(parameters, |r| Some(r.parameters?.method), count);
    let share = number("share_of_backbone", "of bb.", "of the backbone", 6);
    columns.shown(share, Row::share_of_backbone, |_, x| format::share(x));
    let head = number("head_parameters", "head", "head", 12);
    columns.shown(head, |r| Some(r.parameters?.head), count);
    columns.hidden("backbone_parameters", |r| Some(r.parameters?.backbone));
    columns.hidden("shipped_parameters", |r| Some(r.parameters?.shipped));
    let training = number("training_seconds", "training", "training time", 3);
    let time = |r: &Row, seconds: f64| r.marked(format::seconds(seconds));
    columns.shown(training, |r| mean(&r.training_seconds), time);
    columns.hidden("busy", |r| Some(r.busy));
    columns.hidden("examples_per_second", |r| mean(&r.examples_per_second));
    columns.hidden("tokens_per_second", |r| mean(&r.tokens_per_second));
    let memory = number("peak_memory_bytes", "memory", "peak memory", 4);
    columns.shown(memory, |r| mean(&r.peak_memory_bytes), bytes);
    // The ratio before the times: times of two rows may come from two states of the machine.
    for (variant, title, prefix, rank) in [
        ("unmerged", "latency", "", 4),
        ("merged", "merged", "merged ", 7),
    ] {
        let name = |what: &str| format!("{}latency_{what}", prefix.replace(' ', "_"));
        let ratio = |r: &Row| r.over_backbone(variant);
        let long = format!("{prefix}latency over the backbone");
        columns.shown(
            number(&name("over_backbone"), title, &long, rank),
            |r| Some(ratio(r)?.ratio),
            |r, _| {
                let text = ratio(r).map(|x| latency::overhead_text(&x, comparison.latency_noise));
                r.marked(text.unwrap_or_default())
            },
        );
        for (k, end) in ["low", "high"].into_iter().enumerate() {
            columns.hidden(&name(&format!("over_backbone_{end}_95")), |r| {
                Some(ratio(r)?.interval?[k])
            });
        }
        let title = format!("{prefix}p50/p99 ms");
        let long = format!("{prefix}latency p50/p99 (ms)");
        columns.shown(
            number(&name("p50_ms"), &title, &long, rank + 4),
            |r| Some(r.sentence(variant)?.p50_ms.mean),
            |r, _| r.marked(r.sentence(variant).map_or_else(String::new, |l| l.text())),
        );
        columns.hidden(&name("p99_ms"), |r| mean(&r.sentence(variant)?.p99_ms));
    }
    columns.hidden("backbone_latency_p50_ms", |r| {
        Some(r.sentence(latency::BACKBONE)?.p50_ms.mean)
    });
    columns.hidden("latency_noise", |_| comparison.latency_noise);
    let file = number("file_bytes", "file", "file", 5);
    columns.shown(file, |r| mean(&r.file_bytes), bytes);
    let loaded = number("resident_bytes", "loaded", "loaded beside the backbone", 10);
    columns.shown(loaded, |r| mean(&r.resident_bytes), bytes);
    let seeds = number("runs_ok", "seeds", "seeds ok", 9);
    let of_all = |r: &Row, well: usize| format!("{well}/{}", r.runs.len());
    columns.shown(seeds, |r| Some(r.ended_well().0), of_all);
    columns.hidden("runs", |r| Some(r.runs.len()));
    type Of = fn(Calibration) -> f64;
    let calibrations: [(&str, Of); 4] = [
        ("ece", |c| c.ece),
        ("ece_floor", |c| c.ece_floor),
        ("brier", |c| c.brier),
        ("nll", |c| c.nll),
    ];
    for (name, of) in calibrations {
        columns.hidden(name, |r| r.calibration.map(of));
    }
    let metrics = comparison.rows.iter().flat_map(|r| r.metrics.keys());
    for name in metrics.filter(|k| *k != metric).collect::<BTreeSet<_>>() {
        columns.hidden(&format!("{name}_mean"), |r| Some(r.metrics.get(name)?.mean));
    }
    columns.hidden("troubles", |r| Some(r.troubles().join("; ")));
    columns.table
}

/// What is said under the table: troubles and notes.
fn remarks(comparison: &Comparison) -> Vec<String> {
    let troubles = comparison.rows.iter().flat_map(|row| {
        let own = row.troubles().into_iter();
        own.map(move |t| format!("{}: {t}", row.label))
    });
    troubles.chain(comparison.notes.iter().cloned()).collect()
}

/// How to read letters and verdicts; absent where nothing was tested.
pub(crate) fn legend(comparison: &Comparison) -> Option<String> {
    let legend = || words::legend(comparison.metric(), comparison.margin);
    comparison.is_tested().then(legend)
}

/// A table for a terminal of this width with the answer in words above it. Columns that do not fit are left out and named. With
/// `colour`, ANSI colours are used: the caller decides after `NO_COLOR` and whether it is a terminal at all.
pub fn terminal(comparison: &Comparison, width: usize, colour: bool) -> String {
    let paint = |code: &str, text: &str| match colour {
        true => format!("\x1b[{code}m{text}\x1b[0m"),
        false => text.to_owned(),
    };
    let table = table(comparison);
    let (lines, left_out) = table.lines(width);
    let mut text = paint("1", &wrap(&comparison.name, width)) + "\n";
    for sentence in comparison.answer() {
        text += &(wrap(&sentence, width) + "\n");
    }
    text += &format!("\n{}\n", paint("2", &lines[0]));
    for ((i, row), line) in comparison.rows.iter().enumerate().zip(&lines[1..]) {
        text += &match &row.standing {
            Standing::Ranked if comparison.leads(i) => paint("32", line),
            Standing::Ranked => line.clone(),
            Standing::Invalid { .. } => paint("31", line),
            Standing::Unfinished => paint("33", line),
        };
        text.push('\n');
    }
    text.push('\n');
    let remarks = remarks(comparison).into_iter().map(|r| format!("! {r}"));
    for said in legend(comparison).into_iter().chain(remarks) {
        text += &(wrap(&said, width) + "\n");
    }
    if !left_out.is_empty() {
        let left_out = left_out.join(", ");
        let more = format!("A wider terminal and the report also show: {left_out}.");
        text += &(paint("2", &wrap(&more, width)) + "\n");
    }
    text
}

/// A Markdown section: heading, answer, table, remarks.
pub fn markdown(comparison: &Comparison) -> String {
    let mut text = format!(
        "## {}\n\n{}\n\n{}\n",
        markdown_text(&comparison.name),
        markdown_text(&comparison.answer().join(" ")),
        table(comparison).markdown()
    );
    if let Some(legend) = legend(comparison) {
        text += &format!("{legend}\n\n");
    }
    for remark in remarks(comparison) {
        text += &format!("- {}\n", markdown_text(&remark));
    }
    text
}

/// A LaTeX table with booktabs.
pub fn latex(comparison: &Comparison) -> String {
    // What a mark beside a time means has to stand with it.
    let marked = comparison.costs.notes.iter();
    let marked = marked.filter(|note| note.starts_with(MARK));
    let marked: String = marked.map(|note| format!(" {note}")).collect();
    let caption = format!(
        "{}. {}, {} judged. {}{marked}",
        comparison.name,
        format::plural(comparison.seeds.len(), "seed"),
        format::plural(comparison.dataset.validation_examples, "example"),
        legend(comparison).unwrap_or_else(|| words::too_few_seeds(comparison.seeds.len()))
    );
    let best = format!("{}_mean", comparison.metric());
    table(comparison).latex(PAPER, comparison.is_tested().then_some(&*best), &caption)
}

/// Everything derived from the records, for other programs.
pub fn json(comparison: &Comparison) -> Value {
    // A comparison holds finite numbers only, so this cannot fail; and if, the reader sees why.
    let mut value =
        serde_json::to_value(comparison).unwrap_or_else(|e| json!({ "error": e.to_string() }));
    value["answer"] = json!(comparison.answer());
    let (recommended, _) = comparison.recommended(&comparison.eligible());
    value["recommended"] = json!(recommended.map(|i| &comparison.rows[i].label));
    value["table"] = table(comparison).json();
    let pairs = value["pairs"].as_array_mut().into_iter().flatten();
    for (pair, said) in comparison.pairs.iter().zip(pairs) {
        said["tested"] = json!(pair.is_tested());
        said["words"] = json!(pair.needs.as_ref().map(words::needs));
    }
    value
}

/// How the runs of a comparison ended: e.g. `14 runs ended well, 1 diverged`.
pub fn status_counts(comparison: &Comparison) -> String {
    let count = |name: &str| {
        let ended = comparison.records.iter().map(|r| r.status.name());
        ended.filter(|ended| *ended == name).count()
    };
    let mut text = format!("{} ended well", format::plural(count("ok"), "run"));
    for name in ["diverged", "failed", "interrupted"] {
        if count(name) > 0 {
            text += &format!(", {} {name}", count(name));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use record::Status;

    use super::*;
    use crate::sample::Sample;

    #[test]
    fn in_a_table_for_a_paper_all_that_is_highest_is_bold_and_a_mark_is_explained() {
        let busy = |method: &str, seed| {
            let run = Sample::new(method).seed(seed);
            run.with(|r| r.circumstances.load = Some(2.0)).record()
        };
        let records: Vec<_> = ["lora", "adapter"]
            .iter()
            .flat_map(|method| (0..3).map(move |seed| busy(method, seed)))
            .collect();
        let text = latex(&Comparison::from_records(&records)[0]);
        assert_eq!(text.matches("\\textbf{90.0").count(), 2, "{text}");
        assert!(text.contains("60.0 s*"), "{text}");
        assert!(text.contains("* Measured while other work"), "{text}");
    }

    fn example() -> Comparison {
        let run = |m: &str, seed, wrong: usize| {
            Sample::new(m)
                .seed(seed)
                .right(200, move |i| i >= wrong + seed as usize)
        };
        let mut records = Vec::new();
        for seed in 0..3 {
            records.push(
                run("lora", seed, 30)
                    .latency("unmerged", 5.0, 7.5)
                    .latency("merged", 4.0, 6.0)
                    .latency("backbone", 4.0, 6.1)
                    .record(),
            );
            records.push(
                run("full", seed, 28)
                    .parameters(22_713_216)
                    .training_seconds(245.0)
                    .memory(Some(1_200_000_000))
                    .file_bytes(90_900_000)
                    .latency("unmerged", 4.0, 6.0)
                    .record(),
            );
            records.push(
                run("head_only", seed, 70)
                    .parameters(0)
                    .training_seconds(3.0)
                    .memory(None)
                    .file_bytes(3_300)
                    .record(),
            );
        }
        records.push(
            Sample::new("adapter")
                .right(200, |_| true)
                .seed(0)
                .ended(Status::Diverged {
                    step: 12,
                    reason: "loss is NaN".into(),
                })
                .record(),
        );
        Comparison::from_records(&records).remove(0)
    }

    #[test]
    fn the_terminal_table_fits_80_columns_and_names_what_is_left_out() {
        let text = terminal(&example(), 80, false);
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }

    #[test]
    fn sentences_that_were_false_or_clumsy_do_not_come_back() {
        let runs = |seeds: u64, wrong: [usize; 3]| -> Vec<record::RunRecord> {
            let methods = ["lora", "adapter", "majority"].into_iter().zip(wrong);
            let each = methods.flat_map(|(method, wrong)| {
                (0..seeds).map(move |seed| {
                    let right = move |i: usize| i >= wrong;
                    let run = Sample::new(method).seed(seed).right(400, right);
                    run.latency("unmerged", 5.0, 7.5).record()
                })
            });
            each.collect()
        };
        let stand_in = Sample::new("lora").stand_in_for("sst2").record();
        let scenes = [
            runs(1, [40, 41, 200]),
            runs(3, [40, 40, 200]),
            runs(3, [200, 210, 200]),
            vec![stand_in],
        ];
        for records in scenes {
            let report =
                crate::Report::new(records, Default::default(), &Default::default()).unwrap();
            let comparison = &report.comparisons[0];
            let page = report.page().unwrap();
            let (body, _) = page.split_once("<script").unwrap();
            let text = terminal(comparison, 1000, false) + body;
            for kind in [
                "be had",
                "about 0.0 points",
                "within 0.0 points",
                "chance explains",
                "told apart",
                "fits too",
                "best at",
                "If it is none",
            ] {
                assert!(!text.contains(kind), "{kind}: {text}");
            }
            let answer = comparison.answer().join(" ");
            let floor = ["is majority", "fits: majority"];
            assert!(!floor.iter().any(|f| answer.contains(f)), "{answer}");
        }
    }

    #[test]
    fn a_wide_terminal_shows_all_columns_and_colours_only_if_asked() {
        let comparison = example();
        let wide = terminal(&comparison, 200, false);
        assert!(
            wide.contains("95 % interval")
                && wide.contains("file")
                && !wide.contains("wider terminal"),
            "{wide}"
        );
        assert!(!wide.contains('\x1b'));
        assert!(terminal(&comparison, 200, true).contains("\x1b[32mfull"));
    }
}
