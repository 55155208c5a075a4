//! What becomes of texts before weights read them, in words.

/// Counts of what a user may not expect of the texts that saved weights read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Texts {
    /// Rows that were read.
    pub rows: usize,
    /// Of them, those that were longer than the weights read.
    pub cut: usize,
    /// Of them, those with two texts where the weights were trained on one.
    pub more: usize,
    /// Of them, those with one text where the weights were trained on two.
    pub less: usize,
}

impl Texts {
    /// Counts a row of one or two texts for weights that were trained on `pairs`, where that is known.
    pub fn row(&mut self, pair: bool, pairs: Option<bool>) {
        self.rows += 1;
        self.more += usize::from(pair && pairs == Some(false));
        self.less += usize::from(!pair && pairs == Some(true));
    }

    /// What has to be said. `longest` is how many tokens the weights read, where it is one number.
    pub fn notes(&self, longest: Option<usize>) -> Vec<String> {
        let Self {
            rows,
            cut,
            more,
            less,
        } = *self;
        let mut notes = Vec::new();
        if cut > 0 {
            let to = longest.map_or("what their weights read".to_owned(), |n| {
                format!("{n} tokens")
            });
            notes.push(format!(
                "{cut} of {rows} texts are longer and were cut to {to}, as in training; what was cut off is not read"
            ));
        }
        if more > 0 {
            notes.push(format!(
                "{more} of {rows} rows have a second text, but the weights were trained on single texts: nothing was learnt \
                 about pairs"
            ));
        }
        if less > 0 {
            notes.push(format!(
                "{less} of {rows} rows have one text, but the weights were trained on pairs: name the column of \
                 the second text too"
            ));
        }
        notes
    }
}

/// What has to be said of `count` prompts that have the tokens of another one.
pub fn same_prompts(count: usize) -> Option<String> {
    (count > 0).then(|| {
        format!(
            "prompts to judge by that have the same tokens as another one, since they were cut or the tokenizer does not tell \
             them apart: {count}; each is one case with the other, judged by the completions of both"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_the_training_is_not_mentioned() {
        let mut texts = Texts::default();
        texts.row(true, Some(true));
        texts.row(false, Some(false));
        texts.row(true, None);
        assert_eq!(texts.notes(Some(128)), [""; 0]);
    }

    #[test]
    fn texts_that_are_cut_or_of_another_number_are_counted() {
        let mut texts = Texts::default();
        texts.row(true, Some(false));
        texts.row(false, Some(true));
        texts.cut = 1;
        let notes = texts.notes(Some(64));
        assert!(notes[0].starts_with("1 of 2 texts are longer and were cut to 64 tokens"));
        assert!(notes[1].starts_with("1 of 2 rows have a second text"));
        assert!(notes[2].starts_with("1 of 2 rows have one text"));
    }
}
