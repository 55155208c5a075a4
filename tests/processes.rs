//! A comparison and the processes of its runs: signals, claims, several at the same time, threads.

#[cfg(unix)]
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::{
    fs,
    io::{BufRead, BufReader, Lines},
    path::Path,
    process::{Child, ChildStdout, Stdio},
    thread,
    time::Duration,
};

use serde_json::Value;

use crate::{
    decoders::model,
    support::{Place, Typed, record_files, tiny_backbone},
};

/// More steps than anybody waits for.
#[cfg(unix)]
const ENDLESS: &str = "--set=recipe.steps=1000000";

#[cfg(unix)]
fn start(place: &Place, arguments: &(impl Typed + ?Sized)) -> Child {
    place
        .command(arguments)
        .process_group(0)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// A command over the reviews whose runs would take hours, once the first has begun to train; what it tells is read on by the
/// caller.
#[cfg(unix)]
fn endless(place: &Place, command: &str, more: &[&str]) -> (Child, Lines<BufReader<ChildStdout>>) {
    begun(place, &place.tiny(command, more))
}

/// The same of any arguments.
#[cfg(unix)]
fn begun(
    place: &Place,
    arguments: &(impl Typed + ?Sized),
) -> (Child, Lines<BufReader<ChildStdout>>) {
    let all = [arguments.words(), [ENDLESS, "--json"].words()].concat();
    let mut child = start(place, &all);
    // Until the run has begun to train there is nothing to interrupt.
    let mut events = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(events.any(|line| line.unwrap().contains("\"step\"")));
    (child, events)
}

#[cfg(unix)]
fn signal(name: &str, to: &str) {
    let mut kill = std::process::Command::new("kill");
    assert!(kill.args([name, "--", to]).status().unwrap().success());
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_a_comparison_with_a_record_and_exit_code_130_and_it_goes_on_later() {
    let place = Place::new();
    let (child, mut events) = endless(&place, "compare", &["--methods", "lora", "--seeds", "1"]);
    // A terminal sends it to the comparison and to the run's process.
    signal("-INT", &format!("-{}", child.id()));
    assert!(events.all(|line| line.is_ok()));
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("the same command goes on"), "{said}");
    let interrupted = place.records("out");
    assert_eq!(interrupted.len(), 1);
    assert_eq!(interrupted[0]["status"]["is"], "interrupted");
}

#[cfg(unix)]
#[test]
fn a_signal_to_the_comparison_alone_reaches_the_run_and_the_exit_code_tells_which() {
    for (name, code) in [("-TERM", 143), ("-INT", 130), ("-HUP", 129)] {
        let place = Place::new();
        let more = ["--methods", "lora", "--seeds", "1"];
        let (child, mut events) = endless(&place, "compare", &more);
        signal(name, &child.id().to_string());
        assert!(events.all(|line| line.is_ok()));
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{name}: {said}");
        assert_eq!(
            place.records("out")[0]["status"]["is"],
            "interrupted",
            "{name}"
        );
        let files = fs::read_dir(place.path().join("out/records")).unwrap();
        let claims = files.filter(|f| {
            let name = f.as_ref().unwrap().file_name();
            name.to_string_lossy().ends_with(".claim")
        });
        assert_eq!(claims.count(), 0, "the claim is given back");
    }
}

/// Files below a folder whose names end like this.
#[cfg(unix)]
fn below(folder: &Path, end: &str) -> usize {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.path().is_dir() {
            true => below(&entry.path(), end),
            false => usize::from(entry.file_name().to_string_lossy().ends_with(end)),
        })
        .sum()
}

#[cfg(unix)]
#[test]
fn a_signal_to_a_search_or_a_study_reaches_its_run_too() {
    for (command, more) in [
        ("tune", &["--methods=lora", "--trials=1"][..]),
        ("sweep", &["--study=rank.yaml"]),
    ] {
        let place = Place::new();
        place.file(
            "rank.yaml",
            "title: Rank\nquestion: Does it matter?\nx: {title: rank, key: lora.rank, values: [1, 2]}\nseries: [{method: lora}]\n",
        );
        let (child, events) = endless(&place, command, &[more, &["--seeds=1"]].concat());
        stops(&place, child, Some(events));
    }
}

/// Signals the command alone: the one run that it makes is recorded as interrupted, and its claim is given back.
#[cfg(unix)]
fn stops(place: &Place, child: Child, events: Option<Lines<BufReader<ChildStdout>>>) {
    signal("-TERM", &child.id().to_string());
    assert!(events.into_iter().flatten().all(|line| line.is_ok()));
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(143), "{said}");
    let out = place.path().join("out");
    assert_eq!(below(&out, ".unfinished.json"), 1, "{said}");
    assert_eq!(below(&out, ".claim"), 0, "{said}");
}

/// Two files of texts with the same two labels.
#[cfg(unix)]
fn films_and_tales(place: &Place) {
    for (name, good, bad) in [
        ("films", "good fine", "bad poor"),
        ("tales", "great", "awful"),
    ] {
        let row = |i: usize| format!("{} {i},{}\n", [good, bad][i % 2], ["up", "down"][i % 2]);
        let rows: String = (0..160).map(row).collect();
        place.file(&format!("{name}.csv"), format!("text,label\n{rows}"));
    }
}

#[cfg(unix)]
#[test]
fn a_signal_to_a_suite_or_to_a_comparison_of_completions_reaches_its_run_too() {
    let place = Place::new();
    films_and_tales(&place);
    let suite = place.file(
        "both.yaml",
        "title: Both\nabout: Films and tales.\ndatasets: [films.csv, tales.csv]\nmethods: [lora]\n",
    );
    let backbone = tiny_backbone();
    let shared = [
        "--budget=quick",
        "--seeds=1",
        "--set=recipe.batch=8",
        "--out=out",
        "--backbone",
    ];
    let of = |what: &[&str], backbone: &Path| {
        let all = [
            &["compare"][..],
            what,
            &shared,
            &[backbone.to_str().unwrap()],
        ]
        .concat();
        let (child, events) = begun(&place, &all);
        stops(&place, child, Some(events));
        fs::remove_dir_all(place.path().join("out")).unwrap();
    };
    of(&[suite.to_str().unwrap()], &backbone);
    let row = |i: usize| format!("number {},good fine\n", i % 80);
    let rows: String = (0..160).map(row).collect();
    let data = place.file("texts.csv", format!("prompt,completion\n{rows}"));
    let decoder = model(&place, "llama_scaled");
    let what = [
        data.to_str().unwrap(),
        "--objective=completion",
        "--max-new-tokens=8",
        "--methods=lora",
    ];
    of(&what, &decoder);
}

#[cfg(unix)]
#[test]
fn a_signal_to_the_study_of_domains_reaches_its_run_too() {
    let place = Place::new();
    films_and_tales(&place);
    let backbone = tiny_backbone();
    let mut child = start(
        &place,
        &[
            "domains",
            "--datasets=films.csv,tales.csv",
            "--methods=lora",
            "--set=recipe.batch=8",
            ENDLESS,
            "--out=out",
            "--backbone",
            backbone.to_str().unwrap(),
        ],
    );
    // It tells no events; who has claimed a run is about to make it.
    while below(&place.path().join("out"), ".claim") == 0 {
        assert!(child.try_wait().unwrap().is_none(), "it ended before");
        thread::sleep(Duration::from_millis(20));
    }
    stops(&place, child, None);
}

#[cfg(unix)]
#[test]
fn a_signal_ends_a_measurement_at_once() {
    let place = Place::new();
    let weights = place.trained("head_only", &[]);
    let mut child = start(
        &place,
        &[
            "latency",
            "--weights",
            &weights,
            "--no-sentences",
            "--seconds=60",
        ],
    );
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap().starts_with("[1/")));
    signal("-TERM", &child.id().to_string());
    assert_eq!(child.wait().unwrap().signal(), Some(15));
}

#[cfg(unix)]
#[test]
fn a_signal_ends_what_only_reads_at_once() {
    let place = Place::new();
    let weights = place.trained("head_only", &[]);
    let mut command = place.command(&["predict", "--weights", &weights, "--input", "-"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // It has its weights once it answers.
    let mut rows = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut rows, b"{\"text\": \"good\"}\n").unwrap();
    let mut answer = String::new();
    let mut answers = BufReader::new(child.stdout.take().unwrap());
    answers.read_line(&mut answer).unwrap();
    assert!(answer.contains("label"), "{answer}");
    signal("-TERM", &child.id().to_string());
    assert_eq!(child.wait().unwrap().signal(), Some(15));
}

/// The processes whose parent is `pid`.
#[cfg(target_os = "linux")]
fn children_of(pid: u32) -> Vec<u32> {
    let parent = |pid: u32| -> Option<u32> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        fields.nth(1)?.parse().ok()
    };
    let all = fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|e| e.file_name().to_str()?.parse().ok())
        .filter(|p| parent(*p) == Some(pid))
        .collect()
}

#[cfg(target_os = "linux")]
#[test]
fn a_run_ends_with_the_comparison_that_was_killed_and_its_claim_is_taken_over() {
    let place = Place::new();
    let more = ["--methods", "lora", "--seeds", "1"];
    let (mut killed, events) = endless(&place, "compare", &more);
    let run = children_of(killed.id());
    assert_eq!(run.len(), 1);
    signal("-KILL", &killed.id().to_string());
    killed.wait().unwrap();
    drop(events);
    let running = || {
        fs::read_to_string(format!("/proc/{}/stat", run[0])).is_ok_and(|stat| !stat.contains(") Z"))
    };
    while running() {
        thread::sleep(Duration::from_millis(20));
    }
    assert!(
        fs::read_dir(place.path().join("out/records"))
            .unwrap()
            .any(|f| { f.unwrap().file_name().to_string_lossy().ends_with(".claim") })
    );
    // Begins to train, so it has the claim.
    let (again, events) = endless(&place, "compare", &more);
    signal("-TERM", &again.id().to_string());
    drop(events);
    assert_eq!(again.wait_with_output().unwrap().status.code(), Some(143));
}

#[test]
fn two_comparisons_in_one_folder_share_the_runs_and_lose_none() {
    let place = Place::new();
    let more = [
        "--methods",
        "lora,adapter,ia3,bitfit",
        "--seeds",
        "2",
        "--json",
    ];
    let arguments = place.tiny("compare", &more);
    let both: Vec<Child> = (0..2)
        .map(|_| {
            let mut command = place.command(&arguments);
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            command.spawn().unwrap()
        })
        .collect();
    let mut started = 0;
    for child in both {
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        let events = String::from_utf8(output.stdout).unwrap();
        started += events.matches("\"event\":\"started\"").count();
        let last: Value = serde_json::from_str(events.lines().last().unwrap()).unwrap();
        assert_eq!(last["event"], "compared", "{last}");
    }
    let records = place.records("out");
    assert_eq!((records.len(), started), (8, 8), "each run is made once");
    assert!(records.iter().all(|r| r["status"]["is"] == "ok"));
}

#[test]
fn a_part_of_a_comparison_that_is_made_again_leaves_the_others_in_the_report() {
    let place = Place::new();
    for methods in ["lora,ia3", "lora"] {
        let more = ["--methods", methods, "--seeds", "1"];
        let table = place.ok(&place.tiny("compare", &more));
        assert!(table.contains("ia3"), "{table}");
        let report = fs::read_to_string(place.path().join("out/report.html")).unwrap();
        assert!(report.contains("ia3"), "{report}");
    }
}

#[test]
fn several_runs_at_the_same_time_give_the_records_of_one_after_the_other() {
    let outcomes = |jobs: &str| {
        let place = Place::new();
        let more = [
            "--methods",
            "lora,ia3,bitfit",
            "--seeds",
            "1",
            "--jobs",
            jobs,
        ];
        place.ok(&place.tiny("compare", &more));
        let all = place.records("out").into_iter();
        all.map(|r| (r["id"].clone(), r["outcome"].clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(outcomes("1"), outcomes("3"));
}

#[test]
fn a_run_that_another_process_makes_is_named_with_who_makes_it() {
    let place = Place::new();
    let arguments = place.tiny("train", &["--method", "lora"]);
    place.ok(&arguments);
    let record = record_files(&place.path().join("out/records")).remove(0);
    fs::remove_file(&record).unwrap();
    let owner = r#"{"host":"node7 boot","pid":4711,"begun":1,"nonce":"00"}"#;
    fs::write(record.with_extension("claim"), format!("{owner}\n")).unwrap();
    place.refused(&arguments, &["process 4711 on node7", "--out"]);
}

#[test]
fn the_threads_that_are_asked_for_compute_the_runs_of_a_comparison() {
    let place = Place::new();
    let more = ["--methods", "lora", "--seeds", "1", "--threads", "1"];
    place.ok(&place.tiny("compare", &more));
    assert_eq!(place.records("out")[0]["circumstances"]["threads"], 1);
}

#[test]
fn more_threads_than_the_machine_gives_are_refused_with_both_numbers() {
    let most = std::thread::available_parallelism().unwrap().to_string();
    for asked in ["0", "18446744073709551615"] {
        Place::new().refused(&["list", "methods", "--threads", asked], &[asked, &most]);
    }
}
