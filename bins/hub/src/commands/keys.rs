use hub::{now_ms, store::KeyRow};
use serde_json::json;

use crate::{
    failure::Failure,
    output::{age, complain, table},
    session::Session,
};

/// Makes, lists and revokes the keys that callers send
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Makes a key and shows it, this once
    Create {
        /// What to call it
        #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
        name: String,
    },
    /// Lists the keys, without their secrets
    List,
    /// Makes a key useless from now on
    Revoke {
        /// Its id or its name
        key: String,
    },
}

impl Args {
    pub(crate) fn run(self, session: &Session) -> Result<(), Failure> {
        match self.action {
            Action::Create { name } => create(session, &name),
            Action::List => list(session),
            Action::Revoke { key } => revoke(session, key),
        }
    }
}

fn create(session: &Session, name: &str) -> Result<(), Failure> {
    let create = async |hub: &hub::Hub| {
        let made = hub.store().keys().create(name, now_ms()).await;
        Ok(made.map_err(hub::Error::from)?)
    };
    let made = session.with_hub(Vec::new(), create)?;
    let secret = made.secret.reveal();
    session
        .output
        .emit(&json!({ "key": secret, "id": made.row.id, "name": made.row.name }), |_| secret.to_owned())?;
    if !session.output.is_json {
        // Beside the output, so that a script captures the key alone.
        complain("keep it now: only a hash of it is stored, and it is not shown again");
    }
    Ok(())
}

fn list(session: &Session) -> Result<(), Failure> {
    let list = async |hub: &hub::Hub| Ok(hub.store().keys().list().await.map_err(hub::Error::from)?);
    let keys: Vec<KeyRow> = session.with_hub(Vec::new(), list)?;
    session.output.emit(&json!({ "keys": keys }), |_| {
        if keys.is_empty() {
            return "there is no key: `hub keys create NAME` makes one".to_owned();
        }
        let now = now_ms();
        let when = |at: Option<i64>, never: &str| at.map_or_else(|| never.to_owned(), |at| age(at, now));
        let row = |key: &KeyRow| {
            [
                key.id.clone(),
                key.name.clone(),
                format!("{}…", key.prefix),
                age(key.created_at_ms, now),
                when(key.last_used_at_ms, "never"),
                when(key.revoked_at_ms, "no"),
            ]
        };
        table(["ID", "NAME", "KEY", "MADE", "USED", "REVOKED"], keys.iter().map(row))
    })
}

fn revoke(session: &Session, asked: String) -> Result<(), Failure> {
    let revoke = async |hub: &hub::Hub| {
        let revoked = hub.store().keys().revoke(&asked, now_ms()).await;
        Ok(revoked.map_err(hub::Error::from)?)
    };
    let Some(key) = session.with_hub(Vec::new(), revoke)? else { return Err(Failure::NoKey { asked }) };
    session.output.emit(&key, |key| format!("{} ({}) is revoked", key.name, key.id))
}
