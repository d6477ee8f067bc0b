//! Numbers as bytes, for states that are kept outside of memory.

use crate::simd::LANES;

/// A number with a fixed width in bytes, little endian.
pub(crate) trait Saved: Copy {
    const BYTES: usize;

    fn put(self, out: &mut Vec<u8>);

    /// Reads a number of exactly so many bytes.
    fn take(bytes: &[u8]) -> Option<Self>;
}

macro_rules! saved {
    ($($number:ty),*) => {$(
        impl Saved for $number {
            const BYTES: usize = size_of::<Self>();

            fn put(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }

            fn take(bytes: &[u8]) -> Option<Self> {
                Some(Self::from_le_bytes(bytes.try_into().ok()?))
            }
        }
    )*};
}

saved!(f32, u16, i8);

/// Appends numbers.
pub(crate) fn put<E: Saved>(numbers: &[E], out: &mut Vec<u8>) {
    out.reserve(numbers.len() * E::BYTES);
    numbers.iter().for_each(|number| number.put(out));
}

/// Fills `numbers` from the beginning of `bytes`, and moves on behind it; `None` if there are too few.
pub(crate) fn take<E: Saved>(numbers: &mut [E], bytes: &mut &[u8]) -> Option<()> {
    let (own, rest) = bytes.split_at_checked(numbers.len() * E::BYTES)?;
    for (number, bytes) in numbers.iter_mut().zip(own.chunks_exact(E::BYTES)) {
        *number = E::take(bytes)?;
    }
    *bytes = rest;
    Some(())
}

/// As [`put`], of vectors.
pub(crate) fn put_lanes<E: Saved>(vectors: &[[E; LANES]], out: &mut Vec<u8>) {
    put(vectors.as_flattened(), out);
}

/// As [`take`], into vectors.
pub(crate) fn take_lanes<E: Saved>(vectors: &mut [[E; LANES]], bytes: &mut &[u8]) -> Option<()> {
    take(vectors.as_flattened_mut(), bytes)
}
