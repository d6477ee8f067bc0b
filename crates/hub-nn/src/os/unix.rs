use std::{fs::File, io, os::unix::fs::FileExt};

/// Fills `out` with what lies at `offset`, whatever other threads read meanwhile.
pub(crate) fn read_exact_at(file: &File, out: &mut [u8], offset: u64) -> io::Result<()> {
    file.read_exact_at(out, offset)
}
