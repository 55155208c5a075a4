//! One JSON object per line, as Python writes it: `NaN` and the infinities are read, as no value, and a whole number of more
//! digits than 64 bits hold as the text of its digits.

use serde_json::{Map, Value};

use crate::problems::Fault;

/// The object of a line.
pub(crate) fn object(line: usize, text: &str) -> Result<Map<String, Value>, Fault> {
    let again = |text: Option<String>| text.and_then(|text| serde_json::from_str(&text).ok());
    match serde_json::from_str::<Map<String, Value>>(text) {
        // A float may be what is left of a whole number.
        Ok(row)
            if row
                .values()
                .any(|v| v.is_f64() && v.as_f64().is_some_and(|v| v.abs() > 1e18)) =>
        {
            Ok(again(rewritten(text, long_number)).unwrap_or(row))
        }
        Ok(row) => Ok(row),
        Err(error) => match again(rewritten(text, nan)) {
            Some(row) => Ok(row),
            None => Err(fault(line, text, &error)),
        },
    }
}

fn fault(line: usize, text: &str, error: &serde_json::Error) -> Fault {
    let said = error.to_string();
    let said = said.split(" at line ").next().unwrap_or_default();
    let said = said.replace('`', "'");
    let start = text.trim_start();
    let (what, hint) = if start.starts_with('[') {
        (
            "a JSON list where an object is expected".to_owned(),
            "write one object per line (of a file with one list: jq -c '.[]' FILE)",
        )
    } else if start == "{" || start == "}" {
        (
            "an object over several lines".to_owned(),
            "write each object on one line (jq -c . FILE)",
        )
    } else if !start.starts_with('{') {
        (
            "no JSON object".to_owned(),
            "a line is an object such as {\"text\": \"…\", \"label\": \"…\"}",
        )
    } else {
        let plain = match said.as_str() {
            "expected value" => "a value is expected",
            "expected ident" => "true, false or null is misspelt",
            "key must be a string" => "keys and texts need double quotes",
            "trailing characters" => "there is more behind the object",
            "trailing comma" => "a comma stands before the end",
            said if said.starts_with("EOF") => "the line ends before the object does",
            said if said.starts_with("control character") => {
                "a control character stands in a text; write it as \\n, \\t or \\u0000"
            }
            said if said.contains("hex escape") || said.contains("surrogate") => {
                "a \\u escape is cut short, or is half of a character"
            }
            said => said,
        };
        (format!("no valid JSON: {plain}"), "")
    };
    let detail = (!hint.starts_with("write")).then(|| format!("column {}", error.column()));
    Fault::new(line, what, detail, hint)
}

/// Null for what is no number in JSON.
fn nan(word: &str) -> Option<String> {
    ["NaN", "Infinity", "-Infinity"]
        .contains(&word)
        .then(|| "null".to_owned())
}

/// A text for a whole number that 64 bits do not hold.
fn long_number(word: &str) -> Option<String> {
    let digits = word.strip_prefix('-').unwrap_or(word);
    let whole = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let fits = || word.parse::<i64>().is_ok() || word.parse::<u64>().is_ok();
    (whole && !fits()).then(|| format!("\"{word}\""))
}

/// The text with something else for words outside strings, where there is such a word.
fn rewritten(text: &str, other: fn(&str) -> Option<String>) -> Option<String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    let (mut out, mut rest, mut changed) = (String::with_capacity(text.len()), text, false);
    while let Some(next) = rest.chars().next() {
        if next == '"' {
            let mut escaped = false;
            let end = rest[1..].find(|c: char| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            })?;
            out += &rest[..end + 2];
            rest = &rest[end + 2..];
            continue;
        }
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let (word, behind) = rest.split_at(end.max(next.len_utf8()));
        match other(word) {
            Some(new) => {
                out += &new;
                changed = true;
            }
            None => out += word,
        }
        rest = behind;
    }
    changed.then_some(out)
}
