use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use crate::parts::Parts;

/// The parts of an unfinished file that have arrived, kept beside it so that a later run goes on.
///
/// A text file: a head that says what is being fetched and how it is cut, then the number of a part a line, written
/// once the part is. A line that was cut off by a kill is passed over, and its part fetched again.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
}

/// How large a part is: small enough that a killed run loses little, large enough that asking for it costs nothing.
const PART_BYTES: u64 = 8 << 20;

impl Journal {
    /// Goes on with what the journal at `path` says of `what` (its digest or its address), or begins anew.
    pub(crate) fn open(path: &Path, what: &str, len: u64) -> io::Result<(Self, Parts)> {
        let head = format!("parts 1 {len} {PART_BYTES} {what}\n");
        let mut parts = Parts::new(len, PART_BYTES);
        let text = fs::read_to_string(path).unwrap_or_default();
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        match text.strip_prefix(&head) {
            Some(lines) => {
                // Only whole lines: a part number that was cut off is another one, and must not become a line later.
                let whole = lines.rfind('\n').and_then(|end| lines.get(..=end)).unwrap_or_default();
                whole.lines().filter_map(|line| line.parse().ok()).for_each(|part| parts.finish(part));
                file.set_len((head.len() + whole.len()) as u64)?;
            }
            None => {
                file.set_len(0)?;
                file.write_all(head.as_bytes())?;
            }
        }
        Ok((Self { path: path.to_owned(), file }, parts))
    }

    /// Notes that a part is written.
    pub(crate) fn finish(&mut self, part: usize) -> io::Result<()> {
        self.file.write_all(format!("{part}\n").as_bytes())
    }

    /// Forgets everything.
    pub(crate) fn remove(self) -> io::Result<()> {
        drop(self.file);
        fs::remove_file(self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_killed_run_is_gone_on_with() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let len = 4 * PART_BYTES;
        let (mut journal, parts) = Journal::open(&path, "sha256:aa", len).unwrap();
        assert_eq!(parts.left(), 4);
        journal.finish(2).unwrap();
        journal.finish(0).unwrap();
        // Killed in the middle of a line: 13 might have become of it.
        journal.file.write_all(b"1").unwrap();
        drop(journal);
        let (mut journal, parts) = Journal::open(&path, "sha256:aa", len).unwrap();
        assert_eq!((parts.left(), parts.done_bytes()), (2, 2 * PART_BYTES));
        journal.finish(3).unwrap();
        drop(journal);
        let (_, parts) = Journal::open(&path, "sha256:aa", len).unwrap();
        assert_eq!(parts.left(), 1, "a line after the cut one counts");
    }

    #[test]
    fn another_file_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let (mut journal, _) = Journal::open(&path, "sha256:aa", PART_BYTES).unwrap();
        journal.finish(0).unwrap();
        drop(journal);
        let (journal, parts) = Journal::open(&path, "sha256:bb", PART_BYTES).unwrap();
        assert_eq!(parts.left(), 1);
        journal.remove().unwrap();
        assert!(!path.exists());
    }
}
