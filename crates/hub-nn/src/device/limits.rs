use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use candle_core::{DType, Tensor};
use hub_kernels::{Cpu, Peak};

use crate::{Device, Error, Priority};

/// What a device reaches at best.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes read from its memory in a second.
    pub read_bytes_per_s: f64,
    /// Operations on `f32` in a second; a multiplication with an addition counts as two. On the processor of numbers
    /// that stay in registers, on a card in a product of matrices.
    pub ops_per_s: f64,
    /// The same on bytes, which the processor multiplies weights of few bits as; on a card that of `f32`.
    pub byte_ops_per_s: f64,
}

/// Bytes that a card reads: far over what caches hold.
const READ_BYTES: usize = Cpu::MEASURE_BYTES;
/// Rows and columns of the matrices: large enough for a product to be bound by arithmetic.
const SIDE: usize = 1_024;
/// How long products are repeated.
const ARITHMETIC: Duration = Duration::from_millis(300);

impl Device {
    /// Measures what the device reaches at best, with all the threads that compute. Takes its turn on the device, about
    /// half a second and 256 MiB.
    ///
    /// # Errors
    /// [`Error::Memory`] if the account does not hold that much, [`Error::Compute`] if the device fails,
    /// [`Error::Threads`].
    pub fn measure(&self) -> Result<Limits, Error> {
        let reserved = self.account().reserve(READ_BYTES as u64);
        let _reserved = reserved.map_err(|source| Error::Memory { what: "measuring the device", source })?;
        let _pass = self.gate().enter(Priority::Background);
        if self.is_cpu() {
            let Peak { read_bytes_per_s, floats_per_s, bytes_per_s } = self.cpu_team()?.measure()?;
            return Ok(Limits {
                read_bytes_per_s,
                ops_per_s: 2.0 * floats_per_s,
                byte_ops_per_s: 2.0 * bytes_per_s,
            });
        }
        let compute = |source| Error::Compute { device: self.name().to_owned(), source };
        let read_bytes_per_s = read_by_card(self.candle()).map_err(compute)?;
        let ops_per_s = multiply(self.candle()).map_err(compute)?;
        Ok(Limits { read_bytes_per_s, ops_per_s, byte_ops_per_s: ops_per_s })
    }
}

fn read_by_card(device: &candle_core::Device) -> candle_core::Result<f64> {
    let values = Tensor::ones(READ_BYTES / size_of::<f32>(), DType::F32, device)?;
    // The first sum compiles or loads the kernel.
    values.sum_all()?.to_scalar::<f32>()?;
    let start = Instant::now();
    black_box(values.sum_all()?.to_scalar::<f32>()?);
    Ok(READ_BYTES as f64 / start.elapsed().as_secs_f64())
}

/// Multiplies matrices for a while, and returns operations a second.
fn multiply(device: &candle_core::Device) -> candle_core::Result<f64> {
    let matrix = Tensor::ones((SIDE, SIDE), DType::F32, device)?;
    black_box(matrix.matmul(&matrix)?);
    device.synchronize()?;
    let start = Instant::now();
    let mut products = 0;
    while start.elapsed() < ARITHMETIC {
        black_box(matrix.matmul(&matrix)?);
        device.synchronize()?;
        products += 1;
    }
    let ops = 2 * SIDE.pow(3) * products;
    Ok(ops as f64 / start.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use hub_base::Account;

    use super::*;

    #[test]
    fn the_processor_reads_and_multiplies() {
        let limits = Device::cpu(Account::unlimited()).measure().unwrap();
        assert!(
            limits.read_bytes_per_s > 1e8 && limits.ops_per_s > 1e8 && limits.byte_ops_per_s > 1e8,
            "{limits:?}"
        );
        assert!(matches!(Device::cpu(Account::new(1)).measure(), Err(Error::Memory { .. })));
    }
}
