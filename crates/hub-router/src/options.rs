use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Settings of a [`Router`](crate::Router).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RouterOptions {
    /// Other names for models: `"gpt-4o-mini" = "qwen3-8b"`, or a list whose later entries are fallbacks. An entry may
    /// be a model, another alias, or `auto`. An alias wins over a model of the same name.
    pub aliases: BTreeMap<String, OneOrMany>,
}

/// One name, or several in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a model's name or a list of them")]
pub enum OneOrMany {
    /// One name.
    One(String),
    /// Several names, the first preferred.
    Many(Vec<String>),
}

impl RouterOptions {
    /// Adds an alias that leads to `names`, in order.
    #[must_use]
    pub fn alias<N: Into<String>>(mut self, alias: &str, names: impl IntoIterator<Item = N>) -> Self {
        let names = names.into_iter().map(Into::into).collect();
        self.aliases.insert(alias.to_owned(), OneOrMany::Many(names));
        self
    }
}

impl OneOrMany {
    /// Returns the names in order.
    pub fn names(&self) -> &[String] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Many(names) => names,
        }
    }
}
