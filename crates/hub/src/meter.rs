//! What a request used, on its way to its usage row.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hub_base::{ErrorKind, ModelId, Task};
use hub_models::{Delta, Usage};
use hub_store::{Store, UsageRow};

use crate::{Caller, caller::now_ms};

/// What one request, or one part of it, used so far. The request's row is written when its last part is dropped,
/// however it ends.
///
/// Until [`Meter::finish`] is called a part counts as cancelled: a caller that leaves drops the meter.
#[derive(Debug)]
pub(crate) struct Meter {
    record: Arc<Record>,
    outcome: Outcome,
    usage: Usage,
}

#[derive(Clone, Copy, Debug)]
enum Outcome {
    Done,
    Failed(ErrorKind),
}

/// A request; writes its row when it is dropped.
#[derive(Debug)]
struct Record {
    store: Store,
    caller: Caller,
    task: Task,
    sum: Mutex<Sum>,
}

/// What the parts that ended used together.
#[derive(Debug, Default)]
struct Sum {
    model: String,
    usage: Usage,
    error: Option<ErrorKind>,
}

impl Meter {
    pub(crate) fn new(store: &Store, caller: Caller, task: Task, asked: &str) -> Self {
        // An unknown name is the caller's text, of any length; a row keeps what a name can be.
        let model = asked.chars().take(ModelId::MAX_LEN).collect();
        let sum = Mutex::new(Sum { model, ..Sum::default() });
        Self::of(Arc::new(Record { store: store.clone(), caller, task, sum }))
    }

    fn of(record: Arc<Record>) -> Self {
        Self { record, outcome: Outcome::Failed(ErrorKind::Cancelled), usage: Usage::default() }
    }

    /// Begins another part of the same request.
    pub(crate) fn part(&self) -> Self {
        Self::of(Arc::clone(&self.record))
    }

    pub(crate) fn request_id(&self) -> &str {
        &self.record.caller.request_id
    }

    /// Notes which model answers.
    pub(crate) fn model(&self, model: &ModelId) {
        self.record.with_sum(|sum| sum.model = model.to_string());
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
            None => {
                let is_empty = delta.text.is_empty() && delta.reasoning.is_empty();
                self.usage.completion_tokens += usize::from(!is_empty);
            }
        }
    }

    /// Returns what this part used so far.
    pub(crate) fn usage(&self) -> Usage {
        self.usage
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
        self.record.with_sum(|sum| sum.add(self.usage, self.outcome));
    }
}

impl Record {
    /// What the lock guards is whole between any two statements, so a poisoned one is as good as any.
    fn with_sum(&self, change: impl FnOnce(&mut Sum)) {
        change(&mut self.sum.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Sum {
    fn add(&mut self, usage: Usage, outcome: Outcome) {
        self.usage.prompt_tokens += usage.prompt_tokens;
        self.usage.completion_tokens += usage.completion_tokens;
        // Parts run beside each other: the request took as long as its slowest.
        self.usage.queue = self.usage.queue.max(usage.queue);
        self.usage.prefill = self.usage.prefill.max(usage.prefill);
        self.usage.decode = self.usage.decode.max(usage.decode);
        if let Outcome::Failed(kind) = outcome {
            // The part that failed says why; the others were withdrawn because of it.
            let said = self.error.filter(|error| *error != ErrorKind::Cancelled);
            self.error = Some(said.unwrap_or(kind));
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let sum = std::mem::take(self.sum.get_mut().unwrap_or_else(PoisonError::into_inner));
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        tracing::info!(
            request_id = self.caller.request_id,
            endpoint = self.caller.endpoint,
            model = sum.model,
            status = (self.caller.status)(sum.error),
            error = sum.error.map(word),
            prompt_tokens = sum.usage.prompt_tokens,
            completion_tokens = sum.usage.completion_tokens,
            queue_ms = ms(sum.usage.queue),
            prefill_ms = ms(sum.usage.prefill),
            decode_ms = ms(sum.usage.decode),
            "answered"
        );
        self.store.usage().record(UsageRow {
            at_ms: now_ms(),
            request_id: std::mem::take(&mut self.caller.request_id),
            key_id: self.caller.key_id.take(),
            model: sum.model,
            task: self.task.as_str().to_owned(),
            endpoint: std::mem::take(&mut self.caller.endpoint),
            prompt_tokens: sum.usage.prompt_tokens as u64,
            completion_tokens: sum.usage.completion_tokens as u64,
            queue_ms: ms(sum.usage.queue),
            prefill_ms: ms(sum.usage.prefill),
            decode_ms: ms(sum.usage.decode),
            status: (self.caller.status)(sum.error),
            error_kind: sum.error.map(|kind| word(kind).to_owned()),
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
