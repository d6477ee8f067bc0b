//! Who may name whom, and what no library does.
//!
//! The tables are the rules; `crates/README.md` explains them. A new crate starts with a line in [`ARROWS`], a section
//! in that page, and the packages it owns in [`OWNERS`].

mod manifest;
mod map;
mod source;
mod workspace;

use manifest::complaints;
use source::{complaints_about_name, complaints_about_text};
use workspace::Workspace;

/// The workspace packages that each package may depend on. Arrows are declared here and nowhere else.
///
/// A package may be listed before it exists; a package that exists must be listed.
const ARROWS: &[(&str, &[&str])] = &[
    ("hub-base", &[]),
    ("hub-kernels", &["hub-base"]),
    ("hub-pool", &["hub-base"]),
    ("hub-fetch", &["hub-base"]),
    ("hub-docs", &["hub-base"]),
    ("hub-store", &["hub-base"]),
    ("hub-router", &["hub-base"]),
    ("hub-nn", &["hub-base", "hub-kernels"]),
    ("hub-models", &["hub-base", "hub-nn"]),
    ("hub-voice", &["hub-base", "hub-nn"]),
    ("hub-vision", &["hub-base", "hub-nn"]),
    ("hub-train", &["hub-base", "hub-nn"]),
    (
        "hub",
        &[
            "hub-base",
            "hub-pool",
            "hub-fetch",
            "hub-nn",
            "hub-models",
            "hub-voice",
            "hub-vision",
            "hub-train",
            "hub-docs",
            "hub-store",
            "hub-router",
        ],
    ),
    ("hub-server", &["hub", "hub-base"]),
    ("hub-cli", &["hub", "hub-base", "hub-server"]),
    ("hub-python", &["hub", "hub-base"]),
];

/// Packages that bring a frontend, or that only a program may install. None of `crates/` may name them.
const FRONTEND: &[&str] = &["axum", "clap", "hyper", "pyo3", "tower", "tower-http", "tracing-subscriber"];

/// Heavy packages, and the only packages of ours that may name them.
const OWNERS: &[(&str, &[&str])] = &[
    ("axum", &["hub-server"]),
    ("calamine", &["hub-docs"]),
    ("candle-core", &["hub-nn", "hub-voice", "hub-vision", "hub-train"]),
    ("candle-nn", &["hub-nn", "hub-voice", "hub-vision", "hub-train"]),
    ("clap", &["hub-cli", "hub-server"]),
    ("gemm", &["hub-nn"]),
    ("hf-hub", &["hub-fetch"]),
    ("lopdf", &["hub-docs"]),
    ("minijinja", &["hub-models"]),
    ("pyo3", &["hub-python"]),
    ("rayon", &["hub-docs", "hub-nn"]),
    ("reqwest", &["hub-fetch"]),
    ("sqlx", &["hub-store"]),
    ("symphonia", &["hub-voice"]),
    ("tokenizers", &["hub-nn"]),
    ("tokio", &["hub", "hub-cli", "hub-fetch", "hub-python", "hub-server", "hub-store"]),
];

/// What the source of a library must not hold, who is excepted, and what to do instead.
const FORBIDDEN: &[Forbidden] = &[
    Forbidden {
        text: "env::var",
        except: &[],
        instead: "take an option; only programs read the environment",
    },
    Forbidden {
        text: "env::args",
        except: &[],
        instead: "take an argument; only programs read the command line",
    },
    Forbidden {
        text: "process::exit",
        except: &[],
        instead: "return an error; only programs end the process",
    },
    Forbidden { text: "static mut ", except: &[], instead: "put the state in a type its owner holds" },
    Forbidden { text: "thread_local!", except: &[], instead: "put the state in a type its thread owns" },
    Forbidden { text: "lazy_static!", except: &[], instead: "build the value where its owner is built" },
    Forbidden {
        text: "spawn_blocking",
        except: &["hub", "hub-fetch"],
        instead: "stay synchronous and let `hub` choose the thread",
    },
];

/// Types that make a `static` hold state.
const STATEFUL: &[&str] = &["Atomic", "LazyCell", "LazyLock", "Mutex", "OnceCell", "OnceLock", "RwLock"];

/// File names that say nothing about what is inside.
const VAGUE: &[&str] = &["common", "helper", "helpers", "manager", "misc", "util", "utils"];

/// A text that the source of a library must not hold.
struct Forbidden {
    text: &'static str,
    except: &'static [&'static str],
    instead: &'static str,
}

#[track_caller]
fn assert_none(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "the house rules are broken:\n  {}", complaints.join("\n  "));
}

#[test]
fn packages_depend_only_on_what_they_may() {
    let workspace = Workspace::read();
    let found = workspace.packages.iter().flat_map(|package| complaints(package, &workspace));
    assert_none(found.collect());
}

#[test]
fn libraries_hold_no_state_and_ask_nobody() {
    let workspace = Workspace::read();
    let files = workspace.libraries().flat_map(|package| {
        package.sources().into_iter().map(|(path, text)| (package.name.as_str(), path, text))
    });
    assert_none(files.flat_map(|(name, path, text)| complaints_about_text(name, &path, &text)).collect());
}

#[test]
fn files_are_named_for_an_idea() {
    let workspace = Workspace::read();
    let files = workspace.packages.iter().flat_map(|package| package.sources());
    assert_none(files.filter_map(|(path, _)| complaints_about_name(&path)).collect());
}

#[test]
fn every_package_says_what_it_is() {
    let workspace = Workspace::read();
    let undocumented = workspace.packages.iter().filter(|package| !package.root_source().starts_with("//!"));
    assert_none(undocumented.map(|package| format!("{} has no crate documentation", package.name)).collect());
}

#[test]
fn the_code_map_has_every_package_and_no_other() {
    let workspace = Workspace::read();
    let names: Vec<&str> = workspace.packages.iter().map(|package| package.name.as_str()).collect();
    assert_none(map::complaints(&workspace.code_map(), &names));
}
