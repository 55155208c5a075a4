//! GGUF: every kind of block against candle-core's own undoing, names, turned rows, and headers that lie.

use std::{fs, path::PathBuf};

use backbone::{
    Architecture, Backbone, Batch, Config, Gguf, Linear, NoHooks, Phase, Precision, is_gguf,
};
use candle_core::{
    Device, Tensor,
    quantized::{GgmlDType, QTensor, gguf_file},
};
use peftbench_backbone as backbone;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

const HIDDEN: usize = 256;
const HEADS: usize = 4;
const SHARED: usize = 2;

/// The names of the tensors of a layer, theirs and transformers'.
const LAYER: [(&str, &str); 9] = [
    ("attn_norm", "input_layernorm"),
    ("ffn_norm", "post_attention_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

fn config() -> Config {
    let own = Config::of(Architecture::Llama);
    let description = backbone::Description {
        key_value_heads: SHARED,
        head_width: HIDDEN / HEADS,
        ..own.description.clone()
    };
    Config {
        layers: 1,
        hidden: HIDDEN,
        heads: HEADS,
        intermediate: HIDDEN,
        vocabulary: 64,
        positions: 32,
        description,
        ..own
    }
}

/// What llama.cpp's converter does to the rows of queries and keys.
fn turned(weight: &Tensor, heads: usize) -> Tensor {
    let (rows, width) = weight.dims2().unwrap();
    weight
        .reshape((heads, 2, rows / heads / 2, width))
        .unwrap()
        .transpose(1, 2)
        .unwrap()
        .contiguous()
        .unwrap()
        .reshape((rows, width))
        .unwrap()
}

/// A file of one kind of block, and what it says of each tensor by transformers' name.
fn file(kind: GgmlDType, family: &str) -> (Vec<u8>, Vec<(String, Tensor)>) {
    file_with(kind, family, None)
}

/// The same with one more tensor.
fn file_with(
    kind: GgmlDType,
    family: &str,
    more: Option<(&str, &[f32])>,
) -> (Vec<u8>, Vec<(String, Tensor)>) {
    let random = Backbone::random(config(), &mut ChaCha8Rng::seed_from_u64(5)).unwrap();
    let (mut blocks, mut said) = (Vec::new(), Vec::new());
    for (name, tensor) in random.tensors() {
        let theirs = match name.as_str() {
            "embed_tokens.weight" => "token_embd.weight".to_owned(),
            "norm.weight" => "output_norm.weight".to_owned(),
            other => {
                let inner = other.strip_prefix("layers.0.").unwrap();
                let (theirs, ours) = LAYER
                    .iter()
                    .find(|(_, ours)| inner == format!("{ours}.weight"))
                    .unwrap();
                assert!(inner.starts_with(ours));
                format!("blk.0.{theirs}.weight")
            }
        };
        let heads = match theirs.as_str() {
            "blk.0.attn_q.weight" if family == "llama" => Some(HEADS),
            "blk.0.attn_k.weight" if family == "llama" => Some(SHARED),
            _ => None,
        };
        let written = heads.map_or(tensor.clone(), |heads| turned(&tensor, heads));
        let own = if tensor.rank() == 1 {
            GgmlDType::F32
        } else {
            kind
        };
        let block = QTensor::quantize(&written, own).unwrap();
        let undone = block.dequantize(&Device::Cpu).unwrap();
        // Turned back by the same permutation the other way round.
        let undone = heads.map_or(undone.clone(), |heads| {
            let (rows, width) = undone.dims2().unwrap();
            undone
                .reshape((heads, rows / heads / 2, 2, width))
                .unwrap()
                .transpose(1, 2)
                .unwrap()
                .contiguous()
                .unwrap()
                .reshape((rows, width))
                .unwrap()
        });
        said.push((name, undone));
        blocks.push((theirs, block));
    }
    if let Some((name, values)) = more {
        let values = Tensor::new(values, &Device::Cpu).unwrap();
        let block = QTensor::quantize(&values, GgmlDType::F32).unwrap();
        blocks.push((name.to_owned(), block));
    }
    let whole = |n: usize| gguf_file::Value::U32(n as u32);
    let own = |key: &str| format!("{family}.{key}");
    let fields = [
        (
            "general.architecture".to_owned(),
            gguf_file::Value::String(family.into()),
        ),
        (own("block_count"), whole(1)),
        (own("context_length"), whole(32)),
        (own("embedding_length"), whole(HIDDEN)),
        (own("feed_forward_length"), whole(HIDDEN)),
        (own("attention.head_count"), whole(HEADS)),
        (own("attention.head_count_kv"), whole(SHARED)),
        (
            own("attention.layer_norm_rms_epsilon"),
            gguf_file::Value::F32(1e-5),
        ),
        (own("rope.freq_base"), gguf_file::Value::F32(100_000.0)),
        (
            "tokenizer.ggml.tokens".to_owned(),
            gguf_file::Value::Array(
                ["a", "b"]
                    .map(|t| gguf_file::Value::String(t.into()))
                    .into(),
            ),
        ),
    ];
    let fields: Vec<_> = fields.iter().map(|(k, v)| (k.as_str(), v)).collect();
    let tensors: Vec<_> = blocks.iter().map(|(n, b)| (n.as_str(), b)).collect();
    let mut bytes = std::io::Cursor::new(Vec::new());
    gguf_file::write(&mut bytes, &fields, &tensors).unwrap();
    (bytes.into_inner(), said)
}

fn written(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    fs::write(&path, bytes).unwrap();
    (folder, path)
}

/// Everything that is read of a file: the header, the configuration, the weights.
fn load(path: &std::path::Path) -> backbone::Result<Backbone> {
    Gguf::open(path)?;
    Backbone::load(Config::read(path)?, path)
}

#[test]
fn every_kind_of_block_is_undone_and_rows_are_turned_back() {
    for kind in [
        GgmlDType::F32,
        GgmlDType::F16,
        GgmlDType::BF16,
        GgmlDType::Q8_0,
        GgmlDType::Q4_0,
        GgmlDType::Q4_1,
        GgmlDType::Q5_0,
        GgmlDType::Q5_1,
        GgmlDType::Q4K,
        GgmlDType::Q5K,
        GgmlDType::Q6K,
    ] {
        let (bytes, said) = file(kind, "llama");
        let (_folder, path) = written(&bytes);
        assert!(is_gguf(&path));
        let loaded = load(&path).unwrap();
        let tensors = loaded.tensors();
        assert_eq!(tensors.len(), said.len());
        for ((name, found), (other, expected)) in tensors.iter().zip(&said) {
            assert_eq!(name, other);
            let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(values(found), values(expected), "{kind:?}: {name}");
        }
    }
}

#[test]
fn blocks_that_stay_blocks_give_the_bits_of_the_same_file_in_f32_in_a_fraction_of_the_memory() {
    let batch = Batch::new((1..12).collect(), vec![0; 11], vec![0, 4, 11]).unwrap();
    // Bytes of a value of a linear layer: its bits, and two numbers of four bytes (or one) for each 32.
    for (kind, bytes) in [
        (GgmlDType::Q4_0, 0.5 + 4.0 / 32.0),
        (GgmlDType::Q4_1, 0.5 + 8.0 / 32.0),
        (GgmlDType::Q5_0, 1.0 + 4.0 / 32.0),
        (GgmlDType::Q5_1, 1.0 + 8.0 / 32.0),
        (GgmlDType::Q8_0, 1.0 + 4.0 / 32.0),
        (GgmlDType::Q4K, 0.5 + 8.0 / 32.0),
        (GgmlDType::Q5K, 1.0 + 8.0 / 32.0),
        (GgmlDType::Q6K, 1.0 + 4.0 / 16.0),
    ] {
        let (file, _) = file(kind, "llama");
        let (_folder, path) = written(&file);
        let config = Config::read(&path).unwrap();
        let load = |precision| Backbone::load_in(config.clone(), &path, precision, None).unwrap();
        let (whole, digest) = load(Precision::F32);
        let before = whole.bytes();
        assert_eq!(digest, whole.weights_digest().unwrap());
        let (blocks, same) = load(Precision::Q4);
        assert_eq!(same, digest);
        assert_eq!(blocks.weights_digest().unwrap(), digest, "{kind:?}");
        assert_eq!(blocks.parameters(), whole.parameters());
        let logits = |backbone: &Backbone| {
            let pooled = backbone.pooled(&batch, &NoHooks, Phase::Eval).unwrap();
            pooled.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        assert_eq!(logits(&blocks), logits(&whole), "{kind:?}");
        let linears: usize = whole
            .sites()
            .map(|site| whole.shape(site))
            .map(|(out, width)| out * width)
            .sum();
        let saved = before - blocks.bytes();
        assert_eq!(saved as f64, linears as f64 * (4.0 - bytes), "{kind:?}");
        // What takes the place of a layer is whole, or as near as bf16.
        let site = blocks.sites().next().unwrap();
        let other = Linear::new(whole.linear(site).weight(), None).unwrap();
        let changed = blocks.with_linear(site, other).unwrap();
        assert_eq!(changed.linear(site).precision(), Precision::Bf16);
        assert_eq!(changed.precision(), Precision::Q4);
    }
    // A matrix that lies in none is rounded to blocks.
    for kind in [GgmlDType::F16, GgmlDType::F32] {
        let (file, _) = file(kind, "llama");
        let (_folder, path) = written(&file);
        let config = Config::read(&path).unwrap();
        let load = |precision| Backbone::load_in(config.clone(), &path, precision, None).unwrap();
        let ((whole, digest), (blocks, same)) = (load(Precision::F32), load(Precision::Q4));
        assert_eq!(same, digest);
        let site = blocks.sites().next().unwrap();
        let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let theirs = QTensor::quantize(&whole.linear(site).weight(), GgmlDType::Q4_1).unwrap();
        let theirs = theirs.dequantize(&Device::Cpu).unwrap();
        assert_eq!(values(&blocks.linear(site).weight()), values(&theirs));
    }
}

#[test]
fn the_configuration_is_that_of_transformers() {
    let (bytes, _) = file(GgmlDType::F32, "llama");
    let (_folder, path) = written(&bytes);
    let config = Config::read(&path).unwrap();
    let expected = config_of_the_file();
    assert_eq!(config, expected);
    // Qwen's rows are not turned.
    let (bytes, said) = file(GgmlDType::F32, "qwen2");
    let (_folder, path) = written(&bytes);
    let gguf = Gguf::open(&path).unwrap();
    assert_eq!(gguf.config().unwrap()["model_type"], "qwen2");
    // (It has no biases, which a Qwen2 needs.)
    let message = load(&path).err().unwrap().to_string();
    assert!(message.contains("q_proj.bias"), "{message}");
    assert!(said.len() > 2);
}

#[test]
fn a_number_of_the_header_that_is_none_is_refused_and_not_taken_for_a_missing_one() {
    let (bytes, _) = file(GgmlDType::F32, "llama");
    for (known, says) in [
        (100_000f32, "rope.freq_base is NaN"),
        (1e-5, "layer_norm_rms_epsilon is NaN"),
    ] {
        let at = bytes.windows(4).position(|w| w == known.to_le_bytes());
        let at = at.unwrap();
        let mut other = bytes.clone();
        other[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
        let (_folder, path) = written(&other);
        let message = Config::read(&path).unwrap_err().to_string();
        assert!(message.contains(says), "{message}");
    }
}

/// As llama.cpp's converter makes the table from Llama 3.2's `rope_scaling`.
#[test]
fn the_table_of_a_llama_3s_rotary_factors_is_the_scaling_that_they_were_made_of() {
    let (factor, low, high, context) = (32.0, 1.0, 4.0, 8192.0);
    let width = HIDDEN / HEADS;
    let factors = (0..width / 2).map(|i| {
        let angle = 100_000f64.powf(-((2 * i) as f64) / width as f64);
        let wavelength = 2.0 * std::f64::consts::PI / angle;
        let smooth = (context / wavelength - low) / (high - low);
        match wavelength {
            short if short < context / high => 1.0,
            long if long > context / low => factor,
            _ => 1.0 / ((1.0 - smooth) / factor + smooth),
        }
    });
    let mut factors: Vec<f32> = factors.map(|f| f as f32).collect();
    assert!(factors.iter().any(|f| *f > 1.5 && *f < 31.0), "{factors:?}");
    let with = |factors: &[f32]| {
        let name = "rope_freqs.weight";
        let (bytes, _) = file_with(GgmlDType::F32, "llama", Some((name, factors)));
        let (_folder, path) = written(&bytes);
        let config = Config::read(&path)?;
        let rotary = config.description.rotary.clone().unwrap();
        Backbone::load(config, &path)?;
        Ok::<_, backbone::Error>(rotary.scaling)
    };
    let expected = backbone::RotaryScaling::Llama3 {
        factor,
        low,
        high,
        context,
    };
    assert_eq!(with(&factors).unwrap(), expected);
    // Of another model, as long texts of Phi-3 have them; of the wrong length; no number.
    let short = factors[1..].to_vec();
    factors[5] = 1.1;
    let mut none = factors.clone();
    none[5] = f32::NAN;
    for other in [factors, short, none] {
        let message = with(&other).unwrap_err().to_string();
        assert!(
            message.contains("rope_freqs.weight") && message.contains("not Llama 3's"),
            "{message}"
        );
    }
}

fn config_of_the_file() -> Config {
    let mut expected = config();
    expected.epsilon = 1e-5;
    let rotary = expected.description.rotary.as_mut().unwrap();
    (rotary.theta, rotary.local_theta) = (100_000.0, 100_000.0);
    expected.description.tied = true;
    expected
}

#[test]
fn what_is_not_read_is_refused_by_name() {
    let (bytes, _) = file(GgmlDType::F32, "llama");
    let replaced = |from: &str, to: &str| {
        assert_eq!(from.len(), to.len());
        let at = bytes.windows(from.len()).position(|w| w == from.as_bytes());
        let mut other = bytes.clone();
        let at = at.unwrap();
        other[at..at + to.len()].copy_from_slice(to.as_bytes());
        other
    };
    for (other, says) in [
        (
            replaced("blk.0.attn_v.weight", "blk.0.attn_v.weighs"),
            "v_proj.weight' is missing",
        ),
        (
            replaced("llama.context_length", "llama.context_lengtX"),
            "llama.context_length is missing",
        ),
        (
            replaced("llama.block_count", "llama.expert_coun"),
            "llama.block_count is missing",
        ),
    ] {
        let (_folder, path) = written(&other);
        let message = load(&path).err().unwrap().to_string();
        assert!(message.contains(says), "{message}");
        assert!(message.contains("model.gguf"), "{message}");
    }
    // A part that sees has the family's name 'clip'.
    for family in ["mamba", "clip", "gemma3"] {
        let (bytes, _) = file(GgmlDType::Q4_0, family);
        let (_folder, path) = written(&bytes);
        let message = load(&path).err().unwrap().to_string();
        assert!(
            message.contains(&format!("'{family}'")) && message.contains("llama, qwen2, qwen3"),
            "{message}"
        );
        let why = message.contains("norms behind its sublayers");
        assert_eq!(why, family == "gemma3", "{message}");
    }
    // A field of the same length as one that every file has.
    let experts = replaced("llama.embedding_length", "llama.expert_count\0\0\0\0");
    let (_folder, path) = written(&experts);
    let message = load(&path).err().unwrap().to_string();
    assert!(message.contains("mixture of experts"), "{message}");
}

#[test]
fn an_offset_a_kind_or_a_length_that_lies_is_named() {
    let (bytes, _) = file(GgmlDType::Q4_1, "llama");
    let name = b"blk.0.attn_v.weight";
    let at = bytes.windows(name.len()).position(|w| w == name).unwrap();
    // Behind a tensor's name: how many dimensions, two of eight bytes, the kind, the offset.
    let (length, rank, kind) = (at - 8, at + name.len(), at + name.len() + 4 + 16);
    for (place, lie, says) in [
        (
            length,
            u64::MAX.to_le_bytes().to_vec(),
            "the name of a tensor",
        ),
        (rank, 9u32.to_le_bytes().to_vec(), "9 dimensions"),
        (rank + 4, (u64::MAX / 2).to_le_bytes().to_vec(), "shape"),
        (kind, 77u32.to_le_bytes().to_vec(), "unknown kind 77"),
        (
            kind + 4,
            (1u64 << 40).to_le_bytes().to_vec(),
            "cut short or damaged",
        ),
        (
            kind + 4,
            3u64.to_le_bytes().to_vec(),
            "cut short or damaged",
        ),
    ] {
        let mut other = bytes.clone();
        other[place..place + lie.len()].copy_from_slice(&lie);
        let (_folder, path) = written(&other);
        let message = load(&path).err().unwrap().to_string();
        assert!(message.contains(says), "{says}: {message}");
        assert!(message.contains("model.gguf"), "{message}");
    }
}

#[test]
fn a_file_that_is_cut_short_is_refused_wherever_it_is_cut() {
    let (bytes, _) = file(GgmlDType::Q8_0, "llama");
    let header = bytes.len() - 4096;
    let lengths = (0..1500)
        .chain((1500..header).step_by(9973))
        .chain([bytes.len() - 1]);
    for length in lengths {
        let (_folder, path) = written(&bytes[..length]);
        let message = load(&path).err().unwrap().to_string();
        assert!(message.contains("model.gguf"), "{length}: {message}");
    }
}

#[test]
fn a_header_that_lies_is_refused_or_harmless() {
    let (bytes, _) = file(GgmlDType::Q4_1, "llama");
    let mut refused = 0;
    // Each place of the header with numbers that are large where a length, a count or a type stands.
    for at in (4..1600).step_by(1) {
        for lie in [0xff, 0x7f, 0x01] {
            let mut other = bytes.clone();
            other[at] ^= lie;
            let (_folder, path) = written(&other);
            refused += usize::from(load(&path).is_err());
        }
    }
    for (at, says) in [(8, "tensors"), (16, "fields")] {
        for lie in [u64::MAX, 1 << 40, 1 << 20] {
            let mut other = bytes.clone();
            other[at..at + 8].copy_from_slice(&lie.to_le_bytes());
            let (_folder, path) = written(&other);
            let message = load(&path).err().unwrap().to_string();
            assert!(
                message.contains("bytes but") || message.contains(says),
                "{message}"
            );
        }
    }
    assert!(refused > 1000, "{refused}");
}
