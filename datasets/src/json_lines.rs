//! One JSON object per line, as Python writes it: `NaN` and the infinities are read, as no value.

use serde_json::{Map, Value};

use crate::problems::Fault;

/// The object of a line.
pub(crate) fn object(line: usize, text: &str) -> Result<Map<String, Value>, Fault> {
    match serde_json::from_str(text) {
        Ok(row) => Ok(row),
        Err(error) => match without_nan(text).and_then(|text| serde_json::from_str(&text).ok()) {
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

/// The text with `null` for NaN and infinities outside strings, if it has any.
fn without_nan(text: &str) -> Option<String> {
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
        let word = ["-Infinity", "Infinity", "NaN"]
            .into_iter()
            .find(|word| rest.starts_with(word));
        match word {
            Some(word) => {
                out += "null";
                rest = &rest[word.len()..];
                changed = true;
            }
            None => {
                out.push(next);
                rest = &rest[next.len_utf8()..];
            }
        }
    }
    changed.then_some(out)
}
