//! Builds records with declared results and times, so that tests can assert exact figures.
//! Shared by the unit tests, the integration tests and the demo.
#![allow(dead_code, clippy::unwrap_used)]

use std::collections::BTreeMap;

use peftbench_reports::record::*;
use serde_json::{Value, json};

/// A record in the making. The defaults are a sound run on ten examples of two classes.
#[derive(Clone)]
pub struct Sample {
    record: RunRecord,
}

impl Sample {
    /// A run of this method that ended well: 9 of 10 examples right.
    pub fn new(method: &str) -> Self {
        let labels: Vec<u32> = (0..10).map(|i| i % 2).collect();
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
                },
                backbone: BackboneFacts {
                    name: "minilm".into(),
                    digest: "b".repeat(64),
                    architecture: "bert".into(),
                    layers: 6,
                    hidden: 384,
                    parameters: 22_713_216,
                    pooling: "mean".into(),
                },
                method: MethodFacts {
                    name: method.into(),
                    variant: String::new(),
                    config: json!({}),
                },
                recipe: json!({"batch": 32, "steps": 500, "schedule": {"warmup": 0.1}}),
                seed: 0,
                op_path: "fast".into(),
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
                predictions: Predictions {
                    labels: vec![],
                    logits: vec![],
                },
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
                version: "0.1.0".into(),
                revision: Some("0123abc".into()),
                processor: "Declared CPU".into(),
                threads: 2,
                system: "linux-x86_64".into(),
                libraries: BTreeMap::from([("candle-core".into(), "0.11.1".into())]),
            },
        };
        Self { record }
            .predictions(&labels, |i| i != 0)
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
        };
        let accuracy = correct as f64 / labels.len() as f64;
        let last = Evaluation {
            step: 4,
            loss: 0.4,
            metrics: BTreeMap::from([("accuracy".into(), accuracy)]),
        };
        outcome.evaluations = vec![
            Evaluation {
                step: 2,
                loss: 0.6,
                metrics: BTreeMap::from([("accuracy".into(), accuracy / 2.0)]),
            },
            last,
        ];
        self.record.asked.dataset.validation_examples = labels.len();
        self
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
    pub fn record(mut self) -> RunRecord {
        let asked = serde_json::to_vec(&self.record.asked).unwrap();
        // FNV-1a, 64 bits.
        let digest = asked.iter().fold(0xcbf2_9ce4_8422_2325_u64, |h, &b| {
            (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)
        });
        self.record.id = format!("{digest:016x}");
        self.record
    }
}
