use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use super::BLOCK;
use crate::{
    saved::{Saved, put_lanes, take_lanes},
    simd::{LANES, Op, Simd},
};

/// How cached keys and values are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum KvKind {
    /// As computed.
    F32,
    /// Half the bytes of `F32`; errors far below those of weights of few bits.
    #[default]
    F16,
    /// A byte a number, with a scale for each position and head: a little over a quarter.
    Q8,
}

/// What is cached of a position in a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KvShape {
    /// Number of key and value heads.
    pub heads: usize,
    /// Width of a key.
    pub key_dim: usize,
    /// Width of a value.
    pub value_dim: usize,
}

/// The keys and values of [`BLOCK`] consecutive positions, in some layers.
///
/// Each layer and head has a part of its own with a lock of its own, so that threads write one head each and read any.
/// The lanes of a vector are positions in keys, and numbers of a head in values: scores need no sum across lanes, and
/// neither does the mean of values.
#[derive(Debug)]
pub struct KvBlock {
    kv_heads: usize,
    parts: Vec<RwLock<Part>>,
}

/// The keys and values of one layer and head.
#[derive(Clone, Debug)]
pub(super) enum Part {
    F32(Numbers<f32>),
    F16(Numbers<u16>),
    Q8(Numbers<i8>),
}

/// Keys and values in one kind of numbers.
#[derive(Clone, Debug)]
pub(super) struct Numbers<E> {
    key_dim: usize,
    value_dim: usize,
    /// `[BLOCK / 16, key_dim, 16 positions]`
    pub(super) keys: Vec<[E; LANES]>,
    /// `[BLOCK, value_dim / 16, 16 numbers]`
    pub(super) values: Vec<[E; LANES]>,
    /// `[BLOCK / 16, 16]` each, for kinds with scales.
    pub(super) key_scales: Vec<[f32; LANES]>,
    pub(super) value_scales: Vec<[f32; LANES]>,
}

/// A number as keys and values are stored.
pub(super) trait Element: Copy + Default {
    /// Whether a position has a scale.
    const HAS_SCALES: bool;

    fn load<S: Simd>(simd: S, x: &[Self; LANES]) -> S::F;
    fn store<S: Simd>(simd: S, v: S::F, out: &mut [Self; LANES]);
}

impl KvKind {
    /// Returns how many bytes a block takes in a layer.
    pub fn block_bytes(self, shape: KvShape) -> usize {
        let numbers = BLOCK * (shape.key_dim + shape.value_dim.next_multiple_of(LANES));
        let bytes = match self {
            Self::F32 => numbers * 4,
            Self::F16 => numbers * 2,
            Self::Q8 => numbers + 2 * BLOCK * size_of::<f32>(),
        };
        shape.heads * bytes
    }
}

impl KvBlock {
    /// Takes memory for a block, all zero.
    pub fn new(kind: KvKind, layers: usize, shape: KvShape) -> Self {
        let part = || match kind {
            KvKind::F32 => Part::F32(Numbers::new(shape)),
            KvKind::F16 => Part::F16(Numbers::new(shape)),
            KvKind::Q8 => Part::Q8(Numbers::new(shape)),
        };
        let parts = (0..layers * shape.heads).map(|_| RwLock::new(part())).collect();
        Self { kv_heads: shape.heads, parts }
    }

    /// Writes the key and the value of one head at a position of the block.
    ///
    /// # Panics
    /// If there is no such layer, head or position, or the numbers are not as many as the shape says.
    pub(super) fn write(&self, layer: usize, head: usize, at: usize, row: Row<'_>, isa: crate::Isa) {
        let part = &self.parts[layer * self.kv_heads + head];
        // A writer that panicked leaves numbers, as wrong as its step was.
        let part = &mut *part.write().unwrap_or_else(PoisonError::into_inner);
        match part {
            Part::F32(numbers) => isa.run(Write { numbers, at, row }),
            Part::F16(numbers) => isa.run(Write { numbers, at, row }),
            Part::Q8(numbers) => isa.run(Write { numbers, at, row }),
        }
    }

    pub(super) fn read(&self, layer: usize, head: usize) -> RwLockReadGuard<'_, Part> {
        self.parts[layer * self.kv_heads + head].read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KvBlock {
    /// Appends all numbers as bytes.
    pub fn save(&self, out: &mut Vec<u8>) {
        for part in &self.parts {
            match &*part.read().unwrap_or_else(PoisonError::into_inner) {
                Part::F32(numbers) => numbers.save(out),
                Part::F16(numbers) => numbers.save(out),
                Part::Q8(numbers) => numbers.save(out),
            }
        }
    }

    /// Takes all numbers from the beginning of `bytes`, as [`save`](Self::save) wrote them of a block of the same kind and
    /// shape, and moves on behind them; `None` if there are too few.
    pub fn load(&mut self, bytes: &mut &[u8]) -> Option<()> {
        self.parts.iter_mut().try_for_each(|part| {
            match part.get_mut().unwrap_or_else(PoisonError::into_inner) {
                Part::F32(numbers) => numbers.load(bytes),
                Part::F16(numbers) => numbers.load(bytes),
                Part::Q8(numbers) => numbers.load(bytes),
            }
        })
    }
}

impl<E: Saved> Numbers<E> {
    fn save(&self, out: &mut Vec<u8>) {
        put_lanes(&self.keys, out);
        put_lanes(&self.values, out);
        put_lanes(&self.key_scales, out);
        put_lanes(&self.value_scales, out);
    }

    fn load(&mut self, bytes: &mut &[u8]) -> Option<()> {
        take_lanes(&mut self.keys, bytes)?;
        take_lanes(&mut self.values, bytes)?;
        take_lanes(&mut self.key_scales, bytes)?;
        take_lanes(&mut self.value_scales, bytes)
    }
}

impl Clone for KvBlock {
    fn clone(&self) -> Self {
        let copy = |part: &RwLock<Part>| part.read().unwrap_or_else(PoisonError::into_inner).clone();
        Self {
            kv_heads: self.kv_heads,
            parts: self.parts.iter().map(|part| RwLock::new(copy(part))).collect(),
        }
    }
}

impl<E: Element> Numbers<E> {
    fn new(KvShape { key_dim, value_dim, .. }: KvShape) -> Self {
        let zeros = |len: usize| vec![[E::default(); LANES]; len];
        let scales = || vec![[0.0; LANES]; if E::HAS_SCALES { BLOCK / LANES } else { 0 }];
        Self {
            key_dim,
            value_dim,
            keys: zeros(BLOCK / LANES * key_dim),
            values: zeros(BLOCK * value_dim.div_ceil(LANES)),
            key_scales: scales(),
            value_scales: scales(),
        }
    }
}

/// What is cached of one token and head.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) key: &'a [f32],
    pub(super) value: &'a [f32],
}

struct Write<'a, E> {
    numbers: &'a mut Numbers<E>,
    at: usize,
    row: Row<'a>,
}

impl<E: Element> Op for Write<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { numbers, at, row: Row { key, value } } = self;
        let (tile, lane) = (at / LANES, at % LANES);
        let wide = numbers.value_dim.div_ceil(LANES);
        let key_scale = scale::<E>(key);
        let value_scale = scale::<E>(value);
        if E::HAS_SCALES {
            numbers.key_scales[tile][lane] = key_scale;
            numbers.value_scales[tile][lane] = value_scale;
        }
        let keys = &mut numbers.keys[tile * numbers.key_dim..(tile + 1) * numbers.key_dim];
        let values = &mut numbers.values[at * wide..(at + 1) * wide];
        for (keys, key) in keys.chunks_mut(LANES).zip(key.chunks(LANES)) {
            let rounded = round::<S, E>(simd, key, key_scale);
            for (out, number) in keys.iter_mut().zip(rounded) {
                out[lane] = number;
            }
        }
        for (out, value) in values.iter_mut().zip(value.chunks(LANES)) {
            *out = round::<S, E>(simd, value, value_scale);
        }
    }
}

/// What the numbers are divided by before they are stored; not a number if one of them is none.
#[inline(always)]
fn scale<E: Element>(numbers: &[f32]) -> f32 {
    if !E::HAS_SCALES {
        return 1.0;
    }
    let larger =
        |most: f32, number: &f32| if number.abs() > most || number.is_nan() { number.abs() } else { most };
    numbers.iter().fold(0.0, larger) / 127.0
}

#[inline(always)]
fn round<S: Simd, E: Element>(simd: S, numbers: &[f32], scale: f32) -> [E; LANES] {
    let mut padded = [0.0; LANES];
    padded[..numbers.len()].copy_from_slice(numbers);
    let factor = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    let mut out = [E::default(); LANES];
    let v = simd.load(&padded);
    E::store(simd, if E::HAS_SCALES { simd.mul(v, simd.splat(factor)) } else { v }, &mut out);
    out
}

impl Element for f32 {
    const HAS_SCALES: bool = false;

    #[inline(always)]
    fn load<S: Simd>(simd: S, x: &[Self; LANES]) -> S::F {
        simd.load(x)
    }

    #[inline(always)]
    fn store<S: Simd>(simd: S, v: S::F, out: &mut [Self; LANES]) {
        simd.store(v, out);
    }
}

/// An `f16`, as its bits.
impl Element for u16 {
    const HAS_SCALES: bool = false;

    #[inline(always)]
    fn load<S: Simd>(simd: S, x: &[Self; LANES]) -> S::F {
        simd.load_half(x)
    }

    /// Numbers that `f16` cannot hold become the largest it can: an infinity would spoil rows that do not see it.
    /// What is not a number stays so, and is found where tokens are drawn.
    #[inline(always)]
    fn store<S: Simd>(simd: S, v: S::F, out: &mut [Self; LANES]) {
        let most = 65_504.0;
        simd.store_half(simd.max(simd.splat(-most), simd.min(simd.splat(most), v)), out);
    }
}

impl Element for i8 {
    const HAS_SCALES: bool = true;

    #[inline(always)]
    fn load<S: Simd>(simd: S, x: &[Self; LANES]) -> S::F {
        simd.load_bytes(x)
    }

    #[inline(always)]
    fn store<S: Simd>(simd: S, v: S::F, out: &mut [Self; LANES]) {
        simd.store_bytes(v, out);
    }
}
