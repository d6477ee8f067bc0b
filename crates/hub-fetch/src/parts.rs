use std::ops::Range;

/// How a file is cut for fetching, and which pieces are still to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parts {
    len: u64,
    part_len: u64,
    is_done: Vec<bool>,
    /// Every part before this one is done or taken.
    next: usize,
}

impl Parts {
    /// Cuts `len` bytes into parts of `part_len`, none of which is there.
    pub(crate) fn new(len: u64, part_len: u64) -> Self {
        let part_len = part_len.max(1);
        let count = usize::try_from(len.div_ceil(part_len)).unwrap_or(usize::MAX);
        Self { len, part_len, is_done: vec![false; count], next: 0 }
    }

    /// Notes that a part is there; one that does not exist is passed over.
    pub(crate) fn finish(&mut self, part: usize) {
        if let Some(is_done) = self.is_done.get_mut(part) {
            *is_done = true;
        }
    }

    /// Takes the next part that is to be fetched.
    pub(crate) fn take(&mut self) -> Option<usize> {
        while self.is_done.get(self.next).copied()? {
            self.next += 1;
        }
        self.next += 1;
        Some(self.next - 1)
    }

    /// Returns the bytes of a part.
    pub(crate) fn range(&self, part: usize) -> Range<u64> {
        let start = (part as u64).saturating_mul(self.part_len).min(self.len);
        start..start.saturating_add(self.part_len).min(self.len)
    }

    /// Returns how many parts are still to come.
    pub(crate) fn left(&self) -> usize {
        self.is_done.iter().filter(|is_done| !**is_done).count()
    }

    /// Returns how many bytes are there.
    pub(crate) fn done_bytes(&self) -> u64 {
        let done = self.is_done.iter().enumerate().filter(|(_, is_done)| **is_done);
        done.map(|(part, _)| self.range(part)).map(|range| range.end - range.start).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_the_file_once() {
        let mut parts = Parts::new(25, 10);
        assert_eq!((parts.left(), parts.done_bytes()), (3, 0));
        let taken: Vec<usize> = std::iter::from_fn(|| parts.take()).collect();
        let ranges: Vec<_> = taken.into_iter().map(|part| parts.range(part)).collect();
        assert_eq!(ranges, [0..10, 10..20, 20..25]);
        assert_eq!(parts.left(), 3, "taken is not done");
    }

    #[test]
    fn what_is_there_is_not_taken() {
        let mut parts = Parts::new(25, 10);
        parts.finish(1);
        parts.finish(99);
        assert_eq!((parts.left(), parts.done_bytes()), (2, 10));
        assert_eq!(std::iter::from_fn(|| parts.take()).collect::<Vec<_>>(), [0, 2]);
    }

    #[test]
    fn nothing_has_no_parts() {
        let mut parts = Parts::new(0, 10);
        assert_eq!((parts.left(), parts.take()), (0, None));
    }
}
