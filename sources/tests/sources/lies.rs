//! A hub, and what stands between us and it, that lies in each way that has been seen.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use peftbench_sources::{Fetched, Fetcher, Place, Settings, Source};

use crate::support::{Machine, Reply, Request, Server, nobody, sha256, source};

const OLD: &str = "1111111111111111111111111111111111111111";
const NEW: &str = "2222222222222222222222222222222222222222";

/// One file of a branch, without a hash.
fn branch() -> Source {
    source(
        "
files: { train: {} }
places: [ hub: { repo: ada/reviews, kind: dataset, revision: main, files: { train: train.csv } } ]
",
    )
}

fn pinned(bytes: &[u8]) -> Source {
    source(&format!(
        "
files: {{ train: {{ sha256: {}, bytes: {} }} }}
places: [ hub: {{ repo: ada/reviews, kind: dataset, revision: {OLD}, files: {{ train: train.csv }} }} ]
",
        sha256(bytes),
        bytes.len()
    ))
}

fn read(fetched: &Fetched) -> Vec<u8> {
    fs::read(&fetched.files["train"]).unwrap()
}

/// A file as the hub sends it.
fn file(request: &Request, bytes: &[u8], commit: &str, tag: &str) -> Reply {
    Reply::file(request, bytes)
        .with("X-Repo-Commit", commit)
        .with("ETag", &format!("\"{tag}\""))
}

fn version(letter: u8) -> Vec<u8> {
    (0..300_000u32)
        .flat_map(|i| [letter, (i % 251) as u8])
        .collect()
}

#[test]
fn two_versions_are_never_mixed() {
    let (first, second) = (version(b'a'), version(b'b'));
    type Answer = Box<dyn Fn(&Request, &[u8]) -> Reply + Send>;
    let whole: Answer = Box::new(|_, new| file_whole(new, "b"));
    let ignores: Answer = Box::new(|request, new| file(request, new, NEW, "b"));
    let untagged: Answer = Box::new(Reply::file);
    for (what, rest) in [
        ("If-Range is followed", whole),
        ("If-Range is ignored", ignores),
        ("the tag is left out", untagged),
    ] {
        let machine = Machine::new();
        let (old, new) = (first.clone(), second.clone());
        let server = Server::start(move |number, request| match number {
            0 => file(request, &old, OLD, "a").broken_after(100_000),
            _ => rest(request, &new),
        });
        let fetched = machine
            .online(&server.address())
            .fetch("reviews", &branch())
            .unwrap();
        assert!(read(&fetched) == second, "{what}: mixed");
        assert_eq!(
            server.requests()[1].header("if-range"),
            Some("\"a\""),
            "{what}"
        );
    }
    // Without any tag nothing says that the rest is of the same file, so it begins again.
    let machine = Machine::new();
    let (old, new) = (first.clone(), second.clone());
    let server = Server::start(move |number, request| match number {
        0 => Reply::file(request, &old).broken_after(100_000),
        _ => Reply::file(request, &new),
    });
    let fetched = machine
        .online(&server.address())
        .fetch("reviews", &branch())
        .unwrap();
    assert!(read(&fetched) == second);
    assert_eq!(server.requests()[1].header("range"), None);
}

fn file_whole(bytes: &[u8], tag: &str) -> Reply {
    Reply::whole(bytes)
        .with("X-Repo-Commit", NEW)
        .with("ETag", &format!("\"{tag}\""))
}

#[test]
fn a_broken_transfer_without_a_hash_goes_on_where_the_tag_is_the_same() {
    let machine = Machine::new();
    let bytes = version(b'a');
    let body = bytes.clone();
    let server = Server::start(move |number, request| match number {
        0 => file(request, &body, OLD, "a").broken_after(100_000),
        _ => file(request, &body, OLD, "a"),
    });
    let fetched = machine
        .online(&server.address())
        .fetch("reviews", &branch())
        .unwrap();
    assert!(read(&fetched) == bytes);
    assert_eq!(server.requests()[1].header("range"), Some("bytes=100000-"));
    assert_eq!(fetched.commit.as_deref(), Some(OLD));
}

#[test]
fn no_answer_fills_the_disk() {
    let block = vec![b'x'; 64 * 1024];
    let pinned = pinned(&block);
    let cases: Vec<(&str, Source, Reply, &str)> = vec![
        (
            "endless for a known length",
            pinned.clone(),
            Reply::whole(&block).endless(),
            "expected 65536 bytes",
        ),
        (
            "a longer declared length",
            pinned.clone(),
            Reply::whole(&block).declares(1 << 50),
            "got 1125899906842624 bytes",
        ),
        (
            "endless for an unknown length",
            branch(),
            Reply::whole(&block).endless(),
            "at most 1000000 bytes without",
        ),
        (
            "a declared length that no disk has",
            branch(),
            Reply::whole(&block).declares(1 << 60),
            "make room there",
        ),
        (
            "another length than the hub says",
            branch(),
            Reply::whole(&block).with("X-Linked-Size", "7"),
            "expected 7 bytes, got 65536",
        ),
        (
            "endless after the hub's own length",
            branch(),
            Reply::whole(&block)
                .endless()
                .with("X-Linked-Size", "70000"),
            "expected 70000 bytes",
        ),
    ];
    for (what, source, reply, words) in cases {
        let machine = Machine::new();
        let reply = Arc::new(reply);
        let server = Server::shared(move |_| reply.clone());
        let mut settings = machine.settings(&server.address());
        settings.patience.undeclared = 1_000_000;
        settings.patience.tries = 2;
        let error = Fetcher::new(settings)
            .fetch("reviews", &source)
            .map(|_| panic!("{what}: accepted"))
            .unwrap_err()
            .to_string();
        assert!(error.contains(words), "{what}: {error}");
        let left: u64 = machine
            .files("cache/hub")
            .iter()
            .map(|file| {
                fs::metadata(machine.path("cache/hub").join(file))
                    .unwrap()
                    .len()
            })
            .sum();
        assert!(left == 0, "{what}: {left} bytes are left");
    }
    // Without a length, and short: nothing is wrong with that.
    let machine = Machine::new();
    let server = Server::start(|_, _| Reply::whole(b"text,label\n").undeclared());
    let fetched = machine
        .online(&server.address())
        .fetch("reviews", &branch());
    assert_eq!(read(&fetched.unwrap()), b"text,label\n");
}

#[test]
fn the_token_goes_to_the_hub_itself_and_to_nobody_else() {
    let machine = Machine::new();
    let storage = Server::start(|_, request| Reply::file(request, b"rows"));
    // The same host at another port is another server; so is another name of the same machine.
    for elsewhere in [
        storage.address(),
        storage.address().replace("127.0.0.1", "localhost"),
    ] {
        let target = format!("{elsewhere}/blob");
        let hub = Server::start(move |_, request| match request.path.contains("/resolve/") {
            true => Reply::status(302).with("Location", "/second/hop"),
            false => Reply::status(302).with("Location", &target),
        });
        let fetcher = Fetcher::new(Settings {
            token: Some("hf_secret".into()),
            cache: machine.path(&elsewhere.replace([':', '/'], "_")),
            ..machine.settings(&hub.address())
        });
        fetcher.fetch("reviews", &pinned(b"rows")).unwrap();
        let sent: Vec<_> = hub
            .requests()
            .iter()
            .map(|r| r.header("authorization").map(str::to_string))
            .collect();
        assert_eq!(sent, vec![Some("Bearer hf_secret".to_string()); 2]);
    }
    for request in storage.requests() {
        assert_eq!(request.header("authorization"), None);
    }
}

#[test]
fn credentials_in_the_address_of_the_hub_are_sent_and_never_shown() {
    let server = Server::start(|_, _| Reply::status(404));
    let login = |address: String| address.replace("http://", "http://ada:s3cret@");
    for endpoint in [
        login(server.address()),
        login(nobody()),
        "ftp://ada:s3cret@hub".into(),
    ] {
        let machine = Machine::new();
        let error = machine.online(&endpoint).fetch("reviews", &branch());
        let error = error.unwrap_err();
        assert!(!format!("{error} {error:?}").contains("s3cret"), "{error}");
    }
    assert_eq!(
        server.requests()[0].header("authorization"),
        Some("Basic YWRhOnMzY3JldA==")
    );
}

#[test]
fn a_server_that_is_too_slow_is_given_up() {
    for (window, whole, words) in [
        (200, 60_000, "slower than 1024 bytes per second"),
        (60_000, 300, "it took longer than 300ms"),
    ] {
        let machine = Machine::new();
        let server = Server::start(|_, _| Reply::whole(&vec![b'x'; 5000]).trickle(20));
        let mut settings = machine.settings(&server.address());
        settings.patience.window = Duration::from_millis(window);
        settings.patience.whole = Duration::from_millis(whole);
        settings.patience.tries = 2;
        let start = Instant::now();
        let error = Fetcher::new(settings)
            .fetch("reviews", &branch())
            .unwrap_err()
            .to_string();
        assert!(error.contains(words), "{error}");
        // The whole answer would take 100 seconds.
        assert!(start.elapsed() < Duration::from_secs(60));
    }
}

#[test]
fn a_server_in_trouble_is_asked_again_after_the_pause_it_names() {
    for status in [408, 429, 500, 502, 503, 504] {
        let machine = Machine::new();
        let server = Server::start(move |number, request| match number {
            0 => Reply::status(status).with("Retry-After", "0"),
            1 => Reply::status(status),
            _ => file(request, b"rows", OLD, "a"),
        });
        let fetched = machine
            .online(&server.address())
            .fetch("reviews", &branch());
        assert_eq!(read(&fetched.unwrap()), b"rows", "{status}");
        assert_eq!(server.requests().len(), 3, "{status}");
    }
    // What will not pass is not asked for again, and neither is a server that wants hours.
    for (reply, words) in [
        ((401, "0"), "answered 401"),
        ((404, "0"), "answered 404"),
        ((501, "0"), "answered 501"),
        ((429, "7200"), "it asks to wait 7200 s"),
    ] {
        let machine = Machine::new();
        let (status, wait) = reply;
        let server = Server::start(move |_, _| Reply::status(status).with("Retry-After", wait));
        let error = machine
            .online(&server.address())
            .fetch("reviews", &branch())
            .unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert_eq!(server.requests().len(), 1, "{status}");
    }
    let machine = Machine::new();
    let server = Server::start(|_, _| Reply::status(503));
    let error = machine
        .online(&server.address())
        .fetch("reviews", &branch())
        .unwrap_err();
    assert!(error.to_string().contains("try again later"), "{error}");
    assert_eq!(server.requests().len(), 5);
}

#[test]
fn nobody_waits_for_a_process_that_waits_for_the_server() {
    let machine = Machine::new();
    let (asked, first) = mpsc::channel();
    let server = Server::start(move |number, request| match number {
        0 => {
            asked.send(()).unwrap();
            Reply::status(503).with("Retry-After", "2")
        }
        _ => file(request, b"rows", OLD, "a"),
    });
    let source = pinned(b"rows");
    std::thread::scope(|scope| {
        let patient = scope.spawn(|| {
            machine
                .online(&server.address())
                .fetch("reviews", &source)
                .unwrap()
        });
        first.recv().unwrap();
        machine
            .online(&server.address())
            .fetch("reviews", &source)
            .unwrap();
        assert!(
            !patient.is_finished(),
            "the second had to wait for the first"
        );
        assert_eq!(read(&patient.join().unwrap()), b"rows");
    });
    // The one that waited found what the other had brought.
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_web_page_is_never_kept() {
    let login = "<html><body>Sign in</body></html>";
    let pages: Vec<(&str, Vec<u8>)> = vec![
        ("text/html", login.into()),
        ("text/html; charset=utf-8", b"Sign in".to_vec()),
        ("TEXT/HTML", b"Sign in".to_vec()),
        ("text/plain", login.into()),
        ("application/octet-stream", b"<!DOCTYPE html>\n<p>".to_vec()),
        ("text/csv", "\u{feff}\n  <!doctype HTML><p>".into()),
        ("", b"  \r\n<HTML lang=en>".to_vec()),
    ];
    for redirected in [false, true] {
        for (kind, page) in pages.clone() {
            let machine = Machine::new();
            let server = Server::start(move |number, request| match request.path.as_str() {
                // The network lets us through from the third request on.
                "/login" => Reply::whole(&page).with("Content-Type", kind),
                _ if number > 1 => file(request, b"text,label\n", OLD, "a"),
                _ if redirected => Reply::status(302).with("Location", "/login"),
                _ if number == 0 => Reply::whole(&page).with("Content-Type", kind),
                _ => file(request, b"text,label\n", OLD, "a"),
            });
            let fetcher = machine.online(&server.address());
            let error = fetcher.fetch("reviews", &branch()).unwrap_err().to_string();
            assert!(
                error.contains("a web page (HTML), not the file"),
                "{kind}: {error}"
            );
            assert_eq!(machine.files("cache/hub"), Vec::<String>::new(), "{kind}");
            let fetched = fetcher.fetch("reviews", &branch()).unwrap();
            assert_eq!(read(&fetched), b"text,label\n", "{kind}");
        }
    }
}

/// A branch that moves when it is told to; counts the bodies that were sent whole.
fn moving(tags: bool) -> (Server, Arc<AtomicUsize>) {
    let now = Arc::new(AtomicUsize::new(0));
    let version = now.clone();
    let server = Server::start(move |_, request| {
        let (rows, commit, tag): (&[u8], _, _) = match version.load(Ordering::SeqCst) {
            0 => (b"old rows", OLD, "a"),
            _ => (b"new rows", NEW, "b"),
        };
        match tags {
            true => file(request, rows, commit, tag),
            false => Reply::file(request, rows),
        }
    });
    (server, now)
}

#[test]
fn a_branch_that_has_moved_is_noticed_each_time() {
    for tags in [true, false] {
        let machine = Machine::new();
        let (server, now) = moving(tags);
        let fetcher = machine.online(&server.address());
        let fetch = || fetcher.fetch("reviews", &branch()).unwrap();
        let first = fetch();
        assert_eq!(read(&first), b"old rows");
        let asked = server.requests().len();
        assert_eq!(read(&fetch()), b"old rows");
        // One request says that nothing has changed; without a tag it has to come again.
        assert_eq!(server.requests().len() - asked, if tags { 1 } else { 2 });
        now.store(1, Ordering::SeqCst);
        let second = fetch();
        assert_eq!(read(&second), b"new rows");
        if tags {
            assert_eq!(first.commit.as_deref(), Some(OLD));
            assert_eq!(second.commit.as_deref(), Some(NEW));
            // Whoever still reads the old one keeps it.
            assert_eq!(read(&first), b"old rows");
        }
        assert_eq!(
            read(&machine.offline().fetch("reviews", &branch()).unwrap()),
            b"new rows"
        );
    }
}

#[test]
fn a_copy_that_was_changed_on_the_disk_is_brought_again() {
    let machine = Machine::new();
    let (server, _) = moving(true);
    let fetcher = machine.online(&server.address());
    let file = fetcher.fetch("reviews", &branch()).unwrap().files["train"].clone();
    fs::write(&file, b"<html>cut").unwrap();
    assert_eq!(
        read(&fetcher.fetch("reviews", &branch()).unwrap()),
        b"old rows"
    );
}

#[test]
fn a_copy_of_pythons_cache_counts_while_the_branch_stands_and_not_after() {
    let machine = Machine::new();
    let theirs = "hf/hub/datasets--ada--reviews";
    machine.write(&format!("{theirs}/refs/main"), OLD.as_bytes());
    let kept = machine.write(&format!("{theirs}/snapshots/{OLD}/train.csv"), b"old rows");
    let (server, now) = moving(true);
    let fetcher = machine.online(&server.address());
    let fetched = fetcher.fetch("reviews", &branch()).unwrap();
    assert_eq!(fetched.files["train"], kept);
    assert_eq!(fetched.commit.as_deref(), Some(OLD));
    now.store(1, Ordering::SeqCst);
    let fetched = fetcher.fetch("reviews", &branch()).unwrap();
    assert_eq!(read(&fetched), b"new rows");
    assert_eq!(fs::read(&kept).unwrap(), b"old rows");
}

#[test]
fn without_an_answer_the_copy_is_used_and_that_is_said() {
    let machine = Machine::new();
    let (server, _) = moving(true);
    machine
        .online(&server.address())
        .fetch("reviews", &branch())
        .unwrap();
    drop(server);
    let portal =
        Server::start(|_, _| Reply::whole(b"<html>Sign in").with("Content-Type", "text/html"));
    let broken = Server::start(|_, _| Reply::status(503));
    let away = Server::start(|_, _| Reply::status(302).with("Location", "ftp://x"));
    for endpoint in [nobody(), portal.address(), broken.address(), away.address()] {
        let fetched = machine
            .online(&endpoint)
            .fetch("reviews", &branch())
            .unwrap();
        assert_eq!(read(&fetched), b"old rows");
        assert_eq!(fetched.commit.as_deref(), Some(OLD));
        assert_eq!(fetched.warnings.len(), 1);
        assert!(
            fetched.warnings[0].contains("the copy on this machine is used"),
            "{:?}",
            fetched.warnings
        );
    }
    // A hub that answers, and knows no such file any more, is believed.
    let gone = Server::start(|_, _| Reply::status(404));
    machine
        .online(&gone.address())
        .fetch("reviews", &branch())
        .unwrap_err();
}

#[test]
fn the_tag_of_a_large_file_is_its_sha256_and_is_held_against_the_bytes() {
    let right = sha256(b"rows");
    for (tag, good) in [(right, true), (sha256(b"other"), false)] {
        let machine = Machine::new();
        let storage = Server::start(|_, request| {
            Reply::file(request, b"rows").with("ETag", "\"md5-of-the-storage\"")
        });
        let (target, linked) = (storage.address() + "/blob", format!("\"{tag}\""));
        let hub = Server::start(move |_, _| {
            Reply::status(302)
                .with("Location", &target)
                .with("X-Linked-Etag", &linked)
                .with("X-Linked-Size", "4")
                .with("X-Repo-Commit", OLD)
        });
        let result = machine.online(&hub.address()).fetch("reviews", &branch());
        match good {
            true => assert_eq!(read(&result.unwrap()), b"rows"),
            false => {
                let error = result.unwrap_err().to_string();
                assert!(error.contains(&format!("expected sha256 {tag}")), "{error}");
            }
        }
    }
}

/// The sources of data sets that no hash of ours pins, by a commit or by name alone: what they are is the hub's word, held against
/// the bytes.
fn without_hashes() -> Vec<(&'static str, Source)> {
    #[derive(serde::Deserialize)]
    struct Section {
        source: Source,
    }
    let all = [
        (
            "conll2003",
            include_str!("../../../datasets/conll2003.yaml"),
        ),
        ("tnews", include_str!("../../../datasets/tnews.yaml")),
        ("e2e_nlg", include_str!("../../../datasets/e2e_nlg.yaml")),
        ("trec", include_str!("../../../datasets/trec.yaml")),
        ("wnut17", include_str!("../../../datasets/wnut17.yaml")),
    ];
    let section = |yaml| serde_yaml::from_str::<Section>(yaml).unwrap().source;
    all.map(|(name, yaml)| (name, section(yaml))).into()
}

#[test]
fn data_sets_without_hashes_come_from_one_commit_with_the_bytes_that_the_hub_says() {
    for (name, source) in without_hashes() {
        let [Place::Hub(hub)] = &source.places[..] else {
            panic!("{name}: one place on the hub");
        };
        let repository = format!("/datasets/{}/resolve/", hub.repo);
        let branch = hub.revision.replace('/', "%2F");
        let pinned = branch.len() == 40 && branch.bytes().all(|b| b.is_ascii_hexdigit());
        let commit = if pinned {
            branch.clone()
        } else {
            OLD.to_owned()
        };
        let known: Vec<String> = hub.files.values().cloned().collect();
        for damaged in [false, true] {
            let (repository, branch, known) = (repository.clone(), branch.clone(), known.clone());
            let of = commit.clone();
            let server = Server::start(move |_, request| {
                let rest = request.path.strip_prefix(&repository);
                let (revision, path) = rest.and_then(|rest| rest.split_once('/')).unwrap();
                let good = branch == revision || of == revision;
                let Some(path) = known.iter().find(|known| good && *known == path) else {
                    return Reply::status(404);
                };
                let bytes = format!("the rows of {path}").into_bytes();
                let sent = if damaged { path.as_bytes() } else { &bytes };
                file(request, sent, &of, &sha256(&bytes))
            });
            let machine = Machine::new();
            let fetched = machine.online(&server.address()).fetch(name, &source);
            if damaged {
                let error = fetched.unwrap_err().to_string();
                assert!(error.contains("expected sha256"), "{name}: {error}");
                continue;
            }
            let fetched = fetched.unwrap();
            assert_eq!(fetched.commit.as_deref(), Some(commit.as_str()), "{name}");
            for (file, path) in &hub.files {
                let bytes = fs::read(&fetched.files[file]).unwrap();
                assert_eq!(bytes, format!("the rows of {path}").as_bytes(), "{name}");
            }
        }
    }
}

#[test]
fn what_the_storage_says_about_the_commit_is_not_believed() {
    let machine = Machine::new();
    let storage = Server::start(|_, request| file(request, b"rows", NEW, &sha256(b"other")));
    let target = storage.address() + "/blob";
    let hub = Server::start(move |_, _| {
        Reply::status(302)
            .with("Location", &target)
            .with("X-Repo-Commit", OLD)
    });
    let fetched = machine
        .online(&hub.address())
        .fetch("reviews", &branch())
        .unwrap();
    assert_eq!(fetched.commit.as_deref(), Some(OLD));
    assert_eq!(read(&fetched), b"rows");
}

#[test]
fn all_files_are_of_one_commit_though_the_branch_moves_between_them() {
    let machine = Machine::new();
    let server = Server::start(|number, request| {
        let commit = if number == 0 || request.path.contains(OLD) {
            OLD
        } else {
            NEW
        };
        file(request, commit.as_bytes(), commit, commit)
    });
    let two = source(
        "
files: { a: {}, b: {} }
places: [ hub: { repo: ada/net, kind: model, revision: main, files: { a: a.bin, b: b.bin } } ]
",
    );
    let fetched = machine
        .online(&server.address())
        .fetch("net", &two)
        .unwrap();
    for file in fetched.files.values() {
        assert_eq!(fs::read(file).unwrap(), OLD.as_bytes());
    }
    assert_eq!(fetched.commit.as_deref(), Some(OLD));
}

#[cfg(unix)]
#[test]
fn what_is_no_regular_file_is_named_and_not_opened() {
    use std::os::unix::ffi::OsStrExt;
    let machine = Machine::new();
    let pipe = machine.write("data/x", b"").with_file_name("train.csv");
    let at = |file: &std::path::Path| {
        source(&format!(
            "
files: {{ train: {{}} }}
places: [ path: {{ folder: {:?}, files: {{ train: {} }} }} ]
",
            file.parent().unwrap(),
            file.file_name().unwrap().to_str().unwrap()
        ))
    };
    let name = std::ffi::CString::new(pipe.as_os_str().as_bytes()).unwrap();
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success(),
        "{name:?}"
    );
    let socket = machine.path("data/socket.csv");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let folder = machine.path("data/folder.csv");
    fs::create_dir(&folder).unwrap();
    let dangling = machine.path("data/dangling.csv");
    std::os::unix::fs::symlink("nowhere", &dangling).unwrap();
    let to_pipe = machine.path("data/to_pipe.csv");
    std::os::unix::fs::symlink(&pipe, &to_pipe).unwrap();
    for (file, words) in [
        (pipe.as_path(), "is a named pipe; a regular file is needed"),
        (to_pipe.as_path(), "is a named pipe"),
        (std::path::Path::new("/dev/zero"), "is a device"),
        (socket.as_path(), "is a socket"),
        (folder.as_path(), "is a folder"),
        (
            dangling.as_path(),
            "is a link to a file that does not exist",
        ),
        (&machine.path("data/none.csv"), "does not exist"),
        (&machine.path("data/x/none.csv"), "does not exist"),
    ] {
        let error = machine
            .offline()
            .fetch("mine", &at(file))
            .unwrap_err()
            .to_string();
        assert!(error.contains(words), "{}: {error}", file.display());
    }
}

#[cfg(unix)]
#[test]
fn a_link_in_a_strangers_folder_stays_inside() {
    use peftbench_sources::{Error, inside, read_whole};
    let machine = Machine::new();
    let secret = machine.write("secret", b"key");
    machine.write("weights/real", b"numbers");
    let link = |target: &str, name: &str| {
        std::os::unix::fs::symlink(target, machine.path("weights").join(name)).unwrap();
    };
    link(secret.to_str().unwrap(), "out");
    link("../secret", "out_too");
    link("real", "in");
    link("loop", "loop");
    let folder = machine.path("weights");
    assert!(inside(&folder, "real").is_ok() && inside(&folder, "in").is_ok());
    for name in ["out", "out_too"] {
        assert!(
            matches!(inside(&folder, name), Err(Error::LeadsOut { .. })),
            "{name}"
        );
    }
    assert!(inside(&folder, "loop").is_err() && inside(&folder, "none").is_err());
    // Python's cache is made of links to its own blobs.
    let blob = machine.write("hf/hub/models--a--b/blobs/tag", b"numbers");
    let snapshot = machine.path("hf/hub/models--a--b/snapshots/main");
    fs::create_dir_all(&snapshot).unwrap();
    std::os::unix::fs::symlink("../../blobs/tag", snapshot.join("model")).unwrap();
    std::os::unix::fs::symlink(&secret, snapshot.join("out")).unwrap();
    assert!(inside(&snapshot, "model").is_ok());
    assert!(matches!(
        inside(&snapshot, "out"),
        Err(Error::LeadsOut { .. })
    ));
    assert!(matches!(
        read_whole(&blob, 3),
        Err(Error::TooLarge { bytes: 7, .. })
    ));
    assert_eq!(read_whole(&blob, 7).unwrap(), b"numbers");
}

#[cfg(unix)]
#[test]
fn a_folder_of_weights_with_a_way_out_or_a_pipe_is_refused() {
    use peftbench_sources::{Error, check_folder};
    use std::os::unix::fs::symlink;
    let folder_with = |make: &dyn Fn(&std::path::Path)| {
        let machine = Machine::new();
        machine.write("secret/key", b"key");
        machine.write("weights/model", b"numbers");
        machine.write("weights/more/model", b"numbers");
        make(&machine.path("weights"));
        check_folder(&machine.path("weights"))
    };
    for target in ["../secret/key", "../secret", "/etc/passwd", "/etc"] {
        let result = folder_with(&|folder| symlink(target, folder.join("link")).unwrap());
        assert!(matches!(result, Err(Error::LeadsOut { .. })), "{target}");
    }
    for (target, kind) in [
        ("/dev/zero", None),
        ("model", Some(())),
        ("more", Some(())),
        ("none", Some(())),
    ] {
        let result = folder_with(&|folder| symlink(target, folder.join("link")).unwrap());
        assert_eq!(result.is_ok(), kind.is_some(), "{target}: {result:?}");
    }
    let result = folder_with(&|folder| {
        let pipe = folder.join("adapter_model.safetensors");
        assert!(
            std::process::Command::new("mkfifo")
                .arg(pipe)
                .status()
                .unwrap()
                .success()
        );
    });
    assert!(
        matches!(
            result,
            Err(Error::NotAFile {
                kind: "a named pipe",
                ..
            })
        ),
        "{result:?}"
    );
    assert!(check_folder(std::path::Path::new("no/such/folder")).is_ok());
}
