//! Vectors of examples that no training changes: each is computed once, and those of a split that several runs are judged by are
//! kept in the cache, for every seed and method over the same frozen backbone.
//!
//! A row has the same bits in whatever batch it is computed, so that it does not matter who has computed it. What may change
//! bits (weights, configuration, tokenizer, precision, instruction set, the code itself) is in the file's name.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    path::{Path, PathBuf},
};

use candle_core::{Device, Tensor};
use datasets::Encoded;
use sha2::{Digest, Sha256};

use super::model::{Model, batch_of, by_example, pooled_rows};
use crate::prepare::LoadedBackbone;

/// Larger files are not worth their room.
const MOST_BYTES: usize = 1 << 26;

/// The file in which the vectors of a split lie.
pub struct FeatureFile(PathBuf);

impl FeatureFile {
    /// The file for the vectors that the bare backbone gives these examples.
    pub fn of(cache: &Path, loaded: &LoadedBackbone, examples: &Encoded) -> Self {
        let backbone = &loaded.backbone;
        let code = format!(
            "{} {} {} {:?} {} {}",
            env!("PEFTBENCH_NUMERICS"),
            backbone.precision().name(),
            backbone.pooling().name(),
            kernels::levels()[0],
            kernels::bf16_unit().name(),
            kernels::reference_path(),
        );
        Self::named(cache, &code, &loaded.digest, examples)
    }

    /// The file for the vectors that this code computes over the backbone of this digest.
    fn named(cache: &Path, code: &str, backbone: &str, examples: &Encoded) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(code);
        hasher.update(backbone);
        for (i, offset) in examples.offsets.iter().enumerate() {
            hasher.update(offset.to_le_bytes());
            for word in examples.words.get(i).into_iter().flatten() {
                hasher.update(word.token.to_le_bytes());
            }
        }
        for id in &examples.ids {
            hasher.update(id.to_le_bytes());
        }
        hasher.update(&examples.types);
        let name = format!("{:x}", hasher.finalize());
        Self(cache.join("features").join(name))
    }

    /// So many numbers, if the file is whole.
    fn read(&self, numbers: usize) -> Option<Vec<f32>> {
        let bytes = record::files::read(&self.0).ok()?;
        let (content, digest) = bytes.split_last_chunk::<32>()?;
        let whole = content.len() == 4 * numbers && Sha256::digest(content)[..] == digest[..];
        let number = |b: &[u8]| f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        whole.then(|| content.chunks_exact(4).map(number).collect())
    }

    fn write(&self, numbers: &[f32]) {
        if size_of_val(numbers) > MOST_BYTES {
            return;
        }
        let mut bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
        let digest = Sha256::digest(&bytes);
        bytes.extend_from_slice(&digest);
        // A read-only or full disk does not stop a run that has its vectors in memory.
        let made = self.0.parent().map_or(Ok(()), fs::create_dir_all);
        let _ = made.map(|()| record::write_whole(&self.0, &bytes));
    }
}

/// Vectors by example; several of one where it is read word by word.
#[derive(Default)]
pub struct Features {
    rows: HashMap<u32, Vec<f32>>,
    /// Where those of all examples are kept.
    file: Option<FeatureFile>,
}

impl Features {
    /// Vectors that are kept for other runs too.
    pub fn kept_in(file: Option<FeatureFile>) -> Self {
        Self {
            file,
            ..Self::default()
        }
    }

    /// The vectors that are read of some examples, `[B, H]` or `[W, H]`; those not seen before go through the backbone.
    ///
    /// # Errors
    /// As [`backbone::Backbone::pooled`].
    pub fn pooled(
        &mut self,
        model: Model<'_>,
        examples: &Encoded,
        indices: &[u32],
    ) -> backbone::Result<Tensor> {
        let new: Vec<u32> = indices
            .iter()
            .copied()
            .filter(|i| !self.rows.contains_key(i))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        if !new.is_empty() {
            let batch = batch_of(examples, &new)?;
            let pooled = || model.pooled(&batch, backbone::Phase::Eval);
            let rows = kernels::without_gradients(pooled)?.to_vec2()?;
            let rows = by_example(rows, (0..new.len()).map(|i| batch.vectors(i)));
            self.rows.extend(new.into_iter().zip(rows));
        }
        let of_example = |i: &u32| self.rows[i].iter().copied();
        tensor(model, indices.iter().flat_map(of_example).collect())
    }

    /// The vectors of all examples in their own order.
    ///
    /// # Errors
    /// As [`backbone::Backbone::pooled`].
    pub fn of_all(&mut self, model: Model<'_>, examples: &Encoded) -> backbone::Result<Tensor> {
        let hidden = model.backbone.config().hidden;
        let counts: Vec<usize> = (0..examples.len())
            .map(|i| examples.words.get(i).map_or(1, Vec::len))
            .collect();
        if self.rows.len() < examples.len() {
            let numbers = hidden * counts.iter().sum::<usize>();
            let kept = self.file.as_ref().and_then(|file| file.read(numbers));
            if let Some(kept) = kept {
                let mut rest = &kept[..];
                for (i, count) in counts.iter().enumerate() {
                    let (own, behind) = rest.split_at(count * hidden);
                    self.rows.insert(i as u32, own.to_vec());
                    rest = behind;
                }
            } else {
                let rows = pooled_rows(model, examples)?;
                self.rows = (0..).zip(rows).collect();
                if let Some(file) = &self.file {
                    file.write(&self.in_order(examples.len()));
                }
            }
        }
        tensor(model, self.in_order(examples.len()))
    }

    fn in_order(&self, examples: usize) -> Vec<f32> {
        (0..examples as u32)
            .flat_map(|i| &self.rows[&i])
            .copied()
            .collect()
    }
}

/// Vectors of the model's width.
fn tensor(model: Model<'_>, rows: Vec<f32>) -> backbone::Result<Tensor> {
    let hidden = model.backbone.config().hidden;
    let count = rows.len() / hidden;
    Ok(Tensor::from_vec(rows, (count, hidden), &Device::Cpu)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn another_code_backbone_or_text_has_a_file_of_its_own() {
        let texts = |ids: &[u32]| Encoded {
            ids: ids.to_vec(),
            types: vec![0; ids.len()],
            offsets: vec![0, ids.len()],
            labels: Vec::new(),
            words: Vec::new(),
            truncated: 0,
        };
        let named = |code: &str, backbone: &str, ids: &[u32]| {
            FeatureFile::named(Path::new("cache"), code, backbone, &texts(ids)).0
        };
        let file = named("a", "b", &[5, 7]);
        assert_eq!(file, named("a", "b", &[5, 7]));
        let others = [
            named("a2", "b", &[5, 7]),
            named("a", "b2", &[5, 7]),
            named("a", "b", &[5, 8]),
        ];
        assert!(!others.contains(&file), "{others:?}");
    }

    #[test]
    fn vectors_come_back_bit_by_bit_and_a_damaged_file_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = FeatureFile(folder.path().join("features").join("x"));
        assert!(file.read(3).is_none());
        let numbers = [1.5, -0.0, f32::MIN_POSITIVE / 8.0];
        file.write(&numbers);
        let bits = |numbers: &[f32]| -> Vec<u32> { numbers.iter().map(|x| x.to_bits()).collect() };
        assert_eq!(bits(&file.read(3).unwrap()), bits(&numbers));
        assert!(file.read(2).is_none());
        let mut bytes = fs::read(&file.0).unwrap();
        bytes[5] ^= 1;
        fs::write(&file.0, &bytes).unwrap();
        assert!(file.read(3).is_none());
        fs::write(&file.0, &bytes[..7]).unwrap();
        assert!(file.read(3).is_none());
    }
}
