//! Objectives other than classification: loss, gradients and ten steps against transformers
//! (`tests/fixtures/generate_objectives.py`), and each through every command.

use std::collections::{BTreeMap, HashMap};

use backbone::{Backbone, Config, HeadKind, Phase, Pooling, TensorFile};
use candle_core::{DType, Device, Tensor};
use datasets::{Encoded, Objective, Target, TextTokenizer, Word};
use methods::{Context, PeftMethod};
use peftbench::{
    objective,
    train::{
        head::Head,
        model::{Model, batch_of},
        optimiser::Optimiser,
        recipe::Recipe,
    },
};
use serde_json::{Value, json};

use crate::{
    decoders::model,
    support::{NoWords, Place, close, near, tiny_backbone, words},
};

const FORWARD: f32 = 1e-5;
const GRADIENT: f32 = 1e-4;
const TEN_STEPS: f32 = 1e-4;

/// A fixture: the objective with its examples, and the LoRA and head that it starts from.
struct Fixture {
    objective: Box<dyn objective::Objective>,
    examples: Encoded,
    tensors: HashMap<String, Tensor>,
    names: BTreeMap<String, String>,
    rate: f64,
    backbone: Backbone,
    method: Box<dyn PeftMethod>,
    head: Head,
}

impl Fixture {
    fn load(kind: Objective) -> Self {
        let folder = tiny_backbone();
        let path = folder.with_file_name(format!("objectives/{}.safetensors", kind.name()));
        let meta = TensorFile::open(&path).unwrap().metadata().unwrap()["meta"].clone();
        let meta: Value = serde_json::from_str(&meta).unwrap();
        let tensors = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
        let numbers = |name: &str| {
            tensors[name]
                .flatten_all()
                .unwrap()
                .to_vec1::<u32>()
                .unwrap()
        };
        let row = |v: &Value| -> Vec<f64> {
            v.as_array()
                .unwrap()
                .iter()
                .map(|x| x.as_f64().unwrap())
                .collect()
        };
        let truth = meta["truth"].as_array().unwrap().iter().map(row);
        let target = |row: Vec<f64>| match kind {
            Objective::Regression => Target::Number(row[0]),
            Objective::MultiLabel => Target::Classes(row.iter().map(|x| *x == 1.0).collect()),
            _ => Target::Tags(row.iter().map(|x| *x as u32).collect()),
        };
        let words = meta["words"].as_array().into_iter().flatten().map(|words| {
            let words = row(words).into_iter().zip(0..);
            words
                .map(|(token, word)| Word {
                    word,
                    token: token as u32,
                })
                .collect()
        });
        let examples = Encoded {
            ids: numbers("input.ids"),
            types: numbers("input.types")
                .into_iter()
                .map(|t| t as u8)
                .collect(),
            offsets: numbers("input.offsets")
                .into_iter()
                .map(|o| o as usize)
                .collect(),
            labels: truth.map(target).collect(),
            words: words.collect(),
            truncated: 0,
        };
        let outputs = meta["outputs"].as_u64().unwrap() as usize;
        let labels: Vec<String> = match kind {
            Objective::Regression => Vec::new(),
            _ => (0..outputs).map(|i| format!("class {i}")).collect(),
        };
        let tokenizer = TextTokenizer::from_file(&folder.join("tokenizer.json")).unwrap();
        let backbone = Backbone::load(
            Config::read(&folder.join("config.json")).unwrap(),
            &folder.join("model.safetensors"),
        );
        let backbone = backbone.unwrap().with_pooling(Pooling::Pooler).unwrap();
        let config = serde_json::from_value(json!({ "rank": 3, "alpha": 6 })).unwrap();
        let method = methods::resolve_values("lora", config).unwrap();
        let method = method.build(&mut Context {
            backbone: &backbone,
            rng: &mut datasets::stream(0, "overwritten"),
            words: &NoWords,
        });
        let head = Head::new(
            objective::head(kind, HeadKind::Linear),
            backbone.config().hidden,
            outputs,
            &mut datasets::stream(0, "overwritten"),
            DType::F32,
        );
        let (method, head) = (method.unwrap(), head.unwrap());
        let names: BTreeMap<String, String> =
            serde_json::from_value(meta["names"].clone()).unwrap();
        let start = |head: bool| -> BTreeMap<String, Tensor> {
            let own = names
                .iter()
                .filter(|(_, ours)| ours.starts_with("head.") == head);
            own.map(|(theirs, ours)| (ours.clone(), tensors[&format!("init.{theirs}")].clone()))
                .collect()
        };
        methods::restore(&method.vars(), &start(false)).unwrap();
        methods::restore(&head.vars(), &start(true)).unwrap();
        Self {
            objective: objective::of(kind, &labels, None, &tokenizer),
            examples,
            rate: meta["lr"].as_f64().unwrap(),
            names,
            tensors,
            backbone,
            method,
            head,
        }
    }

    fn loss(&self, indices: &[u32]) -> (Tensor, Tensor) {
        let model = Model::new(&self.backbone, &*self.method, &self.head);
        let batch = batch_of(&self.examples, indices).unwrap();
        let vectors = model.pooled(&batch, Phase::Eval).unwrap();
        let loss = self
            .objective
            .loss(&self.head, &vectors, &self.examples, indices)
            .unwrap();
        (self.head.forward(&vectors).unwrap(), loss)
    }

    fn close(&self, name: &str, got: &Tensor, tolerance: f32) {
        let what = format!("{}: {name}", self.objective.kind().name());
        close(&what, got, &self.tensors[name], tolerance);
    }
}

const OTHERS: [Objective; 3] = [
    Objective::Regression,
    Objective::MultiLabel,
    Objective::Tokens,
];

#[test]
fn losses_and_gradients_of_every_objective_are_those_of_transformers() {
    for kind in OTHERS {
        let fixture = Fixture::load(kind);
        let everything: Vec<u32> = (0..5).collect();
        let (logits, loss) = fixture.loss(&everything);
        fixture.close("logits", &logits, FORWARD);
        fixture.close("loss", &loss, FORWARD);
        let model = Model::new(&fixture.backbone, &*fixture.method, &fixture.head);
        // The loss of an evaluation is computed without a tensor.
        let outputs = model.all_logits(&fixture.examples).unwrap();
        let mean = fixture.objective.mean_loss(&fixture.examples, &outputs);
        fixture.close(
            "loss",
            &Tensor::new(mean as f32, &Device::Cpu).unwrap(),
            FORWARD,
        );
        let grads = kernels::backward(&loss).unwrap();
        let vars: BTreeMap<_, _> = fixture
            .method
            .vars()
            .into_iter()
            .chain(fixture.head.vars())
            .collect();
        assert_eq!(vars.len(), fixture.names.len());
        for (theirs, ours) in &fixture.names {
            let got = grads.get(&vars[ours]).unwrap();
            fixture.close(&format!("grad.{theirs}"), got, GRADIENT);
        }
    }
}

#[test]
fn ten_steps_of_every_objective_lose_what_transformers_loses() {
    for kind in OTHERS {
        let fixture = Fixture::load(kind);
        let overrides = [("steps", "12"), ("warmup", "0.25"), ("clip", "1.0")];
        let overrides = overrides.map(|(k, v)| (k.to_owned(), v.to_owned()));
        let recipe = Recipe::resolve("quick", &overrides.into(), 1).unwrap();
        let mut optimiser = Optimiser::new(&recipe);
        optimiser.add(fixture.method.parameters(), fixture.rate, 0.01);
        optimiser.add(fixture.head.parameters(), fixture.rate, 0.01);
        let examples = fixture.tensors["step.examples"].to_vec2::<u32>().unwrap();
        let mut losses = Vec::new();
        for indices in &examples {
            let (_, loss) = fixture.loss(indices);
            losses.push(loss.to_scalar::<f32>().unwrap());
            optimiser.step(&kernels::backward(&loss).unwrap()).unwrap();
        }
        let losses = Tensor::new(losses, &Device::Cpu).unwrap();
        fixture.close("step.losses", &losses, TEN_STEPS);
    }
}

/// A comparison of a few steps over the tiny backbone.
fn compare<'a>(data: &'a str, backbone: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = words(
        "compare --budget quick --seeds 2 --methods majority,head_only,prompt_tuning,lora \
         --set prompt_tuning.virtual_tokens=4 --set recipe.steps=120 --set recipe.head_learning_rate=0.02 \
         --set recipe.batch=8 --out out",
    );
    arguments.extend([data, "--backbone", backbone]);
    arguments.extend(more);
    arguments
}

fn records(place: &Place) -> Vec<Value> {
    place.records("out")
}

/// The folder of the weights of a method's first seed.
fn weights(place: &Place, method: &str) -> String {
    let records = records(place);
    let of = |r: &&Value| r["asked"]["method"]["name"] == method && r["asked"]["seed"] == 0;
    let record = records.iter().find(of).unwrap();
    format!("out/weights/{}", record["id"].as_str().unwrap())
}

/// Every record is sound and passed its checks; the metric of LoRA's first seed.
fn sound(place: &Place, kind: &str, metric: &str) -> f64 {
    let records = records(place);
    assert_eq!(records.len(), 8);
    let mut found = None;
    for record in &records {
        assert_eq!(record["status"]["is"], "ok", "{record}");
        assert_eq!(record["asked"]["dataset"]["objective"], kind);
        let checks = record["outcome"]["checks"].as_array().unwrap();
        assert!(checks.iter().all(|c| c["passed"] == true), "{checks:?}");
        let last = record["outcome"]["evaluations"]
            .as_array()
            .unwrap()
            .last()
            .unwrap();
        if record["asked"]["method"]["name"] == "lora" {
            found = last["metrics"][metric].as_f64();
        }
    }
    found.unwrap()
}

#[test]
fn numbers_are_learnt_reported_predicted_and_evaluated_in_their_own_unit() {
    let place = Place::new();
    let mut text = String::from("text,price\n");
    for i in 0..240 {
        let (words, price) = [
            ("good fine great", 9000),
            ("not bad", 5000),
            ("bad dull", 1000),
        ][i % 3];
        text += &format!("{words} number {i},{}.5\n", price + i);
    }
    let data = place.file("prices.csv", text);
    let (data, backbone) = (data.to_str().unwrap(), tiny_backbone());
    let how = ["--objective", "regression", "--label-column", "price"];
    // Read as transformers' class reads it, so that PEFT's format can hold the head.
    let mut asked = compare(data, backbone.to_str().unwrap(), &how);
    asked.extend(["--set", "backbone.pooling=pooler"]);
    let table = place.ok(&asked);
    assert!(table.contains("Pearson"), "{table}");
    // Three kinds of texts cost 9000, 5000 and 1000. Who tells but the dearest from the others explains 3/4 of the variance.
    let pearson = sound(&place, "regression", "pearson");
    assert!(pearson > 0.75f64.sqrt(), "{pearson}");
    let folder = weights(&place, "lora");
    let rows = place.file(
        "rows.jsonl",
        "{\"text\": \"good fine great number 3\"}\n{\"text\": \"bad dull number 5\"}\n",
    );
    let predict = format!("predict --weights {folder} --input {}", rows.display());
    let answers = place.ok(&predict);
    let numbers: Vec<f64> = answers
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["prediction"]
                .as_f64()
                .unwrap()
        })
        .collect();
    assert!(numbers[0] > 6000.0 && numbers[1] < 4000.0, "{numbers:?}");
    let csv = place.ok(&(predict + " --format csv"));
    assert!(csv.starts_with("label,probability\n"));
    let line = format!("evaluate --weights {folder} --dataset {data} --json");
    let mut arguments = words(&line);
    arguments.extend(how);
    let evaluated: Value = serde_json::from_str(&place.ok(&arguments)).unwrap();
    let record = records(&place)
        .into_iter()
        .find(|r| r["id"] == folder["out/weights/".len()..]);
    let last = &record.unwrap()["outcome"]["evaluations"];
    let stored = &last.as_array().unwrap().last().unwrap()["metrics"];
    for metric in ["pearson", "spearman", "rmse"] {
        assert_eq!(evaluated["metrics"][metric], stored[metric], "{metric}");
    }
    // Another library's folder holds the same numbers, in their own unit.
    place.ok(&format!(
        "export --weights {folder} --format peft --out exported"
    ));
    let line = format!("evaluate --weights exported --dataset {data} --json");
    let mut arguments = words(&line);
    arguments.extend(how);
    let exported: Value = serde_json::from_str(&place.ok(&arguments)).unwrap();
    let rmse = |v: &Value| v["metrics"]["rmse"].as_f64().unwrap();
    assert!(
        (rmse(&exported) / rmse(&evaluated) - 1.0).abs() < 1e-4,
        "{exported}"
    );
    place.ok(&format!(
        "export --weights {folder} --format merged --out merged"
    ));
    let config = std::fs::read(place.path().join("merged/config.json")).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    assert_eq!(config["problem_type"], "regression");
    assert_eq!(config["id2label"], json!({ "0": "LABEL_0" }));
    let page = std::fs::read_to_string(place.path().join("out/report.html")).unwrap();
    assert!(page.contains("Predicted and true numbers"));
    // Weights of numbers do not answer for classes.
    let classes: String = (0..60)
        .map(|i| format!("text {i},{}\n", ["good", "bad"][i % 2]))
        .collect();
    let classes = place.file("classes.csv", format!("text,label\n{classes}"));
    place.refused(
        &[
            "evaluate",
            "--weights",
            &folder,
            "--dataset",
            classes.to_str().unwrap(),
        ],
        &["--objective regression"],
    );
}

#[test]
fn sets_of_classes_are_learnt_from_a_list_or_from_columns_alike() {
    let rows: Vec<(String, [bool; 2])> = (0..240)
        .map(|i| {
            let (a, b) = (i % 2 == 0, i % 3 == 0);
            let words = [
                if a { "good" } else { "bad" },
                if b { "story" } else { "film" },
            ];
            (format!("{} {} number {i}", words[0], words[1]), [a, b])
        })
        .collect();
    let mut digests = Vec::new();
    for list in [true, false] {
        let place = Place::new();
        let data = match list {
            true => {
                let row = |(text, [a, b]): &(String, [bool; 2])| {
                    let names = [("nice", *a), ("tale", *b)]
                        .into_iter()
                        .filter(|(_, is)| *is);
                    json!({ "text": text, "labels": names.map(|(n, _)| n).collect::<Vec<_>>() })
                        .to_string()
                };
                place.file(
                    "sets.jsonl",
                    rows.iter().map(row).collect::<Vec<_>>().join("\n"),
                )
            }
            false => {
                let row =
                    |(text, [a, b]): &(String, [bool; 2])| format!("{text},{},{}", u8::from(*a), b);
                let rows: Vec<String> = rows.iter().map(row).collect();
                place.file("sets.csv", format!("text,nice,tale\n{}\n", rows.join("\n")))
            }
        };
        let (data, backbone) = (data.to_str().unwrap(), tiny_backbone());
        let columns = if list { "labels" } else { "nice,tale" };
        let how = ["--objective", "multi_label", "--label-column", columns];
        let table = place.ok(&compare(data, backbone.to_str().unwrap(), &how));
        assert!(table.contains("micro F1"), "{table}");
        // Half of the texts are nice and a third are tales. Who knows the tales and calls every text nice finds all of the
        // 5/6 classes of a text, and half a class too many; nothing that knows one class alone reaches more.
        let one_class = 2.0 * (5.0 / 6.0) / (2.0 * (5.0 / 6.0) + 0.5);
        let f1 = sound(&place, "multi_label", "micro_f1");
        assert!(f1 > one_class, "{f1}");
        let records = records(&place);
        assert_eq!(
            records[0]["asked"]["dataset"]["labels"],
            json!(["nice", "tale"])
        );
        digests.push(records[0]["asked"]["dataset"]["digest"].to_string());
        let folder = weights(&place, "lora");
        let input = place.file("rows.jsonl", "{\"text\": \"good story number 6\"}\n");
        let answer = place.ok(&[
            "predict",
            "--weights",
            &folder,
            "--input",
            input.to_str().unwrap(),
        ]);
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(
            answer["probabilities"].as_array().unwrap().len(),
            2,
            "{answer}"
        );
        let mut arguments = vec!["evaluate", "--weights", &folder, "--dataset", data];
        arguments.extend(how);
        let evaluated = place.ok(&arguments);
        for word in ["micro_f1", "macro_f1", "nice", "tale", "recall"] {
            assert!(evaluated.contains(word), "{evaluated}");
        }
        let page = std::fs::read_to_string(place.path().join("out/report.html")).unwrap();
        assert!(page.contains("Class by class") && page.contains("tale"));
    }
    assert_eq!(digests[0], digests[1]);
}

/// Sentences of two to five parts in any order, two of which are entities: a place (`good film`) and a mood (`story`).
fn sentences() -> Vec<(Vec<&'static str>, Vec<&'static str>)> {
    let parts = [
        (&["the"][..], &["O"][..]),
        (&["good", "film"][..], &["B-place", "I-place"][..]),
        (&["was"][..], &["O"][..]),
        (&["story"][..], &["B-mood"][..]),
        (&["a", "dull"][..], &["O", "O"][..]),
        (&["it", "was", "very"][..], &["O", "O", "O"][..]),
        (&["long"][..], &["O"][..]),
    ];
    // The constants of the C standard's example of `rand`.
    let mut state = 1u64;
    let mut drawn = |n: usize| {
        state = (state * 1_103_515_245 + 12_345) % (1 << 31);
        (state >> 16) as usize % n
    };
    (0..480)
        .map(|_| {
            let (mut words, mut tags) = (Vec::new(), Vec::new());
            for _ in 0..2 + drawn(4) {
                let (some, own) = parts[drawn(parts.len())];
                words.extend(some);
                tags.extend(own);
            }
            (words, tags)
        })
        .collect()
}

#[test]
fn tags_of_words_are_learnt_from_conll_and_from_lists_alike_and_entities_are_found() {
    let mut digests = Vec::new();
    for conll in [true, false] {
        let place = Place::new();
        let data = match conll {
            true => {
                let block = |(i, (tokens, tags)): (usize, &(Vec<&str>, Vec<&str>))| {
                    let lines = tokens
                        .iter()
                        .zip(tags)
                        .map(|(token, tag)| format!("{token}\t{tag}\n"));
                    format!("{}number\tO\n{i}\tO\n\n", lines.collect::<String>())
                };
                let text: String = sentences().iter().enumerate().map(block).collect();
                place.file("names.conll", format!("-DOCSTART-\tO\n\n{text}"))
            }
            false => {
                let row = |(i, (tokens, tags)): (usize, &(Vec<&str>, Vec<&str>))| {
                    let number = i.to_string();
                    let tokens: Vec<&str> =
                        tokens.iter().copied().chain(["number", &number]).collect();
                    let tags: Vec<&str> = tags.iter().copied().chain(["O", "O"]).collect();
                    json!({ "tokens": tokens, "tags": tags }).to_string()
                };
                let rows: Vec<String> = sentences().iter().enumerate().map(row).collect();
                place.file("names.jsonl", rows.join("\n"))
            }
        };
        let (data, backbone) = (data.to_str().unwrap(), tiny_backbone());
        let how = ["--objective", "tokens", "--set=recipe.steps=400"];
        let table = place.ok(&compare(data, backbone.to_str().unwrap(), &how));
        assert!(table.contains("entity F1"), "{table}");
        // Who finds all entities of the commoner type and none of the other finds that share of them.
        let all = sentences();
        let begins = |kind: &str| {
            all.iter()
                .flat_map(|(_, tags)| tags)
                .filter(|t| **t == kind)
                .count()
        };
        let (places, moods) = (begins("B-place"), begins("B-mood"));
        let share = places.max(moods) as f64 / (places + moods) as f64;
        let one_type = 2.0 * share / (1.0 + share);
        let f1 = sound(&place, "tokens", "entity_f1");
        assert!(f1 > one_type, "{f1}");
        digests.push(records(&place)[0]["asked"]["dataset"]["digest"].to_string());
        let folder = weights(&place, "lora");
        // A sentence that it was not trained on, with both entities.
        let words = ["a", "story", "was", "very", "good", "film", "number", "6"];
        assert!(all.iter().all(|(known, _)| *known != words[..6]));
        let rows = [
            json!({ "text": words.join(" ") }),
            json!({ "tokens": words }),
        ];
        let rows = format!("{}\n{}\n", rows[0], rows[1]);
        let input = place.file("rows.jsonl", rows);
        let answers = place.ok(&[
            "predict",
            "--weights",
            &folder,
            "--input",
            input.to_str().unwrap(),
        ]);
        let answers: Vec<Value> = answers
            .lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect();
        assert_eq!(
            answers[0]["entities"],
            json!([
                { "type": "mood", "text": "story", "start": 1, "end": 2 },
                { "type": "place", "text": "good film", "start": 4, "end": 6 }
            ])
        );
        assert_eq!(answers[0], answers[1]);
        let mut arguments = vec!["evaluate", "--weights", &folder, "--dataset", data];
        arguments.extend(&how[..2]);
        let evaluated = place.ok(&arguments);
        for word in ["entity_f1", "place", "mood"] {
            assert!(evaluated.contains(word), "{evaluated}");
        }
        let exported = if conll { "merged" } else { "again" };
        place.ok(&format!(
            "export --weights {folder} --format merged --out {exported}"
        ));
        let config = std::fs::read(place.path().join(exported).join("config.json")).unwrap();
        let config: Value = serde_json::from_slice(&config).unwrap();
        assert_eq!(
            config["architectures"],
            json!(["BertForTokenClassification"])
        );
        // As a folder of PEFT it gives the same answers, here and, as its card says, in Python.
        place.ok(&format!(
            "export --weights {folder} --format peft --out peft"
        ));
        let again = place.ok(&format!(
            "predict --weights peft --input {}",
            input.display()
        ));
        let again: Vec<Value> = again
            .lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect();
        assert_eq!(again, answers);
        if let Some(printed) = crate::cards::run_python_of(&place.path().join("peft"), "") {
            // Two texts of two words.
            assert_eq!(printed.matches('\'').count(), 8, "{printed}");
        }
        let page = std::fs::read_to_string(place.path().join("out/report.html")).unwrap();
        assert!(page.contains("Types of entities") && page.contains("mood"));
    }
    assert_eq!(digests[0], digests[1]);
}

#[test]
fn what_does_not_fit_an_objective_is_refused_before_any_run() {
    let place = Place::new();
    let backbone = tiny_backbone();
    let refused = |name: &str, text: &str, objective: &str, says: &[&str]| {
        let data = place.file(name, text);
        let arguments = compare(
            data.to_str().unwrap(),
            backbone.to_str().unwrap(),
            &["--objective", objective],
        );
        place.refused(&arguments, says);
    };
    let many = |row: &dyn Fn(usize) -> String| (0..60).map(row).collect::<String>();
    refused(
        "a.csv",
        &format!(
            "text,label\n{}",
            many(&|i| format!(
                "t {i},{}\n",
                if i == 7 { "much".into() } else { i.to_string() }
            ))
        ),
        "regression",
        &["line 9", "holds no number", "'much'"],
    );
    refused(
        "b.csv",
        &format!(
            "text,label\n{}",
            many(&|i| format!("t {i},{}\n", if i == 7 { "NaN" } else { "1" }))
        ),
        "regression",
        &["line 9", "has no label", "'NaN'"],
    );
    refused(
        "c.csv",
        &format!("text,label\n{}", many(&|i| format!("t {i},2.5\n"))),
        "regression",
        &["c.csv", "'label'", "the number 2.5"],
    );
    refused(
        "c.jsonl",
        &many(&|i| json!({ "text": format!("t {i}"), "label": ["a", "b"] }).to_string() + "\n"),
        "multi_label",
        &["'label'", "the same classes (a, b)"],
    );
    refused(
        "c.conll",
        &many(&|i| format!("word\tO\n{i}\tO\n\n")),
        "tokens",
        &["'tags'", "every word for training has the tag O"],
    );
    refused(
        "bilou.conll",
        &many(&|i| format!("New\tB-place\nYork\tL-place\n{i}\tL-name\n\n")),
        "tokens",
        &["'L-name'", "never 'B-name'"],
    );
    refused(
        "d.jsonl",
        &many(&|i| json!({ "tokens": ["a", i.to_string()], "tags": ["O"] }).to_string() + "\n"),
        "tokens",
        &["1 tags for 2 tokens", "line 1"],
    );
    refused(
        "e.jsonl",
        &many(&|i| {
            json!({ "tokens": ["a", i.to_string()], "tags": ["O", "I-place"] }).to_string() + "\n"
        }),
        "tokens",
        &["'I-place'", "never 'B-place'"],
    );
    refused(
        "f.jsonl",
        &many(&|i| {
            json!({ "tokens": ["a", i.to_string()], "tags": ["O", "NOUN"] }).to_string() + "\n"
        }),
        "tokens",
        &["'NOUN'", "no scheme"],
    );
    refused(
        "g.csv",
        &format!("text,label\n{}", many(&|i| format!("t {i},1\n"))),
        "tokens",
        &["column 'tokens'"],
    );
    refused(
        "h.csv",
        &format!("text,label\n{}", many(&|i| format!("t {i},1\n"))),
        "sorting",
        &["unknown objective 'sorting'", "regression"],
    );
    refused(
        "i.csv",
        &format!("text,label\n{}", many(&|i| format!("t {i},x y\n"))),
        "multi_label",
        &["is no list", "--label-column A,B"],
    );
    let columns = place.file("columns.csv", "text,nice,odd\na,1,0\nb,0,1\n");
    let how = ["--label-column", "nice,odd"];
    place.refused(
        &compare(columns.to_str().unwrap(), backbone.to_str().unwrap(), &how),
        &["no column 'nice,odd'", "--objective multi_label"],
    );
    let data = place.file("j.csv", "text,label\na,1\nb,2\n");
    let how = ["--objective", "regression", "--metric", "accuracy"];
    place.refused(
        &compare(data.to_str().unwrap(), backbone.to_str().unwrap(), &how),
        &["accuracy does not judge regression", "pearson"],
    );
    let how = ["--objective", "regression", "--metric", "rmse"];
    place.refused(
        &compare(data.to_str().unwrap(), backbone.to_str().unwrap(), &how),
        &["less of it is better"],
    );
}

#[test]
fn words_are_tagged_over_a_decoder_too() {
    let place = Place::new();
    let row = |i: usize| {
        let tags = ["B-mood", "I-mood", "O", "O"];
        json!({ "tokens": ["good", "fine", "number", i.to_string()], "tags": tags }).to_string()
    };
    let rows: Vec<String> = (0..60).map(row).collect();
    let data = place.file("moods.jsonl", rows.join("\n"));
    let folder = model(&place, "llama");
    let how = ["--objective", "tokens", "--set", "recipe.steps=30"];
    place.ok(&compare(
        data.to_str().unwrap(),
        folder.to_str().unwrap(),
        &how,
    ));
    assert!(sound(&place, "tokens", "entity_f1").is_finite());
}

#[test]
fn tasks_of_all_objectives_are_answered_in_one_call_as_each_is_alone() {
    let place = Place::new();
    let texts: Vec<String> = (0..60)
        .map(|i| format!("{} film number {i}", ["good", "bad", "dull"][i % 3]))
        .collect();
    let table = |header: &str, label: &dyn Fn(usize) -> String| {
        let rows = texts.iter().enumerate();
        let rows = rows.map(|(i, text)| format!("{text},{}\n", label(i)));
        format!("{header}\n{}", rows.collect::<String>())
    };
    place.file("classes.csv", table("text,label", &|i| (i % 2).to_string()));
    place.file("price.csv", table("text,label", &|i| format!("{i}.5")));
    place.file(
        "sets.csv",
        table("text,nice,odd", &|i| format!("{},{}", i % 2, (i / 2) % 2)),
    );
    let tagged = texts.iter().map(|text| {
        let tokens: Vec<&str> = text.split(' ').collect();
        json!({ "tokens": tokens, "tags": ["B-mood", "B-thing", "O", "O"] }).to_string() + "\n"
    });
    place.file("tags.jsonl", tagged.collect::<String>());
    let backbone = tiny_backbone();
    let tasks = [
        ("classes.csv", "classification", "label"),
        ("price.csv", "regression", "label"),
        ("sets.csv", "multi_label", "nice,odd"),
        ("tags.jsonl", "tokens", "tags"),
    ];
    std::fs::create_dir(place.path().join("tasks")).unwrap();
    for (data, objective, label) in tasks {
        let backbone = backbone.to_str().unwrap();
        let weights = place.ok(&format!(
            "train {data} --objective {objective} --label-column {label} --method=lora --backbone {backbone} --budget=quick \
             --set=recipe.steps=20 --set=recipe.evaluations=1 --set=recipe.batch=8 --out=out"
        ));
        let from = place.path().join(weights.trim());
        std::fs::rename(from, place.path().join("tasks").join(objective)).unwrap();
    }
    answered_in_one_call_as_alone(&place, &tasks.map(|(_, objective, _)| objective), &texts);
}

/// Rows of the tasks of the folder `tasks` in turn have the answers that each task gives by itself.
pub fn answered_in_one_call_as_alone(place: &Place, tasks: &[&str], texts: &[String]) {
    let each = 3;
    let row = |i: usize| json!({ "task": tasks[i % tasks.len()], "text": texts[i] });
    let rows: Vec<Value> = (0..each * tasks.len()).map(row).collect();
    let predict = |rows: Vec<Value>, of: [&str; 2]| -> Vec<Value> {
        let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
        place.file("rows.jsonl", lines.join("\n"));
        let printed = place.ok(&["predict", of[0], of[1], "--input", "rows.jsonl"]);
        let answers = printed.lines().map(|l| serde_json::from_str(l).unwrap());
        answers.collect()
    };
    let mixed = predict(rows.clone(), ["--tasks", "tasks"]);
    for (k, task) in tasks.iter().enumerate() {
        let own = rows.iter().skip(k).step_by(tasks.len());
        let own = own.map(|row| json!({ "text": row["text"] })).collect();
        let alone = predict(own, ["--weights", &format!("tasks/{task}")]);
        assert_eq!(alone.len(), each);
        for (alone, mixed) in alone.iter().zip(mixed.iter().skip(k).step_by(tasks.len())) {
            let mut mixed = mixed.clone();
            let of = mixed.as_object_mut().unwrap().remove("task").unwrap();
            assert_eq!(of, *task);
            assert!(near(alone, &mixed, 1e-5), "{task}: {alone} {mixed}");
        }
    }
}

#[test]
fn every_data_set_of_the_documentation_whose_rows_stand_there_is_trained_on() {
    let place = Place::new();
    let text = include_str!("../docs/DATASETS.md");
    let mut yamls = Vec::new();
    // Every second part is inside of a fence; its first line says its kind and the name of its file.
    for block in text.split("```").skip(1).step_by(2) {
        let (kind, rows) = block.split_once('\n').unwrap();
        if let Some((_, name)) = kind.split_once(' ') {
            place.file(name, rows);
            yamls.extend(name.ends_with(".yaml").then_some((name, rows)));
        }
    }
    let (encoder, decoder) = (tiny_backbone(), model(&place, "llama_scaled"));
    let here = |(_, yaml): &&(&str, &str)| yaml.contains("path: {");
    for (name, yaml) in yamls.iter().filter(here) {
        let backbone = match yaml.contains("objective: completion\n") {
            true => &decoder,
            false => &encoder,
        };
        let output = place.run(&format!(
            "train {name} --method=lora --backbone {} --budget=quick --set=recipe.steps=2 --set=recipe.evaluations=1 \
             --set=recipe.batch=4 --out=out",
            backbone.display()
        ));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {said}");
        assert_eq!(
            said.contains("terms of use: CC BY 4.0"),
            yaml.contains("licence: CC BY 4.0"),
            "{name}: {said}"
        );
    }
    let records = records(&place);
    assert_eq!(records.len(), 9);
    for objective in Objective::ALL {
        let is = |record: &Value| {
            let said = record["asked"]["dataset"]["objective"].as_str();
            said.unwrap_or("classification") == objective.name()
        };
        assert!(
            records.iter().any(is),
            "{} has no example",
            objective.name()
        );
    }
}
