//! The thread that owns an encoder: texts in, rows out, several callers' texts in one step.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use async_channel::Sender;
use hub_base::CancelToken;
use hub_nn::{
    Priority,
    executor::{Executor, Input, Output, Outputs, Segment, Want},
    worker::{Inbox, Poll, Refused, Worker},
};

use crate::{Error, engine::LoadExecutor};

/// How many rows one step carries: enough to keep two cores in matrix products, few enough to let others in.
const STEP_ROWS: usize = 1_024;

/// One text in tokens, each with its token type.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    pub(crate) tokens: Vec<u32>,
    pub(crate) types: Vec<u32>,
}

/// What is wanted of each text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) want: Want,
    pub(crate) outputs: Outputs,
}

/// A handle of the thread; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Encoder {
    worker: Worker<Job>,
    queue: usize,
    weight_bytes: u64,
}

/// Texts of one caller.
#[derive(Debug)]
struct Job {
    texts: Vec<Text>,
    wanted: Wanted,
    priority: Priority,
    cancel: CancelToken,
    tx: Sender<Result<Vec<Output>, Error>>,
}

/// A job while it runs: the texts that are left, the next one last, and the rows that are done.
struct Running {
    job: Job,
    left: Vec<usize>,
    done: Vec<Output>,
}

struct Thread {
    load: LoadExecutor,
    /// Nothing after a step panicked.
    executor: Option<Box<dyn Executor>>,
    jobs: VecDeque<Running>,
    queue: usize,
}

/// What failed, shared by all it failed for.
enum StepError {
    Load(Arc<Error>),
    Run(Arc<hub_nn::Error>),
}

impl Encoder {
    /// Loads the model and starts its thread, called `name`.
    pub(crate) fn start(name: &str, queue: usize, load: LoadExecutor) -> Result<Self, Error> {
        let executor = load()?;
        let weight_bytes = executor.weight_bytes();
        let thread = Thread { load, executor: Some(executor), jobs: VecDeque::new(), queue };
        let worker = Worker::spawn(name, queue, move |inbox| thread.run(&inbox));
        Ok(Self { worker: worker.map_err(|source| Error::Thread { source })?, queue, weight_bytes })
    }

    /// Runs texts and waits for their rows, in their order.
    pub(crate) fn run(
        &self,
        texts: Vec<Text>,
        wanted: Wanted,
        priority: Priority,
        cancel: CancelToken,
    ) -> Result<Vec<Output>, Error> {
        let (tx, rx) = async_channel::bounded(1);
        self.worker.send(Job { texts, wanted, priority, cancel, tx }).map_err(|refused| match refused {
            Refused::Full => Error::Busy { waiting: self.queue },
            Refused::Gone => Error::ModelGone,
        })?;
        rx.recv_blocking().unwrap_or(Err(Error::ModelGone))
    }

    pub(crate) fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }
}

impl Running {
    fn new(job: Job) -> Self {
        let mut left: Vec<usize> = (0..job.texts.len()).collect();
        // Texts of like length run together, the short ones first, so that a long one delays nobody's short one.
        left.sort_by_key(|index| std::cmp::Reverse(job.texts[*index].tokens.len()));
        let done = vec![Output::default(); job.texts.len()];
        Self { job, left, done }
    }

    /// Tells whether the caller still waits, and answers one that cancelled.
    fn is_wanted(&self) -> bool {
        if self.job.cancel.is_cancelled() {
            let _ = self.job.tx.try_send(Err(Error::Cancelled));
        }
        !self.job.cancel.is_cancelled() && !self.job.tx.is_closed()
    }
}

impl Thread {
    fn run(mut self, inbox: &Inbox<Job>) {
        while self.receive(inbox) {
            self.jobs.retain(Running::is_wanted);
            match catch_unwind(AssertUnwindSafe(|| self.step())) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => self.fail_all(|| error.share()),
                Err(_) => {
                    tracing::error!(
                        "a step of an encoder panicked; the model is loaded again at its next use"
                    );
                    self.executor = None;
                    self.fail_all(|| Error::ModelFailed);
                }
            }
        }
    }

    /// Takes what has arrived, waiting for it if there is nothing to do; false when all is over.
    fn receive(&mut self, inbox: &Inbox<Job>) -> bool {
        if self.jobs.is_empty() {
            match inbox.wait() {
                Some((_, job)) => self.jobs.push_back(Running::new(job)),
                None => return false,
            }
        }
        while self.jobs.len() < self.queue {
            match inbox.poll() {
                Poll::Message(_, job) => self.jobs.push_back(Running::new(job)),
                Poll::Empty => break,
                Poll::Closed if self.jobs.is_empty() => return false,
                Poll::Closed => break,
            }
        }
        true
    }

    /// Runs one step for the jobs that want the same as the first of the highest priority, and answers those that are
    /// done.
    fn step(&mut self) -> Result<(), StepError> {
        if self.executor.is_none() {
            self.executor = Some((self.load)().map_err(|error| StepError::Load(Arc::new(error)))?);
        }
        let Some(executor) = &mut self.executor else { return Ok(()) };
        let first = self.jobs.iter().max_by_key(|running| running.job.priority);
        let Some(Job { wanted, priority, .. }) = first.map(|running| &running.job) else { return Ok(()) };
        let (wanted, priority) = (*wanted, *priority);
        let chosen = choose(&mut self.jobs, |job| job.wanted == wanted && job.priority == priority);
        let segment = |(at, text): &(usize, usize)| {
            let Text { tokens, types } = &self.jobs[*at].job.texts[*text];
            Segment {
                input: Input::TypedTokens(tokens, types),
                state: None,
                outputs: wanted.outputs,
                span: tokens.len(),
            }
        };
        let mut segments: Vec<Segment<'_>> = chosen.iter().map(segment).collect();
        let layers = 0..executor.spec().layers.len();
        let output = executor.run(layers, &mut segments, wanted.want, priority);
        let output = output.map_err(|error| StepError::Run(Arc::new(error)))?;
        self.share_out(&chosen, wanted.outputs, &output);
        Ok(())
    }

    /// Gives each text its rows, and each job that is complete its answer.
    fn share_out(&mut self, chosen: &[(usize, usize)], outputs: Outputs, output: &Output) {
        let mut rows = output.rows();
        for &(at, text) in chosen {
            let running = &mut self.jobs[at];
            let count = match outputs {
                Outputs::All => running.job.texts[text].tokens.len(),
                _ => 1,
            };
            let values = rows.by_ref().take(count).flatten().copied().collect();
            running.done[text] = Output::new(values, output.width());
        }
        self.jobs.retain_mut(|running| {
            let is_open = !running.left.is_empty();
            if !is_open {
                // A caller that left needs no answer.
                let _ = running.job.tx.try_send(Ok(std::mem::take(&mut running.done)));
            }
            is_open
        });
    }

    /// Fails every job: the texts of several were in the step.
    fn fail_all(&mut self, error: impl Fn() -> Error) {
        for running in self.jobs.drain(..) {
            let _ = running.job.tx.try_send(Err(error()));
        }
    }
}

/// Takes the texts of the next step, one from each job that may take part and again, so that a job of thousands of
/// texts holds up no other. Returns the job and the text of each.
fn choose(jobs: &mut VecDeque<Running>, may_join: impl Fn(&Job) -> bool) -> Vec<(usize, usize)> {
    let mut rows = 0;
    let mut chosen = Vec::new();
    loop {
        let before = chosen.len();
        for (at, running) in jobs.iter_mut().enumerate().filter(|(_, running)| may_join(&running.job)) {
            let Some(&text) = running.left.last() else { continue };
            let count = running.job.texts[text].tokens.len();
            if rows > 0 && rows + count > STEP_ROWS {
                continue;
            }
            rows += count;
            running.left.pop();
            chosen.push((at, text));
        }
        if chosen.len() == before {
            return chosen;
        }
    }
}

impl StepError {
    fn share(&self) -> Error {
        match self {
            Self::Load(source) => Error::Reload { source: Arc::clone(source) },
            Self::Run(source) => Error::Step { source: Arc::clone(source) },
        }
    }
}
