use hub::config::{Origin, Resolved, SETTINGS};
use serde_json::json;

use crate::{failure::Failure, session::Session};

/// Shows and checks the settings
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Prints every setting in force and where it came from
    Show,
    /// Says whether the settings can be used, and where the first mistake is
    Check,
    /// Prints where the configuration file is, or would be
    Path,
}

impl Args {
    pub(crate) fn run(self, session: &Session) -> Result<(), Failure> {
        let path = session.config_path();
        match self.action {
            Action::Show => show(session, &session.settings(Vec::new())?),
            Action::Check => check(session),
            Action::Path => session.output.emit(&json!({ "file": path }), |_| path.display().to_string()),
        }
    }
}

fn check(session: &Session) -> Result<(), Failure> {
    let path = session.config_path();
    let config = session.settings(Vec::new())?.config;
    config.compute.check()?;
    let mut notes = config.compute.ignored();
    if !config.aliases.is_empty() {
        notes.extend(session.with_hub(Vec::new(), async |hub| Ok(self::notes(&hub.aliases().await?)))?);
    }
    let exists = path.exists();
    session.output.emit(&json!({ "ok": true, "file": path, "exists": exists, "notes": notes }), |_| {
        let place = path.display();
        let verdict =
            if exists { format!("{place} is right") } else { format!("right; there is no {place}") };
        let notes = notes.iter().map(|note| format!("\nnote: {note}"));
        std::iter::once(verdict).chain(notes).collect()
    })
}

/// Says what of the aliases can hardly be meant.
fn notes(aliases: &[hub::Alias]) -> Vec<String> {
    let missing =
        aliases.iter().flat_map(|alias| alias.missing.iter().map(move |model| (&alias.name, model)));
    let missing =
        missing.map(|(alias, model)| format!("alias {alias:?} leads to {model}, which is not installed"));
    let hiding = aliases.iter().filter(|alias| alias.hides_model);
    let hiding = hiding.map(|alias| format!("alias {0:?} hides the model {0}", alias.name));
    missing.chain(hiding).collect()
}

fn show(session: &Session, settings: &Resolved) -> Result<(), Failure> {
    let entries = settings.entries();
    let json: Vec<_> = entries
        .iter()
        .map(|entry| json!({ "key": entry.key, "value": entry.value, "origin": entry.origin.to_string() }))
        .collect();
    session.output.emit(&json!({ "settings": json }), |_| {
        let line = |entry: &hub::config::Entry| match &entry.value {
            Some(value) => format!("{} = {value}", entry.key),
            None => format!("# {} is not set", entry.key),
        };
        let lines: Vec<_> = entries.iter().map(|entry| (line(entry), entry)).collect();
        let width = lines.iter().map(|(line, _)| line.chars().count()).max().unwrap_or(0).min(60);
        let about =
            |key: &str| SETTINGS.iter().find(|setting| setting.key == key).map(|setting| setting.about);
        let text = lines.into_iter().map(|(line, entry)| {
            let origin = match (&entry.origin, about(&entry.key)) {
                (Origin::Default, Some(about)) => format!("default; {about}"),
                (origin, _) => origin.to_string(),
            };
            format!("{line:width$}  # {origin}\n")
        });
        text.collect()
    })
}
