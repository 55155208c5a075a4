//! A study as tables, files and plots.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{point::Point, series::Series, study::Study};
use crate::{
    Result,
    costs::MARK,
    figures::{self, Plot},
    files::Files,
    format,
    table::{Cell, Column, Table, markdown_text, wrap},
    words,
};

/// The table of a study: a row per point.
fn table(study: &Study) -> Table {
    let metric = study.metric();
    let row = |series: &Series, p: &Point| {
        let found = p.metric.as_ref();
        let spread = found.map(|m| format::metric_spread(metric, m.mean, m.sd));
        let interval = found.and_then(|m| m.interval);
        let seconds = p.training_seconds.as_ref().map(|s| s.mean);
        vec![
            Cell::text(series.label.clone()),
            Cell::text(p.label.clone()),
            Cell::of(found.map(|m| m.mean), || spread.unwrap_or_default()),
            match (found.is_some(), p.highest, p.verdict) {
                (false, ..) => Cell::of(None::<f64>, String::new),
                (_, true, _) if series.is_one_point() => Cell::text(words::ALONE),
                (_, true, _) => Cell::text(words::HIGHEST),
                (.., Some(verdict)) => Cell::text(words::verdict(verdict)),
                (.., None) => Cell::text(words::NOT_TESTED),
            },
            Cell::of(interval.map(|[low, _]| low), || {
                format::metric_interval(metric, interval.unwrap_or_default())
            }),
            Cell::of(p.parameters, || {
                format::count(p.parameters.unwrap_or_default())
            }),
            Cell::of(seconds, || {
                let text = format::seconds(seconds.unwrap_or_default());
                if p.busy { text + MARK } else { text }
            }),
        ]
    };
    let title = format::metric_title(metric);
    let columns = vec![
        Column::text("series", "series", "series", 0),
        Column::text("point", &study.axis.title, &study.axis.title, 0),
        Column::number(metric, &title, &title, 0),
        Column::text("verdict", "verdict", "against the highest mean", 1),
        Column::number("low_95", "95 % interval", "95 % interval", 2),
        Column::number("parameters", "parameters", "parameters", 3),
        Column::number("training_seconds", "training", "training", 4),
    ];
    let series = study.series.iter();
    Table::new(
        columns,
        series.flat_map(|s| s.points.iter().map(move |p| row(s, p))),
    )
}

fn legend(study: &Study) -> String {
    format!(
        "Verdicts are against the highest mean of the series ({}), equivalent within {}. {}",
        words::TEST,
        format::metric_difference(study.metric(), study.margin.get()),
        words::UNDECIDED
    )
}

/// A table for a terminal.
pub fn terminal(study: &Study, width: usize) -> String {
    let mut text = format!(
        "{}\n{}\n\n",
        wrap(&study.title, width),
        wrap(&study.question, width)
    );
    text += &table(study).terminal(width);
    text += &format!("\n{}\n", wrap(&legend(study), width));
    let notes = remarks(study).into_iter().map(|r| format!("! {r}"));
    for line in study.findings.iter().cloned().chain(notes) {
        text += &(wrap(&line, width) + "\n");
    }
    text
}

/// Troubles and notes.
fn remarks(study: &Study) -> Vec<String> {
    let points = study.series.iter();
    let points = points.flat_map(|s| s.points.iter().map(move |p| (s, p)));
    let troubles = points.flat_map(|(s, p)| {
        let troubles = p.troubles.iter();
        troubles.map(move |t| format!("{} at {}: {t}", s.label, p.label))
    });
    troubles.chain(study.notes.iter().cloned()).collect()
}

/// A Markdown section.
pub fn markdown(study: &Study) -> String {
    let mut text = format!(
        "## {}\n\n{}",
        markdown_text(&study.title),
        markdown_text(&study.question)
    );
    if let Some(reference) = &study.reference {
        text += &format!(" ({})", markdown_text(reference));
    }
    text += &format!(
        "\n\n{}\n\n{}\n{}\n\n",
        markdown_text(&study.findings.join(" ")),
        table(study).markdown(),
        legend(study)
    );
    for remark in remarks(study) {
        text += &format!("- {}\n", markdown_text(&remark));
    }
    text
}

/// A LaTeX table with booktabs.
pub fn latex(study: &Study) -> String {
    let caption = format!("{} {}", study.title, legend(study));
    table(study).latex(PAPER, None, &caption)
}

/// Columns up to this rank are in LaTeX.
const PAPER: u8 = 3;

/// One line per point and seed, in basic units.
pub(super) fn csv(study: &Study) -> Result<String> {
    let names = [
        "study",
        "dataset",
        "stand_in_for",
        "backbone",
        "series",
        "method",
        "point",
        "x",
        "seed",
        study.metric(),
        "parameters",
        "run",
    ];
    let mut rows = Vec::new();
    for series in &study.series {
        for p in &series.points {
            let values = p.metric.iter().flat_map(|m| &m.values);
            for ((seed, run), metric) in p.seeds.iter().zip(&p.runs).zip(values) {
                let values = [
                    json!(study.name),
                    json!(study.dataset.name),
                    json!(study.dataset.stand_in_for.as_deref().unwrap_or_default()),
                    json!(study.backbone),
                    json!(series.label),
                    json!(series.method),
                    json!(p.label),
                    json!(p.x),
                    json!(seed),
                    json!(metric),
                    json!(p.parameters),
                    json!(run),
                ];
                rows.push(values.map(|v| Cell::hidden(Some(v))).to_vec());
            }
        }
    }
    Table::new(names.map(Column::hidden).to_vec(), rows).csv(true)
}

/// Writes Markdown, LaTeX, CSV, JSON and the plots of a study into a folder; returns the files.
///
/// # Errors
/// If a file cannot be written.
pub fn write(study: &Study, out: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Files::new(out);
    for (ending, content) in [
        ("md", markdown(study)),
        ("tex", latex(study)),
        ("csv", csv(study)?),
        ("json", serde_json::to_string_pretty(study)?),
    ] {
        files.write(&format!("{}.{ending}", study.slug), content)?;
    }
    files.plots(&study.slug, &figures::study_plots(study))?;
    Ok(files.paths)
}

/// The study with its plots as SVG, as the page shows it.
///
/// # Errors
/// If a plot cannot be drawn; not expected.
pub fn page_view(study: &Study) -> Result<Value> {
    let mut view = serde_json::to_value(study)?;
    let plots = figures::study_plots(study);
    let plots: Vec<_> = plots.iter().map(Plot::view).collect::<Result<_>>()?;
    view["plots"] = serde_json::to_value(plots)?;
    view["legend"] = legend(study).into();
    Ok(view)
}
