//! IQ2 and IQ3: blocks that name eight or four numbers at once, by their place in a grid, and their signs apart. Layouts
//! and grids are those of llama.cpp's `ggml-common.h`; `fixtures/kinds/grids.py` wrote `grids.bin`.
//!
//! Numbers become four bits, a place in a table of eight magnitudes and a sign, as the kinds with tables have them. That
//! loses nothing, and takes 4.5 bits where the file has 2 to 3.4: the kernels look sixteen numbers up at once, which no
//! grid allows.

use crate::{Kind, blocks::Block};

static GRIDS: &[u8; 2 * 2560] = include_bytes!("grids.bin");

/// Where the grid of each kind begins.
const IQ2_XXS: usize = 0;
const IQ2_XS: usize = 256;
const IQ2_S: usize = 768;
const IQ3_XXS: usize = 1792;
const IQ3_S: usize = 2048;

/// What a number's fourth bit says.
const NEGATIVE: u8 = 8;

/// Reads the scales and numbers of a block of IQ2 or IQ3.
pub(crate) fn read(kind: Kind, raw: &[u8], block: &mut Block) {
    match kind {
        Kind::IQ2XXS => iq2_xxs(raw, block),
        Kind::IQ2XS => iq2_xs(raw, block),
        Kind::IQ2S => iq2_s(raw, block),
        Kind::IQ3XXS => iq3_xxs(raw, block),
        Kind::IQ3S => iq3_s(raw, block),
        // The others have no grids.
        _ => {}
    }
}

/// For each 32: four places of a byte, then four times seven signs and a scale in 32 bits.
fn iq2_xxs(raw: &[u8], block: &mut Block) {
    for (group, raw) in raw[2..66].as_chunks::<8>().0.iter().enumerate() {
        let [a, b, c, d, rest @ ..] = *raw;
        let rest = u32::from_le_bytes(rest);
        block.scales[group] = odd(rest >> 28);
        for (at, place) in [a, b, c, d].into_iter().enumerate() {
            let codes = eight(IQ2_XXS + usize::from(place));
            put(block, 4 * group + at, codes, eighth_sign(rest >> (7 * at)));
        }
    }
}

/// For each eight: a place of nine bits, and seven signs.
fn iq2_xs(raw: &[u8], block: &mut Block) {
    scales_of_16(&raw[66..74], block);
    for (at, both) in raw[2..66].as_chunks::<2>().0.iter().enumerate() {
        let both = u16::from_le_bytes(*both);
        put(block, at, eight(IQ2_XS + usize::from(both & 511)), eighth_sign(u32::from(both >> 9)));
    }
}

/// The low bytes of places of ten bits, the signs, and the high bits.
fn iq2_s(raw: &[u8], block: &mut Block) {
    scales_of_16(&raw[74..82], block);
    for at in 0..32 {
        let high = usize::from(raw[66 + at / 4] >> (at % 4 * 2) & 3);
        put(block, at, eight(IQ2_S + (usize::from(raw[2 + at]) | high << 8)), raw[34 + at]);
    }
}

/// A place of a byte for each four; then for each 32 four times seven signs and a scale.
fn iq3_xxs(raw: &[u8], block: &mut Block) {
    for (group, rest) in raw[66..98].as_chunks::<4>().0.iter().enumerate() {
        let rest = u32::from_le_bytes(*rest);
        block.scales[group] = odd(rest >> 28);
        for at in 0..4 {
            let place = 4 * group + at;
            let four = |half: usize| four(IQ3_XXS + usize::from(raw[2 + 2 * place + half]));
            put(block, place, both(four), eighth_sign(rest >> (7 * at)));
        }
    }
}

/// The low bytes of places of nine bits, their high bits, the signs, and a scale of four bits for each 32.
fn iq3_s(raw: &[u8], block: &mut Block) {
    for group in 0..8 {
        block.scales[group] = odd(u32::from(raw[106 + group / 2] >> (group % 2 * 4)));
    }
    for at in 0..32 {
        let four = |half: usize| {
            let place = 2 * at + half;
            let high = usize::from(raw[66 + place / 8] >> (place % 8) & 1);
            four(IQ3_S + (usize::from(raw[2 + place]) | high << 8))
        };
        put(block, at, both(four), raw[74 + at]);
    }
}

/// Reads the scales of four bits that groups of 16 have.
fn scales_of_16(raw: &[u8], block: &mut Block) {
    for (at, scale) in block.scales.iter_mut().enumerate() {
        *scale = odd(u32::from(raw[at / 2] >> (at % 2 * 4)));
    }
}

/// Returns twice what four bits stand for, which is that number and a half.
fn odd(bits: u32) -> i8 {
    (2 * (bits & 15) as u8 + 1).cast_signed()
}

/// Adds the sign that is not stored: an even number of eight are negative.
fn eighth_sign(seven: u32) -> u8 {
    let seven = (seven & 127) as u8;
    seven | ((seven.count_ones() & 1) as u8) << 7
}

fn point(at: usize) -> u16 {
    u16::from_le_bytes([GRIDS[2 * at], GRIDS[2 * at + 1]])
}

/// Returns the eight codes of a point of an IQ2 grid.
fn eight(at: usize) -> [u8; 8] {
    let point = point(at);
    std::array::from_fn(|lane| (point >> (2 * lane)) as u8 & 3)
}

/// Returns the four codes of a point of an IQ3 grid.
fn four(at: usize) -> [u8; 4] {
    let point = point(at);
    std::array::from_fn(|lane| (point >> (3 * lane)) as u8 & 7)
}

fn both(four: impl Fn(usize) -> [u8; 4]) -> [u8; 8] {
    let halves = [four(0), four(1)];
    std::array::from_fn(|lane| halves[lane / 4][lane % 4])
}

/// Writes the numbers of the eight columns at `8 * at`.
fn put(block: &mut Block, at: usize, codes: [u8; 8], signs: u8) {
    for (lane, (q, code)) in block.q[8 * at..][..8].iter_mut().zip(codes).enumerate() {
        *q = code | ((signs >> lane & 1) * NEGATIVE);
    }
}
