//! Model cards: weights say what they are, the Python in a card runs, and the hub gets all of it.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    thread,
};

use serde_json::{Value, json};

use crate::{
    doors::compared,
    support::{Place, skip, tiny_backbone, words},
};

fn card(folder: &Path) -> (Value, String) {
    let text = fs::read_to_string(folder.join("README.md")).unwrap();
    let (front, body) = text
        .strip_prefix("---\n")
        .and_then(|rest| rest.split_once("---\n"))
        .unwrap();
    (serde_yaml::from_str(front).unwrap(), body.to_owned())
}

/// Folder of the weights of a method.
fn weights(place: &Place, method: &str) -> std::path::PathBuf {
    let folders = fs::read_dir(place.path().join("out/weights")).unwrap();
    folders
        .map(|e| e.unwrap().path())
        .find(|folder| card(folder).0["tags"][2] == method)
        .unwrap()
}

#[test]
fn every_saved_folder_has_a_card_with_the_numbers_of_its_record_and_of_its_comparison() {
    let place = Place::new();
    compared(
        &place,
        &[
            "--methods",
            "lora,head_only",
            "--seeds",
            "3",
            "--set",
            "lora.rank=2",
        ],
    );
    let folder = weights(&place, "lora");
    let (front, body) = card(&folder);
    let id = folder.file_name().unwrap().to_str().unwrap();
    let record = place.path().join(format!("out/records/{id}.json"));
    let record: Value = serde_json::from_slice(&fs::read(record).unwrap()).unwrap();
    let last = record["outcome"]["evaluations"]
        .as_array()
        .unwrap()
        .last()
        .unwrap();
    let metric = &front["model-index"][0]["results"][0]["metrics"][0];
    assert_eq!(metric["value"], last["metrics"]["accuracy"]);
    assert_eq!(front["pipeline_tag"], "text-classification");
    // A folder is no repository of the hub.
    assert_eq!(front.get("base_model"), None);
    let asked = &record["asked"];
    for part in [
        asked["dataset"]["digest"].as_str().unwrap(),
        asked["backbone"]["digest"].as_str().unwrap(),
        "mean ± sd of 3 seeds",
        "95 % interval",
        "over the backbone",
        "--method lora",
        "--set 'lora.rank=2'",
        "--set 'recipe.batch=8'",
    ] {
        assert!(body.contains(part), "{part}: {body}");
    }
    let own = folder.to_str().unwrap();
    let exported = ["--format=peft", "--separate-head", "--out=exported"];
    place.ok(&[&["export", "--weights", own][..], &exported].concat());
    let (front, exported) = card(&place.path().join("exported"));
    assert_eq!(front["library_name"], "peft");
    for part in ["mean ± sd of 3 seeds", "95 % interval", "--method lora"] {
        assert!(exported.contains(part), "{part}: {exported}");
    }
    // A report that is made later, on a cluster for example, writes it too.
    let made = fs::read_to_string(folder.join("README.md")).unwrap();
    fs::remove_file(folder.join("README.md")).unwrap();
    place.ok(&["report", "--records", "out"]);
    let again = fs::read_to_string(folder.join("README.md")).unwrap();
    assert_eq!(again, made);
    // It may be shown to everybody: no folder of this machine.
    assert!(!body.contains(env!("CARGO_MANIFEST_DIR")), "{body}");
}

#[test]
fn a_card_says_what_became_of_the_backbone() {
    let place = Place::new();
    let methods = "--methods=lora,full,random_features";
    compared(&place, &[methods, "--seeds=1"]);
    for (method, says) in [
        ("lora", "` was frozen."),
        ("full", "` was trained with them."),
        ("random_features", "its weights were drawn at random"),
    ] {
        let (_, body) = card(&weights(&place, method));
        assert!(body.contains(says), "{method}: {body}");
    }
}

/// Runs the Python of a card in its folder.
pub fn run_python_of(folder: &Path, more_path: &str) -> Option<String> {
    let (_, body) = card(folder);
    let code = body.split("```python\n").nth(1).unwrap();
    run_python(folder, code.split("```").next().unwrap(), more_path)
}

/// Runs Python in a folder, with the libraries; what it printed.
fn run_python(folder: &Path, code: &str, more_path: &str) -> Option<String> {
    let Ok(python) = std::env::var("PEFTBENCH_PYTHON") else {
        skip(
            "interop",
            "PEFTBENCH_PYTHON names no Python with the libraries",
        );
        return None;
    };
    let output = Command::new(python)
        .args(["-c", code])
        .current_dir(folder)
        .env("PYTHONPATH", more_path)
        .env("PEFTBENCH_BINARY", env!("CARGO_BIN_EXE_peftbench"))
        .env("HF_HUB_OFFLINE", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{code}\n{said}");
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn the_python_in_the_cards_of_saved_and_exported_folders_runs() {
    let place = Place::new();
    let package = format!("{}/python", env!("CARGO_MANIFEST_DIR"));
    compared(
        &place,
        &[
            "--methods",
            "lora,adapter",
            "--seeds",
            "1",
            "--set",
            "backbone.pooling=pooler",
        ],
    );
    let lora = weights(&place, "lora");
    let adapter = weights(&place, "adapter");
    let mut folders = vec![("own", lora.clone())];
    for (format, from, more) in [
        ("peft", &lora, None),
        ("merged", &lora, None),
        ("peft", &lora, Some("--separate-head")),
        ("adapterhub", &adapter, Some("--separate-head")),
    ] {
        let name = format!("{format}{}", more.unwrap_or_default());
        let from = from.to_str().unwrap();
        let line = format!("export --weights {from} --format {format} --out {name}");
        let mut arguments = words(&line);
        arguments.extend(more);
        place.ok(&arguments);
        folders.push((format, place.path().join(name)));
    }
    for (format, folder) in folders {
        let library = card(&folder).0["library_name"].clone();
        assert_eq!(
            library,
            match format {
                "own" => "peftbench",
                "merged" => "transformers",
                "adapterhub" => "adapter-transformers",
                other => other,
            }
        );
        let Some(printed) = run_python_of(&folder, &package) else {
            return;
        };
        assert!(
            printed.contains("up") || printed.contains("down"),
            "{folder:?}: {printed}"
        );
    }
}

#[test]
fn head_py_reads_texts_as_training_did_whatever_the_tokenizer_of_its_backbone_says() {
    let place = Place::new();
    let backbone = place.path().join("backbone");
    fs::create_dir(&backbone).unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs::copy(tiny_backbone().join(name), backbone.join(name)).unwrap();
    }
    let json = |name: &str, change: &dyn Fn(&mut Value)| {
        let text = fs::read(tiny_backbone().join(name)).unwrap();
        let mut json: Value = serde_json::from_slice(&text).unwrap();
        change(&mut json);
        fs::write(backbone.join(name), json.to_string()).unwrap();
    };
    // Case counts for this tokenizer, and it would put padding before a text.
    json("tokenizer.json", &|t| {
        t["normalizer"]["lowercase"] = false.into();
    });
    json("tokenizer_config.json", &|t| {
        t["padding_side"] = "left".into();
    });
    let lower = place.path().join("backbone/sentence_bert_config.json");
    let backbone = backbone.to_str().unwrap();
    let texts = [
        "good fine great number 5",
        " BAD Poor ",
        "GOOD",
        "awful bad bad bad number",
    ];
    let rows: Vec<String> = texts.map(|text| json!({ "text": text }).to_string()).into();
    let rows = place.file("rows.jsonl", rows.join("\n"));
    let logits_of = |printed: &str| -> Vec<Vec<f64>> {
        let row = |line: &str| -> Vec<f64> {
            let row: Value = serde_json::from_str(line).unwrap();
            serde_json::from_value(row["logits"].clone()).unwrap()
        };
        printed.lines().map(row).collect()
    };
    let mut found = Vec::new();
    for (lowers, out) in [(false, "as-it-is"), (true, "lower")] {
        fs::write(&lower, json!({ "do_lower_case": lowers }).to_string()).unwrap();
        let weights = place.ok(&[
            &[
                "train",
                place.reviews().to_str().unwrap(),
                "--backbone",
                backbone,
            ][..],
            &[
                "--text-column=review",
                "--label-column=stars",
                "--method=lora",
                "--out",
                out,
            ],
            &[
                "--budget=quick",
                "--set=recipe.steps=20",
                "--set=recipe.evaluations=1",
            ],
            &["--set=recipe.max_tokens=6", "--set=backbone.pooling=mean"],
        ]
        .concat());
        let weights = weights.trim();
        let ours = place.ok(&[
            "predict",
            "--weights",
            weights,
            "--input",
            rows.to_str().unwrap(),
        ]);
        let ours = logits_of(&ours);
        let folder = format!("{out}-head");
        place.ok(&[
            &[
                "export",
                "--weights",
                weights,
                "--format=peft",
                "--separate-head",
            ][..],
            &["--out", &folder],
        ]
        .concat());
        // All in one batch, so that there is padding.
        let code = format!(
            "import json\nfrom head import Classifier\nmodel = Classifier('.')\n\
             for row in model(**model.inputs({})).tolist():\n    print(json.dumps({{'logits': row}}))\n",
            json!(texts)
        );
        let Some(printed) = run_python(&place.path().join(folder), &code, "") else {
            return;
        };
        let theirs = logits_of(&printed);
        assert_eq!(theirs.len(), texts.len());
        for (a, b) in theirs.iter().flatten().zip(ours.iter().flatten()) {
            assert!((a - b).abs() < 1e-4, "{lowers}: {theirs:?} {ours:?}");
        }
        found.push(ours);
    }
    // It is a difference: what is no word of the vocabulary in capitals is one in lower case.
    assert!((found[0][2][0] - found[1][2][0]).abs() > 1e-3, "{found:?}");
}

/// What a hub was sent: addresses with their bodies.
type Sent = Arc<Mutex<Vec<(String, Option<String>, Vec<u8>)>>>;

/// A hub on loopback that takes uploads: files named `*.safetensors` by their sha256.
fn hub(refuses: bool) -> (String, Sent) {
    let server = Arc::new(tiny_http::Server::http("127.0.0.1:0").unwrap());
    let address = format!("http://{}", server.server_addr());
    let (sent, own): (Sent, _) = (Sent::default(), address.clone());
    let seen = Arc::clone(&sent);
    thread::spawn(move || {
        for mut request in server.incoming_requests() {
            let url = request.url().to_owned();
            let header = |name: &'static str| {
                let found = request.headers().iter().find(|h| h.field.equiv(name));
                found.map(|h| h.value.to_string())
            };
            let token = header("Authorization");
            let mut body = Vec::new();
            request.as_reader().read_to_end(&mut body).unwrap();
            seen.lock()
                .unwrap()
                .push((url.clone(), token, body.clone()));
            let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
            let (status, answer) = if refuses {
                (403, json!({ "error": "you may not write here" }))
            } else if url.ends_with("/repos/create") {
                (409, json!({ "error": "exists" }))
            } else if url.contains("/preupload/") {
                let files = asked["files"].as_array().unwrap().iter().map(|f| {
                    let large = f["path"].as_str().unwrap().ends_with(".safetensors");
                    json!({ "path": f["path"], "uploadMode": if large { "lfs" } else { "regular" } })
                });
                (200, json!({ "files": files.collect::<Vec<_>>() }))
            } else if url.ends_with("/info/lfs/objects/batch") {
                let oid = asked["objects"][0]["oid"].as_str().unwrap();
                let upload = json!({ "href": format!("{own}/store/{oid}"), "header": {} });
                let verify = json!({ "href": format!("{own}/verify") });
                let actions = json!({ "upload": upload, "verify": verify });
                (
                    200,
                    json!({ "objects": [{ "oid": oid, "actions": actions }] }),
                )
            } else if url.contains("/commit/") {
                (
                    200,
                    json!({ "commitUrl": "https://hub/me/my-lora/commit/1" }),
                )
            } else {
                (200, json!({}))
            };
            let response = tiny_http::Response::from_string(answer.to_string());
            request.respond(response.with_status_code(status)).ok();
        }
    });
    (address, sent)
}

#[test]
fn a_folder_is_pushed_in_one_commit_with_its_card_and_large_files_by_their_hash() {
    let place = Place::new();
    compared(&place, &["--methods", "lora", "--seeds", "1"]);
    let folder = weights(&place, "lora");
    let (address, sent) = hub(false);
    let push = |more: &[&str], token: &str, endpoint: &str| {
        let arguments = [&["push", folder.to_str().unwrap(), "me/my-lora"], more].concat();
        let mut command = place.command(&arguments);
        let command = command
            .env("HF_ENDPOINT", endpoint)
            .env("HF_TOKEN", token)
            .env_remove("HF_HUB_OFFLINE");
        command.output().unwrap()
    };
    let dry = push(&["--private", "--dry-run"], "", &address);
    assert!(dry.status.success());
    assert!(String::from_utf8(dry.stdout).unwrap().contains("README.md"));
    let said = String::from_utf8(dry.stderr).unwrap();
    assert!(said.contains("nothing was sent: 3 files"), "{said}");
    assert!(said.contains("would go to me/my-lora (private)"), "{said}");
    assert!(sent.lock().unwrap().is_empty());
    let without = push(&[], "", &address);
    let said = String::from_utf8(without.stderr).unwrap();
    assert!(said.contains("HF_TOKEN"), "{said}");

    let done = push(&["--private"], "hf_secret", &address);
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{said}");
    assert_eq!(done.stdout, b"https://hub/me/my-lora/commit/1\n");
    let sent = sent.lock().unwrap();
    let find = |part: &str| sent.iter().find(|(url, ..)| url.contains(part)).unwrap();
    let created: Value = serde_json::from_slice(&find("/repos/create").2).unwrap();
    assert_eq!(
        created,
        json!({ "name": "my-lora", "organization": "me", "type": "model", "private": true })
    );
    assert_eq!(find("/repos/create").1.as_deref(), Some("Bearer hf_secret"));
    // What is stored is the file, under its own sha256.
    let bytes = fs::read(folder.join("weights.safetensors")).unwrap();
    assert_eq!(find("/store/").2, bytes);
    let commit = find("/commit/main");
    let lines: Vec<Value> = String::from_utf8(commit.2.clone())
        .unwrap()
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let kinds: BTreeMap<&str, &str> = lines[1..]
        .iter()
        .map(|l| {
            (
                l["value"]["path"].as_str().unwrap(),
                l["key"].as_str().unwrap(),
            )
        })
        .collect();
    let expected = [
        ("README.md", "file"),
        ("peftbench.json", "file"),
        ("weights.safetensors", "lfsFile"),
    ];
    assert_eq!(kinds, expected.into());
    drop(sent);

    let (address, _) = hub(true);
    let refused = push(&[], "hf_secret", &address);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(2));
    for part in ["403", "you may not write here", "HF_TOKEN"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("hf_secret"), "{said}");
}

#[test]
fn a_name_that_is_no_repository_and_a_folder_without_weights_are_refused() {
    let place = Place::new();
    fs::create_dir(place.path().join("empty")).unwrap();
    place.refused(&["push", "empty", "me/my-lora"], &["no weights there"]);
    for name in ["a/b/c", "../x", "me/", "-x", "me/a b"] {
        place.refused(
            &["push", "empty", "--", name],
            &["is not the name of a repository"],
        );
    }
}

#[cfg(unix)]
#[test]
fn what_a_link_leads_to_outside_a_folder_is_not_sent() {
    let place = Place::new();
    let folder = place.path().join(place.trained("lora", &[]));
    let secret = place.file("secret", "hf_secret");
    std::os::unix::fs::symlink(secret, folder.join("notes.txt")).unwrap();
    let folder = folder.to_str().unwrap();
    place.refused(
        &["push", folder, "me/my-lora", "--dry-run"],
        &["notes.txt", "secret"],
    );
}
