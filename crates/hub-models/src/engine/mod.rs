//! The thread that owns a language model: it receives requests, plans steps, runs them and sends text.
//!
//! ```text
//! inbox -> waiting -> running -> plan -> one forward -> one token each -> text -> channels
//! ```
//!
//! Sequences join and leave between steps; one forward carries the rows of all of them. A sequence is admitted when the
//! memory for its prompt is there, and grows block by block; when memory runs out the youngest one steps back and is
//! computed again later, so an older one always finishes.

mod plan;
mod request;
mod sequence;
mod stats;
mod step;
mod thread;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_channel::Receiver;
use hub_nn::{
    Device,
    executor::Executor,
    tokens::Tokenizer,
    worker::{Refused, Worker},
};

pub(crate) use request::Request;
pub use stats::Load;
pub(crate) use stats::Stats;

use crate::{Delta, Error, LoadOptions, bundle::Bundle};

/// Makes the executor, at the start and after a step panicked.
pub(crate) type LoadExecutor = Box<dyn Fn() -> Result<Box<dyn Executor>, Error> + Send>;

/// Makes the executor of a model from its files, each time it is called.
pub(crate) fn executor_loader(bundle: Bundle, device: Device, options: LoadOptions) -> LoadExecutor {
    Box::new(move || {
        let LoadOptions { executor, packed_file, progress, cancel, .. } = &options;
        let mut weights = bundle.weights.clone();
        if let Some(place) = packed_file {
            weights = weights.packed_at(place.clone());
        }
        Ok(executor.load(bundle.spec.clone(), &weights, &device, progress, cancel)?)
    })
}

/// What the engine must know of its model and its limits.
pub(crate) struct Settings {
    pub(crate) tokenizer: Tokenizer,
    /// Tokens that end an answer.
    pub(crate) end_tokens: Vec<u32>,
    /// Control tokens whose texts are part of an answer.
    pub(crate) spelled: Vec<u32>,
    /// The longest sequence served.
    pub(crate) context_tokens: usize,
    pub(crate) max_sequences: usize,
    pub(crate) prefill_tokens: usize,
    pub(crate) queue: usize,
    pub(crate) stalled_reader: std::time::Duration,
    /// Pays for what sequences keep.
    pub(crate) account: hub_base::Account,
    /// What tokens are drawn with.
    pub(crate) instructions: hub_nn::Isa,
}

/// A handle of the thread; clones share it, and the last one ends it.
#[derive(Clone, Debug)]
pub(crate) struct Engine {
    worker: Worker<Request>,
    stats: Arc<Stats>,
    queue: usize,
}

impl Engine {
    /// Loads the model and starts its thread, called `name`.
    ///
    /// # Errors
    /// Those of `load`, and the operating system's if it cannot start a thread.
    pub(crate) fn start(name: &str, settings: Settings, load: LoadExecutor) -> Result<Self, Error> {
        let executor = load()?;
        let stats = Arc::new(Stats::new(executor.weight_bytes()));
        let queue = settings.queue;
        let thread = thread::Thread::new(settings, load, executor, Arc::clone(&stats));
        let worker = Worker::spawn(name, queue, move |inbox| thread.run(&inbox));
        let worker = worker.map_err(|source| Error::Thread { source })?;
        Ok(Self { worker, stats, queue })
    }

    /// Hands a request over, and returns where its answer arrives.
    ///
    /// # Errors
    /// [`Error::Busy`] if the queue is full, [`Error::ModelGone`] if the thread has ended.
    pub(crate) fn submit(
        &self,
        request: Request,
        rx: Receiver<Result<Delta, Error>>,
    ) -> Result<crate::Reply, Error> {
        let prompt_tokens = request.tokens.len();
        if !self.stats.enqueue(self.queue) {
            return Err(Error::Busy { waiting: self.queue });
        }
        match self.worker.send(request) {
            Ok(()) => Ok(crate::Reply::new(rx, prompt_tokens, self.clone())),
            Err(refused) => {
                self.stats.dequeue();
                Err(match refused {
                    Refused::Full => Error::Busy { waiting: self.queue },
                    Refused::Gone => Error::ModelGone,
                })
            }
        }
    }

    pub(crate) fn stats(&self) -> &Stats {
        &self.stats
    }
}
