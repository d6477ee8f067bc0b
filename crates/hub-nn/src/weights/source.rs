use std::{borrow::Cow, fs::File, io, path::Path};

use super::Error;
use crate::os;

/// Bytes that can be read from any place by several threads at once.
#[derive(Debug)]
pub(super) struct Source {
    name: String,
    len: u64,
    bytes: Bytes,
}

#[derive(Debug)]
enum Bytes {
    File(File),
    Memory(Cow<'static, [u8]>),
}

impl Source {
    /// Opens a regular file: a pipe or a device has no length to check anything against.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let name = path.display().to_string();
        let read = |source: io::Error| Error::Read { file: name.clone(), source };
        let not_a_file = || Error::UnknownFormat { file: name.clone() };
        let metadata = std::fs::metadata(path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => Error::NotFound { path: path.to_owned() },
            _ => read(source),
        })?;
        if !metadata.is_file() {
            return Err(not_a_file());
        }
        let file = File::open(path).map_err(read)?;
        // Asked again of the open file, which is the one that is read.
        let metadata = file.metadata().map_err(read)?;
        if !metadata.is_file() {
            return Err(not_a_file());
        }
        let len = metadata.len();
        Ok(Self { name, len, bytes: Bytes::File(file) })
    }

    /// Wraps bytes that are in memory; errors call them `name`.
    pub(super) fn memory(name: &str, bytes: Cow<'static, [u8]>) -> Self {
        Self { name: name.to_owned(), len: bytes.len() as u64, bytes: Bytes::Memory(bytes) }
    }

    /// Whether the bytes are in a file.
    pub(super) fn is_file(&self) -> bool {
        matches!(self.bytes, Bytes::File(_))
    }

    /// Returns what errors call the source.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the length in bytes at the time of opening.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Reads `len` bytes from `offset`. Nothing is allocated for a range that the source does not have.
    pub(super) fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>, Error> {
        let end = offset.checked_add(len as u64).filter(|&end| end <= self.len);
        let Some(end) = end else {
            return Err(self.corrupt(format!(
                "{len} bytes at offset {offset} lie past its end at {}; the file is cut short",
                self.len
            )));
        };
        let io = |source: io::Error| Error::Read { file: self.name.clone(), source };
        match &self.bytes {
            Bytes::File(file) => {
                let mut out = Vec::new();
                // A sparse file can be longer than any memory.
                out.try_reserve_exact(len).map_err(|_| io(io::ErrorKind::OutOfMemory.into()))?;
                out.resize(len, 0);
                os::read_exact_at(file, &mut out, offset).map_err(io)?;
                Ok(out)
            }
            Bytes::Memory(bytes) => bytes
                .get(offset as usize..end as usize)
                .map(<[u8]>::to_vec)
                .ok_or_else(|| io(io::ErrorKind::UnexpectedEof.into())),
        }
    }

    /// Fills `out` with what lies at `offset`.
    pub(super) fn read_into(&self, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        let io = |source: io::Error| Error::Read { file: self.name.clone(), source };
        match &self.bytes {
            Bytes::File(file) => os::read_exact_at(file, out, offset).map_err(io),
            Bytes::Memory(bytes) => {
                let from = bytes.get(offset as usize..).and_then(|bytes| bytes.get(..out.len()));
                out.copy_from_slice(from.ok_or_else(|| io(io::ErrorKind::UnexpectedEof.into()))?);
                Ok(())
            }
        }
    }

    /// Makes the error for a source whose content does not fit together.
    pub(super) fn corrupt(&self, reason: impl Into<String>) -> Error {
        Error::Corrupt { file: self.name.clone(), reason: reason.into() }
    }
}
