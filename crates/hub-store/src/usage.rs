use std::sync::Arc;

use serde::Serialize;
use sqlx::{FromRow, SqliteConnection};

use crate::{
    Result,
    db::{Db, column},
    recorder::{Entry, Recorder},
};

/// What requests used: one row a request.
#[derive(Clone, Debug)]
pub struct Usage {
    db: Db,
    recorder: Arc<Recorder>,
}

/// What one request used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsageRow {
    /// When it ended, in Unix milliseconds.
    pub at_ms: i64,
    /// The id its caller was told.
    pub request_id: String,
    /// The id of the key it came with.
    pub key_id: Option<String>,
    /// The model that answered, or was asked for where none did.
    pub model: String,
    /// What was asked: `chat`.
    pub task: String,
    /// Where it came in: `/v1/chat/completions`.
    pub endpoint: String,
    /// Tokens read.
    pub prompt_tokens: u64,
    /// Tokens written.
    pub completion_tokens: u64,
    /// Time waited for a place in the model.
    pub queue_ms: u64,
    /// Time until the first token, from then on.
    pub prefill_ms: u64,
    /// Time from the first token to the last.
    pub decode_ms: u64,
    /// The status it was answered with.
    pub status: u16,
    /// The kind of error it ended in.
    pub error_kind: Option<String>,
}

/// What the requests for one model used together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, FromRow)]
#[non_exhaustive]
pub struct ModelUsage {
    /// The model.
    pub model: String,
    /// How many requests there were.
    #[sqlx(try_from = "i64")]
    pub requests: u64,
    /// How many of them ended in an error.
    #[sqlx(try_from = "i64")]
    pub failed: u64,
    /// Tokens read.
    #[sqlx(try_from = "i64")]
    pub prompt_tokens: u64,
    /// Tokens written.
    #[sqlx(try_from = "i64")]
    pub completion_tokens: u64,
    /// Time waited for a place in the model.
    #[sqlx(try_from = "i64")]
    pub queue_ms: u64,
    /// Time spent on prompts.
    #[sqlx(try_from = "i64")]
    pub prefill_ms: u64,
    /// Time spent on answers.
    #[sqlx(try_from = "i64")]
    pub decode_ms: u64,
}

impl Usage {
    pub(crate) fn new(db: Db, recorder: Arc<Recorder>) -> Self {
        Self { db, recorder }
    }

    /// Queues a row to be written. Never waits: with a full queue the row is dropped and counted.
    pub fn record(&self, row: UsageRow) {
        self.recorder.record(Entry::Usage(Box::new(row)));
    }

    /// Waits until every row recorded before is written.
    pub async fn flush(&self) {
        self.recorder.flush().await;
    }

    /// Returns how many entries were lost since the store was opened: the queue was full, or a write failed.
    pub fn dropped(&self) -> u64 {
        self.recorder.dropped()
    }

    /// Sums up the rows that are written and not older than `since_ms`, by model, sorted by its name.
    pub async fn summary(&self, since_ms: i64) -> Result<Vec<ModelUsage>> {
        let statement = "SELECT model, COUNT(*) AS requests, COUNT(error_kind) AS failed, \
             SUM(prompt_tokens) AS prompt_tokens, SUM(completion_tokens) AS completion_tokens, \
             SUM(queue_ms) AS queue_ms, SUM(prefill_ms) AS prefill_ms, SUM(decode_ms) AS decode_ms \
             FROM usage WHERE at_ms >= $1 GROUP BY model ORDER BY model";
        let summed = sqlx::query_as(statement).bind(since_ms).fetch_all(self.db.reader()).await;
        summed.map_err(|source| self.db.error(source))
    }
}

/// Writes one row.
pub(crate) async fn insert(connection: &mut SqliteConnection, row: &UsageRow) -> sqlx::Result<()> {
    let statement = "INSERT INTO usage (at_ms, request_id, key_id, model, task, endpoint, prompt_tokens, \
         completion_tokens, queue_ms, prefill_ms, decode_ms, status, error_kind) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
    sqlx::query(statement)
        .bind(row.at_ms)
        .bind(&row.request_id)
        .bind(&row.key_id)
        .bind(&row.model)
        .bind(&row.task)
        .bind(&row.endpoint)
        .bind(column(row.prompt_tokens))
        .bind(column(row.completion_tokens))
        .bind(column(row.queue_ms))
        .bind(column(row.prefill_ms))
        .bind(column(row.decode_ms))
        .bind(i64::from(row.status))
        .bind(&row.error_kind)
        .execute(connection)
        .await
        .map(drop)
}
