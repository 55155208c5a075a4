//! Reading weights: safetensors, one tensor at a time.
//!
//! Reading tensor by tensor keeps one copy in memory instead of the file and its tensors.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::Mutex,
};

use candle_core::{DType, Device, Tensor};
use safetensors::{Dtype, tensor::Metadata};
use sha2::{Digest, Sha256};

use crate::{Error, Result};

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
        let read = |source| Error::Read {
            path: path.to_owned(),
            source,
        };
        let bad = |what: String| Error::content(path, what);
        let mut file = File::open(path).map_err(read)?;
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
        if known_pickle
            || head.starts_with(b"PK\x03\x04")
            || head[0] == 0x80 && head[1] <= 5 && head[2..] != [0; 6]
        {
            return Err(bad(format!(
                "is a pickle, which can run code when it is read; convert it once with: python -c \"import torch, \
                 safetensors.torch as s; s.save_file({{k: v.contiguous() for k, v in torch.load('{0}', \
                 weights_only=True).items()}}, 'model.safetensors')\"",
                path.display()
            )));
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
                .map_err(|source| Error::Read {
                    path: self.path.clone(),
                    source,
                })
        };
        if info.dtype == Dtype::F32 {
            let mut data = vec![0f32; (end - begin) / 4];
            fill(bytemuck::cast_slice_mut(&mut data))?;
            return Ok(Tensor::from_vec(data, info.shape.as_slice(), &Device::Cpu)?);
        }
        let mut data = vec![0u8; end - begin];
        fill(&mut data)?;
        let dtype = DType::try_from(info.dtype)?;
        Ok(
            Tensor::from_raw_buffer(&data, dtype, &info.shape, &Device::Cpu)?
                .to_dtype(DType::F32)?,
        )
    }
}

/// SHA-256 over tensors in the given order, as hexadecimal digits.
///
/// # Errors
/// If a tensor cannot be read back.
pub fn digest_of<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> Result<String> {
    let mut hasher = Sha256::new();
    for tensor in tensors {
        let (storage, layout) = tensor.storage_and_layout();
        if let (candle_core::Storage::Cpu(candle_core::CpuStorage::F32(values)), Some((from, to))) =
            (&*storage, layout.contiguous_offsets())
        {
            hasher.update(bytemuck::cast_slice(&values[from..to]));
        } else {
            drop(storage);
            let values = tensor
                .to_dtype(DType::F32)?
                .flatten_all()?
                .to_vec1::<f32>()?;
            hasher.update(bytemuck::cast_slice(&values));
        }
    }
    Ok(hasher
        .finalize()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect())
}
