use std::fs;

use super::Cards;

/// Returns whom the system gives large pages: `always`, `madvise` or `never`.
pub(crate) fn huge_pages() -> Option<String> {
    let text = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").ok()?;
    // The choice stands between brackets: `always [madvise] never`.
    let chosen = text.split('[').nth(1).and_then(|rest| rest.split(']').next());
    Some(chosen.unwrap_or("unknown").to_owned())
}

/// Returns the graphics cards that models could run on.
pub(crate) fn cards() -> Cards {
    let count = fs::read_dir("/proc/driver/nvidia/gpus").map_or(0, |cards| cards.flatten().count());
    Cards { count, feature: "cuda" }
}
