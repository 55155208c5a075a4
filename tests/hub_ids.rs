//! Models and data sets of the hub by their id, out of the cache that Python fills.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

use crate::support::{Place, tiny_backbone};

const COMMIT: &str = "1111111111111111111111111111111111111111";

/// Puts files where Python's huggingface_hub would have put them.
fn cached(place: &Place, repository: &str, files: &[(&str, Vec<u8>)]) {
    let folder = place.path().join("hf/hub").join(repository);
    let snapshot = folder.join("snapshots").join(COMMIT);
    fs::create_dir_all(folder.join("refs")).unwrap();
    fs::write(folder.join("refs/main"), COMMIT).unwrap();
    for (name, bytes) in files {
        let file = snapshot.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, bytes).unwrap();
    }
}

fn place() -> Place {
    let place = Place::new();
    let files = ["config.json", "tokenizer.json", "model.safetensors"];
    let net = files.map(|name| (name, fs::read(tiny_backbone().join(name)).unwrap()));
    cached(&place, "models--ada--net", &net);
    let rows = fs::read(place.reviews()).unwrap();
    cached(
        &place,
        "datasets--ada--reviews",
        &[("data/train.csv", rows)],
    );
    place
}

#[test]
fn a_run_over_a_model_and_a_data_set_of_the_hub_says_of_which_commits_they_are() {
    let place = place();
    place.ok(
        "train hub:ada/reviews --text-column review --label-column stars --backbone ada/net \
         --method lora --budget quick --set recipe.steps=2 --out out",
    );
    let records = place.path().join("out").join("records");
    let record = crate::support::record_files(&records).remove(0);
    let record: serde_json::Value = serde_json::from_slice(&fs::read(record).unwrap()).unwrap();
    assert_eq!(
        record["asked"]["backbone"]["name"],
        format!("ada/net@{COMMIT}")
    );
    assert_eq!(
        record["asked"]["dataset"]["name"],
        "ada--reviews@111111111111"
    );
}

#[test]
fn an_id_that_is_not_here_or_is_none_is_refused_with_what_is_accepted() {
    let place = place();
    let train = |data: &'static str, backbone: &'static str| {
        let columns = ["--text-column", "review", "--label-column", "stars"];
        [
            &["train", data, "--backbone", backbone, "--method", "lora"],
            &columns[..],
        ]
        .concat()
    };
    place.refused(
        &train("hub:ada/nothing", "ada/net"),
        &["not on this machine"],
    );
    place.refused(
        &train("hub:ada/re views", "ada/net"),
        &["is not an id of the hub", "hub:owner/name/subset"],
    );
    place.refused(
        &train("hub:ada/reviews", "ada/none"),
        &["there is no folder of that name", "not on this machine"],
    );
}

/// The first line of a request; nothing where the caller has gone.
fn head(stream: &TcpStream) -> Option<String> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    lines
        .find(|line| line.as_ref().is_ok_and(String::is_empty))?
        .ok()?;
    Some(first)
}

/// A proxy that answers for every host with the rows of a data set; its port and what it was asked.
fn proxy(rows: String) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = asked.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let Some(connect) = head(&stream) else {
                continue;
            };
            log.lock().unwrap().push(connect);
            write!(stream, "HTTP/1.1 200 OK\r\n\r\n").unwrap();
            let Some(get) = head(&stream) else { continue };
            log.lock().unwrap().push(get);
            let length = rows.len();
            let kind = format!("ETag: \"a\"\r\nX-Repo-Commit: {COMMIT}\r\nConnection: close");
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n{kind}\r\n\r\n{rows}"
            );
        }
    });
    (port, asked)
}

#[test]
fn the_hub_is_reached_through_the_proxy_that_the_environment_names() {
    let place = Place::new();
    let rows = fs::read_to_string(place.reviews()).unwrap();
    let (port, asked) = proxy(rows);
    place.file(
        "mine.yaml",
        "name: mine
source:
  files: { rows: {} }
  places: [ hub: { repo: ada/reviews, kind: dataset, revision: main, files: { rows: rows.csv } } ]
splits: { train: rows }
text: [review]
label: { column: stars }
",
    );
    let run = |without: &str| {
        let backbone = tiny_backbone();
        let mut command = place.command(&[
            "check",
            "mine.yaml",
            "--backbone",
            backbone.to_str().unwrap(),
        ]);
        for name in ["all_proxy", "https_proxy", "http_proxy", "no_proxy"] {
            command.env_remove(name).env_remove(name.to_uppercase());
        }
        command.env_remove("HF_HUB_OFFLINE");
        command.env("HF_ENDPOINT", "http://hub.invalid");
        command.env("HTTP_PROXY", format!("http://127.0.0.1:{port}"));
        let output = command.env("NO_PROXY", without).output().unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (found, said) = run("hub.invalid");
    assert!(!found && said.contains("hub.invalid"), "{said}");
    assert!(asked.lock().unwrap().is_empty());
    let (found, said) = run("elsewhere.invalid");
    assert!(found, "{said}");
    let asked = asked.lock().unwrap();
    assert_eq!(asked[0], "CONNECT hub.invalid:80 HTTP/1.1");
    assert!(
        asked[1].contains("/datasets/ada/reviews/resolve/main/rows.csv"),
        "{asked:?}"
    );
}
