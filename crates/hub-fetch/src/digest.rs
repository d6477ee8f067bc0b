use std::{
    fmt,
    fs::File,
    io::{self, Read},
};

use hub_base::CancelToken;
use sha1::Digest as _;

/// What a file's bytes must hash to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Digest {
    /// SHA-256, in lower-case hexadecimal.
    Sha256(String),
    /// What git calls a blob: SHA-1 over `blob LENGTH\0` and the bytes. Hugging Face names small files so.
    GitBlob(String),
}

impl Digest {
    /// Reads 64 hexadecimal digits as SHA-256, with or without `sha256:` before them.
    pub fn sha256(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        is_hex(digits, 64).then(|| Self::Sha256(digits.to_ascii_lowercase()))
    }

    /// Reads 40 hexadecimal digits as the name of a git blob.
    pub(crate) fn git_blob(digits: &str) -> Option<Self> {
        is_hex(digits, 40).then(|| Self::GitBlob(digits.to_ascii_lowercase()))
    }

    /// Returns the digits.
    pub fn digits(&self) -> &str {
        match self {
            Self::Sha256(digits) | Self::GitBlob(digits) => digits,
        }
    }

    /// Returns the digits of a SHA-256; `None` for another kind.
    pub(crate) fn sha256_digits(&self) -> Option<String> {
        match self {
            Self::Sha256(digits) => Some(digits.clone()),
            Self::GitBlob(_) => None,
        }
    }

    /// Hashes a file in the same way; `read` is told how much was read. `None` if it was cancelled.
    pub(crate) fn of_file(
        &self,
        file: &mut File,
        read: impl FnMut(u64),
        cancel: &CancelToken,
    ) -> io::Result<Option<Self>> {
        match self {
            Self::Sha256(_) => {
                let mut hash = sha2::Sha256::new();
                let is_whole = feed(file, |bytes| hash.update(bytes), read, cancel)?;
                Ok(is_whole.then(|| Self::Sha256(hex(&hash.finalize()))))
            }
            Self::GitBlob(_) => {
                let mut hash = sha1::Sha1::new();
                hash.update(format!("blob {}\0", file.metadata()?.len()));
                let is_whole = feed(file, |bytes| hash.update(bytes), read, cancel)?;
                Ok(is_whole.then(|| Self::GitBlob(hex(&hash.finalize()))))
            }
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256(digits) => write!(f, "sha256:{digits}"),
            Self::GitBlob(digits) => write!(f, "git:{digits}"),
        }
    }
}

/// Passes a file on, piece by piece; `false` if it was cancelled.
fn feed(
    file: &mut File,
    mut take: impl FnMut(&[u8]),
    mut read: impl FnMut(u64),
    cancel: &CancelToken,
) -> io::Result<bool> {
    let mut buffer = vec![0; 1 << 20];
    loop {
        if cancel.is_cancelled() {
            return Ok(false);
        }
        let count = file.read(&mut buffer)?;
        let Some(piece) = buffer.get(..count).filter(|piece| !piece.is_empty()) else { return Ok(true) };
        take(piece);
        read(count as u64);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_hex(text: &str, len: usize) -> bool {
    text.len() == len && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[track_caller]
    fn check(expected: Digest) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"what is this\n").unwrap();
        let found =
            expected.of_file(&mut file.reopen().unwrap(), |_| {}, &CancelToken::new()).unwrap().unwrap();
        assert_eq!(found, expected);
    }

    #[test]
    fn files_hash_as_sha256sum_and_git_say() {
        // printf 'what is this\n' | sha256sum; … | git hash-object --stdin
        check(Digest::sha256("f9f7b5a22196415d464bb495a0889049618c2f646cdecbde38b5b0e8c76149a9").unwrap());
        check(Digest::git_blob("fe7a49a6be07aee8de037ebcf595f686b063ac17").unwrap());
    }

    #[test]
    fn what_is_no_digest_is_refused() {
        assert_eq!(Digest::sha256("abc"), None);
        assert_eq!(Digest::sha256(&"g".repeat(64)), None);
        assert!(Digest::sha256(&format!("sha256:{}", "A".repeat(64))).is_some());
    }
}
