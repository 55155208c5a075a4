//! The table of what each method can do, found out by trying it.

use anyhow::Result;
use methods::{Capabilities, capabilities, registry};
use reports::table::wrap;
use serde_json::{Value, json};

use crate::formats;

const HEADER: [&str; 7] = [
    "method",
    "acts on",
    "mergeable",
    "mixed batches",
    "written as",
    "trained parameters",
    "in a comparison",
];

const LEGEND: &str = "H hidden, I intermediate, L layers; names are the method's own keys (of a list: its length); \
                      b = H / reduction_factor; w = width, H where it is null.\n\
                      * what is shipped is smaller: it is what the trained parameters make.\n";

/// The table as Markdown, columns aligned; where that is wider than so many columns, a paragraph per method.
///
/// # Errors
/// If a method cannot be tried.
pub fn table(width: usize) -> Result<String> {
    let mut rows = vec![HEADER.map(str::to_owned)];
    for entry in registry::ALL {
        rows.push(row(&capabilities(entry)?));
    }
    let widths: Vec<usize> = (0..HEADER.len())
        .map(|i| {
            rows.iter()
                .map(|row| row[i].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let line = |cells: &[String]| {
        let cells = cells.iter().zip(&widths);
        let cells: Vec<String> = cells
            .map(|(cell, &width)| format!("{cell:width$}"))
            .collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let dashes: Vec<String> = widths.iter().map(|w| "-".repeat(*w)).collect();
    if line(&rows[0]).chars().count() > width.saturating_add(1) {
        let words = wrap(of_language_models()?.trim_end(), width);
        return Ok(format!("{}{words}\n", paragraphs(&rows[1..], width)));
    }
    let mut table = line(&rows[0]) + &line(&dashes);
    for row in &rows[1..] {
        table += &line(row);
    }
    table += &format!("\n{LEGEND}{}", of_language_models()?);
    Ok(table)
}

/// The defaults that differ where a language model answers with its own words, in a sentence.
fn of_language_models() -> Result<String> {
    let mut all = Vec::new();
    for entry in registry::ALL {
        let keys = methods::of_language_models(entry.name)?;
        let keys = keys.iter().map(|(key, value)| match value.as_str() {
            Some(text) => format!("{key} {text}"),
            None => format!("{key} {value}"),
        });
        let keys: Vec<String> = keys.collect();
        if !keys.is_empty() {
            all.push(format!("{} {}", entry.name, keys.join(" and ")));
        }
    }
    Ok(format!(
        "Where a language model answers with its own words, other defaults hold: {}.\n",
        all.join("; ")
    ))
}

/// Each row as lines that are not longer than this.
fn paragraphs(rows: &[[String; 7]], width: usize) -> String {
    let indent = rows.iter().map(|row| row[0].len()).max().unwrap_or(0) + 2;
    let room = width.saturating_sub(indent).max(20);
    let mut text = String::new();
    for row in rows {
        let [
            name,
            acts_on,
            mergeable,
            mixed,
            formats,
            parameters,
            standard,
        ] = row;
        let sentences = [
            format!("acts on: {acts_on}"),
            format!("trains: {parameters}"),
            format!(
                "mergeable: {mergeable}; mixed batches: {mixed}; written as: {formats}; in a comparison: {standard}"
            ),
        ];
        let lines = sentences
            .iter()
            .flat_map(|s| wrap(s, room).lines().map(str::to_owned).collect::<Vec<_>>());
        for (i, line) in lines.enumerate() {
            let name = if i == 0 { name.as_str() } else { "" };
            text += &format!("{name:indent$}{line}\n");
        }
    }
    text + "\n"
        + &LEGEND
            .lines()
            .map(|l| wrap(l, width) + "\n")
            .collect::<String>()
}

fn row(found: &Capabilities) -> [String; 7] {
    let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
    let acts_on = if found.acts_on.is_empty() {
        "nothing".to_owned()
    } else {
        found.acts_on.join(", ")
    };
    let star = if found.ships_less { " *" } else { "" };
    [
        found.method.to_owned(),
        acts_on,
        yes(found.mergeable),
        yes(found.mixed_batches),
        [
            &["own"],
            formats::of(found.method, found.mergeable).as_slice(),
        ]
        .concat()
        .join(", "),
        format!("{}{star}", found.parameters),
        if found.standard {
            "standard"
        } else {
            "by name"
        }
        .to_owned(),
    ]
}

/// By method: what it can do, and its default configuration.
///
/// # Errors
/// If a method cannot be tried.
pub fn json() -> Result<Vec<(String, Value)>> {
    registry::ALL
        .iter()
        .map(|entry| {
            let config = methods::resolve(entry.name, &Default::default())?.config;
            let found = capabilities(entry)?;
            Ok((
                entry.name.to_owned(),
                json!({
                    "formats": formats::of(found.method, found.mergeable),
                    "capabilities": found,
                    "config": config,
                    "language_model": methods::of_language_models(entry.name)?,
                }),
            ))
        })
        .collect()
}
