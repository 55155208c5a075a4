//! Builds records with declared results and times, so that tests can assert exact figures.
//! Shared by the unit tests, the integration tests and the demo.
#![allow(dead_code, clippy::unwrap_used)]

use std::collections::BTreeMap;

use record::*;
use serde_json::{Value, json};

/// A record in the making. The defaults are a sound run on ten examples of two classes.
#[derive(Clone)]
pub struct Sample {
    record: RunRecord,
}

impl Sample {
    /// A run of this method that ended well: 9 of 10 examples right.
    pub fn new(method: &str) -> Self {
        let record = RunRecord {
            format: FORMAT,
            id: String::new(),
            asked: Asked {
                dataset: DatasetFacts {
                    name: "sst2".into(),
                    stand_in_for: None,
                    digest: "d".repeat(64),
                    labels: vec!["negative".into(), "positive".into()],
                    train_examples: 16_000,
                    validation_examples: 10,
                    main_metric: "accuracy".into(),
                    truncated: 0,
                    objective: record::CLASSIFICATION.to_owned(),
                },
                backbone: BackboneFacts {
                    name: "minilm".into(),
                    digest: "b".repeat(64),
                    architecture: "bert".into(),
                    layers: 6,
                    hidden: 384,
                    parameters: 22_713_216,
                    pooling: "mean".into(),
                    precision: None,
                },
                method: MethodFacts {
                    name: method.into(),
                    variant: String::new(),
                    config: json!({}),
                    tuned: None,
                },
                recipe: json!({"batch": 32, "steps": 500, "schedule": {"warmup": 0.1}}),
                seed: 0,
                op_path: "fast".into(),
                numerics: BTreeMap::new(),
            },
            status: Status::Ok,
            outcome: Some(Outcome {
                parameters: Parameters {
                    method: 73_728,
                    head: 770,
                    backbone: 22_713_216,
                    shipped: 73_728,
                },
                order_digest: "o".repeat(64),
                head_digest: "h".repeat(64),
                loss: vec![0.7, 0.6, 0.5, 0.4],
                evaluations: vec![],
                predictions: Predictions::default(),
                checks: vec![Check {
                    name: "frozen_unchanged".into(),
                    passed: true,
                    detail: "digest of the frozen weights is the same".into(),
                }],
            }),
            cost: Some(Cost {
                training_seconds: 60.0,
                step_seconds: vec![15.0; 4],
                examples: 16_000,
                tokens: 400_000,
                evaluation_seconds: 5.0,
                seconds_to_first_step: 1.5,
                peak_memory_bytes: Some(500_000_000),
                file_bytes: 300_000,
                resident_bytes: Some(297_000),
                latency: vec![],
            }),
            circumstances: Circumstances {
                started: "2026-01-02T03:04:05Z".into(),
                claim: None,
                version: "0.1.0".into(),
                revision: Some("0123abc".into()),
                processor: "Declared CPU".into(),
                threads: 2,
                load: None,
                task: None,
                system: "linux-x86_64".into(),
                libraries: BTreeMap::from([("candle-core".into(), "0.11.1".into())]),
            },
            kind: facts(method).kind,
        };
        Self { record }
            .right(10, |i| i != 0)
            .latency("unmerged", 4.0, 6.0)
    }

    pub fn seed(mut self, seed: u64) -> Self {
        self.record.asked.seed = seed;
        self.record.outcome.iter_mut().for_each(|o| {
            o.order_digest = format!("{seed:064}");
            o.head_digest = format!("{seed:064}");
        });
        self
    }

    pub fn variant(mut self, variant: &str, config: Value) -> Self {
        self.record.asked.method.variant = variant.into();
        self.record.asked.method.config = config;
        self
    }

    /// Replaces the predictions: example `i` is predicted rightly where `right(i)`. The final
    /// evaluation follows (accuracy, F1 of label 1, Matthews are not derived: accuracy only).
    pub fn predictions(mut self, labels: &[u32], right: impl Fn(usize) -> bool) -> Self {
        let outcome = self.record.outcome.as_mut().unwrap();
        let correct = (0..labels.len()).filter(|&i| right(i)).count();
        outcome.predictions = Predictions {
            labels: labels.to_vec(),
            logits: labels
                .iter()
                .enumerate()
                .map(|(i, &l)| {
                    if (l == 1) == right(i) {
                        vec![-1.0, 1.0]
                    } else {
                        vec![1.0, -1.0]
                    }
                })
                .collect(),
            ..Predictions::default()
        };
        let accuracy = correct as f64 / labels.len() as f64;
        let last = Evaluation {
            step: 4,
            loss: 0.4,
            metrics: BTreeMap::from([("accuracy".into(), accuracy)]),
            predicted: String::new(),
            examples: None,
        };
        outcome.evaluations = vec![
            Evaluation {
                step: 2,
                loss: 0.6,
                metrics: BTreeMap::from([("accuracy".into(), accuracy / 2.0)]),
                predicted: String::new(),
                examples: None,
            },
            last,
        ];
        self.record.asked.dataset.validation_examples = labels.len();
        self
    }

    /// The same of `n` examples with the labels 0 and 1 in turn.
    pub fn right(self, n: u32, right: impl Fn(usize) -> bool) -> Self {
        let labels: Vec<u32> = (0..n).map(|i| i % 2).collect();
        self.predictions(&labels, right)
    }

    pub fn parameters(mut self, method: usize) -> Self {
        let p = &mut self.record.outcome.as_mut().unwrap().parameters;
        (p.method, p.shipped) = (method, method);
        self
    }

    pub fn training_seconds(mut self, seconds: f64) -> Self {
        self.record.cost.as_mut().unwrap().training_seconds = seconds;
        self
    }

    pub fn memory(mut self, bytes: Option<u64>) -> Self {
        self.record.cost.as_mut().unwrap().peak_memory_bytes = bytes;
        self
    }

    pub fn file_bytes(mut self, bytes: u64) -> Self {
        self.record.cost.as_mut().unwrap().file_bytes = bytes;
        self
    }

    /// Batch 1 over real sentences; replaces an earlier value of the same variant.
    pub fn latency(mut self, variant: &str, p50: f64, p99: f64) -> Self {
        let all = &mut self.record.cost.as_mut().unwrap().latency;
        all.retain(|l| l.variant != variant);
        all.push(Latency {
            variant: variant.into(),
            batch: 1,
            length: None,
            samples: 200,
            p50_ms: p50,
            p90_ms: (p50 + p99) / 2.0,
            p99_ms: p99,
        });
        self
    }

    pub fn check(mut self, name: &str, passed: bool, detail: &str) -> Self {
        let checks = &mut self.record.outcome.as_mut().unwrap().checks;
        checks.push(Check {
            name: name.into(),
            passed,
            detail: detail.into(),
        });
        self
    }

    pub fn ended(mut self, status: Status) -> Self {
        if status != Status::Ok {
            (self.record.outcome, self.record.cost) = (None, None);
        }
        self.record.status = status;
        self
    }

    pub fn stand_in_for(mut self, asked: &str) -> Self {
        self.record.asked.dataset.stand_in_for = Some(asked.into());
        self.record.asked.dataset.name = "movie_snippets".into();
        self
    }

    /// Any other change.
    pub fn with(mut self, change: impl FnOnce(&mut RunRecord)) -> Self {
        change(&mut self.record);
        self
    }

    /// The record. Its id is a digest of what was asked, as in real ones, though a simpler digest.
    pub fn record(self) -> RunRecord {
        identified(self.record)
    }
}

/// The record with the id that follows from what was asked.
fn identified(mut record: RunRecord) -> RunRecord {
    let asked = serde_json::to_vec(&record.asked).unwrap();
    // FNV-1a, 64 bits.
    let digest = asked.iter().fold(0xcbf2_9ce4_8422_2325_u64, |h, &b| {
        (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)
    });
    record.id = format!("{digest:016x}");
    record
}

/// The same runs on another data set, which stands in for `asked` where that is given.
pub fn on_data(records: Vec<RunRecord>, name: &str, asked: Option<&str>) -> Vec<RunRecord> {
    let rename = |mut record: RunRecord| {
        record.asked.dataset.name = name.into();
        record.asked.dataset.stand_in_for = asked.map(Into::into);
        identified(record)
    };
    records.into_iter().map(rename).collect()
}

/// Of each method its family and number in it, as the registry has them, and what it reaches and costs in [`realistic`]: accuracy,
/// parameters, seconds, bytes of memory, and median latency as a multiple of the backbone's, as trained and merged.
const METHODS: &str = "\
prompt_tuning    prompt    0 0.817     7680 131   455e6 1.58 -
lora             lora      0 0.851    73728  96   391e6 1.16 1
adapter          adapter   0 0.849   226080  88   402e6 1.12 -
head_only        head      0 0.802        0   9.5 301e6 1    -
full             whole     0 0.866 22713216 182   682e6 1    -
dora             lora      1 0.852    78336 118   420e6 1.31 1.01
bitfit           selective 0 0.838    20736  71   371e6 1    1
ia3              selective 1 0.829    13824  77   377e6 1.05 1
layer_norm       selective 2 0.831     9984  74   371e6 1    1
prefix_tuning    prompt    1 0.836    92160 101   405e6 1.22 -
p_tuning         prompt    2 0.814   231552 137   460e6 1.58 -
pissa            lora      2 0.854    73728  97   391e6 1.16 1
olora            lora      3 0.853    73728  97.5 391e6 1.16 1
lora_plus        lora      4 0.855    73728  96.5 391e6 1.16 1
parallel_adapter adapter   2 0.848   115200  84   396e6 1.09 -
compacter        adapter   1 0.835     9408  99   398e6 1.18 -
adapter_drop     adapter   3 0.842   113040  61   350e6 1.06 -
mam              combined  0 0.853   207360 121   431e6 1.29 -
majority         floor     0 0.509        0   0.2 290e6 1    -
random_features  floor     1 0.583        0   9.6 301e6 1    -
linear_probe     head      1 0.84     50000  90   400e6 1.1  -
knn              floor     5 0.84     50000  90   400e6 1.1  -
";

/// A line of [`METHODS`].
struct Facts {
    kind: Option<Kind>,
    accuracy: f64,
    parameters: usize,
    seconds: f64,
    memory: f64,
    latency: (f64, Option<f64>),
}

fn facts(method: &str) -> Facts {
    let mut lines = METHODS.lines();
    let line = lines.find(|line| line.split_whitespace().next() == Some(method));
    let line = line.unwrap_or("- - - 0.84 50000 90 400e6 1.1 -");
    let words: Vec<&str> = line.split_whitespace().collect();
    let number = |i: usize| words[i].parse::<f64>();
    Facts {
        kind: words[2].parse().ok().map(|member| Kind {
            family: words[1].into(),
            member,
        }),
        accuracy: number(3).unwrap(),
        parameters: number(4).unwrap() as usize,
        seconds: number(5).unwrap(),
        memory: number(6).unwrap(),
        latency: (number(7).unwrap(), number(8).ok()),
    }
}

/// A number in [0, 1) that depends on these words and numbers only.
fn chance(what: &str, numbers: &[u64]) -> f64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let bytes = what.bytes().map(u64::from).chain(numbers.iter().copied());
    for b in bytes {
        hash = (hash ^ b).wrapping_mul(0x100_0000_01b3);
        hash ^= hash >> 29;
    }
    (hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 11) as f64 / (1u64 << 53) as f64
}

/// One run with numbers as a small transformer has them on SST-2: 872 validation examples, 500 steps.
/// Invented, for looking at pages and plots; nothing here was measured.
pub fn realistic(method: &str, seed: u64) -> Sample {
    const EXAMPLES: usize = 872;
    const STEPS: usize = 500;
    let f = facts(method);
    let wobble = |what: &str, size: f64| {
        1.0 + size * (2.0 * chance(what, &[seed, method.len() as u64]) - 1.0)
    };
    let labels: Vec<u32> = (0..EXAMPLES as u64)
        .map(|i| u32::from(chance("label", &[i]) < 0.509))
        .collect();
    // Methods fail on the same hard examples, mostly.
    let hard: Vec<f64> = (0..EXAMPLES as u64)
        .map(|i| chance("hard", &[i]) + 0.35 * chance(method, &[seed, i]))
        .collect();
    let accuracy = f.accuracy * wobble("accuracy", 0.006);
    let mut sorted = hard.clone();
    sorted.sort_by(f64::total_cmp);
    let limit = sorted[((accuracy * EXAMPLES as f64) as usize).min(EXAMPLES - 1)];
    let losses: Vec<f32> = (0..STEPS)
        .map(|step| {
            let floor = 0.75 * (1.0 - f.accuracy) + 0.24;
            let start = 0.69 - floor;
            let speed = 40.0 * wobble("speed", 0.3) + 120.0 * (0.87 - f.accuracy) * 10.0;
            let noise = 0.16 * (chance(method, &[seed, step as u64, 7]) - 0.5);
            (floor + start * (-(step as f64) / speed).exp() + noise) as f32
        })
        .collect();
    let s = Sample::new(method)
        .seed(seed)
        .predictions(&labels, |i| hard[i] < limit)
        .parameters(f.parameters)
        .training_seconds(f.seconds * wobble("seconds", 0.05))
        .memory(Some((f.memory * wobble("memory", 0.02)) as u64))
        .file_bytes(4 * (f.parameters as u64 + 770) + 600)
        .latency(
            "backbone",
            4.1 * wobble("backbone", 0.02),
            6.2 * wobble("tail", 0.08),
        )
        .latency(
            "unmerged",
            4.1 * f.latency.0 * wobble("unmerged", 0.02),
            6.3 * f.latency.0 * wobble("tail", 0.08),
        )
        .check("gradients_reach_every_variable", true, "12 of 12 variables")
        .check(
            "order_is_shared",
            true,
            "the digest of the order is the recipe's",
        );
    let s = match f.latency.1 {
        Some(merged) => s
            .latency(
                "merged",
                4.1 * merged * wobble("merged", 0.02),
                6.2 * merged * wobble("tail", 0.08),
            )
            .check(
                "merged_equals_unmerged",
                true,
                "largest difference of logits 3.1e-7",
            ),
        None => s,
    };
    s.with(|r| {
        r.asked.method.config = match method {
            "lora" => json!({"rank": 8, "alpha": 16.0, "target_modules": ["query", "value"], "dropout": 0.0, "learning_rate": 1e-3, "weight_decay": 0.01}),
            "prompt_tuning" => json!({"virtual_tokens": 20, "init": "sampled_vocab", "learning_rate": 1e-2, "weight_decay": 0.0}),
            "adapter" => json!({"placement": "houlsby", "reduction_factor": 16, "activation": "relu", "learning_rate": 1e-3, "weight_decay": 0.01}),
            _ => json!({"learning_rate": 5e-5, "weight_decay": 0.01}),
        };
        r.asked.recipe = json!({"budget": "standard", "batch": 32, "steps": STEPS, "max_tokens": 128, "beta1": 0.9, "beta2": 0.999, "clip": 1.0, "warmup": 0.06, "evaluations": 5});
        r.asked.dataset.train_examples = 67_349;
        r.circumstances.started = format!("2026-01-02T03:{:02}:05Z", (seed * 17 + method.len() as u64) % 60);
        let o = r.outcome.as_mut().unwrap();
        o.loss = losses;
        let last = o.evaluations.last().unwrap().metrics["accuracy"];
        o.evaluations = (1..=5)
            .map(|k| {
                let step = k * STEPS / 5;
                let missing = (last - 0.52) * 0.35 * (-(k as f64 - 1.0) / 1.3).exp();
                let value = match k {
                    5 => last,
                    _ => last - missing * wobble(&format!("evaluation {k}"), 0.5) ,
                };
                Evaluation {
                    step,
                    loss: 0.75 * (1.0 - value) + 0.27,
                    metrics: BTreeMap::from([("accuracy".into(), value)]),
                    predicted: String::new(),
                    examples: None,
                }
            })
            .collect();
        let c = r.cost.as_mut().unwrap();
        c.step_seconds = vec![(c.training_seconds / STEPS as f64) as f32; STEPS];
        c.tokens = 402_113;
    })
}

/// Every method with the seeds 0 … n-1.
pub fn realistic_comparison(methods: &[&str], seeds: u64) -> Vec<RunRecord> {
    let runs = methods
        .iter()
        .flat_map(|m| (0..seeds).map(|s| realistic(m, s)));
    runs.map(Sample::record).collect()
}

/// The five methods that every comparison has.
pub const FIVE: [&str; 5] = ["prompt_tuning", "lora", "adapter", "head_only", "full"];

/// These five and more: twenty methods.
pub fn twenty() -> Vec<&'static str> {
    let names = METHODS.lines().filter_map(|line| line.split(' ').next());
    names.take(20).collect()
}

/// A comparison with something of everything: a failed run, a diverged and an invalid method.
pub fn troubled_comparison(seeds: u64) -> Vec<RunRecord> {
    let mut records = realistic_comparison(&FIVE, seeds);
    let failed = Status::Failed {
        error: "cannot allocate 2.1 GB".into(),
    };
    records.push(realistic("prefix_tuning", 0).ended(failed).record());
    records.push(
        realistic("ia3", 0)
            .ended(Status::Diverged {
                step: 12,
                reason: "gradient of encoder.3.key.ia3 is not finite".into(),
            })
            .record(),
    );
    records.push(
        realistic("bitfit", 0)
            .check(
                "frozen_unchanged",
                false,
                "the digest of encoder.0.query.weight changed",
            )
            .record(),
    );
    records
}
