//! `cite`: BibTeX of what a report used.
//!
//! `references.bib` holds every entry once; its `keywords` say what it is cited for: a method, a backbone, a data set, or
//! `statistics`.

use std::{collections::BTreeSet, path::Path, process::ExitCode};

use anyhow::{Result, ensure};

use crate::records;

/// All entries.
const REFERENCES: &str = include_str!("references.bib");

/// The entries of a BibTeX file that are cited for one of these.
fn cited<'a>(bib: &'a str, names: &BTreeSet<String>) -> Vec<&'a str> {
    let entries = bib
        .split("\n\n")
        .map(str::trim)
        .filter(|e| e.starts_with('@'));
    entries
        .filter(|entry| keywords(entry).any(|keyword| names.contains(keyword)))
        .collect()
}

fn keywords(entry: &str) -> impl Iterator<Item = &str> {
    let list = entry
        .lines()
        .find_map(|line| line.trim().strip_prefix("keywords = {"));
    let list = list.and_then(|l| l.split('}').next()).unwrap_or_default();
    list.split(',').map(str::trim)
}

/// `cite`.
///
/// # Errors
/// If there are no records.
pub fn cite(folder: &Path) -> Result<ExitCode> {
    let records = records::read(folder)?;
    ensure!(
        !records.is_empty(),
        "{}: no records there; run peftbench compare first",
        folder.display()
    );
    let mut names = BTreeSet::from(["statistics".to_owned()]);
    let mut missing = BTreeSet::new();
    for record in &records {
        let asked = &record.asked;
        for name in [
            &asked.method.name,
            &asked.backbone.name,
            &asked.dataset.name,
        ] {
            names.insert(name.clone());
            let known = !cited(REFERENCES, &BTreeSet::from([name.clone()])).is_empty();
            if !known && !UNCITED.contains(&name.as_str()) {
                missing.insert(name.clone());
            }
        }
    }
    for entry in cited(REFERENCES, &names) {
        say!("{entry}\n")?;
    }
    for name in missing {
        eprintln!("note: there is no entry for '{name}': cite it as its makers ask");
    }
    Ok(ExitCode::SUCCESS)
}

/// What nobody has to be cited for.
const UNCITED: [&str; 6] = [
    "full",
    "head_only",
    "linear_probe",
    "majority",
    "random_features",
    "zero_shot",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backbones;

    #[test]
    fn every_method_backbone_and_data_set_has_an_entry() {
        let methods = methods::registry::ALL.iter().map(|e| e.name);
        for name in methods.chain(backbones::names()).chain(datasets::names()) {
            let entries = cited(REFERENCES, &BTreeSet::from([name.to_owned()]));
            assert_eq!(entries.is_empty(), UNCITED.contains(&name), "{name}");
        }
    }

    #[test]
    fn every_entry_is_well_formed_has_a_key_of_its_own_and_is_cited_for_something() {
        let mut keys = BTreeSet::new();
        let entries = REFERENCES.split("\n\n").map(str::trim);
        for entry in entries.filter(|e| e.starts_with('@')) {
            let key = entry
                .split_once('{')
                .and_then(|(_, rest)| rest.split_once(','));
            let key = key.map_or("", |(key, _)| key);
            assert!(!key.is_empty() && keys.insert(key), "{entry}");
            let count = |c| entry.matches(c).count();
            assert_eq!(count('{'), count('}'), "{key}");
            // What BibTeX asks of each kind.
            let of_kind = match entry.split('{').next() {
                Some("@article") => "journal",
                Some("@inproceedings") => "booktitle",
                _ => "title",
            };
            for field in ["title", "author", "year", "keywords", of_kind] {
                assert!(entry.contains(&format!("  {field} = {{")), "{key}: {field}");
            }
            assert!(keywords(entry).all(|k| !k.is_empty()), "{key}");
        }
        assert!(keys.len() > 20);
    }
}
