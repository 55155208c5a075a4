//! What a data set's card says of its files: the `configs` at the head of README.md, which the datasets library follows.
//!
//! ```yaml
//! configs:
//!   - config_name: en
//!     default: true
//!     data_files:
//!       - { split: train, path: "data/en-*.csv" }
//!       - { split: test, path: data/en_held_out.csv }
//! ```

use serde_yaml::Value;

/// The file that says it.
pub(crate) const CARD: &str = "README.md";
/// More patterns than a subset has, each of which is compared with every file.
const PATTERNS: usize = 1000;

/// A subset of a data set as its card describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subset {
    pub name: String,
    /// Whether it is meant where none is named.
    pub is_default: bool,
    /// The folder of its files with a slash behind it; empty where that is the whole repository.
    pub folder: String,
    /// Splits with the patterns of their files; none where the names of the files say which is which.
    pub splits: Vec<(String, Vec<String>)>,
}

/// The subsets of a card; none where it says nothing of them.
pub(crate) fn subsets(card: &str) -> Result<Vec<Subset>, String> {
    let card = card.trim_start_matches('\u{feff}').trim_start();
    let mut lines = card.lines();
    if lines.next().is_none_or(|line| line.trim_end() != "---") {
        return Ok(Vec::new());
    }
    let lines: Vec<&str> = lines.collect();
    let Some(end) = lines.iter().position(|line| *line == "---") else {
        return Ok(Vec::new());
    };
    // (A head of comments is no document.)
    let says = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    if !lines[..end].iter().any(says) {
        return Ok(Vec::new());
    }
    let head: Value = serde_yaml::from_str(&lines[..end].join("\n"))
        .map_err(|error| format!("{CARD}: what stands at its head is not YAML: {error}"))?;
    match head.get("configs") {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Sequence(all)) => all.iter().map(subset).collect(),
        Some(_) => Err(format!("{CARD}: configs: it must be a list of subsets")),
    }
}

/// The subset that is meant; nothing where the card describes none.
pub(crate) fn chosen<'c>(
    card: &'c [Subset],
    named: Option<&str>,
    repo: &str,
) -> Result<Option<&'c Subset>, String> {
    let names = || -> Vec<&str> { card.iter().map(|subset| subset.name.as_str()).collect() };
    match (named, card) {
        (_, []) => Ok(None),
        (Some(named), _) => {
            let found = card.iter().find(|subset| subset.name == named);
            let none = || {
                format!(
                    "its card describes no subset \"{named}\"; it has: {}",
                    names().join(", ")
                )
            };
            found.map(Some).ok_or_else(none)
        }
        (None, [only]) => Ok(Some(only)),
        (None, _) => {
            let marked = card.iter().find(|subset| subset.is_default);
            let found = marked.or_else(|| card.iter().find(|subset| subset.name == "default"));
            let several = || {
                format!(
                    "it has several subsets; name one as hub:{repo}/SUBSET: {}",
                    names().join(", ")
                )
            };
            found.map(Some).ok_or_else(several)
        }
    }
}

fn subset(value: &Value) -> Result<Subset, String> {
    let text = |key: &str| value.get(key).and_then(Value::as_str);
    let (Value::Mapping(map), Some(name)) = (value, text("config_name")) else {
        return Err(format!("{CARD}: configs: each must have a config_name"));
    };
    let at = |problem: String| format!("{CARD}: configs: {name}: {problem}");
    const FOLLOWED: [&str; 5] = [
        "config_name",
        "data_dir",
        "data_files",
        "default",
        "description",
    ];
    let unknown: Vec<&str> = map
        .iter()
        .filter(|(_, value)| !value.is_null())
        .filter_map(|(key, _)| key.as_str())
        .filter(|key| !FOLLOWED.contains(key))
        .collect();
    if !unknown.is_empty() {
        return Err(at(format!(
            "{} changes how the files are read and is not followed here; download the files and name them, with \
             --separator and the like",
            unknown.join(", ")
        )));
    }
    let folder = text("data_dir").unwrap_or_default();
    let folder = folder.trim_start_matches("./").trim_matches('/');
    let folder = match folder {
        "" | "." => String::new(),
        folder => format!("{folder}/"),
    };
    let patterns = |value: &Value| -> Result<Vec<String>, String> {
        let all: Option<Vec<&str>> = match value {
            Value::String(one) => Some(vec![one.as_str()]),
            Value::Sequence(all) => all.iter().map(Value::as_str).collect(),
            _ => None,
        };
        let all = all.ok_or_else(|| at("data_files: a path is text, or a list of texts".into()))?;
        let whole = |pattern: &str| {
            if pattern.contains("://") || pattern.contains(['[', '{', '\\']) {
                return Err(at(format!(
                    "data_files: \"{pattern}\" is not followed; paths inside the repository with *, ** and ? are"
                )));
            }
            let pattern = pattern.trim_start_matches("./").trim_start_matches('/');
            Ok(format!("{folder}{pattern}"))
        };
        all.into_iter().map(whole).collect()
    };
    let splits = match map.get("data_files") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Mapping(all)) => {
            let split = |(name, path): (&Value, &Value)| {
                let name = name.as_str();
                let name =
                    name.ok_or_else(|| at("data_files: the name of a split is text".into()))?;
                Ok((name.to_owned(), patterns(path)?))
            };
            all.iter().map(split).collect::<Result<_, String>>()?
        }
        Some(Value::Sequence(all)) if all.iter().any(Value::is_mapping) => {
            let split = |one: &Value| {
                let name = one.get("split").and_then(Value::as_str);
                let parts = name.zip(one.get("path"));
                let (name, path) = parts
                    .ok_or_else(|| at("data_files: each must have a split and a path".into()))?;
                Ok((name.to_owned(), patterns(path)?))
            };
            all.iter().map(split).collect::<Result<_, String>>()?
        }
        // Without a word about splits, all of it is for training.
        Some(all) => vec![("train".to_owned(), patterns(all)?)],
    };
    if splits
        .iter()
        .map(|(_, patterns)| patterns.len())
        .sum::<usize>()
        > PATTERNS
    {
        return Err(at(format!(
            "data_files: more than {PATTERNS} paths; name them by patterns"
        )));
    }
    Ok(Subset {
        name: name.to_owned(),
        is_default: value.get("default").and_then(Value::as_bool) == Some(true),
        folder,
        splits,
    })
}

/// Whether a path is one of a pattern's: `*` and `?` stay inside a folder's name, `**` stands for any folders.
pub(crate) fn matches(pattern: &str, path: &str) -> bool {
    let path: Vec<&str> = path.split('/').collect();
    let parts: Vec<&str> = pattern.split('/').collect();
    // After how many parts of the path the beginning of the pattern may end.
    let mut ends = vec![false; path.len() + 1];
    ends[0] = true;
    for (i, part) in parts.iter().enumerate() {
        let mut next = vec![false; path.len() + 1];
        for at in (0..=path.len()).filter(|at| ends[*at]) {
            if *part == "**" {
                let first = if i + 1 == parts.len() { at + 1 } else { at };
                next.iter_mut().skip(first).for_each(|end| *end = true);
            } else if path.get(at).is_some_and(|name| matches_name(part, name)) {
                next[at + 1] = true;
            }
        }
        ends = next;
    }
    ends[path.len()]
}

fn matches_name(pattern: &str, name: &str) -> bool {
    let name: Vec<char> = name.chars().collect();
    let mut ends = vec![false; name.len() + 1];
    ends[0] = true;
    for c in pattern.chars() {
        if c == '*' {
            let first = ends.iter().position(|end| *end).unwrap_or(ends.len());
            ends.iter_mut().skip(first).for_each(|end| *end = true);
            continue;
        }
        for at in (0..name.len()).rev() {
            ends[at + 1] = ends[at] && (c == '?' || c == name[at]);
        }
        ends[0] = false;
    }
    ends[name.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_the_datasets_library() {
        for (pattern, path, matched) in [
            ("train.csv", "train.csv", true),
            ("train.csv", "data/train.csv", false),
            ("data/*.csv", "data/a.csv", true),
            ("data/*.csv", "data/en/a.csv", false),
            ("data/**", "data/en/a.csv", true),
            ("data/**", "data", false),
            ("**/train-*", "train-0.parquet", true),
            ("**/train-*", "a/b/train-0.parquet", true),
            ("**/train-*", "a/b/test-0.parquet", false),
            ("a/**/b/*.csv", "a/b/x.csv", true),
            ("a/**/b/*.csv", "a/c/d/b/x.csv", true),
            ("part-?.csv", "part-1.csv", true),
            ("part-?.csv", "part-10.csv", false),
            ("*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false),
        ] {
            assert_eq!(matches(pattern, path), matched, "{pattern} {path}");
        }
        // Neither of these takes more than a moment.
        let deep = "a/".repeat(200);
        assert!(!matches(&("**/a/".repeat(60) + "b"), &deep));
    }

    #[test]
    fn a_card_says_its_subsets_in_every_form_or_none() {
        for none in [
            "",
            "about",
            "---\n---\n",
            "---\nlicense: mit\n---\n# A",
            "---\nconfigs:\n- a",
        ] {
            assert_eq!(subsets(none), Ok(Vec::new()), "{none}");
        }
        let card = |configs: &str| {
            subsets(&format!(
                "---\nlicense: mit\nconfigs:\n{configs}---\n# About\n"
            ))
        };
        let found = card(
            "- config_name: en\n  default: true\n  data_dir: ./texts/\n  data_files:\n  - split: train\n    path: [\"a-*.csv\", b.csv]\n  - split: test\n    path: t.csv\n\
             - config_name: de\n  data_files:\n    train: de.csv\n\
             - config_name: all\n  data_files: \"*.csv\"\n- config_name: bare\n",
        )
        .unwrap();
        let of = |found: &Subset| found.splits.clone();
        let split = |name: &str, paths: &[&str]| {
            (
                name.to_owned(),
                paths.iter().map(|p| p.to_string()).collect::<Vec<_>>(),
            )
        };
        assert_eq!(
            of(&found[0]),
            [
                split("train", &["texts/a-*.csv", "texts/b.csv"]),
                split("test", &["texts/t.csv"])
            ]
        );
        assert!(found[0].is_default && !found[1].is_default);
        assert_eq!(of(&found[1]), [split("train", &["de.csv"])]);
        assert_eq!(of(&found[2]), [split("train", &["*.csv"])]);
        assert!(found[3].splits.is_empty());
        let name =
            |named: Option<&str>| chosen(&found, named, "a/b").map(|s| s.unwrap().name.clone());
        assert_eq!(name(None).unwrap(), "en");
        assert_eq!(name(Some("de")).unwrap(), "de");
        assert!(
            name(Some("fr"))
                .unwrap_err()
                .contains("it has: en, de, all, bare")
        );
        assert!(
            chosen(&found[1..], None, "a/b")
                .unwrap_err()
                .contains("hub:a/b/SUBSET: de")
        );
        for (configs, says) in [
            ("- config_name: en\n  sep: \";\"\n", "sep"),
            ("- data_files: a.csv\n", "config_name"),
            (
                "- config_name: en\n  data_files: \"hf://datasets/x/y\"\n",
                "hf://",
            ),
            (
                "- config_name: en\n  data_files: \"[ab].csv\"\n",
                "[ab].csv",
            ),
            (
                "- config_name: en\n  data_files:\n  - split: train\n",
                "a split and a path",
            ),
            ("- config_name: en\n  data_files: 3\n", "data_files"),
            ("- \"\tx\n", "YAML"),
        ] {
            let message = card(configs).unwrap_err();
            assert!(
                message.contains("README.md") && message.contains(says),
                "{message}"
            );
        }
    }
}
