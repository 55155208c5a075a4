//! Sentences in lines of words with their tags behind a slash, `word/tag word/tag …`, as segmented corpora of Chinese have them.
//!
//! Brackets around several words, `[word/tag word/tag]tag`, are passed over. The columns are `tokens` and `tags`.

use serde_json::{Map, Value};

use crate::{Result, Row, problems::Fault, text::Text};

/// The columns of a row.
pub(crate) const COLUMNS: [&str; 2] = ["tokens", "tags"];

/// Sentences of a text.
pub(crate) struct Tagged {
    text: Text,
    line: usize,
}

/// A word and its tag.
fn parts(part: &str) -> Option<(&str, &str)> {
    let (word, tag) = part.rsplit_once('/')?;
    // A bracket that is a word itself has nothing else before its slash.
    let word = match word.strip_prefix('[') {
        Some(inner) if !inner.is_empty() => inner,
        _ => word,
    };
    let tag = tag.split(']').next().unwrap_or_default();
    (!word.is_empty() && !tag.is_empty()).then_some((word, tag))
}

impl Tagged {
    pub fn new(text: Text) -> Self {
        Self { text, line: 0 }
    }

    /// The next sentence.
    pub fn next(&mut self) -> Result<Option<std::result::Result<Row, Fault>>> {
        while let Some(line) = self.text.line()? {
            self.line += 1;
            if line.trim().is_empty() {
                continue;
            }
            let mut lists = [Vec::new(), Vec::new()];
            for part in line.split_whitespace() {
                let Some((word, tag)) = parts(part) else {
                    let what = "has a word without a tag".to_owned();
                    let hint = "each word has its tag behind a slash, and spaces stand between: word/tag word/tag";
                    let found = Some(format!("'{part}'"));
                    return Ok(Some(Err(Fault::new(self.line, what, found, hint))));
                };
                lists[0].push(Value::from(word));
                lists[1].push(Value::from(tag));
            }
            let columns = COLUMNS.iter().map(|name| (*name).to_owned());
            let fields: Map<String, Value> = columns.zip(lists.map(Value::Array)).collect();
            return Ok(Some(Ok(Row {
                place: self.line,
                fields,
            })));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::parts;

    #[test]
    fn a_word_has_its_tag_behind_the_last_slash_and_brackets_are_passed_over() {
        for (part, expected) in [
            ("希望/n", Some(("希望", "n"))),
            ("[中央/n", Some(("中央", "n"))),
            ("电视台/n]nt", Some(("电视台", "n"))),
            ("1/2/m", Some(("1/2", "m"))),
            ("[/w", Some(("[", "w"))),
            ("//w", Some(("/", "w"))),
            ("希望", None),
            ("/n", None),
            ("希望/", None),
        ] {
            assert_eq!(parts(part), expected, "{part}");
        }
    }
}
