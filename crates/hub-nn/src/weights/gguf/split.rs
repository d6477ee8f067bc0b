//! A model cut into several files, `NAME-00001-of-00003.gguf` and so on, as llama.cpp's `gguf-split` cuts them: each has a
//! head of its own, and the first one the metadata of the model.

use std::path::{Path, PathBuf};

use crate::weights::{Error, Metadata, source::Source};

/// What a file says of the parts of its model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::weights) struct Split {
    /// Which part it is, from 0.
    number: u64,
    /// How many there are.
    count: u64,
    /// How many tensors all of them hold, if that is said.
    tensors: Option<u64>,
}

impl Split {
    /// Reads what `source` says; `None` for a file that is a whole model.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if it says nothing of itself, or what cannot be.
    pub(in crate::weights) fn of(source: &Source, metadata: &Metadata) -> Result<Option<Self>, Error> {
        let Some(count) = metadata.u64("split.count").filter(|count| *count > 1) else { return Ok(None) };
        match metadata.u64("split.no") {
            Some(number) if number < count => {
                Ok(Some(Self { number, count, tensors: metadata.u64("split.tensors.count") }))
            }
            number => Err(source.corrupt(format!("split.no is {number:?} of {count} parts"))),
        }
    }

    /// Returns the files of all parts, the first one first, from the name of the one that says this.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if its name does not say which part it is.
    pub(in crate::weights) fn paths(self, path: &Path) -> Result<impl Iterator<Item = PathBuf>, Error> {
        let own = ending(self.number, self.count);
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(stem) = name.strip_suffix(&own).map(str::to_owned) else {
            return Err(Error::Unsupported {
                file: path.display().to_string(),
                what: format!("part {} of {} of a model", self.number + 1, self.count),
                instead: "the names of parts end in -00001-of-00003.gguf and so on, by which the others are found: \
                          name them so, or join them with `llama-gguf-split --merge`",
            });
        };
        let path = path.to_owned();
        let name = move |number| format!("{stem}{}", ending(number, self.count));
        Ok((0..self.count).map(move |number| path.with_file_name(name(number))))
    }

    /// Makes sure that a file is part `number` of a model of as many parts.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if it is another.
    pub(in crate::weights) fn check_part(
        self,
        source: &Source,
        metadata: &Metadata,
        number: usize,
    ) -> Result<(), Error> {
        match Self::of(source, metadata)? {
            Some(part) if part.number == number as u64 && part.count == self.count => Ok(()),
            _ => Err(source.corrupt(format!(
                "it is not part {} of {}, as its name says",
                number + 1,
                self.count
            ))),
        }
    }

    /// Makes sure that the parts hold as many tensors as they say.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if they hold fewer or more.
    pub(in crate::weights) fn check_tensors(self, source: &Source, found: usize) -> Result<(), Error> {
        match self.tensors {
            Some(tensors) if tensors != found as u64 => Err(source.corrupt(format!(
                "its parts hold {found} tensors, where it says {tensors}; download them again"
            ))),
            _ => Ok(()),
        }
    }
}

fn ending(number: u64, count: u64) -> String {
    format!("-{:05}-of-{count:05}.gguf", number + 1)
}
