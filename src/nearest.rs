//! What a mistyped name may have meant.

/// The one of `known` that a mistyped name is nearest to, if it is near: at most a third of its letters have to be
/// added, dropped, exchanged or put in another order.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |other: &str| strsim::damerau_levenshtein(&name.to_lowercase(), other);
    known
        .into_iter()
        .map(|other| (distance(other), other))
        .min()
        .filter(|(d, _)| *d <= name.chars().count().div_ceil(3))
        .map(|(_, other)| other)
}

/// The known names as a message tells them: the nearest first, then all.
pub fn known(name: &str, known: &[&str]) -> String {
    let hint = nearest(name, known.iter().copied())
        .map_or_else(String::new, |near| format!("did you mean '{near}'? "));
    format!("{hint}known: {}", known.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_keyboard_is_understood_and_another_word_is_not() {
        let methods = ["lora", "adapter", "prompt_tuning", "full"];
        for (typed, meant) in [
            ("lorra", Some("lora")),
            ("LoRA", Some("lora")),
            ("promt_tunning", Some("prompt_tuning")),
            ("prompt-tuning", Some("prompt_tuning")),
            ("adpater", Some("adapter")),
            ("qlora_4bit", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, methods), meant, "{typed}");
        }
    }

    #[test]
    fn a_message_names_the_nearest_first_and_then_all() {
        assert_eq!(
            known("rnak", &["alpha", "rank"]),
            "did you mean 'rank'? known: alpha, rank"
        );
        assert_eq!(known("zzz", &["alpha", "rank"]), "known: alpha, rank");
    }
}
