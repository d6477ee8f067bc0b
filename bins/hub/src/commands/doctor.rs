use hub::doctor::{Finding, Verdict, examine};
use serde_json::json;
use tokio::runtime::Runtime;

use crate::{failure::Failure, session::Session};

/// Looks at the machine, the settings and the home, and says what to do about what is wrong
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

impl Args {
    pub(crate) fn run(self, session: &Session) -> Result<(), Failure> {
        let config = session.settings(Vec::new())?.config;
        let runtime = Runtime::new().map_err(Failure::Runtime)?;
        let findings = runtime.block_on(examine(&config, &session.environment.home));
        let worst = findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Ok);
        session.output.emit(&json!({ "verdict": worst, "findings": findings }), |_| {
            findings.iter().map(line).collect()
        })?;
        if worst == Verdict::Failure { Err(Failure::Unwell) } else { Ok(()) }
    }
}

fn line(finding: &Finding) -> String {
    let word = match finding.verdict {
        Verdict::Ok => "ok",
        Verdict::Warning => "warning",
        Verdict::Failure => "FAILURE",
    };
    let next = finding.next.as_ref().map(|next| format!("\n{:22}-> {next}", "")).unwrap_or_default();
    format!("{word:<8}{:<14}{}{next}\n", finding.name, finding.found)
}
