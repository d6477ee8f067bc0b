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
        let mut sums = Vec::new();
        for tile in 0..self.tiles() {
            sums.clear();
            sums.resize(x.tokens.next_multiple_of(x.lanes), [0.0; TILE]);
            match isa.checked() {
                Isa::Portable => portable::tile(self, tile, x, &mut sums),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => avx2::tile(self, tile, x, &mut sums),
                #[cfg(not(target_arch = "x86_64"))]
                Isa::Avx2 => portable::tile(self, tile, x, &mut sums),
            }
            let rows = TILE.min(self.rows() - tile * TILE);
            for (out, lanes) in out.chunks_exact_mut(self.rows()).zip(&sums) {
                out[tile * TILE..tile * TILE + rows].copy_from_slice(&lanes[..rows]);
            }
        }
    }
}
