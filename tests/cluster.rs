//! Runs that are made elsewhere: plan files, tasks, workers, submission, and what is told of them.

use std::{fs, path::PathBuf, process::Output};

use serde_json::{Value, json};

use crate::support::{Place, Typed, record_files, tiny_backbone, words};

fn records(place: &Place) -> Vec<PathBuf> {
    record_files(&place.path().join("out/records"))
}

fn counts(place: &Place, folder: &str) -> Value {
    let status: Value = serde_json::from_str(&place.ok(&["status", folder, "--json"])).unwrap();
    status["counts"].clone()
}

fn ended(output: &Output, code: i32, says: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}");
    for part in says {
        assert!(said.contains(part), "'{part}' is not in: {said}");
    }
}

/// Plans two methods over two seeds into `plan`, two runs per task; what was printed, and the plan file.
fn planned(place: &Place, more: &[&str]) -> (String, PathBuf) {
    let own = words("--methods lora,ia3 --seeds 2 --plan-only plan --per-task 2");
    let all = [&own[..], more].concat();
    let printed = place.ok(&place.tiny("compare", &all));
    (printed, place.path().join("plan/plans.jsonl"))
}

fn task(place: &Place, index: &str) -> Output {
    // As Slurm starts a task: its index in the environment.
    let mut command = place.command(&["run-plan", "--from", "plan/plans.jsonl", "--per-task", "2"]);
    command
        .env("SLURM_ARRAY_JOB_ID", "12")
        .env("SLURM_ARRAY_TASK_ID", index)
        .output()
        .unwrap()
}

#[test]
fn a_plan_file_is_made_task_by_task_and_by_workers_and_its_state_is_told() {
    let place = Place::new();
    let (printed, file) = planned(&place, &["--", "--account=me"]);
    assert!(
        printed.contains("sbatch --account=me --array=0-1 "),
        "{printed}"
    );
    for name in ["submit.sbatch", "report.sbatch", "job.yaml", "hq.sh"] {
        assert!(place.path().join("plan").join(name).is_file(), "{name}");
    }
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(text.lines().count(), 4);
    assert!(text.lines().all(|line| line.contains("\"offline\":true")));
    assert_eq!(records(&place).len(), 0, "nothing is trained");

    assert_eq!(counts(&place, "plan"), json!({ "waiting": 4 }));
    ended(&task(&place, "1"), 0, &[]);
    assert_eq!(counts(&place, "plan"), json!({ "done": 2, "waiting": 2 }));
    let record: Value = serde_json::from_slice(&fs::read(&records(&place)[0]).unwrap()).unwrap();
    assert_eq!(record["circumstances"]["task"], "slurm 12_1");
    ended(&task(&place, "1"), 0, &["2 of 2 runs had a record already"]);
    place.ok(&["work", "plan"]);
    assert_eq!(counts(&place, "plan"), json!({ "done": 4 }));
    assert_eq!(records(&place).len(), 4);
    // The same command with nothing left to make reports.
    let (printed, _) = planned(&place, &[]);
    assert!(
        printed.contains("lora") && !printed.contains("sbatch"),
        "{printed}"
    );
}

#[test]
fn a_time_limit_follows_from_runs_on_the_same_data_only_and_from_the_cores_of_a_task() {
    let place = Place::new();
    let lora = ["--methods", "lora", "--seeds", "1"];
    place.ok(&place.tiny("compare", &lora));
    let plan = |more: &[&str]| {
        let plan = ["--methods", "lora,ia3", "--seeds", "2", "--plan-only=plan"];
        let output = place.run(&place.tiny("compare", &[&plan, more].concat()));
        ended(&output, 0, &[]);
        let said = String::from_utf8(output.stderr).unwrap();
        let script = fs::read_to_string(place.path().join("plan/submit.sbatch")).unwrap();
        let time = script.lines().find(|l| l.contains("--time")).unwrap();
        (said, time.to_owned())
    };
    let (said, time) = plan(&[]);
    assert!(said.contains("a task with 1 core lasts up to"), "{said}");
    assert_eq!(time, "#SBATCH --time=00:10:00", "ten minutes at least");
    let (said, _) = plan(&["--", "-c", "4"]);
    assert!(said.contains("a task with 4 cores lasts up to"), "{said}");
    // Other data under the same name, recipe and backbone: nothing is known of them.
    let rows = fs::read_to_string(place.path().join("reviews.csv")).unwrap();
    let longer = rows.replace(" number", &" good".repeat(30));
    place.file("longer.csv", &longer);
    let mut other = place.tiny(
        "compare",
        &["--methods", "lora", "--seeds", "1", "--plan-only=other"],
    );
    other[1] = "longer.csv".to_owned();
    let output = place.run(&other);
    ended(&output, 0, &["no record of the same data"]);
    let script = fs::read_to_string(place.path().join("other/submit.sbatch")).unwrap();
    assert!(script.contains("#SBATCH --time=01:00:00\n"), "{script}");
}

#[test]
fn a_bad_plan_file_or_index_is_exit_code_42_with_one_message() {
    let place = Place::new();
    let (_, file) = planned(&place, &[]);
    let text = fs::read_to_string(&file).unwrap();
    ended(&task(&place, "2"), 42, &["0 to 1", "no task 2"]);
    ended(&task(&place, "many"), 42, &["SLURM_ARRAY_TASK_ID=many"]);
    let unnamed = place.run(&["run-plan", "--from", "plan/plans.jsonl"]);
    ended(&unnamed, 42, &["none is named", "--task"]);
    let anew = "write the file anew with --plan-only";
    let rotten = |text: String, index: &str, says: &[&str]| {
        fs::write(&file, text).unwrap();
        ended(&task(&place, index), 42, says);
    };
    rotten(
        text.replace("\"format\":3", "\"format\":1"),
        "0",
        &["line 1: format 1 is not 3", anew],
    );
    rotten(
        text.replace("\"seed\":0", "\"seed\":7"),
        "0",
        &["edited", anew],
    );
    rotten(
        text.replace("\"overrides\":{}", "\"overrides\":{\"rnak\":\"4\"}"),
        "0",
        &["rnak"],
    );
    rotten(
        text[..text.len() / 2 - 10].to_owned(),
        "0",
        &["line ", anew],
    );
    rotten(String::new(), "0", &["no run is planned"]);
    // A line is missing, the last ones too, or two have changed places: another task's runs would be made.
    let lines: Vec<&str> = text.lines().collect();
    let says = |line: &'static str| [line, "missing or moved", anew];
    for (kept, line) in [
        (&[0, 2, 3][..], "line 2 of 3 was written as line 3 of 4"),
        (&[0, 1], "line 1 of 2 was written as line 1 of 4"),
        (&[0, 2, 1, 3], "line 2 of 4 was written as line 3 of 4"),
    ] {
        let kept: Vec<&str> = kept.iter().map(|&i: &usize| lines[i]).collect();
        rotten(kept.join("\n"), "0", &says(line));
    }
    assert_eq!(records(&place).len(), 0);
}

#[test]
fn what_another_node_may_have_is_no_reason_to_give_up() {
    let place = Place::new();
    let backbone = place.path().join("backbone");
    fs::create_dir(&backbone).unwrap();
    for entry in fs::read_dir(tiny_backbone()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, backbone.join(path.file_name().unwrap())).unwrap();
        }
    }
    let more = words("--methods lora,ia3 --seeds 2 --plan-only plan");
    let mut arguments = place.tiny("compare", &more);
    let named = arguments.iter().position(|a| a == "--backbone").unwrap();
    arguments[named + 1] = backbone.to_str().unwrap().to_owned();
    place.ok(&arguments);
    let file = place.path().join("plan/plans.jsonl");
    let weights = fs::read_dir(&backbone).unwrap().map(|e| e.unwrap().path());
    let weights = weights.filter(|p| p.extension().is_some_and(|e| e == "safetensors"));
    weights.for_each(|path| fs::remove_file(path).unwrap());
    ended(&task(&place, "0"), 2, &["backbone", "safetensors"]);
    // The folder of the records is not shared: a record that nobody else sees is never written.
    let out = place.path().join("out");
    fs::rename(&out, place.path().join("elsewhere")).unwrap();
    let unseen = ["out/records", "must see the folder of the records"];
    ended(&task(&place, "0"), 2, &unseen);
    ended(&place.run(&["work", "plan"]), 2, &unseen);
    assert!(!out.exists());
    // There is a folder of this name, but it is the node's own.
    fs::create_dir_all(out.join("records")).unwrap();
    let another = ["out/records", "is not the one that the plan was made for"];
    ended(&task(&place, "0"), 2, &another);
    ended(&place.run(&["work", "plan"]), 2, &another);
    assert_eq!(records(&place).len(), 0);
    fs::rename(&file, file.with_extension("elsewhere")).unwrap();
    ended(
        &task(&place, "0"),
        2,
        &["every machine that makes runs must see the folder"],
    );
}

/// A limit on the size of files fails a write in the middle, as a quota does.
#[cfg(unix)]
#[test]
fn a_quota_that_is_reached_ends_a_task_with_a_message_and_another_try_is_asked_for() {
    let place = Place::new();
    planned(&place, &[]);
    let script = format!(
        "trap '' XFSZ; ulimit -f 2; exec '{}' run-plan --from plan/plans.jsonl --task 0",
        env!("CARGO_BIN_EXE_peftbench")
    );
    let output = place
        .in_place(std::process::Command::new("sh").args(["-c", &script]))
        .output()
        .unwrap();
    assert!(!matches!(output.status.code(), Some(0 | 42)), "{output:?}");
    ended(&output, output.status.code().unwrap(), &["cannot write"]);
    let files = fs::read_dir(place.path().join("out/records")).unwrap();
    let left = files.filter(|f| {
        let name = f.as_ref().unwrap().file_name().into_string().unwrap();
        name.ends_with(".claim") || name.ends_with(".tmp")
    });
    assert_eq!(left.count(), 0, "nothing half is left");
}

#[test]
fn studies_and_searches_are_planned_too_and_a_search_goes_on_with_its_winners() {
    let place = Place::new();
    let study = place.file(
        "rank.yaml",
        "title: Rank\nquestion: Does it matter?\nx: {title: rank, key: lora.rank, values: [1, 2]}\nseries: [{method: lora}]\n",
    );
    let sweep = place.tiny(
        "sweep",
        &[
            "--study",
            study.to_str().unwrap(),
            "--seeds",
            "1",
            "--plan-only",
            "plan",
        ],
    );
    let printed = place.ok(&sweep);
    assert!(printed.contains("report --records"), "{printed}");
    assert_eq!(counts(&place, "plan"), json!({ "waiting": 2 }));
    place.ok(&["work", "plan"]);
    let text = place.ok(&["status", "plan"]);
    assert!(text.starts_with("2 runs: 2 done"), "{text}");
    // The last job: of a folder that holds nothing but a study.
    place.ok(&["report", "--records", "out"]);
    let files = fs::read_dir(place.path().join("out")).unwrap();
    let drawn = files.filter(|f| {
        f.as_ref()
            .unwrap()
            .file_name()
            .to_string_lossy()
            .starts_with("study-")
    });
    assert!(drawn.count() > 0);

    let tune = place.tiny(
        "tune",
        &words("--methods lora --trials 2 --seeds 1 --plan-only search"),
    );
    let printed = place.ok(&tune);
    assert!(printed.contains("the same command again"), "{printed}");
    assert_eq!(counts(&place, "search"), json!({ "waiting": 2 }));
    // Stage after stage until the winner is trained.
    let mut stages = 0;
    let mut printed = printed;
    while !printed.contains("lora (tuned)") {
        stages += 1;
        assert!(stages < 8, "{printed}");
        place.ok(&["work", "search", "--jobs", "2"]);
        printed = place.ok(&tune);
    }
    assert!(stages >= 2, "the search, then the winner");
}

/// Programs of Slurm that write down how they were called.
#[cfg(unix)]
fn fake_slurm(place: &Place) -> String {
    use std::os::unix::fs::PermissionsExt;
    let bin = place.path().join("bin");
    fs::create_dir(&bin).unwrap();
    for (name, script) in [
        ("scontrol", "echo 'MaxArraySize            = 2'"),
        (
            "sbatch",
            "echo \"$*\" >> sbatch.log; echo $((100 + $(wc -l < sbatch.log)))\\;cluster",
        ),
        (
            "squeue",
            "echo \"$*\" >> squeue.log; printf 'PENDING\\nPENDING\\nRUNNING\\n'",
        ),
    ] {
        let path = bin.join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    format!("{}:{}", bin.display(), std::env::var("PATH").unwrap())
}

#[cfg(unix)]
#[test]
fn a_comparison_is_submitted_as_arrays_with_the_report_behind_them_and_slurm_is_asked_seldom() {
    let place = Place::new();
    let path = fake_slurm(&place);
    let run = |typed: &dyn Typed| {
        let output = place.command(typed).env("PATH", &path).output().unwrap();
        ended(&output, 0, &[]);
        String::from_utf8(output.stdout).unwrap()
    };
    let more = [
        "--methods",
        "lora,ia3,bitfit",
        "--seeds",
        "1",
        "--submit",
        "--per-task",
        "1",
        "--parallel",
        "7",
        "--",
        "-p",
        "fast lane",
    ];
    let printed = run(&place.tiny("compare", &more));
    assert!(
        printed.contains("submitted: 101, 102 for the runs, 103"),
        "{printed}"
    );
    let script = place
        .path()
        .canonicalize()
        .unwrap()
        .join("out/plan/submit.sbatch");
    let log = fs::read_to_string(place.path().join("sbatch.log")).unwrap();
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(
        lines[..2],
        [
            format!("--parsable -p fast lane --array=0-1%7 {}", script.display()),
            format!(
                "--parsable -p fast lane --array=0-0%7 {} 2",
                script.display()
            ),
        ]
    );
    assert!(
        lines[2].contains("-p fast lane --dependency=afterany:101:102 "),
        "{log}"
    );

    for _ in 0..2 {
        let text = run(&["status", "out"]);
        assert!(text.starts_with("3 runs: 3 waiting\n"), "{text}");
        assert!(
            text.contains("Slurm, asked up to 40 s ago: 2 pending, 1 running\n"),
            "{text}"
        );
    }
    let log = fs::read_to_string(place.path().join("squeue.log")).unwrap();
    assert_eq!(
        log, "--noheader --array --format=%T --jobs 101,102,103\n",
        "asked once"
    );

    // Slurm refuses: its words, and nothing is lost.
    fs::write(
        place.path().join("bin/sbatch"),
        "#!/bin/sh\necho 'invalid partition' >&2; exit 1\n",
    )
    .unwrap();
    let again = place.tiny("compare", &more);
    let output = place.command(&again).env("PATH", &path).output().unwrap();
    ended(&output, 2, &["invalid partition", "nothing was submitted"]);
}

#[test]
fn what_is_said_of_a_plan_without_one_is_refused() {
    let place = Place::new();
    for (more, says) in [
        (&["--per-task", "2"][..], "--per-task"),
        (&["--parallel", "2"], "--parallel"),
        (&["--", "-p", "fast"], "behind --"),
    ] {
        place.refused(&place.tiny("compare", more), &[says, "--plan-only"]);
    }
    place.refused(&["status", "nowhere"], &["nowhere", "--plan-only"]);
}

#[test]
fn of_two_records_of_a_run_the_first_stays_and_that_is_said() {
    let place = Place::new();
    let arguments = place.tiny("train", &["--method", "lora"]);
    place.ok(&arguments);
    let first = fs::read(&records(&place)[0]).unwrap();
    let again = place.run(&arguments);
    ended(&again, 0, &["note: the run had a record already"]);
    assert_eq!(fs::read(&records(&place)[0]).unwrap(), first);
}

#[test]
fn all_saved_weights_of_a_comparison_are_timed_on_one_node_by_a_batch_script() {
    let place = Place::new();
    place.ok(&place.tiny("compare", &["--methods", "lora,ia3", "--seeds", "1"]));
    let printed = place.ok(
        "latency --weights out --batches=1 --lengths=8 --seconds=0.01 --no-sentences \
         --plan-only latency -- -p fast",
    );
    assert!(printed.starts_with("sbatch -p fast "), "{printed}");
    let script = fs::read_to_string(place.path().join("latency/latency.sbatch")).unwrap();
    assert!(script.contains("#SBATCH --exclusive\n"), "{script}");
    let command = script
        .lines()
        .last()
        .unwrap()
        .strip_prefix("exec ")
        .unwrap();
    assert!(command.ends_with("--no-sentences --offline"), "{script}");
    // What the node does.
    let measured = place
        .in_place(std::process::Command::new("sh").args(["-c", command]))
        .output()
        .unwrap();
    ended(&measured, 0, &[]);
    let table = String::from_utf8(measured.stdout).unwrap();
    assert!(table.contains("lora") && table.contains("ia3"), "{table}");
}
