//! The wheel that `just wheel` builds: in an environment of its own, without Rust.

use std::{fs, path::Path, process::Command};

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
