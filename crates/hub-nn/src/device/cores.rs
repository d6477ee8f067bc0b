use std::{collections::HashSet, num::NonZeroUsize, thread};

/// Returns how many threads compute best: one for each physical core, and no more than this process may use.
///
/// Two threads of one core share its arithmetic, so a second one adds little and waits for the first. Where the system
/// does not say which cores are physical, all count.
pub(super) fn physical() -> NonZeroUsize {
    // What a cgroup or an affinity mask leaves is in this number already.
    let allowed = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    NonZeroUsize::new(siblings()).map_or(allowed, |physical| physical.min(allowed))
}

/// Counts the groups of threads that share a core, as Linux lists them; 0 elsewhere.
fn siblings() -> usize {
    let Ok(folder) = std::fs::read_dir("/sys/devices/system/cpu") else { return 0 };
    let lists = folder.filter_map(|entry| {
        std::fs::read_to_string(entry.ok()?.path().join("topology/thread_siblings_list")).ok()
    });
    lists.collect::<HashSet<String>>().len()
}
