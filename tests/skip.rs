//! A test that cannot run says why; where it must run, that is a failure.

/// Says why a test of this kind does not run here. `PEFTBENCH_REQUIRE` names, separated by commas, the kinds that must
/// run (`real`: real data and backbones, `pip`: Python's pip, `interop`: the Python libraries, `latex`: pdflatex, `wheel`: a wheel
/// and an environment of its own, `reference`: what takes minutes on the reference path, `registry`: downloads from the Python
/// registry; scripts know `page`, `slurm` and `large` too); for them it is a failure.
#[track_caller]
pub fn skip(kind: &str, why: impl std::fmt::Display) {
    assert!(!required(kind), "PEFTBENCH_REQUIRE has {kind}, but: {why}");
    println!("skipped ({kind}): {why}");
}

/// Whether tests of this kind must run.
pub fn required(kind: &str) -> bool {
    let required = std::env::var("PEFTBENCH_REQUIRE").unwrap_or_default();
    required.split(',').any(|required| required.trim() == kind)
}
