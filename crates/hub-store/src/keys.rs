use std::{fmt, sync::Arc};

use serde::Serialize;
use sha2::{Digest, Sha256};
use sqlx::{FromRow, SqliteConnection};

use crate::{
    Error, Result,
    db::Db,
    error::is_taken,
    recorder::{Entry, Recorder},
};

/// How every secret begins, so that people and secret scanners know one when they see it.
const SECRET_PREFIX: &str = "hub_";

/// How much of a secret is stored to tell keys apart: the prefix and 32 of its 256 bits.
const SHOWN_CHARS: usize = SECRET_PREFIX.len() + 8;

/// How exact the time of last use is. Writing it for each request would cost more than it tells.
const LAST_USED_STEP_MS: i64 = 60_000;

/// The API keys.
///
/// Only the SHA-256 of a secret is stored. A secret is 256 random bits, so nobody can try them all and a slow password
/// hash would protect nothing more, yet cost milliseconds a request.
#[derive(Clone, Debug)]
pub struct Keys {
    db: Db,
    recorder: Arc<Recorder>,
}

/// What is known of a key. Its secret is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, FromRow)]
pub struct KeyRow {
    /// Names the key in logs and usage rows, for ever.
    pub id: String,
    /// What its owner calls it; unique among keys that are not revoked.
    pub name: String,
    /// How its secret begins.
    pub prefix: String,
    /// When it was made, in Unix milliseconds.
    pub created_at_ms: i64,
    /// When it was last used, in Unix milliseconds and to the minute.
    pub last_used_at_ms: Option<i64>,
    /// When it was revoked, in Unix milliseconds.
    pub revoked_at_ms: Option<i64>,
}

/// A key just made, with the secret that is shown once.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NewKey {
    /// What is stored.
    pub row: KeyRow,
    /// What is not.
    pub secret: Secret,
}

/// A key's secret. It can be read on purpose, and does not appear in a log by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Keys {
    pub(crate) fn new(db: Db, recorder: Arc<Recorder>) -> Self {
        Self { db, recorder }
    }

    /// Makes a key.
    ///
    /// # Errors
    /// [`Error::NameTaken`] if a key of that name is not revoked; [`Error::Random`] if the operating system gives no
    /// random numbers.
    pub async fn create(&self, name: &str, now_ms: i64) -> Result<NewKey> {
        let secret = Secret(format!("{SECRET_PREFIX}{}", random_hex::<32>()?));
        let row = KeyRow {
            id: format!("key_{}", random_hex::<8>()?),
            name: name.to_owned(),
            prefix: secret.0.chars().take(SHOWN_CHARS).collect(),
            created_at_ms: now_ms,
            last_used_at_ms: None,
            revoked_at_ms: None,
        };
        let statement = "INSERT INTO api_keys (id, name, prefix, secret_sha256, created_at_ms) VALUES ($1, $2, $3, $4, $5)";
        let inserted = sqlx::query(statement)
            .bind(&row.id)
            .bind(&row.name)
            .bind(&row.prefix)
            .bind(hash(secret.reveal()))
            .bind(row.created_at_ms)
            .execute(self.db.writer())
            .await;
        match inserted {
            Ok(_) => Ok(NewKey { row, secret }),
            Err(error) if is_taken(&error) => Err(Error::NameTaken { what: "key", name: row.name }),
            Err(error) => Err(self.db.error(error)),
        }
    }

    /// Returns all keys, revoked ones too, oldest first.
    pub async fn list(&self) -> Result<Vec<KeyRow>> {
        let statement = "SELECT id, name, prefix, created_at_ms, last_used_at_ms, revoked_at_ms FROM api_keys \
             ORDER BY created_at_ms, id";
        let listed = sqlx::query_as(statement).fetch_all(self.db.reader()).await;
        listed.map_err(|source| self.db.error(source))
    }

    /// Revokes a key by its id or name and returns it; `None` if no key that is not revoked has it.
    ///
    /// From the moment this returns, [`verify`](Self::verify) does not know the key.
    pub async fn revoke(&self, id_or_name: &str, now_ms: i64) -> Result<Option<KeyRow>> {
        // An id wins: a key may be named like the id of another.
        let statement = "UPDATE api_keys SET revoked_at_ms = $1 WHERE revoked_at_ms IS NULL AND id = ( \
             SELECT id FROM api_keys WHERE revoked_at_ms IS NULL AND (id = $2 OR name = $2) \
             ORDER BY CASE WHEN id = $2 THEN 0 ELSE 1 END LIMIT 1) \
             RETURNING id, name, prefix, created_at_ms, last_used_at_ms, revoked_at_ms";
        let revoked =
            sqlx::query_as(statement).bind(now_ms).bind(id_or_name).fetch_optional(self.db.writer()).await;
        revoked.map_err(|source| self.db.error(source))
    }

    /// Finds the key of a secret; `None` if there is none or it is revoked. Notes the time of use in the background.
    ///
    /// The lookup compares hashes, not secrets: how long it takes tells a caller about bits of a hash that he cannot
    /// steer, and nothing about a secret.
    pub async fn verify(&self, secret: &str, now_ms: i64) -> Result<Option<KeyRow>> {
        let statement = "SELECT id, name, prefix, created_at_ms, last_used_at_ms, revoked_at_ms FROM api_keys \
             WHERE secret_sha256 = $1 AND revoked_at_ms IS NULL";
        let found: Option<KeyRow> = sqlx::query_as(statement)
            .bind(hash(secret))
            .fetch_optional(self.db.reader())
            .await
            .map_err(|source| self.db.error(source))?;
        if let Some(row) = &found
            && row.last_used_at_ms.is_none_or(|last| now_ms.saturating_sub(last) >= LAST_USED_STEP_MS)
        {
            self.recorder.record(Entry::KeyUsed { id: row.id.clone(), at_ms: now_ms });
        }
        Ok(found)
    }
}

/// Notes that a key was used, unless a later use is noted.
pub(crate) async fn update_last_used(
    connection: &mut SqliteConnection,
    id: &str,
    at_ms: i64,
) -> sqlx::Result<()> {
    let statement = "UPDATE api_keys SET last_used_at_ms = $1 \
         WHERE id = $2 AND (last_used_at_ms IS NULL OR last_used_at_ms < $1)";
    sqlx::query(statement).bind(at_ms).bind(id).execute(connection).await.map(drop)
}

impl KeyRow {
    /// Tells whether the key opens anything.
    pub fn is_active(&self) -> bool {
        self.revoked_at_ms.is_none()
    }
}

impl Secret {
    /// Returns the secret, to show it to its owner.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

fn hash(secret: &str) -> Vec<u8> {
    Sha256::digest(secret.as_bytes()).to_vec()
}

/// Returns `BYTES` random bytes of the operating system in hexadecimal.
fn random_hex<const BYTES: usize>() -> Result<String> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).map_err(Error::Random)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
