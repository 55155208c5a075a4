//! Floating-point operations that a pass *needs*, counted from the lengths of the examples: the yardstick's numerator.
//!
//! A product of `[m, k]` and `[k, n]` needs `2 m k n`. A frozen product is needed twice in a step, forward and for the
//! gradient of its input; a trained one three times. Not needed, and not counted although some of it is computed: scores
//! made again in the backward, norms, activations, the optimiser; below the first trainable everything of the backward;
//! in the last layer all rows but the one that is read. A method that is not known here counts as its backbone's share
//! only, with nothing in the backward of its lowest layer: a lower bound, which makes its ratio look worse, not better.

use std::ops::{Add, Mul};

use backbone::Config;
use methods::{PeftMethod, Resolved};

/// Operations that a pass needs.
#[derive(Clone, Copy, Default)]
pub struct Needed {
    /// Of products with frozen weights, which have a precision of their own.
    pub frozen: f64,
    /// Of all others, which are in f32.
    pub other: f64,
}

impl Needed {
    pub fn all(self) -> f64 {
        self.frozen + self.other
    }
}

impl Add for Needed {
    type Output = Self;
    fn add(self, more: Self) -> Self {
        Self {
            frozen: self.frozen + more.frozen,
            other: self.other + more.other,
        }
    }
}

impl Mul<Needed> for f64 {
    type Output = Needed;
    fn mul(self, needed: Needed) -> Needed {
        Needed {
            frozen: self * needed.frozen,
            other: self * needed.other,
        }
    }
}

fn other(operations: f64) -> Needed {
    Needed {
        frozen: 0.0,
        other: operations,
    }
}

/// Virtual tokens that are rows of every layer; a prefix is keys and values only, and is not counted.
pub fn virtual_rows(resolved: &Resolved, method: &dyn PeftMethod) -> usize {
    match resolved.entry.name {
        "prompt_tuning" | "p_tuning" => method.virtual_tokens(),
        _ => 0,
    }
}

/// The shapes that enter the count.
pub struct Work<'a> {
    pub config: &'a Config,
    /// Tokens per example, virtual ones included.
    pub lengths: Vec<usize>,
}

/// What one layer's parts need, in operations.
struct Layer {
    query: f64,
    key: f64,
    value: f64,
    attention: f64,
    /// The projection after attention and the feed-forward network.
    after: f64,
    /// Rows of the query side.
    rows: f64,
    /// Rows of keys and values.
    all: f64,
}

impl Work<'_> {
    pub fn new<'a>(config: &'a Config, lengths: &[usize], virtual_rows: usize) -> Work<'a> {
        let lengths = lengths.iter().map(|l| l + virtual_rows).collect();
        Work { config, lengths }
    }

    fn layer(&self, index: usize) -> Layer {
        let (h, i) = (self.config.hidden as f64, self.config.intermediate as f64);
        let all = self.lengths.iter().sum::<usize>() as f64;
        let last = index + 1 == self.config.layers;
        let rows = if last { self.lengths.len() as f64 } else { all };
        let scores: f64 = self
            .lengths
            .iter()
            .map(|l| if last { *l } else { l * l } as f64)
            .sum();
        Layer {
            query: 2.0 * rows * h * h,
            key: 2.0 * all * h * h,
            value: 2.0 * all * h * h,
            attention: 4.0 * scores * h,
            after: 2.0 * rows * (h * h + 2.0 * h * i),
            rows,
            all,
        }
    }

    /// A forward pass of the bare backbone.
    pub fn forward(&self) -> Needed {
        let layers = (0..self.config.layers).map(|index| {
            let l = self.layer(index);
            Needed {
                frozen: l.query + l.key + l.value + l.after,
                other: l.attention,
            }
        });
        layers.fold(Needed::default(), Needed::add)
    }

    /// Bytes of the weights that a forward pass reads, if each of a frozen one takes so many.
    pub fn weight_bytes(&self, each: usize) -> usize {
        let (h, i) = (self.config.hidden, self.config.intermediate);
        self.config.layers * (4 * h * h + 2 * h * i) * each
    }

    /// A forward pass with a method whose own operations are known.
    pub fn forward_with(&self, resolved: &Resolved) -> Needed {
        match resolved.entry.name {
            // All of it is trained.
            "full" => other(self.forward().all()),
            _ => self.forward() + other(self.own(resolved)),
        }
    }

    /// The method's own operations in a forward pass.
    fn own(&self, resolved: &Resolved) -> f64 {
        let h = self.config.hidden as f64;
        let number = |key: &str| resolved.config[key].as_f64().unwrap_or_default();
        (0..self.config.layers)
            .filter(|index| acts_on(resolved, *index))
            .map(|index| {
                let l = self.layer(index);
                match resolved.entry.name {
                    "lora" => {
                        let r = number("rank");
                        targets(resolved)
                            .map(|(target, i, o)| {
                                let rows = if matches!(target, "key" | "value") {
                                    l.all
                                } else {
                                    l.rows
                                };
                                2.0 * rows * r * (i + o) * h
                            })
                            .sum()
                    }
                    "adapter" => {
                        let places = if resolved.config["placement"] == "houlsby" {
                            2.0
                        } else {
                            1.0
                        };
                        places * 4.0 * l.rows * h * (h / number("reduction_factor")).floor()
                    }
                    _ => 0.0,
                }
            })
            .sum()
    }

    /// A training step.
    pub fn step(&self, resolved: &Resolved, method: &dyn PeftMethod) -> Needed {
        let forward = self.forward_with(resolved);
        match resolved.entry.name {
            // Nothing but a head is trained, or nothing at all.
            _ if method.vars().is_empty() => forward,
            // Every product three times, but nothing needs the gradient of the embeddings' lookup as a product.
            "full" => 3.0 * forward,
            "prompt_tuning" => 2.0 * forward,
            name => {
                let lowest = lowest_layer(method);
                let mut backward = Needed::default();
                for index in lowest..self.config.layers {
                    let l = self.layer(index);
                    let h = self.config.hidden as f64;
                    let (frozen, attention) = match name {
                        _ if index > lowest => {
                            (l.query + l.key + l.value + l.after, 2.0 * l.attention)
                        }
                        // Query and value get gradients, their inputs and the keys do not.
                        "lora" => (l.after, 1.5 * l.attention),
                        "adapter" if resolved.config["placement"] == "houlsby" => {
                            (l.after - 2.0 * l.rows * h * h, 0.0)
                        }
                        _ => (0.0, 0.0),
                    };
                    let other = attention;
                    backward = backward + Needed { frozen, other };
                }
                // The method's own products are trained: their input's gradient and their weight's.
                forward + backward + 2.0 * other(self.own(resolved))
            }
        }
    }
}

fn acts_on(resolved: &Resolved, layer: usize) -> bool {
    match resolved.config.get("layers").and_then(|l| l.as_array()) {
        Some(these) => these.iter().any(|l| l.as_u64() == Some(layer as u64)),
        None => true,
    }
}

/// LoRA's targets with the sizes of input and output in units of H (the feed-forward network has 4 H inside).
fn targets(resolved: &Resolved) -> impl Iterator<Item = (&str, f64, f64)> {
    let names: Vec<&str> = match resolved.config["target_modules"].as_array() {
        Some(names) => names.iter().filter_map(|name| name.as_str()).collect(),
        // The choice of a BERT.
        None => vec!["query", "value"],
    };
    names.into_iter().map(|name| match name {
        "intermediate" => (name, 1.0, 4.0),
        "output" => (name, 4.0, 1.0),
        _ => (name, 1.0, 1.0),
    })
}

/// The lowest layer with a variable, from the names `encoder.N.…`; 0 if one lies elsewhere.
fn lowest_layer(method: &dyn PeftMethod) -> usize {
    let layer = |name: &str| {
        name.strip_prefix("encoder.")?
            .split('.')
            .next()?
            .parse()
            .ok()
    };
    let vars = method.vars();
    vars.iter()
        .map(|(name, _)| layer(name).unwrap_or(0))
        .min()
        .unwrap_or(0)
}
