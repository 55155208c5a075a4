//! YAML that users write: bounded before it is parsed, and its errors in plain words.

use serde::de::DeserializeOwned;

use crate::nearest::nearest;

/// The largest YAML, in bytes.
const MOST_BYTES: usize = 1 << 20;
/// The deepest nesting.
const DEEPEST: usize = 64;

/// Reads a YAML.
///
/// # Errors
/// What is wrong, in plain words with the line: too large or too deep, no YAML, an unknown key with the nearest known one.
pub fn from_yaml<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    if text.len() > MOST_BYTES {
        return Err(format!(
            "{} bytes of YAML; a description has less than {MOST_BYTES}. Is this a file of rows?",
            text.len()
        ));
    }
    if let Some(line) = too_deep(text) {
        return Err(format!(
            "line {line}: nested more than {DEEPEST} deep; this is no description"
        ));
    }
    serde_yaml::from_str(text).map_err(|error| plain(&error.to_string()))
}

/// The line where nesting is deeper than any description's. Counted without regard to quotes and comments, which hold no
/// more brackets than that either; a parser that goes along is slow long before it is deep.
fn too_deep(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    for (i, line) in text.lines().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let dashes = line
            .trim_start()
            .split(' ')
            .take_while(|word| matches!(*word, "-" | "?"))
            .count();
        for byte in line.bytes() {
            match byte {
                b'[' | b'{' => depth += 1,
                b']' | b'}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth > DEEPEST {
                return Some(i + 1);
            }
        }
        if dashes > DEEPEST || indent > 8 * DEEPEST {
            return Some(i + 1);
        }
    }
    None
}

/// A message of serde in words for people who write YAML.
pub fn plain(message: &str) -> String {
    let quoted = |text: &str| -> Vec<String> {
        text.split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect()
    };
    for (beginning, what) in [("unknown field ", "key"), ("unknown variant ", "value")] {
        let Some(at) = message.find(beginning) else {
            continue;
        };
        let (before, rest) = (&message[..at], &message[at..]);
        let (list, place) = match rest.find(" at line ") {
            Some(end) => rest.split_at(end),
            None => (rest, ""),
        };
        let names = quoted(list);
        let Some((unknown, known)) = names.split_first() else {
            continue;
        };
        let near = nearest(unknown, known.iter().map(String::as_str))
            .map_or_else(String::new, |name| format!("; did you mean '{name}'?"));
        let known = match known {
            [] => String::new(),
            known => format!(" (known: {})", known.join(", ")),
        };
        return format!("{before}unknown {what} '{unknown}'{near}{known}{place}");
    }
    if message.contains("missing field ") {
        return message
            .replace("missing field ", "a key is missing: ")
            .replace('`', "'");
    }
    if message.contains("duplicate field ") {
        return message
            .replace("duplicate field ", "a key stands twice: ")
            .replace('`', "'");
    }
    let mut plain = message.replace("invalid type: ", "found ");
    plain = plain.replace("invalid value: ", "found ");
    plain = plain.replace("invalid length ", "found a list of length ");
    for (rust, word) in [
        ("unit value", "nothing"),
        ("a sequence", "a list"),
        ("sequence", "a list"),
        ("expected a map", "expected keys with values"),
        ("found map", "found keys with values"),
        ("a borrowed string", "a text"),
        ("a string", "a text"),
        ("string \"", "the text \""),
        ("boolean `", "`"),
        ("integer `", "the number `"),
        ("floating point `", "the number `"),
        ("a boolean", "true or false"),
        ("usize", "a whole number"),
        ("u64", "a whole number"),
        ("u32", "a whole number"),
        ("i64", "a whole number"),
        ("f64", "a number"),
        ("f32", "a number"),
    ] {
        plain = plain.replace(rust, word);
    }
    // `expected struct FileSpec`, `expected enum Place`: the names of types say nothing to a user.
    let mut words: Vec<&str> = plain.split(' ').collect();
    while let Some(i) = words
        .iter()
        .position(|w| matches!(*w, "struct" | "enum" | "variant"))
    {
        if i + 1 >= words.len() {
            break;
        }
        words.splice(i..i + 2, ["keys", "with", "values"]);
    }
    words.join(" ").replace('`', "'")
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Outer {
        licence: String,
        inner: Inner,
        #[serde(default)]
        count: Option<u64>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Inner {
        path: String,
    }

    #[track_caller]
    fn says(yaml: &str, words: &[&str]) {
        let message = from_yaml::<Outer>(yaml).unwrap_err();
        for word in words {
            assert!(message.contains(word), "{word:?} is not in {message:?}");
        }
        for rust in ["struct", "enum", "`", "usize", "u64", "field"] {
            assert!(!message.contains(rust), "{rust:?} in {message:?}");
        }
    }

    #[test]
    fn messages_name_the_line_and_the_nearest_key_and_no_type_of_the_program() {
        says(
            "count: 1\nlicense: MIT\ninner: {path: a}\n",
            &["unknown key 'license'", "did you mean 'licence'", "line 2"],
        );
        says("licence: MIT\n", &["a key is missing: 'inner'"]);
        says(
            "licence: MIT\ninner: 3\n",
            &["inner", "the number '3'", "keys with values"],
        );
        says(
            "licence: [a]\ninner: {path: a}\n",
            &["licence", "a list", "a text"],
        );
        says(
            "licence: MIT\ninner: {path: a}\ncount: many\n",
            &["count", "\"many\"", "a whole number"],
        );
    }

    #[test]
    fn deep_or_large_yaml_is_refused_before_it_is_parsed() {
        says(&"[".repeat(100_000), &["line 1", "nested"]);
        says(&"{a: ".repeat(100_000), &["line 1", "nested"]);
        says(&"- ".repeat(100_000), &["line 1", "nested"]);
        let steps: String = (0..1000)
            .map(|i| format!("{}a:\n", " ".repeat(i)))
            .collect();
        says(&steps, &["nested"]);
        says(&"#".repeat(2 << 20), &["bytes of YAML"]);
    }
}
