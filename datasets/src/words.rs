//! Classes as words: a template around the text, and for each class a word that a language model may go on with (Lester et
//! al. 2021, arXiv:2104.08691; Schick and Schütze 2021, arXiv:2001.07676).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Error, Example, Result, TextTokenizer};

/// Where the text stands in a template, and the second text of a pair.
const TEXT: &str = "{text}";
const PAIR: &str = "{pair}";

/// A template and a word for each class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Words {
    /// What stands around a text: `{text}` is the text, `{pair}` the second text of a pair.
    pub template: String,
    /// A word for each class, in the order of the classes, as it follows the template: most tokenizers have the space
    /// before a word in its token.
    pub words: Vec<String>,
}

impl Words {
    /// What is wrong with them for texts or pairs of so many classes; the key stands before each problem.
    pub fn problems(&self, pairs: bool, classes: Option<usize>) -> Vec<String> {
        let mut found = Vec::new();
        let template = &self.template;
        if !template.contains(TEXT) {
            found.push(format!(
                "template: '{template}' has no {TEXT}, where the text goes"
            ));
        }
        match (pairs, template.contains(PAIR)) {
            (true, false) => found.push(format!(
                "template: '{template}' has no {PAIR}, where the second text of a pair goes"
            )),
            (false, true) => found.push(format!(
                "template: '{template}' has {PAIR}, but the texts are no pairs"
            )),
            _ => {}
        }
        if classes.is_some_and(|n| n != self.words.len()) {
            let n = classes.unwrap_or_default();
            found.push(format!(
                "words: {} words for {n} classes; give one for each, in the order of the classes",
                self.words.len()
            ));
        }
        if let Some(empty) = self.words.iter().find(|word| word.trim().is_empty()) {
            found.push(format!("words: '{empty}' is no word"));
        }
        found
    }

    /// The template with the texts of an example in it, the first of them cut to its first `bytes`.
    fn text(&self, example: &Example, bytes: usize) -> String {
        let mut cut = bytes.min(example.text.len());
        while !example.text.is_char_boundary(cut) {
            cut -= 1;
        }
        // Each place once: what a text itself holds is text.
        let mut text = String::new();
        let mut rest = self.template.as_str();
        loop {
            let next = [TEXT, PAIR].map(|place| rest.find(place).unwrap_or(usize::MAX));
            let at = next[0].min(next[1]);
            if at == usize::MAX {
                text.push_str(rest);
                return text;
            }
            text.push_str(&rest[..at]);
            text.push_str(match next[0] < next[1] {
                true => &example.text[..cut],
                false => example.pair.as_deref().unwrap_or_default(),
            });
            rest = &rest[at + TEXT.len()..];
        }
    }

    /// The template with nothing in it.
    pub(crate) fn alone(&self) -> String {
        self.template.replace(TEXT, "").replace(PAIR, "")
    }

    /// The longest example that `fits`, made of the template: of a text that is too long the end is cut, never the template.
    /// Also whether it was cut.
    pub(crate) fn longest(
        &self,
        example: &Example,
        mut fits: impl FnMut(&str) -> Result<bool>,
    ) -> Result<Option<(String, bool)>> {
        let whole = self.text(example, usize::MAX);
        if fits(&whole)? {
            return Ok(Some((whole, false)));
        }
        let (mut best, mut low, mut high) = (None, 0, example.text.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let text = self.text(example, middle);
            if fits(&text)? {
                (best, low) = (Some(text), middle + 1);
            } else {
                high = middle;
            }
        }
        Ok(best.map(|text| (text, true)))
    }

    /// The first token of each class's word.
    ///
    /// # Errors
    /// If a word has no token, or it or the template is unknown to the tokenizer, or two words begin with the same token.
    pub fn ids(&self, tokenizer: &TextTokenizer) -> Result<Vec<u32>> {
        let wrong = |message: String| Error::Words { message };
        let special = tokenizer.special_tokens();
        let unknown = tokenizer.unknown_token();
        for part in self.alone().split_whitespace() {
            if unknown.is_some_and(|id| tokenizer.encode_text(part).is_ok_and(|p| p.contains(&id)))
            {
                return Err(wrong(format!(
                    "template: '{part}' is unknown to the tokenizer; write it in words of its vocabulary"
                )));
            }
        }
        let mut ids: Vec<u32> = Vec::new();
        for word in &self.words {
            let first = tokenizer.encode_text(word)?.first().copied();
            let id = first.ok_or_else(|| wrong(format!("words: '{word}' has no token")))?;
            if special.contains(&id) || Some(id) == unknown {
                return Err(wrong(format!(
                    "words: '{word}' begins with a special token of the tokenizer, or is unknown to it; choose another word"
                )));
            }
            if let Some(i) = ids.iter().position(|known| *known == id) {
                return Err(wrong(format!(
                    "words: '{}' and '{word}' begin with the same token, so they cannot be told apart; choose other words",
                    self.words[i]
                )));
            }
            ids.push(id);
        }
        Ok(ids)
    }
}

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "words {:?} after {:?}", self.words, self.template)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(template: &str, words: &[&str]) -> Words {
        Words {
            template: template.into(),
            words: words.iter().map(|w| (*w).to_owned()).collect(),
        }
    }

    fn example(text: &str, pair: Option<&str>) -> Example {
        Example {
            text: text.into(),
            pair: pair.map(str::to_owned),
            label: None,
        }
    }

    #[test]
    fn a_template_holds_the_texts_and_what_they_hold_is_text() {
        let two = words("A: {text}\nB: {pair} = {text}?", &[]);
        let example = example("x{pair}", Some("y{text}"));
        assert_eq!(two.text(&example, 99), "A: x{pair}\nB: y{text} = x{pair}?");
        assert_eq!(two.text(&example, 1), "A: x\nB: y{text} = x?");
    }

    #[test]
    fn a_text_that_is_too_long_loses_its_end_and_the_template_stays() {
        let one = words("<{text}>", &[]);
        let cut = |limit: usize| {
            let text = example("aéiou", None);
            one.longest(&text, |text| Ok(text.len() <= limit)).unwrap()
        };
        assert_eq!(cut(8), Some(("<aéiou>".into(), false)));
        assert_eq!(cut(5), Some(("<aé>".into(), true)));
        // No half of a character.
        assert_eq!(cut(4), Some(("<a>".into(), true)));
        assert_eq!(cut(1), None);
    }

    #[test]
    fn what_cannot_be_used_is_said_by_its_key() {
        let says = |template: &str, all: &[&str], pairs: bool, part: &str| {
            let problems = words(template, all).problems(pairs, Some(2));
            assert!(problems.iter().any(|p| p.contains(part)), "{problems:?}");
        };
        says("text", &["a", "b"], false, "has no {text}");
        says("{text}", &["a", "b"], true, "has no {pair}");
        says("{text}{pair}", &["a", "b"], false, "no pairs");
        says("{text}", &["a"], false, "1 words for 2 classes");
        says("{text}", &["a", " "], false, "no word");
        assert!(
            words("{text}:", &["a", "b"])
                .problems(false, Some(2))
                .is_empty()
        );
    }
}
