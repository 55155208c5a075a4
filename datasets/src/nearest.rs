//! What a mistyped name may have meant.

/// The known name that is nearest to a mistyped one, if one is near.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| text.trim().to_lowercase().replace(['-', ' '], "_");
    let wanted = plain(name);
    known
        .into_iter()
        .map(|known| (strsim::osa_distance(&wanted, &plain(known)), known))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, known)| *distance <= 1 + wanted.chars().count().max(known.len()) / 4)
        .map(|(_, known)| known)
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

    #[test]
    fn a_name_that_is_not_near_is_not_proposed() {
        let known = ["accuracy", "macro_f1", "matthews"];
        let near = |name| nearest(name, known);
        assert_eq!(near("acuracy"), Some("accuracy"));
        assert_eq!(near("macro-F1"), Some("macro_f1"));
        assert_eq!(near("mathews"), Some("matthews"));
        assert_eq!(near("bleu"), None);
    }
}
