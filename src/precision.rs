//! The precision of frozen weights as a user asks for it: what `auto` stands for on this machine, and what is said of it
//! before anything runs.

use std::collections::BTreeMap;

use backbone::Precision;

/// How much faster than f32 a machine must multiply bf16 for `auto` to take it.
const WORTHWHILE: f64 = 1.5;

/// Puts a precision in the place of `auto` among the backbone's settings, and says on standard error what frozen weights
/// are multiplied in, unless that is f32 by default. Any other value is judged where the backbone is found.
pub fn settle(backbone: &mut BTreeMap<String, String>) {
    let Some(asked) = backbone.get_mut("precision") else {
        return;
    };
    let unit = kernels::bf16_unit().name();
    match asked.as_str() {
        "auto" => {
            let reached = [Precision::F32, Precision::Bf16].map(kernels::register_gflops);
            let (precision, reason) = choose(reached, unit);
            eprintln!("precision {} (auto): {reason}", precision.name());
            *asked = precision.name().to_owned();
        }
        "bf16" => eprintln!(
            "precision bf16: frozen weights are rounded to bf16 and multiplied by {unit}; what is trained stays f32"
        ),
        "int8" => eprintln!(
            "precision int8: frozen weights have eight bits with a scale for each output, and are widened to f32 where they are \
             used; what is trained stays f32"
        ),
        "q4" => eprintln!(
            "precision q4: frozen weights stay in the blocks that their GGUF has, with the numbers of f32 in less memory; those of a \
             file without blocks are rounded to blocks of four bits (Q4_1). They are widened to f32 where they are used; what is \
             trained stays f32"
        ),
        _ => {}
    }
}

/// The precision for a machine that reaches so many GFLOP/s in registers in f32 and in bf16, and why.
fn choose([f32, bf16]: [f64; 2], unit: &str) -> (Precision, String) {
    let figures = format!("{bf16:.0} GFLOP/s in registers in bf16 ({unit}), {f32:.0} in f32");
    if bf16 >= WORTHWHILE * f32 {
        let what = "frozen weights are rounded to bf16, what is trained stays f32";
        (Precision::Bf16, format!("{figures}; {what}"))
    } else {
        let what = format!("bf16 is taken where it is {WORTHWHILE} times as fast");
        (Precision::F32, format!("{figures}; {what}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_takes_bf16_only_where_it_is_worthwhile_and_says_why() {
        let (precision, reason) = choose([170.0, 2300.0], "AMX");
        assert_eq!(precision, Precision::Bf16);
        assert!(reason.contains("2300") && reason.contains("170") && reason.contains("AMX"));
        assert_eq!(choose([170.0, 170.0], "f32 instructions").0, Precision::F32);
    }

    #[test]
    fn auto_never_stays_in_the_settings_and_other_values_do() {
        let settled = |value: &str| {
            let mut settings = [("precision".to_owned(), value.to_owned())].into();
            settle(&mut settings);
            settings["precision"].clone()
        };
        assert!(["f32", "bf16"].contains(&settled("auto").as_str()));
        for other in ["bf16", "int8", "q4"] {
            assert_eq!(settled(other), other);
        }
        assert_eq!(settled("f16"), "f16");
    }
}
