//! What is right and what is wrong with this machine and this home, each with the next step.

mod machine;
mod places;

use std::path::Path;

use serde::Serialize;

use crate::{Home, HubConfig};

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// What it is: `memory`.
    pub name: &'static str,
    /// Whether it is as it should be.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do about it.
    pub next: Option<String>,
}

/// Whether something is as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is.
    Ok,
    /// The hub works, and could work better.
    Warning,
    /// Something does not work.
    Failure,
}

impl Finding {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Ok, found: found.into(), next: None }
    }

    fn warning(name: &'static str, found: impl Into<String>, next: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Warning, found: found.into(), next: Some(next.into()) }
    }

    fn failure(name: &'static str, found: impl Into<String>, next: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Failure, found: found.into(), next: Some(next.into()) }
    }
}

/// Looks at everything the hub depends on. Nothing is changed, but that a missing home is created.
pub async fn examine(config: &HubConfig, home: &Path) -> Vec<Finding> {
    let mut findings = vec![
        machine::instructions(&config.compute),
        machine::cores(config.compute.threads.map(usize::from)),
        machine::memory(config.memory.budget),
        machine::huge_pages(),
        machine::graphics_card(&config.compute.device),
    ];
    findings.extend([places::disk(home), places::port(config, &Home::at(home))]);
    findings.extend(places::caches(config));
    findings.push(places::store(config, home).await);
    findings
}
