//! Products of packed weights and activations.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod portable;

use crate::{Activations, Isa, Packed, TILE};

impl Packed {
    /// Computes `out = x W^T`: `[tokens, rows]` from activations of `[tokens, cols]`.
    ///
    /// # Panics
    /// If the shapes do not fit, or the activations were rounded for another kind of block.
    pub fn matmul(&self, x: &Activations, out: &mut [f32], isa: Isa) {
        let fits = x.cols == self.cols() && x.block == self.kind().block() && x.group == self.kind().group();
        assert!(fits && out.len() == x.tokens * self.rows(), "{} rows of {}", x.tokens, x.cols);
        let mut scratch = Scratch::default();
        for tile in 0..self.tiles() {
            let mut write = |token: usize, lanes: &[f32; TILE]| {
                let rows = TILE.min(self.rows() - tile * TILE);
                let start = token * self.rows() + tile * TILE;
                out[start..start + rows].copy_from_slice(&lanes[..rows]);
            };
            match isa.checked() {
                Isa::Portable => portable::tile(self, tile, x, &mut write),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => avx2::tile(self, tile, x, &mut scratch, &mut write),
                #[cfg(not(target_arch = "x86_64"))]
                Isa::Avx2 => portable::tile(self, tile, x, &mut write),
            }
        }
    }
}

/// Room for a tile taken apart, and for sums of all tokens.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(crate) sums: Vec<[f32; TILE]>,
}
