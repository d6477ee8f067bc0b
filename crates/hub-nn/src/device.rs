//! Where arithmetic runs: the hardware, the turn to use it, and the account of its memory.

mod gate;
mod limits;

use std::sync::Arc;

use hub_base::Account;

use crate::Error;
pub use gate::{Gate, Pass, Priority};
pub use limits::Limits;

/// A piece of hardware that models run on.
///
/// Clones share the hardware, its gate and its account. There is no global one: whoever opens models makes a device
/// and hands it to each.
#[derive(Clone, Debug)]
pub struct Device(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    candle: candle_core::Device,
    gate: Gate,
    account: Account,
}

impl Device {
    /// Makes the processor a device whose models may use what `account` holds.
    pub fn cpu(account: Account) -> Self {
        Self::new("cpu".to_owned(), candle_core::Device::Cpu, account)
    }

    /// Opens a device by name: `"auto"`, `"cpu"`, `"cuda:0"`, `"metal"`.
    ///
    /// `"auto"` is the first graphics card this build can use, else the processor.
    ///
    /// # Errors
    /// [`Error::Device`] if the name is unknown, or this build or machine has no such device.
    pub fn open(name: &str, account: Account) -> Result<Self, Error> {
        let fail = |reason: String| Error::Device { name: name.to_owned(), reason };
        let candle = match (name, name.strip_prefix("cuda:")) {
            ("cpu", _) => return Ok(Self::cpu(account)),
            ("auto", _) => {
                candle_core::Device::cuda_if_available(0).map_err(|error| fail(error.to_string()))?
            }
            ("cuda", _) => candle_core::Device::new_cuda(0).map_err(|error| fail(error.to_string()))?,
            (_, Some(index)) => {
                let index = index.parse().map_err(|_| fail("the card's number is no number".to_owned()))?;
                candle_core::Device::new_cuda(index).map_err(|error| fail(error.to_string()))?
            }
            ("metal", _) => candle_core::Device::new_metal(0).map_err(|error| fail(error.to_string()))?,
            _ => return Err(fail("known are auto, cpu, cuda:N and metal".to_owned())),
        };
        let name = match candle {
            candle_core::Device::Cpu => "cpu",
            _ => name,
        };
        Ok(Self::new(name.to_owned(), candle, account))
    }

    fn new(name: String, candle: candle_core::Device, account: Account) -> Self {
        Self(Arc::new(Inner { name, candle, gate: Gate::default(), account }))
    }

    /// Returns the device's name, as [`Device::open`] takes it.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Returns the turn to compute on this device.
    pub fn gate(&self) -> &Gate {
        &self.0.gate
    }

    /// Returns the account of this device's memory.
    pub fn account(&self) -> &Account {
        &self.0.account
    }

    pub(crate) fn candle(&self) -> &candle_core::Device {
        &self.0.candle
    }
}
