use std::{
    hint::black_box,
    num::NonZeroUsize,
    thread,
    time::{Duration, Instant},
};

use candle_core::{DType, Tensor};

use crate::{Device, Error, Priority};

/// What a device reaches at best.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes read from its memory in a second.
    pub read_bytes_per_s: f64,
    /// Operations of 32 bits in a second, in a product of matrices; a multiplication with an addition counts as two.
    pub ops_per_s: f64,
}

/// Far over what caches hold.
const READ_BYTES: usize = 256 << 20;
/// Rows and columns of the matrices: large enough for a product to be bound by arithmetic.
const SIDE: usize = 1_024;
/// How long products are repeated.
const ARITHMETIC: Duration = Duration::from_millis(300);

impl Device {
    /// Measures what the device reaches at best. Takes its turn on the device, about half a second and 256 MiB.
    ///
    /// # Errors
    /// [`Error::Memory`] if the account does not hold that much, [`Error::Compute`] if the device fails.
    pub fn measure(&self) -> Result<Limits, Error> {
        let reserved = self.account().reserve(READ_BYTES as u64);
        let _reserved = reserved.map_err(|source| Error::Memory { what: "measuring the device", source })?;
        let _pass = self.gate().enter(Priority::Background);
        let compute = |source| Error::Compute { device: self.name().to_owned(), source };
        let read_bytes_per_s = match self.candle() {
            candle_core::Device::Cpu => read_by_processor(),
            device => read_by_card(device).map_err(compute)?,
        };
        let ops_per_s = multiply(self.candle()).map_err(compute)?;
        Ok(Limits { read_bytes_per_s, ops_per_s })
    }
}

/// Sums a large buffer on every thread at once, and returns bytes a second.
fn read_by_processor() -> f64 {
    let words = vec![1_u64; READ_BYTES / size_of::<u64>()];
    let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let start = Instant::now();
    thread::scope(|scope| {
        for part in words.chunks(words.len().div_ceil(threads)) {
            scope.spawn(|| black_box(part.iter().fold(0_u64, |sum, word| sum.wrapping_add(*word))));
        }
    });
    READ_BYTES as f64 / start.elapsed().as_secs_f64()
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
        assert!(limits.read_bytes_per_s > 1e8 && limits.ops_per_s > 1e8, "{limits:?}");
        assert!(matches!(Device::cpu(Account::new(1)).measure(), Err(Error::Memory { .. })));
    }
}
