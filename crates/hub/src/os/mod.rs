//! What the hub asks the operating system: memory over a crate that knows Linux, macOS and Windows.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(all(unix, not(target_os = "linux")))]
mod macos;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

use std::path::Path;

use sysinfo::{Disks, MemoryRefreshKind, Pid, Process, ProcessRefreshKind, ProcessesToUpdate, System};

#[cfg(target_os = "linux")]
pub(crate) use linux::{cards, huge_pages};
#[cfg(all(unix, not(target_os = "linux")))]
pub(crate) use macos::{cards, huge_pages};
#[cfg(unix)]
pub(crate) use unix::create_private_dir;
#[cfg(windows)]
pub(crate) use windows::{cards, create_private_dir, huge_pages};

#[cfg(unix)]
use unix::real_path;
#[cfg(windows)]
use windows::real_path;

/// Graphics cards of the kind that this system can run models on.
pub(crate) struct Cards {
    /// How many there are.
    pub(crate) count: usize,
    /// The feature of the build that uses them.
    pub(crate) feature: &'static str,
}

/// Returns how much memory this process may use, in bytes: the machine's, or its control group's if that is less.
/// `None` if the system does not say.
pub(crate) fn memory_bytes() -> Option<u64> {
    let mut system = System::new().ok()?;
    system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    let machine = Some(system.total_memory()).filter(|bytes| *bytes > 0);
    let group = this_process(&mut system).and_then(Process::cgroup_limits).map(|limits| limits.total_memory);
    match (machine, group.filter(|bytes| *bytes > 0)) {
        (Some(machine), Some(group)) => Some(machine.min(group)),
        (machine, group) => machine.or(group),
    }
}

/// Returns how much memory this process holds now, in bytes. `None` if the system does not say.
pub(crate) fn resident_bytes() -> Option<u64> {
    this_process(&mut System::new().ok()?).map(Process::memory)
}

/// Returns how many bytes are free on the disk that holds a directory. `None` if the system does not say.
pub(crate) fn free_disk_bytes(path: &Path) -> Option<u64> {
    let path = real_path(path).ok()?;
    let disks = Disks::new_with_refreshed_list().ok()?;
    let holds = disks.iter().filter(|disk| path.starts_with(disk.mount_point()));
    holds.max_by_key(|disk| disk.mount_point().as_os_str().len()).map(|disk| disk.available_space())
}

fn this_process(system: &mut System) -> Option<&Process> {
    let pid = Pid::from_u32(std::process::id());
    let only = ProcessesToUpdate::Some(&[pid]);
    system.refresh_processes_specifics(only, false, ProcessRefreshKind::nothing().with_memory());
    system.process(pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_fits_the_memory_it_may_use() {
        let (total, resident) = (memory_bytes().unwrap(), resident_bytes().unwrap());
        assert!(0 < resident && resident < total, "{resident} of {total}");
    }
}
