use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use hub_router::Router;
use serde::{Deserialize, Serialize};
use toml::{
    Table, Value,
    de::{DeTable, ValueDeserializer},
};

use crate::config::{
    ConfigError, HubConfig,
    nearest::nearest,
    settings::{ALIASES, NOT_YET, SECRET, SETTINGS, WELL_KNOWN, is_section, is_setting},
};

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A line of the configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// An environment variable.
    Variable(String),
    /// A flag of the command line.
    Flag(String),
}

/// Settings that are in force, and where each came from.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Resolved {
    /// The settings.
    pub config: HubConfig,
    /// The origin of each setting that was set, by key. The rest have their defaults.
    pub origins: BTreeMap<String, Origin>,
}

/// One setting as it is in force.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Entry {
    /// Where it stands: `server.port`.
    pub key: String,
    /// Its value; a setting that nobody set and that has no default has none. Its text is TOML.
    pub value: Option<Value>,
    /// Where the value came from.
    pub origin: Origin,
}

/// The values that were set, by key; later layers replace earlier ones.
type Values = BTreeMap<String, (Value, Origin)>;

/// Begins the names of variables that hold settings.
const PREFIX: &str = "HUB_";

/// Merges the configuration file, variables and flags over the defaults.
///
/// `file` is its path and text. Of `variables`, those called `HUB_SECTION__KEY` count, and a few that are well known
/// (`HF_HOME`, `HUB_OFFLINE`); all others are passed over.
/// `flags` are a flag's name, the key it sets, and the value as text.
///
/// # Errors
/// [`ConfigError`] names the key, and the file and line, the variable or the flag.
pub fn resolve<'a>(
    file: Option<(&Path, &str)>,
    variables: impl IntoIterator<Item = (String, String)>,
    flags: impl IntoIterator<Item = (&'a str, &'a str, String)>,
) -> Result<Resolved, ConfigError> {
    let mut values = Values::new();
    if let Some((path, text)) = file {
        read_file(path, text, &mut values)?;
    }
    for (name, text) in variables {
        // An empty variable is one that was unset in the one way that every shell has.
        if let Some(key) = key_of_variable(&name).filter(|_| !text.is_empty()) {
            set_text(key, &text, Origin::Variable(name), &mut values)?;
        }
    }
    for (flag, key, text) in flags {
        set_text(key.to_owned(), &text, Origin::Flag(flag.to_owned()), &mut values)?;
    }
    merge(values)
}

/// Reads `HUB_SERVER__PORT` as `server.port`, and knows a few by name.
fn key_of_variable(name: &str) -> Option<String> {
    if let Some((_, key)) = WELL_KNOWN.iter().find(|(known, _)| *known == name) {
        return Some((*key).to_owned());
    }
    let (section, key) = name.strip_prefix(PREFIX)?.split_once("__")?;
    Some(format!("{}.{}", section.to_ascii_lowercase(), key.to_ascii_lowercase()))
}

fn read_file(path: &Path, text: &str, values: &mut Values) -> Result<(), ConfigError> {
    let line_at = |offset: usize| text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1;
    let at = |offset: usize| Origin::File { path: path.to_owned(), line: line_at(offset) };
    let table = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
        path: path.to_owned(),
        line: line_at(error.span().map_or(0, |span| span.start)),
        reason: error.message().to_owned(),
    })?;
    for (section, content) in table.into_inner() {
        let at_section = at(section.span().start);
        let section = section.into_inner();
        if !is_section(&section) {
            return Err(unknown(&section, at_section));
        }
        let toml::de::DeValue::Table(content) = content.into_inner() else {
            let reason = format!("is a section: write `[{section}]` and its settings below");
            return Err(ConfigError::Value { key: section.into_owned(), at: at_section, reason });
        };
        for (name, value) in content {
            let at = at(name.span().start);
            let key = format!("{section}.{}", name.into_inner());
            let value = Value::deserialize(ValueDeserializer::from(value));
            let invalid = |error: toml::de::Error| ConfigError::Value {
                key: key.clone(),
                at: at.clone(),
                reason: error.message().to_owned(),
            };
            let value = value.map_err(invalid)?;
            check(&key, &value, &at)?;
            values.insert(key, (value, at));
        }
    }
    Ok(())
}

/// Sets a value that is written as text: as TOML if that is what the setting takes, else as a string, else as a list
/// separated by commas.
fn set_text(key: String, text: &str, at: Origin, values: &mut Values) -> Result<(), ConfigError> {
    let as_toml = ValueDeserializer::parse(text).ok().and_then(|value| Value::deserialize(value).ok());
    let as_string = Value::String(text.to_owned());
    // A number that the setting cannot have is wrong as a number.
    let meant = as_toml.clone().unwrap_or_else(|| as_string.clone());
    let as_list = || text.split(',').map(|item| Value::String(item.trim().to_owned())).collect();
    let value = [as_toml, Some(as_string), Some(Value::Array(as_list()))]
        .into_iter()
        .flatten()
        .find(|value| check(&key, value, &at).is_ok());
    match value {
        Some(value) => {
            values.insert(key, (value, at));
            Ok(())
        }
        None => check(&key, &meant, &at),
    }
}

/// Checks that a setting exists and can have a value.
fn check(key: &str, value: &Value, at: &Origin) -> Result<(), ConfigError> {
    if NOT_YET.contains(&key) {
        return Err(ConfigError::NotYet { key: key.to_owned(), at: at.clone() });
    }
    if !is_setting(key) {
        return Err(unknown(key, at.clone()));
    }
    // Alone, so that whatever is wrong is wrong with this one.
    let mut alone = Table::new();
    insert(&mut alone, key, value.clone());
    HubConfig::deserialize(alone).map(drop).map_err(|error| ConfigError::Value {
        key: key.to_owned(),
        at: at.clone(),
        reason: error.message().to_owned(),
    })
}

fn merge(values: Values) -> Result<Resolved, ConfigError> {
    let mut table = Table::new();
    let mut origins = BTreeMap::new();
    for (key, (value, origin)) in values {
        insert(&mut table, &key, value);
        origins.insert(key, origin);
    }
    // Every value was accepted alone, and sections do not look at each other.
    let config = HubConfig::deserialize(table).map_err(|error| ConfigError::Value {
        key: String::new(),
        at: Origin::Default,
        reason: error.message().to_owned(),
    })?;
    let placed = |reason: hub_router::Error| {
        let key = format!("{ALIASES}.{}", reason.alias().unwrap_or_default());
        ConfigError::Alias { at: origins.get(&key).cloned().unwrap_or(Origin::Default), reason }
    };
    Router::new(config.router_options()).map_err(placed)?;
    Ok(Resolved { config, origins })
}

/// Puts a value under the section and name of a key.
fn insert(table: &mut Table, key: &str, value: Value) {
    let (section, name) = key.split_once('.').unwrap_or((key, ""));
    let section = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
    if let Value::Table(section) = section {
        section.insert(name.to_owned(), value);
    }
}

fn unknown(key: &str, at: Origin) -> ConfigError {
    let known = || SETTINGS.iter().map(|setting| setting.key);
    let sections =
        || known().filter_map(|key| key.split_once('.')).map(|(section, _)| section).chain([ALIASES]);
    let nearest = match key.split_once('.') {
        None => nearest(key, sections()),
        // A right name in a wrong section says more than the letters of the whole key.
        Some((_, name)) => known()
            .find(|known| known.split_once('.').is_some_and(|(_, known)| known == name))
            .or_else(|| nearest(key, known())),
    };
    ConfigError::Unknown { key: key.to_owned(), at, nearest: nearest.map(str::to_owned) }
}

impl Resolved {
    /// Returns every setting in the order of [`SETTINGS`], then the aliases. Passwords in URLs are masked.
    pub fn entries(&self) -> Vec<Entry> {
        let table = Table::try_from(&self.config).unwrap_or_default();
        let aliases = self.config.aliases.keys().map(|alias| format!("{ALIASES}.{alias}"));
        let keys = SETTINGS.iter().map(|setting| setting.key.to_owned()).chain(aliases);
        keys.map(|key| {
            let value = key.split_once('.').and_then(|(section, name)| table.get(section)?.get(name));
            let origin = self.origins.get(&key).cloned().unwrap_or(Origin::Default);
            let value = match value {
                Some(_) if SECRET.contains(&key.as_str()) => Some(Value::String("***".to_owned())),
                value => value.map(masked),
            };
            Entry { value, key, origin }
        })
        .collect()
    }
}

/// Replaces the password of a URL (`scheme://user:password@host`).
fn masked(value: &Value) -> Value {
    let Value::String(url) = value else { return value.clone() };
    let masked = || {
        let (scheme, rest) = url.split_once("://")?;
        let (credentials, host) = rest.rsplit_once('@')?;
        let (user, _) = credentials.split_once(':')?;
        Some(Value::String(format!("{scheme}://{user}:***@{host}")))
    };
    masked().unwrap_or_else(|| value.clone())
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}
