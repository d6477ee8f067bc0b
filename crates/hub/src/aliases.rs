//! The names that lead to models.

use hub_router::AUTO;
use serde::Serialize;

use crate::{Hub, Installed, Result};

/// A name of the settings that leads to models.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Alias {
    /// The name.
    pub name: String,
    /// The installed models it leads to, the preferred one first; `auto` is the router's own choice.
    pub models: Vec<String>,
    /// Models it leads to that are not installed.
    pub missing: Vec<String>,
    /// Whether a model of the same name is installed, which nobody can reach by its name.
    pub hides_model: bool,
}

impl Hub {
    /// Returns every alias, by name.
    ///
    /// # Errors
    /// [`Error::Store`](crate::Error::Store).
    pub async fn aliases(&self) -> Result<Vec<Alias>> {
        let installed = self.installed().await?;
        let has = |name: &str| installed.iter().any(|model: &Installed| model.name.as_str() == name);
        let alias = |(name, leads_to): (&str, Vec<&str>)| {
            let names = leads_to.into_iter().map(str::to_owned);
            let (models, missing) = names.partition(|name| name == AUTO || has(name));
            Alias { name: name.to_owned(), models, missing, hides_model: has(name) }
        };
        Ok(self.router().aliases().map(alias).collect())
    }
}
