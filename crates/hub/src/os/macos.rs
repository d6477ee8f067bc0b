use super::Cards;

/// Large pages are not for a program to ask for here.
pub(crate) fn huge_pages() -> Option<String> {
    None
}

/// Returns the graphics cards that models could run on: every Apple processor has one.
pub(crate) fn cards() -> Cards {
    Cards { count: usize::from(cfg!(target_arch = "aarch64")), feature: "metal" }
}
