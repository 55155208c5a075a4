//! Reading weights: safetensors, one file or several with an index, one tensor at a time.
//!
//! Reading tensor by tensor keeps one copy in memory instead of the file and its tensors. Every size is checked against the
//! file before anything is allocated, and every number that is read is finite.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::Mutex,
};

use candle_core::{
    DType, Device, Tensor,
    quantized::{GgmlDType, QTensor},
};
use kernels::{BlockKind, Linear, Quantised};
use safetensors::{Dtype, tensor::Metadata};
use sha2::{Digest, Sha256};

use crate::{
    Error, Result,
    checks::{check_finite, open_regular},
    gguf::{Gguf, is_gguf},
};

/// An open safetensors file whose header has been checked against its length.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    file: Mutex<File>,
    metadata: Metadata,
    start: u64,
}

/// The largest header that is read: real ones are far below it.
const MAX_HEADER: u64 = 100_000_000;

impl TensorFile {
    /// Opens a safetensors file.
    ///
    /// # Errors
    /// If it cannot be read, is a pickle (refused: reading one can run code), is cut short, or has a damaged header.
    pub fn open(path: &Path) -> Result<Self> {
        let read = |error| Error::Read {
            path: path.to_owned(),
            error,
        };
        let bad = |what: String| Error::content(path, what);
        let mut file = open_regular(path)?;
        let length = file.metadata().map_err(read)?.len();
        let mut head = [0u8; 8];
        let extension = path
            .extension()
            .and_then(|e| e.to_str())
            .unwrap_or_default();
        let known_pickle = matches!(extension, "bin" | "pt" | "pth" | "ckpt");
        if length < 8 {
            return Err(bad(format!(
                "{length} bytes is too short for a safetensors file; it was cut short"
            )));
        }
        file.read_exact(&mut head).map_err(read)?;
        if head == LFS_POINTER[..8] {
            return Err(bad(POINTER.into()));
        }
        if known_pickle
            || head.starts_with(b"PK\x03\x04")
            || head[0] == 0x80 && head[1] <= 5 && head[2..] != [0; 6]
        {
            return Err(bad(format!("is a pickle{}", conversion(path))));
        }
        let header = u64::from_le_bytes(head);
        if header > MAX_HEADER || 8 + header > length {
            return Err(bad(format!(
                "its header should take {header} bytes but the file has {length}: cut short, or not a safetensors file"
            )));
        }
        let mut json = vec![0u8; header as usize];
        file.read_exact(&mut json).map_err(read)?;
        let metadata: Metadata =
            serde_json::from_slice(&json).map_err(|e| bad(format!("damaged header: {e}")))?;
        let end = metadata
            .tensors()
            .values()
            .map(|t| t.data_offsets.1 as u64)
            .max()
            .unwrap_or(0);
        if 8 + header + end != length {
            return Err(bad(format!(
                "its tensors need {} bytes but the file has {length}: cut short or damaged; fetch it again",
                8 + header + end
            )));
        }
        Ok(Self {
            path: path.to_owned(),
            file: Mutex::new(file),
            metadata,
            start: 8 + header,
        })
    }

    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names = self.metadata.offset_keys();
        names.sort();
        names
    }

    /// The text metadata of the header.
    pub fn metadata(&self) -> Option<&std::collections::HashMap<String, String>> {
        self.metadata.metadata().as_ref()
    }

    /// Whether a tensor of this name exists.
    pub fn contains(&self, name: &str) -> bool {
        self.metadata.info(name).is_some()
    }

    /// Shape of a tensor, if it exists.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.metadata.info(name).map(|i| i.shape.as_slice())
    }

    /// Reads a tensor as f32.
    ///
    /// # Errors
    /// If it is missing, has another shape than `shape` (where given), or is not of a float type.
    pub fn read(&self, name: &str, shape: Option<&[usize]>) -> Result<Tensor> {
        let bad = |what: String| Error::content(&self.path, what);
        let info = self
            .metadata
            .info(name)
            .ok_or_else(|| bad(format!("tensor '{name}' is missing")))?;
        if let Some(shape) = shape.filter(|s| *s != info.shape) {
            return Err(bad(format!(
                "tensor '{name}' has shape {:?}, expected {shape:?}",
                info.shape
            )));
        }
        let (begin, end) = info.data_offsets;
        let elements = info.shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        let width = match info.dtype {
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::BF16 => 2,
            Dtype::F64 => 8,
            other => {
                return Err(bad(format!(
                    "tensor '{name}' has type {other:?}; floats are needed"
                )));
            }
        };
        if end < begin || elements.and_then(|n| n.checked_mul(width)) != Some(end - begin) {
            return Err(bad(format!(
                "tensor '{name}' has {} bytes for shape {:?}",
                end.saturating_sub(begin),
                info.shape
            )));
        }
        let fill = |bytes: &mut [u8]| -> Result<()> {
            let mut file = self
                .file
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            file.seek(SeekFrom::Start(self.start + begin as u64))
                .and_then(|_| file.read_exact(bytes))
                .map_err(|error| Error::Read {
                    path: self.path.clone(),
                    error,
                })
        };
        let finite = |data: &[f32]| check_finite(&self.path, name, data, &info.shape);
        if info.dtype == Dtype::F32 {
            let mut data = vec![0f32; (end - begin) / 4];
            fill(bytemuck::cast_slice_mut(&mut data))?;
            finite(&data)?;
            return Ok(Tensor::from_vec(data, info.shape.as_slice(), &Device::Cpu)?);
        }
        let mut data = vec![0u8; end - begin];
        fill(&mut data)?;
        let dtype = DType::try_from(info.dtype)?;
        let tensor = Tensor::from_raw_buffer(&data, dtype, &info.shape, &Device::Cpu)?
            .to_dtype(DType::F32)?;
        if let candle_core::Storage::Cpu(candle_core::CpuStorage::F32(values)) =
            &*tensor.storage_and_layout().0
        {
            finite(values)?;
        }
        Ok(tensor)
    }
}

const LFS_POINTER: &[u8] = b"version https://git-lfs";
const POINTER: &str = "is a Git LFS pointer, not the file itself; run `git lfs pull` in its folder";

/// What to do with a pickle, in one line.
fn conversion(path: &Path) -> String {
    let folder = path.parent().unwrap_or(Path::new("."));
    format!(
        ", which can run code when it is read; convert it once with: python -c \"import torch, safetensors.torch as s; \
         s.save_file({{k: v.clone().contiguous() for k, v in torch.load('{}', weights_only=True).items()}}, '{}')\"",
        path.display(),
        folder.join("model.safetensors").display()
    )
}

/// The largest configuration or index that is read.
const MAX_JSON: u64 = 1 << 26;

/// The bytes of a small file.
pub(crate) fn read_whole(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_regular(path)?
        .take(MAX_JSON)
        .read_to_end(&mut bytes)
        .map_err(|error| Error::Read {
            path: path.to_owned(),
            error,
        })?;
    if bytes.starts_with(LFS_POINTER) {
        return Err(Error::content(path, POINTER));
    }
    Ok(bytes)
}

/// The file in a folder that holds its weights: `model.safetensors`, or the index of several.
///
/// # Errors
/// If there is neither; where a Python program could convert what is there, the message holds it.
pub fn weights_file(folder: &Path) -> Result<PathBuf> {
    for name in ["model.safetensors", "model.safetensors.index.json"] {
        if folder.join(name).exists() {
            return Ok(folder.join(name));
        }
    }
    let pickle = folder.join("pytorch_model.bin");
    if pickle.exists() {
        let what = format!(
            "missing; pytorch_model.bin is a pickle{}",
            conversion(&pickle)
        );
        return Err(Error::content(&folder.join("model.safetensors"), what));
    }
    let other = [
        "pytorch_model.bin.index.json",
        "tf_model.h5",
        "flax_model.msgpack",
    ];
    let what = match other.into_iter().find(|name| folder.join(name).exists()) {
        Some(name) => format!(
            "missing, and {name} is not read; convert it once with: python -c \"from transformers import AutoModel as A; \
             A.from_pretrained('{0}'{1}).save_pretrained('{0}')\"",
            folder.display(),
            match name {
                "tf_model.h5" => ", from_tf=True",
                "flax_model.msgpack" => ", from_flax=True",
                _ => "",
            }
        ),
        None => {
            "missing; a backbone's folder needs config.json, a tokenizer and model.safetensors \
                 (or model.safetensors.index.json with its parts)"
                .into()
        }
    };
    Err(Error::content(&folder.join("model.safetensors"), what))
}

/// The weights of a backbone: one safetensors file, the parts that an index names, or a GGUF.
#[derive(Debug)]
pub(crate) enum Weights {
    Safetensors(PathBuf, Vec<TensorFile>),
    Gguf(Box<Gguf>),
}

impl Weights {
    /// Opens `model.safetensors`, `model.safetensors.index.json` or a GGUF.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        if is_gguf(path) {
            return Ok(Self::Gguf(Box::new(Gguf::open(path)?)));
        }
        let parts = if path.extension().is_some_and(|e| e == "json") {
            Self::parts(path)?
        } else {
            vec![TensorFile::open(path)?]
        };
        Ok(Self::Safetensors(path.to_owned(), parts))
    }

    fn parts(path: &Path) -> Result<Vec<TensorFile>> {
        let bad = |what: String| Error::content(path, what);
        let index: serde_json::Value = serde_json::from_slice(&read_whole(path)?)
            .map_err(|e| bad(format!("is not JSON: {e}")))?;
        let map = index["weight_map"]
            .as_object()
            .filter(|map| !map.is_empty())
            .ok_or_else(|| bad("has no weight_map from tensors to files".into()))?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut parts: Vec<(&str, TensorFile)> = Vec::new();
        for (tensor, file) in map {
            let file = file
                .as_str()
                .filter(|name| Path::new(name).file_name() == Some(name.as_ref()))
                .ok_or_else(|| {
                    bad(format!(
                        "weight_map: '{tensor}' is in {file}, which is not the name of a file in this folder"
                    ))
                })?;
            if !parts.iter().any(|(name, _)| *name == file) {
                if !folder.join(file).exists() {
                    return Err(bad(format!(
                        "'{tensor}' is in '{file}', which is missing; fetch it again"
                    )));
                }
                parts.push((file, TensorFile::open(&folder.join(file))?));
            }
            if parts
                .iter()
                .any(|(name, part)| *name == file && !part.contains(tensor))
            {
                return Err(bad(format!(
                    "'{tensor}' should be in '{file}', which has no such tensor"
                )));
            }
        }
        Ok(parts.into_iter().map(|(_, part)| part).collect())
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        match self {
            Self::Safetensors(_, parts) => parts.iter().any(|part| part.contains(name)),
            Self::Gguf(gguf) => gguf.contains(name),
        }
    }

    pub(crate) fn read(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        match self {
            Self::Gguf(gguf) => gguf.read(name, shape),
            Self::Safetensors(path, parts) => match parts.iter().find(|part| part.contains(name)) {
                Some(part) => part.read(name, Some(shape)),
                None => Err(Error::content(path, format!("tensor '{name}' is missing"))),
            },
        }
    }
}

impl Weights {
    /// A matrix in the blocks in which it is stored; `None` if it is in none.
    pub(crate) fn blocks(&self, name: &str, shape: [usize; 2]) -> Result<Option<Quantised>> {
        match self {
            Self::Gguf(gguf) => gguf.blocks(name, shape),
            Self::Safetensors(..) => Ok(None),
        }
    }
}

/// A weight `[out, in]` rounded to GGML's Q4_1: for each 32 inputs of an output, sixteen numbers of equal distance from the lowest
/// to the highest value. Says why where that cannot be.
pub(crate) fn rounded_to_blocks(weight: &Tensor) -> std::result::Result<Quantised, String> {
    let (out, width) = weight.dims2().map_err(|e| e.to_string())?;
    let of_block = GgmlDType::Q4_1.block_size();
    if !width.is_multiple_of(of_block) {
        return Err(format!(
            "blocks of {of_block} values do not fill rows of {width}; accepted for this file: f32, bf16, int8"
        ));
    }
    let blocks = QTensor::quantize(weight, GgmlDType::Q4_1).map_err(|e| e.to_string())?;
    let bytes = blocks.data().map_err(|e| e.to_string())?;
    let blocks = Quantised::from_blocks(BlockKind::Q4_1, out, width, &bytes);
    blocks.ok_or_else(|| "a value is too large for the f16 in which a block has its scale".into())
}

/// The output matrix `[V, H]` of a language model that is not its table of embeddings.
///
/// # Errors
/// If the file cannot be read or has none.
pub fn output_matrix(path: &Path, config: &crate::Config) -> Result<Tensor> {
    Weights::open(path)?.read("lm_head.weight", &[config.vocabulary, config.hidden])
}

/// The output over the vocabulary `[V, H]` in the blocks in which the file has it, its table of embeddings where they are tied;
/// `None` if it has it in none.
///
/// # Errors
/// If the file cannot be read.
pub fn output_blocks(path: &Path, config: &crate::Config) -> Result<Option<Linear>> {
    let name = match config.description.tied {
        true => config.architecture.words(),
        false => "lm_head.weight",
    };
    let blocks = Weights::open(path)?.blocks(name, [config.vocabulary, config.hidden])?;
    Ok(blocks
        .map(|blocks| Linear::of_blocks(blocks, None))
        .transpose()?)
}

/// SHA-256 over tensors in the given order, as hexadecimal digits.
///
/// # Errors
/// If a tensor cannot be read back.
pub fn digest_of<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> Result<String> {
    let mut hasher = Sha256::new();
    for tensor in tensors {
        hash(&mut hasher, tensor)?;
    }
    Ok(hex(&hasher.finalize()))
}

/// Adds a tensor's values to a digest.
pub(crate) fn hash(hasher: &mut Sha256, tensor: &Tensor) -> Result<()> {
    bytes_of(tensor, &mut |bytes| hasher.update(bytes))
}

/// Gives the bytes of a tensor's values in f32 to `take`.
pub(crate) fn bytes_of(tensor: &Tensor, take: &mut dyn FnMut(&[u8])) -> Result<()> {
    let (storage, layout) = tensor.storage_and_layout();
    if let (candle_core::Storage::Cpu(candle_core::CpuStorage::F32(values)), Some((from, to))) =
        (&*storage, layout.contiguous_offsets())
    {
        take(bytemuck::cast_slice(&values[from..to]));
        return Ok(());
    }
    drop(storage);
    let values = tensor
        .to_dtype(DType::F32)?
        .flatten_all()?
        .to_vec1::<f32>()?;
    take(bytemuck::cast_slice(&values));
    Ok(())
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
