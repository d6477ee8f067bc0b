use std::{collections::HashSet, fs, num::NonZeroUsize, path::Path, thread};

/// Returns how many threads compute best: one for each physical core that this process may use.
///
/// Two threads of one core share its arithmetic, so a second one adds little and waits for the first. Where the system
/// does not say which cores are physical, all count.
pub(super) fn physical() -> NonZeroUsize {
    // What a cgroup or an affinity mask leaves is in this number already, but not which of them share a core.
    let allowed = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    NonZeroUsize::new(cores()).map_or(allowed, |cores| cores.min(allowed))
}

/// Counts the cores whose threads this process may use, as Linux lists them; 0 elsewhere.
fn cores() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    distinct(&numbers(list.unwrap_or_default()), Path::new("/sys/devices/system/cpu"))
}

/// Counts the groups of threads that share a core among `threads`.
fn distinct(threads: &[usize], folder: &Path) -> usize {
    let siblings = |thread: &usize| {
        fs::read_to_string(folder.join(format!("cpu{thread}/topology/thread_siblings_list"))).ok()
    };
    threads.iter().filter_map(siblings).collect::<HashSet<_>>().len()
}

/// Reads a list of numbers and ranges, as `0-3,8`; what is neither is left out.
fn numbers(list: &str) -> Vec<usize> {
    /// More threads than Linux can be built for.
    const MOST: usize = 1 << 14;
    let range = |part: &str| {
        let (first, last) = part.trim().split_once('-').unwrap_or((part.trim(), part.trim()));
        Some(first.parse::<usize>().ok()?..=last.parse::<usize>().ok()?.min(MOST))
    };
    list.split(',').filter_map(range).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read() {
        assert_eq!(numbers(" 0-3,8\n"), [0, 1, 2, 3, 8]);
        assert_eq!(numbers("5"), [5]);
        assert!(numbers("").is_empty() && numbers("x-3,7-2").is_empty());
        assert_eq!(numbers("0-99999999999").len(), (1 << 14) + 1);
    }

    #[test]
    fn threads_of_one_core_count_once() {
        let folder = tempfile::tempdir().unwrap();
        for (thread, siblings) in [(0, "0,2"), (1, "1,3"), (2, "0,2"), (3, "1,3")] {
            let topology = folder.path().join(format!("cpu{thread}/topology"));
            fs::create_dir_all(&topology).unwrap();
            fs::write(topology.join("thread_siblings_list"), siblings).unwrap();
        }
        let count = |threads: &[usize]| distinct(threads, folder.path());
        assert_eq!([count(&[0, 1, 2, 3]), count(&[0, 2]), count(&[0, 1]), count(&[7])], [2, 1, 2, 0]);
    }
}
