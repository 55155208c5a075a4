//! A search as tables, files and plots.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use statistics::Expected;

use super::{
    HALVING, Tuning,
    search::{Search, Trial},
};
use crate::{
    Result, figures,
    files::Files,
    format,
    table::{Cell, Column, Table, markdown_text},
};

/// What was drawn, as `key=value, …`.
fn drawn_text(drawn: &BTreeMap<String, Value>) -> String {
    let each = |(key, value)| format!("{key}={}", format::value(value));
    drawn.iter().map(each).collect::<Vec<_>>().join(", ")
}

/// Numbers of trials that tables show: 1, 3, 9, … and all.
fn shown(trials: usize) -> Vec<usize> {
    let powers = (0..).map(|i| HALVING.pow(i));
    let mut shown: Vec<usize> = powers.take_while(|n| *n < trials).collect();
    shown.push(trials);
    shown
}

/// The table: method, the expected best of each number of trials that is shown, what it cost, and the best configuration.
fn table(tuning: &Tuning) -> Table {
    let metric = &tuning.dataset.main_metric;
    let most = tuning.searches.iter().map(|s| s.expected.len()).max();
    let numbers = shown(most.unwrap_or(1));
    let mut columns = vec![Column::text("method", "method", "method", 0)];
    columns.extend(numbers.iter().map(|n| {
        let title = format!("best of {n}");
        Column::number(&format!("best_of_{n}"), &title, &title, 2)
    }));
    let configuration = "best configuration";
    columns.extend([
        Column::number("best", "winner", "winner ± standard error", 0),
        Column::number("steps", "steps", "steps of all trials", 3),
        Column::number("training_seconds", "training", "training of all trials", 3),
        Column::text("configuration", configuration, configuration, 1),
    ]);
    let row = |search: &Search| {
        let expected = numbers.iter().map(|n| {
            let found = search.expected.iter().find(|e| e.trials == *n);
            let sd = |e: &Expected| Some(e.sd).filter(|_| *n > 1);
            let spread = found.map(|e| format::metric_spread(metric, e.mean, sd(e)));
            Cell::of(found.map(|e| e.mean), || spread.unwrap_or_default())
        });
        let best = search.best.map(|i| &search.trials[i]);
        let last = best.and_then(Trial::last);
        let (reached, error) = last.map_or((None, None), |r| (r.metric, r.standard_error));
        let spread = reached.map(|reached| format::metric_spread(metric, reached, error));
        let drawn = best.map(|t| drawn_text(&t.drawn));
        std::iter::once(Cell::text(search.method.clone()))
            .chain(expected)
            .chain([
                Cell::of(reached, || spread.unwrap_or_default()),
                Cell::of(Some(search.steps), || format::count(search.steps)),
                Cell::of(Some(search.seconds), || format::seconds(search.seconds)),
                Cell::of(drawn.clone(), || drawn.unwrap_or_default()),
            ])
            .collect()
    };
    Table::new(columns, tuning.searches.iter().map(row))
}

/// How to read the table.
fn explanation(tuning: &Tuning) -> String {
    let rungs: Vec<String> = tuning.rungs.iter().map(usize::to_string).collect();
    let first = rungs.first().cloned().unwrap_or_default();
    let halving = match rungs.len() {
        0 | 1 => String::new(),
        _ => format!(
            " Successive halving: all trials run {first} steps, and of those that ran so far the best third goes on, to {} steps.",
            rungs[1..].join(" and ")
        ),
    };
    format!(
        "Best of n: expected best of n trials after {first} steps, ± the standard deviation of that best over draws.{halving} The winner is \
         judged once, ± its standard error over the held-out examples, and as the best of several it is flattered. This says how much tuning a \
         method needs, not how good it is: for that see the rows marked as tuned."
    )
}

/// The search with its plot as SVG and its table's cells, as the page shows it.
///
/// # Errors
/// If the plot cannot be drawn; not expected.
pub fn page_view(tuning: &Tuning) -> Result<Value> {
    let plot = figures::tuning_plot(tuning).map(|plot| plot.view());
    Ok(json!({
        "title": tuning.title,
        "metric": tuning.dataset.main_metric,
        "judged_by": tuning.judged_by,
        "explanation": explanation(tuning),
        "table": table(tuning),
        "notes": tuning.notes,
        "plot": plot.transpose()?,
    }))
}

/// A Markdown section: the expected best by number of trials, and the winners. Readable in a terminal too.
pub fn markdown(tuning: &Tuning) -> String {
    let mut text = format!(
        "## {}\n\nExpected best {} on {} (Dodge et al. 2019), and the best configuration. {}\n\n{}\n",
        markdown_text(&tuning.title),
        tuning.dataset.main_metric,
        tuning.judged_by,
        explanation(tuning),
        table(tuning).markdown()
    );
    for note in &tuning.notes {
        text += &format!("- {}\n", markdown_text(note));
    }
    text
}

/// Writes Markdown, JSON and plot of a search into a folder; returns the files.
///
/// # Errors
/// If a file cannot be written or the plot cannot be made.
pub fn write(tuning: &Tuning, out: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Files::new(out);
    files.write(&format!("{}.md", tuning.slug), markdown(tuning))?;
    files.plots(&tuning.slug, figures::tuning_plot(tuning).as_slice())?;
    let json = serde_json::to_string_pretty(tuning)? + "\n";
    files.write(&format!("{}.json", tuning.slug), json)?;
    Ok(files.paths)
}
