//! The backbone against candle-transformers, and against files that are not what they should be.
#![allow(clippy::unwrap_used)]

mod configs;
mod families;
mod files;
mod gguf;

use std::{collections::BTreeMap, path::Path};

use backbone::{Activation, Architecture, Backbone, Batch, Config, NoHooks, Phase, Pooling};
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert;
use peftbench_backbone as backbone;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

fn config() -> Config {
    Config {
        architecture: Architecture::Bert,
        layers: 2,
        hidden: 24,
        heads: 3,
        intermediate: 40,
        vocabulary: 50,
        positions: 16,
        position_offset: 0,
        position_padding: None,
        position_table: true,
        token_types: 2,
        activation: Activation::Gelu,
        epsilon: 1e-12,
        description: backbone::Description::post_norm(3, 24),
    }
}

fn random(config: Config) -> Backbone {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let backbone = Backbone::random(config, &mut rng).unwrap();
    // Larger weights than a fresh model's, so that attention is not almost uniform, and no bias of zero.
    backbone
        .map(&mut |name, t| {
            let t = if name.contains("LayerNorm") {
                (t + 0.1)?
            } else {
                ((t * 8.0)? + 0.03)?
            };
            Ok(t)
        })
        .unwrap()
}

fn tensors(backbone: &Backbone) -> BTreeMap<String, Tensor> {
    backbone.tensors().into_iter().collect()
}

fn save(tensors: &BTreeMap<String, Tensor>, path: &Path) {
    safetensors::serialize_to_file(tensors, None, path).unwrap();
}

fn largest_difference(a: &Tensor, b: &Tensor) -> f32 {
    let scale = b
        .abs()
        .unwrap()
        .max_all()
        .unwrap()
        .to_scalar::<f32>()
        .unwrap();
    (a - b)
        .unwrap()
        .abs()
        .unwrap()
        .max_all()
        .unwrap()
        .to_scalar::<f32>()
        .unwrap()
        / scale
}

fn batch(lengths: &[usize]) -> Batch {
    let n: usize = lengths.iter().sum();
    let ids = (0..n as u32).map(|i| i * 7 % 50).collect();
    let types = (0..n as u32).map(|i| u32::from(i % 3 == 0)).collect();
    let mut offsets = vec![0];
    offsets.extend(lengths.iter().scan(0, |end, l| {
        *end += l;
        Some(*end)
    }));
    Batch::new(ids, types, offsets).unwrap()
}

#[test]
fn hidden_states_equal_those_of_candle_transformers() {
    let backbone = random(config());
    let oracle = bert::BertModel::load(
        VarBuilder::from_tensors(
            tensors(&backbone).into_iter().collect(),
            DType::F32,
            &Device::Cpu,
        ),
        &bert::Config {
            vocab_size: 50,
            hidden_size: 24,
            num_hidden_layers: 2,
            num_attention_heads: 3,
            intermediate_size: 40,
            max_position_embeddings: 16,
            ..Default::default()
        },
    )
    .unwrap();
    let batch = batch(&[1, 13, 5]);
    let states = backbone
        .hidden_states(&batch, &NoHooks, Phase::Eval)
        .unwrap();
    assert_eq!(states.len(), 3);
    for span in batch.spans().iter() {
        let row = |v: &[u32]| {
            Tensor::new(&v[span.clone()], &Device::Cpu)
                .unwrap()
                .unsqueeze(0)
                .unwrap()
        };
        let expected = oracle
            .forward(&row(batch.ids()), &row(batch.types()), None)
            .unwrap()
            .squeeze(0)
            .unwrap();
        let got = states[2].narrow(0, span.start, span.len()).unwrap();
        assert!(largest_difference(&got, &expected) < 1e-5);
    }
}

#[test]
fn an_example_does_not_depend_on_its_neighbours() {
    for pooling in [Pooling::Mean, Pooling::Cls, Pooling::Pooler] {
        let backbone = random(config()).with_pooling(pooling).unwrap();
        let many = batch(&[3, 16, 1]);
        let pooled = backbone.pooled(&many, &NoHooks, Phase::Eval).unwrap();
        for (i, span) in many.spans().iter().enumerate() {
            let one = Batch::new(
                many.ids()[span.clone()].to_vec(),
                many.types()[span.clone()].to_vec(),
                vec![0, span.len()],
            );
            let alone = backbone
                .pooled(&one.unwrap(), &NoHooks, Phase::Eval)
                .unwrap();
            assert!(largest_difference(&pooled.narrow(0, i, 1).unwrap(), &alone) < 1e-6);
        }
    }
}

#[test]
fn the_pooled_row_is_the_row_of_the_last_hidden_state() {
    let batch = batch(&[4, 9]);
    let last = random(config())
        .hidden_states(&batch, &NoHooks, Phase::Eval)
        .unwrap()
        .pop()
        .unwrap();
    let cls = random(config())
        .with_pooling(Pooling::Cls)
        .unwrap()
        .pooled(&batch, &NoHooks, Phase::Eval)
        .unwrap();
    let mean = random(config())
        .pooled(&batch, &NoHooks, Phase::Eval)
        .unwrap();
    for (i, span) in batch.spans().iter().enumerate() {
        let rows = last.narrow(0, span.start, span.len()).unwrap();
        assert!(
            largest_difference(
                &cls.narrow(0, i, 1).unwrap(),
                &rows.narrow(0, 0, 1).unwrap()
            ) < 1e-6
        );
        assert!(
            largest_difference(
                &mean.narrow(0, i, 1).unwrap(),
                &rows.mean_keepdim(0).unwrap()
            ) < 1e-6
        );
    }
}

#[test]
fn prefixes_and_old_names_of_layer_norms_are_understood() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let backbone = random(config());
    let renamed = tensors(&backbone)
        .into_iter()
        .map(|(name, t)| {
            let name = name
                .replace("LayerNorm.weight", "LayerNorm.gamma")
                .replace("LayerNorm.bias", "LayerNorm.beta");
            (format!("bert.{name}"), t)
        })
        .collect();
    save(&renamed, &path);
    let loaded = Backbone::load(config(), &path).unwrap();
    assert_eq!(
        loaded.weights_digest().unwrap(),
        backbone.weights_digest().unwrap()
    );
    assert_eq!(loaded.parameters(), backbone.parameters());
}

#[test]
fn a_file_cut_short_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    save(&tensors(&random(config())), &path);
    let bytes = std::fs::read(&path).unwrap();
    for length in [0, 7, 100, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..length]).unwrap();
        let message = Backbone::load(config(), &path).err().unwrap().to_string();
        assert!(
            message.contains("model.safetensors") && message.contains("cut short"),
            "{message}"
        );
    }
}

#[test]
fn a_missing_or_misshapen_tensor_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let mut all = tensors(&random(config()));
    let name = "encoder.layer.1.output.dense.weight";
    let original = all
        .insert(
            name.into(),
            Tensor::zeros((3, 4), DType::F32, &Device::Cpu).unwrap(),
        )
        .unwrap();
    save(&all, &path);
    let message = Backbone::load(config(), &path).err().unwrap().to_string();
    assert!(
        message.contains(name) && message.contains("[3, 4]") && message.contains("[24, 40]"),
        "{message}"
    );
    all.insert("other".into(), original);
    all.remove(name);
    save(&all, &path);
    let message = Backbone::load(config(), &path).err().unwrap().to_string();
    assert!(
        message.contains(name) && message.contains("missing"),
        "{message}"
    );
}

#[test]
fn a_pickle_is_refused_with_the_way_to_convert_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pytorch_model.bin");
    std::fs::write(&path, b"PK\x03\x04 and the rest of a zip archive").unwrap();
    let message = Backbone::load(config(), &path).err().unwrap().to_string();
    assert!(
        message.contains("pickle") && message.contains("save_file"),
        "{message}"
    );
}

#[test]
fn an_unsupported_architecture_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    std::fs::write(&path, r#"{"model_type": "t5"}"#).unwrap();
    let message = Config::read(&path).unwrap_err().to_string();
    assert!(
        message.contains("'t5'") && message.contains("roberta"),
        "{message}"
    );
}

#[test]
fn a_checkpoint_without_a_pooler_cannot_be_read_through_one() {
    let mut all = tensors(&random(config()));
    all.retain(|name, _| !name.starts_with("pooler"));
    let backbone = Backbone::build(config(), &mut |name, _| Ok(all.get(name).cloned())).unwrap();
    assert!(
        backbone
            .with_pooling(Pooling::Pooler)
            .err()
            .unwrap()
            .to_string()
            .contains("pooler")
    );
}

#[test]
fn an_example_longer_than_the_position_table_and_an_unknown_id_are_refused() {
    let backbone = random(config());
    let message = backbone
        .pooled(&batch(&[17]), &NoHooks, Phase::Eval)
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("17 tokens") && message.contains("16 positions"),
        "{message}"
    );
    let stranger = Batch::new(vec![50], vec![0], vec![0, 1]).unwrap();
    let message = backbone
        .pooled(&stranger, &NoHooks, Phase::Eval)
        .unwrap_err()
        .to_string();
    assert!(message.contains("token id 50"), "{message}");
}
