//! The committed examples follow from the records beside them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::support::Place;

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn committed_tables_follow_from_the_records_beside_them() {
    let results = fs::read_dir(docs().join("results"));
    let results = results
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path());
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
