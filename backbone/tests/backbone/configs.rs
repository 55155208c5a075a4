//! Configurations as transformers reads them: every case of `tests/fixtures/config_cases.py`.

use std::{fs, path::PathBuf};

use backbone::{Architecture, Backbone, Batch, Config, NoHooks, Phase};
use peftbench_backbone as backbone;
use serde_json::{Value, json};

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/configs")
}

fn read(config: &Value) -> backbone::Result<Config> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    fs::write(&path, config.to_string()).unwrap();
    Config::read(&path)
}

/// The last hidden states of a text, row by row.
fn hidden(config: Config, family: &str, ids: &[u32]) -> backbone::Result<Vec<f32>> {
    let backbone = Backbone::load(config, &fixtures().join(format!("{family}.safetensors")))?;
    let batch = Batch::new(ids.to_vec(), vec![0; ids.len()], vec![0, ids.len()])?;
    let states = backbone.hidden_states(&batch, &NoHooks, Phase::Eval)?;
    Ok(states.last().unwrap().flatten_all()?.to_vec1()?)
}

/// Values that change numbers and are refused by the name of their key, though the library computes with them.
fn may_be_refused(key: &str, value: &Value) -> bool {
    match key {
        "hidden_act" | "activation" | "hidden_activation" => {
            let names = [
                "gelu_10",
                "laplace",
                "leaky_relu",
                "linear",
                "mish",
                "quick_gelu",
                "relu2",
                "relu6",
                "sigmoid",
            ];
            names.contains(&value.as_str().unwrap())
        }
        "position_embedding_type" => value.as_str().unwrap().starts_with("relative"),
        "is_decoder" => value == true,
        "rope_scaling" => {
            // The last is ModernBERT's case.
            let kinds = [json!("dynamic"), json!("yarn")];
            kinds.contains(&value["rope_type"])
                || *value == json!({"rope_type": "linear", "factor": 2.0})
        }
        // Of the library's own classifier, and of newer versions of the library.
        "classifier_bias" | "classifier_activation" | "layer_types" => true,
        "local_attention" => value == 0,
        "problem_type" => value == "regression" || value == "multi_label_classification",
        _ => false,
    }
}

#[test]
fn hidden_states_equal_those_of_transformers_key_by_key() {
    let cases: Value =
        serde_json::from_str(&fs::read_to_string(fixtures().join("cases.json")).unwrap()).unwrap();
    let ids: Vec<u32> = serde_json::from_value(cases["ids"].clone()).unwrap();
    let (mut equal, mut refused, mut largest) = (0, 0, 0f32);
    let mut wrong = Vec::new();
    for case in cases["cases"].as_array().unwrap() {
        let family = case["family"].as_str().unwrap();
        let change = case["change"].as_object().unwrap();
        let ours = read(&case["config"]).and_then(|config| hidden(config, family, &ids));
        match (ours, case.get("answer")) {
            (Ok(ours), Some(answer)) => {
                let answer = &cases["answers"][answer.as_u64().unwrap() as usize];
                let theirs: Vec<f32> = serde_json::from_value(answer.clone()).unwrap();
                let scale = theirs.iter().fold(0f32, |m, v| m.max(v.abs()));
                let gap = ours
                    .iter()
                    .zip(&theirs)
                    .fold(0f32, |m, (a, b)| m.max((a - b).abs()))
                    / scale;
                if gap > 1e-5 || ours.len() != theirs.len() {
                    wrong.push(format!("{family} {change:?}: differs by {gap}"));
                }
                largest = largest.max(gap);
                equal += 1;
            }
            (Err(e), None) => {
                refused += 1;
                assert!(!e.to_string().is_empty());
            }
            (Err(e), Some(_)) => {
                let (key, value) = change.iter().next().unwrap();
                let message = e.to_string();
                if !(may_be_refused(key, value) && message.contains(key.as_str())) {
                    wrong.push(format!("{family} {change:?}: {message}"));
                }
                refused += 1;
            }
            // What the library stumbles over though it changes no number.
            (Ok(_), None) if change.contains_key("initializer_range") => {}
            (Ok(_), None) if change.get("is_decoder") == Some(&Value::Null) => {}
            (Ok(_), None) if family == "modernbert" && change.contains_key("pad_token_id") => {}
            (Ok(_), None) => wrong.push(format!("{family} {change:?}: the library refuses it")),
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(
        equal > 400 && refused > 80,
        "{equal} equal, {refused} refused"
    );
    println!("{equal} configurations equal, largest difference {largest:e}; {refused} refused");
}

#[test]
fn rotary_positions_as_newer_versions_of_the_library_write_them_are_those_of_the_old_keys() {
    let with = |family: &str, more: Value| {
        let mut config = json!({"model_type": family});
        for (key, value) in more.as_object().unwrap() {
            config[key] = value.clone();
        }
        read(&config)
    };
    let llama3 = json!({
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8
    });
    for family in ["llama", "qwen2", "qwen3"] {
        for scaling in [
            json!({"rope_type": "default"}),
            json!({"rope_type": "linear", "factor": 2}),
            llama3.clone(),
        ] {
            let mut parameters = scaling.clone();
            parameters["rope_theta"] = json!(500_000);
            let new = with(family, json!({"rope_parameters": parameters})).unwrap();
            let old = json!({"rope_theta": 500_000.0, "rope_scaling": scaling});
            assert_eq!(new, with(family, old.clone()).unwrap());
            let mut both = old;
            both["rope_parameters"] = parameters;
            assert_eq!(new, with(family, both).unwrap());
        }
        for (more, says) in [
            (
                json!({"rope_theta": 1e4, "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}),
                "rope_parameters.rope_theta",
            ),
            (
                json!({"rope_parameters": {"rope_type": "yarn", "rope_theta": 5e5, "factor": 2.0}}),
                "rope_parameters",
            ),
            (
                json!({"rope_parameters": {"rope_theta": "many", "rope_type": "default"}}),
                "rope_theta",
            ),
            (
                json!({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}),
                "rope_parameters",
            ),
            // A kind of attention with its own is another model's form.
            (
                json!({"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 5e5}}}),
                "rope_parameters",
            ),
            // The two keys say different things.
            (
                json!({"rope_scaling": {"rope_type": "default"}, "rope_parameters": {"rope_type": "linear", "factor": 2}}),
                "rope_parameters",
            ),
            (json!({"rope_theta": 0.0}), "rope_theta"),
        ] {
            let message = with(family, more).unwrap_err().to_string();
            assert!(message.contains(says), "{message}");
        }
    }
    let of = |theta: f64| json!({"rope_type": "default", "rope_theta": theta});
    let modern = |global: f64, local: f64| json!({"rope_parameters": {"full_attention": of(global), "sliding_attention": of(local)}});
    assert_eq!(
        with("modernbert", modern(160_000.0, 10_000.0)).unwrap(),
        with("modernbert", json!({})).unwrap()
    );
    let mut partial = modern(160_000.0, 10_000.0);
    partial["rope_parameters"]["full_attention"]["partial_rotary_factor"] = json!(0.5);
    // (The last is the form of other families.)
    for other in [
        modern(160_000.0, 500.0),
        partial,
        json!({"rope_parameters": of(160_000.0)}),
    ] {
        let message = with("modernbert", other).unwrap_err().to_string();
        assert!(message.contains("rope_parameters"), "{message}");
    }
}

#[test]
fn a_configuration_without_model_type_is_what_its_architectures_say() {
    let of = |config: Value| read(&config).map(|c| c.architecture);
    for (class, architecture) in [
        ("BertForMaskedLM", Architecture::Bert),
        ("RobertaForSequenceClassification", Architecture::Roberta),
        ("XLMRobertaModel", Architecture::Roberta),
        ("DistilBertModel", Architecture::DistilBert),
    ] {
        assert_eq!(of(json!({"architectures": [class]})).unwrap(), architecture);
        assert_eq!(
            of(json!({"architectures": [class], "model_type": null})).unwrap(),
            architecture
        );
    }
    for config in [
        json!({}),
        json!({"architectures": ["BertGenerationEncoder"]}),
        json!({"architectures": []}),
        json!({"model_type": "", "hidden_size": 32}),
    ] {
        let message = of(config).unwrap_err().to_string();
        assert!(
            message.contains("config.json") && message.contains("model_type"),
            "{message}"
        );
        assert!(message.contains("roberta"), "{message}");
    }
}

#[test]
fn all_keys_that_cannot_be_followed_are_named_together() {
    let message = read(&json!({
        "model_type": "bert", "is_decoder": true, "hidden_act": "mish", "problem_type": "regression",
        "vocab_size": "30522", "layer_norm_eps": null, "position_embedding_type": "relative_key"
    }))
    .unwrap_err()
    .to_string();
    for key in [
        "is_decoder",
        "hidden_act",
        "\"mish\"",
        "problem_type",
        "vocab_size",
        "layer_norm_eps",
        "position_embedding_type",
        "relative_key",
    ] {
        assert!(message.contains(key), "{key}: {message}");
    }
}

#[test]
fn keys_by_which_the_library_reads_other_files_are_refused_by_name() {
    let with = |key: &str, value: Value| read(&json!({"model_type": "bert", key: value}));
    for (key, value) in [
        ("transformers_weights", json!("other.safetensors")),
        (
            "configuration_files",
            json!(["config.4.0.0.json", "config.json"]),
        ),
    ] {
        let message = with(key, value).unwrap_err().to_string();
        assert!(message.contains(key), "{message}");
        with(key, Value::Null).unwrap();
    }
    with("transformers_weights", json!("model.safetensors")).unwrap();
    with("configuration_files", json!(["config.json"])).unwrap();
}

#[test]
fn sizes_are_compared_with_the_file_before_anything_is_allocated() {
    let base = json!({
        "model_type": "bert", "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12,
        "vocab_size": 20, "max_position_embeddings": 16
    });
    for key in [
        "hidden_size",
        "num_hidden_layers",
        "intermediate_size",
        "vocab_size",
        "max_position_embeddings",
        "type_vocab_size",
    ] {
        for size in [
            json!(4_000_000_000u32),
            json!(1_000_000_000_000u64),
            json!(0),
        ] {
            let mut config = base.clone();
            config[key] = size;
            let message = read(&config)
                .and_then(|c| hidden(c, "bert", &[3]))
                .unwrap_err()
                .to_string();
            assert!(message.len() < 400, "{message}");
        }
    }
}

#[test]
fn a_token_type_without_a_row_in_the_table_is_refused_as_in_the_library() {
    let folder = fixtures().with_file_name("roberta");
    let config = Config::read(&folder.join("config.json")).unwrap();
    assert_eq!(config.token_types, 1);
    let backbone = Backbone::load(config, &folder.join("model.safetensors")).unwrap();
    let read = |types: Vec<u32>| {
        let batch = Batch::new(vec![0, 5, 2, 2, 6, 2], types, vec![0, 6]).unwrap();
        backbone.hidden_states(&batch, &NoHooks, Phase::Eval)
    };
    read(vec![0; 6]).unwrap();
    let message = read(vec![0, 0, 0, 1, 1, 1]).unwrap_err().to_string();
    for part in ["token type 1", "type_vocab_size is 1"] {
        assert!(message.contains(part), "{message}");
    }
}
