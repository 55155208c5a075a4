//! What a new user meets first: help, lists, completions, the manual, the doctor; reports in every format, event files.

use std::{collections::BTreeSet, fs, process::Command};

use serde_json::Value;

use crate::{
    sample,
    support::{Place, SIX_STEPS, skip, tiny_backbone},
};

/// A comparison of a few steps with what is beside these arguments; returns what it printed.
pub fn compared(place: &Place, more: &[&str]) -> String {
    place.few_steps("compare", &[&SIX_STEPS[..], more].concat())
}

#[test]
fn completions_and_the_manual_name_every_command() {
    let place = Place::new();
    let help = place.ok(&["--help"]);
    for command in ["compare", "predict", "serve", "doctor", "cite", "push"] {
        assert!(help.contains(command), "{help}");
        for shell in ["bash", "zsh", "fish"] {
            let script = place.ok(&["completions", shell]);
            assert!(script.contains(command), "{shell}: {command}");
        }
    }
    let page = place.ok(&["man"]);
    assert!(page.contains(".TH peftbench 1"), "{page}");
    place.ok(&["man", "pages"]);
    let page = fs::read_to_string(place.path().join("pages/peftbench-compare.1")).unwrap();
    assert!(page.contains("Examples:"), "{page}");
}

#[test]
fn the_doctor_says_what_the_machine_has_and_never_asks_the_network_when_it_is_off() {
    let place = Place::new();
    let said = place.ok(&["doctor", "--offline"]);
    for name in [
        "version",
        "system",
        "processor",
        "cores",
        "instruction sets",
        "load",
        "memory",
        "program",
        "cache",
        "hub cache",
        "disk",
        "hub",
        "python",
    ] {
        let of_name = |line: &str| line.split("  ").next() == Some(name);
        assert!(said.lines().any(of_name), "{name}: {said}");
    }
    assert!(said.contains("not asked (offline)"), "{said}");
    let found: Value = serde_json::from_str(&place.ok(&["doctor", "--offline", "--json"])).unwrap();
    let cores = std::thread::available_parallelism().unwrap().get();
    assert_eq!(found["cores"]["available"], cores);
    assert!(found["cores"]["threads"].as_u64().unwrap() >= 1);
    assert!(found["program"]["bytes"].as_u64().unwrap() > 1_000_000);
}

#[cfg(unix)]
#[test]
fn the_doctor_says_which_libraries_python_has_and_which_it_lacks() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let asked = |python: &std::path::Path| {
        let mut command = place.command(&["doctor", "--offline"]);
        let command = command.env("PEFTBENCH_PYTHON", python);
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    let found = r#"{"python": "3.12.1", "torch": "2.7.0", "transformers": null, "peft": "0.15.0"}"#;
    let python = place.file("python", format!("#!/bin/sh\necho '{found}'\n"));
    fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).unwrap();
    let said = asked(&python);
    let line = "python 3.12.1, torch 2.7.0, peft 0.15.0; not found: transformers";
    assert!(said.contains(line), "{said}");
    let said = asked(&place.path().join("nowhere"));
    for part in [
        "nowhere was not found",
        "only to use exported weights",
        "PEFTBENCH_PYTHON",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn a_hub_that_does_not_answer_is_told_by_the_doctor_with_what_still_works() {
    let place = Place::new();
    let mut command = place.command(&["doctor"]);
    // Nobody listens there.
    let command = command
        .env("HF_ENDPOINT", "http://127.0.0.1:9")
        .env_remove("HF_HUB_OFFLINE");
    let said = String::from_utf8(command.output().unwrap().stdout).unwrap();
    assert!(
        said.contains("does not answer") && said.contains("stand-ins"),
        "{said}"
    );
}

#[test]
fn a_report_is_printed_in_every_format_and_its_figures_are_vectors_too() {
    let place = Place::new();
    compared(&place, &["--methods", "lora,head_only", "--seeds", "3"]);
    let print = |format: &str| place.ok(&["report", "--records", "out", "--format", format]);
    let latex = print("latex");
    for part in [
        "\\toprule",
        "\\caption{",
        "3 seeds",
        "Holm",
        "within 1.0 points",
        "\\textbf{",
    ] {
        assert!(latex.contains(part), "{part}: {latex}");
    }
    assert!(print("html").starts_with("<!doctype html>"));
    assert!(print("md").contains("| method |") && print("csv").starts_with("dataset,"));
    let json: Value = serde_json::from_str(&print("json")).unwrap();
    assert_eq!(json[0]["rows"].as_array().unwrap().len(), 2);
    let files: Vec<String> = fs::read_dir(place.path().join("out"))
        .unwrap()
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    let mut figures = files
        .iter()
        .filter_map(|f| f.strip_suffix(".png"))
        .peekable();
    assert!(figures.peek().is_some());
    for figure in figures {
        for ending in ["svg", "pdf"] {
            assert!(files.contains(&format!("{figure}.{ending}")), "{files:?}");
        }
    }
    let cited = place.run(&["cite", "--records", "out"]);
    let bib = String::from_utf8(cited.stdout).unwrap();
    assert!(
        bib.contains("@inproceedings{hu2022lora,") && bib.contains("Obuchowski"),
        "{bib}"
    );
    assert!(!bib.contains("lester2021"), "{bib}");
    let said = String::from_utf8(cited.stderr).unwrap();
    assert!(
        said.contains("no entry for 'reviews'") && !said.contains("head_only"),
        "{said}"
    );
}

#[test]
fn every_event_of_a_stream_and_each_of_its_keys_stands_in_the_documentation() {
    let described = include_str!("../docs/EVENTS.md");
    let place = Place::new();
    let stream = |more: &[&str]| -> Vec<Value> {
        let asked = ["--methods=lora,head_only", "--seeds=1", "--json"];
        let printed = compared(&place, &[&asked[..], more].concat());
        let lines = printed.lines();
        lines.map(|l| serde_json::from_str(l).unwrap()).collect()
    };
    let streams = [stream(&["--dry-run"]), stream(&[]), stream(&[])];
    let (first, last) = (&streams[1][0], streams[1].last().unwrap());
    assert_eq!(
        (&first["event"], &last["event"]),
        (&"planned".into(), &"compared".into())
    );
    let mut kinds = BTreeSet::new();
    for event in streams.iter().flatten() {
        let kind = event["event"].as_str().unwrap();
        let start = format!("| `{kind}` |");
        let row = described.lines().find(|line| line.starts_with(&start));
        let row = row.unwrap_or_else(|| panic!("{kind} is not described"));
        let time = event["time"].as_str().unwrap();
        assert!(time.len() == 24 && time.ends_with('Z'), "{time}");
        let keys = event.as_object().unwrap().keys();
        for key in keys.filter(|key| !["event", "time"].contains(&key.as_str())) {
            assert!(row.contains(&format!("`{key}`")), "{kind}: {key}");
        }
        kinds.insert(kind);
    }
    for kind in [
        "cost",
        "planned",
        "started",
        "stage",
        "step",
        "evaluated",
        "finished",
        "reused",
        "compared",
    ] {
        assert!(kinds.contains(kind), "{kind}: {kinds:?}");
    }
}

#[test]
fn a_table_for_a_paper_is_compiled_and_fits_its_page_whatever_the_number_of_columns() {
    let place = Place::new();
    let records = sample::realistic_comparison(&sample::twenty(), 3);
    let comparison = &reports::Comparison::from_records(&records)[0];
    let latex = reports::tables::latex(comparison);
    assert!(latex.contains("Continued."), "{latex}");
    place.file(
        "paper.tex",
        format!(
            "\\documentclass{{article}}\n\\usepackage{{booktabs}}\n\\begin{{document}}\n{latex}\\end{{document}}\n"
        ),
    );
    let mut command = Command::new("pdflatex");
    command.args(["-interaction=nonstopmode", "-halt-on-error", "paper.tex"]);
    let Ok(output) = place.in_place(&mut command).output() else {
        return skip("latex", "pdflatex was not found");
    };
    let log = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{log}");
    assert!(!log.contains("Overfull"), "{log}");
}

/// Cells of the row of a Markdown table that begins with this cell.
fn cells<'a>(text: &'a str, first: &str) -> Vec<&'a str> {
    let start = format!("| {first} |");
    let row = text.lines().find(|line| line.starts_with(&start));
    let row = row.unwrap_or_else(|| panic!("no row of {first}"));
    row.trim_matches('|').split('|').map(str::trim).collect()
}

#[test]
fn the_readme_has_the_figures_of_the_example_and_the_methods_that_the_program_lists() {
    let readme = include_str!("../README.md");
    let example = include_str!("../docs/example/sst2-minilm.md");
    let (shown, known) = (cells(readme, "method"), cells(example, "method"));
    for method in [
        "full",
        "lora",
        "adapter",
        "prompt_tuning",
        "head_only",
        "random_features",
        "majority",
    ] {
        let (here, there) = (cells(readme, method), cells(example, method));
        for (name, value) in shown.iter().zip(&here) {
            // The first of p50 and p99.
            let theirs = match *name {
                "latency p50 (ms)" => "latency p50/p99 (ms)",
                "over the backbone" => "latency over the backbone",
                name => name,
            };
            let column = known.iter().position(|known| *known == theirs);
            let column = column.unwrap_or_else(|| panic!("the example has no column '{theirs}'"));
            let expected = match theirs.contains("p50") {
                true => there[column].split('/').next().unwrap(),
                false => there[column],
            };
            assert_eq!(*value, expected, "{method}: {name}");
        }
    }
    let place = Place::new();
    let mut command = place.command(&["list", "methods"]);
    let wide = command.env("COLUMNS", "400").output().unwrap();
    let listed = String::from_utf8(wide.stdout).unwrap();
    assert!(readme.contains(listed.trim_end()), "{listed}");
    let all = methods::registry::ALL;
    let standard = all.iter().filter(|entry| entry.standard).count();
    assert_eq!((standard, all.len()), (7, 18));
    for count in ["seven standard methods", "all eighteen"] {
        assert!(readme.contains(count), "{count}");
    }
}

#[test]
fn the_chinese_readme_has_the_figures_of_the_english_one() {
    let (english, chinese) = (
        include_str!("../README.md"),
        include_str!("../README.zh-CN.md"),
    );
    for (name, its_name) in [
        ("full", "全量微调"),
        ("lora", "LoRA"),
        ("adapter", "Adapter"),
        ("prompt_tuning", "Prompt Tuning"),
        ("head_only", "只训练分类头"),
        ("random_features", "随机特征"),
        ("majority", "多数类"),
    ] {
        let mut expected = cells(english, name);
        // The absolute latency stands in the English one only.
        expected.remove(7);
        assert_eq!(cells(chinese, its_name)[1..], expected[1..], "{name}");
    }
    let claims: Value = serde_json::from_str(include_str!("../docs/example/claims.json")).unwrap();
    let claim = |id: &str| {
        let mut claims = claims.as_array().unwrap().iter();
        claims.find(|claim| claim["id"] == id).unwrap()
    };
    // The first value that was measured for a claim, and its interval.
    let measured = |id: &str| {
        let number = |at: &str| claim(id).pointer(at).and_then(Value::as_f64).unwrap();
        ["value", "interval/0", "interval/1"].map(|part| number(&format!("/evidence/0/{part}")))
    };
    let second = claim("fewest_parameters").pointer("/evidence/1/value");
    let ([lora, ..], adapter) = (measured("fewest_parameters"), second.unwrap());
    let fewest = format!(
        "是 LoRA 的 {:.0} %，Adapter 的 {:.1} %",
        100.0 * lora,
        100.0 * adapter.as_f64().unwrap()
    );
    let share = format!("{:.2} %", 100.0 * measured("lora_share")[0]);
    let [ratio, low, high] = measured("adapter_latency");
    let slower = format!("是骨干的 {ratio:.2} 倍（95 % 区间 {low:.2} 到 {high:.2}）");
    let [ratio, low, high] = measured("merged_latency");
    let merged = format!("是骨干的 {ratio:.3} 倍（95 % 区间 {low:.3} 到 {high:.3}）");
    let [by, most, least] = measured("lora_near_full").map(|difference| -100.0 * difference);
    let behind =
        format!("低 {by:.1} 个百分点（95 % 区间 {least:.1} 到 {most:.1}），允许的是 1 个百分点");
    for (id, its_name, evidence) in [
        (
            "fewest_parameters",
            "Prompt Tuning 训练的参数最少",
            Some(fewest),
        ),
        ("lora_share", "LoRA 只训练 0.1 % 到 1 % 的参数", Some(share)),
        ("adapter_latency", "Adapter 增加推理延迟", Some(slower)),
        ("merged_latency", "合并后的 LoRA 和骨干一样快", Some(merged)),
        ("lora_near_full", "LoRA 接近全量微调", Some(behind)),
        ("adapter_share", "Adapter 训练 3 % 到 5 % 的参数", None),
        ("twenty_tokens_suffice", "10 到 20 个虚拟词就够了", None),
        ("text_starts_faster", "用文字初始化的 prompt 收敛更快", None),
        ("weak_on_small_data", "数据少时 Prompt Tuning 较弱", None),
    ] {
        let verdict = match claim(id)["verdict"].as_str().unwrap() {
            "holds" => "成立",
            "does_not_hold" => "不成立",
            _ => "未定",
        };
        let row = cells(chinese, its_name);
        assert_eq!(row[1], verdict, "{id}");
        if let Some(expected) = evidence {
            assert_eq!(row[2], expected, "{id}");
        }
    }
    let known = datasets::names().count();
    assert!(english.contains(&format!("one of {known} that it knows")));
    assert!(chinese.contains(&format!("内置的 {known} 个数据集")));
    assert!(chinese.contains("七种标准方法") && chinese.contains("全部十八种"));
}

#[test]
fn chinese_names_of_files_columns_and_classes_stay_as_they_are() {
    let place = Place::new();
    let row = |i: usize| match i % 2 {
        0 => format!("good fine great number {i},好\n"),
        _ => format!("bad poor awful number {i},坏\n"),
    };
    let rows: String = (0..240).map(row).collect();
    place.file("评论.csv", format!("评论,星级\n{rows}"));
    let backbone = tiny_backbone();
    let mut arguments = vec![
        "compare",
        "评论.csv",
        "--text-column",
        "评论",
        "--label-column",
        "星级",
    ];
    arguments.extend([
        "--backbone",
        backbone.to_str().unwrap(),
        "--budget",
        "quick",
    ]);
    arguments.extend([
        "--methods",
        "head_only",
        "--seeds",
        "1",
        "--set",
        "recipe.steps=6",
    ]);
    arguments.extend(["--set", "recipe.evaluations=2", "--set", "recipe.batch=8"]);
    let printed = place.ok(&arguments);
    assert!(printed.contains("评论"), "{printed}");
    let out = fs::read_dir(place.path().join("reports/out"))
        .unwrap()
        .next();
    let out = out.unwrap().unwrap().path();
    let name = out.file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with("评论-"), "{name}");
    let page = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("评论"));
    let entries = fs::read_dir(&out).unwrap().flatten();
    let names = entries.map(|entry| entry.file_name().into_string().unwrap());
    let names: Vec<String> = names.filter(|name| name.starts_with("评论-")).collect();
    assert!(names.iter().any(|name| name.ends_with(".svg")), "{names:?}");
    let task = fs::read_dir(out.join("weights")).unwrap().next().unwrap();
    let weights = task.unwrap().path();
    let mut asked = vec!["predict", "--weights", weights.to_str().unwrap()];
    asked.extend(["--input", "评论.csv", "--text-column", "评论"]);
    let answers = place.ok(&asked);
    let first: Value = serde_json::from_str(answers.lines().next().unwrap()).unwrap();
    assert_eq!(first["星级"], "好");
    assert!(
        ["好", "坏"].contains(&first["label"].as_str().unwrap()),
        "{first}"
    );
}

#[test]
fn event_files_hold_what_the_records_hold_when_tensorboard_reads_them() {
    let place = Place::new();
    compared(
        &place,
        &[
            "--methods",
            "lora",
            "--seeds",
            "1",
            "--tensorboard",
            "events",
        ],
    );
    let folders: Vec<_> = fs::read_dir(place.path().join("events")).unwrap().collect();
    assert_eq!(folders.len(), 1);
    let Ok(python) = std::env::var("PEFTBENCH_PYTHON") else {
        return skip(
            "interop",
            "PEFTBENCH_PYTHON names no Python that has tests/fixtures/requirements.txt",
        );
    };
    let script = r#"
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2
events = EventAccumulator(sys.argv[1]); events.Reload()
start = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
info = plugin_data_pb2.HParamsPluginData.FromString(start).session_start_info
end = events.summary_metadata["_hparams_/session_end_info"].plugin_data.content
print(json.dumps({
    "scalars": {tag: [[e.step, e.value] for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]},
    "method": info.hparams["method"].string_value, "rank": info.hparams["lora.rank"].number_value,
    "status": plugin_data_pb2.HParamsPluginData.FromString(end).session_end_info.status,
}))
"#;
    let folder = folders[0].as_ref().unwrap().path();
    let output = Command::new(python)
        .args(["-c", script])
        .arg(folder)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let read: Value = serde_json::from_slice(&output.stdout).unwrap();
    let record = crate::support::record_files(&place.path().join("out/records")).remove(0);
    let record: Value = serde_json::from_slice(&fs::read(record).unwrap()).unwrap();
    let losses = record["outcome"]["loss"].as_array().unwrap();
    let told = read["scalars"]["train/loss"].as_array().unwrap();
    assert_eq!(told.len(), losses.len());
    for (i, (event, loss)) in told.iter().zip(losses).enumerate() {
        assert_eq!(event[0], i + 1);
        assert_eq!(
            event[1].as_f64().unwrap() as f32,
            loss.as_f64().unwrap() as f32
        );
    }
    let accuracy = read["scalars"]["validation/accuracy"].as_array().unwrap();
    assert_eq!(accuracy.len(), 2);
    assert_eq!(accuracy[1][0], 6);
    assert!(read["scalars"]["train/tokens_per_second"].is_array());
    assert_eq!(
        (&read["method"], &read["status"]),
        (&"lora".into(), &1.into())
    );
    assert_eq!(
        read["rank"].as_f64(),
        record["asked"]["method"]["config"]["rank"].as_f64()
    );
}

#[test]
fn the_python_package_does_what_the_program_does() {
    let place = Place::new();
    let root = env!("CARGO_MANIFEST_DIR");
    let python = std::env::var("PEFTBENCH_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let mut command = Command::new(&python);
    let command = place
        .in_place(command.arg(format!("{root}/python/tests/test_peftbench.py")))
        .env("PEFTBENCH_BINARY", env!("CARGO_BIN_EXE_peftbench"));
    let Ok(output) = command.output() else {
        return skip("interop", format!("{python} was not found"));
    };
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    println!("{said}");
}
