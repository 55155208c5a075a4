//! GGUF: configuration, vocabulary and tensors of a decoder in one file, as llama.cpp's converter writes it.
//!
//! The header is read here, with every count and length checked against the file before anything is allocated for it; the
//! blocks of quantised tensors are candle-core's. The converter turns the rows of Llama's query and key matrices from pairs
//! `(i, i + d/2)` to neighbours, for interleaved rotary positions: they are turned back, so that one layout is computed.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::Mutex,
};

use candle_core::{
    Device, Tensor,
    quantized::{GgmlDType, ggml_file::qtensor_from_ggml},
};
use kernels::{BlockKind, Quantised};
use serde_json::{Map, Value, json};

use crate::{
    Architecture, Error, Result, Rotary, RotaryScaling,
    checks::{check_finite, open_regular},
};

/// The first bytes of a file.
const MAGIC: &[u8; 4] = b"GGUF";
/// Families that are read.
const FAMILIES: [&str; 3] = ["llama", "qwen2", "qwen3"];
/// The tensor with what each pair's rotary angle is divided by, in place of a scaling that the header names.
const FACTORS: &str = "rope_freqs.weight";
/// Where tensors begin unless the file says otherwise.
const ALIGNMENT: u64 = 32;
/// The longest list of numbers that is kept (the kinds of tokens); longer ones are passed over.
const MOST_NUMBERS: u64 = 1 << 22;

/// Whether a file begins as a GGUF does.
pub fn is_gguf(path: &Path) -> bool {
    let mut head = [0; 4];
    let read = open_regular(path).is_ok_and(|mut file| file.read_exact(&mut head).is_ok());
    read && &head == MAGIC
}

/// A value of the header.
#[derive(Clone, Debug, PartialEq)]
enum Field {
    Whole(i64),
    Number(f64),
    Truth(bool),
    Text(String),
    Texts(Vec<String>),
    Wholes(Vec<i64>),
    /// A list of something that nobody asks for.
    Other,
}

/// Kinds of tensors.
const KINDS: [(u32, GgmlDType); 11] = [
    (0, GgmlDType::F32),
    (1, GgmlDType::F16),
    (2, GgmlDType::Q4_0),
    (3, GgmlDType::Q4_1),
    (6, GgmlDType::Q5_0),
    (7, GgmlDType::Q5_1),
    (8, GgmlDType::Q8_0),
    (12, GgmlDType::Q4K),
    (13, GgmlDType::Q5K),
    (14, GgmlDType::Q6K),
    (30, GgmlDType::BF16),
];

#[derive(Debug)]
struct Info {
    shape: Vec<usize>,
    kind: GgmlDType,
    /// Bytes from the file's start, and how many.
    place: (u64, usize),
}

/// An open GGUF file whose header has been checked against its length.
#[derive(Debug)]
pub struct Gguf {
    path: PathBuf,
    file: Mutex<File>,
    fields: BTreeMap<String, Field>,
    tensors: BTreeMap<String, Info>,
}

/// Reads the header and knows how much of the file is left.
struct Header<'a> {
    path: &'a Path,
    file: BufReader<File>,
    left: u64,
    wide: bool,
}

impl Header<'_> {
    fn bad<T>(&self, what: impl Into<String>) -> Result<T> {
        Err(Error::content(self.path, what))
    }

    /// Refuses what the rest of the file cannot hold.
    fn holds(&self, bytes: u64, what: &str) -> Result<()> {
        if bytes > self.left {
            return self.bad(format!(
                "damaged header: {what} should take {bytes} bytes but {} are left; cut short, or not a GGUF; fetch it again",
                self.left
            ));
        }
        Ok(())
    }

    fn bytes<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        self.holds(N as u64, what)?;
        let mut bytes = [0; N];
        let read = self.file.read_exact(&mut bytes);
        read.map_err(|error| Error::Read {
            path: self.path.to_owned(),
            error,
        })?;
        self.left -= N as u64;
        Ok(bytes)
    }

    fn u32(&mut self, what: &str) -> Result<u32> {
        self.bytes(what).map(u32::from_le_bytes)
    }

    fn u64(&mut self, what: &str) -> Result<u64> {
        self.bytes(what).map(u64::from_le_bytes)
    }

    /// A count or a length: of four bytes in version 1.
    fn count(&mut self, what: &str) -> Result<u64> {
        match self.wide {
            true => self.u64(what),
            false => self.u32(what).map(u64::from),
        }
    }

    fn text(&mut self, what: &str) -> Result<String> {
        let length = self.count(what)?;
        self.holds(length, what)?;
        let mut bytes = vec![0; length as usize];
        let read = self.file.read_exact(&mut bytes);
        read.map_err(|error| Error::Read {
            path: self.path.to_owned(),
            error,
        })?;
        self.left -= length;
        // Some writers end a text with a zero.
        while bytes.last() == Some(&0) {
            bytes.pop();
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn skip(&mut self, bytes: u64, what: &str) -> Result<()> {
        self.holds(bytes, what)?;
        let moved = self.file.seek_relative(bytes as i64);
        moved.map_err(|error| Error::Read {
            path: self.path.to_owned(),
            error,
        })?;
        self.left -= bytes;
        Ok(())
    }

    fn field(&mut self, kind: u32, what: &str) -> Result<Field> {
        Ok(match kind {
            0 => Field::Whole(u8::from_le_bytes(self.bytes(what)?).into()),
            1 => Field::Whole(i8::from_le_bytes(self.bytes(what)?).into()),
            2 => Field::Whole(u16::from_le_bytes(self.bytes(what)?).into()),
            3 => Field::Whole(i16::from_le_bytes(self.bytes(what)?).into()),
            4 => Field::Whole(self.u32(what)?.into()),
            5 => Field::Whole(i32::from_le_bytes(self.bytes(what)?).into()),
            // The shortest decimal that is this number: 1e-5, not 9.999999747e-6.
            6 => Field::Number(decimal(f32::from_le_bytes(self.bytes(what)?))),
            7 => match self.bytes(what)? {
                [0] => Field::Truth(false),
                [1] => Field::Truth(true),
                [other] => {
                    return self.bad(format!(
                        "damaged header: {what} is {other}, neither true nor false"
                    ));
                }
            },
            8 => Field::Text(self.text(what)?),
            9 => self.list(what)?,
            10 => match i64::try_from(self.u64(what)?) {
                Ok(n) => Field::Whole(n),
                Err(_) => return self.bad(format!("damaged header: {what} is beyond 2⁶³")),
            },
            11 => Field::Whole(i64::from_le_bytes(self.bytes(what)?)),
            12 => Field::Number(f64::from_le_bytes(self.bytes(what)?)),
            other => {
                return self.bad(format!(
                    "damaged header: {what} is of the unknown type {other}"
                ));
            }
        })
    }

    fn list(&mut self, what: &str) -> Result<Field> {
        let kind = self.u32(what)?;
        let length = self.count(what)?;
        let least = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            8 if self.wide => 8,
            8 => 4,
            10..=12 => 8,
            other => {
                return self.bad(format!(
                    "damaged header: {what} is a list of the type {other}, which is not read"
                ));
            }
        };
        let bytes = length.saturating_mul(least);
        self.holds(bytes, what)?;
        Ok(match kind {
            8 => {
                let texts = (0..length).map(|_| self.text(what));
                Field::Texts(texts.collect::<Result<_>>()?)
            }
            4 | 5 if length <= MOST_NUMBERS => {
                let numbers = (0..length).map(|_| self.bytes(what).map(i32::from_le_bytes));
                Field::Wholes(numbers.map(|n| n.map(i64::from)).collect::<Result<_>>()?)
            }
            _ => {
                self.skip(bytes, what)?;
                Field::Other
            }
        })
    }
}

fn decimal(x: f32) -> f64 {
    x.to_string().parse().unwrap_or(f64::from(x))
}

impl Gguf {
    /// Opens a GGUF file.
    ///
    /// # Errors
    /// If it cannot be read, is cut short or damaged, or is of a family or a kind that is not read.
    pub fn open(path: &Path) -> Result<Self> {
        let io = |error| Error::Read {
            path: path.to_owned(),
            error,
        };
        let file = open_regular(path)?;
        let length = file.metadata().map_err(io)?.len();
        let mut header = Header {
            path,
            file: BufReader::new(file.try_clone().map_err(io)?),
            left: length,
            wide: true,
        };
        if &header.bytes::<4>("its beginning")? != MAGIC {
            return header.bad("is not a GGUF file");
        }
        let version = header.u32("the version")?;
        if !(1..=3).contains(&version) {
            return header.bad(format!("is GGUF version {version}; accepted: 1, 2, 3"));
        }
        header.wide = version > 1;
        let tensors = header.count("the number of tensors")?;
        let fields = header.count("the number of fields")?;
        let prefix = if header.wide { 8 } else { 4 };
        let least = tensors
            .saturating_mul(prefix + 16)
            .saturating_add(fields.saturating_mul(prefix + 5));
        header.holds(least, &format!("{tensors} tensors and {fields} fields"))?;

        let mut read = BTreeMap::new();
        for _ in 0..fields {
            let key = header.text("the name of a field")?;
            let kind = header.u32(&key)?;
            let value = header.field(kind, &key)?;
            read.insert(key, value);
        }
        let mut found: Vec<(String, Vec<usize>, GgmlDType, u64)> = Vec::new();
        for _ in 0..tensors {
            let name = header.text("the name of a tensor")?;
            let rank = header.u32(&name)?;
            if rank > 4 {
                return header.bad(format!("tensor '{name}' has {rank} dimensions"));
            }
            let mut shape = Vec::new();
            for _ in 0..rank {
                shape.push(header.count(&name)? as usize);
            }
            shape.reverse();
            let kind = header.u32(&name)?;
            let Some((_, kind)) = KINDS.iter().find(|(known, _)| *known == kind) else {
                return header.bad(format!(
                    "tensor '{name}' is of the unknown kind {kind}; accepted: F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, \
                     Q5_K, Q6_K"
                ));
            };
            let offset = header.u64(&name)?;
            found.push((name, shape, *kind, offset));
        }
        let alignment = match read.get("general.alignment") {
            None => ALIGNMENT,
            Some(Field::Whole(n)) if *n > 0 && n % 8 == 0 => *n as u64,
            Some(other) => {
                return header.bad(format!(
                    "general.alignment: {other:?} is not a multiple of 8"
                ));
            }
        };
        let start = (length - header.left).next_multiple_of(alignment);
        let mut tensors = BTreeMap::new();
        for (name, shape, kind, offset) in found {
            let elements = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
            let last = shape.last().copied().unwrap_or(1);
            let size = elements
                .filter(|_| last.is_multiple_of(kind.block_size()))
                .and_then(|n| (n / kind.block_size()).checked_mul(kind.type_size()));
            let Some(size) = size else {
                return header.bad(format!(
                    "tensor '{name}' has the shape {shape:?}, which blocks of {} values do not fill",
                    kind.block_size()
                ));
            };
            let first = start.saturating_add(offset);
            if !offset.is_multiple_of(alignment) || first.saturating_add(size as u64) > length {
                return header.bad(format!(
                    "tensor '{name}' should take {size} bytes from byte {first} on, but the file has {length}: cut short or \
                     damaged; fetch it again"
                ));
            }
            let info = Info {
                shape,
                kind,
                place: (first, size),
            };
            if tensors.insert(name.clone(), info).is_some() {
                return header.bad(format!("tensor '{name}' is there twice"));
            }
        }
        let gguf = Self {
            path: path.to_owned(),
            file: Mutex::new(file),
            fields: read,
            tensors,
        };
        gguf.family()?;
        Ok(gguf)
    }

    fn bad<T>(&self, what: impl Into<String>) -> Result<T> {
        Err(Error::content(&self.path, what))
    }

    /// The family that it names.
    fn family(&self) -> Result<&str> {
        let family = match self.text("general.architecture") {
            Some(family) if FAMILIES.contains(&family) => family,
            other => {
                let name = other.unwrap_or_default();
                return self.bad(format!(
                    "general.architecture: '{name}' is not read from GGUF{}; accepted: {}",
                    Architecture::because(name),
                    FAMILIES.join(", ")
                ));
            }
        };
        if self.whole("expert_count").is_some_and(|n| n > 0) {
            return self.bad("is a mixture of experts, which is not computed here");
        }
        Ok(family)
    }

    /// A text of the header.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.fields.get(key) {
            Some(Field::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// A list of texts of the header.
    pub fn texts(&self, key: &str) -> Option<&[String]> {
        match self.fields.get(key) {
            Some(Field::Texts(texts)) => Some(texts),
            _ => None,
        }
    }

    /// A list of whole numbers of the header.
    pub fn wholes(&self, key: &str) -> Option<&[i64]> {
        match self.fields.get(key) {
            Some(Field::Wholes(numbers)) => Some(numbers),
            _ => None,
        }
    }

    /// True or false, from the header.
    pub fn truth(&self, key: &str) -> Option<bool> {
        match self.fields.get(key) {
            Some(Field::Truth(value)) => Some(*value),
            _ => None,
        }
    }

    /// A whole number of the header that stands under its own key.
    pub fn number(&self, key: &str) -> Option<u64> {
        match self.fields.get(key) {
            Some(Field::Whole(n)) => u64::try_from(*n).ok(),
            _ => None,
        }
    }

    /// A value of the header that stands under the family's name.
    fn own(&self, key: &str) -> Option<&Field> {
        let family = self.text("general.architecture")?;
        self.fields.get(&format!("{family}.{key}"))
    }

    fn whole(&self, key: &str) -> Option<i64> {
        match self.own(key) {
            Some(Field::Whole(n)) => Some(*n),
            _ => None,
        }
    }

    /// What transformers would have in `config.json`.
    ///
    /// # Errors
    /// If a number that every decoder has is missing.
    pub fn config(&self) -> Result<Map<String, Value>> {
        let family = self.family()?.to_owned();
        let need = |key: &str| -> Result<i64> {
            match self.whole(key) {
                Some(n) => Ok(n),
                None => self.bad(format!("{family}.{key} is missing, or no whole number")),
            }
        };
        let (hidden, heads) = (need("embedding_length")?, need("attention.head_count")?);
        let table = self.tensors.get("token_embd.weight");
        let Some(rows) = table.and_then(|t| t.shape.first()) else {
            return self.bad("tensor 'token_embd.weight' is missing");
        };
        let head_width = match self.whole("attention.key_length") {
            Some(width) => width,
            None => hidden.checked_div(heads).unwrap_or(0),
        };
        let number = |key: &str, default: f64| match self.own(key) {
            None => Ok(default),
            Some(Field::Number(x)) if x.is_finite() => Ok(*x),
            Some(Field::Whole(n)) => Ok(*n as f64),
            Some(Field::Number(x)) => self.bad(format!("{family}.{key} is {x}, no finite number")),
            Some(_) => self.bad(format!("{family}.{key} is no number")),
        };
        let theta = number("rope.freq_base", 10_000.0)?;
        let mut config = json!({
            "architectures": [match family.as_str() {
                "llama" => "LlamaForCausalLM",
                "qwen2" => "Qwen2ForCausalLM",
                _ => "Qwen3ForCausalLM",
            }],
            "model_type": family,
            "hidden_size": hidden,
            "num_hidden_layers": need("block_count")?,
            "num_attention_heads": heads,
            "num_key_value_heads": self.whole("attention.head_count_kv").unwrap_or(heads),
            "head_dim": head_width,
            "intermediate_size": need("feed_forward_length")?,
            "vocab_size": rows,
            "max_position_embeddings": need("context_length")?,
            "rms_norm_eps": number("attention.layer_norm_rms_epsilon", 1e-6)?,
            "rope_theta": theta,
            "hidden_act": "silu",
            "tie_word_embeddings": !self.tensors.contains_key("output.weight"),
            "attention_bias": family == "llama" && self.tensors.contains_key("blk.0.attn_q.bias"),
        });
        let turned = self.whole("rope.dimension_count");
        if let Some(turned) = turned.filter(|turned| *turned != head_width) {
            config["partial_rotary_factor"] = json!(turned as f64 / head_width as f64);
        }
        let scaling = match self.own("rope.scaling.type") {
            None => None,
            Some(Field::Text(kind)) => Some(kind).filter(|kind| *kind != "none"),
            Some(_) => return self.bad(format!("{family}.rope.scaling.type is no text")),
        };
        match (scaling, self.tensors.get(FACTORS)) {
            (None, None) => {}
            (None, Some(info)) => config["rope_scaling"] = self.llama3(info, theta, head_width)?,
            (Some(kind), None) => {
                config["rope_scaling"] =
                    json!({ "rope_type": kind, "factor": number("rope.scaling.factor", 1.0)? });
            }
            (Some(kind), Some(_)) => {
                return self.bad(format!(
                    "its rotary positions are scaled twice: by {family}.rope.scaling.type '{kind}' and by the table {FACTORS}"
                ));
            }
        }
        for (theirs, ours) in [
            ("bos_token_id", "bos_token_id"),
            ("eos_token_id", "eos_token_id"),
            ("padding_token_id", "pad_token_id"),
        ] {
            if let Some(id) = self.number(&format!("tokenizer.ggml.{theirs}")) {
                config[ours] = id.into();
            }
        }
        match config {
            Value::Object(map) => Ok(map),
            _ => self.bad("has no configuration"),
        }
    }

    /// The scaling of Llama 3.1 and later whose factors this table holds. The file keeps what each pair's angle is divided by,
    /// not the numbers that the factors were made of: three of these are the same in all of these models, the fourth is the
    /// largest factor, and what they give must be the table.
    fn llama3(&self, info: &Info, theta: f64, head_width: i64) -> Result<Value> {
        let other = || {
            self.bad(format!(
                "its rotary positions are scaled by a table ({FACTORS}) that is not Llama 3's; name a folder with safetensors, \
                 whose config.json says how"
            ))
        };
        let width = usize::try_from(head_width).unwrap_or(0);
        if info.kind != GgmlDType::F32 || info.shape != [width / 2] {
            return other();
        }
        let words = self.words(info.place)?;
        let table: &[f32] = bytemuck::cast_slice(&words);
        let factor = f64::from(table.iter().copied().fold(1.0, f32::max));
        let (low, high, context) = (1.0, 4.0, 8192.0);
        let angles = |scaling| {
            let local_theta = theta;
            let rotary = Rotary {
                theta,
                local_theta,
                scaling,
            };
            rotary.angles(width, false)
        };
        let scaled = angles(RotaryScaling::Llama3 {
            factor,
            low,
            high,
            context,
        });
        let mut divided = angles(RotaryScaling::None)
            .into_iter()
            .zip(scaled)
            .zip(table);
        if !divided.all(|((plain, scaled), &f)| (plain / scaled - f).abs() <= 1e-3 * f) {
            return other();
        }
        Ok(json!({
            "rope_type": "llama3", "factor": factor, "low_freq_factor": low, "high_freq_factor": high,
            "original_max_position_embeddings": context,
        }))
    }

    /// The name in the file of a tensor of transformers' model.
    fn name(theirs: &str) -> Option<String> {
        let outside = match theirs {
            "embed_tokens.weight" => "token_embd.weight",
            "norm.weight" => "output_norm.weight",
            "lm_head.weight" => "output.weight",
            _ => "",
        };
        if !outside.is_empty() {
            return Some(outside.to_owned());
        }
        let (layer, rest) = theirs.strip_prefix("layers.")?.split_once('.')?;
        let (module, part) = rest.rsplit_once('.')?;
        let module = match module {
            "input_layernorm" => "attn_norm",
            "post_attention_layernorm" => "ffn_norm",
            "self_attn.q_proj" => "attn_q",
            "self_attn.k_proj" => "attn_k",
            "self_attn.v_proj" => "attn_v",
            "self_attn.o_proj" => "attn_output",
            "self_attn.q_norm" => "attn_q_norm",
            "self_attn.k_norm" => "attn_k_norm",
            "mlp.gate_proj" => "ffn_gate",
            "mlp.up_proj" => "ffn_up",
            "mlp.down_proj" => "ffn_down",
            _ => return None,
        };
        Some(format!("blk.{layer}.{module}.{part}"))
    }

    /// Whether it has a tensor of transformers' name.
    pub(crate) fn contains(&self, theirs: &str) -> bool {
        Self::name(theirs).is_some_and(|name| self.tensors.contains_key(&name))
    }

    /// A tensor by transformers' name with its name here, where it has this shape.
    fn find(&self, theirs: &str, shape: &[usize]) -> Result<(&str, &Info)> {
        let found = Self::name(theirs).and_then(|name| self.tensors.get_key_value(&name));
        let Some((name, info)) = found else {
            return self.bad(format!("tensor '{theirs}' is missing"));
        };
        if info.shape != shape {
            return self.bad(format!(
                "tensor '{name}' has shape {:?}, expected {shape:?}",
                info.shape
            ));
        }
        Ok((name, info))
    }

    /// The bytes of a tensor, in words: blocks begin with numbers of two or four bytes.
    fn words(&self, (first, size): (u64, usize)) -> Result<Vec<u32>> {
        let mut words = vec![0u32; size.div_ceil(4)];
        let bytes = &mut bytemuck::cast_slice_mut::<u32, u8>(&mut words)[..size];
        let mut file = self
            .file
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        file.seek(SeekFrom::Start(first))
            .and_then(|_| file.read_exact(bytes))
            .map_err(|error| Error::Read {
                path: self.path.clone(),
                error,
            })?;
        Ok(words)
    }

    /// The heads of a tensor of transformers' name whose rows the converter has turned.
    fn turned(&self, theirs: &str) -> Result<Option<usize>> {
        let part = theirs.rsplit('.').nth(1).unwrap_or_default();
        if self.family()? != "llama" || !matches!(part, "q_proj" | "k_proj") {
            return Ok(None);
        }
        let heads = match part {
            "q_proj" => self.whole("attention.head_count"),
            _ => self.whole("attention.head_count_kv"),
        };
        let heads = heads.or(self.whole("attention.head_count"));
        Ok(Some(heads.unwrap_or(1).max(1) as usize))
    }

    /// A matrix by transformers' name in the blocks in which it is stored; `None` if it is in none.
    pub(crate) fn blocks(
        &self,
        theirs: &str,
        [out, width]: [usize; 2],
    ) -> Result<Option<Quantised>> {
        let (name, info) = self.find(theirs, &[out, width])?;
        let kind = match info.kind {
            GgmlDType::Q4_0 => BlockKind::Q4_0,
            GgmlDType::Q4_1 => BlockKind::Q4_1,
            GgmlDType::Q5_0 => BlockKind::Q5_0,
            GgmlDType::Q5_1 => BlockKind::Q5_1,
            GgmlDType::Q8_0 => BlockKind::Q8_0,
            GgmlDType::Q4K => BlockKind::Q4K,
            GgmlDType::Q5K => BlockKind::Q5K,
            GgmlDType::Q6K => BlockKind::Q6K,
            _ => return Ok(None),
        };
        let words = self.words(info.place)?;
        let bytes = &bytemuck::cast_slice::<u32, u8>(&words)[..info.place.1];
        let turned;
        let rows = match self.turned(theirs)? {
            None => bytes,
            Some(heads) => {
                turned = half_split(bytes, out, heads);
                &turned[..]
            }
        };
        match Quantised::from_blocks(kind, out, width, rows) {
            Some(blocks) => Ok(Some(blocks)),
            None => self.bad(format!(
                "tensor '{name}' has blocks that do not fill its rows, or a scale that is no finite number"
            )),
        }
    }

    /// A tensor by transformers' name, as f32, its blocks undone.
    pub(crate) fn read(&self, theirs: &str, shape: &[usize]) -> Result<Tensor> {
        let (name, info) = self.find(theirs, shape)?;
        let words = self.words(info.place)?;
        let bytes = &bytemuck::cast_slice::<u32, u8>(&words)[..info.place.1];
        let blocks = qtensor_from_ggml(info.kind, bytes, info.shape.clone(), &Device::Cpu)?;
        let mut values = blocks
            .dequantize(&Device::Cpu)?
            .flatten_all()?
            .to_vec1::<f32>()?;
        drop(words);
        if let Some(heads) = self.turned(theirs)? {
            values = half_split(&values, shape[0], heads);
        }
        check_finite(&self.path, name, &values, shape)?;
        Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
    }
}

/// Rows of heads in which neighbours are pairs, in the order in which a pair is `(i, i + d/2)`.
fn half_split<T: Copy>(values: &[T], rows: usize, heads: usize) -> Vec<T> {
    let (width, d) = (values.len() / rows.max(1), rows / heads);
    let mut turned = Vec::with_capacity(values.len());
    for row in 0..rows {
        let (head, at) = (row / d.max(1), row % d.max(1));
        let (half, pair) = (at / (d / 2).max(1), at % (d / 2).max(1));
        let from = (head * d + 2 * pair + half) * width;
        turned.extend_from_slice(&values[from..from + width]);
    }
    turned
}
