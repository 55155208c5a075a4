//! Merged weights compute what the method computes beside them.

use methods::HeadOnly;

use crate::{methods, support::*};

#[test]
fn merged_weights_give_what_the_unmerged_method_gives() {
    let mut merged_cases = 0;
    for case in everywhere() {
        let (frozen, said) = (&case.frozen, &case.said);
        let method = case.perturbed();
        let unmerged = evaluated(&*method, frozen, &examples());
        match method.merge(frozen) {
            Ok(merged) => {
                merged_cases += 1;
                let bare = evaluated(&HeadOnly, frozen, &examples());
                assert!(
                    largest_difference(&unmerged, &bare) > 1e-3,
                    "{said}: the perturbed method is the identity"
                );
                let difference =
                    largest_difference(&evaluated(&HeadOnly, &merged, &examples()), &unmerged);
                assert!(difference < 1e-5, "{said}: {difference}");
            }
            Err(why) => assert!(!why.to_string().is_empty(), "{said}"),
        }
    }
    assert!(merged_cases >= 40, "{merged_cases}");
}

#[test]
fn a_combination_that_scales_and_adds_merges_to_what_it_computes() {
    let frozen = backbone();
    let parts = ["lora", "ia3", "dora", "bitfit"];
    let mut compared = 0;
    for a in parts {
        for b in parts.into_iter().filter(|b| *b != a) {
            // Both LoRA and DoRA have A and B.
            if a.replace("dora", "lora") == b.replace("dora", "lora") {
                continue;
            }
            let mut keys = serde_json::Map::new();
            keys.insert("combine".into(), serde_json::json!([a, b]));
            for part in [a, b] {
                let modules = serde_json::json!(["query", "output"]);
                if part != "bitfit" {
                    keys.insert(format!("{part}.target_modules"), modules);
                }
                match part {
                    "ia3" => drop(keys.insert(
                        "ia3.feedforward_modules".into(),
                        serde_json::json!(["output"]),
                    )),
                    "lora" | "dora" => drop(keys.insert(format!("{part}.rank"), 3.into())),
                    _ => {}
                }
            }
            let resolved = methods::resolve_values("mam", keys).unwrap();
            let method = build(&resolved, &frozen, 1);
            perturb(&*method);
            let unmerged = evaluated(&*method, &frozen, &examples());
            let merged = method.merge(&frozen).unwrap();
            let d = largest_difference(&evaluated(&HeadOnly, &merged, &examples()), &unmerged);
            assert!(d < 1e-5, "{a} + {b}: {d}");
            compared += 1;
        }
    }
    assert_eq!(compared, 10);
}
