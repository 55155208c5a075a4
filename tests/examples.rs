//! The committed examples follow from the records beside them, and the pages of results and studies from the examples.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::support::Place;

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn committed_tables_follow_from_the_records_beside_them() {
    let results = fs::read_dir(docs().join("results")).unwrap();
    let results = results.map(|entry| entry.unwrap().path());
    let all = [docs().join("example")].into_iter().chain(results);
    for folder in all.filter(|path| path.is_dir()) {
        let place = Place::new();
        let records = folder.to_str().unwrap();
        place.ok(&["report", "--records", records, "--out", "again"]);
        let mut tables = 0;
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            let table = name.ends_with(".md") || name.ends_with(".csv");
            if table && name != "README.md" {
                let again = read(&place.path().join("again").join(name));
                assert!(
                    read(&path) == again,
                    "{} is not what its records give today (just examples makes it again): {again}",
                    path.display()
                );
                tables += 1;
            }
        }
        assert!(tables > 1, "{records}: no tables");
    }
}

#[test]
fn tables_of_the_results_are_those_of_the_examples_and_links_lead_somewhere() {
    for page in ["RESULTS.md", "STUDIES.md"] {
        let text = read(&docs().join(page));
        let mut tables = 0;
        for block in text.split("<!-- from ").skip(1) {
            let (from, rest) = block.split_once(" -->\n").unwrap();
            let (table, _) = rest.split_once("\n<!-- end -->").unwrap();
            assert!(
                table.lines().count() > 2 && read(&docs().join(from)).contains(table),
                "{page}: {from} does not hold this table: {table}"
            );
            tables += 1;
        }
        assert!(tables >= 1, "{page}");
        for link in text.split("](").skip(1) {
            let (link, _) = link.split_once(')').unwrap();
            let file = link.split('#').next().unwrap();
            assert!(
                link.starts_with("https://") || docs().join(file).exists(),
                "{page}: {link} leads nowhere"
            );
        }
    }
}

#[test]
fn the_page_of_studies_has_every_claim_with_the_verdict_and_the_evidence_of_the_example() {
    let page = read(&docs().join("STUDIES.md"));
    let claims: Vec<Value> =
        serde_json::from_str(&read(&docs().join("example/claims.json"))).unwrap();
    for claim in &claims {
        let verdict = match claim["verdict"].as_str().unwrap() {
            "holds" => "holds",
            "does_not_hold" => "does not hold",
            _ => "undecided",
        };
        let start = format!("| {} | {verdict} |", claim["claim"].as_str().unwrap());
        let row = page.lines().find(|line| line.starts_with(&start));
        let row = row.unwrap_or_else(|| panic!("no row begins with: {start}"));
        let evidence = claim["evidence"].as_array().unwrap().iter();
        for judged in evidence.filter(|e| e["judged"] == true) {
            let text = judged["text"].as_str().unwrap();
            assert!(row.contains(text), "{text}: {row}");
        }
    }
    assert!(!page.contains("@@"), "a figure has not been filled in");
    let holding = claims.iter().filter(|c| c["verdict"] == "holds").count();
    let readme = read(&docs().join("../README.md"));
    let said = format!("{holding} of {} claims hold here", claims.len());
    assert!(readme.contains(&said), "README does not say: {said}");
}
