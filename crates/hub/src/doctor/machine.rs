use std::thread;

use hub_base::{Account, Size};
use hub_nn::{Device, DeviceOptions, Isa};

use super::Finding;
use crate::{
    config::{Budget, ComputeOptions},
    os,
};

/// What of the instruction sets that speed up models this processor has.
pub(super) fn instructions(compute: &ComputeOptions) -> Finding {
    let found = known_instructions();
    let name = "processor";
    let chosen = compute.device_options().isa;
    if let Some(isa) = chosen.filter(|isa| !isa.is_here()) {
        let next = "set compute.instructions to auto";
        return Finding::failure(name, format!("no {isa}, which compute.instructions asks for"), next);
    }
    if found.is_empty() {
        let next = "models run slowly here; nothing can be done but another processor";
        return Finding::warning(name, "none of the wide instruction sets", next);
    }
    let used = chosen.unwrap_or_else(Isa::best);
    let found = format!("{}; models run on {used}", found.join(", "));
    let best = Isa::ALL.into_iter().rev().find(|isa| isa.is_here()).unwrap_or(used);
    if chosen.is_none() && best > used {
        let next = format!("try compute.instructions = \"{best}\": so far checked in an emulator only");
        return Finding::warning(name, found, next);
    }
    Finding::ok(name, found)
}

#[cfg(target_arch = "x86_64")]
fn known_instructions() -> Vec<&'static str> {
    use std::arch::is_x86_feature_detected;
    let all = [
        ("AVX2", is_x86_feature_detected!("avx2")),
        ("FMA", is_x86_feature_detected!("fma")),
        ("F16C", is_x86_feature_detected!("f16c")),
        ("AVX-VNNI", is_x86_feature_detected!("avxvnni")),
        ("AVX-512", is_x86_feature_detected!("avx512f")),
        ("AVX-512 VNNI", is_x86_feature_detected!("avx512vnni")),
        ("AMX", Isa::Amx.is_here()),
    ];
    all.into_iter().filter(|(_, is_there)| *is_there).map(|(name, _)| name).collect()
}

#[cfg(target_arch = "aarch64")]
fn known_instructions() -> Vec<&'static str> {
    use std::arch::is_aarch64_feature_detected;
    let all = [
        ("NEON", is_aarch64_feature_detected!("neon")),
        ("DotProd", is_aarch64_feature_detected!("dotprod")),
        ("I8MM", is_aarch64_feature_detected!("i8mm")),
    ];
    all.into_iter().filter(|(_, is_there)| *is_there).map(|(name, _)| name).collect()
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn known_instructions() -> Vec<&'static str> {
    Vec::new()
}

/// How many cores this process may use, and how many threads will compute.
pub(super) fn cores(threads: Option<usize>) -> Finding {
    // Honours affinity, and the quota of a control group.
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let name = "cores";
    match threads {
        Some(threads) if threads > cores => Finding::warning(
            name,
            format!("{threads} threads are to compute on {cores} cores"),
            format!("set `compute.threads` to {cores} or less"),
        ),
        Some(threads) => Finding::ok(name, format!("{cores}, of which {threads} compute")),
        None => Finding::ok(name, cores.to_string()),
    }
}

/// How much memory there is, and how much of it models may use.
pub(super) fn memory(budget: Budget) -> Finding {
    const LITTLE: u64 = 2 << 30;
    let name = "memory";
    let Some(total) = os::memory_bytes() else {
        let next = "set `memory.budget` to a size such as \"6GiB\"";
        return Finding::failure(name, "the system does not say how much there is", next);
    };
    let bytes = budget.bytes(total);
    let found = format!("{}, of which models may use {}", Size(total), Size(bytes));
    match bytes {
        bytes if bytes > total => Finding::failure(name, found, "set `memory.budget` to less than there is"),
        bytes if bytes < LITTLE => {
            Finding::warning(name, found, "raise `memory.budget`, or use small models")
        }
        _ => Finding::ok(name, found),
    }
}

/// Whether the system gives large pages to whoever asks, which saves time on large weights.
pub(super) fn huge_pages() -> Finding {
    let name = "huge pages";
    let Some(chosen) = os::huge_pages() else {
        return Finding::ok(name, "not a matter of this system");
    };
    if chosen == "never" {
        let next = "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled";
        return Finding::warning(name, chosen, next);
    }
    Finding::ok(name, chosen)
}

/// Which device models run on, and why not on a graphics card that is there.
pub(super) fn graphics_card(device: &str) -> Finding {
    let name = "device";
    let os::Cards { count, feature } = os::cards();
    match Device::open(device, Account::unlimited(), DeviceOptions::default()) {
        Ok(device) if device.name() == "cpu" && count > 0 => Finding::warning(
            name,
            format!("the processor, beside {count} graphics cards that are not used"),
            format!("this build cannot use them: build it with `--features {feature}`"),
        ),
        Ok(device) if device.name() == "cpu" => Finding::ok(name, "the processor; there is no graphics card"),
        Ok(device) => Finding::ok(name, device.name()),
        Err(error) => Finding::failure(name, error.to_string(), "set `compute.device` to auto or cpu"),
    }
}
