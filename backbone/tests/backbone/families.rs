//! Families whose norms stand before the sublayers, against transformers: `tests/fixtures/family_cases.py`.

use std::path::PathBuf;

use backbone::{
    Architecture, Backbone, Batch, Config, Hooks, NoHooks, Norm, Pass, Phase, Pooling, Precision,
    Projection, Site, weights_file,
};
use candle_core::{
    Device, Tensor,
    quantized::{GgmlDType, QTensor},
};
use peftbench_backbone as backbone;
use serde_json::{Map, Value, json};

use super::largest_difference;

const CASES: [&str; 8] = [
    "llama",
    "llama_scaled",
    "llama_linear",
    "qwen2",
    "qwen2_sliding",
    "qwen3",
    "modernbert",
    "modernbert_biased",
];

struct Case {
    backbone: Backbone,
    batch: Batch,
    tensors: std::collections::HashMap<String, Tensor>,
}

fn case(name: &str) -> Case {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fixtures/families")
        .join(name);
    let config = Config::read(&folder.join("config.json")).unwrap();
    let tensors =
        candle_core::safetensors::load(folder.join("expected.safetensors"), &Device::Cpu).unwrap();
    let ids: Vec<u32> = tensors["input.ids"].to_vec1().unwrap();
    let offsets: Vec<u32> = tensors["input.offsets"].to_vec1().unwrap();
    let types = vec![0; ids.len()];
    let offsets = offsets.into_iter().map(|o| o as usize).collect();
    Case {
        backbone: Backbone::load(config, &weights_file(&folder).unwrap()).unwrap(),
        batch: Batch::new(ids, types, offsets).unwrap(),
        tensors,
    }
}

#[test]
fn hidden_states_after_every_layer_equal_those_of_transformers() {
    for name in CASES {
        let case = case(name);
        let states = case
            .backbone
            .hidden_states(&case.batch, &NoHooks, Phase::Eval)
            .unwrap();
        assert_eq!(states.len(), 4, "{name}");
        for (i, state) in states.iter().enumerate() {
            let gap = largest_difference(state, &case.tensors[&format!("hidden.{i}")]);
            assert!(gap < 1e-5, "{name}: hidden.{i} differs by {gap}");
        }
    }
}

#[test]
fn a_decoder_is_read_at_its_last_token_that_is_not_padding() {
    let mut decoders = 0;
    for name in CASES {
        let case = case(name);
        let Some(score) = case.tensors.get("score.weight") else {
            continue;
        };
        assert_eq!(case.backbone.pooling(), Pooling::Last);
        let pooled = case
            .backbone
            .pooled(&case.batch, &NoHooks, Phase::Eval)
            .unwrap();
        let logits = pooled.matmul(&score.t().unwrap()).unwrap();
        let gap = largest_difference(&logits, &case.tensors["logits"]);
        assert!(gap < 1e-5, "{name}: logits differ by {gap}");
        decoders += 1;
    }
    assert_eq!(decoders, 6);
}

#[test]
fn pooling_reads_the_rows_of_the_last_hidden_state() {
    for name in [
        "modernbert",
        "modernbert_biased",
        "qwen2_sliding",
        "llama_linear",
    ] {
        let case = case(name);
        let last = &case.tensors["hidden.3"];
        for pooling in [Pooling::Mean, Pooling::Cls, Pooling::Last] {
            let Ok(backbone) = case.backbone.clone().with_pooling(pooling) else {
                assert!(pooling == Pooling::Cls && !name.starts_with("modernbert"));
                continue;
            };
            let pooled = backbone.pooled(&case.batch, &NoHooks, Phase::Eval).unwrap();
            for (i, span) in case.batch.spans().iter().enumerate().take(4) {
                let rows = last.narrow(0, span.start, span.len()).unwrap();
                let expected = match pooling {
                    Pooling::Mean => rows.mean_keepdim(0).unwrap(),
                    Pooling::Cls => rows.narrow(0, 0, 1).unwrap(),
                    _ => rows.narrow(0, span.len() - 1, 1).unwrap(),
                };
                let gap = largest_difference(&pooled.narrow(0, i, 1).unwrap(), &expected);
                assert!(gap < 1e-5, "{name} {pooling:?}: {gap}");
            }
        }
    }
}

#[test]
fn the_sites_of_a_family_are_those_that_peft_names() {
    let names = |name: &str| -> Vec<String> {
        let config = case(name).backbone.config().clone();
        config
            .sites()
            .filter(|site| site.layer == 1)
            .map(|site| config.tensor_name(site))
            .collect()
    };
    assert_eq!(
        names("llama"),
        [
            "self_attn.q_proj",
            "self_attn.k_proj",
            "self_attn.v_proj",
            "self_attn.o_proj",
            "mlp.gate_proj",
            "mlp.up_proj",
            "mlp.down_proj"
        ]
        .map(|part| format!("layers.1.{part}"))
    );
    assert_eq!(
        names("modernbert"),
        ["attn.Wqkv", "attn.Wo", "mlp.Wi", "mlp.Wo"].map(|part| format!("layers.1.{part}"))
    );
    assert_eq!("q_proj".parse(), Ok(Projection::Query));
    assert_eq!("Wqkv".parse(), Ok(Projection::QueryKeyValue));
}

/// Doubles the output of one site.
struct Doubled(Site);

impl Hooks for Doubled {
    fn acts_on(&self, site: Site) -> bool {
        site == self.0
    }

    fn linear(&self, _: Site, _: &Tensor, y: Tensor, _: Pass<'_>) -> backbone::Result<Tensor> {
        Ok((y * 2.0)?)
    }
}

#[test]
fn a_hook_at_any_site_does_what_the_same_change_of_the_weights_does() {
    for name in ["llama", "qwen3", "modernbert"] {
        let case = case(name);
        for site in case.backbone.sites() {
            let hooked = case
                .backbone
                .pooled(&case.batch, &Doubled(site), Phase::Eval)
                .unwrap();
            let delta = case.backbone.linear(site).weight().copy().unwrap();
            let merged = case.backbone.merged(&[(site, delta)]).unwrap();
            let merged = merged.pooled(&case.batch, &NoHooks, Phase::Eval).unwrap();
            let gap = largest_difference(&hooked, &merged);
            assert!(gap < 1e-5, "{name} {site}: {gap}");
        }
    }
}

#[test]
fn every_weight_that_is_read_has_a_gradient() {
    for name in CASES {
        let case = case(name);
        let (copy, vars) = case.backbone.trainable().unwrap();
        let rng = std::cell::RefCell::new(rand_chacha::rand_core::SeedableRng::seed_from_u64(1));
        let pooled = copy
            .pooled(&case.batch, &NoHooks, Phase::Train(&rng))
            .unwrap();
        let gradients = kernels_backward(&pooled.sqr().unwrap().sum_all().unwrap());
        for (tensor, var) in &vars {
            assert!(
                gradients.get(var).is_some(),
                "{name}: {tensor} has no gradient"
            );
        }
        let loaded = case.backbone.tensors().len();
        assert_eq!(loaded, vars.len(), "{name}");
        let norms = case
            .backbone
            .norms()
            .filter(|at| matches!(at, Norm::Final))
            .count();
        assert_eq!(norms, 1);
    }
}

fn kernels_backward(loss: &Tensor) -> candle_core::backprop::GradStore {
    loss.backward().unwrap()
}

#[test]
fn what_a_decoder_cannot_follow_is_refused_by_name() {
    let read = |change: Value| {
        let mut config: Map<String, Value> = serde_json::from_value(json!({
            "model_type": "qwen2", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 2, "intermediate_size": 24, "vocab_size": 40
        }))
        .unwrap();
        config.extend(change.as_object().unwrap().clone());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        std::fs::write(&path, Value::Object(config).to_string()).unwrap();
        Config::read(&path)
    };
    read(json!({})).unwrap();
    for (key, value) in [
        ("rope_scaling", json!({"rope_type": "yarn", "factor": 4.0})),
        ("rope_scaling", json!({"type": "linear"})),
        ("hidden_act", json!("relu2")),
        ("num_key_value_heads", json!(3)),
        ("num_key_value_heads", json!(0)),
        ("layer_types", json!(["full_attention"])),
        (
            "layer_types",
            json!(["full_attention", "chunked_attention"]),
        ),
        ("partial_rotary_factor", json!(0.5)),
        ("quantization_config", json!({"bits": 4})),
    ] {
        let message = read(json!({key: value})).unwrap_err().to_string();
        assert!(message.contains(key), "{key}: {message}");
    }
    // Mixtures of experts, models that see, and what the description does not say.
    for family in [
        "qwen2_moe",
        "mixtral",
        "qwen2_5_vl",
        "mllama",
        "gemma3_text",
        "gpt2",
    ] {
        let message = read(json!({"model_type": family})).unwrap_err().to_string();
        assert!(
            message.contains(family) && message.contains("modernbert, llama, qwen2, qwen3"),
            "{message}"
        );
        // What is asked for often says why.
        let why = match family {
            // By the name of a model it is refused in the same words.
            "gemma3_text" => Architecture::why_not("gemma3-270m").unwrap(),
            "gpt2" => "stores its matrices turned",
            _ => "is not supported; supported:",
        };
        assert!(message.contains(why), "{message}");
    }
    // Five heads of an odd width.
    let message = read(json!({"num_attention_heads": 5, "num_key_value_heads": 5}));
    let message = message.unwrap_err().to_string();
    assert!(message.contains("heads of 3 values"), "{message}");
    let window =
        read(json!({"use_sliding_window": true, "sliding_window": 0, "max_window_layers": 0}));
    assert!(window.unwrap_err().to_string().contains("window of 0"));
}

/// Rows that stand before every text, and a bit more at every site.
struct Prefixed;

impl Hooks for Prefixed {
    fn input(&self, mut input: backbone::Input, _: Phase<'_>) -> backbone::Result<backbone::Input> {
        input.first_position.iter_mut().for_each(|p| *p += 2);
        Ok(input)
    }

    fn keys_values(
        &self,
        layer: usize,
        own: backbone::KeyValues,
        _: Phase<'_>,
    ) -> backbone::Result<backbone::KeyValues> {
        let width = own.keys.dims()[1];
        let rows = |x: f32| {
            let values = (0..2 * width).map(|i| ((i + layer) as f32 * x).sin());
            Tensor::from_vec(values.collect::<Vec<f32>>(), (2, width), &Device::Cpu)
        };
        let (keys, spans) = kernels::prepend_rows(&rows(0.3)?, &own.keys, &own.spans)?;
        let (values, _) = kernels::prepend_rows(&rows(0.7)?, &own.values, &own.spans)?;
        Ok(backbone::KeyValues {
            keys,
            values,
            spans,
        })
    }
}

#[test]
fn reading_on_token_by_token_gives_the_rows_of_the_whole_pass() {
    for name in CASES
        .into_iter()
        .filter(|name| !name.starts_with("modernbert"))
    {
        let Case {
            backbone, batch, ..
        } = case(name);
        for hooks in [&NoHooks as &dyn Hooks, &Prefixed] {
            // Two texts, of 9 and 17 tokens, each with its last four one by one.
            let texts: Vec<&[u32]> = [2, 3].map(|i| &batch.ids()[batch.spans().span(i)]).into();
            let packed = |parts: &[&[u32]]| {
                let ids = parts.concat();
                let mut offsets = vec![0];
                offsets.extend(parts.iter().scan(0, |end, p| {
                    *end += p.len();
                    Some(*end)
                }));
                let types = vec![0; ids.len()];
                Batch::new(ids, types, offsets).unwrap()
            };
            let whole = backbone
                .hidden_states(&packed(&texts), hooks, Phase::Eval)
                .unwrap()
                .pop()
                .unwrap();
            let mut cache = backbone::Cache::default();
            let begin: Vec<&[u32]> = texts.iter().map(|t| &t[..t.len() - 4]).collect();
            let mut rows = vec![backbone.decode(&packed(&begin), &mut cache, hooks).unwrap()];
            for left in (1..=4).rev() {
                let next: Vec<&[u32]> = texts
                    .iter()
                    .map(|t| &t[t.len() - left..t.len() - left + 1])
                    .collect();
                rows.push(backbone.decode(&packed(&next), &mut cache, hooks).unwrap());
            }
            assert_eq!(cache.lengths(), [9, 17]);
            let lengths = [5, 13];
            let mut first = 0;
            for (text, length) in lengths.into_iter().enumerate() {
                let start = if text == 0 { 0 } else { lengths[0] };
                let mut own = vec![rows[0].narrow(0, start, length).unwrap()];
                own.extend(rows[1..].iter().map(|r| r.narrow(0, text, 1).unwrap()));
                let own = Tensor::cat(&own, 0).unwrap();
                let expected = whole.narrow(0, first, length + 4).unwrap();
                let gap = largest_difference(&own, &expected);
                assert!(gap < 1e-5, "{name}: text {text} differs by {gap}");
                first += length + 4;
            }
        }
    }
}

#[test]
fn texts_that_leave_a_cache_change_nothing_for_those_that_stay() {
    let decoder = case("llama").backbone;
    let packed = |texts: &[&[u32]]| {
        let ids = texts.concat();
        let mut offsets = vec![0];
        for text in texts {
            offsets.push(offsets[offsets.len() - 1] + text.len());
        }
        Batch::new(ids.clone(), vec![0; ids.len()], offsets).unwrap()
    };
    let texts: [&[u32]; 3] = [&[5, 6, 7], &[8, 9], &[10, 11, 12, 13]];
    let mut all = backbone::Cache::default();
    decoder.decode(&packed(&texts), &mut all, &NoHooks).unwrap();
    let mut alone = backbone::Cache::default();
    let two = packed(&[texts[2], texts[0]]);
    decoder.decode(&two, &mut alone, &NoHooks).unwrap();
    all.keep(&[2, 0]).unwrap();
    assert_eq!(all.lengths(), [4, 3]);
    let next = packed(&[&[20], &[21]]);
    let [all, alone] = [all, alone].map(|mut cache| {
        decoder.decode(&next, &mut cache, &NoHooks).unwrap();
        decoder.decode(&next, &mut cache, &NoHooks).unwrap()
    });
    assert!(largest_difference(&all, &alone) < 1e-6);
    let message = alone_of(&decoder).keep(&[1]).unwrap_err().to_string();
    assert!(
        message.contains("a cache of 1 texts has no text 1"),
        "{message}"
    );
}

#[test]
fn a_text_that_goes_on_in_two_ways_changes_neither() {
    let decoder = case("llama").backbone;
    let next = |ids: &[u32], cache: &mut backbone::Cache| {
        let one = Batch::new(ids.to_vec(), vec![0; ids.len()], vec![0, ids.len()]).unwrap();
        decoder.decode(&one, cache, &NoHooks).unwrap()
    };
    let whole = |ids: &[u32]| {
        let rows = next(ids, &mut backbone::Cache::default());
        rows.narrow(0, ids.len() - 1, 1).unwrap()
    };
    let mut one = alone_of(&decoder);
    next(&[7], &mut one);
    let mut other = one.clone();
    // In turn, token by token, from the same rows in memory.
    let mut ids = [vec![5, 6, 7], vec![5, 6, 7]];
    for step in 0..6 {
        for (i, cache) in [&mut one, &mut other].into_iter().enumerate() {
            let id = 8 + step + 10 * i as u32;
            ids[i].push(id);
            let row = next(&[id], cache);
            assert!(
                largest_difference(&row, &whole(&ids[i])) < 1e-5,
                "{step}, {i}"
            );
        }
    }
    assert_eq!((one.lengths(), other.lengths()), (vec![9], vec![9]));
}

/// The cache of one text.
fn alone_of(decoder: &Backbone) -> backbone::Cache {
    let mut cache = backbone::Cache::default();
    let one = Batch::new(vec![5, 6], vec![0; 2], vec![0, 2]).unwrap();
    decoder.decode(&one, &mut cache, &NoHooks).unwrap();
    cache
}

#[test]
fn a_cache_goes_on_with_its_own_texts_only_and_an_encoder_with_none() {
    let decoder = case("llama").backbone;
    let batch =
        |ids: Vec<u32>, offsets| Batch::new(ids.clone(), vec![0; ids.len()], offsets).unwrap();
    let mut cache = backbone::Cache::default();
    decoder
        .decode(&batch(vec![5, 6], vec![0, 2]), &mut cache, &NoHooks)
        .unwrap();
    let two = batch(vec![5, 6], vec![0, 1, 2]);
    let message = decoder
        .decode(&two, &mut cache, &NoHooks)
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("a cache of 1 texts cannot go on with 2"),
        "{message}"
    );
    let long = batch(vec![5; 63], vec![0, 63]);
    let message = decoder
        .decode(&long, &mut cache, &NoHooks)
        .unwrap_err()
        .to_string();
    assert!(message.contains("behind 2 positions"), "{message}");
    assert_eq!(cache.lengths(), [2]);
    let encoder = case("modernbert").backbone;
    let message = encoder
        .decode(
            &batch(vec![5, 6], vec![0, 2]),
            &mut backbone::Cache::default(),
            &NoHooks,
        )
        .unwrap_err()
        .to_string();
    assert!(message.contains("both directions"), "{message}");
}

#[test]
fn a_backbone_in_fewer_bits_has_the_digest_of_its_file_and_holds_each_weight_once() {
    for name in CASES {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("../tests/fixtures/families")
            .join(name);
        let load = |precision| {
            let config = Config::read(&folder.join("config.json")).unwrap();
            Backbone::load_in(config, &weights_file(&folder).unwrap(), precision, None).unwrap()
        };
        let (whole, digest) = load(Precision::F32);
        assert_eq!(digest, whole.weights_digest().unwrap(), "{name}");
        for precision in [Precision::Bf16, Precision::Int8] {
            let (few, same) = load(precision);
            assert_eq!(same, digest, "{name}");
            assert_eq!(few.precision(), precision);
            let rounded = whole.clone().in_precision(precision).unwrap();
            let values = few.weights_digest().unwrap();
            assert_eq!(values, rounded.weights_digest().unwrap(), "{name}");
            assert_ne!(values, digest, "{name}");
            // Nothing is kept in f32 beside it.
            for site in few.sites() {
                let (out, width) = few.shape(site);
                let padded = out.next_multiple_of(32) * width.next_multiple_of(32);
                let most = match precision {
                    Precision::Bf16 => 2 * padded,
                    // Outputs in strips of 32, with a scale each.
                    _ => out.next_multiple_of(32) * (width + 4),
                };
                assert!(few.linear(site).bytes() <= most, "{name} {site}");
            }
        }
    }
}

/// A backbone of the fixtures in blocks of four bits, which its file is not in.
fn load_q4(name: &str) -> backbone::Result<Backbone> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fixtures")
        .join(name);
    let config = Config::read(&folder.join("config.json")).unwrap();
    let weights = weights_file(&folder).unwrap();
    Ok(Backbone::load_in(config, &weights, Precision::Q4, None)?.0)
}

#[test]
fn weights_that_lie_in_no_blocks_are_rounded_to_those_of_ggml_or_refused_where_blocks_do_not_fill_their_rows()
 {
    for name in ["bert", "roberta", "distilbert"] {
        let few = load_q4(name).unwrap();
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("../tests/fixtures")
            .join(name);
        let config = Config::read(&folder.join("config.json")).unwrap();
        let whole = Backbone::load(config, &weights_file(&folder).unwrap()).unwrap();
        for site in few.sites() {
            let values = whole.linear(site).weight();
            let theirs = QTensor::quantize(&values, GgmlDType::Q4_1).unwrap();
            let theirs = theirs.dequantize(&Device::Cpu).unwrap();
            let all = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(
                all(&few.linear(site).weight()),
                all(&theirs),
                "{name} {site}"
            );
            // Sixteen numbers from the lowest to the highest of a block: no value is further from one than half a step, and what
            // f16 makes of the step and of the lowest.
            for (own, block) in all(&theirs).chunks(32).zip(all(&values).chunks(32)) {
                let (low, high) = block.iter().fold((f32::MAX, f32::MIN), |(low, high), x| {
                    (low.min(*x), high.max(*x))
                });
                let most = (high - low) / 30.0 + (high.abs().max(low.abs()) + high - low) / 1024.0;
                for (own, value) in own.iter().zip(block) {
                    assert!((own - value).abs() <= most, "{name} {site}: {own}, {value}");
                }
            }
        }
    }
    let refused = load_q4("families/llama").err().unwrap().to_string();
    assert!(
        refused.contains("blocks of 32")
            && refused.contains("rows of 16")
            && refused.contains("int8"),
        "{refused}"
    );
}

/// Two virtual tokens before every text.
struct Prompted(Tensor);

impl Hooks for Prompted {
    fn input(&self, input: backbone::Input, _: Phase<'_>) -> backbone::Result<backbone::Input> {
        let (embeddings, spans) = kernels::prepend_rows(&self.0, &input.embeddings, &input.spans)?;
        Ok(backbone::Input {
            embeddings,
            spans,
            virtual_tokens: input.virtual_tokens.iter().map(|n| n + 2).collect(),
            ..input
        })
    }
}

#[test]
fn texts_that_begin_alike_share_what_was_read_of_it() {
    for name in CASES
        .into_iter()
        .filter(|name| !name.starts_with("modernbert"))
    {
        let backbone = case(name).backbone;
        let prompt = backbone.word_embeddings().narrow(0, 8, 2).unwrap();
        let prompted = Prompted(prompt);
        for hooks in [&NoHooks as &dyn Hooks, &Prefixed, &prompted] {
            let texts: [&[u32]; 3] = [
                &[7, 9, 11, 12, 13],
                &[7, 9, 21],
                &[7, 9, 22, 23, 24, 25, 26],
            ];
            let offsets = vec![0, 5, 8, 15];
            let batch = Batch::new(texts.concat(), vec![0; 15], offsets).unwrap();
            let whole = backbone.pooled(&batch, hooks, Phase::Eval).unwrap();
            let prefix = backbone.prefix(&[7, 9], hooks).unwrap();
            let rest = batch.behind(2).unwrap();
            let shared = backbone.pooled_behind(&prefix, &rest, hooks).unwrap();
            let gap = largest_difference(&shared, &whole);
            assert!(gap < 1e-6, "{name}: {gap}");
        }
    }
    let message = |result: backbone::Result<Tensor>| result.err().unwrap().to_string();
    let decoder = case("llama").backbone;
    let one = Batch::new(vec![5, 6], vec![0; 2], vec![0, 2]).unwrap();
    let prefix = decoder.prefix(&[7], &NoHooks).unwrap();
    let mean = decoder.clone().with_pooling(Pooling::Mean).unwrap();
    let said = message(mean.pooled_behind(&prefix, &one, &NoHooks));
    assert!(said.contains("last token"), "{said}");
    assert!(one.behind(2).is_err());
    let encoder = case("modernbert").backbone;
    assert!(encoder.prefix(&[7], &NoHooks).is_err());
}
