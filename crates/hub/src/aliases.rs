//! The names that lead to models.

use hub_base::ModelId;
use serde::Serialize;

use crate::{Hub, Installed, Result};

/// A name of the settings that leads to models.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Alias {
    /// The name.
    pub name: String,
    /// The installed models it leads to, the preferred one first.
    pub models: Vec<ModelId>,
    /// Models it leads to that are not installed.
    pub missing: Vec<ModelId>,
    /// Whether a model of the same name is installed, which nobody can reach by its name.
    pub hides_model: bool,
}

impl Hub {
    /// Returns every alias, by name.
    ///
    /// # Errors
    /// [`Error::Store`](crate::Error::Store).
    pub async fn aliases(&self) -> Result<Vec<Alias>> {
        let installed = self.models().await?;
        let has = |name: &str| installed.iter().any(|model: &Installed| model.name.as_str() == name);
        let alias = |(name, models): (&str, Vec<&ModelId>)| {
            let (models, missing) = models.into_iter().cloned().partition(|model| has(model.as_str()));
            Alias { name: name.to_owned(), models, missing, hides_model: has(name) }
        };
        Ok(self.router().aliases().map(alias).collect())
    }
}
