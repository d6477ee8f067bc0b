//! Small files that `torch.save` wrote: a dictionary of tensors, inside a Python pickle.
//!
//! A pickle may ask for any code to be run. Nothing is run here: what is not a tensor of a known kind is not read. candle
//! reads the format.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use candle_core::{DType, pickle::PthTensors};

use super::{Error, RawTensor};

/// The longest file that is read: parts of models, not models.
const MAX_BYTES: u64 = 64 << 20;

/// Reads every tensor of a file, as `f32`.
///
/// # Errors
/// [`Error::Read`]; [`Error::Corrupt`] for what is no such file, or too long to be a part of a model.
pub(super) fn read(path: &Path) -> Result<Vec<(String, RawTensor)>, Error> {
    let file = path.display().to_string();
    let metadata = fs::metadata(path).map_err(|source| Error::Read { file: file.clone(), source })?;
    let (len, corrupt) = (metadata.len(), |reason: String| Error::Corrupt { file: file.clone(), reason });
    if !metadata.is_file() {
        return Err(corrupt("it is no regular file".to_owned()));
    }
    if len > MAX_BYTES {
        return Err(corrupt(format!("it has {len} bytes, and such a file may have {MAX_BYTES}")));
    }
    // The library counts on what it reads being well formed.
    let read = catch_unwind(AssertUnwindSafe(|| tensors(path, len)));
    read.unwrap_or_else(|_| Err("it is no dictionary of tensors".to_owned())).map_err(corrupt)
}

fn tensors(path: &Path, len: u64) -> Result<Vec<(String, RawTensor)>, String> {
    let told = |error: candle_core::Error| error.to_string();
    let all = PthTensors::new(path, None).map_err(told)?;
    let mut read = Vec::new();
    for (name, info) in all.tensor_infos() {
        let shape = info.layout.shape();
        let count = shape.dims().iter().try_fold(1_usize, |count, dim| count.checked_mul(*dim));
        let bytes = count.and_then(|count| count.checked_mul(info.dtype.size_in_bytes()));
        if bytes.is_none_or(|bytes| bytes as u64 > len) {
            return Err(format!("tensor `{name}` is longer than the file"));
        }
        let Some(tensor) = all.get(name).map_err(told)? else { continue };
        let numbers = tensor.to_dtype(DType::F32).and_then(|tensor| tensor.flatten_all()?.to_vec1());
        let raw = RawTensor::from_f32(shape.dims().to_vec(), &numbers.map_err(told)?);
        read.push((name.clone(), raw.map_err(|error| error.to_string())?));
    }
    read.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(read)
}
