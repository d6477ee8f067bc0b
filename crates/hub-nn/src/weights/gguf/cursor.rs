use crate::weights::{Error, source::Source};

/// How much of the head is fetched at once: a vocabulary of a hundred thousand short strings is a few megabytes.
const CHUNK: usize = 64 * 1024;

/// Reads a source from its start, a chunk at a time, and checks every length against what is left of it.
pub(super) struct Cursor<'a> {
    source: &'a Source,
    /// The offset in the source of the first byte of `chunk`.
    start: u64,
    chunk: Vec<u8>,
    /// How much of `chunk` has been taken.
    taken: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(source: &'a Source) -> Self {
        Self { source, start: 0, chunk: Vec::new(), taken: 0 }
    }

    /// Returns the offset of the next byte.
    pub(super) fn at(&self) -> u64 {
        self.start + self.taken as u64
    }

    /// Returns how many bytes follow.
    pub(super) fn left(&self) -> u64 {
        self.source.len().saturating_sub(self.at())
    }

    /// Takes the next `len` bytes.
    pub(super) fn take(&mut self, len: usize) -> Result<&[u8], Error> {
        if self.chunk.len() - self.taken < len {
            let (at, left) = (self.at(), self.left());
            if (len as u64) > left {
                return Err(self.source.corrupt(format!(
                    "{len} bytes should follow offset {at} and {left} do; the file is cut short"
                )));
            }
            let fetch = usize::try_from(left).unwrap_or(usize::MAX).min(len.max(CHUNK));
            self.chunk = self.source.read(at, fetch)?;
            self.start = at;
            self.taken = 0;
        }
        let from = self.taken;
        self.taken += len;
        self.chunk.get(from..self.taken).ok_or_else(|| self.source.corrupt("it changed while it was read"))
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Error> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Error> {
        self.array().map(u64::from_le_bytes)
    }

    /// Takes a count of things of at least `least` bytes each, as many as can follow.
    pub(super) fn count(&mut self, what: &str, least: u64) -> Result<usize, Error> {
        let at = self.at();
        let count = self.u64()?;
        let room = self.left() / least;
        match usize::try_from(count) {
            Ok(count) if count as u64 <= room => Ok(count),
            _ => Err(self
                .source
                .corrupt(format!("it promises {count} {what} at offset {at} and has room for {room}"))),
        }
    }

    /// Takes a text that must be UTF-8: names of keys and tensors.
    pub(super) fn name(&mut self, what: &str) -> Result<String, Error> {
        let at = self.at();
        let bytes = self.bytes()?;
        String::from_utf8(bytes)
            .map_err(|_| self.source.corrupt(format!("the {what} at offset {at} is not UTF-8")))
    }

    /// Takes a text that people wrote; what is not UTF-8 in it becomes a replacement character.
    pub(super) fn text(&mut self) -> Result<String, Error> {
        let bytes = self.bytes()?;
        Ok(String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    fn bytes(&mut self) -> Result<Vec<u8>, Error> {
        let len = self.count("bytes of text", 1)?;
        Ok(self.take(len)?.to_vec())
    }
}
