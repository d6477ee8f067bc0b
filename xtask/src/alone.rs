//! Whether each crate can be used by itself: it builds with nothing and with each of its features, and what only
//! computes brings no runtime along.

use std::process::Stdio;

use serde_json::Value;

use crate::run::{Error, command, run};

/// Features that need what a machine without their card does not have.
const CARDS: [&str; 2] = ["cuda", "metal"];

/// Crates that a program without tokio can use.
const WITHOUT_TOKIO: [&str; 5] = ["hub-base", "hub-kernels", "hub-models", "hub-nn", "hub-router"];

/// A package of the workspace that others may depend on, or install.
struct Package {
    name: String,
    features: Vec<String>,
    has_defaults: bool,
}

/// Checks every package alone.
///
/// # Errors
/// If one does not build, or brings along what it should not.
pub(crate) fn check() -> Result<(), Error> {
    for Package { name, features, has_defaults } in packages()? {
        let build = |more: &[&str]| {
            let clippy = ["clippy", "--quiet", "--package", &name];
            run(command("cargo", &[&clippy[..], more, &["--", "-D", "warnings"]].concat()))
        };
        build(&["--no-default-features"])?;
        if has_defaults {
            build(&[])?;
        }
        for feature in features {
            build(&["--no-default-features", "--features", &feature])?;
        }
    }
    WITHOUT_TOKIO.into_iter().try_for_each(has_no_tokio)
}

/// Lists what lies under `crates/` and `bins/`.
fn packages() -> Result<Vec<Package>, Error> {
    let metadata: Value =
        serde_json::from_str(&printed(&["metadata", "--no-deps", "--format-version", "1"])?)?;
    let packages = metadata["packages"].as_array().ok_or("cargo lists no packages")?;
    let folder = |package: &Value| {
        let manifest = package["manifest_path"].as_str()?.replace('\\', "/");
        manifest.rsplit('/').nth(2).map(str::to_owned)
    };
    let ours = packages
        .iter()
        .filter(|package| folder(package).is_some_and(|folder| folder == "crates" || folder == "bins"));
    let package = |package: &Value| {
        let features = package["features"].as_object().ok_or("cargo lists no features")?;
        let names = features.keys().filter(|name| *name != "default" && !CARDS.contains(&name.as_str()));
        Ok(Package {
            name: package["name"].as_str().ok_or("cargo lists no name")?.to_owned(),
            features: names.cloned().collect(),
            has_defaults: features.get("default").is_some_and(|list| list != &Value::Array(Vec::new())),
        })
    };
    ours.map(package).collect()
}

/// Fails if a crate depends on tokio, whatever its features.
fn has_no_tokio(name: &str) -> Result<(), Error> {
    let tree = printed(&["tree", "-p", name, "--edges", "normal", "--all-features", "--prefix", "none"])?;
    match tree.lines().find(|line| line.starts_with("tokio v")) {
        Some(line) => Err(format!("{name} brings {line} along").into()),
        None => Ok(()),
    }
}

/// Returns what a command of cargo prints.
fn printed(args: &[&str]) -> Result<String, Error> {
    let output = command("cargo", args).stderr(Stdio::inherit()).output()?;
    if output.status.success() {
        Ok(String::from_utf8(output.stdout)?)
    } else {
        Err(format!("cargo {} ended with {}", args.join(" "), output.status).into())
    }
}
