//! The keys of a `config.json`, asked for one by one: what is wrong with any of them is told together.

use kernels::Activation;
use serde_json::{Map, Value};

pub(crate) struct Keys<'a> {
    json: &'a Map<String, Value>,
    problems: Vec<String>,
}

impl<'a> Keys<'a> {
    pub(crate) fn new(json: &'a Map<String, Value>) -> Self {
        Self {
            json,
            problems: Vec::new(),
        }
    }

    /// What was wrong so far.
    pub(crate) fn problems(self) -> Vec<String> {
        self.problems
    }

    pub(crate) fn wrong(&mut self, key: &str, value: &Value, accepted: &str) {
        let value: String = value.to_string().chars().take(60).collect();
        self.problems.push(format!(
            "{key}: {value} is not supported; accepted: {accepted}"
        ));
    }

    /// Whether the key is there and null.
    pub(crate) fn is_null(&self, key: &str) -> bool {
        self.json.get(key).is_some_and(Value::is_null)
    }

    /// A value as it stands.
    pub(crate) fn get(&self, key: &str) -> Option<&'a Value> {
        self.json.get(key)
    }

    /// True or false, or the library's own where it is missing. Null is false, as in Python.
    pub(crate) fn boolean(&mut self, key: &str, default: bool) -> bool {
        match self.json.get(key) {
            None => default,
            Some(Value::Null) => false,
            Some(Value::Bool(value)) => *value,
            Some(value) => {
                self.wrong(key, value, "true or false");
                default
            }
        }
    }

    /// The id of a token; `None` where there is none.
    pub(crate) fn padding(&mut self, key: &str) -> Option<u32> {
        match self.json.get(key) {
            None | Some(Value::Null) => None,
            Some(value) => match value.as_i64().filter(|id| *id >= -1) {
                Some(id) => u32::try_from(id).ok(),
                None => {
                    self.wrong(key, value, "the id of a token, or null");
                    None
                }
            },
        }
    }

    /// A count, or the library's own where it is missing.
    pub(crate) fn size(&mut self, key: &str, default: usize) -> usize {
        match self.json.get(key) {
            None => default,
            Some(value) => match value.as_u64().filter(|n| *n <= u64::from(u32::MAX)) {
                Some(n) => n as usize,
                None => {
                    self.wrong(key, value, "a whole number from 0 to 4294967295");
                    default
                }
            },
        }
    }

    /// A whole number, which may be negative; `None` for null.
    pub(crate) fn integer(&mut self, key: &str, default: i64) -> Option<i64> {
        match self.json.get(key) {
            None => Some(default),
            Some(Value::Null) => None,
            Some(value) => {
                let small = value.as_i64().filter(|n| n.abs() <= i64::from(u32::MAX));
                if small.is_none() {
                    self.wrong(key, value, "a whole number");
                }
                small.or(Some(default))
            }
        }
    }

    pub(crate) fn number(&mut self, key: &str, default: f64) -> f64 {
        match self.json.get(key) {
            None => default,
            Some(value) => value.as_f64().filter(|n| n.is_finite()).unwrap_or_else(|| {
                self.wrong(key, value, "a number");
                default
            }),
        }
    }

    /// An activation by its name in transformers.
    pub(crate) fn activation(&mut self, key: &str, default: Activation) -> Activation {
        let Some(value) = self.json.get(key) else {
            return default;
        };
        let known = match value.as_str() {
            Some("gelu" | "gelu_python") => Some(Activation::Gelu),
            Some(
                "gelu_new" | "gelu_fast" | "gelu_accurate" | "gelu_pytorch_tanh"
                | "gelu_python_tanh",
            ) => Some(Activation::GeluTanh),
            Some("relu") => Some(Activation::Relu),
            Some("silu" | "swish") => Some(Activation::Swish),
            Some("tanh") => Some(Activation::Tanh),
            _ => None,
        };
        known.unwrap_or_else(|| {
            let accepted = "gelu, gelu_python, gelu_new, gelu_fast, gelu_accurate, gelu_pytorch_tanh, \
                            gelu_python_tanh, relu, silu, swish, tanh";
            self.wrong(key, value, accepted);
            default
        })
    }

    /// Refuses a key whose value would change the numbers in a way that is not followed.
    pub(crate) fn only(&mut self, key: &str, accepted: &str, ok: impl Fn(&Value) -> bool) {
        if let Some(value) = self.json.get(key).filter(|v| !ok(v)) {
            self.wrong(key, value, accepted);
        }
    }
}

/// What Python takes for true.
pub(crate) fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(b) => *b,
        Value::Number(n) => n.as_f64() != Some(0.0),
        Value::String(s) => !s.is_empty(),
        Value::Array(a) => !a.is_empty(),
        Value::Object(o) => !o.is_empty(),
    }
}
