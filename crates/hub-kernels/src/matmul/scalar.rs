//! The reference: the same whole numbers, block by block and one at a time.

use super::Sums;
use crate::{
    Activations, Kind, Packed, TILE,
    activations::Bytes,
    packed::{Layout, group, half_at, number, scale_at},
};

/// Adds what a tile gives for the tokens from `first` on.
pub(super) fn add(weights: &Packed, tile: usize, x: &Activations, first: usize, sums: &mut Sums) {
    let kind = weights.kind();
    let layout = Layout::of(kind);
    let mut chunk = Chunk { q: [[0; TILE]; 256], scales: [[0; TILE]; 16], mins: [[0; TILE]; 16] };
    for (at, block) in weights.tile(tile).chunks_exact(layout.bytes).enumerate() {
        chunk.take(kind, &layout, block);
        for (token, sums) in (first..x.tokens).zip(&mut *sums) {
            let place = Place { x, bytes: bytes(kind, x), block: kind.block(), at, token };
            let (dots, offsets) = chunk.whole(kind, &place);
            let scale = place.scale();
            for (lane, sum) in sums.iter_mut().enumerate() {
                let d = scale_at(kind, block, lane);
                if kind.has_min() {
                    let m = half_at(block, layout.m, lane);
                    *sum += dots[lane] as f32 * (d * scale);
                    *sum -= offsets[lane] as f32 * (m * scale);
                } else {
                    *sum += (dots[lane] - offsets[lane]) as f32 * (d * scale);
                }
            }
        }
    }
}

/// A block of a tile, taken apart.
struct Chunk {
    q: [[i32; TILE]; 256],
    scales: [[i32; TILE]; 16],
    mins: [[i32; TILE]; 16],
}

impl Chunk {
    fn take(&mut self, kind: Kind, layout: &Layout, block: &[u8]) {
        for (at, lanes) in self.q[..kind.block()].iter_mut().enumerate() {
            for (lane, q) in lanes.iter_mut().enumerate() {
                *q = number(kind.planes(), &block[layout.planes..], lane, at);
            }
        }
        for sub in 0..kind.groups() {
            for lane in 0..TILE {
                (self.scales[sub][lane], self.mins[sub][lane]) = group(kind, layout, block, sub, lane);
            }
        }
    }

    /// Sums up a block in whole numbers: scales times numbers, and minima times the sums of activations.
    fn whole(&self, kind: Kind, place: &Place<'_>) -> ([i32; TILE], [i32; TILE]) {
        let (mut dots, mut offsets) = ([0; TILE], [0; TILE]);
        for sub in 0..kind.groups() {
            let (mut dot, mut sum) = ([0; TILE], 0);
            for col in sub * kind.group()..(sub + 1) * kind.group() {
                let x = place.number(col);
                sum += x;
                dot.iter_mut().zip(&self.q[col]).for_each(|(dot, q)| *dot += q * x);
            }
            for lane in 0..TILE {
                dots[lane] += self.scales[sub][lane] * dot[lane];
                offsets[lane] += self.mins[sub][lane] * sum;
            }
        }
        (dots, offsets)
    }
}

/// Where a block stands among the activations of a token.
struct Place<'a> {
    x: &'a Activations,
    bytes: &'a Bytes,
    block: usize,
    at: usize,
    token: usize,
}

impl Place<'_> {
    fn number(&self, col: usize) -> i32 {
        let lanes = self.x.lanes;
        let (panel, lane, col) = (self.token / lanes, self.token % lanes, self.at * self.block + col);
        i32::from(self.bytes.q[((panel * self.x.cols / 4 + col / 4) * lanes + lane) * 4 + col % 4])
    }

    fn scale(&self) -> f32 {
        let lanes = self.x.lanes;
        let (panel, lane) = (self.token / lanes, self.token % lanes);
        self.bytes.scales[(panel * self.x.cols / self.block + self.at) * lanes + lane]
    }
}

fn bytes(kind: Kind, x: &Activations) -> &Bytes {
    if kind.is_super() { &x.large } else { &x.small }
}
