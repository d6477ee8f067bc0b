//! What a processor reaches at best: the yardstick of everything else in this crate.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use crate::{
    Cpu, Error, Isa,
    memory::Buffer,
    packed::STEP,
    simd::{Dots, DotsOp, LANES, Op, Simd},
};
#[cfg(target_arch = "x86_64")]
use crate::{
    activations::{ROWS, TILE_BYTES},
    tiles::{Sums, Tiles},
};

/// What all threads of a [`Cpu`] reach together, with the instructions it uses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Peak {
    /// Bytes read from memory in a second, in huge pages where the system has them.
    pub read_bytes_per_s: f64,
    /// Multiplications with an addition in a second, of `f32` that stay in registers.
    pub floats_per_s: f64,
    /// The same of bytes, which weights of few bits are multiplied as.
    pub bytes_per_s: f64,
}

/// Bytes that are read: far over what caches of desktops hold.
pub(crate) const READ: usize = 256 << 20;
/// Bytes that a thread reads at a time.
const PIECE: usize = 2 << 20;
/// How often each measurement is repeated; the best one counts.
const RUNS: usize = 4;
/// Rounds of the loops that stay in registers: about a millisecond.
const ROUNDS: usize = 1 << 17;
/// Pieces of work for each thread, so that one that wakes late is not waited for.
const PARTS: usize = 16;
/// Sums side by side, so that none waits for the one before it: two for each cycle, four or five cycles long. Vectors
/// that are not wide are two each.
const CHAINS: usize = 5;
const WIDE_CHAINS: usize = 10;
/// Tiles in a row that are multiplied at once: those of both sides stay in the first cache.
#[cfg(target_arch = "x86_64")]
const TILE_STEPS: usize = 4;

impl Cpu {
    /// Returns how many bytes [`measure`](Self::measure) takes while it runs.
    pub const MEASURE_BYTES: usize = READ;

    /// Measures what the threads reach at best, in about half a second.
    ///
    /// # Errors
    /// [`Error::Memory`] if the system gives no [`MEASURE_BYTES`](Self::MEASURE_BYTES).
    pub fn measure(&self) -> Result<Peak, Error> {
        let mut buffer = Buffer::zeroed(READ)?;
        // Pages that nobody wrote are all one and the same, and would be read from a cache.
        self.each_chunk(&mut buffer, PIECE, |_, piece| piece.fill(1));
        let pieces: Vec<&[u8]> = buffer.chunks(PIECE).collect();
        let read = self.fastest(pieces.len(), |part| {
            black_box(self.isa().run(Read(pieces[part])));
        });
        let parts = self.threads() * PARTS;
        let floats = self.fastest(parts, |_| {
            black_box(self.isa().run(Floats));
        });
        let chains = chains(self.isa());
        let bytes = self.fastest(parts, |_| {
            black_box(multiply_bytes(self.isa()));
        });
        let rate = |each: usize, time: Duration| (parts * each) as f64 / time.as_secs_f64().max(1e-9);
        Ok(Peak {
            read_bytes_per_s: READ as f64 / read.as_secs_f64().max(1e-9),
            floats_per_s: rate(ROUNDS * chains * LANES, floats),
            bytes_per_s: rate(ROUNDS * bytes_a_round(self.isa()), bytes),
        })
    }

    fn fastest(&self, parts: usize, work: impl Fn(usize) + Sync) -> Duration {
        let run = |_| {
            let start = Instant::now();
            self.run(parts, |_, part| work(part));
            start.elapsed()
        };
        (0..RUNS).map(run).min().unwrap_or_default()
    }
}

/// Sums up bytes, four streams abreast.
struct Read<'a>(&'a [u8]);

impl Op for Read<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f32 {
        let all = self.0.as_chunks::<{ 4 * LANES }>().0;
        let quarter = all.len() / 4;
        let mut sums = [simd.splat(0.0); 4];
        for at in 0..quarter {
            for (stream, sum) in sums.iter_mut().enumerate() {
                let numbers = all[stream * quarter + at].as_chunks::<4>().0;
                let numbers: &[[u8; 4]; LANES] = numbers.first_chunk().unwrap_or(&[[0; 4]; LANES]);
                *sum = simd.add(*sum, simd.load(&numbers.map(f32::from_le_bytes)));
            }
        }
        let [a, b, c, d] = sums;
        simd.sum(simd.add(simd.add(a, b), simd.add(c, d)))
    }
}

/// Multiplies and adds numbers that stay in registers.
struct Floats;

impl Op for Floats {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f32 {
        if S::IS_WIDE { floats::<S, WIDE_CHAINS>(simd) } else { floats::<S, CHAINS>(simd) }
    }
}

#[inline(always)]
fn floats<S: Simd, const N: usize>(simd: S) -> f32 {
    let (factor, term) = (simd.splat(black_box(0.999)), simd.splat(black_box(0.001)));
    let mut chains = [simd.splat(1.0); N];
    for _ in 0..ROUNDS {
        for chain in &mut chains {
            *chain = simd.fma(*chain, factor, term);
        }
    }
    let mut sum = simd.splat(0.0);
    for chain in chains {
        sum = simd.add(sum, chain);
    }
    simd.sum(sum)
}

/// How many chains vectors of these instructions take.
fn chains(isa: Isa) -> usize {
    if isa.vectors() == Isa::Avx512 { WIDE_CHAINS } else { CHAINS }
}

/// Multiplications of bytes in a round of [`multiply_bytes`].
fn bytes_a_round(isa: Isa) -> usize {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => avx2::CHAINS * 32,
        #[cfg(target_arch = "x86_64")]
        Isa::Amx => TILE_STEPS * 4 * 16 * 16 * 64,
        isa => chains(isa) * 64,
    }
}

/// Multiplies tiles of bytes that stay in the first cache, for [`ROUNDS`] rounds.
#[cfg(target_arch = "x86_64")]
fn multiply_tiles() -> i64 {
    let (x, w) = ([1_i8; TILE_STEPS * TILE_BYTES], [1_u8; TILE_STEPS * TILE_BYTES]);
    let mut out: Sums = [[[[0; STEP]; ROWS]; 2]; 2];
    #[expect(unsafe_code, reason = "tiles belong to a thread")]
    // SAFETY: tiles are here, and this thread has no others: a part of this measurement is all it does.
    let tiles = unsafe { Tiles::new() };
    for _ in 0..ROUNDS {
        tiles.multiply_signed([black_box(&x), &x], [black_box(&w), &w], TILE_STEPS, &mut out);
    }
    i64::from(out[0][0][0][0])
}

/// Multiplies and adds bytes that stay in registers, for [`ROUNDS`] rounds.
fn multiply_bytes(isa: Isa) -> i64 {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Amx if isa.is_here() => multiply_tiles(),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 if isa.is_here() => {
            // SAFETY: the processor has these instructions.
            #[expect(unsafe_code, reason = "instructions that not every processor has")]
            unsafe {
                avx2::multiply_bytes()
            }
        }
        _ => {
            let mut sum = 0;
            isa.run_dots(Bytes { sum: &mut sum });
            sum
        }
    }
}

/// What products of weights of few bits do most where there is [`Dots`].
struct Bytes<'a> {
    sum: &'a mut i64,
}

impl DotsOp for Bytes<'_> {
    #[inline(always)]
    fn run<S: Dots>(self, simd: S) {
        *self.sum = if S::IS_WIDE { dots::<S, WIDE_CHAINS>(simd) } else { dots::<S, CHAINS>(simd) };
    }
}

#[inline(always)]
fn dots<S: Dots, const N: usize>(simd: S) -> i64 {
    let factor = simd.splat_i32(black_box(0x0303_0303));
    let mut chains = [simd.splat_i32(1); N];
    for _ in 0..ROUNDS {
        for chain in &mut chains {
            *chain = simd.dot_i8(*chain, factor, factor);
        }
    }
    let mut line = [0; STEP];
    let mut sum = 0;
    for chain in chains {
        simd.store_line(chain, &mut line);
        // All of it: nothing of the work may be left out.
        sum += line.iter().map(|&byte| i64::from(byte)).sum::<i64>();
    }
    sum
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::{arch::x86_64::*, hint::black_box};

    use super::ROUNDS;

    pub(super) const CHAINS: usize = 10;

    /// What products of weights of few bits do most: `vpmaddubsw`, and a sum in 16 bits.
    #[target_feature(enable = "avx2")]
    pub(super) fn multiply_bytes() -> i64 {
        let factor = _mm256_set1_epi8(black_box(3));
        let mut chains = [_mm256_set1_epi8(1); CHAINS];
        for _ in 0..ROUNDS {
            for chain in &mut chains {
                *chain = _mm256_add_epi16(*chain, _mm256_maddubs_epi16(*chain, factor));
            }
        }
        let mut sum = _mm256_setzero_si256();
        for chain in chains {
            sum = _mm256_add_epi64(sum, chain);
        }
        _mm256_extract_epi64::<0>(sum)
    }
}
