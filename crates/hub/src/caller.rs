use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hub_base::{ErrorKind, ModelId, Task};
use hub_models::{Delta, Usage};
use hub_store::{Store, UsageRow};

/// How a frontend answers an outcome (`None` is success), as a number: a status of HTTP, an exit code.
pub type StatusTable = fn(Option<ErrorKind>) -> u16;

/// Who asks, and through what: kept with the usage row of a request, and nowhere else.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Caller {
    /// Names the request in answers, logs and usage rows.
    pub request_id: String,
    /// The key it came with.
    pub key_id: Option<String>,
    /// Where it came in: `/v1/chat/completions`, `run`.
    pub endpoint: String,
    /// How the frontend answers an outcome.
    pub status: StatusTable,
}

impl Caller {
    /// Describes a request that came in at `endpoint`, with a fresh id, no key, and status 0 or 1.
    pub fn new(endpoint: impl Into<String>) -> Self {
        let request_id = format!("req_{:016x}", random_id());
        Self {
            request_id,
            key_id: None,
            endpoint: endpoint.into(),
            status: |error| u16::from(error.is_some()),
        }
    }

    /// Takes the id that the frontend gave the request.
    #[must_use]
    pub fn request_id(mut self, id: impl Into<String>) -> Self {
        self.request_id = id.into();
        self
    }

    /// Says which key the request came with.
    #[must_use]
    pub fn key_id(mut self, id: Option<String>) -> Self {
        self.key_id = id;
        self
    }

    /// Says how the frontend answers an outcome.
    #[must_use]
    pub fn status(mut self, table: StatusTable) -> Self {
        self.status = table;
        self
    }
}

impl Default for Caller {
    fn default() -> Self {
        Self::new("library")
    }
}

/// What one request used so far; writes its row when it is dropped, however the request ends.
///
/// Until [`Meter::finish`] is called the request counts as cancelled: a caller that leaves drops the meter.
#[derive(Debug)]
pub(crate) struct Meter {
    store: Store,
    caller: Caller,
    task: Task,
    model: String,
    outcome: Outcome,
    usage: Usage,
}

#[derive(Clone, Copy, Debug)]
enum Outcome {
    Done,
    Failed(ErrorKind),
}

impl Meter {
    pub(crate) fn new(store: &Store, caller: Caller, task: Task, asked: &str) -> Self {
        // An unknown name is the caller's text, of any length; a row keeps what a name can be.
        let model = asked.chars().take(128).collect();
        let outcome = Outcome::Failed(ErrorKind::Cancelled);
        Self { store: store.clone(), caller, task, model, outcome, usage: Usage::default() }
    }

    pub(crate) fn request_id(&self) -> &str {
        &self.caller.request_id
    }

    /// Notes which model answers.
    pub(crate) fn model(&mut self, model: &ModelId) {
        self.model = model.to_string();
    }

    /// Notes how long the prompt is.
    pub(crate) fn prompt_tokens(&mut self, tokens: usize) {
        self.usage.prompt_tokens = tokens;
    }

    /// Notes a piece of an answer. Until the last one brings exact figures, each with a text counts as a token.
    pub(crate) fn delta(&mut self, delta: &Delta) {
        match delta.usage {
            Some(usage) => {
                self.usage = usage;
                self.finish();
            }
            None => self.usage.completion_tokens += usize::from(!delta.text.is_empty()),
        }
    }

    /// Notes that the request is answered.
    pub(crate) fn finish(&mut self) {
        self.outcome = Outcome::Done;
    }

    /// Notes how the request ended.
    pub(crate) fn close<T>(&mut self, result: &crate::Result<T>) {
        match result {
            Ok(_) => self.finish(),
            Err(error) => self.fail(error.kind()),
        }
    }

    /// Notes what the request failed of.
    pub(crate) fn fail(&mut self, kind: ErrorKind) {
        self.outcome = Outcome::Failed(kind);
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        let kind = match self.outcome {
            Outcome::Done => None,
            Outcome::Failed(kind) => Some(kind),
        };
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        self.store.usage().record(UsageRow {
            at_ms: now_ms(),
            request_id: std::mem::take(&mut self.caller.request_id),
            key_id: self.caller.key_id.take(),
            model: std::mem::take(&mut self.model),
            task: self.task.as_str().to_owned(),
            endpoint: std::mem::take(&mut self.caller.endpoint),
            prompt_tokens: self.usage.prompt_tokens as u64,
            completion_tokens: self.usage.completion_tokens as u64,
            queue_ms: ms(self.usage.queue),
            prefill_ms: ms(self.usage.prefill),
            decode_ms: ms(self.usage.decode),
            status: (self.caller.status)(kind),
            error_kind: kind.map(|kind| word(kind).to_owned()),
        });
    }
}

/// Returns the word that a usage row keeps for a kind of error.
fn word(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::NotFound => "not_found",
        ErrorKind::InvalidInput => "invalid_input",
        ErrorKind::TooLarge => "too_large",
        ErrorKind::Busy => "busy",
        ErrorKind::Cancelled => "cancelled",
        ErrorKind::Denied => "denied",
        ErrorKind::Unsupported => "unsupported",
        ErrorKind::Unavailable => "unavailable",
        ErrorKind::Corrupt => "corrupt",
        ErrorKind::Internal => "internal",
    }
}

/// Returns the time in Unix milliseconds; 0 on a clock before 1970.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Draws a number that is unlikely to be drawn twice. It names things and guards nothing.
fn random_id() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(SystemTime::now())
}
