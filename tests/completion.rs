//! Completions: loss, gradients, ten steps and greedy decoding against transformers and peft
//! (`tests/fixtures/generate_completion.py`), and the objective through every command.

use std::{collections::HashMap, fs, path::PathBuf};

use backbone::{Backbone, Config, Phase, TensorFile};
use candle_core::{Device, Tensor, Var};
use datasets::{Encoded, Objective, TextTokenizer, Word};
use methods::{Context, PeftMethod};
use peftbench::{
    generate, objective,
    train::{
        head::Head,
        model::{Model, batch_of},
        optimiser::Optimiser,
        recipe::Recipe,
    },
};
use serde_json::Value;

use crate::{
    decoders::{SMALL, methods_of, model, records},
    objectives::answered_in_one_call_as_alone,
    support::{NoWords, Place, close, record_files, tiny_backbone, words},
};

const FORWARD: f32 = 1e-5;
const GRADIENT: f32 = 1e-4;
const TEN_STEPS: f32 = 1e-4;

/// The methods of the fixtures: one in the weights, one with rows of its own, one with keys and values of its own.
const METHODS: [&str; 3] = ["lora", "prompt_tuning", "prefix_tuning"];

/// A fixture: prompts with their completions, and a method at its start over the tied tiny Llama.
struct Fixture {
    name: &'static str,
    tensors: HashMap<String, Tensor>,
    meta: Value,
    examples: Encoded,
    backbone: Backbone,
    method: Box<dyn PeftMethod>,
    head: Head,
    objective: Box<dyn objective::Objective>,
}

impl Fixture {
    fn load(name: &'static str) -> Self {
        let fixtures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let path = fixtures.join(format!("objectives/completion.{name}.safetensors"));
        let meta = TensorFile::open(&path).unwrap().metadata().unwrap()["meta"].clone();
        let meta: Value = serde_json::from_str(&meta).unwrap();
        let tensors = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
        let numbers = |name: &str| tensors[name].to_vec1::<u32>().unwrap();
        let offsets: Vec<usize> = numbers("input.offsets")
            .into_iter()
            .map(|o| o as usize)
            .collect();
        let prompts = numbers("input.prompts");
        let words = offsets.windows(2).zip(&prompts).map(|(span, prompt)| {
            let length = (span[1] - span[0]) as u32;
            let words = (0..).zip(*prompt..length);
            words
                .map(|(word, token)| Word {
                    word,
                    token: token - 1,
                })
                .collect()
        });
        let ids = numbers("input.ids");
        let examples = Encoded {
            types: vec![0; ids.len()],
            words: words.collect(),
            ids,
            offsets,
            labels: Vec::new(),
            truncated: 0,
        };
        let folder = fixtures.join("families/llama_scaled");
        let config = Config::read(&folder.join("config.json")).unwrap();
        let backbone = Backbone::load(config, &folder.join("model.safetensors")).unwrap();
        let keys = meta["config"].as_object().unwrap().clone();
        let method = methods::resolve_values(meta["method"].as_str().unwrap(), keys).unwrap();
        let method = method.build(&mut Context {
            backbone: &backbone,
            rng: &mut datasets::stream(0, "overwritten"),
            words: &NoWords,
        });
        let whole = |key: &str| meta[key].as_u64().unwrap();
        let (end, most) = (whole("end") as u32, whole("most") as usize);
        let head = Head::of_vocabulary(backbone.word_embeddings().clone(), None, end, most);
        let tokenizer = TextTokenizer::from_file(&tiny_backbone().join("tokenizer.json"));
        let objective = objective::of(Objective::Completion, &[], None, &tokenizer.unwrap());
        let fixture = Self {
            name,
            examples,
            method: method.unwrap(),
            head: head.unwrap(),
            objective,
            tensors,
            meta,
            backbone,
        };
        for (name, var) in fixture.vars() {
            let start = &fixture.tensors[&format!("init.{name}")];
            var.set(&start.reshape(var.dims()).unwrap()).unwrap();
        }
        fixture
    }

    /// Every variable, with the name that it has in the file.
    fn vars(&self) -> Vec<(String, Var)> {
        let vars = self.method.vars().into_iter();
        vars.map(|(name, var)| match name.as_str() {
            "prompt" | "prefix" => ("virtual".to_owned(), var),
            _ => (name, var),
        })
        .collect()
    }

    fn model(&self) -> Model<'_> {
        Model::new(&self.backbone, &*self.method, &self.head)
    }

    fn loss(&self, indices: &[u32]) -> Tensor {
        let batch = batch_of(&self.examples, indices).unwrap();
        let vectors = self.model().pooled(&batch, Phase::Eval).unwrap();
        let loss = self
            .objective
            .loss(&self.head, &vectors, &self.examples, indices);
        loss.unwrap()
    }

    fn close(&self, name: &str, got: &Tensor, tolerance: f32) {
        let what = format!("{}: {name}", self.name);
        close(&what, got, &self.tensors[name], tolerance);
    }
}

#[test]
fn the_loss_of_completions_its_gradients_and_ten_steps_are_those_of_transformers() {
    for name in METHODS {
        let fixture = Fixture::load(name);
        let everything: Vec<u32> = (0..5).collect();
        let loss = fixture.loss(&everything);
        fixture.close("loss", &loss, FORWARD);
        // An evaluation computes it text by text.
        let outputs = fixture.model().all_logits(&fixture.examples).unwrap();
        let mean = fixture.objective.mean_loss(&fixture.examples, &outputs);
        let mean = Tensor::new(mean as f32, &Device::Cpu).unwrap();
        fixture.close("loss", &mean, FORWARD);
        let grads = kernels::backward(&loss).unwrap();
        for (name, var) in fixture.vars() {
            fixture.close(&format!("grad.{name}"), grads.get(&var).unwrap(), GRADIENT);
        }
        let overrides = [("steps", "12"), ("warmup", "0.25"), ("clip", "1.0")];
        let overrides = overrides.map(|(k, v)| (k.to_owned(), v.to_owned()));
        let recipe = Recipe::resolve("quick", &overrides.into(), 1).unwrap();
        let mut optimiser = Optimiser::new(&recipe);
        for (name, var) in fixture.vars() {
            optimiser.add_one(&name, &var, fixture.meta["lr"].as_f64().unwrap(), 0.01);
        }
        let examples = fixture.tensors["step.examples"].to_vec2::<u32>().unwrap();
        let mut losses = Vec::new();
        for indices in &examples {
            let loss = fixture.loss(indices);
            losses.push(loss.to_scalar::<f32>().unwrap());
            optimiser.step(&kernels::backward(&loss).unwrap()).unwrap();
        }
        let losses = Tensor::new(losses, &Device::Cpu).unwrap();
        fixture.close("step.losses", &losses, TEN_STEPS);
    }
}

#[test]
fn what_is_written_greedily_is_what_transformers_generates() {
    for name in METHODS {
        let fixture = Fixture::load(name);
        let prompts: Vec<&[u32]> = (0..5).map(|i| fixture.examples.prompt(i)).collect();
        let write = |prompts: &[&[u32]]| {
            let vocabulary = fixture.head.vocabulary().unwrap();
            generate::greedy(&fixture.backbone, &*fixture.method, vocabulary, prompts).unwrap()
        };
        let expected: Vec<Vec<u32>> =
            serde_json::from_value(fixture.meta["written"].clone()).unwrap();
        assert_eq!(write(&prompts), expected, "{name}");
        // Whoever else is in the batch.
        assert_eq!(write(&prompts[3..4]), expected[3..4], "{name}");
    }
}

#[test]
fn a_text_ends_at_its_end_token_and_the_others_go_on() {
    let fixture = Fixture::load("lora");
    let prompts: Vec<&[u32]> = (0..5).map(|i| fixture.examples.prompt(i)).collect();
    let write = |end: u32, most: usize| {
        let table = fixture.backbone.word_embeddings().clone();
        let head = Head::of_vocabulary(table, None, end, most).unwrap();
        let vocabulary = head.vocabulary().unwrap();
        generate::greedy(&fixture.backbone, &*fixture.method, vocabulary, &prompts).unwrap()
    };
    let whole = write(u32::MAX, 12);
    assert!(whole.iter().all(|text| text.len() == 12));
    // The token that the first text has in its middle now ends every text.
    let end = whole[0][5];
    let until = |text: &Vec<u32>| -> Vec<u32> {
        text.iter().copied().take_while(|id| *id != end).collect()
    };
    let expected: Vec<Vec<u32>> = whole.iter().map(until).collect();
    assert!(expected.iter().any(|text| text.len() < 12));
    assert_eq!(write(end, 12), expected);
    assert_eq!(
        write(u32::MAX, 1),
        whole.iter().map(|t| t[..1].to_vec()).collect::<Vec<_>>()
    );
}

/// Prompts of three kinds, each with the same completion, and some with another one too.
fn rows() -> String {
    let mut text = String::from("prompt,completion\n");
    for i in 0..240 {
        let (prompt, completion) = [
            ("good fine great", "up up"),
            ("bad poor awful", "down"),
            ("review is", "number 1 2 3"),
        ][i % 3];
        text += &format!("{prompt} number {},{completion}\n", i % 120);
    }
    text
}

#[test]
fn texts_are_learnt_judged_reported_predicted_and_evaluated() {
    let place = Place::new();
    let data = place.file("texts.csv", rows());
    let folder = model(&place, "llama_scaled");
    let [data, folder] = [&data, &folder].map(|p| p.to_str().unwrap());
    let how = ["--objective", "completion", "--max-new-tokens", "8"];
    let line = format!("compare {data} --backbone {folder} --seeds 1 --out out --methods all");
    let mut arguments = words(&line);
    arguments.extend(how);
    // (No column of stars, and bitfit's own rate is for wider models.)
    arguments.extend(&SMALL[..SMALL.len() - 2]);
    let output = place.run(&arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("ROUGE-L"),
        "{said}"
    );
    assert!(
        said.contains("240 rows have 120 different prompts"),
        "{said}"
    );
    // The tokenizer knows hardly any of their numbers.
    let same = "note: prompts to judge by that have the same tokens as another one";
    assert!(said.contains(same), "{said}");
    for left_out in ["majority", "random_features", "linear_probe"] {
        assert!(said.contains(&format!("{left_out} is left out")), "{said}");
    }
    let all = records(&place, "out");
    let found = methods_of(&all);
    let names = methods::registry::ALL.iter().map(|entry| entry.name);
    let missing: Vec<&str> = names
        .filter(|name| !found.iter().any(|f| f == name))
        .collect();
    // (head_only is zero_shot here.)
    let floors = [
        "head_only",
        "knn",
        "linear_probe",
        "majority",
        "random_features",
    ];
    assert!(
        missing.iter().all(|name| floors.contains(name)),
        "{missing:?}: {said}"
    );
    for record in &all {
        assert_eq!(record["asked"]["dataset"]["objective"], "completion");
        assert_eq!(record["outcome"]["parameters"]["head"], 0);
        let pooling = record["asked"]["backbone"]["pooling"].as_str().unwrap();
        assert!(pooling.contains("at most 8 tokens"), "{pooling}");
        let last = record["outcome"]["evaluations"].as_array().unwrap().last();
        let last = last.unwrap();
        let perplexity = last["metrics"]["perplexity"].as_f64().unwrap();
        assert!((perplexity.ln() - last["loss"].as_f64().unwrap()).abs() < 1e-9);
    }
    let page = fs::read_to_string(place.path().join("out/report.html")).unwrap();
    assert!(page.contains("What is written") && page.contains("true completion"));

    // Trained whole and for longer it has learnt the texts.
    let line = format!(
        "compare {data} --backbone {folder} --seeds 1 --out learnt --methods full,zero_shot \
        --metric exact_match --set recipe.steps=150 --set full.learning_rate=0.01 \
        --set recipe.evaluations=1"
    );
    let mut arguments = words(&line);
    arguments.extend(how);
    place.ok(&arguments);
    let all = records(&place, "learnt");
    let of = |name: &str| {
        let record = all.iter().find(|r| r["asked"]["method"]["name"] == name);
        record.unwrap()
    };
    let stored = |name: &str| {
        let evaluations = of(name)["outcome"]["evaluations"].as_array().unwrap();
        evaluations.last().unwrap()["metrics"].clone()
    };
    let exact = |name: &str| stored(name)["exact_match"].as_f64().unwrap();
    assert!(exact("full") > 0.9, "{}", exact("full"));
    assert!(exact("zero_shot") < 0.2, "{}", exact("zero_shot"));
    let texts = of("full")["outcome"]["predictions"]["texts"].clone();
    assert!(
        texts
            .as_array()
            .unwrap()
            .iter()
            .any(|t| t["references"][0] == "up up"),
        "{texts}"
    );

    let weights = format!("learnt/weights/{}", of("full")["id"].as_str().unwrap());
    let input = place.file(
        "rows.jsonl",
        "{\"text\": \"good fine great number 1\", \"id\": 7}\n{\"text\": \"bad poor awful number 2\", \"id\": 8}\n",
    );
    let answers = place.ok(&[
        "predict",
        "--weights",
        &weights,
        "--input",
        input.to_str().unwrap(),
    ]);
    let answers: Vec<Value> = answers
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(answers[0]["completion"], "up up");
    assert_eq!(answers[1]["completion"], "down");
    assert_eq!(answers[1]["id"], 8);
    let line = format!("evaluate --weights {weights} --dataset {data} --split validation --json");
    let mut arguments = words(&line);
    arguments.extend(how);
    let evaluated: Value = serde_json::from_str(&place.ok(&arguments)).unwrap();
    for metric in ["exact_match", "rouge_l", "bleu", "chrf", "perplexity"] {
        assert_eq!(
            evaluated["metrics"][metric],
            stored("full")[metric],
            "{metric}"
        );
    }
    // Merged it is a language model that writes the same by itself.
    place.ok(&format!(
        "export --weights {weights} --format merged --out merged"
    ));
    let read = |path: &str| -> Value {
        serde_json::from_slice(&fs::read(place.path().join(path)).unwrap()).unwrap()
    };
    let config = read("merged/config.json");
    assert_eq!(
        config["architectures"],
        serde_json::json!(["LlamaForCausalLM"])
    );
    assert_eq!(config["peftbench"]["completion"]["max_new_tokens"], 8);
    let line = format!(
        "compare {data} --backbone merged --seeds 1 --out again --methods zero_shot \
        --metric exact_match"
    );
    let mut arguments = words(&line);
    arguments.extend(how);
    place.ok(&arguments);
    let again = records(&place, "again");
    assert_eq!(
        again[0]["outcome"]["predictions"],
        of("full")["outcome"]["predictions"]
    );
    let lora = records(&place, "out")
        .into_iter()
        .find(|r| r["asked"]["method"]["name"] == "lora");
    let lora = format!("out/weights/{}", lora.unwrap()["id"].as_str().unwrap());
    place.ok(&format!("export --weights {lora} --format peft --out peft"));
    assert_eq!(read("peft/adapter_config.json")["task_type"], "CAUSAL_LM");
    for (folder, says) in [("peft", "model.generate("), (&lora, "--max-new-tokens 8")] {
        let card = fs::read_to_string(place.path().join(folder).join("README.md")).unwrap();
        assert!(card.contains(says), "{card}");
    }
}

#[test]
fn texts_are_written_classes_told_and_words_tagged_in_one_call_as_each_is_alone() {
    let place = Place::new();
    let decoder = model(&place, "llama_scaled");
    let texts: Vec<String> = (0..60)
        .map(|i| {
            format!(
                "{} number {}",
                ["good fine", "bad", "review is"][i % 3],
                i % 4
            )
        })
        .collect();
    let table = |header: &str, of: &dyn Fn(usize) -> String| {
        let rows = texts.iter().enumerate();
        let rows = rows.map(|(i, text)| format!("{text},{}\n", of(i)));
        format!("{header}\n{}", rows.collect::<String>())
    };
    place.file("classes.csv", table("text,label", &|i| (i % 2).to_string()));
    let written = |i: usize| ["up up", "down", "1 2 3"][i % 3].to_owned();
    place.file("texts.csv", table("prompt,completion", &written));
    let tagged = texts.iter().map(|text| {
        let tokens: Vec<&str> = text.split(' ').collect();
        let tags = tokens.iter().map(|token| match *token {
            "good" | "bad" => "B-mood",
            _ => "O",
        });
        let tags: Vec<&str> = tags.collect();
        serde_json::json!({ "tokens": tokens, "tags": tags }).to_string() + "\n"
    });
    place.file("tags.jsonl", tagged.collect::<String>());
    let tasks = ["classification", "completion", "tokens"];
    fs::create_dir(place.path().join("tasks")).unwrap();
    for (task, data, more) in [
        (tasks[0], "classes.csv", ""),
        (tasks[1], "texts.csv", "--max-new-tokens=8"),
        (tasks[2], "tags.jsonl", ""),
    ] {
        let weights = place.ok(&format!(
            "train {data} --objective {task} --method=lora --backbone {} --budget=quick --set=recipe.steps=20 \
             --set=recipe.evaluations=1 --set=recipe.batch=8 --out=out {more}",
            decoder.display()
        ));
        let from = place.path().join(weights.trim());
        fs::rename(from, place.path().join("tasks").join(task)).unwrap();
    }
    answered_in_one_call_as_alone(&place, &tasks, &texts);
}

#[test]
fn what_cannot_be_completed_is_refused_before_any_run() {
    let place = Place::new();
    let decoder = model(&place, "llama_scaled");
    let refused = |name: &str, text: &str, backbone: &str, more: &[&str], says: &[&str]| {
        let data = place.file(name, text);
        let mut arguments = words("compare --seeds 1 --methods lora");
        arguments.extend([data.to_str().unwrap(), "--backbone", backbone]);
        arguments.extend(more);
        place.refused(&arguments, says);
    };
    let decoder = decoder.to_str().unwrap();
    let good = rows();
    let completion = ["--objective", "completion"];
    let with = |more: &[&'static str]| -> Vec<&'static str> { [&completion, more].concat() };
    let small = with(&["--max-new-tokens", "8"]);
    let encoder = tiny_backbone();
    refused(
        "a.csv",
        &good,
        encoder.to_str().unwrap(),
        &small,
        &["takes a decoder", "a bert"],
    );
    refused(
        "b.csv",
        &(good.clone() + "fine,\nup,NaN\n"),
        decoder,
        &small,
        &["line 242 (empty), line 243 ('NaN')", "no completion"],
    );
    refused(
        "c.csv",
        &good,
        decoder,
        &completion,
        &["max_new_tokens 64", "max_tokens 64"],
    );
    let long = "review ".repeat(60) + "{text}";
    let mut filled = small.clone();
    filled.extend(["--prompt", &long]);
    refused(
        "d.csv",
        &good,
        decoder,
        &filled,
        &["prompt:", "60 tokens", "no room for a text in 56"],
    );
    let more = with(&["--prompt", "no place"]);
    refused(
        "e.csv",
        &good,
        decoder,
        &more,
        &["prompt: 'no place' has no {text}"],
    );
    refused(
        "f.csv",
        &good,
        decoder,
        &with(&["--max-new-tokens", "0"]),
        &["--max-new-tokens", "accepted: 1 to"],
    );
    let row = |i| format!("{{\"tokens\": [\"good\", \"{i}\"], \"tags\": [\"B-x\", \"O\"]}}\n");
    let tags: String = (0..60).map(row).collect();
    for (name, more, says) in [
        (
            "o.jsonl",
            "backbone.head=words",
            "a word stands for one class",
        ),
        (
            "p.jsonl",
            "backbone.head=vocabulary",
            "'vocabulary' writes texts",
        ),
        ("q.jsonl", "backbone.chat=true", "backbone: chat"),
    ] {
        let more = ["--objective", "tokens", "--set", more];
        refused(name, &tags, decoder, &more, &[says]);
    }
    let labels = good.replacen("prompt,completion", "text,label", 1);
    refused(
        "g.csv",
        &labels,
        decoder,
        &["--prompt", "{text}"],
        &["prompt: prompt and max_new_tokens are for objective completion"],
    );
    let mut head = small.clone();
    head.extend(["--set", "backbone.head=score"]);
    refused(
        "h.csv",
        &good,
        decoder,
        &head,
        &["backbone.head=score", "leave the setting out"],
    );
    refused(
        "i.csv",
        &labels,
        decoder,
        &["--set", "backbone.head=vocabulary"],
        &["'vocabulary' writes texts"],
    );
    let mut dropped = small.clone();
    dropped.extend(["--set", "recipe.token_drop=0.1"]);
    refused(
        "j.csv",
        &good,
        decoder,
        &dropped,
        &["neither dropped nor swapped"],
    );
    let mut ranked = small.clone();
    ranked.extend(["--metric", "perplexity"]);
    refused(
        "k.csv",
        &good,
        decoder,
        &ranked,
        &["perplexity", "less of it is better"],
    );
    let mut classes = small.clone();
    classes.extend(["--words", "up,down"]);
    refused(
        "l.csv",
        &good,
        decoder,
        &classes,
        &["a completion has none, nor words"],
    );
    // A decoder of which the file has no output of its own, and one that names no end of texts.
    let bare = model(&place, "llama");
    refused(
        "m.csv",
        &good,
        bare.to_str().unwrap(),
        &small,
        &["lm_head.weight"],
    );
    let config = place.path().join("llama_scaled/config.json");
    let mut json: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    json.as_object_mut().unwrap().remove("eos_token_id");
    fs::write(&config, json.to_string()).unwrap();
    refused("n.csv", &good, decoder, &small, &["eos_token_id"]);
    // (Folders of records are there, with nothing in them.)
    let out = fs::read_dir(place.path().join("reports/out")).unwrap();
    for folder in out {
        let records = record_files(&folder.unwrap().path().join("records"));
        assert!(records.is_empty(), "{records:?}");
    }
}

#[test]
fn what_is_told_of_a_text_grows_token_by_token_to_what_is_written() {
    let fixture = Fixture::load("lora");
    let prompts: Vec<&[u32]> = (0..5).map(|i| fixture.examples.prompt(i)).collect();
    let table = fixture.backbone.word_embeddings().clone();
    let head = Head::of_vocabulary(table, None, u32::MAX, 12).unwrap();
    let whole = {
        let vocabulary = head.vocabulary().unwrap();
        generate::greedy(&fixture.backbone, &*fixture.method, vocabulary, &prompts).unwrap()
    };
    // Some texts end in the middle, by a token that the first one has there.
    let head = Head::of_vocabulary(
        fixture.backbone.word_embeddings().clone(),
        None,
        whole[0][5],
        12,
    );
    let head = head.unwrap();
    let mut told: Vec<Vec<(Vec<u32>, bool)>> = vec![Vec::new(); prompts.len()];
    let written = generate::greedy_telling(
        &fixture.backbone,
        &*fixture.method,
        head.vocabulary().unwrap(),
        &prompts,
        &mut |i, ids, ended| told[i].push((ids.to_vec(), ended)),
    );
    for (text, told) in written.unwrap().iter().zip(&told) {
        let (last, before) = told.split_last().unwrap();
        assert_eq!(*last, (text.clone(), true));
        for (n, (ids, ended)) in before.iter().enumerate() {
            assert!(!ended && ids[..] == text[..n + 1], "{told:?}");
        }
    }
}

#[test]
fn a_prompt_can_be_asked_in_the_tokenizers_chat_and_saved_weights_keep_it() {
    let place = Place::new();
    let data = place.file("texts.csv", rows());
    let folder = model(&place, "llama_scaled");
    let (data, path) = (data.to_str().unwrap(), folder.to_str().unwrap());
    let asked = |out: &'static str, more: &'static str| {
        let task = words("train --objective=completion --method=zero_shot --max-new-tokens=6");
        [&task[..], &[data, "--backbone", path, "--out", out, more]].concat()
    };
    let chat = asked("chat", "--set=backbone.chat=true");
    place.refused(&chat, &["no chat template", "backbone.chat"]);
    let config = serde_json::json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "chat_template": "{% for m in messages %}{{ m['role'] }} : {{ m['content'] }} {% endfor %}{{ 'review :' if add_generation_prompt }}",
    });
    fs::write(folder.join("tokenizer_config.json"), config.to_string()).unwrap();
    let weights = place.ok(&chat);
    let all = records(&place, "chat");
    assert_eq!(methods_of(&all), ["zero_shot"]);
    let pooling = all[0]["asked"]["backbone"]["pooling"].as_str().unwrap();
    // The line break behind the text was the prompt's own.
    assert!(
        pooling.contains(r#"behind "user : {text} review :""#),
        "{pooling}"
    );
    // It is the same run as with this prompt.
    place.ok(&asked("plain", "--prompt=user : {text} review :"));
    let plain = records(&place, "plain");
    assert_eq!(plain[0]["id"], all[0]["id"]);
    // Every number above 3 is the unknown word.
    let input = place.file("rows.jsonl", "{\"text\": \"good fine great number 77\"}\n");
    let arguments = [
        "predict",
        "--weights",
        weights.trim(),
        "--input",
        input.to_str().unwrap(),
    ];
    let answer: Value = serde_json::from_str(&place.ok(&arguments)).unwrap();
    let written = all[0]["outcome"]["predictions"]["texts"]
        .as_array()
        .unwrap();
    let known = written
        .iter()
        .find(|t| t["prompt"] == "<unk> : good fine great number <unk> review :");
    assert_eq!(known.unwrap()["text"], answer["completion"], "{answer}");
}
