//! Decoders and pre-norm encoders from the command line: tiny models of every family, and SmolLM2 from its package.

use std::{fs, path::PathBuf};

use backbone::{Backbone, Batch, Config, Linear, NoHooks, Phase};
use candle_core::{Device, Tensor};
use peftbench::{gguf_tokenizer, prepare::Files};
use serde_json::{Value, json};

use crate::support::{Place, rounding, skip, small_gguf, words};

/// Words of the tiny tokenizer; the families' fixtures have 40 rows of embeddings, and 3 stands for padding.
const WORDS: [&str; 20] = [
    "<unk>", "<s>", "</s>", "<pad>", "good", "fine", "great", "bad", "poor", "awful", "number",
    "is", "up", "down", "review", ":", "0", "1", "2", "3",
];

/// A folder with the tiny model of a family, and a tokenizer of whole words.
pub fn model(place: &Place, family: &str) -> PathBuf {
    let from = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/families")
        .join(family);
    let folder = place.path().join(family);
    fs::create_dir_all(&folder).unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs::copy(from.join(name), folder.join(name)).unwrap();
    }
    let vocabulary: serde_json::Map<_, _> = WORDS
        .iter()
        .enumerate()
        .map(|(i, word)| ((*word).to_owned(), json!(i)))
        .collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": { "type": "Whitespace" }, "post_processor": null, "decoder": null,
        "model": { "type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>" },
    });
    fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let class = json!({ "tokenizer_class": "PreTrainedTokenizerFast" });
    fs::write(folder.join("tokenizer_config.json"), class.to_string()).unwrap();
    folder
}

/// Settings for keys whose defaults do not fit 16 hidden units, and few steps.
pub const SMALL: [&str; 20] = [
    "--set",
    "recipe.steps=3",
    "--set",
    "recipe.evaluations=1",
    "--set",
    "recipe.batch=8",
    "--set",
    "compacter.phm_dim=2",
    "--set",
    "compacter.reduction_factor=4",
    "--set",
    "prompt_tuning.virtual_tokens=3",
    "--set",
    "prefix_tuning.virtual_tokens=3",
    "--set",
    "p_tuning.virtual_tokens=3",
    "--set",
    "mam.prefix_tuning.virtual_tokens=3",
    "--label-column",
    "stars",
];

pub fn records(place: &Place, out: &str) -> Vec<Value> {
    place.records(out)
}

/// The methods of these records; each ended well and passed its own checks.
pub fn methods_of(records: &[Value]) -> Vec<String> {
    let mut names = Vec::new();
    for record in records {
        assert_eq!(record["status"]["is"], "ok", "{record}");
        for check in record["outcome"]["checks"].as_array().unwrap() {
            assert_eq!(
                check["passed"], true,
                "{}: {check}",
                record["asked"]["method"]
            );
        }
        names.push(
            record["asked"]["method"]["name"]
                .as_str()
                .unwrap()
                .to_owned(),
        );
    }
    names.sort();
    names
}

#[test]
fn every_method_is_compared_over_every_family_or_left_out_with_its_reason() {
    let all: Vec<&str> = methods::registry::ALL.iter().map(|e| e.name).collect();
    for family in ["llama", "qwen2", "qwen3", "modernbert"] {
        let place = Place::new();
        let data = place.reviews();
        let folder = model(&place, family);
        let [data, folder] = [&data, &folder].map(|p| p.to_str().unwrap());
        let line = format!("compare {data} --backbone {folder} --text-column review");
        let mut arguments = words(&line);
        arguments.extend(words("--methods all --seeds 1 --out out"));
        // Settings are for methods that are compared.
        arguments.extend(SMALL.iter().filter(|s| !s.starts_with("bitfit")));
        let output = place.run(&arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{family}: {said}");
        let found = methods_of(&records(&place, "out"));
        let missing: Vec<_> = all
            .iter()
            .filter(|m| !found.contains(&(**m).to_owned()))
            .collect();
        // (Qwen2 has biases at query, key and value.)
        let biases = family == "qwen2";
        let without = &[&"bitfit", &"linear_probe", &"zero_shot"][usize::from(biases)..];
        assert_eq!(missing, without, "{family}");
        for (name, why) in [
            ("bitfit", "has no biases"),
            ("linear_probe", "logistic regression"),
            ("zero_shot", "language model's own words"),
        ] {
            let line = said
                .lines()
                .find(|line| line.contains(&format!("{name} is left out")));
            assert_eq!(line.is_some(), missing.contains(&&name), "{family}: {said}");
            assert!(line.is_none_or(|line| line.contains(why)), "{line:?}");
        }
        assert!(biases || said.contains("layer_norm"), "{said}");
        assert!(!said.contains("conditions were not the same"), "{said}");
        let lora = records(&place, "out")
            .into_iter()
            .find(|r| r["asked"]["method"]["name"] == "lora")
            .unwrap();
        let (targets, pooling) = match family {
            "modernbert" => (json!(["query_key_value"]), "cls + dense norm"),
            _ => (json!(["query", "value"]), "last + score"),
        };
        assert_eq!(lora["asked"]["method"]["config"]["target_modules"], targets);
        assert_eq!(lora["asked"]["backbone"]["pooling"], pooling);
    }
}

#[test]
fn what_is_named_and_cannot_be_used_is_refused() {
    let place = Place::new();
    let data = place.reviews();
    let folder = model(&place, "llama");
    let [data, folder] = [&data, &folder].map(|p| p.to_str().unwrap());
    let refused = |more: &[&str], says: &[&str]| {
        let line = format!(
            "compare {data} --text-column review --label-column stars --backbone {folder} --seeds 1"
        );
        let mut arguments = words(&line);
        arguments.extend(more);
        place.refused(&arguments, says);
    };
    refused(&["--methods", "bitfit"], &["no biases", "layer_norm"]);
    refused(
        &["--methods", "zero_shot"],
        &["head_only", "backbone.head=words"],
    );
    refused(
        &["--methods", "lora", "--set", "lora.target_modules=[Wqkv]"],
        &["'Wqkv' is not a linear layer of a llama", "gate"],
    );
    refused(
        &["--methods", "lora", "--set", "backbone.head=words"],
        &["has no words", "--template", "backbone.head=score"],
    );
    place.refused(
        &["compare", data, "--backbone", "gemma3-270m"],
        &[
            "'gemma3-270m'",
            "norms behind its sublayers",
            "Gemma Terms of Use",
            "smollm2-135m",
        ],
    );
    let words = ["--methods", "lora", "--template"];
    let with = |template: &str, list: &str, says: &[&str]| {
        let more = [&words[..], &[template, "--words", list]].concat();
        refused(&more, says);
    };
    let both = [
        "{text} :",
        "--words",
        "up,down",
        "--set",
        "backbone.head=score",
    ];
    refused(
        &[&words[..], &both].concat(),
        &["--words", "backbone.head=score", "leave one"],
    );
    let own = ["--template={text} :", "--words=up,down"];
    refused(
        &[&["--methods", "full"][..], &own].concat(),
        &["lm_head", "not tied", "backbone.head=score"],
    );
    with("review :", "up,down", &["has no {text}"]);
    with("{text} {pair}", "up,down", &["no pairs"]);
    with("opinion : {text}", "up,down", &["'opinion'", "unknown"]);
    with("{text} :", "up,glum", &["'glum'", "unknown"]);
    with("{text}", "up", &["1 words for 2 classes"]);
    with(
        "{text} is",
        "up,up down",
        &["begin with the same token", "'up'"],
    );
    with(
        &format!("{} {{text}}", "review ".repeat(70)),
        "up,down",
        &["template", "70 tokens", "no room for a text"],
    );
    refused(
        &["--methods", "lora", "--template", "{text}"],
        &["words: missing"],
    );
    refused(
        &["--methods", "lora", "--set", "backbone.pooling=cls"],
        &["first token of a decoder sees no other"],
    );
    refused(
        &[
            "--methods",
            "prompt_tuning",
            "--set",
            "prompt_tuning.virtual_tokens=62",
        ],
        &["1 … 61"],
    );
}

#[test]
fn words_for_anything_but_one_class_of_several_are_refused_once_and_before_any_run() {
    let place = Place::new();
    let folder = model(&place, "llama");
    let row = |i: usize| {
        let label = ["up", "down"][i % 2];
        json!({ "text": format!("review {i}"), "label": [label] }).to_string() + "\n"
    };
    let data = place.file("many.jsonl", (0..60).map(row).collect::<String>());
    let mut arguments = vec![
        "compare",
        data.to_str().unwrap(),
        "--objective",
        "multi_label",
    ];
    arguments.extend(["--backbone", folder.to_str().unwrap(), "--out", "out"]);
    arguments.extend(["--methods", "lora,head_only", "--seeds", "2"]);
    arguments.extend(["--template", "{text}", "--words", "up,down"]);
    let output = place.run(&arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert_eq!(
        said.matches("a word stands for one class of several")
            .count(),
        1,
        "{said}"
    );
    assert!(
        said.contains("multi_label") && said.contains("backbone.head=score"),
        "{said}"
    );
    assert!(records(&place, "out").is_empty());
}

#[test]
fn every_data_set_of_classes_says_how_a_language_model_is_asked_but_for_those_of_many_topics() {
    let without = |name: &&str| {
        let spec = datasets::spec(name).unwrap();
        spec.objective.is_classification() && spec.words().is_none()
    };
    let without: Vec<&str> = datasets::names().filter(without).collect();
    assert_eq!(without, ["tnews", "newsgroups20", "reuters8"]);
}

#[test]
fn words_can_be_asked_for_in_the_tokenizers_chat() {
    let place = Place::new();
    let data = place.reviews();
    let folder = model(&place, "llama_scaled");
    let (data, path) = (data.to_str().unwrap(), folder.to_str().unwrap());
    let arguments = [
        "train",
        data,
        "--text-column=review",
        "--label-column=stars",
        "--backbone",
        path,
        "--method=zero_shot",
        "--template={text} is",
        "--words= down, up",
        "--out=out",
        "--set=backbone.chat=true",
    ];
    place.refused(&arguments, &["no chat template", "backbone.chat"]);
    let config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "chat_template": "{% for m in messages %}review : {{ m['content'] }} {% endfor %}{{ 'review :' if add_generation_prompt }}",
    });
    fs::write(folder.join("tokenizer_config.json"), config.to_string()).unwrap();
    place.ok(&arguments);
    let all = records(&place, "out");
    assert_eq!(methods_of(&all), ["zero_shot"]);
    let pooling = all[0]["asked"]["backbone"]["pooling"].as_str().unwrap();
    assert!(
        pooling.contains("review : {text} is review :") && pooling.contains(r#"["down", "up"]"#),
        "{pooling}"
    );
    let both = [&arguments[..], &["--set=backbone.head=score"]].concat();
    let both: Vec<&str> = both
        .into_iter()
        .filter(|a| !a.starts_with("--words") && !a.starts_with("--template"))
        .collect();
    place.refused(&both, &["backbone: chat", "backbone.head=score"]);
}

#[test]
fn classes_can_be_words_of_the_model_and_saved_weights_keep_them() {
    let place = Place::new();
    let data = place.reviews();
    let folder = model(&place, "llama_scaled");
    let [data, folder] = [&data, &folder].map(|p| p.to_str().unwrap());
    let mut arguments = vec![
        "compare",
        data,
        "--text-column",
        "review",
        "--backbone",
        folder,
        "--seeds",
        "1",
        "--out",
        "out",
        "--methods",
        "prompt_tuning,lora,full,head_only,majority",
        "--template",
        "review : {text} is",
        "--words",
        "down,up",
    ];
    let wanted = ["recipe", "prompt", "--label-column", "stars"];
    for pair in SMALL.chunks(2) {
        if wanted
            .iter()
            .any(|w| pair[1].starts_with(w) || pair[0] == *w)
        {
            arguments.extend(pair);
        }
    }
    place.ok(&arguments);
    let all = records(&place, "out");
    assert_eq!(
        methods_of(&all),
        ["full", "lora", "majority", "prompt_tuning", "zero_shot"]
    );
    let of = |name: &str| {
        all.iter()
            .find(|r| r["asked"]["method"]["name"] == name)
            .unwrap()
    };
    for name in ["lora", "full", "prompt_tuning", "zero_shot"] {
        assert_eq!(of(name)["outcome"]["parameters"]["head"], 0, "{name}");
        let pooling = of(name)["asked"]["backbone"]["pooling"].as_str().unwrap();
        assert!(
            pooling.contains("review : {text} is") && pooling.contains("down"),
            "{pooling}"
        );
    }
    assert_eq!(of("zero_shot")["outcome"]["parameters"]["method"], 0);
    // The defaults are those of a language model that answers with its own words, and defaults are no variant.
    for (name, key, value) in [
        ("lora", "learning_rate", json!(1e-3)),
        ("prompt_tuning", "learning_rate", json!(3e-2)),
        ("prompt_tuning", "init", json!("random")),
    ] {
        assert_eq!(of(name)["asked"]["method"]["config"][key], value, "{name}");
    }
    assert_eq!(of("lora")["asked"]["method"]["variant"], "");

    // What is saved asks in the same way, by hand and from another library's folder.
    let weights = place
        .path()
        .join("out/weights")
        .join(of("lora")["id"].as_str().unwrap());
    let rows = place.file(
        "rows.txt",
        "good fine great number 1\nbad poor awful number 2\n",
    );
    let predict = |weights: &std::path::Path| {
        let text = place.ok(&format!(
            "predict --input {} --weights {} --backbone {folder}",
            rows.display(),
            weights.display()
        ));
        text.lines()
            .flat_map(|line| {
                let answer: Value = serde_json::from_str(line).unwrap();
                serde_json::from_value::<Vec<f64>>(answer["logits"].clone()).unwrap()
            })
            .collect::<Vec<_>>()
    };
    let logits = predict(&weights);
    let config = Config::read(&PathBuf::from(folder).join("config.json")).unwrap();
    assert!(config.description.tied);
    let exported = place.path().join("peft");
    let [from, to] = [&weights, &exported].map(|p| p.to_str().unwrap());
    place.ok(&format!(
        "export --weights {from} --format peft --out {to} --backbone {folder}"
    ));
    let adapter: Value =
        serde_json::from_slice(&fs::read(exported.join("adapter_config.json")).unwrap()).unwrap();
    assert_eq!(adapter["task_type"], "CAUSAL_LM");
    let again = predict(&exported);
    assert_eq!(again.len(), 4);
    let mut apart = again.iter().zip(&logits).map(|(a, b)| (a - b).abs());
    assert!(apart.all(|d| d <= rounding()), "{again:?}, {logits:?}");
    let evaluated = place.ok(&format!(
        "evaluate --dataset {data} --weights {from} --text-column review --label-column stars \
            --backbone {folder}"
    ));
    assert!(evaluated.contains("accuracy"), "{evaluated}");
}

/// The largest difference of logits between two answers to the same rows.
fn apart(a: &str, b: &str) -> f64 {
    let logits = |text: &str| -> Vec<f64> {
        let row = |line| serde_json::from_str::<Value>(line).unwrap()["logits"].clone();
        let rows = text.lines().map(row);
        rows.flat_map(|row| serde_json::from_value::<Vec<f64>>(row).unwrap())
            .collect()
    };
    let (a, b) = (logits(a), logits(b));
    assert_eq!(a.len(), b.len());
    let differences = a.iter().zip(&b).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, f64::max)
}

#[test]
fn a_decoders_weights_go_to_peft_and_back() {
    for (family, methods) in [
        (
            "llama",
            "lora,dora,ia3,prompt_tuning,prefix_tuning,layer_norm",
        ),
        ("qwen2", "lora,prefix_tuning"),
        ("modernbert", "lora,dora,ia3,prompt_tuning,layer_norm"),
    ] {
        let place = Place::new();
        let data = place.reviews();
        let folder = model(&place, family);
        let [data, folder] = [&data, &folder].map(|p| p.to_str().unwrap());
        let line = format!(
            "compare {data} --text-column review --label-column stars --backbone {folder} \
            --seeds 1 --out out --methods {methods} --set recipe.steps=3 \
            --set recipe.evaluations=1"
        );
        let mut arguments = words(&line);
        if methods.contains("prompt_tuning") {
            arguments.extend(["--set", "prompt_tuning.pooling=first"]);
        }
        place.ok(&arguments);
        let all = records(&place, "out");
        methods_of(&all);
        let rows = place.file(
            "rows.txt",
            "good fine great number 1\nbad poor awful number 2\n",
        );
        for record in &all {
            let name = record["asked"]["method"]["name"].as_str().unwrap();
            let weights = place
                .path()
                .join("out/weights")
                .join(record["id"].as_str().unwrap());
            let exported = place.path().join(format!("peft-{name}"));
            let [from, to] = [&weights, &exported].map(|p| p.to_str().unwrap());
            place.ok(&format!(
                "export --weights {from} --format peft --out {to} --backbone {folder}"
            ));
            let predict = |weights: &str| {
                place.ok(&format!(
                    "predict --input {} --weights {weights} --backbone {folder}",
                    rows.display()
                ))
            };
            let (there, here) = (predict(to), predict(from));
            // Products of the reference path, candle's own, may add up in another order from process to process.
            if std::env::var_os("PEFTBENCH_REFERENCE").is_some() {
                assert!(
                    apart(&there, &here) <= 1e-6,
                    "{family}: {name}: {there}{here}"
                );
            } else {
                assert_eq!(there, here, "{family}: {name}");
            }
        }
    }
}

#[test]
fn texts_of_a_llama_3_begin_with_bos_unless_its_file_says_otherwise() {
    use candle_core::quantized::gguf_file::Value;
    let place = Place::new();
    let bos = ("tokenizer.ggml.bos_token_id", Value::U32(3));
    let says = |begins| ("tokenizer.ggml.add_bos_token", Value::Bool(begins));
    for (pre, more, begins) in [
        ("llama-bpe", vec![bos.clone()], true),
        ("llama-bpe", vec![bos.clone(), says(false)], false),
        ("smollm", vec![bos.clone()], false),
        ("smollm", vec![bos.clone(), says(true)], true),
    ] {
        let path = place.file("model.gguf", small_gguf(pre, &more));
        let tokenizer = gguf_tokenizer::read(&path).unwrap();
        let example = datasets::Example {
            text: "ab".into(),
            pair: None,
            label: None,
        };
        let ids = tokenizer.encode(&[example], 9).unwrap().ids;
        let expected: &[u32] = if begins { &[3, 2] } else { &[2] };
        assert_eq!(ids, expected, "{pre}: {more:?}");
    }
}

/// SmolLM2 with what transformers says of it: `tests/fixtures/gguf_case.py`.
fn smollm2() -> Option<(PathBuf, Value)> {
    let files = Files::new(false).unwrap();
    let found = match files.backbone("smollm2-135m", &Default::default()) {
        Ok(found) => found,
        Err(e) => {
            skip("real", format!("smollm2-135m: {e:#}"));
            return None;
        }
    };
    let expected = include_str!("fixtures/smollm2.json");
    Some((found.weights, serde_json::from_str(expected).unwrap()))
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

#[test]
fn smollm2_reads_texts_as_transformers_does_and_not_by_the_other_layout() {
    if kernels::reference_path() {
        skip("reference", "the reference path takes minutes for it");
        return;
    }
    let Some((path, expected)) = smollm2() else {
        return;
    };
    let tokenizer = gguf_tokenizer::read(&path).unwrap();
    let text_ids = ids(&expected["ids"]);
    assert_eq!(
        tokenizer
            .encode_text(expected["text"].as_str().unwrap())
            .unwrap(),
        text_ids
    );
    for case in expected["tokens"].as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        assert_eq!(
            tokenizer.encode_text(text).unwrap(),
            ids(&case["ids"]),
            "{text:?}"
        );
    }

    let backbone = Backbone::load(Config::read(&path).unwrap(), &path).unwrap();
    let batch =
        |ids: &[u32]| Batch::new(ids.to_vec(), vec![0; ids.len()], vec![0, ids.len()]).unwrap();
    let states = backbone
        .hidden_states(&batch(&text_ids), &NoHooks, Phase::Eval)
        .unwrap();
    let rows = states
        .last()
        .unwrap()
        .narrow(0, 0, text_ids.len() - 1)
        .unwrap();
    let table = backbone.word_embeddings();
    let loss = kernels::vocabulary_cross_entropy(&rows, table, &text_ids[1..]).unwrap();
    let perplexity = f64::from(loss.to_scalar::<f32>().unwrap()).exp();
    let wanted = expected["perplexity"].as_f64().unwrap();
    // Rounding of f32 over 30 layers; the wrong layout has three times as much.
    assert!(
        (perplexity / wanted - 1.0).abs() < 1e-3,
        "{perplexity} for {wanted}"
    );
    assert!(
        expected["perplexity_with_the_wrong_layout"]
            .as_f64()
            .unwrap()
            > 2.0 * wanted
    );

    let words = ids(&expected["word_ids"]);
    let rows = kernels::select_rows(table, &words).unwrap();
    let asked = datasets::Words {
        template: expected["template"].as_str().unwrap().to_owned(),
        words: serde_json::from_value(expected["words"].clone()).unwrap(),
    };
    assert_eq!(asked.ids(&tokenizer).unwrap(), words);
    // And of every data set that has words, each can be told from the others.
    let mut with_words = 0;
    for name in datasets::names() {
        if let Some(own) = datasets::spec(name).unwrap().words() {
            let ids = own.ids(&tokenizer);
            assert!(ids.is_ok(), "{name}: {ids:?}");
            with_words += 1;
        }
    }
    assert!(with_words >= 18, "{with_words}");
    for review in expected["reviews"].as_array().unwrap() {
        let own = ids(&review["ids"]);
        let example = datasets::Example {
            text: review["text"].as_str().unwrap().to_owned(),
            pair: None,
            label: None,
        };
        let encoded = tokenizer
            .with_words(&asked)
            .encode(&[example], 128)
            .unwrap();
        assert_eq!(encoded.ids, own);
        let pooled = backbone
            .pooled(&batch(&own), &NoHooks, Phase::Eval)
            .unwrap();
        let logits: Vec<f32> = pooled
            .matmul(&rows.t().unwrap())
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1()
            .unwrap();
        for (found, wanted) in logits.iter().zip(review["logits"].as_array().unwrap()) {
            let wanted = wanted.as_f64().unwrap() as f32;
            assert!((found - wanted).abs() < 2e-3, "{review}: {logits:?}");
        }
    }
}

#[test]
fn smollm2_in_the_blocks_of_its_file_has_the_bits_of_f32_in_a_fifth_of_the_memory() {
    if kernels::reference_path() {
        skip("reference", "the reference path takes minutes for it");
        return;
    }
    let Some((path, expected)) = smollm2() else {
        return;
    };
    let load = |precision| {
        let config = Config::read(&path).unwrap();
        Backbone::load_in(config, &path, precision, None).unwrap()
    };
    let text = ids(&expected["reviews"][0]["ids"]);
    let batch =
        |ids: &[u32]| Batch::new(ids.to_vec(), vec![0; ids.len()], vec![0, ids.len()]).unwrap();
    let read = |backbone: &Backbone| {
        let pooled = backbone.pooled(&batch(&text), &NoHooks, Phase::Eval);
        pooled
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1::<f32>()
            .unwrap()
    };
    let (whole, digest) = load(kernels::Precision::F32);
    let expected = read(&whole);
    let bytes = whole.bytes();
    // What texts begin with is read once for all.
    let prefix = whole.prefix(&text[..3], &NoHooks).unwrap();
    let rest = batch(&text).behind(3).unwrap();
    let behind = whole.pooled_behind(&prefix, &rest, &NoHooks).unwrap();
    let behind = behind.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let largest = expected.iter().fold(0f32, |most, x| most.max(x.abs()));
    for (a, b) in behind.iter().zip(&expected) {
        assert!((a - b).abs() <= 1e-5 * largest, "{a} {b}");
    }
    drop(whole);
    let (blocks, same) = load(kernels::Precision::Q4);
    assert_eq!(same, digest);
    assert_eq!(read(&blocks), expected);
    // And so do the logits of all words.
    let row = Tensor::from_vec(expected, (1, blocks.config().hidden), &Device::Cpu).unwrap();
    let table = blocks.word_embeddings().clone();
    let logits = |layer: Linear| layer.forward(&row).unwrap().to_vec2::<f32>().unwrap();
    assert!(
        logits(
            backbone::output_blocks(&path, blocks.config())
                .unwrap()
                .unwrap()
        ) == logits(Linear::new(table, None).unwrap())
    );
    // 193 of 963 MB; of those 113 are the embeddings, which stay f32.
    let held = blocks.bytes() as f64 / bytes as f64;
    assert!((held - 0.2).abs() < 0.002, "{held}");
}
