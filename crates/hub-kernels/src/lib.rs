//! The hub's own arithmetic for processors: weights packed once, matrix products over them, and the threads that run
//! both.
//!
//! A [`Packed`] matrix holds the blocks of a quantized file in another order, bit for bit the same numbers. Its rows
//! (outputs) lie side by side in tiles of [`TILE`]: the lanes of a vector are rows, so that a product needs no sum
//! across lanes, and a tile is unpacked once for all tokens of a step.
//!
//! ```
//! use hub_kernels::{Activations, Cpu, Forms, Kind, Packed};
//!
//! // Two rows of 32 numbers each, every one 0.5 * 2.
//! let block: Vec<u8> = [&[0x00, 0x38][..], &[2_u8; 32]].concat();
//! let weights = Packed::pack(Kind::Q8_0, 2, 32, &[block.as_slice(), &block].concat())?;
//! let tokens = [1.0_f32; 32];
//! let cpu = Cpu::single();
//! let activations = Activations::of(&tokens, 32, Forms::of([Kind::Q8_0]), &cpu);
//! let mut out = [0.0; 2];
//! weights.matmul(&activations, &mut out, &cpu);
//! assert!((out[0] - 32.0).abs() < 0.1);
//! # Ok::<(), hub_kernels::Error>(())
//! ```
//!
//! Every product sums its terms in one order, whatever else shares the call: a row of the result is bitwise the same
//! alone and among others, and for any division into threads. Between instruction sets results differ in the last bits.

mod activations;
mod attention;
mod blocks;
mod cpu;
mod dense;
mod disjoint;
mod error;
mod grids;
mod isa;
mod kind;
mod matmul;
mod memory;
mod packed;
mod peak;
mod quantize;
mod recurrent;
mod rows;
mod saved;
mod scores;
mod simd;
mod team;
#[cfg(target_arch = "x86_64")]
mod tiles;

pub use activations::{Activations, Forms, PANEL};
pub use attention::{Attention, BLOCK, KvBlock, KvKind, KvShape, Scratch, Sequence};
pub use blocks::round_to_bytes;
pub use cpu::Cpu;
pub use dense::{Matrix, Number, dense};
pub use error::Error;
pub use isa::Isa;
pub use kind::Kind;
pub use matmul::{Product, multiply};
pub use packed::Packed;
pub use peak::Peak;
pub use quantize::{quantize, quantize_alone};
pub use recurrent::{Conv, RecurrentBlock, RecurrentShape, Scan, ScanRows, Stream};
pub use rows::{Function, add_scaled, apply, gate, layer_norm, rms_norm, rotate_halves, rotate_pairs};
pub use scores::{SCORES, softmax_sums, softmax_weights};

/// How many rows of a matrix lie side by side.
pub const TILE: usize = 16;
