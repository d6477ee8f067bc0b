//! The blocks of GGUF files, taken apart. Layouts are those of llama.cpp's `ggml-common.h`.

use crate::{Kind, grids};

/// One block, as whole numbers.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    /// What scales are multiplied with, as the bits of an `f16`.
    pub(crate) d: u16,
    /// What minima are multiplied with. For kinds with one minimum a block: minus that minimum.
    pub(crate) m: u16,
    /// The scale of each group; 1 where a block is one group.
    pub(crate) scales: [i8; 16],
    /// The minimum of each group.
    pub(crate) mins: [u8; 16],
    /// The numbers; those of [`Kind::Q8_0`] are the bits of an `i8`.
    pub(crate) q: [u8; 256],
}

/// Rounds numbers to blocks of [`Kind::Q8_0`], as llama.cpp's `quantize_row_q8_0_ref` does: the largest of 32 numbers
/// becomes 127, the others the nearest whole numbers on that scale. Numbers that are none become 0, and blocks with a
/// number over 8,300,000 are lost: their scale is no `f16`.
///
/// # Panics
/// If the numbers are no whole blocks, or `out` has not as many bytes as those take.
pub fn round_to_bytes(numbers: &[f32], out: &mut [u8]) {
    let (block, bytes) = (Kind::Q8_0.block(), Kind::Q8_0.block_bytes());
    let fits = numbers.len().is_multiple_of(block) && out.len() == numbers.len() / block * bytes;
    assert!(fits, "{} numbers to {} bytes", numbers.len(), out.len());
    for (numbers, out) in numbers.chunks_exact(block).zip(out.chunks_exact_mut(bytes)) {
        let largest = numbers.iter().fold(0.0_f32, |largest, number| largest.max(number.abs()));
        let scale = largest / 127.0;
        let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        let (d, q) = out.split_at_mut(2);
        d.copy_from_slice(&half::f16::from_f32(scale).to_le_bytes());
        for (q, number) in q.iter_mut().zip(numbers) {
            *q = ((number * inverse).round() as i8).cast_unsigned();
        }
    }
}

impl Block {
    pub(crate) fn new() -> Self {
        Self { d: 0, m: 0, scales: [1; 16], mins: [1; 16], q: [0; 256] }
    }

    /// Reads a block of `kind` from its bytes, of which there are [`Kind::block_bytes`].
    pub(crate) fn read(&mut self, kind: Kind, raw: &[u8]) {
        let raw = &raw[..kind.block_bytes()];
        match kind {
            Kind::Q4_0 => {
                self.d = half(raw, 0);
                self.nibbles(&raw[2..18]);
            }
            Kind::Q4_1 => {
                (self.d, self.m) = (half(raw, 0), negated(half(raw, 2)));
                self.nibbles(&raw[4..20]);
            }
            Kind::Q5_0 => {
                self.d = half(raw, 0);
                self.nibbles(&raw[6..22]);
                self.fifth_bits(&raw[2..6]);
            }
            Kind::Q5_1 => {
                (self.d, self.m) = (half(raw, 0), negated(half(raw, 2)));
                self.nibbles(&raw[8..24]);
                self.fifth_bits(&raw[4..8]);
            }
            Kind::Q8_0 => {
                self.d = half(raw, 0);
                self.q[..32].copy_from_slice(&raw[2..34]);
            }
            Kind::IQ4NL => {
                self.d = half(raw, 0);
                self.nibbles(&raw[2..18]);
            }
            Kind::IQ2XXS | Kind::IQ2XS | Kind::IQ2S | Kind::IQ3XXS | Kind::IQ3S => {
                self.d = half(raw, 0);
                grids::read(kind, raw, self);
            }
            Kind::IQ4XS => self.read_iq4_xs(raw),
            Kind::MXFP4 => {
                self.d = half_scale(raw[0]);
                self.nibbles(&raw[1..17]);
            }
            Kind::Q2K => self.read_q2(raw),
            Kind::Q3K => self.read_q3(raw),
            Kind::Q4K => {
                (self.d, self.m) = (half(raw, 0), half(raw, 2));
                self.six_bit_scales(&raw[4..16]);
                self.halves_of_64(&raw[16..144]);
            }
            Kind::Q5K => {
                (self.d, self.m) = (half(raw, 0), half(raw, 2));
                self.six_bit_scales(&raw[4..16]);
                self.halves_of_64(&raw[48..176]);
                let fifth = &raw[16..48];
                self.runs_of_32(|run, q, lane| q | (fifth[lane] >> run & 1) << 4);
            }
            Kind::Q6K => self.read_q6(raw),
            // Plain numbers have no blocks.
            Kind::F16 | Kind::BF16 | Kind::F32 => {}
        }
    }

    /// Reads 32 numbers of four bits: the low halves of all bytes, then the high ones.
    fn nibbles(&mut self, raw: &[u8]) {
        for (at, byte) in raw.iter().enumerate() {
            self.q[at] = byte & 15;
            self.q[at + 16] = byte >> 4;
        }
    }

    /// Adds the fifth bit of 32 numbers.
    fn fifth_bits(&mut self, raw: &[u8]) {
        for (at, q) in self.q[..32].iter_mut().enumerate() {
            *q |= (raw[at / 8] >> (at % 8) & 1) << 4;
        }
    }

    /// Reads 256 numbers of four bits, 64 at a time: low halves, then high ones.
    fn halves_of_64(&mut self, raw: &[u8]) {
        self.runs_of_32(|run, _, lane| raw[run / 2 * 32 + lane] >> (run % 2 * 4) & 15);
    }

    /// Reads eight scales and eight minima of six bits each.
    fn six_bit_scales(&mut self, raw: &[u8]) {
        for at in 0..8 {
            let (scale, min) = if at < 4 {
                (raw[at] & 63, raw[at + 4] & 63)
            } else {
                let (low, high) = (raw[at + 4] & 15, raw[at + 4] >> 4);
                (low | (raw[at - 4] >> 6) << 4, high | (raw[at] >> 6) << 4)
            };
            self.scales[at] = scale.cast_signed();
            self.mins[at] = min;
        }
    }

    fn read_q2(&mut self, raw: &[u8]) {
        (self.d, self.m) = (half(raw, 80), half(raw, 82));
        for (at, both) in raw[..16].iter().enumerate() {
            self.scales[at] = (both & 15).cast_signed();
            self.mins[at] = both >> 4;
        }
        self.runs_of_32(|run, _, lane| raw[16 + run / 4 * 32 + lane] >> (run % 4 * 2) & 3);
    }

    fn read_q3(&mut self, raw: &[u8]) {
        self.d = half(raw, 108);
        let scales = &raw[96..108];
        for at in 0..16 {
            let low = if at < 8 { scales[at] & 15 } else { scales[at - 8] >> 4 };
            let high = scales[8 + at % 4] >> (at / 4 * 2) & 3;
            self.scales[at] = (low | high << 4).cast_signed() - 32;
        }
        self.runs_of_32(|run, _, lane| {
            let low = raw[32 + run / 4 * 32 + lane] >> (run % 4 * 2) & 3;
            low | (raw[lane] >> run & 1) << 2
        });
    }

    fn read_q6(&mut self, raw: &[u8]) {
        self.d = half(raw, 208);
        for at in 0..16 {
            self.scales[at] = raw[192 + at].cast_signed();
        }
        self.runs_of_32(|run, _, lane| {
            let (half, quarter) = (run / 4, run % 4);
            let low = raw[half * 64 + quarter % 2 * 32 + lane] >> (quarter / 2 * 4) & 15;
            low | (raw[128 + half * 32 + lane] >> (2 * quarter) & 3) << 4
        });
    }

    fn read_iq4_xs(&mut self, raw: &[u8]) {
        self.d = half(raw, 0);
        let high = half(raw, 2);
        for at in 0..8 {
            let low = raw[4 + at / 2] >> (at % 2 * 4) & 15;
            self.scales[at] = (low | ((high >> (2 * at)) as u8 & 3) << 4).cast_signed() - 32;
        }
        self.runs_of_32(|run, _, lane| raw[8 + run * 16 + lane % 16] >> (lane / 16 * 4) & 15);
    }

    /// Computes all numbers from the run of 32 they are in, what they were, and their place in the run. Within a run
    /// nothing but that place changes, so that compilers work on many at once.
    #[inline(always)]
    fn runs_of_32(&mut self, number: impl Fn(usize, u8, usize) -> u8) {
        for (run, out) in self.q.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            for (lane, q) in out.iter_mut().enumerate() {
                *q = number(run, *q, lane);
            }
        }
    }
}

fn half(raw: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([raw[at], raw[at + 1]])
}

/// Returns half of what a scale of eight bits stands for, E8M0: a power of two. Below 2^-24, which is less than any model
/// has, it becomes zero, and above 2^15 infinite.
fn half_scale(exponent: u8) -> u16 {
    half::f16::from_f32((f32::from(exponent) - 128.0).exp2()).to_bits()
}

/// Changes the sign of an `f16`.
fn negated(bits: u16) -> u16 {
    bits ^ 0x8000
}
