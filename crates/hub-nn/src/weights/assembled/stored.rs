//! The tensors of files that are being opened, among which formats find their parts.

use std::collections::HashSet;

use indexmap::IndexMap;

use super::plain::numbers;
use crate::weights::{Error, TensorInfo, quantization_config::QuantizationConfig, source::Source};

/// How many bytes are looked at at once.
const PIECE: usize = 1 << 20;

pub(super) struct Stored<'a> {
    /// What errors call the files.
    pub(super) file: &'a str,
    pub(super) sources: &'a [Source],
    pub(super) tensors: &'a IndexMap<String, TensorInfo>,
    pub(super) quantization: &'a QuantizationConfig,
}

/// What a format found.
#[derive(Default)]
pub(super) struct Made {
    /// The tensors that are made of others.
    pub(super) made: Vec<(String, TensorInfo)>,
    /// The names of the parts.
    pub(super) taken: HashSet<String>,
}

impl Stored<'_> {
    /// Iterates over what stands before `suffix` in the names that end in it.
    pub(super) fn stems(&self, suffix: &str) -> impl Iterator<Item = &str> {
        self.tensors.keys().filter_map(move |name| name.strip_suffix(suffix))
    }

    pub(super) fn get(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name)
    }

    /// Returns a part that must be there.
    pub(super) fn part(&self, name: &str, beside: &str) -> Result<&TensorInfo, Error> {
        self.get(name).ok_or_else(|| self.corrupt(format!("tensor `{beside}` is there, and `{name}` is not")))
    }

    /// Reads a whole part.
    pub(super) fn read(&self, info: &TensorInfo) -> Result<Vec<u8>, Error> {
        self.source(info)?.read(info.offset, info.len)
    }

    /// Looks at all numbers of a part, some of them at a time.
    pub(super) fn each(&self, info: &TensorInfo, mut look: impl FnMut(&[f32])) -> Result<(), Error> {
        self.pieces(info, |bytes| look(&numbers(info.kind, bytes)))
    }

    /// Looks at all bytes of a part, some of them at a time.
    pub(super) fn pieces(&self, info: &TensorInfo, mut look: impl FnMut(&[u8])) -> Result<(), Error> {
        let source = self.source(info)?;
        for start in (0..info.len).step_by(PIECE) {
            look(&source.read(info.offset + start as u64, PIECE.min(info.len - start))?);
        }
        Ok(())
    }

    pub(super) fn corrupt(&self, reason: impl Into<String>) -> Error {
        Error::Corrupt { file: self.file.to_owned(), reason: reason.into() }
    }

    /// Makes the error for a tensor whose shape does not go with the others'.
    pub(super) fn misfit(&self, name: &str, info: &TensorInfo, expected: &str) -> Error {
        let (kind, shape) = (info.kind, &info.shape);
        self.corrupt(format!("tensor `{name}` is {kind} {shape:?}, and should be {expected}"))
    }

    /// Makes the error for a tensor of a format that is known, in a form that is not read.
    pub(super) fn unsupported(&self, name: &str, form: impl Into<String>) -> Error {
        Error::UnsupportedTensor { file: self.file.to_owned(), name: name.to_owned(), dtype: form.into() }
    }

    fn source(&self, info: &TensorInfo) -> Result<&Source, Error> {
        let missing = || self.corrupt(format!("its file {} is not there", info.source));
        self.sources.get(info.source).ok_or_else(missing)
    }
}
