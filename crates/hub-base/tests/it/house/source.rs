use std::path::Path;

use super::{FORBIDDEN, STATEFUL, VAGUE};

/// Returns every rule that a source file of the library `name` breaks, with its line.
pub(super) fn complaints_about_text(name: &str, path: &Path, text: &str) -> Vec<String> {
    let code = text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"));
    let mut complaints = Vec::new();
    for (index, line) in code {
        let mut complain = |what: &str| complaints.push(format!("{}:{}: {what}", path.display(), index + 1));
        for forbidden in FORBIDDEN.iter().filter(|forbidden| !forbidden.except.contains(&name)) {
            if line.contains(forbidden.text) {
                complain(&format!("no `{}` in a library: {}", forbidden.text.trim(), forbidden.instead));
            }
        }
        if let Some(stateful) = stateful_type(line) {
            complain(&format!(
                "no static `{stateful}` in a library: put the state in a type its owner holds"
            ));
        }
    }
    complaints
}

/// Complains about a file whose name says nothing.
pub(super) fn complaints_about_name(path: &Path) -> Option<String> {
    let stem = path.file_stem()?.to_str()?;
    VAGUE.contains(&stem).then(|| format!("{}: name the file for its idea", path.display()))
}

/// Returns the type that makes a line's `static` hold state, if the line has such a one.
fn stateful_type(line: &str) -> Option<&'static str> {
    let declaration = line.trim_start();
    let visible = declaration.strip_prefix("pub").map_or(declaration, |rest| {
        rest.strip_prefix('(').and_then(|rest| rest.split_once(')')).map_or(rest, |(_, rest)| rest)
    });
    let (_, kind) = visible.trim_start().strip_prefix("static ")?.split_once(':')?;
    let kind = kind.split('=').next()?;
    STATEFUL.iter().copied().find(|stateful| kind.contains(stateful))
}

#[track_caller]
fn check(line: &str, expected: &[&str]) {
    let complaints = complaints_about_text("hub-router", Path::new("a.rs"), line);
    let expected: Vec<_> = expected.iter().map(|what| format!("a.rs:1: {what}")).collect();
    assert_eq!(complaints, expected, "{line}");
}

#[test]
fn what_no_library_does_is_found() {
    let environment = "no `env::var` in a library: take an option; only programs read the environment";
    check("let home = std::env::var_os(\"HOME\");", &[environment]);
    check("for pair in env::vars() {", &[environment]);
    check(
        "    process::exit(1)",
        &["no `process::exit` in a library: return an error; only programs end the process"],
    );
    check(
        "let it = tokio::task::spawn_blocking(work);",
        &["no `spawn_blocking` in a library: stay synchronous and let `hub` choose the thread"],
    );
}

#[test]
fn state_in_a_static_is_found() {
    let complaint = "no static `OnceLock` in a library: put the state in a type its owner holds";
    check("static POOL: OnceLock<Pool> = OnceLock::new();", &[complaint]);
    check("    pub(crate) static POOL: std::sync::OnceLock<Pool> = OnceLock::new();", &[complaint]);
    check(
        "pub static NEXT: AtomicU64 = AtomicU64::new(0);",
        &["no static `Atomic` in a library: put the state in a type its owner holds"],
    );
    check(
        "static mut SEED: u64 = 1;",
        &["no `static mut` in a library: put the state in a type its owner holds"],
    );
}

#[test]
fn constant_tables_and_prose_are_left_alone() {
    check("pub(crate) static RULES: &[&dyn Rule] = &[&alias::Alias];", &[]);
    check("fn name(&self) -> &'static str {", &[]);
    check("//! Never `env::var` here.", &[]);
    check("let version = env!(\"CARGO_PKG_VERSION\");", &[]);
    check("let lock: OnceLock<u8> = OnceLock::new();", &[]);
}

#[test]
fn a_vague_file_name_is_found() {
    assert!(complaints_about_name(Path::new("src/utils.rs")).is_some());
    assert!(complaints_about_name(Path::new("src/progress.rs")).is_none());
}
