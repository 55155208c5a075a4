//! `serve`: answers over HTTP are those of the command line, limits hold, and it stops cleanly.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Stdio},
    thread,
};

use serde_json::{Value, json};

use crate::{
    doors::compared,
    support::{Place, tiny_backbone},
};

/// A running service.
struct Service {
    child: Child,
    address: String,
}

impl Service {
    fn start(place: &Place, more: &[&str]) -> Self {
        let arguments = [&["serve", "--tasks", "out/weights", "--port", "0"], more].concat();
        let mut command = place.command(&arguments);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut first).unwrap();
        let address = first.trim().strip_prefix("http://").unwrap().to_owned();
        Self { child, address }
    }

    /// Status and body of an answer. (By HTTP/1.0, whose bodies come whole.)
    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, body.to_owned())
    }

    fn predict(&self, body: &Value) -> (u16, Value) {
        let (status, text) = self.ask("POST", "/v1/predict", &body.to_string());
        (status, serde_json::from_str(&text).unwrap())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn rows_of_many_callers_and_tasks_get_the_answers_of_the_command_line() {
    let place = Place::new();
    compared(&place, &["--methods", "lora,adapter", "--seeds", "1"]);
    let service = Service::start(&place, &[]);
    let (status, tasks) = service.ask("GET", "/v1/tasks", "");
    let tasks: Value = serde_json::from_str(&tasks).unwrap();
    assert_eq!((status, tasks.as_array().unwrap().len()), (200, 2));
    let names: Vec<&str> = (0..2).map(|i| tasks[i]["task"].as_str().unwrap()).collect();

    let texts = ["good fine great", "bad poor awful", "number 7"];
    let rows: Vec<Value> = texts
        .iter()
        .flat_map(|text| {
            names
                .iter()
                .map(move |task| json!({ "task": task, "text": text }))
        })
        .collect();
    let lines: String = rows.iter().map(|row| format!("{row}\n")).collect();
    place.file("rows.jsonl", lines);
    let expected = place.ok(&["predict", "--tasks", "out/weights", "--input", "rows.jsonl"]);
    let expected: Vec<Value> = expected
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let (status, answer) = service.predict(&json!({ "rows": rows }));
                assert_eq!(status, 200, "{answer}");
                let found = answer["predictions"].as_array().unwrap();
                assert_eq!(found.len(), expected.len());
                for (found, expected) in found.iter().zip(&expected) {
                    assert_eq!(found["label"], expected["label"]);
                    let logit = |v: &Value| v["logits"][0].as_f64().unwrap();
                    assert!((logit(found) - logit(expected)).abs() < 1e-5);
                }
            });
        }
    });
    let (_, metrics) = service.ask("GET", "/metrics", "");
    let documented = include_str!("../docs/SERVING.md");
    let kinds = metrics.lines().filter_map(|l| l.strip_prefix("# TYPE "));
    for name in kinds.filter_map(|kind| kind.split(' ').next()) {
        assert!(documented.contains(&format!("`{name}")), "{name}");
    }
    assert!(metrics.contains("peftbench_rows_total 48\n"), "{metrics}");
    assert!(
        metrics.contains("peftbench_request_seconds_count 8\n"),
        "{metrics}"
    );
    assert!(metrics.contains("peftbench_request_seconds_bucket{le=\"+Inf\"} 8\n"));
    assert_eq!(
        service.ask("GET", "/health", "").1,
        r#"{"status":"ok","tasks":2}"#
    );
}

#[test]
fn more_requests_than_may_wait_are_refused_at_once_and_later_ones_are_answered() {
    let place = Place::new();
    compared(&place, &["--methods", "head_only", "--seeds", "1"]);
    let service = Service::start(&place, &["--queue", "1"]);
    // It listens on this machine only.
    assert!(service.address.starts_with("127.0.0.1:"));
    let many = json!({ "rows": vec!["good fine great bad poor awful"; 2000] });
    let at_once = || {
        thread::scope(|scope| {
            let asked: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| service.predict(&many)))
                .collect();
            let answers = asked.into_iter().map(|one| one.join().unwrap());
            answers.collect::<Vec<_>>()
        })
    };
    // (How many come while one is worked on depends on the machine.)
    let mut answers = (0..20).flat_map(|_| at_once());
    let refused = answers.find(|(status, _)| *status == 503);
    let (_, answer) = refused.expect("all of them were taken");
    let error = answer["error"].as_str().unwrap();
    assert!(error.contains("ask again later"), "{error}");
    assert_eq!(service.predict(&json!({ "rows": ["good"] })).0, 200);
    let (_, metrics) = service.ask("GET", "/metrics", "");
    assert!(!metrics.contains("{code=\"5xx\"} 0\n"), "{metrics}");
}

#[test]
fn what_cannot_be_answered_is_refused_in_json_and_harms_nobody() {
    let place = Place::new();
    compared(&place, &["--methods", "lora", "--seeds", "1"]);
    let service = Service::start(&place, &["--max-body", "1KB"]);
    for (method, path, body, status) in [
        ("GET", "/nowhere", "", 404),
        ("GET", "/v1/predict", "", 405),
        ("POST", "/v1/predict", "{", 400),
        ("POST", "/v1/predict", r#"{"rows": [{"txt": "a"}]}"#, 400),
        ("POST", "/v1/predict", r#"{"rows": [7]}"#, 400),
        ("POST", "/v1/predict", r#"{"texts": ["a"]}"#, 400),
        ("POST", "/v1/predict", &"x".repeat(2000), 413),
    ] {
        let (found, answer) = service.ask(method, path, body);
        assert_eq!(found, status, "{method} {path}: {answer}");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert!(answer["error"].is_string(), "{answer}");
    }
    // One task: its name may be left out. What is wrong with a row is that row's error alone.
    let rows = json!({ "rows": [
        "good", { "text": "bad", "task": "nobody" }, " ", { "tokens": ["good", "film"] }, { "text": "bad", "task": null },
        { "text": "bad", "pair": "good" },
    ] });
    let (status, answer) = service.predict(&rows);
    assert_eq!(status, 200, "{answer}");
    for (i, says) in [
        (1, "nobody"),
        (2, "column 'text' is empty"),
        (3, "reads whole texts"),
    ] {
        let error = answer["predictions"][i]["error"].as_str().unwrap();
        assert!(error.contains(says), "{error}");
    }
    for i in [0, 4, 5] {
        assert!(answer["predictions"][i]["label"].is_string(), "{answer}");
    }
    // As `predict` says it.
    let note = answer["notes"][0].as_str().unwrap();
    assert!(note.starts_with("1 of 5 rows have a second text"), "{note}");
}

#[test]
fn words_are_tagged_as_on_the_command_line_and_those_that_were_not_read_have_no_tag() {
    let place = Place::new();
    let row = |i: usize| {
        let (number, tags) = (i.to_string(), ["O", "B-mood", "O", "O"]);
        json!({ "tokens": ["the", "good", "film", number], "tags": tags }).to_string() + "\n"
    };
    let data = place.file("names.jsonl", (0..240).map(row).collect::<String>());
    let backbone = tiny_backbone();
    let mut arguments = vec!["compare", data.to_str().unwrap(), "--objective", "tokens"];
    arguments.extend(["--backbone", backbone.to_str().unwrap(), "--out", "out"]);
    arguments.extend([
        "--methods",
        "head_only",
        "--seeds",
        "1",
        "--budget",
        "quick",
    ]);
    for setting in ["steps=6", "evaluations=2", "batch=8", "max_tokens=8"] {
        let setting: &str = ["recipe.", setting].concat().leak();
        arguments.extend(["--set", setting]);
    }
    place.ok(&arguments);
    let task = fs::read_dir(place.path().join("out/weights"));
    let task = task.unwrap().next().unwrap().unwrap().file_name();
    let long = ["good"; 9];
    let rows = [
        json!({ "task": task.to_str(), "tokens": ["the", "good", "film"] }),
        json!({ "task": task.to_str(), "text": "the good film" }),
        json!({ "task": task.to_str(), "tokens": long }),
    ];
    place.file(
        "rows.jsonl",
        rows.iter()
            .map(|row| format!("{row}\n"))
            .collect::<String>(),
    );
    let asked = ["predict", "--tasks", "out/weights", "--input", "rows.jsonl"];
    let expected = place.run(&asked);
    let said = String::from_utf8_lossy(&expected.stderr);
    assert!(
        said.contains("1 of 3 texts are longer and were cut"),
        "{said}"
    );
    let expected = String::from_utf8(expected.stdout).unwrap();

    let service = Service::start(&place, &[]);
    let (status, answer) = service.predict(&json!({ "rows": rows }));
    assert_eq!(status, 200, "{answer}");
    let note = answer["notes"][0].as_str().unwrap();
    assert!(
        note.starts_with("1 of 3 texts are longer and were cut"),
        "{note}"
    );
    let found = answer["predictions"].as_array().unwrap();
    for (line, found) in expected.lines().zip(found) {
        let line: Value = serde_json::from_str(line).unwrap();
        for key in ["tokens", "tags", "entities", "cut"] {
            assert_eq!(line[key], found[key], "{key}: {line}");
        }
    }
    assert_eq!(found[0], found[1]);
    assert_eq!(
        (&found[0]["cut"], &found[2]["cut"]),
        (&Value::Null, &true.into())
    );
    let tags = |i: usize| found[i]["tags"].as_array().unwrap();
    assert!(tags(0).iter().all(Value::is_string), "{answer}");
    // Eight tokens, two of them special.
    let read = tags(2).iter().take_while(|tag| tag.is_string()).count();
    assert!((1..=6).contains(&read), "{answer}");
    assert!(
        tags(2).len() == 9 && tags(2)[read..].iter().all(Value::is_null),
        "{answer}"
    );
    let (_, metrics) = service.ask("GET", "/metrics", "");
    assert!(
        metrics.contains("peftbench_texts_cut_total 1\n"),
        "{metrics}"
    );
}

#[test]
fn one_backbone_with_many_weights_takes_less_room_than_a_model_each() {
    let place = Place::new();
    compared(&place, &["--methods", "lora,adapter,full", "--seeds", "1"]);
    let arguments = [
        "serving",
        "--tasks",
        "out/weights",
        "--seconds",
        "0.2",
        "--json",
    ];
    let shown = place.ok(&arguments[..5]);
    assert!(shown.contains("2 tasks over "), "{shown}");
    assert!(shown.contains(", rows of 24 tokens, "), "{shown}");
    let told = place.run(&arguments);
    let said = String::from_utf8(told.stderr).unwrap();
    assert!(
        said.contains("left out, for a backbone of its own"),
        "{said}"
    );
    let ways: Value = serde_json::from_slice(&told.stdout).unwrap();
    let of = |way: usize, key: &str| ways[way][key].as_f64().unwrap();
    for key in ["disk_bytes", "memory_bytes"] {
        assert!(of(1, key) < of(0, key), "{key}: {ways}");
    }
    for way in 0..2 {
        assert_eq!(of(way, "tasks"), 2.0);
        assert!(of(way, "row_p50_ms") > 0.0);
    }
}

#[cfg(unix)]
#[test]
fn a_signal_ends_the_service_with_success_and_what_it_did() {
    let place = Place::new();
    compared(&place, &["--methods", "head_only", "--seeds", "1"]);
    let mut service = Service::start(&place, &[]);
    assert_eq!(service.predict(&json!({ "rows": ["a", "b"] })).0, 200);
    let id = service.child.id().to_string();
    let kill = std::process::Command::new("kill")
        .args(["-TERM", &id])
        .status();
    assert!(kill.unwrap().success());
    let status = service.child.wait().unwrap();
    assert!(status.success(), "{status}");
    let mut said = String::new();
    let stderr = service.child.stderr.as_mut().unwrap();
    stderr.read_to_string(&mut said).unwrap();
    assert!(
        said.contains("stopped: 1 request, 2 rows answered"),
        "{said}"
    );
    assert!(fs::exists(place.path().join("out")).unwrap());
}

#[cfg(unix)]
#[test]
fn a_caller_who_never_ends_sending_does_not_hold_a_service_that_was_told_to_stop() {
    let place = Place::new();
    compared(&place, &["--methods", "head_only", "--seeds", "1"]);
    let mut service = Service::start(&place, &[]);
    let mut slow = TcpStream::connect(&service.address).unwrap();
    slow.write_all(b"POST /v1/predict HTTP/1.1\r\nContent-Length: 5000\r\n\r\n{")
        .unwrap();
    // (Whoever asks later is answered later.)
    assert_eq!(service.predict(&json!({ "rows": ["a"] })).0, 200);
    let id = service.child.id().to_string();
    let kill = std::process::Command::new("kill")
        .args(["-TERM", &id])
        .status();
    assert!(kill.unwrap().success());
    assert!(service.child.wait().unwrap().success());
    let mut said = String::new();
    let stderr = service.child.stderr.as_mut().unwrap();
    stderr.read_to_string(&mut said).unwrap();
    for part in ["still sending", "stopped: 1 request, 1 row answered"] {
        assert!(said.contains(part), "{said}");
    }
    drop(slow);
}
