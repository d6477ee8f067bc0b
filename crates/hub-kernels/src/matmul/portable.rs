//! The reference: the same whole numbers, block by block, in plain Rust.

use crate::{
    Activations, Packed, TILE,
    packed::{Layout, group, half_at, number},
};

/// Adds one tile's 16 results for each token to `sums`.
pub(super) fn tile(weights: &Packed, tile: usize, x: &Activations, sums: &mut [[f32; TILE]]) {
    let kind = weights.kind();
    let layout = Layout::of(kind);
    let blocks = weights.cols() / kind.block();
    for (token, lanes) in sums.iter_mut().take(x.tokens).enumerate() {
        for (at, block) in weights.tile(tile).chunks_exact(layout.bytes).enumerate() {
            let scale = x.scales[(token / x.lanes * blocks + at) * x.lanes + token % x.lanes];
            for (lane, sum) in lanes.iter_mut().enumerate() {
                let (dot, offset) = whole(weights, &layout, block, at, lane, x, token);
                let d = half_at(block, 0, lane);
                if kind.has_min() {
                    let m = half_at(block, layout.m, lane);
                    *sum += dot as f32 * (d * scale);
                    *sum -= offset as f32 * (m * scale);
                } else {
                    *sum += (dot - offset) as f32 * (d * scale);
                }
            }
        }
    }
}

/// Sums up one block of a row in whole numbers: scales times numbers, and minima times the sums of activations.
fn whole(
    weights: &Packed,
    layout: &Layout,
    block: &[u8],
    at: usize,
    lane: usize,
    x: &Activations,
    token: usize,
) -> (i32, i32) {
    let kind = weights.kind();
    let (panel, column) = (token / x.lanes, token % x.lanes);
    let (mut dot, mut offset) = (0, 0);
    for sub in 0..kind.groups() {
        let (scale, min) = group(kind, layout, block, sub, lane);
        let first = at * kind.block() + sub * kind.group();
        let mut sum = 0;
        for index in 0..kind.group() {
            let col = first + index;
            let q = number(kind.planes(), &block[layout.planes..], lane, sub * kind.group() + index);
            sum += q * i32::from(x.q[((panel * x.cols / 4 + col / 4) * x.lanes + column) * 4 + col % 4]);
        }
        dot += scale * sum;
        offset += min * x.sums[(panel * x.cols / kind.group() + first / kind.group()) * x.lanes + column];
    }
    (dot, offset)
}
