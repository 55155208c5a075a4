//! Whatever bytes a file holds: reading it gives a value that can be used, or an error. Never a panic.
//!
//! Each property takes arbitrary bytes, and valid files that were cut short, overwritten, or changed in one value.
//! `just fuzz` runs the same properties with many more cases; `PROPTEST_CASES` sets their number.

use std::{
    collections::BTreeMap,
    fs,
    hash::{BuildHasher, RandomState},
    path::PathBuf,
};

use backbone::{Backbone, Config, TensorFile};
use datasets::{Example, Split, TextTokenizer};
use peftbench::{
    formats, gguf_tokenizer,
    prepare::Files,
    train::recipe::Recipe,
    weights::{self, task_backbone},
};
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config as Cases, RngSeed, TestRunner},
};
use record::store;
use reports::{Comparison, tables};
use serde_json::{Value, json};

use crate::support::{Place, small_gguf};

/// Runs a property with few cases, or with as many as the environment asks for. Where it fails, its seed is told.
fn holds<S: Strategy>(strategy: S, property: impl Fn(S::Value)) {
    let cases = std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|n| n.parse().ok());
    let seed = match Cases::default().rng_seed {
        RngSeed::Fixed(seed) => seed,
        RngSeed::Random => RandomState::new().hash_one(0),
    };
    let config = Cases {
        cases: cases.unwrap_or(40),
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(seed),
        ..Cases::default()
    };
    let run = TestRunner::new(config).run(&strategy, |value| {
        property(value);
        Ok(())
    });
    if let Err(failure) = run {
        panic!("{failure}\nThe same cases again: PROPTEST_RNG_SEED={seed}");
    }
}

/// Arbitrary bytes, or `valid` ones after a few accidents.
fn bytes_like(valid: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let accident = (
        0..5u8,
        any::<proptest::sample::Index>(),
        vec(any::<u8>(), 0..9),
    );
    let damaged = vec(accident, 1..5).prop_map(move |accidents| {
        let mut bytes = valid.clone();
        for (kind, at, more) in accidents {
            if bytes.is_empty() {
                break;
            }
            let at = at.index(bytes.len());
            match kind {
                0 => bytes.truncate(at),
                1 => bytes[at] ^= more.first().copied().unwrap_or(1) | 1,
                2 => drop(bytes.splice(at..at, more)),
                3 => drop(bytes.drain(at..(at + more.len()).min(bytes.len()))),
                _ => {
                    let end = (at + more.len()).min(bytes.len());
                    bytes[at..end].copy_from_slice(&more[..end - at]);
                }
            }
        }
        bytes
    });
    prop_oneof![1 => vec(any::<u8>(), 0..200), 4 => damaged]
}

/// A value that somebody may have written where another was expected.
fn odd_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        Just(json!(u64::MAX)),
        (-2i64..20).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-zA-Z0-9.*(\\[|\\\\é]{0,8}".prop_map(Value::from),
        vec(-2i64..4, 0..3).prop_map(Value::from),
        Just(json!({})),
        Just(json!({ "encoder.0.query": 1, ".*(": 2 })),
    ]
}

/// A JSON file in which a few values, at any depth, were replaced or removed, or which is damaged.
fn json_like(text: &str) -> impl Strategy<Value = Vec<u8>> + use<> {
    let valid: Value = serde_json::from_str(text).unwrap();
    let change = (
        any::<proptest::sample::Index>(),
        prop::option::of(odd_value()),
    );
    let changed = vec(change, 1..4).prop_map(move |changes| {
        let mut json = valid.clone();
        for (at, value) in changes {
            let mut places = Vec::new();
            pointers(&json, String::new(), &mut places);
            let place = at.get(&places).clone();
            let (parent, key) = place.rsplit_once('/').unwrap_or_default();
            match (value, json.pointer_mut(parent)) {
                (Some(value), _) => *json.pointer_mut(&place).unwrap() = value,
                (None, Some(Value::Object(map))) => drop(map.remove(key)),
                (None, Some(Value::Array(list))) if !list.is_empty() => drop(list.pop()),
                _ => {}
            }
        }
        serde_json::to_vec(&json).unwrap()
    });
    prop_oneof![4 => changed, 1 => bytes_like(text.as_bytes().to_vec())]
}

/// The places of all values that hold no others with a slash in their name.
fn pointers(json: &Value, at: String, places: &mut Vec<String>) {
    match json {
        Value::Object(map) => {
            for (key, value) in map {
                pointers(
                    value,
                    format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")),
                    places,
                );
            }
        }
        Value::Array(list) => {
            for (i, value) in list.iter().enumerate() {
                pointers(value, format!("{at}/{i}"), places);
            }
        }
        _ => {}
    }
    places.push(at);
}

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

/// A folder with copies of a fixture's files.
fn copy(place: &Place, name: &str, of: &str) -> PathBuf {
    let folder = place.path().join(name);
    fs::create_dir_all(&folder).unwrap();
    for entry in fs::read_dir(fixture(of)).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
        }
    }
    folder
}

#[test]
fn a_safetensors_file() {
    let place = Place::new();
    let valid = fs::read(fixture("peft/lora/adapter_model.safetensors")).unwrap();
    let path = place.path().join("weights.safetensors");
    // Most accidents would hit the data: the header is what is read.
    let header = 8 + u64::from_le_bytes(valid[..8].try_into().unwrap()) as usize;
    let (head, data) = valid.split_at(header);
    let data = data.to_vec();
    let strategy = prop_oneof![
        bytes_like(valid.clone()),
        bytes_like(head.to_vec()).prop_map(move |head| [head, data.clone()].concat()),
    ];
    holds(strategy, |bytes| {
        fs::write(&path, bytes).unwrap();
        if let Ok(file) = TensorFile::open(&path) {
            for name in file.names() {
                let shape = file.shape(&name).unwrap().to_vec();
                if let Ok(tensor) = file.read(&name, None) {
                    assert_eq!(tensor.dims(), shape);
                }
            }
        }
    });
}

#[test]
fn a_gguf_file() {
    let place = Place::new();
    let valid = small_gguf("smollm", &[]);
    let path = place.path().join("model.gguf");
    let read = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let backbone = Config::read(&path).and_then(|config| Backbone::load(config, &path));
        if let Ok(backbone) = &backbone {
            let table = backbone.word_embeddings().dims();
            assert_eq!(table[1], backbone.config().hidden);
        }
        let tokenizer = gguf_tokenizer::read(&path);
        if let Ok(tokenizer) = &tokenizer {
            let _ = tokenizer.encode_text("abba 12");
        }
        (backbone.is_ok(), tokenizer.is_ok())
    };
    assert_eq!(read(&valid), (true, true));
    // As above: most accidents would hit the data. The header's first fields hold every count.
    let (head, data) = valid.split_at(600);
    let data = data.to_vec();
    let strategy = prop_oneof![
        bytes_like(valid.clone()),
        bytes_like(head.to_vec()).prop_map(move |head| [head, data.clone()].concat()),
    ];
    holds(strategy, |bytes| {
        read(&bytes);
    });
}

#[test]
fn the_configuration_of_a_backbone() {
    let place = Place::new();
    for architecture in ["bert", "roberta", "distilbert"] {
        let text = fs::read_to_string(fixture(architecture).join("config.json")).unwrap();
        let weights = fixture(architecture).join("model.safetensors");
        let path = place.path().join("config.json");
        holds(json_like(&text), |bytes| {
            fs::write(&path, bytes).unwrap();
            if let Ok(config) = Config::read(&path) {
                let _ = Backbone::load(config, &weights);
            }
        });
    }
}

#[test]
fn a_tokenizer() {
    let place = Place::new();
    let path = place.path().join("tokenizer.json");
    let text = fs::read_to_string(fixture("bert/tokenizer.json")).unwrap();
    let examples = [
        ("", None),
        ("the film was naïve", Some("dull 🎬\u{0}")),
        ("zzz", None),
    ]
    .map(|(text, pair)| Example {
        text: text.into(),
        pair: pair.map(str::to_owned),
        label: None,
    });
    holds(json_like(&text), |bytes| {
        fs::write(&path, bytes).unwrap();
        if let Ok(tokenizer) = TextTokenizer::from_file(&path) {
            let _ = tokenizer.vocabulary_size();
            let _ = tokenizer.ordinary_tokens();
            for max in [0, 1, 3, 60] {
                let _ = tokenizer.encode(&examples, max);
            }
        }
    });
}

#[test]
fn rows_of_data() {
    let place = Place::new();
    let csv = "text,label\ngood film,1\n\"bad, \"\"very\"\" bad\",0\n\"two\nlines\",1\nnaïve,0\n";
    let jsonl = "{\"text\": \"good\", \"label\": 1}\n{\"text\": \"bad\\n\", \"label\": 0}\n{\"text\": \"\", \"label\": \"1\"}\n";
    for (name, valid) in [
        ("rows.csv", csv),
        ("rows.tsv", &csv.replace(',', "\t")),
        ("rows.jsonl", jsonl),
        ("rows.parquet", "PAR1\0\0\0\0PAR1"),
    ] {
        let path = place.path().join(name);
        holds(bytes_like(valid.repeat(8).into_bytes()), |bytes| {
            fs::write(&path, bytes).unwrap();
            let Ok(spec) = datasets::spec_from_path(&path, &datasets::FileOptions::default())
            else {
                return;
            };
            let files = BTreeMap::from([("train".to_owned(), path.clone())]);
            if let Ok(dataset) = datasets::read(&spec, &files) {
                assert!(dataset.labels.len() >= 2);
                let _ = dataset.digest();
                for example in dataset.split(Split::Train) {
                    assert!(
                        example
                            .label
                            .as_ref()
                            .and_then(|l| l.class())
                            .is_some_and(|l| (l as usize) < dataset.labels.len())
                    );
                }
            }
        });
    }
}

#[test]
fn the_yaml_of_a_data_set_or_a_backbone() {
    let place = Place::new();
    let path = place.path().join("own.yaml");
    let valid = include_str!("../datasets/sst2.yaml");
    holds(bytes_like(valid.into()), |bytes| {
        fs::write(&path, bytes).unwrap();
        let _ = datasets::spec_from_path(&path, &datasets::FileOptions::default());
    });
    let valid = include_str!("../backbone/configs/minilm.yaml");
    holds(bytes_like(valid.into()), |bytes| {
        let _: Result<peftbench::backbones::BackboneSpec, _> = serde_yaml::from_slice(&bytes);
    });
}

#[test]
fn overrides_of_methods_and_of_the_recipe() {
    let config = Config::read(&fixture("bert/config.json")).unwrap();
    let keys: Vec<(String, String)> = methods::registry::ALL
        .iter()
        .flat_map(|entry| {
            let resolved = methods::resolve(entry.name, &BTreeMap::new()).unwrap();
            let keys: Vec<_> = resolved.config.keys().cloned().collect();
            keys.into_iter().map(|key| (entry.name.to_owned(), key))
        })
        .collect();
    let text = || prop_oneof![odd_value().prop_map(|v| v.to_string()), ".{0,12}"];
    let overrides = (prop::sample::select(keys), text());
    holds(overrides, |((method, key), text)| {
        if let Ok(resolved) = methods::resolve(&method, &[(key, text)].into()) {
            let _ = resolved.check(&config);
            let _ = resolved.optimiser();
        }
    });
    let keys = vec![
        "batch",
        "max_tokens",
        "beta1",
        "beta2",
        "epsilon",
        "clip",
        "warmup",
        "head_learning_rate",
        "evaluations",
        "steps",
        "budgets",
        "other",
    ];
    holds((prop::sample::select(keys), text()), |(key, text)| {
        let overrides = [(key.to_owned(), text)].into();
        if let Ok(recipe) = Recipe::resolve("full", &overrides, 1000) {
            assert!((0.0..=1.0).contains(&recipe.schedule(1)), "{recipe:?}");
            assert!(recipe.epsilon >= 0.0, "{recipe:?}");
            if recipe.steps < 10_000 {
                assert_eq!(recipe.evaluation_steps().last(), Some(&recipe.steps));
            }
        }
    });
    holds(".{0,30}", |setting| {
        let _ = peftbench::plan::parse_settings(&[setting]);
    });
}

#[test]
fn folders_of_other_libraries() {
    let place = Place::new();
    let files = Files::new(true).unwrap();
    for (of, file) in [
        ("peft/lora", "adapter_config.json"),
        ("peft/lora_patterns", "adapter_config.json"),
        ("peft/prompt_tuning", "adapter_config.json"),
        ("adapterhub/houlsby", "adapter_config.json"),
        ("adapterhub/mam", "adapter_config.json"),
        ("adapterhub/pfeiffer_flexible_head", "head_config.json"),
    ] {
        let folder = copy(&place, &of.replace('/', "-"), of);
        let text = fs::read_to_string(folder.join(file)).unwrap();
        holds(json_like(&text), |bytes| {
            fs::write(folder.join(file), bytes).unwrap();
            let _ = formats::read(&folder, None);
            if let Ok(config) = weights::read_config(&folder)
                && let Ok(loaded) = task_backbone(&files, &config, fixture("bert").to_str())
            {
                let _ = weights::load(&folder, &loaded);
            }
        });
    }
}

/// A run of a tiny model: its record, and the folder of its weights.
fn run(place: &Place) -> (PathBuf, PathBuf) {
    let (data, backbone) = (place.reviews(), fixture("bert"));
    let weights = place.ok(&format!(
        "train {} --method lora --budget quick --backbone {} --text-column review \
            --label-column stars --set recipe.steps=4 --out out",
        data.display(),
        backbone.display()
    ));
    let weights = place.path().join(weights.trim());
    let records = place.path().join("out/records");
    let record = crate::support::record_files(&records).remove(0);
    (record, weights)
}

#[test]
fn a_record_and_saved_weights() {
    let place = Place::new();
    let (record, folder) = run(&place);
    let text = fs::read_to_string(&record).unwrap();
    holds(json_like(&text), |bytes| {
        fs::write(&record, bytes).unwrap();
        let Ok(read) = store::read_dir(record.parent().unwrap()) else {
            return;
        };
        for comparison in Comparison::from_records(&read.records) {
            let _ = tables::terminal(&comparison, 80, false);
            let _ = tables::markdown(&comparison);
            let _ = tables::json(&comparison);
        }
    });
    let files = Files::new(true).unwrap();
    let path = folder.join(weights::CONFIG);
    let text = fs::read_to_string(&path).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
    // With it nearly every other file is refused before it is looked into.
    json.as_object_mut().unwrap().remove("config_sha256");
    holds(json_like(&json.to_string()), |bytes| {
        fs::write(&path, bytes).unwrap();
        if let Ok(config) = weights::read_config(&folder)
            && let Ok(loaded) = task_backbone(&files, &config, fixture("bert").to_str())
        {
            let _ = weights::load(&folder, &loaded);
        }
    });
}
