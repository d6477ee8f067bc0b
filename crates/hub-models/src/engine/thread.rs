use std::{
    collections::{HashMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use hub_base::OverBudget;
use hub_nn::{
    executor::{Executor, Output},
    state::BLOCK_TOKENS,
    worker::{Inbox, Poll},
};
use tracing::Span;

use super::{
    LoadExecutor, Settings,
    request::{Request, Running},
    sequence::Sequence,
    stats::Stats,
};
use crate::Error;

/// How long the thread rests when every reader is without room.
const REST: Duration = Duration::from_millis(2);

/// The state of a language model's thread.
pub(super) struct Thread {
    pub(super) settings: Settings,
    pub(super) stats: Arc<Stats>,
    load: LoadExecutor,
    /// Nothing after a step panicked and the model could not be loaded again.
    pub(super) executor: Option<Box<dyn Executor>>,
    /// Requests that have not begun, oldest first.
    waiting: VecDeque<(Span, Request)>,
    /// Requests that have begun.
    pub(super) running: HashMap<u64, Running>,
    /// Their choices that take part in steps, oldest first.
    pub(super) sequences: Vec<Sequence>,
    /// Choices that gave their memory back and are computed again once there is room, oldest first.
    pub(super) parked: VecDeque<Sequence>,
    /// What the last step returned, for the memory of the next one.
    pub(super) output: Output,
    next_id: u64,
}

impl Thread {
    pub(super) fn new(
        settings: Settings,
        load: LoadExecutor,
        executor: Box<dyn Executor>,
        stats: Arc<Stats>,
    ) -> Self {
        Self {
            settings,
            stats,
            load,
            executor: Some(executor),
            waiting: VecDeque::new(),
            running: HashMap::new(),
            sequences: Vec::new(),
            parked: VecDeque::new(),
            output: Output::default(),
            next_id: 0,
        }
    }

    /// Serves until nobody is left to send requests or to read answers.
    pub(super) fn run(mut self, inbox: &Inbox<Request>) {
        while self.receive(inbox) {
            self.drop_unread();
            let step = catch_unwind(AssertUnwindSafe(|| {
                self.admit();
                self.step();
            }));
            if step.is_err() {
                self.fail_all();
                self.reload();
            }
            self.report();
        }
    }

    /// Takes what has arrived, waiting for it if there is nothing to do; false when all is over.
    fn receive(&mut self, inbox: &Inbox<Request>) -> bool {
        if self.is_idle() {
            match inbox.wait() {
                Some((span, request)) => self.waiting.push_back((span, request)),
                None => return false,
            }
        }
        while self.waiting.len() < self.settings.queue {
            match inbox.poll() {
                Poll::Message(span, request) => self.waiting.push_back((span, request)),
                Poll::Empty => break,
                // Every reply holds a handle of this thread, so nobody reads any more either.
                Poll::Closed => return false,
            }
        }
        true
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// Ends requests whose reader is gone, or has taken nothing for too long.
    fn drop_unread(&mut self) {
        let now = Instant::now();
        let waited = self.waiting.len();
        self.waiting.retain(|(_, request)| !request.tx.is_closed());
        (self.waiting.len()..waited).for_each(|_| self.stats.dequeue());
        let limit = self.settings.stalled_reader;
        let mut ended = Vec::new();
        for (id, running) in &mut self.running {
            if running.is_readable() {
                running.stalled = None;
            }
            let stalled = *running.stalled.get_or_insert(now);
            if running.is_abandoned() || now.duration_since(stalled) > limit {
                ended.push(*id);
            }
        }
        for id in ended {
            self.end(id, None);
        }
    }

    /// Ends a request early and frees what its choices hold.
    pub(super) fn end(&mut self, id: u64, error: Option<Error>) {
        if let Some(running) = self.running.remove(&id) {
            match error {
                Some(error) => running.fail(error),
                None => {
                    running.request.tx.close();
                }
            }
        }
        let (ended, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.sequences).into_iter().partition(|seq| seq.request == id);
        self.sequences = kept;
        self.parked.retain(|sequence| sequence.request != id);
        for sequence in ended {
            self.release(sequence);
        }
    }

    /// Frees what a choice holds.
    pub(super) fn release(&mut self, sequence: Sequence) {
        if let Some(executor) = &mut self.executor {
            executor.release(sequence.state);
        }
    }

    /// Lets sequences join as far as memory and the limit of sequences allow: parked ones first, then the oldest
    /// request of the highest priority.
    fn admit(&mut self) {
        if self.executor.is_none() && !self.waiting.is_empty() {
            self.reload();
        }
        while let Some(parked) = self.parked.front() {
            match self.shortage(parked.tokens.len()) {
                None => self.sequences.extend(self.parked.pop_front()),
                // What is missing is held by another model, which may never give it back.
                Some(source) if self.sequences.is_empty() => {
                    self.end(parked.request, Some(Error::Memory { what: "the sequence", source }));
                }
                Some(_) => return,
            }
        }
        while let Some(index) = self.next_waiting() {
            let request = &self.waiting[index].1;
            // A request counts with all its choices before they fork.
            let open: usize = self.running.values().map(|running| running.open).sum();
            let choices = request.choices.get() as usize;
            if open + choices > self.settings.max_sequences.max(1) && open > 0 {
                return;
            }
            let shortage = self.shortage(request.tokens.len() + (choices - 1) * BLOCK_TOKENS);
            if shortage.is_some() && !self.sequences.is_empty() {
                return;
            }
            let Some((span, request)) = self.waiting.remove(index) else { return };
            self.stats.dequeue();
            let _entered = span.entered();
            match shortage {
                Some(source) => Running::new(request).fail(Error::Memory { what: "the prompt", source }),
                None => self.begin(request),
            }
        }
    }

    fn next_waiting(&self) -> Option<usize> {
        let highest = self.waiting.iter().map(|(_, request)| request.priority).max()?;
        self.waiting.iter().position(|(_, request)| request.priority == highest)
    }

    fn begin(&mut self, request: Request) {
        let id = self.next_id;
        self.next_id += 1;
        tracing::debug!(prompt_tokens = request.tokens.len(), "generation starts");
        self.sequences.push(Sequence::first(id, &request, &self.settings));
        self.running.insert(id, Running::new(request));
    }

    /// Returns what is missing for one more sequence of `tokens`, after all that running ones still need for theirs.
    fn shortage(&self, tokens: usize) -> Option<OverBudget> {
        let executor = self.executor.as_ref()?;
        // What each holds already is on the account, and what several share is there once.
        let owed = |seq: &Sequence| {
            let needed = executor.bytes_for(seq.tokens.len() + 1);
            needed.saturating_sub(executor.bytes_for(seq.state.tokens()))
        };
        let owed: u64 = self.sequences.iter().map(owed).sum();
        let account = &self.settings.account;
        let free = account.free_bytes().saturating_sub(owed);
        let asked = executor.bytes_for((tokens + BLOCK_TOKENS / 2).min(self.settings.context_tokens));
        (asked > free).then(|| OverBudget { asked, free, limit: account.limit_bytes() })
    }

    /// Fails every request that takes part in steps, after a panic.
    fn fail_all(&mut self) {
        tracing::error!(
            requests = self.running.len(),
            "a step panicked: its requests fail, the model is loaded again"
        );
        for (_, running) in self.running.drain() {
            running.fail(Error::ModelFailed);
        }
        // What the sequences hold goes with the executor.
        self.sequences.clear();
        self.parked.clear();
    }

    /// Loads the model again. Requests that wait fail if that does not work; later ones try once more.
    fn reload(&mut self) {
        // The old weights go first: there is not room for both.
        self.executor = None;
        self.stats.restart();
        match (self.load)() {
            Ok(executor) => {
                self.stats.weigh(executor.weight_bytes());
                self.executor = Some(executor);
            }
            Err(error) => {
                let error = Arc::new(error);
                tracing::error!(%error, "the model could not be loaded again");
                for (_, request) in self.waiting.drain(..) {
                    self.stats.dequeue();
                    Running::new(request).fail(Error::Reload { source: Arc::clone(&error) });
                }
            }
        }
    }

    fn report(&self) {
        let bytes = self.executor.as_ref().map_or(0, |executor| executor.state_bytes());
        self.stats.occupy(self.sequences.len() + self.parked.len(), bytes);
    }

    /// Rests a moment when no sequence can move.
    pub(super) fn rest(&self) {
        if !self.is_idle() {
            std::thread::sleep(REST);
        }
    }
}
