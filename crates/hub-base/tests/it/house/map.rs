/// Returns what is wrong with the code map: one section a package, each with one invariant.
pub(super) fn complaints(map: &str, packages: &[&str]) -> Vec<String> {
    let sections: Vec<(&str, &str)> = map
        .split("\n## ")
        .skip(1)
        .map(|section| section.split_once('\n').unwrap_or((section, "")))
        .map(|(heading, body)| (heading.trim().trim_matches('`'), body))
        .collect();
    let missing = packages.iter().filter(|name| sections.iter().all(|(heading, _)| heading != *name));
    let stale = sections.iter().filter(|(heading, _)| !packages.contains(heading));
    let vague = sections.iter().filter(|(_, body)| body.matches("**Invariant:**").count() != 1);
    missing
        .map(|name| format!("crates/README.md has no section `{name}`"))
        .chain(
            stale.map(|(heading, _)| format!("crates/README.md describes `{heading}`, which is not there")),
        )
        .chain(vague.map(|(heading, _)| format!("crates/README.md names not one invariant of `{heading}`")))
        .collect()
}

#[track_caller]
fn check(map: &str, expected: &[&str]) {
    assert_eq!(complaints(map, &["hub", "hub-base"]), expected);
}

#[test]
fn a_full_map_is_left_alone() {
    check("# Map\n\n## `hub`\nAll.\n**Invariant:** x.\n\n## `hub-base`\nNames.\n**Invariant:** y.\n", &[]);
}

#[test]
fn gaps_and_leftovers_are_found() {
    check(
        "# Map\n\n## `hub`\nAll.\n**Invariant:** x.\n\n## `hub-old`\nGone.\n",
        &[
            "crates/README.md has no section `hub-base`",
            "crates/README.md describes `hub-old`, which is not there",
            "crates/README.md names not one invariant of `hub-old`",
        ],
    );
}
