//! Where arithmetic runs: the hardware, the turn to use it, and the account of its memory.

mod cores;
mod gate;
mod limits;

use std::{
    num::NonZeroUsize,
    sync::{Arc, OnceLock},
};

use hub_base::Account;
use hub_kernels::{Cpu, Isa};

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
    options: DeviceOptions,
    /// The threads of the processor, once something has been computed on it.
    cpu: OnceLock<Cpu>,
}

/// How a device computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceOptions {
    /// How many threads of the processor compute; one per physical core that this process may use if `None`.
    pub threads: Option<NonZeroUsize>,
    /// Which instructions of the processor are used; the best it has if `None`.
    pub isa: Option<Isa>,
}

impl Device {
    /// Makes the processor a device whose models may use what `account` holds.
    pub fn cpu(account: Account) -> Self {
        Self::cpu_with(account, DeviceOptions::default())
    }

    /// The same, computing as `options` say.
    pub fn cpu_with(account: Account, options: DeviceOptions) -> Self {
        Self::new("cpu".to_owned(), candle_core::Device::Cpu, account, options)
    }

    /// Opens a device by name: `"auto"`, `"cpu"`, `"cuda:0"`, `"metal"`.
    ///
    /// `"auto"` is the first graphics card this build can use, else the processor.
    ///
    /// # Errors
    /// [`Error::Device`] if the name is unknown, or this build or machine has no such device.
    pub fn open(name: &str, account: Account, options: DeviceOptions) -> Result<Self, Error> {
        let fail = |reason: String| Error::Device { name: name.to_owned(), reason };
        if let Some(isa) = options.isa.filter(|isa| !isa.is_here()) {
            return Err(Error::Instructions { isa, best: Isa::best() });
        }
        let candle = match (name, name.strip_prefix("cuda:")) {
            ("cpu", _) => return Ok(Self::cpu_with(account, options)),
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
        Ok(Self::new(name.to_owned(), candle, account, options))
    }

    fn new(name: String, candle: candle_core::Device, account: Account, options: DeviceOptions) -> Self {
        let (gate, cpu) = (Gate::default(), OnceLock::new());
        Self(Arc::new(Inner { name, candle, gate, account, options, cpu }))
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

    /// Whether models run on the processor.
    pub fn is_cpu(&self) -> bool {
        matches!(self.0.candle, candle_core::Device::Cpu)
    }

    /// Returns the processor's threads, which all models of this device share; they start at the first call.
    ///
    /// # Errors
    /// [`Error::Threads`] if the system gives none, [`Error::Instructions`] if it lacks the chosen ones.
    pub fn cpu_team(&self) -> Result<Cpu, Error> {
        if let Some(cpu) = self.0.cpu.get() {
            return Ok(cpu.clone());
        }
        let threads = self.0.options.threads.unwrap_or_else(cores::physical);
        let isa = self.instructions();
        if !isa.is_here() {
            return Err(Error::Instructions { isa, best: Isa::best() });
        }
        let cpu = Cpu::new(threads, isa).map_err(|source| Error::Threads { source })?;
        Ok(self.0.cpu.get_or_init(|| cpu).clone())
    }

    /// Returns the instructions that the processor's threads were told to use, or the best there are.
    pub fn instructions(&self) -> Isa {
        self.0.options.isa.unwrap_or_else(Isa::best)
    }

    pub(crate) fn candle(&self) -> &candle_core::Device {
        &self.0.candle
    }
}
