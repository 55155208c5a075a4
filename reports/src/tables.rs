//! The table of a comparison: its columns and cells, and what stands around them.

use serde_json::{Value, json};

use record::Status;
use statistics::Summary;

use crate::{
    Result,
    comparison::Comparison,
    costs::MARK,
    format, latency,
    row::{Row, Standing},
    table::{Cell, Column, Table, markdown_text, wrap},
    words,
};

type Make<'a> = Box<dyn Fn(usize, &Row) -> Cell + 'a>;

/// Columns up to this rank are in LaTeX.
const PAPER: u8 = 4;

/// The table of a comparison, highest mean first.
pub fn table<'a>(comparison: &'a Comparison) -> Table {
    let metric = comparison.metric();
    let mut columns: Vec<(Column, Make<'a>)> = Vec::new();
    let mut add = |column: Column, cell: Make<'a>| columns.push((column, cell));
    let hidden =
        |f: fn(&Row) -> Value| -> Make<'a> { Box::new(move |_, r| Cell::hidden(Some(f(r)))) };
    // A mean over seeds with its text.
    fn shown<'b>(of: fn(&Row) -> &Option<Summary>, show: fn(f64) -> String) -> Make<'b> {
        Box::new(move |_, r| {
            let mean = of(r).as_ref().map(|s| s.mean);
            Cell::of(mean, || show(mean.unwrap_or_default()))
        })
    }
    fn quiet<'b>(of: impl Fn(&Row) -> Option<f64> + 'b) -> Make<'b> {
        Box::new(move |_, r| Cell::hidden(of(r)))
    }
    let count = |f: fn(&record::Parameters) -> usize| -> Make<'a> {
        Box::new(move |_, r| {
            let n = r.parameters.as_ref().map(f);
            Cell::of(n, || format::count_short(n.unwrap_or_default() as f64))
        })
    };

    for (name, value) in [
        ("dataset", comparison.dataset.name.clone()),
        (
            "stand_in_for",
            comparison.dataset.stand_in_for.clone().unwrap_or_default(),
        ),
        ("backbone", comparison.backbone.label()),
    ] {
        add(
            Column::hidden(name),
            Box::new(move |_, _| Cell::hidden(Some(value.clone()))),
        );
    }
    add(
        Column::text("label", "method", "method", 0),
        Box::new(|_, r| Cell::text(r.label.clone())),
    );
    add(Column::hidden("method"), hidden(|r| json!(r.method)));
    add(Column::hidden("variant"), hidden(|r| json!(r.variant)));
    add(
        Column::hidden("standing"),
        hidden(|r| json!(r.standing.name())),
    );
    add(
        Column::text("letters", "letters", "letters", 1),
        Box::new(|_, r| match &r.standing {
            Standing::Invalid { .. } => Cell {
                text: "invalid".into(),
                value: Value::Null,
            },
            _ => Cell::of((!r.letters.is_empty()).then(|| r.letters.clone()), || {
                r.letters.clone()
            }),
        }),
    );
    add(
        Column::text("verdict", "verdict", "against the highest mean", 2),
        Box::new(|i, r| {
            let text = match (&r.standing, i) {
                (Standing::Ranked, 0) if comparison.ranked().len() > 1 => "highest mean",
                (Standing::Ranked, i) if i > 0 => comparison
                    .pair(0, i)
                    .map_or(words::NOT_TESTED, |p| p.verdict_text(true)),
                _ => return Cell::of(None::<f64>, String::new),
            };
            Cell::text(text)
        }),
    );
    let short = match format::in_percent(metric) {
        true => format!(
            "{} %",
            format::metric_title(metric).trim_end_matches(" (%)")
        ),
        false => format::metric_title(metric)
            .trim_end_matches(" correlation")
            .to_owned(),
    };
    add(
        Column::number(
            &format!("{metric}_mean"),
            &short,
            &format!("{} ± sd", format::metric_title(metric)),
            0,
        ),
        Box::new(|_, r| match &r.metric {
            Some(m) => Cell::of(Some(m.mean), || format::metric_spread(metric, m.mean, m.sd)),
            None => Cell::of(None::<f64>, String::new),
        }),
    );
    add(
        Column::hidden(&format!("{metric}_sd")),
        quiet(|r| r.metric.as_ref()?.sd),
    );
    add(
        Column::hidden(&format!("{metric}_standard_error")),
        quiet(|r| r.standard_error),
    );
    add(
        Column::number(
            &format!("{metric}_low_95"),
            "95 % interval",
            "95 % interval over seeds and examples",
            3,
        ),
        Box::new(|_, r| match r.metric.as_ref().and_then(|m| m.interval) {
            Some(interval) => Cell::of(Some(interval[0]), || {
                format::metric_interval(metric, interval)
            }),
            None => Cell::of(None::<f64>, String::new),
        }),
    );
    add(
        Column::hidden(&format!("{metric}_high_95")),
        quiet(|r| Some(r.metric.as_ref()?.interval?[1])),
    );
    add(
        Column::number("parameters", "params", "trained parameters", 0),
        count(|p| p.method),
    );
    add(
        Column::number("share_of_backbone", "of bb.", "of the backbone", 6),
        Box::new(|_, r| {
            let share = r.share_of_backbone();
            Cell::of(share, || format::share(share.unwrap_or_default()))
        }),
    );
    add(
        Column::number("head_parameters", "head", "head", 12),
        count(|p| p.head),
    );
    add(Column::hidden("backbone_parameters"), count(|p| p.backbone));
    add(Column::hidden("shipped_parameters"), count(|p| p.shipped));
    add(
        Column::number("training_seconds", "training", "training time", 3),
        Box::new(|_, r| {
            let mean = r.training_seconds.as_ref().map(|s| s.mean);
            Cell::of(mean, || r.marked(format::seconds(mean.unwrap_or_default())))
        }),
    );
    add(Column::hidden("busy"), hidden(|r| json!(r.busy)));
    add(
        Column::hidden("examples_per_second"),
        quiet(|r| Some(r.examples_per_second.as_ref()?.mean)),
    );
    add(
        Column::hidden("tokens_per_second"),
        quiet(|r| Some(r.tokens_per_second.as_ref()?.mean)),
    );
    add(
        Column::number("peak_memory_bytes", "memory", "peak memory", 4),
        shown(|r| &r.peak_memory_bytes, format::bytes),
    );
    // The ratio before the times: times of two rows may come from two states of the machine.
    for (variant, ratio, p50, p99, rank) in [
        (
            "unmerged",
            "latency_over_backbone",
            "latency_p50_ms",
            "latency_p99_ms",
            4,
        ),
        (
            "merged",
            "merged_latency_over_backbone",
            "merged_latency_p50_ms",
            "merged_latency_p99_ms",
            7,
        ),
    ] {
        let merged = if variant == "merged" { "merged " } else { "" };
        let title = if merged.is_empty() {
            "latency"
        } else {
            "merged"
        };
        add(
            Column::number(
                ratio,
                title,
                &format!("{merged}latency over the backbone"),
                rank,
            ),
            Box::new(move |_, r| {
                let found = r.over_backbone(variant);
                let text = || {
                    found.map_or_else(String::new, |r| {
                        latency::overhead_text(&r, comparison.latency_noise)
                    })
                };
                let text = || r.marked(text());
                Cell::of(found.map(|r| r.ratio), text)
            }),
        );
        let bound = move |r: &Row, k: usize| Some(r.over_backbone(variant)?.interval?[k]);
        add(
            Column::hidden(&format!("{ratio}_low_95")),
            quiet(move |r| bound(r, 0)),
        );
        add(
            Column::hidden(&format!("{ratio}_high_95")),
            quiet(move |r| bound(r, 1)),
        );
        add(
            Column::number(
                p50,
                &format!("{merged}p50/p99 ms"),
                &format!("{merged}latency p50/p99 (ms)"),
                rank + 4,
            ),
            Box::new(move |_, r| {
                let found = r.sentence(variant);
                Cell::of(found.map(|l| l.p50_ms.mean), || {
                    r.marked(found.map_or_else(String::new, |l| l.text()))
                })
            }),
        );
        add(
            Column::hidden(p99),
            quiet(move |r| Some(r.sentence(variant)?.p99_ms.as_ref()?.mean)),
        );
    }
    add(
        Column::hidden("backbone_latency_p50_ms"),
        quiet(|r| Some(r.sentence(latency::BACKBONE)?.p50_ms.mean)),
    );
    add(
        Column::hidden("latency_noise"),
        quiet(|_| comparison.latency_noise),
    );
    add(
        Column::number("file_bytes", "file", "file", 5),
        shown(|r| &r.file_bytes, format::bytes),
    );
    add(
        Column::number("resident_bytes", "loaded", "loaded beside the backbone", 10),
        shown(|r| &r.resident_bytes, format::bytes),
    );
    add(
        Column::number("runs_ok", "seeds", "seeds ok", 9),
        Box::new(|_, r| {
            let (well, all) = r.ended_well();
            Cell::of(Some(well), || format!("{well}/{all}"))
        }),
    );
    add(Column::hidden("runs"), hidden(|r| json!(r.ended_well().1)));
    add(Column::hidden("ece"), quiet(|r| Some(r.calibration?.ece)));
    add(
        Column::hidden("ece_floor"),
        quiet(|r| Some(r.calibration?.ece_floor)),
    );
    add(
        Column::hidden("brier"),
        quiet(|r| Some(r.calibration?.brier)),
    );
    add(Column::hidden("nll"), quiet(|r| Some(r.calibration?.nll)));
    let others = comparison
        .rows
        .iter()
        .flat_map(|r| r.metrics.keys())
        .filter(|k| *k != metric);
    for name in others.collect::<std::collections::BTreeSet<_>>() {
        add(
            Column::hidden(&format!("{name}_mean")),
            quiet(move |r| Some(r.metrics.get(name)?.mean)),
        );
    }
    add(
        Column::hidden("troubles"),
        hidden(|r| json!(r.troubles().join("; "))),
    );

    let row = |(i, row): (usize, &Row)| columns.iter().map(|(_, cell)| cell(i, row)).collect();
    let rows = comparison.rows.iter().enumerate().map(row).collect();
    Table {
        caption: comparison.name.clone(),
        rows,
        columns: columns.into_iter().map(|(column, _)| column).collect(),
    }
}

/// What is said under the table: troubles and notes.
fn remarks(comparison: &Comparison) -> Vec<String> {
    let troubles = comparison.rows.iter().flat_map(|row| {
        row.troubles()
            .into_iter()
            .map(move |t| format!("{}: {t}", row.label))
    });
    troubles.chain(comparison.notes.iter().cloned()).collect()
}

fn legend(comparison: &Comparison) -> Option<String> {
    comparison
        .is_tested()
        .then(|| words::legend(comparison.metric(), comparison.margin))
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
    for (row, line) in comparison.rows.iter().zip(&lines[1..]) {
        text += &match &row.standing {
            Standing::Ranked if row.letters.contains('a') => paint("32", line),
            Standing::Ranked => line.clone(),
            Standing::Invalid { .. } => paint("31", line),
            Standing::Unfinished => paint("33", line),
        };
        text.push('\n');
    }
    text.push('\n');
    if let Some(legend) = legend(comparison) {
        text += &(wrap(&legend, width) + "\n");
    }
    for remark in remarks(comparison) {
        text += &(wrap(&format!("! {remark}"), width) + "\n");
    }
    if !left_out.is_empty() {
        let more = format!(
            "A wider terminal and the report also show: {}.",
            left_out.join(", ")
        );
        text += &(paint("2", &wrap(&more, width)) + "\n");
    }
    text
}

/// A Markdown section: heading, answer, table, remarks.
pub fn markdown(comparison: &Comparison) -> String {
    let answer: Vec<String> = comparison
        .answer()
        .iter()
        .map(|s| markdown_text(s))
        .collect();
    let mut text = format!(
        "## {}\n\n{}\n\n{}\n",
        markdown_text(&comparison.name),
        answer.join(" "),
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

/// One line per method in basic units (fractions, seconds, bytes, milliseconds); absent values are empty.
///
/// # Errors
/// If the table cannot be built; not expected.
pub fn csv(comparison: &Comparison, safe: bool) -> Result<String> {
    table(comparison).csv(safe)
}

/// Everything derived from the records, for other programs.
pub fn json(comparison: &Comparison) -> Value {
    // A comparison holds finite numbers only, so this cannot fail; and if, the reader sees why.
    let mut value =
        serde_json::to_value(comparison).unwrap_or_else(|e| json!({ "error": e.to_string() }));
    value["answer"] = json!(comparison.answer());
    value["recommended"] = json!(
        comparison
            .recommended(&comparison.eligible())
            .0
            .map(|i| &comparison.rows[i].label)
    );
    value["table"] = table(comparison).json();
    for (pair, said) in comparison
        .pairs
        .iter()
        .zip(value["pairs"].as_array_mut().into_iter().flatten())
    {
        said["tested"] = json!(pair.is_tested());
        said["words"] = json!(pair.needs.as_ref().map(words::needs));
    }
    value
}

/// How the runs of a comparison ended: e.g. `14 runs ended well, 1 diverged`.
pub fn status_counts(comparison: &Comparison) -> String {
    let count = |f: fn(&Status) -> bool| comparison.records.iter().filter(|r| f(&r.status)).count();
    let mut text = format!(
        "{} ended well",
        format::plural(count(|s| *s == Status::Ok), "run")
    );
    for (n, word) in [
        (count(|s| matches!(s, Status::Diverged { .. })), "diverged"),
        (count(|s| matches!(s, Status::Failed { .. })), "failed"),
        (count(|s| *s == Status::Interrupted), "interrupted"),
    ] {
        if n > 0 {
            text += &format!(", {n} {word}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
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
        let labels: Vec<u32> = (0..200).map(|i| i % 2).collect();
        let run = |m: &str, seed, wrong: usize| {
            Sample::new(m)
                .seed(seed)
                .predictions(&labels, move |i| i >= wrong + seed as usize)
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
                .predictions(&labels, |_| true)
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
        println!(
            "{text}\n{}\n{}\n{}",
            markdown(&example()),
            csv(&example(), true).unwrap(),
            serde_json::to_string(&json(&example())["pairs"][0]).unwrap()
        );
    }

    #[test]
    fn sentences_that_were_false_or_clumsy_do_not_come_back() {
        let labels: Vec<u32> = (0..400).map(|i| i % 2).collect();
        let runs = |seeds: u64, wrong: [usize; 3]| -> Vec<record::RunRecord> {
            let methods = ["lora", "adapter", "majority"].into_iter().zip(wrong);
            let each = methods.flat_map(|(method, wrong)| {
                let labels = &labels;
                (0..seeds).map(move |seed| {
                    let right = move |i: usize| i >= wrong;
                    let run = Sample::new(method).seed(seed).predictions(labels, right);
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
