//! The wheel that `just wheel` builds: in an environment of its own, without Rust.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use serde_json::Value;

use crate::support::{Place, few_steps, required, skip, tiny_backbone};

/// The largest program that is shipped, in bytes.
const LARGEST: u64 = 40_000_000;

#[test]
fn the_wheel_brings_program_and_package_into_a_fresh_environment() {
    if !required("wheel") {
        return skip(
            "wheel",
            "it is tried where PEFTBENCH_REQUIRE names wheel, after just wheel",
        );
    }
    let program = Path::new(env!("CARGO_BIN_EXE_peftbench"));
    let folder = program.ancestors().nth(2).unwrap().join("wheels");
    let found = fs::read_dir(&folder).into_iter().flatten().flatten();
    let wheels = found.map(|entry| entry.path());
    let wheels = wheels.filter(|path| path.extension().is_some_and(|e| e == "whl"));
    let newest = wheels.max_by_key(|path| fs::metadata(path).unwrap().modified().unwrap());
    let Some(wheel) = newest else {
        let why = format!(
            "{}: no wheel there; just wheel builds one",
            folder.display()
        );
        return skip("wheel", why);
    };
    let place = Place::new();
    let run = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        let command = place.in_place(command.args(arguments));
        let output = command.env("PATH", "/usr/bin:/bin").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    };
    run("python3", &["-m", "venv", "fresh"]);
    let wheel = wheel.to_str().unwrap();
    let installed = ["-m", "pip", "install", "--quiet", "--no-index", wheel];
    run("fresh/bin/python", &installed);
    let size = fs::metadata(place.path().join("fresh/bin/peftbench"))
        .unwrap()
        .len();
    assert!(size < LARGEST, "the program has {size} bytes");
    assert!(run("fresh/bin/peftbench", &["list", "methods"]).contains("prompt_tuning"));
    let through =
        "import peftbench; print(peftbench.binary()); print(peftbench.run('list', 'datasets'))";
    let said = run("fresh/bin/python", &["-c", through]);
    assert!(
        said.contains("fresh/bin/peftbench") && said.contains("sst2"),
        "{said}"
    );
    // To the first page.
    let (data, backbone) = (place.reviews(), tiny_backbone());
    let (data, backbone) = (data.to_str().unwrap(), backbone.to_str().unwrap());
    let table = run(
        "fresh/bin/peftbench",
        &few_steps("compare", data, backbone, &["--seeds=1"]),
    );
    assert!(table.contains("prompt_tuning"), "{table}");
    let page = fs::read_to_string(place.path().join("out/report.html")).unwrap();
    assert!(page.contains("prompt_tuning"));
}

#[test]
fn a_tag_builds_and_tries_a_wheel_of_each_system_before_any_is_published() {
    let flow = include_str!("../.github/workflows/release.yml");
    let flow: Value = serde_yaml::from_str(flow).unwrap();
    assert_eq!(flow["on"]["push"]["tags"][0], "v*");
    let jobs = &flow["jobs"];
    let systems = jobs["build"]["strategy"]["matrix"]["include"].as_array();
    let targets = systems.unwrap().iter().map(|system| &system["target"]);
    let targets: BTreeSet<&str> = targets.map(|target| target.as_str().unwrap()).collect();
    assert_eq!(
        targets,
        BTreeSet::from([
            "aarch64-apple-darwin",
            "aarch64-unknown-linux-gnu",
            "x86_64-apple-darwin",
            "x86_64-unknown-linux-gnu",
        ])
    );
    let steps = jobs["build"]["steps"].as_array().unwrap().iter();
    let tried = steps.filter_map(|step| step["run"].as_str()).any(|run| {
        run.contains("pip install")
            && run.contains("peftbench list methods")
            && run.contains("test_peftbench.py")
    });
    assert!(tried, "{jobs}");
    let first = serde_json::json!(["build", "check"]);
    assert_eq!(jobs["publish"]["needs"], first);
}
