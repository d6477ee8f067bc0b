//! The order in which the blocks of a matrix are kept.
//!
//! A matrix of `rows` outputs and `cols` inputs is cut into tiles of 16 rows; a tile into blocks along its columns, 32
//! or 256 of them. A packed block holds, for its 16 rows side by side:
//!
//! ```text
//! d       16 x f16
//! m       16 x f16             kinds with minima
//! scales  groups x 16 x i8     blocks of 256
//! mins    groups x 16 x u8     blocks of 256 with minima
//! planes  for each 32 columns: the numbers, bit by bit
//! ```
//!
//! Numbers are grouped by four columns, as the instructions that multiply bytes want them: step `s` of eight covers
//! columns `4s..4s+4`, and byte `4r + c` of its 64 is row `r`, column `4s + c`.
//!
//! - *bytes* (`Q8_0`): 64 bytes a step.
//! - *four bits*: steps `2i` and `2i+1` in the low and high halves of the same 64 bytes.
//! - *two bits*: steps `4i..4i+4` in the four pairs of bits of 64 bytes.
//! - *one bit*: step `s` in bit `s` of 64 bytes.

use half::f16;

use crate::{Error, Kind, TILE, blocks::Block, kind::Planes, memory::Buffer};

/// Bytes of one step: 16 rows of four columns.
pub(crate) const STEP: usize = 4 * TILE;

/// A matrix of weights, packed: `[rows, cols]`, a row for each output.
#[derive(Debug)]
pub struct Packed {
    kind: Kind,
    rows: usize,
    cols: usize,
    bytes: Buffer,
}

/// Where the parts of a packed block begin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) m: usize,
    pub(crate) scales: usize,
    pub(crate) mins: usize,
    pub(crate) planes: usize,
    pub(crate) bytes: usize,
}

impl Layout {
    pub(crate) const fn of(kind: Kind) -> Self {
        const HALVES: usize = 2 * TILE;
        let m = HALVES;
        let scales = m + if kind.has_min() { HALVES } else { 0 };
        let groups = if kind.is_super() { kind.groups() * TILE } else { 0 };
        let mins = scales + groups;
        let planes = mins + if kind.has_min() { groups } else { 0 };
        Self { m, scales, mins, planes, bytes: planes + kind.block() / 32 * kind.planes().bytes() }
    }
}

impl Packed {
    /// Packs the blocks of a matrix, as a GGUF file has them: row by row.
    ///
    /// # Errors
    /// [`Error::Columns`] or [`Error::Length`] if the blocks do not make a matrix of this shape, [`Error::Memory`].
    pub fn pack(kind: Kind, rows: usize, cols: usize, raw: &[u8]) -> Result<Self, Error> {
        if cols == 0 || !cols.is_multiple_of(kind.block()) {
            return Err(Error::Columns { kind, cols });
        }
        let blocks = cols / kind.block();
        let row_bytes = blocks * kind.block_bytes();
        let expected = rows.saturating_mul(row_bytes);
        if raw.len() != expected {
            return Err(Error::Length { rows, cols, expected, found: raw.len() });
        }
        let layout = Layout::of(kind);
        let tiles = rows.div_ceil(TILE);
        let mut bytes = Buffer::zeroed(tiles * blocks * layout.bytes)?;
        let mut block = Block::new();
        for (row, raw) in raw.chunks_exact(row_bytes.max(1)).enumerate() {
            let (tile, lane) = (row / TILE, row % TILE);
            for (at, raw) in raw.chunks_exact(kind.block_bytes()).enumerate() {
                block.read(kind, raw);
                let start = (tile * blocks + at) * layout.bytes;
                write(kind, &layout, lane, &block, &mut bytes[start..start + layout.bytes]);
            }
        }
        Ok(Self { kind, rows, cols, bytes })
    }

    /// Returns how its numbers are stored.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns how many outputs it has.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Returns how many inputs it has.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Returns how many bytes it takes.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn tiles(&self) -> usize {
        self.rows.div_ceil(TILE)
    }

    /// Returns the blocks of a tile, one after another.
    pub(crate) fn tile(&self, tile: usize) -> &[u8] {
        let bytes = self.cols / self.kind.block() * Layout::of(self.kind).bytes;
        &self.bytes[tile * bytes..(tile + 1) * bytes]
    }

    /// Writes one row as numbers.
    ///
    /// # Panics
    /// If there is no such row, or `out` is not as long as a row.
    pub fn unpack(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.rows && out.len() == self.cols, "row {row} of {} into {}", self.rows, out.len());
        let (tile, lane) = (self.tile(row / TILE), row % TILE);
        let layout = Layout::of(self.kind);
        let blocks = tile.chunks_exact(layout.bytes).zip(out.chunks_exact_mut(self.kind.block()));
        for (block, out) in blocks {
            let d = half_at(block, 0, lane);
            let m = if self.kind.has_min() { half_at(block, layout.m, lane) } else { d };
            for (at, out) in out.iter_mut().enumerate() {
                let (scale, min) = group(self.kind, &layout, block, at / self.kind.group(), lane);
                let q = number(self.kind.planes(), &block[layout.planes..], lane, at);
                *out = d * scale as f32 * q as f32 - m * min as f32;
            }
        }
    }
}

/// Puts one row of a block into its lane.
fn write(kind: Kind, layout: &Layout, lane: usize, block: &Block, out: &mut [u8]) {
    out[2 * lane..2 * lane + 2].copy_from_slice(&block.d.to_le_bytes());
    if kind.has_min() {
        let at = layout.m + 2 * lane;
        out[at..at + 2].copy_from_slice(&block.m.to_le_bytes());
    }
    if kind.is_super() {
        for group in 0..kind.groups() {
            out[layout.scales + group * TILE + lane] = block.scales[group].cast_unsigned();
            if kind.has_min() {
                out[layout.mins + group * TILE + lane] = block.mins[group];
            }
        }
    }
    let planes = kind.planes();
    for (at, q) in block.q[..kind.block()].iter().enumerate() {
        let out = &mut out[layout.planes + at / 32 * planes.bytes()..];
        put(planes, out, lane, at % 32, *q);
    }
}

/// Returns where the byte of row `lane` and column `at` is among the 64 of its step, and the step.
fn place(lane: usize, at: usize) -> (usize, usize) {
    (4 * lane + at % 4, at / 4)
}

fn put(planes: Planes, out: &mut [u8], lane: usize, at: usize, q: u8) {
    let (byte, step) = place(lane, at);
    let four = |out: &mut [u8]| out[step / 2 * STEP + byte] |= (q & 15) << (4 * (step % 2));
    let two = |out: &mut [u8], q: u8| out[step / 4 * STEP + byte] |= (q & 3) << (2 * (step % 4));
    let one = |out: &mut [u8], q: u8| out[byte] |= (q & 1) << step;
    match planes {
        Planes::Eight => out[step * STEP + byte] = q,
        Planes::Four => four(out),
        Planes::FourOne => {
            four(out);
            one(&mut out[256..], q >> 4);
        }
        Planes::FourTwo => {
            four(out);
            two(&mut out[256..], q >> 4);
        }
        Planes::Two => two(out, q),
        Planes::TwoOne => {
            two(out, q);
            one(&mut out[128..], q >> 2);
        }
    }
}

/// Reads the number of row `lane` and column `at` of a block.
pub(crate) fn number(planes: Planes, bytes: &[u8], lane: usize, at: usize) -> i32 {
    let bytes = &bytes[at / 32 * planes.bytes()..];
    let (byte, step) = place(lane, at % 32);
    let four = || bytes[step / 2 * STEP + byte] >> (4 * (step % 2)) & 15;
    let two = |bytes: &[u8]| bytes[step / 4 * STEP + byte] >> (2 * (step % 4)) & 3;
    let one = |bytes: &[u8]| bytes[byte] >> step & 1;
    match planes {
        Planes::Eight => i32::from(bytes[step * STEP + byte].cast_signed()),
        Planes::Four => i32::from(four()),
        Planes::FourOne => i32::from(four() | one(&bytes[256..]) << 4),
        Planes::FourTwo => i32::from(four() | two(&bytes[256..]) << 4),
        Planes::Two => i32::from(two(bytes)),
        Planes::TwoOne => i32::from(two(bytes) | one(&bytes[128..]) << 2),
    }
}

/// Returns scale and minimum of a group, as whole numbers.
pub(crate) fn group(kind: Kind, layout: &Layout, block: &[u8], group: usize, lane: usize) -> (i32, i32) {
    let scale = match kind.is_super() {
        true => i32::from(block[layout.scales + group * TILE + lane].cast_signed()),
        false => 1,
    };
    let min = match (kind.has_min(), kind.is_super()) {
        (true, true) => i32::from(block[layout.mins + group * TILE + lane]),
        (true, false) => 1,
        (false, _) => kind.zero() * scale,
    };
    (scale, min)
}

/// Reads the `f16` of a lane.
pub(crate) fn half_at(block: &[u8], start: usize, lane: usize) -> f32 {
    let at = start + 2 * lane;
    f16::from_bits(u16::from_le_bytes([block[at], block[at + 1]])).to_f32()
}
