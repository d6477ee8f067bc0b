use hub_base::ModelId;
use serde::Serialize;
use sqlx::{FromRow, types::Json};

use crate::{
    Error, Result,
    db::{Db, column},
    error::is_taken,
};

/// The models the hub may load, by name.
#[derive(Clone, Debug)]
pub struct Catalog {
    db: Db,
}

/// One model, as it was when it was imported.
///
/// The store reads none of the text: words such as `gguf` mean something to whoever wrote the row.
#[derive(Clone, Debug, PartialEq, Serialize, FromRow)]
pub struct ModelRow {
    /// Its name, unique.
    #[sqlx(try_from = "String")]
    pub name: ModelId,
    /// How it came here: `import`.
    pub source: String,
    /// The file or folder it is read from.
    pub path: String,
    /// What it can do: `chat`.
    pub task: String,
    /// The format of its files: `gguf`.
    pub format: String,
    /// Its architecture: `qwen3`.
    pub family: String,
    /// The kind its weights are stored in: `q4_k`.
    pub weights: String,
    /// How many parameters it has.
    #[sqlx(try_from = "i64")]
    pub parameters: u64,
    /// How large its files are.
    #[sqlx(try_from = "i64")]
    pub bytes: u64,
    /// How many tokens its context holds.
    #[sqlx(try_from = "i64")]
    pub context_tokens: u32,
    /// Whatever else its owner keeps with it.
    #[sqlx(json)]
    pub details: serde_json::Value,
    /// When it was imported, in Unix milliseconds.
    pub created_at_ms: i64,
}

impl Catalog {
    pub(crate) fn new(db: Db) -> Self {
        Self { db }
    }

    /// Adds a model.
    ///
    /// # Errors
    /// [`Error::NameTaken`] if there is one of that name.
    pub async fn insert(&self, row: &ModelRow) -> Result<()> {
        let statement = "INSERT INTO models (name, source, path, task, format, family, weights, parameters, bytes, \
             context_tokens, details, created_at_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
        let inserted = sqlx::query(statement)
            .bind(row.name.as_str())
            .bind(&row.source)
            .bind(&row.path)
            .bind(&row.task)
            .bind(&row.format)
            .bind(&row.family)
            .bind(&row.weights)
            .bind(column(row.parameters))
            .bind(column(row.bytes))
            .bind(i64::from(row.context_tokens))
            .bind(Json(&row.details))
            .bind(row.created_at_ms)
            .execute(self.db.writer())
            .await;
        match inserted {
            Ok(_) => Ok(()),
            Err(error) if is_taken(&error) => {
                Err(Error::NameTaken { what: "model", name: row.name.to_string() })
            }
            Err(error) => Err(self.db.error(error)),
        }
    }

    /// Finds a model by name.
    pub async fn find(&self, name: &ModelId) -> Result<Option<ModelRow>> {
        sqlx::query_as("SELECT * FROM models WHERE name = $1")
            .bind(name.as_str())
            .fetch_optional(self.db.reader())
            .await
            .map_err(|source| self.db.error(source))
    }

    /// Returns all models, sorted by name.
    pub async fn list(&self) -> Result<Vec<ModelRow>> {
        sqlx::query_as("SELECT * FROM models ORDER BY name")
            .fetch_all(self.db.reader())
            .await
            .map_err(|source| self.db.error(source))
    }

    /// Keeps how fast a model is, in its owner's words, in place of what was kept before. It need not be listed.
    pub async fn save_speed(&self, name: &ModelId, speed: &serde_json::Value) -> Result<()> {
        let statement = "INSERT INTO speeds (model, speed) VALUES ($1, $2) \
             ON CONFLICT (model) DO UPDATE SET speed = excluded.speed";
        let saved =
            sqlx::query(statement).bind(name.as_str()).bind(Json(speed)).execute(self.db.writer()).await;
        saved.map(drop).map_err(|source| self.db.error(source))
    }

    /// Returns what was kept of a model's speed.
    pub async fn speed(&self, name: &ModelId) -> Result<Option<serde_json::Value>> {
        let found: Option<Json<serde_json::Value>> =
            sqlx::query_scalar("SELECT speed FROM speeds WHERE model = $1")
                .bind(name.as_str())
                .fetch_optional(self.db.reader())
                .await
                .map_err(|source| self.db.error(source))?;
        Ok(found.map(|Json(speed)| speed))
    }

    /// Removes a model from the catalog, not its files, and returns what it was; `None` if there was none.
    pub async fn remove(&self, name: &ModelId) -> Result<Option<ModelRow>> {
        sqlx::query("DELETE FROM speeds WHERE model = $1")
            .bind(name.as_str())
            .execute(self.db.writer())
            .await
            .map_err(|source| self.db.error(source))?;
        sqlx::query_as("DELETE FROM models WHERE name = $1 RETURNING *")
            .bind(name.as_str())
            .fetch_optional(self.db.writer())
            .await
            .map_err(|source| self.db.error(source))
    }
}
