//! Numbers rounded to the blocks of GGUF files.
//!
//! Kinds with one scale for 32 numbers are rounded as the format's reference does, to the last bit. Those of 256 numbers
//! leave the choice of scales open: here they are searched for, so that the squared error is small.
//!
//! Nothing is multiplied and added in one rounding, and sums have one order: a row becomes the same bytes with any
//! instructions and any number of threads.

mod affine;
mod plain;
mod search;
mod symmetric;
#[cfg(test)]
mod tests;

use crate::{
    Cpu, Error, Isa, Kind, round_to_bytes,
    simd::{Op, Simd},
};

/// How many numbers a thread rounds at a time: whole blocks of every kind, and enough that taking them costs nothing.
const PART: usize = 1 << 14;

impl Kind {
    /// Whether [`quantize`] rounds to it. The kinds with tables are read only.
    pub const fn is_target(self) -> bool {
        matches!(
            self,
            Self::Q4_0
                | Self::Q4_1
                | Self::Q5_0
                | Self::Q5_1
                | Self::Q8_0
                | Self::Q4K
                | Self::Q5K
                | Self::Q6K
                | Self::F16
                | Self::BF16
                | Self::F32
        )
    }
}

/// Rounds numbers to `kind` on all threads of `cpu`; `out` gets the bytes as a GGUF file has them.
///
/// Numbers are rows after each other, each of whole blocks. Every block is rounded on its own.
///
/// Sources: `ggml-common.h` of llama.cpp for the layouts; `gguf.quants` of its Python package for the kinds of 32 numbers,
/// which the results equal bitwise. Errors are checked against `fixtures/kinds/errors.json`.
///
/// # Errors
/// [`Error::NoTarget`] if [`Kind::is_target`] says no, [`Error::Columns`] and [`Error::Length`] if the numbers are no whole
/// blocks or `out` has another length, [`Error::Number`] for one that the kind cannot hold.
pub fn quantize(kind: Kind, numbers: &[f32], out: &mut [u8], cpu: &Cpu) -> Result<(), Error> {
    check(kind, numbers, out)?;
    let part_bytes = PART / kind.block() * kind.block_bytes();
    cpu.each_chunk(out, part_bytes, |part, out| {
        let numbers = &numbers[part * PART..numbers.len().min((part + 1) * PART)];
        cpu.isa().run(Blocks { kind, numbers, out });
    });
    Ok(())
}

/// The same on the calling thread alone: for work that threads have shared among them already.
///
/// # Errors
/// Those of [`quantize`].
pub fn quantize_alone(kind: Kind, numbers: &[f32], out: &mut [u8], isa: Isa) -> Result<(), Error> {
    check(kind, numbers, out)?;
    isa.run(Blocks { kind, numbers, out });
    Ok(())
}

fn check(kind: Kind, numbers: &[f32], out: &[u8]) -> Result<(), Error> {
    if !kind.is_target() {
        return Err(Error::NoTarget { kind });
    }
    if !numbers.len().is_multiple_of(kind.block()) {
        return Err(Error::Columns { kind, cols: numbers.len() });
    }
    let expected = numbers.len() / kind.block() * kind.block_bytes();
    if out.len() != expected {
        return Err(Error::Length { rows: 1, cols: numbers.len(), expected, found: out.len() });
    }
    if let Some(number) = numbers.iter().find(|number| !is_held(kind, **number)) {
        return Err(Error::Number { kind, number: number.to_string() });
    }
    Ok(())
}

/// Whether a kind can hold a number: scales are `f16`, and no model has weights beyond them.
fn is_held(kind: Kind, number: f32) -> bool {
    match kind {
        Kind::F32 | Kind::BF16 => number.is_finite(),
        _ => number.abs() <= half::f16::MAX.to_f32(),
    }
}

struct Blocks<'a> {
    kind: Kind,
    numbers: &'a [f32],
    out: &'a mut [u8],
}

impl Op for Blocks<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { kind, numbers, out } = self;
        let supers = numbers.as_chunks::<256>().0;
        // Loops, since a closure would be compiled without the set's instructions.
        match kind {
            Kind::Q4K => {
                for (numbers, out) in supers.iter().zip(out.as_chunks_mut::<144>().0) {
                    affine::round_four(simd, numbers, out);
                }
            }
            Kind::Q5K => {
                for (numbers, out) in supers.iter().zip(out.as_chunks_mut::<176>().0) {
                    affine::round_five(simd, numbers, out);
                }
            }
            Kind::Q6K => {
                for (numbers, out) in supers.iter().zip(out.as_chunks_mut::<210>().0) {
                    symmetric::round(simd, numbers, out);
                }
            }
            Kind::Q8_0 => round_to_bytes(numbers, out),
            kind => plain::round(kind, numbers, out),
        }
    }
}

fn half_bytes(number: f32) -> [u8; 2] {
    half::f16::from_f32(number).to_le_bytes()
}

/// Returns what an `f16` keeps of a number.
fn as_half(number: f32) -> f32 {
    half::f16::from_f32(number).to_f32()
}
