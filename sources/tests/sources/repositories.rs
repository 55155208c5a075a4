//! Models and data sets of the hub by their id.

use std::collections::BTreeMap;
use std::fs;

use peftbench_sources::{Error, Fetcher, HubKind, Reference};

use crate::support::{Machine, Reply, Request, Server, nobody, sha256};

const COMMIT: &str = "1111111111111111111111111111111111111111";
const OTHER: &str = "2222222222222222222222222222222222222222";

type Files = Vec<(&'static str, Vec<u8>)>;

/// A hub with one repository: `main` at [`COMMIT`], other branches at [`OTHER`].
struct Repository {
    api: &'static str,
    files: &'static str,
    main: Files,
    others: BTreeMap<&'static str, Files>,
}

impl Repository {
    fn model(main: Files) -> Self {
        Self {
            api: "/api/models/ada/net",
            files: "/ada/net",
            main,
            others: BTreeMap::new(),
        }
    }

    fn data(main: Files) -> Self {
        Self {
            api: "/api/datasets/ada/reviews",
            files: "/datasets/ada/reviews",
            main,
            others: BTreeMap::new(),
        }
    }

    fn and(mut self, branch: &'static str, files: Files) -> Self {
        self.others.insert(branch, files);
        self
    }

    fn serve(self) -> Server {
        Server::start(move |_, request| self.answer(request))
    }

    fn answer(&self, request: &Request) -> Reply {
        let path = request.path.split('?').next().unwrap();
        let tree = |files: &Files| {
            let entries: Vec<String> = files
                .iter()
                .map(|(name, bytes)| {
                    // Half of the files are large ones for the hub.
                    let lfs = match name.ends_with("parquet") || name.ends_with("safetensors") {
                        true => format!(
                            ", \"lfs\": {{\"oid\": \"{}\", \"size\": {}}}",
                            sha256(bytes),
                            bytes.len()
                        ),
                        false => String::new(),
                    };
                    format!(
                        "{{\"type\": \"file\", \"path\": \"{name}\", \"size\": {}{lfs}}}",
                        bytes.len()
                    )
                })
                .collect();
            let folder = "{\"type\": \"directory\", \"path\": \"data\"}";
            let all = [vec![folder.to_string()], entries].concat();
            Reply::whole(format!("[{}]", all.join(", ")).as_bytes())
        };
        if let Some(asked) = path.strip_prefix(self.api) {
            if let Some(revision) = asked.strip_prefix("/revision/") {
                let revision = revision.replace("%2F", "/");
                let sha = match revision.as_str() {
                    "main" | COMMIT => COMMIT,
                    other if self.others.contains_key(other) => OTHER,
                    _ => return Reply::status(404),
                };
                return Reply::whole(format!("{{\"sha\": \"{sha}\"}}").as_bytes());
            }
            return match asked.strip_prefix("/tree/") {
                Some(COMMIT) => tree(&self.main),
                Some(OTHER) => tree(self.others.values().next().unwrap()),
                _ => Reply::status(404),
            };
        }
        let find = |files: &Files, name: &str| {
            let name = name.replace("%20", " ");
            files.iter().find(|(known, _)| *known == name).cloned()
        };
        let Some(asked) = path.strip_prefix(self.files) else {
            return Reply::status(404);
        };
        let (files, commit, name) = match asked.strip_prefix("/resolve/") {
            Some(rest) if rest.starts_with(COMMIT) => (&self.main, COMMIT, &rest[41..]),
            Some(rest) if rest.starts_with(OTHER) => {
                (self.others.values().next().unwrap(), OTHER, &rest[41..])
            }
            _ => return Reply::status(404),
        };
        match find(files, name) {
            Some((name, bytes)) => Reply::file(request, &bytes)
                .with("X-Repo-Commit", commit)
                .with("ETag", &format!("\"{}\"", name.len())),
            None => Reply::status(404),
        }
    }
}

fn rows(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

fn data(text: &str) -> Reference {
    Reference::parse(text, HubKind::Dataset).unwrap()
}

fn model(text: &str) -> Reference {
    Reference::parse(text, HubKind::Model).unwrap()
}

fn contents(fetcher: &Fetcher, reference: &Reference) -> BTreeMap<String, String> {
    let found = fetcher.data(reference).unwrap();
    let fetched = fetcher.fetch("reviews", &found.source).unwrap();
    fetched
        .files
        .into_iter()
        .map(|(name, file)| (name, fs::read_to_string(file).unwrap()))
        .collect()
}

#[test]
fn a_data_set_is_found_by_its_id_and_pinned_to_a_commit() {
    let machine = Machine::new();
    let server = Repository::data(vec![
        ("README.md", rows("about")),
        ("plain_text/train-00000-of-00001.parquet", rows("train")),
        ("plain_text/test-00000-of-00001.parquet", rows("test")),
        (
            "plain_text/unsupervised-00000-of-00001.parquet",
            rows("more"),
        ),
    ])
    .serve();
    let fetcher = machine.online(&server.address());
    let found = fetcher.data(&data("hub:ada/reviews")).unwrap();
    assert_eq!(found.extension, "parquet");
    assert_eq!(
        found.splits,
        BTreeMap::from([
            ("test", vec!["test".to_string()]),
            ("train", vec!["train".to_string()])
        ])
    );
    assert_eq!(found.source.problems(), Vec::<String>::new());
    assert_eq!(found.source.files["train"].sha256, Some(sha256(b"train")));
    let fetched = fetcher.fetch("reviews", &found.source).unwrap();
    assert_eq!(fs::read(&fetched.files["train"]).unwrap(), b"train");
    assert_eq!(fetched.commit.as_deref(), Some(COMMIT));

    // What was listed once is known without the network.
    let offline = machine.offline();
    let again = offline.data(&data("hub:ada/reviews")).unwrap();
    assert_eq!(again, found);
    assert_eq!(
        offline.fetch("reviews", &again.source).unwrap().files,
        fetched.files
    );
    // A hub that is away is said.
    let away = machine
        .online(&nobody())
        .data(&data("hub:ada/reviews"))
        .unwrap();
    assert_eq!(away.source, found.source);
    assert!(
        away.warnings[0].contains("that of the last time"),
        "{:?}",
        away.warnings
    );
}

#[test]
fn shards_come_in_order_and_the_better_form_is_taken() {
    let machine = Machine::new();
    let server = Repository::data(vec![
        ("data/train-00001-of-00002.parquet", rows("b")),
        ("data/train-00000-of-00002.parquet", rows("a")),
        ("data/validation.parquet", rows("v")),
        ("train.csv", rows("csv")),
    ])
    .serve();
    let found = machine
        .online(&server.address())
        .data(&data("hub:ada/reviews"))
        .unwrap();
    assert_eq!(found.extension, "parquet");
    assert_eq!(found.splits["train"], ["train-00000", "train-00001"]);
    let all = contents(&machine.online(&server.address()), &data("hub:ada/reviews"));
    assert_eq!(
        (all["train-00000"].as_str(), all["train-00001"].as_str()),
        ("a", "b")
    );
}

#[test]
fn a_subset_is_named_or_the_error_lists_them() {
    let machine = Machine::new();
    let server = Repository::data(vec![
        ("cola/train-00000-of-00001.parquet", rows("cola")),
        ("sst2/train-00000-of-00001.parquet", rows("sst2")),
        ("ax/test-00000-of-00001.parquet", rows("ax")),
    ])
    .serve();
    let fetcher = machine.online(&server.address());
    assert_eq!(
        contents(&fetcher, &data("hub:ada/reviews/sst2"))["train"],
        "sst2"
    );
    let error = fetcher
        .data(&data("hub:ada/reviews"))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("name one as hub:ada/reviews/SUBSET: cola, sst2"),
        "{error}"
    );
    let error = fetcher
        .data(&data("hub:ada/reviews/qqp"))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("no subset \"qqp\"; it has: cola, sst2"),
        "{error}"
    );
}

#[test]
fn a_card_says_which_files_are_which_subset_and_split_whatever_their_names() {
    let card = "---\nlicense: mit\nconfigs:\n\
                - config_name: en\n  data_files:\n  - {split: train, path: data/en_*.csv}\n  - {split: dev, path: data/held.csv}\n  \
                - {split: extra, path: data/train.csv}\n\
                - config_name: de\n  data_files: data/train.csv\n---\n# Reviews\n";
    let serve = |card: &str| {
        Repository::data(vec![
            ("README.md", rows(card)),
            ("data/en_a.csv", rows("a")),
            ("data/en_test.csv", rows("b")),
            ("data/held.csv", rows("held")),
            ("data/train.csv", rows("de")),
        ])
        .serve()
    };
    let machine = Machine::new();
    let server = serve(card);
    let fetcher = machine.online(&server.address());
    let english = fetcher.data(&data("hub:ada/reviews/en")).unwrap();
    assert_eq!(english.splits["train"], ["train-00000", "train-00001"]);
    assert!(
        english
            .warnings
            .iter()
            .any(|w| w.contains("splits extra are left out")),
        "{:?}",
        english.warnings
    );
    let all = contents(&fetcher, &data("hub:ada/reviews/en"));
    let all: Vec<(&str, &str)> = all.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(
        all,
        [
            ("train-00000", "a"),
            ("train-00001", "b"),
            ("validation", "held")
        ]
    );
    assert_eq!(
        contents(&fetcher, &data("hub:ada/reviews/de"))["train"],
        "de"
    );
    let error = |text: &str, fetcher: &Fetcher| fetcher.data(&data(text)).unwrap_err().to_string();
    let several = error("hub:ada/reviews", &fetcher);
    assert!(
        several.contains("hub:ada/reviews/SUBSET: en, de"),
        "{several}"
    );
    // What was read of it is known without the network.
    assert_eq!(
        machine.offline().data(&data("hub:ada/reviews/en")).unwrap(),
        english
    );

    for (card, says) in [
        (
            "- config_name: en\n  sep: \";\"\n  data_files: data/train.csv\n",
            "sep",
        ),
        (
            "- config_name: en\n  data_files: data/none-*.csv\n",
            "data/none-*.csv",
        ),
        (
            "- config_name: en\n  data_files:\n    test: data/held.csv\n",
            "no training split",
        ),
    ] {
        let machine = Machine::new();
        let server = serve(&format!("---\nconfigs:\n{card}---\n"));
        let message = error("hub:ada/reviews@main", &machine.online(&server.address()));
        assert!(message.contains(says), "{message}");
    }
}

#[test]
fn what_is_left_out_or_put_together_by_the_names_of_files_is_said() {
    let machine = Machine::new();
    let server = Repository::data(vec![
        ("train.csv", rows("a")),
        ("validation_matched.csv", rows("b")),
        ("validation_mismatched.csv", rows("c")),
        ("extra/train.csv", rows("d")),
    ])
    .serve();
    let fetcher = machine.online(&server.address());
    let found = fetcher.data(&data("hub:ada/reviews")).unwrap();
    for says in [
        "its subsets extra are left out",
        "validation split is made of all of validation_matched, validation_mismatched",
    ] {
        assert!(
            found.warnings.iter().any(|w| w.contains(says)),
            "{says}: {:?}",
            found.warnings
        );
    }
}

#[test]
fn a_data_set_of_another_form_is_taken_from_the_hubs_conversion() {
    let machine = Machine::new();
    let server = Repository::data(vec![
        ("reviews.py", rows("import os")),
        ("reviews.zip", rows("PK")),
    ])
    .and(
        "refs/convert/parquet",
        vec![
            ("default/train/0000.parquet", rows("train")),
            ("default/test/0000.parquet", rows("test")),
        ],
    )
    .serve();
    let fetcher = machine.online(&server.address());
    let all = contents(&fetcher, &data("hub:ada/reviews"));
    assert_eq!(
        (all["train"].as_str(), all["test"].as_str()),
        ("train", "test")
    );
    // A revision that was named is that revision and no other.
    let error = fetcher
        .data(&data("hub:ada/reviews@main"))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("no file of it is a training split"),
        "{error}"
    );
    assert!(error.contains("reviews.py, reviews.zip"), "{error}");
}

#[test]
fn a_model_is_one_folder_of_what_a_backbone_is_read_from() {
    let machine = Machine::new();
    let server = Repository::model(vec![
        ("README.md", rows("about")),
        ("config.json", rows("{}")),
        ("vocab.txt", rows("[PAD]")),
        ("chat_template.jinja", rows("{{ messages }}")),
        ("model.safetensors", rows("numbers")),
        ("pytorch_model.bin", rows("pickle")),
        ("onnx/model.onnx", rows("x")),
    ])
    .and(
        "small",
        vec![
            ("config.json", rows("{}")),
            ("model-00001-of-00002.safetensors", rows("a")),
            ("model-00002-of-00002.safetensors", rows("b")),
            ("model.safetensors.index.json", rows("{}")),
        ],
    )
    .serve();
    let fetcher = machine.online(&server.address());
    let found = fetcher.model(&model("ada/net")).unwrap();
    let names = |folder: &std::path::Path| {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(
        names(&found.folder),
        [
            "chat_template.jinja",
            "config.json",
            "model.safetensors",
            "vocab.txt"
        ]
    );
    assert_eq!(found.fetched.commit.as_deref(), Some(COMMIT));
    assert_eq!(
        found.fetched.place,
        "Hugging Face hub, model ada/net at 111111111111"
    );
    assert_eq!(
        machine
            .offline()
            .model(&model("hub:ada/net"))
            .unwrap()
            .folder,
        found.folder
    );

    let sharded = fetcher.model(&model("ada/net@small")).unwrap();
    assert_eq!(names(&sharded.folder).len(), 4);
    assert_eq!(sharded.fetched.commit.as_deref(), Some(OTHER));
}

#[test]
fn a_model_that_python_has_is_read_where_it_lies() {
    let machine = Machine::new();
    let theirs = "hf/hub/models--ada--net";
    machine.write(&format!("{theirs}/refs/main"), COMMIT.as_bytes());
    for (name, bytes) in [
        ("config.json", "{}"),
        ("model.safetensors", "numbers"),
        ("tokenizer.json", "{}"),
    ] {
        machine.write(
            &format!("{theirs}/snapshots/{COMMIT}/{name}"),
            bytes.as_bytes(),
        );
    }
    let found = machine.offline().model(&model("ada/net")).unwrap();
    assert_eq!(
        found.folder,
        machine.path(&format!("{theirs}/snapshots/{COMMIT}"))
    );

    // A file that only we have joins the others in one folder.
    fs::remove_file(found.folder.join("tokenizer.json")).unwrap();
    let server = Repository::model(vec![
        ("config.json", rows("{}")),
        ("model.safetensors", rows("numbers")),
        ("tokenizer.json", rows("{}")),
    ])
    .serve();
    let found = machine
        .online(&server.address())
        .model(&model("ada/net"))
        .unwrap();
    assert!(found.folder.starts_with(machine.path("cache")));
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        assert!(found.folder.join(name).is_file(), "{name}");
    }
}

#[test]
fn a_model_without_safe_weights_is_refused_with_what_helps() {
    let machine = Machine::new();
    for (files, words) in [
        (
            vec![
                ("config.json", rows("{}")),
                ("pytorch_model.bin", rows("p")),
            ],
            "@refs/pr/1",
        ),
        (
            vec![("config.json", rows("{}")), ("a.gguf", rows("p"))],
            "it has: a.gguf, config.json",
        ),
        (vec![("model.safetensors", rows("n"))], "no config.json"),
        (vec![], "it has: nothing"),
    ] {
        let server = Repository::model(files).serve();
        let error = machine
            .online(&server.address())
            .model(&model("ada/net"))
            .unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn a_hub_that_lies_about_its_files_is_refused() {
    let list = |body: &'static str| {
        move |request: &Request| match request.path.contains("/revision/") {
            true => Reply::whole(format!("{{\"sha\": \"{COMMIT}\"}}").as_bytes()),
            false => Reply::whole(body.as_bytes()),
        }
    };
    type Answer = Box<dyn Fn(&Request) -> Reply + Send>;
    let cases: Vec<(&str, Answer, &str)> = vec![
        (
            "a login page",
            Box::new(|_| Reply::whole(b"<html>Sign in").with("Content-Type", "text/html")),
            "login page of your network",
        ),
        (
            "no commit",
            Box::new(|_| Reply::whole(b"{\"sha\": \"main\"}")),
            "\"main\" is not a commit",
        ),
        (
            "no JSON",
            Box::new(|_| Reply::whole(b"ok")),
            "gave no list of files",
        ),
        (
            "another shape",
            Box::new(list("{\"error\": 1}")),
            "gave no list of files",
        ),
        (
            "a broken list",
            Box::new(list("[{\"type\": \"file\"")),
            "gave no list of files",
        ),
        ("nothing", Box::new(list("[]")), "it has: nothing"),
        (
            "a path that leads out",
            Box::new(list(
                "[{\"type\": \"file\", \"path\": \"../train.csv\", \"size\": 1}]",
            )),
            "is not accepted",
        ),
        (
            "a path from the root",
            Box::new(list(
                "[{\"type\": \"file\", \"path\": \"/etc/train.csv\", \"size\": 1}]",
            )),
            "is not accepted",
        ),
        (
            "control characters",
            Box::new(list(
                "[{\"type\": \"file\", \"path\": \"\\u001b[2J.txt\", \"size\": 1}]",
            )),
            "\\u{1b}[2J.txt",
        ),
        (
            "no such repository",
            Box::new(|_| Reply::status(404)),
            "no such repository",
        ),
        (
            "a closed one",
            Box::new(|_| Reply::status(401)),
            "set HF_TOKEN",
        ),
        (
            "an endless list",
            Box::new(|_| Reply::whole(&vec![b' '; 1 << 20]).endless()),
            "a page of at most",
        ),
    ];
    for (what, answer, words) in cases {
        let machine = Machine::new();
        let server = Server::start(move |_, request| answer(request));
        let fetcher = machine.online(&server.address());
        let error = fetcher
            .data(&data("hub:ada/reviews"))
            .and_then(|found| fetcher.fetch("reviews", &found.source))
            .map(|_| panic!("{what}: accepted"))
            .unwrap_err();
        assert!(error.to_string().contains(words), "{what}: {error}");
    }
}

#[test]
fn a_list_of_several_pages_is_read_to_its_end_and_from_its_own_host_only() {
    let machine = Machine::new();
    let server = Server::start(|_, request| match request.path.as_str() {
        path if path.contains("/revision/") => {
            Reply::whole(format!("{{\"sha\": \"{COMMIT}\"}}").as_bytes())
        }
        path if path.contains("cursor=2") => {
            Reply::whole(b"[{\"type\": \"file\", \"path\": \"test.csv\", \"size\": 1}]")
                .with("Link", "<http://evil.example/x>; rel=\"next\"")
        }
        path => {
            let next = format!("<{}&cursor=2>; rel=\"next\"", path);
            Reply::whole(b"[{\"type\": \"file\", \"path\": \"train.csv\", \"size\": 1}]")
                .with("Link", &next)
        }
    });
    let found = machine
        .online(&server.address())
        .data(&data("hub:ada/reviews"))
        .unwrap();
    assert_eq!(
        found.splits.keys().copied().collect::<Vec<_>>(),
        ["test", "train"]
    );
}

#[test]
fn offline_an_unknown_id_is_only_looked_for() {
    let machine = Machine::new();
    let error = machine
        .offline()
        .data(&data("hub:ada/reviews"))
        .unwrap_err();
    assert!(matches!(error, Error::NoPlace { .. }), "{error}");
    let message = error.to_string();
    for word in [
        "data set ada/reviews",
        "not on this machine",
        "The network is off",
    ] {
        assert!(message.contains(word), "{word} is not in: {message}");
    }
}
