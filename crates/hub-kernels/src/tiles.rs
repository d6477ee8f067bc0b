//! AMX: eight tiles of 16 rows of 64 bytes, which a thread sets up before it uses them.
#![expect(unsafe_code, reason = "the instructions have no functions in stable Rust")]

use std::{
    arch::{asm, x86_64::__cpuid_count},
    marker::PhantomData,
};

use crate::{
    activations::{COLUMNS, ROWS as TOKENS, TILE_BYTES},
    simd::Line,
};

/// Whether this processor multiplies tiles of bytes, and the system lets this process use them: Linux, which has to be
/// asked. Threads that start later may use them too.
pub(crate) fn are_here() -> bool {
    const TILE: u32 = 1 << 24;
    const INT8: u32 = 1 << 25;
    let most = __cpuid_count(0, 0).eax;
    let features = if most < 7 { 0 } else { __cpuid_count(7, 0).edx };
    features & (TILE | INT8) == TILE | INT8 && allowed()
}

/// Asks Linux for room for the tiles wherever it keeps the registers of a thread.
#[cfg(target_os = "linux")]
fn allowed() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const REQUEST_PERMISSION: i64 = 0x1023;
    const TILE_DATA: i64 = 18;
    let mut result = ARCH_PRCTL;
    // SAFETY: the call takes two numbers, and only sets what this process may do.
    unsafe {
        asm!(
            "syscall",
            inout("rax") result,
            in("rdi") REQUEST_PERMISSION,
            in("rsi") TILE_DATA,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    result == 0
}

#[cfg(not(target_os = "linux"))]
fn allowed() -> bool {
    false
}

/// The shapes of the eight tiles, as `ldtilecfg` reads them.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// Sums of tokens and rows: `[weights, activations, token]`, and sixteen numbers of 32 bits in a line, one for each row.
pub(crate) type Sums = [[[Line; TOKENS]; 2]; 2];

/// A thread's tiles while they are set up: 0 to 3 are sums, 4 and 5 activations, 6 and 7 weights. Dropping it gives
/// them back, so that the system need not keep them when it takes the thread off its core. It stays on its thread: the
/// pointer, which leads nowhere, is neither `Send` nor `Sync`.
pub(crate) struct Tiles(PhantomData<*mut ()>);

impl Tiles {
    /// Sets up tiles.
    ///
    /// # Safety
    /// [`are_here`] returned true, and this thread has no other `Tiles`.
    pub(crate) unsafe fn new() -> Self {
        let mut shapes =
            Shapes { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        shapes.rows[..8].fill(TOKENS as u8);
        shapes.row_bytes[..8].fill(COLUMNS as u16);
        // SAFETY: the caller's promise; the instruction reads the 64 bytes of the shapes.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const shapes, options(nostack, readonly)) };
        Self(PhantomData)
    }
}

/// Writes a function that multiplies two runs of tiles of activations with two of weights: every pair of them, `steps`
/// tiles long, one after another in memory. Two by two, since each loaded tile is then used twice.
macro_rules! multiply {
    ($(#[$doc:meta])* $name:ident, $instruction:literal) => {
        $(#[$doc])*
        #[inline]
        pub(crate) fn $name(&self, x: [&[i8]; 2], w: [&[u8]; 2], steps: usize, out: &mut Sums) {
            let bytes = steps * TILE_BYTES;
            assert!(x.iter().all(|x| x.len() >= bytes) && w.iter().all(|w| w.len() >= bytes), "{steps} tiles");
            // SAFETY: a `Tiles` is the proof that they are set up on this thread. Every address lies in a slice that is
            // long enough, which was made sure of above. Compilers use no tiles of their own accord, so none of theirs
            // are changed, and what is in them lasts from one block of instructions to the next.
            unsafe {
                asm!("tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3", options(nostack, nomem));
                for step in 0..steps {
                    asm!(
                        "tileloadd tmm6, [{w0} + {stride}*1]",
                        "tileloadd tmm4, [{x0} + {stride}*1]",
                        "tileloadd tmm7, [{w1} + {stride}*1]",
                        concat!($instruction, " tmm0, tmm4, tmm6"),
                        "tileloadd tmm5, [{x1} + {stride}*1]",
                        concat!($instruction, " tmm2, tmm4, tmm7"),
                        concat!($instruction, " tmm1, tmm5, tmm6"),
                        concat!($instruction, " tmm3, tmm5, tmm7"),
                        x0 = in(reg) x[0].as_ptr().add(step * TILE_BYTES),
                        x1 = in(reg) x[1].as_ptr().add(step * TILE_BYTES),
                        w0 = in(reg) w[0].as_ptr().add(step * TILE_BYTES),
                        w1 = in(reg) w[1].as_ptr().add(step * TILE_BYTES),
                        stride = in(reg) COLUMNS,
                        options(nostack, readonly),
                    );
                }
                asm!(
                    "tilestored [{0} + {4}*1], tmm0",
                    "tilestored [{1} + {4}*1], tmm1",
                    "tilestored [{2} + {4}*1], tmm2",
                    "tilestored [{3} + {4}*1], tmm3",
                    in(reg) out[0][0].as_mut_ptr(),
                    in(reg) out[0][1].as_mut_ptr(),
                    in(reg) out[1][0].as_mut_ptr(),
                    in(reg) out[1][1].as_mut_ptr(),
                    in(reg) COLUMNS,
                    options(nostack),
                );
            }
        }
    };
}

impl Tiles {
    multiply! {
        /// Multiplies with signed weights.
        multiply_signed, "tdpbssd"
    }
    multiply! {
        /// Multiplies with unsigned weights.
        multiply_unsigned, "tdpbsud"
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: a `Tiles` is the proof that the instruction is there.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_multiply() {
        if !are_here() {
            return;
        }
        // Small numbers without a pattern.
        let byte = |at: usize| (at as u32).wrapping_mul(2_654_435_761).to_le_bytes()[3];
        let x: Vec<i8> = (0..4 * TILE_BYTES).map(|at| byte(at).cast_signed()).collect();
        let w: Vec<u8> = (0..4 * TILE_BYTES).map(|at| byte(at + 77_777)).collect();
        let (x, w) = (x.split_at(2 * TILE_BYTES), w.split_at(2 * TILE_BYTES));
        let (x, w) = ([x.0, x.1], [w.0, w.1]);
        for signed in [true, false] {
            let mut out = [[[[0; 64]; TOKENS]; 2]; 2];
            // SAFETY: tiles are here, and this thread has no others.
            let tiles = unsafe { Tiles::new() };
            match signed {
                true => tiles.multiply_signed(x, w, 2, &mut out),
                false => tiles.multiply_unsigned(x, w, 2, &mut out),
            }
            drop(tiles);
            for (at, line) in out.as_flattened().as_flattened().iter().enumerate() {
                let (plane, part, token) = (at / 32, at / 16 % 2, at % 16);
                for (row, sum) in line.as_chunks::<4>().0.iter().enumerate() {
                    let expected: i32 = (0..2 * COLUMNS)
                        .map(|column| {
                            let (tile, column) = (column / COLUMNS * TILE_BYTES, column % COLUMNS);
                            let w = w[plane][tile + column / 4 * 64 + 4 * row + column % 4];
                            let w = if signed { i32::from(w.cast_signed()) } else { i32::from(w) };
                            i32::from(x[part][tile + token * COLUMNS + column]) * w
                        })
                        .sum();
                    assert_eq!(i32::from_le_bytes(*sum), expected, "{signed} {plane} {part} {token} {row}");
                }
            }
        }
    }
}
