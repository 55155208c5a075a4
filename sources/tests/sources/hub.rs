use std::fs;
use std::path::Path;
use std::sync::Arc;

use peftbench_sources::{Error, Fetcher, HubKind, Place, Settings, Source};

use crate::skip::skip;
use crate::spec::snippets;
use crate::support::{Bar, Bars, Machine, Reply, Server, nobody, sha256, source};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const ADDRESS: &str =
    "/datasets/ada/reviews/resolve/0123456789abcdef0123456789abcdef01234567/train.csv";
const OWN: &str =
    "cache/hub/datasets--ada--reviews/snapshots/0123456789abcdef0123456789abcdef01234567/train.csv";
const THEIRS: &str =
    "hf/hub/datasets--ada--reviews/snapshots/0123456789abcdef0123456789abcdef01234567/train.csv";

/// Longer than any buffer on the way.
fn rows() -> Vec<u8> {
    (0..300_000u32)
        .flat_map(|i| i.wrapping_mul(i).to_le_bytes())
        .collect()
}

fn reviews(files: &str, revision: &str) -> Source {
    source(&format!(
        "
files: {files}
places: [ hub: {{ repo: ada/reviews, kind: dataset, revision: {revision}, files: {{ train: train.csv }} }} ]
"
    ))
}

/// One pinned file.
fn pinned(bytes: &[u8]) -> Source {
    let (sha256, bytes) = (sha256(bytes), bytes.len());
    let files = format!("{{ train: {{ sha256: {sha256}, bytes: {bytes} }} }}");
    reviews(&files, COMMIT)
}

fn only_error(error: Error) -> Error {
    match error {
        Error::NoPlace { mut attempts, .. } if attempts.len() == 1 => attempts.remove(0).1,
        error => panic!("not one place: {error}"),
    }
}

#[test]
fn a_file_is_downloaded_once_and_then_found_without_the_network() {
    let (machine, rows) = (Machine::new(), rows());
    let server = Server::with_files(&[(ADDRESS, &rows)]);
    let first = machine
        .online(&server.address())
        .fetch("reviews", &pinned(&rows))
        .unwrap();
    assert_eq!(fs::read(&first.files["train"]).unwrap(), rows);
    assert_eq!(first.files["train"], machine.path(OWN));
    assert_eq!(
        first.place,
        "Hugging Face hub, data set ada/reviews at 0123456789ab"
    );
    let second = machine.offline().fetch("reviews", &pinned(&rows)).unwrap();
    assert_eq!(second, first);
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn an_address_names_the_repository_the_revision_and_the_path() {
    let machine = Machine::new();
    let server = Server::start(|_, _| Reply::whole(b"x"));
    let source = source(
        "
files: { weights: {} }
places: [ hub: { repo: ada/net, kind: model, revision: refs/pr/1, files: { weights: a b/ü.bin } } ]
",
    );
    machine
        .online(&server.address())
        .fetch("net", &source)
        .unwrap();
    assert_eq!(
        server.requests()[0].path,
        "/ada/net/resolve/refs%2Fpr%2F1/a%20b/%C3%BC.bin"
    );
}

/// What the program knows of the hub's backbones is asked for as it stands there; the bytes are not the hub's.
#[test]
fn every_backbone_of_the_hub_is_asked_for_by_its_repository_its_commit_and_its_paths() {
    #[derive(serde::Deserialize)]
    struct Section {
        source: Source,
    }
    let mut fetched = 0;
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../backbone/configs");
    for entry in fs::read_dir(configs).unwrap() {
        let path = entry.unwrap().path();
        let yaml = fs::read_to_string(&path).unwrap();
        let Section { mut source } = serde_yaml::from_str(&yaml).unwrap();
        source.places.retain(|place| matches!(place, Place::Hub(_)));
        let [Place::Hub(hub)] = &source.places[..] else {
            continue;
        };
        assert_eq!(hub.kind, HubKind::Model, "{path:?}");
        // Of a branch, the bytes would change under a run's name.
        let commit =
            hub.revision.len() == 40 && hub.revision.bytes().all(|b| b.is_ascii_hexdigit());
        assert!(commit, "{path:?}: {}", hub.revision);
        assert!(hub.files.keys().eq(source.files.keys()), "{path:?}");
        for file in source.files.values_mut() {
            (file.sha256, file.bytes) = (None, None);
        }
        let bytes = |file: &str| format!("{file} of {}", hub.repo).into_bytes();
        let at = |file: &str| format!("/{}/resolve/{}/{file}", hub.repo, hub.revision);
        let served: Vec<(String, Vec<u8>)> =
            hub.files.values().map(|f| (at(f), bytes(f))).collect();
        let served: Vec<(&str, &[u8])> = served.iter().map(|(at, b)| (&**at, &**b)).collect();
        let server = Server::with_files(&served);
        let machine = Machine::new();
        let got = machine
            .online(&server.address())
            .fetch("net", &source)
            .unwrap();
        for (name, file) in &hub.files {
            assert_eq!(fs::read(&got.files[name]).unwrap(), bytes(file), "{path:?}");
        }
        assert_eq!(got.commit.as_deref(), Some(&*hub.revision), "{path:?}");
        fetched += 1;
    }
    assert_eq!(fetched, 10);
}

#[test]
fn a_redirect_is_followed_and_the_token_stays_with_the_hub() {
    let (machine, rows) = (Machine::new(), rows());
    let storage = Server::with_files(&[("/blob", &rows)]);
    // Another name of loopback is another host.
    let elsewhere = storage.address().replace("127.0.0.1", "localhost") + "/blob";
    let hub = Server::start(move |_, _| Reply::status(302).with("Location", &elsewhere));
    let fetcher = Fetcher::new(Settings {
        token: Some("secret".into()),
        ..machine.settings(&hub.address())
    });
    let fetched = fetcher.fetch("reviews", &pinned(&rows)).unwrap();
    assert_eq!(fs::read(&fetched.files["train"]).unwrap(), rows);
    assert_eq!(
        hub.requests()[0].header("authorization"),
        Some("Bearer secret")
    );
    assert_eq!(storage.requests()[0].header("authorization"), None);
}

#[test]
fn a_broken_connection_is_resumed_where_it_broke() {
    let (machine, rows) = (Machine::new(), rows());
    let body = rows.clone();
    let server = Server::start(move |number, request| match number {
        0 => Reply::file(request, &body).broken_after(700_000),
        _ => Reply::file(request, &body),
    });
    let bars = Arc::new(Bars::default());
    let fetcher = machine
        .online(&server.address())
        .with_progress(bars.clone());
    let fetched = fetcher.fetch("reviews", &pinned(&rows)).unwrap();
    assert_eq!(fs::read(&fetched.files["train"]).unwrap(), rows);
    assert_eq!(server.requests()[1].header("range"), Some("bytes=700000-"));
    let length = rows.len() as u64;
    assert_eq!(
        bars.seen(),
        [Bar {
            what: "reviews: train.csv".into(),
            announced: Some(length),
            counted: length,
            finished: true,
        }]
    );
}

#[test]
fn a_resumed_file_goes_through_redirects_with_its_range() {
    let (machine, rows) = (Machine::new(), rows());
    let body = rows.clone();
    let storage = Server::start(move |number, request| match number {
        0 => Reply::file(request, &body).broken_after(1000),
        _ => Reply::file(request, &body),
    });
    let elsewhere = storage.address() + "/blob";
    let hub = Server::start(move |_, _| Reply::status(307).with("Location", &elsewhere));
    machine
        .online(&hub.address())
        .fetch("reviews", &pinned(&rows))
        .unwrap();
    assert_eq!(storage.requests()[1].header("range"), Some("bytes=1000-"));
}

#[test]
fn a_connection_that_keeps_breaking_is_an_error_and_the_next_run_goes_on() {
    let (machine, rows) = (Machine::new(), rows());
    let body = rows.clone();
    let bad = Server::start(move |number, request| {
        Reply::file(request, &body).broken_after(if number == 0 { 5000 } else { 0 })
    });
    let error = machine
        .online(&bad.address())
        .fetch("reviews", &pinned(&rows))
        .unwrap_err();
    let error = only_error(error);
    assert!(
        matches!(error, Error::Interrupted { got: 5000, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("run again to go on from there"));

    let good = Server::with_files(&[(ADDRESS, &rows)]);
    machine
        .online(&good.address())
        .fetch("reviews", &pinned(&rows))
        .unwrap();
    assert_eq!(good.requests()[0].header("range"), Some("bytes=5000-"));
    assert_eq!(
        machine.files("cache/hub"),
        [OWN.strip_prefix("cache/hub/").unwrap()]
    );
}

#[test]
fn a_server_without_ranges_gives_the_whole_file_again() {
    let (machine, rows) = (Machine::new(), rows());
    let body = rows.clone();
    let server = Server::start(move |number, _| match number {
        0 => Reply::whole(&body).broken_after(5000),
        _ => Reply::whole(&body),
    });
    let fetched = machine
        .online(&server.address())
        .fetch("reviews", &pinned(&rows))
        .unwrap();
    assert_eq!(fs::read(&fetched.files["train"]).unwrap(), rows);
}

#[test]
fn a_beginning_that_belongs_to_another_file_is_thrown_away() {
    let (machine, rows) = (Machine::new(), rows());
    for beginning in [vec![7; 4000], vec![7; rows.len()], vec![7; 2 * rows.len()]] {
        let machine = Machine::new();
        machine.write(&format!("{OWN}.part"), &beginning);
        let server = Server::with_files(&[(ADDRESS, &rows)]);
        let fetched = machine
            .online(&server.address())
            .fetch("reviews", &pinned(&rows))
            .unwrap();
        assert_eq!(fs::read(&fetched.files["train"]).unwrap(), rows);
    }
    // Without a hash there is no telling, so nothing is resumed.
    machine.write(&format!("{OWN}.part"), &[7; 4000]);
    let server = Server::with_files(&[(ADDRESS, &rows)]);
    let fetched = machine
        .online(&server.address())
        .fetch("reviews", &reviews("{ train: {} }", COMMIT))
        .unwrap();
    assert_eq!(fs::read(&fetched.files["train"]).unwrap(), rows);
}

#[test]
fn wrong_bytes_are_named_with_both_hashes_and_removed() {
    let (machine, rows) = (Machine::new(), rows());
    let mut wrong = rows.clone();
    wrong[100_000] ^= 1;
    let server = Server::with_files(&[(ADDRESS, &wrong)]);
    let error = machine
        .online(&server.address())
        .fetch("reviews", &pinned(&rows))
        .unwrap_err();
    let message = error.to_string();
    let (expected, actual) = (sha256(&rows), sha256(&wrong));
    assert!(
        message.contains(ADDRESS)
            && message.contains(&format!("expected sha256 {expected}, got sha256 {actual}"))
            && message.contains("the download was removed"),
        "{message}"
    );
    assert_eq!(machine.files("cache/hub"), Vec::<String>::new());
}

#[test]
fn a_file_of_another_length_is_refused_with_both_lengths() {
    let (machine, rows) = (Machine::new(), rows());
    let server = Server::with_files(&[(ADDRESS, b"<html>please log in</html>")]);
    let error = machine
        .online(&server.address())
        .fetch("reviews", &pinned(&rows))
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("expected 1200000 bytes, got 26 bytes"),
        "{error}"
    );
    assert_eq!(machine.files("cache/hub"), Vec::<String>::new());
}

#[test]
fn an_answer_that_is_an_error_says_what_to_do() {
    for (status, hint) in [
        (401, "set HF_TOKEN"),
        (404, "no such repository, revision or file"),
        (503, "try again later"),
    ] {
        let machine = Machine::new();
        let server = Server::start(move |_, _| Reply::status(status));
        let error = machine
            .online(&server.address())
            .fetch("reviews", &pinned(b"x"))
            .unwrap_err();
        let message = error.to_string();
        assert!(
            message.contains(&format!("{ADDRESS} answered {status}")) && message.contains(hint),
            "{message}"
        );
    }
}

#[test]
fn an_unreachable_hub_is_named_with_the_variable_that_helps() {
    let machine = Machine::new();
    let error = machine
        .online(&nobody())
        .fetch("reviews", &pinned(b"x"))
        .unwrap_err();
    let error = only_error(error);
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("HF_ENDPOINT"), "{error}");
}

#[test]
fn offline_nobody_is_asked_and_the_error_says_so() {
    let machine = Machine::new();
    let server = Server::with_files(&[(ADDRESS, b"x")]);
    let fetcher = Fetcher::new(Settings {
        offline: true,
        ..machine.settings(&server.address())
    });
    let error = fetcher.fetch("reviews", &pinned(b"x")).unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains("not on this machine; looked in")
            && message.contains(&machine.path("hf/hub").display().to_string())
            && message.contains("The network is off (--offline or HF_HUB_OFFLINE=1)"),
        "{message}"
    );
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn a_commit_in_pythons_cache_is_found_without_a_reference() {
    let machine = Machine::new();
    machine.write(THEIRS, b"rows");
    let fetched = machine
        .online(&nobody())
        .fetch("reviews", &pinned(b"rows"))
        .unwrap();
    assert_eq!(fetched.files["train"], machine.path(THEIRS));
}

#[cfg(unix)]
#[test]
fn a_branch_in_pythons_cache_is_found_through_its_reference_and_links() {
    let machine = Machine::new();
    machine.write("hf/hub/datasets--ada--reviews/blobs/etag", b"rows");
    machine.write("hf/hub/datasets--ada--reviews/refs/main", COMMIT.as_bytes());
    let link = machine.path(THEIRS);
    fs::create_dir_all(link.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink("../../blobs/etag", &link).unwrap();
    let files = format!("{{ train: {{ sha256: {} }} }}", sha256(b"rows"));
    let fetched = machine
        .offline()
        .fetch("reviews", &reviews(&files, "main"))
        .unwrap();
    assert_eq!(fs::read(&fetched.files["train"]).unwrap(), b"rows");
}

#[test]
fn a_damaged_file_of_pythons_cache_is_passed_over_left_alone_and_told() {
    let machine = Machine::new();
    machine.write(THEIRS, b"rotten");
    let offline = machine.offline().fetch("reviews", &pinned(b"fresh!"));
    let error = only_error(offline.unwrap_err());
    assert!(matches!(&error, Error::Damaged { file, .. } if *file == machine.path(THEIRS)));

    let server = Server::with_files(&[(ADDRESS, b"fresh!")]);
    let online = machine
        .online(&server.address())
        .fetch("reviews", &pinned(b"fresh!"))
        .unwrap();
    assert_eq!(online.files["train"], machine.path(OWN));
    assert_eq!(online.warnings.len(), 1);
    assert!(online.warnings[0].contains(THEIRS), "{:?}", online.warnings);
    assert_eq!(fs::read(machine.path(THEIRS)).unwrap(), b"rotten");
}

#[test]
fn a_damaged_file_of_our_cache_is_fetched_again() {
    let machine = Machine::new();
    let own = machine.write(OWN, b"rotten");
    let server = Server::with_files(&[(ADDRESS, b"fresh!")]);
    let fetched = machine
        .online(&server.address())
        .fetch("reviews", &pinned(b"fresh!"))
        .unwrap();
    assert_eq!(fs::read(&own).unwrap(), b"fresh!");
    assert_eq!(fetched.warnings.len(), 1);
}

#[test]
fn an_optional_file_is_asked_for_once_with_the_others() {
    let machine = Machine::new();
    let hash = sha256(b"rows");
    let two = source(&format!(
        "
files: {{ train: {{ sha256: {hash} }}, zest: {{ sha256: {hash}, optional: true }} }}
places:
  - hub: {{ repo: ada/reviews, kind: dataset, revision: {COMMIT}, files: {{ train: train.csv, zest: zest.csv }} }}
"
    ));
    let server = Server::with_files(&[(ADDRESS, b"rows")]);
    for _ in 0..2 {
        let fetched = machine
            .online(&server.address())
            .fetch("reviews", &two)
            .unwrap();
        assert_eq!(fetched.files.into_keys().collect::<Vec<_>>(), ["train"]);
    }
    let asked: Vec<String> = server.requests().into_iter().map(|r| r.path).collect();
    assert_eq!(asked, [ADDRESS.replace("train", "zest"), ADDRESS.into()]);
}

#[test]
fn places_are_tried_in_order_and_one_error_lists_them_all() {
    let machine = Machine::new();
    let server = Server::with_files(&[("/ada/second/resolve/main/a", b"x")]);
    let places = |last: &str| {
        source(&format!(
            "
files: {{ a: {{}} }}
places:
  - path: {{ folder: nowhere, files: {{ a: a }} }}
  - hub: {{ repo: ada/first, kind: model, revision: main, files: {{ a: a }} }}
  - hub: {{ repo: ada/{last}, kind: model, revision: main, files: {{ a: a }} }}
"
        ))
    };
    let fetcher = machine.online(&server.address());
    let error = fetcher.fetch("thing", &places("third")).unwrap_err();
    let message = error.to_string();
    let lines: Vec<&str> = message.lines().collect();
    assert_eq!(lines[0], "thing was not found at any of its 3 places:");
    assert!(lines[1].starts_with("  1. folder nowhere: "));
    assert!(lines[2].starts_with("  2. Hugging Face hub, model ada/first at main: "));
    assert!(lines[3].starts_with("  3. Hugging Face hub, model ada/third at main: "));
    assert_eq!(lines.len(), 4);

    let fetched = fetcher.fetch("thing", &places("second")).unwrap();
    assert_eq!(fetched.place, "Hugging Face hub, model ada/second at main");
}

#[test]
fn what_is_on_this_machine_is_preferred_to_an_earlier_place_on_the_network() {
    let machine = Machine::new();
    machine.write("data/a", b"x");
    let server = Server::with_files(&[("/ada/net/resolve/main/a", b"x")]);
    let source = source(&format!(
        "
files: {{ a: {{}} }}
places:
  - hub: {{ repo: ada/net, kind: model, revision: main, files: {{ a: a }} }}
  - path: {{ folder: {:?}, files: {{ a: a }} }}
",
        machine.path("data")
    ));
    let fetched = machine
        .online(&server.address())
        .fetch("net", &source)
        .unwrap();
    assert!(fetched.place.starts_with("folder "));
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn many_at_once_download_once_and_all_get_the_file() {
    let (machine, rows) = (Machine::new(), rows());
    let server = Server::with_files(&[(ADDRESS, &rows)]);
    let source = pinned(&rows);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let fetcher = machine.online(&server.address());
                let fetched = fetcher.fetch("reviews", &source).unwrap();
                assert_eq!(fs::read(&fetched.files["train"]).unwrap(), rows);
            });
        }
    });
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_cache_that_cannot_be_written_is_named_with_the_variable_that_moves_it() {
    let machine = Machine::new();
    // A file where the folder should be: not even root can write below it.
    machine.write("cache", b"");
    let server = Server::with_files(&[(ADDRESS, b"x")]);
    let error = machine
        .online(&server.address())
        .fetch("reviews", &pinned(b"x"))
        .unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains(&machine.path("cache").display().to_string())
            && message.contains("set PEFTBENCH_CACHE to another folder"),
        "{message}"
    );
    // What is in the Hugging Face cache can still be read.
    machine.write(THEIRS, b"x");
    machine.offline().fetch("reviews", &pinned(b"x")).unwrap();
}

#[test]
fn the_known_data_sets_are_read_from_a_real_cache() {
    let home = std::env::var("HF_HOME").unwrap_or_default();
    let hf = Path::new(&home).join("hub");
    if !hf.is_dir() {
        skip(
            "real",
            format!("there is no Hugging Face cache at {}", hf.display()),
        );
        return;
    }
    let machine = Machine::new();
    let fetcher = Fetcher::new(Settings {
        hub_cache: hf,
        offline: true,
        ..machine.settings(&nobody())
    });
    let snippets = snippets();
    for name in ["sst2", "cola", "mrpc", "rte"] {
        let fetched = fetcher.fetch(name, &snippets[name]).unwrap();
        assert_eq!(
            fetched.files.into_keys().collect::<Vec<_>>(),
            ["test", "train", "validation"]
        );
    }
}
