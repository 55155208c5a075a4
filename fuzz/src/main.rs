//! Whatever bytes a file holds: reading it gives a value or an error; it neither panics, nor hangs, nor takes all memory.
//!
//! `PEFTBENCH_FUZZ` names the reader that the bytes go to; libFuzzer's own arguments follow as usual:
//!
//! ```text
//! PEFTBENCH_FUZZ=tokenizer peftbench-fuzz -max_total_time=600 CORPUS
//! ```
#![no_main]

use std::{
    cell::OnceCell,
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use backbone::{Backbone, Config, TensorFile};
use datasets::{Example, FileOptions, RowOptions, Rows, TextTokenizer};
use peftbench::{chat, execute::plan_file, formats, gguf_tokenizer, study, suite, weights};
use reports::Kept;
use sha2::{Digest, Sha256};
use sources::{Fetcher, Index, Settings, Source};

/// Reads bytes that stand in a file of the folder, or come from it in another way.
type Reader = fn(&Place, &[u8]);

const READERS: &[(&str, Reader)] = &[
    ("safetensors", safetensors),
    ("gguf", gguf),
    ("index", weights_index),
    ("config", config),
    ("tokenizer", |place, bytes| {
        tokenizer(place, "tokenizer.json", bytes)
    }),
    ("tokenizer_config", |place, bytes| {
        tokenizer(place, "tokenizer_config.json", bytes)
    }),
    ("vocabulary", |place, bytes| {
        tokenizer(place, "vocab.txt", bytes)
    }),
    ("chat", chat),
    ("peft", |place, bytes| {
        adapter(place, "peft/lora", "adapter_config.json", bytes)
    }),
    ("adapterhub", |place, bytes| {
        adapter(place, "adapterhub/houlsby", "adapter_config.json", bytes)
    }),
    ("head", |place, bytes| {
        adapter(place, "adapterhub/houlsby", "head_config.json", bytes)
    }),
    ("yaml", yaml),
    ("saved", saved),
    ("plan", plan),
    ("manifest", manifest),
    ("csv", |place, bytes| rows(place, "rows.csv", bytes)),
    ("tsv", |place, bytes| rows(place, "rows.tsv", bytes)),
    ("jsonl", |place, bytes| rows(place, "rows.jsonl", bytes)),
    ("parquet", |place, bytes| rows(place, "rows.parquet", bytes)),
    ("lines", lines),
    ("zip", |place, bytes| {
        archive(place, "wheel", "-py3-none-any.whl", bytes)
    }),
    ("tar", |place, bytes| {
        archive(place, "sdist", ".tar.gz", bytes)
    }),
    ("simple_index", simple_index),
    ("record", record),
    ("report", report),
];

/// A folder for the bytes, and what is made once.
struct Place {
    folder: tempfile::TempDir,
    server: OnceCell<Server>,
    tokenizer: OnceCell<TextTokenizer>,
}

impl Place {
    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, bytes).expect("the folder for temporary files can be written");
        path
    }

    /// A copy of a folder of fixtures, made once.
    fn fixture(&self, name: &str) -> PathBuf {
        let to = self.folder.path().join(name.replace('/', "-"));
        if !to.exists() {
            fs::create_dir_all(&to).expect("a folder");
            let from = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("../tests/fixtures")
                .join(name);
            for entry in fs::read_dir(from).expect("fixtures").flatten() {
                if entry.path().is_file() {
                    fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
                }
            }
        }
        to
    }
}

thread_local! {
    static PLACE: (Place, Reader) = {
        let name = std::env::var("PEFTBENCH_FUZZ").unwrap_or_default();
        let known: Vec<&str> = READERS.iter().map(|(name, _)| *name).collect();
        let reader = READERS.iter().find(|(known, _)| *known == name);
        let Some((_, reader)) = reader else {
            eprintln!("PEFTBENCH_FUZZ={name}: accepted: {}", known.join(", "));
            std::process::exit(2);
        };
        let folder = tempfile::tempdir().expect("a folder for temporary files");
        (Place { folder, server: OnceCell::new(), tokenizer: OnceCell::new() }, *reader)
    };
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| PLACE.with(|(place, reader)| reader(place, bytes)));

fn safetensors(place: &Place, bytes: &[u8]) {
    let path = place.file("weights.safetensors", bytes);
    if let Ok(file) = TensorFile::open(&path) {
        for name in file.names() {
            drop(file.read(&name, None));
        }
    }
}

fn gguf(place: &Place, bytes: &[u8]) {
    let path = place.file("model.gguf", bytes);
    if let Ok(config) = Config::read(&path) {
        drop(Backbone::load(config, &path));
    }
    drop(gguf_tokenizer::read(&path));
}

fn weights_index(place: &Place, bytes: &[u8]) {
    let folder = place.fixture("bert");
    fs::rename(
        folder.join("model.safetensors"),
        folder.join("model-00001-of-00001.safetensors"),
    )
    .ok();
    fs::write(folder.join("model.safetensors.index.json"), bytes).expect("written");
    if let (Ok(path), Ok(config)) = (
        backbone::weights_file(&folder),
        Config::read(&folder.join("config.json")),
    ) {
        drop(Backbone::load(config, &path));
    }
}

fn config(place: &Place, bytes: &[u8]) {
    let folder = place.fixture("bert");
    let path = folder.join("config.json");
    fs::write(&path, bytes).expect("written");
    if let Ok(config) = Config::read(&path) {
        drop(Backbone::load(config, &folder.join("model.safetensors")));
    }
}

fn tokenizer(place: &Place, name: &str, bytes: &[u8]) {
    let folder = place.fixture("bert");
    if name == "vocab.txt" {
        fs::remove_file(folder.join("tokenizer.json")).ok();
    }
    fs::write(folder.join(name), bytes).expect("written");
    let Ok(path) = datasets::tokenizer_file(&folder) else {
        return;
    };
    if let Ok(tokenizer) = TextTokenizer::from_file(&path) {
        let example = Example {
            text: "the film was naïve 🎬".into(),
            pair: Some("dull".into()),
            label: None,
        };
        for most in [3, 60] {
            drop(tokenizer.encode(std::slice::from_ref(&example), most));
        }
    }
}

fn chat(place: &Place, bytes: &[u8]) {
    let folder = place.fixture("bert");
    fs::write(folder.join("chat_template.jinja"), bytes).expect("written");
    let path = folder.join("tokenizer.json");
    let tokenizer = place
        .tokenizer
        .get_or_init(|| TextTokenizer::from_file(&path).expect("a tokenizer"));
    drop(chat::message(
        &path,
        tokenizer,
        "Review: {text}\nIs it good?",
    ));
}

fn adapter(place: &Place, fixture: &str, name: &str, bytes: &[u8]) {
    let folder = place.fixture(fixture);
    fs::write(folder.join(name), bytes).expect("written");
    drop(formats::read(&folder, None));
    drop(weights::read_config(&folder));
}

fn yaml(place: &Place, bytes: &[u8]) {
    let path = place.file("own.yaml", bytes);
    drop(datasets::spec_from_path(&path, &FileOptions::default()));
    drop(study::study(&path.display().to_string()));
    drop(suite::find(&path.display().to_string()));
}

fn saved(place: &Place, bytes: &[u8]) {
    let folder = place.folder.path().join("saved");
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join(weights::CONFIG), bytes).expect("written");
    if let Ok(config) = weights::read_config(&folder) {
        drop(methods::resolve_values(&config.method, config.config));
    }
}

fn plan(place: &Place, bytes: &[u8]) {
    let path = place.file("plans.jsonl", bytes);
    if let Ok(lines) = plan_file::read(&path) {
        drop(lines);
    }
}

/// What stands beside the records of a comparison: studies, searches, measurements, margins.
fn manifest(place: &Place, bytes: &[u8]) {
    let folder = place.folder.path().join("compared");
    fs::create_dir_all(folder.join("records")).expect("a folder");
    for name in [
        "study.json",
        "tuning.json",
        "measurement.json",
        "suite.json",
        "judging.json",
    ] {
        fs::write(folder.join(name), bytes).expect("written");
    }
    drop(reports::studies::Manifest::read(&folder));
    drop(reports::studies::read_all(&folder, None));
    drop(reports::tuning::read_all(&folder));
    drop(reports::measurement::read_all(&folder));
    drop(reports::Judging::read(&folder, None));
}

fn rows(place: &Place, name: &str, bytes: &[u8]) {
    let path = place.file(name, bytes);
    let Ok(spec) = datasets::spec_from_path(&path, &FileOptions::default()) else {
        return;
    };
    drop(datasets::read(
        &spec,
        &BTreeMap::from([("train".to_owned(), path)]),
    ));
}

fn lines(_: &Place, bytes: &[u8]) {
    let input = Box::new(std::io::Cursor::new(bytes.to_vec()));
    let options = RowOptions {
        columns: vec!["text".into()],
        ..RowOptions::default()
    };
    if let Ok(rows) = Rows::of_stream(input, "-", &options) {
        rows.for_each(drop);
    }
}

/// A source of one file out of a package of these bytes.
fn package(kind: &str, bytes: &[u8]) -> Source {
    let sha256 = Sha256::digest(bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect::<String>();
    serde_yaml::from_str(&format!(
        "{{ files: {{ rows: {{}} }}, places: [ package: {{ name: net, version: '1.0', kind: {kind}, sha256: {sha256}, \
         files: {{ rows: 'net/rows.tar.gz!rows.csv' }} }} ] }}"
    ))
    .expect("a source")
}

fn fetcher(place: &Place, index: Index) -> Fetcher {
    let cache = place.folder.path().join("cache");
    fs::remove_dir_all(&cache).ok();
    let mut settings = Settings::from_lookup(false, |name| {
        (name == "HOME").then(|| place.folder.path().display().to_string())
    })
    .expect("settings");
    settings.cache = cache;
    settings.index = Some(index);
    settings.patience.tries = 1;
    Fetcher::new(settings)
}

fn archive(place: &Place, kind: &str, end: &str, bytes: &[u8]) {
    let links = place.folder.path().join("links");
    fs::create_dir_all(&links).expect("a folder");
    fs::write(links.join(format!("net-1.0{end}")), bytes).expect("written");
    let index = Index {
        find_links: vec![links.display().to_string()],
        ..Index::default()
    };
    drop(fetcher(place, index).fetch("net", &package(kind, bytes)));
}

/// An index on this machine that answers everything with the same page.
struct Server {
    page: Arc<Mutex<Vec<u8>>>,
    address: String,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let page = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&page);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let page = shared.lock().expect("not poisoned").clone();
                drop(answer(stream, &page));
            }
        });
        Self { page, address }
    }
}

fn answer(mut stream: TcpStream, page: &[u8]) -> std::io::Result<()> {
    let mut asked = [0; 4096];
    let _ = stream.read(&mut asked)?;
    // The first byte says which form of the index it is.
    let kind = match page.first() {
        Some(b'{') => "application/vnd.pypi.simple.v1+json",
        _ => "text/html",
    };
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        page.len()
    )?;
    stream.write_all(page)
}

fn simple_index(place: &Place, bytes: &[u8]) {
    let server = place.server.get_or_init(Server::start);
    *server.page.lock().expect("not poisoned") = bytes.to_vec();
    let index = Index {
        urls: vec![format!("http://{}/simple", server.address)],
        ..Index::default()
    };
    drop(fetcher(place, index).fetch("net", &package("wheel", b"another")));
}

/// The records of a folder with these bytes under the name that they give themselves.
fn records(place: &Place, bytes: &[u8]) -> Vec<record::RunRecord> {
    let folder = place.folder.path().join("records");
    fs::remove_dir_all(&folder).ok();
    fs::create_dir_all(&folder).expect("a folder");
    let named: Option<String> = serde_json::from_slice::<serde_json::Value>(bytes)
        .ok()
        .and_then(|json| Some(json["id"].as_str()?.to_owned()))
        .filter(|id| id.len() < 100 && id.bytes().all(|b| b.is_ascii_alphanumeric()));
    let name = named.unwrap_or_else(|| "0123456789abcdef".to_owned());
    fs::write(folder.join(format!("{name}.json")), bytes).expect("written");
    drop(record::store::heads(&folder));
    record::store::read_dir(&folder).map_or(Vec::new(), |read| read.records)
}

fn record(place: &Place, bytes: &[u8]) {
    for comparison in reports::Comparison::from_records(&records(place, bytes)) {
        drop(reports::tables::terminal(&comparison, 80, false));
        drop(reports::tables::json(&comparison));
    }
}

/// The whole report with its figures.
fn report(place: &Place, bytes: &[u8]) {
    let (findings, judging) = (reports::Findings::default(), reports::Judging::default());
    if let Ok(report) = reports::Report::new(records(place, bytes), findings, &judging) {
        drop(report.write(&place.folder.path().join("report"), true));
    }
}
