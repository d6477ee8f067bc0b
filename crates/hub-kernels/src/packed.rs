//! The order in which the numbers of a matrix are kept.
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
//!
//! Plain numbers (`F16`, `BF16`, `F32`) lie column after column, 16 rows side by side.

use std::{
    ops::Range,
    sync::{Mutex, PoisonError},
};

use half::{bf16, f16};

use crate::{Cpu, Error, Kind, TILE, blocks::Block, kind::Planes, memory::Buffer};

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
        if kind.is_plain() {
            return Self { m: 0, scales: 0, mins: 0, planes: 0, bytes: kind.block_bytes() * TILE };
        }
        let m = HALVES;
        let scales = m + if kind.has_min() { HALVES } else { 0 };
        let groups = if kind.is_super() { kind.groups() * TILE } else { 0 };
        let mins = scales + groups;
        let planes = mins + if kind.has_min() { groups } else { 0 };
        Self { m, scales, mins, planes, bytes: planes + kind.block() / 32 * kind.planes().bytes() }
    }
}

impl Packed {
    /// Changes whenever packed bytes come to mean something else.
    pub const LAYOUT: u32 = 1;
    /// How many bytes a thread reads at a time.
    pub const PIECE: usize = 1 << 20;

    /// Packs a matrix as a file has it: row by row, in the blocks of GGUF or as plain little-endian numbers.
    ///
    /// # Errors
    /// [`Error::Columns`] or [`Error::Length`] if the bytes do not make a matrix of this shape, [`Error::Memory`].
    pub fn pack(kind: Kind, rows: usize, cols: usize, raw: &[u8]) -> Result<Self, Error> {
        let row_bytes = (cols / kind.block()).saturating_mul(kind.block_bytes());
        let expected = rows.saturating_mul(row_bytes);
        if raw.len() != expected && cols.is_multiple_of(kind.block()) {
            return Err(Error::Length { rows, cols, expected, found: raw.len() });
        }
        Self::pack_with(kind, rows, cols, &Cpu::single(), |range, out| {
            out.copy_from_slice(&raw[range.start * row_bytes..range.end * row_bytes]);
            Ok(())
        })
    }

    /// Packs a matrix while it is read, on all threads: `read` fills its second argument with the rows it is asked for.
    /// No more of the unpacked matrix is in memory than about a megabyte a thread, and what `read` needs for as many.
    ///
    /// # Errors
    /// [`Error::Columns`], [`Error::Memory`], or what `read` returns.
    pub fn pack_with<E: From<Error> + Send>(
        kind: Kind,
        rows: usize,
        cols: usize,
        cpu: &Cpu,
        read: impl Fn(Range<usize>, &mut [u8]) -> Result<(), E> + Sync,
    ) -> Result<Self, E> {
        if Self::bytes_of(kind, rows, cols).is_none() {
            return Err(Error::Memory { bytes: usize::MAX }.into());
        }
        let tile_bytes = cols / kind.block() * Layout::of(kind).bytes;
        let row_bytes = cols / kind.block() * kind.block_bytes();
        let tiles = (Self::PIECE / (row_bytes * TILE).max(1)).max(1);
        let raw: Vec<Mutex<Vec<u8>>> = (0..cpu.threads()).map(|_| Mutex::default()).collect();
        Self::filled(kind, (rows, cols), tiles * tile_bytes, cpu, |thread, piece, out| {
            let range = piece * tiles * TILE..((piece + 1) * tiles * TILE).min(rows);
            // Whatever an earlier piece left there is written over.
            let mut raw = raw[thread].lock().unwrap_or_else(PoisonError::into_inner);
            raw.resize(range.len() * row_bytes, 0);
            read(range, &mut raw)?;
            for (raw, out) in raw.chunks(TILE * row_bytes).zip(out.chunks_exact_mut(tile_bytes)) {
                pack_tile(kind, raw, row_bytes, out);
            }
            Ok(())
        })
    }

    /// Reads a matrix that was packed before, on all threads: `read(piece, out)` fills `out` with a piece of what
    /// [`as_bytes`](Self::as_bytes) gave under the same [`LAYOUT`](Self::LAYOUT), [`PIECE`](Self::PIECE) bytes each but
    /// the last. Any bytes make a matrix, if not the one that was meant.
    ///
    /// # Errors
    /// [`Error::Columns`], [`Error::Memory`], or what `read` returns.
    pub fn read_with<E: From<Error> + Send>(
        kind: Kind,
        rows: usize,
        cols: usize,
        cpu: &Cpu,
        read: impl Fn(usize, &mut [u8]) -> Result<(), E> + Sync,
    ) -> Result<Self, E> {
        Self::filled(kind, (rows, cols), Self::PIECE, cpu, |_, piece, out| read(piece, out))
    }

    /// Makes a matrix whose packed bytes `fill(thread, piece, out)` writes, so many at a time.
    fn filled<E: From<Error> + Send>(
        kind: Kind,
        (rows, cols): (usize, usize),
        piece_bytes: usize,
        cpu: &Cpu,
        fill: impl Fn(usize, usize, &mut [u8]) -> Result<(), E> + Sync,
    ) -> Result<Self, E> {
        if cols == 0 || !cols.is_multiple_of(kind.block()) {
            return Err(Error::Columns { kind, cols }.into());
        }
        let bytes = Self::bytes_of(kind, rows, cols).ok_or(Error::Memory { bytes: usize::MAX })?;
        let mut bytes = Buffer::zeroed(bytes)?;
        let failed = Mutex::new(None);
        cpu.each_chunk_by_thread(&mut bytes, piece_bytes, |thread, piece, out| {
            let has_failed = || failed.lock().unwrap_or_else(PoisonError::into_inner);
            if has_failed().is_some() {
                return;
            }
            if let Err(error) = fill(thread, piece, out) {
                has_failed().get_or_insert(error);
            }
        });
        match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(Self { kind, rows, cols, bytes }),
        }
    }

    /// Returns its packed bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns how many bytes a matrix of this shape takes once it is packed; `None` if that overflows.
    pub fn bytes_of(kind: Kind, rows: usize, cols: usize) -> Option<usize> {
        let tile_bytes = (cols / kind.block()).checked_mul(Layout::of(kind).bytes)?;
        rows.div_ceil(TILE).checked_mul(tile_bytes)
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
        unpack_lane(self.kind, &Layout::of(self.kind), self.tile(row / TILE), row % TILE, out);
    }
}

/// Writes some columns of a tile's rows as numbers. Columns begin and end with blocks; rows that are not there are 0.
pub(crate) fn unpack_tile<const N: usize>(
    weights: &Packed,
    tile: usize,
    columns: Range<usize>,
    out: &mut [[f32; N]; TILE],
) {
    let (kind, layout) = (weights.kind, Layout::of(weights.kind));
    let size = kind.block();
    let blocks = &weights.tile(tile)[columns.start / size * layout.bytes..columns.end / size * layout.bytes];
    for (lane, out) in out.iter_mut().enumerate() {
        unpack_lane(kind, &layout, blocks, lane, &mut out[..columns.len()]);
    }
}

/// Writes what the blocks of a tile hold for one of its rows.
fn unpack_lane(kind: Kind, layout: &Layout, blocks: &[u8], lane: usize, out: &mut [f32]) {
    let blocks = blocks.chunks_exact(layout.bytes);
    match kind {
        Kind::F32 => {
            for (column, out) in blocks.zip(out) {
                *out = f32::from_le_bytes(column.as_chunks::<4>().0[lane]);
            }
        }
        Kind::F16 => {
            for (column, out) in blocks.zip(out) {
                *out = half_at(column, 0, lane);
            }
        }
        Kind::BF16 => {
            for (column, out) in blocks.zip(out) {
                *out = bf16::from_le_bytes(column.as_chunks::<2>().0[lane]).to_f32();
            }
        }
        kind => {
            for (block, out) in blocks.zip(out.chunks_exact_mut(kind.block())) {
                unpack_block(kind, layout, block, lane, out);
            }
        }
    }
}

fn unpack_block(kind: Kind, layout: &Layout, block: &[u8], lane: usize, out: &mut [f32]) {
    let d = scale_at(kind, block, lane);
    let m = if kind.has_min() { half_at(block, layout.m, lane) } else { d };
    for (sub, out) in out.chunks_exact_mut(kind.group()).enumerate() {
        let (scale, min) = group(kind, layout, block, sub, lane);
        let (scale, min) = (d * scale as f32, m * min as f32);
        for (at, out) in out.iter_mut().enumerate() {
            let q = number(kind.planes(), &block[layout.planes..], lane, sub * kind.group() + at);
            *out = scale * q as f32 - min;
        }
    }
}

/// Packs up to 16 rows into a tile that is all zero.
fn pack_tile(kind: Kind, raw: &[u8], row_bytes: usize, out: &mut [u8]) {
    match kind {
        Kind::F32 => turn::<4>(raw, row_bytes, out),
        Kind::F16 | Kind::BF16 => turn::<2>(raw, row_bytes, out),
        _ => {
            let layout = Layout::of(kind);
            let mut block = Block::new();
            for (lane, raw) in raw.chunks_exact(row_bytes).enumerate() {
                let blocks = raw.chunks_exact(kind.block_bytes()).zip(out.chunks_exact_mut(layout.bytes));
                for (raw, out) in blocks {
                    block.read(kind, raw);
                    write(kind, &layout, lane, &block, out);
                }
            }
        }
    }
}

/// Turns rows of plain numbers into columns, a few columns of all rows at a time: what is written then stays in the
/// first-level cache until it is complete.
fn turn<const SIZE: usize>(raw: &[u8], row_bytes: usize, out: &mut [u8]) {
    const COLUMNS: usize = 64;
    let columns = out.as_chunks_mut::<SIZE>().0.as_chunks_mut::<TILE>().0;
    for (at, columns) in columns.chunks_mut(COLUMNS).enumerate() {
        for (lane, row) in raw.chunks_exact(row_bytes).enumerate() {
            let row = &row.as_chunks::<SIZE>().0[at * COLUMNS..];
            for (column, number) in columns.iter_mut().zip(row) {
                column[lane] = *number;
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
    let steps = block.q[..kind.block()].as_chunks::<4>().0.as_chunks::<8>().0;
    for (steps, out) in steps.iter().zip(out[layout.planes..].chunks_exact_mut(planes.bytes())) {
        put(planes, out.as_chunks_mut::<4>().0, lane, &steps.map(u32::from_le_bytes));
    }
}

/// Writes eight steps of one row: the four bytes of a step are one number here, since they stay together.
fn put(planes: Planes, out: &mut [[u8; 4]], lane: usize, steps: &[u32; 8]) {
    const LINE: usize = STEP / 4;
    let mut line = |at: usize, value: u32| out[at * LINE + lane] = value.to_le_bytes();
    let four = |at: usize| steps[2 * at] & 0x0f0f_0f0f | (steps[2 * at + 1] & 0x0f0f_0f0f) << 4;
    // The two bits above `shift` of four steps.
    let two = |at: usize, shift: u32| {
        let bits = |step: usize| (steps[4 * at + step] >> shift & 0x0303_0303) << (2 * step);
        bits(0) | bits(1) | bits(2) | bits(3)
    };
    let one = |shift: u32| (0..8).fold(0, |all, step| all | (steps[step] >> shift & 0x0101_0101) << step);
    match planes {
        Planes::Eight => (0..8).for_each(|at| line(at, steps[at])),
        Planes::Four | Planes::Table(_) => (0..4).for_each(|at| line(at, four(at))),
        Planes::FourOne => {
            (0..4).for_each(|at| line(at, four(at)));
            line(4, one(4));
        }
        Planes::FourTwo => {
            (0..4).for_each(|at| line(at, four(at)));
            (0..2).for_each(|at| line(4 + at, two(at, 4)));
        }
        Planes::Two => (0..2).for_each(|at| line(at, two(at, 0))),
        Planes::TwoOne => {
            (0..2).for_each(|at| line(at, two(at, 0)));
            line(2, one(2));
        }
        Planes::None => {}
    }
}

/// Reads the number of row `lane` and column `at` of a block.
#[inline]
pub(crate) fn number(planes: Planes, bytes: &[u8], lane: usize, at: usize) -> i32 {
    let bytes = &bytes[at / 32 * planes.bytes()..];
    let (byte, step) = (4 * lane + at % 4, at % 32 / 4);
    let four = || bytes[step / 2 * STEP + byte] >> (4 * (step % 2)) & 15;
    let two = |bytes: &[u8]| bytes[step / 4 * STEP + byte] >> (2 * (step % 4)) & 3;
    let one = |bytes: &[u8]| bytes[byte] >> step & 1;
    match planes {
        Planes::Eight => i32::from(bytes[step * STEP + byte].cast_signed()),
        Planes::Four => i32::from(four()),
        Planes::Table(table) => i32::from(table[usize::from(four())]),
        Planes::FourOne => i32::from(four() | one(&bytes[256..]) << 4),
        Planes::FourTwo => i32::from(four() | two(&bytes[256..]) << 4),
        Planes::Two => i32::from(two(bytes)),
        Planes::TwoOne => i32::from(two(bytes) | one(&bytes[128..]) << 2),
        Planes::None => 0,
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

/// Reads the scale that a lane's block has.
#[inline]
pub(crate) fn scale_at(kind: Kind, block: &[u8], lane: usize) -> f32 {
    half_at(block, 0, lane) * kind.unit()
}

/// Reads the `f16` of a lane.
#[inline]
pub(crate) fn half_at(block: &[u8], start: usize, lane: usize) -> f32 {
    let at = start + 2 * lane;
    f16::from_bits(u16::from_le_bytes([block[at], block[at + 1]])).to_f32()
}
