//! Texts that go on: a prompt made of the example's texts, and how long what comes behind it may be.
//!
//! Prompt and completion are tokenised each by itself, and the end-of-text token stands behind the completion, so that the
//! tokens of a prompt are the same when a model is trained on it and when it is asked. `max_tokens` is for both: the completion
//! has `max_new_tokens` of them, the prompt the rest. So nothing about a completion decides what is read of its prompt.

use std::{collections::HashSet, fmt};

use serde::{Deserialize, Serialize};

use crate::{Encoded, Error, Example, Result, Words};

/// Tokens of a completion where nobody says how many.
const MAX_NEW_TOKENS: usize = 64;

/// A prompt and the length of its completions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Completion {
    /// What a completion is written behind: `{text}` is the text, `{pair}` the second text of a pair.
    pub prompt: String,
    /// The most tokens of a completion, the end-of-text token among them.
    pub max_new_tokens: usize,
}

impl Completion {
    /// With what is not said: the text on a line of its own (of a pair each), and 64 tokens.
    pub fn new(pairs: bool, prompt: Option<&str>, max_new_tokens: Option<usize>) -> Self {
        let own = match pairs {
            true => "{text}\n{pair}\n",
            false => "{text}\n",
        };
        Self {
            prompt: prompt.unwrap_or(own).to_owned(),
            max_new_tokens: max_new_tokens.unwrap_or(MAX_NEW_TOKENS),
        }
    }

    /// What is wrong with it for texts or pairs; the key stands before each problem.
    pub(crate) fn problems(&self, pairs: bool) -> Vec<String> {
        let template = self.template().problems(pairs, None).into_iter();
        let template = template.map(|problem| problem.replacen("template:", "prompt:", 1));
        let none = (self.max_new_tokens == 0)
            .then(|| "max_new_tokens: 0 leaves no completion; accepted: 1 or more".to_owned());
        template.chain(none).collect()
    }

    /// The prompt as a template without words for classes.
    pub(crate) fn template(&self) -> Words {
        Words {
            template: self.prompt.clone(),
            words: Vec::new(),
        }
    }

    /// Tokens that are left for a prompt.
    pub(crate) fn room(&self, max_tokens: usize) -> Result<usize> {
        let room = max_tokens.checked_sub(self.max_new_tokens);
        room.filter(|room| *room > 0).ok_or_else(|| Error::Words {
            message: format!(
                "max_new_tokens {} leaves no room for a prompt in max_tokens {max_tokens}; accepted: fewer, or more \
                 tokens in all (--set recipe.max_tokens=N)",
                self.max_new_tokens
            ),
        })
    }
}

impl fmt::Display for Completion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "completion behind {:?} of at most {} tokens",
            self.prompt, self.max_new_tokens
        )
    }
}

impl Encoded {
    /// The prompt of an example whose completion is read.
    ///
    /// # Panics
    /// If `i` is not below [`Encoded::len`], or the examples have no completions.
    pub fn prompt(&self, i: usize) -> &[u32] {
        &self.example(i).0[..=self.words[i][0].token as usize]
    }

    /// The completion of an example, with the end-of-text token where it is not cut.
    ///
    /// # Panics
    /// As [`Encoded::prompt`].
    pub fn completion(&self, i: usize) -> &[u32] {
        &self.example(i).0[self.prompt(i).len()..]
    }

    /// How many prompts of `examples`, which these are, have the tokens of another one though their texts differ: both were cut, or
    /// the tokenizer does not tell them apart.
    ///
    /// # Panics
    /// If the examples have no completions.
    pub fn same_prompts(&self, examples: &[Example]) -> usize {
        let texts = examples
            .iter()
            .map(|e| (e.text.as_str(), e.pair.as_deref()));
        let texts: HashSet<(&str, Option<&str>)> = texts.collect();
        let prompts: HashSet<&[u32]> = (0..self.len()).map(|i| self.prompt(i)).collect();
        texts.len().saturating_sub(prompts.len())
    }
}

/// The text that is to be written behind an example, where it is known.
pub(crate) fn written(example: &Example) -> Option<&str> {
    example.label.as_ref()?.text()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_used_is_said_by_its_key() {
        let problems = |prompt: &str, most: usize, pairs| {
            let made = Completion::new(pairs, Some(prompt), Some(most));
            made.problems(pairs).join("; ")
        };
        assert_eq!(problems("{text}: ", 5, false), "");
        assert!(problems("text", 5, false).starts_with("prompt: 'text' has no {text}"));
        assert!(problems("{text}", 5, true).contains("prompt: '{text}' has no {pair}"));
        assert!(problems("{text}", 0, false).starts_with("max_new_tokens: 0"));
        for pairs in [false, true] {
            assert!(
                Completion::new(pairs, None, None)
                    .problems(pairs)
                    .is_empty()
            );
        }
    }

    #[test]
    fn a_completion_that_leaves_no_room_for_a_prompt_is_refused_with_both_numbers() {
        let made = Completion::new(false, None, Some(8));
        assert_eq!(made.room(9).unwrap(), 1);
        let message = made.room(8).unwrap_err().to_string();
        assert!(message.contains("max_new_tokens 8") && message.contains("max_tokens 8"));
    }
}
