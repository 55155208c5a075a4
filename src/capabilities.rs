//! The table of what each method can do, found out by trying it.

use anyhow::Result;
use methods::{Capabilities, capabilities, registry};
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

/// The table as Markdown, columns aligned.
///
/// # Errors
/// If a method cannot be tried.
pub fn table() -> Result<String> {
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
    let mut table = line(&rows[0]) + &line(&dashes);
    for row in &rows[1..] {
        table += &line(row);
    }
    table += "\nH hidden, I intermediate, L layers; names are the method's own keys (of a list: its length); \
              b = H / reduction_factor; w = width, H where it is null.\n\
              * what is shipped is smaller: it is what the trained parameters make.\n";
    Ok(table)
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
                }),
            ))
        })
        .collect()
}
