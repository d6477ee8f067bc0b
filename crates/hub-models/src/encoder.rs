//! The thread that owns an encoder: texts in, rows out, several callers' texts in one step.

use std::{
    collections::{HashSet, VecDeque},
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_channel::{Receiver, Sender};
use hub_base::CancelToken;
use hub_nn::{
    Priority,
    executor::{Executor, Input, Output, Outputs, Segment, Want},
    spec::{Mask, ModelSpec, RowPooling},
    state::{MAX_STEP_TOKENS, SequenceState},
    worker::{Inbox, Poll, Refused, Worker},
};

use crate::{Error, engine::LoadExecutor};

/// How many rows one step carries: enough to keep two cores in matrix products, few enough to let others in.
pub(crate) const STEP_ROWS: usize = 1_024;

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

/// What becomes of the rows of a text, at once: rows are many, and what is made of them is little.
pub(crate) type Reduce = Arc<dyn Fn(&Output) -> Vec<f32> + Send + Sync>;

/// A handle of the thread; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Encoder {
    worker: Worker<Job>,
    /// How many jobs there may be, and how many there are.
    queue: usize,
    jobs: Arc<AtomicUsize>,
    weight_bytes: u64,
}

/// Texts of one caller.
pub(crate) struct Ask {
    pub(crate) texts: Vec<Text>,
    pub(crate) wanted: Wanted,
    pub(crate) reduce: Reduce,
    pub(crate) priority: Priority,
    pub(crate) cancel: CancelToken,
}

/// What the texts came to, once it arrives.
pub(crate) type Answer = Receiver<Result<Vec<Vec<f32>>, Error>>;

struct Job {
    ask: Ask,
    tx: Sender<Result<Vec<Vec<f32>>, Error>>,
    _place: Place,
}

/// One of the places in front of the thread; given back when it is dropped.
struct Place(Arc<AtomicUsize>);

/// A job while it runs: the texts that are left, the next one last, and what those that are done came to.
struct Running {
    job: Job,
    left: Vec<usize>,
    done: Vec<Vec<f32>>,
}

struct Thread {
    load: LoadExecutor,
    /// Nothing after a step panicked.
    executor: Option<Box<dyn Executor>>,
    jobs: VecDeque<Running>,
    /// What is in the step: a job and one of its texts.
    chosen: Vec<(usize, usize)>,
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
        let thread = Thread { load, executor: Some(executor), jobs: VecDeque::new(), chosen: Vec::new() };
        let worker = Worker::spawn(name, queue, move |inbox| thread.run(&inbox));
        let worker = worker.map_err(|source| Error::Thread { source })?;
        Ok(Self { worker, queue, jobs: Arc::default(), weight_bytes })
    }

    /// Hands texts over, and returns where what they come to arrives, in their order. Dropping it withdraws them.
    ///
    /// # Errors
    /// [`Error::Busy`] if as many callers wait as may, [`Error::ModelGone`] if the thread has ended.
    pub(crate) fn submit(&self, ask: Ask) -> Result<Answer, Error> {
        let busy = || Error::Busy { waiting: self.queue };
        let grow = |jobs: usize| (jobs < self.queue).then_some(jobs + 1);
        self.jobs.fetch_update(Ordering::AcqRel, Ordering::Acquire, grow).map_err(|_| busy())?;
        let (tx, rx) = async_channel::bounded(1);
        let job = Job { ask, tx, _place: Place(Arc::clone(&self.jobs)) };
        self.worker.send(job).map_err(|refused| match refused {
            Refused::Full => busy(),
            Refused::Gone => Error::ModelGone,
        })?;
        Ok(rx)
    }

    pub(crate) fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("texts", &self.ask.texts.len()).finish_non_exhaustive()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Running {
    fn new(job: Job) -> Self {
        let mut left: Vec<usize> = (0..job.ask.texts.len()).collect();
        // Texts of like length run together, the short ones first, so that a long one delays nobody's short one.
        left.sort_by_key(|index| std::cmp::Reverse(job.ask.texts[*index].tokens.len()));
        let done = vec![Vec::new(); job.ask.texts.len()];
        Self { job, left, done }
    }

    /// Tells whether the caller still waits, and answers one that cancelled.
    fn is_wanted(&self) -> bool {
        let is_cancelled = self.job.ask.cancel.is_cancelled();
        if is_cancelled {
            let _ = self.job.tx.try_send(Err(Error::Cancelled));
        }
        !is_cancelled && !self.job.tx.is_closed()
    }
}

impl Thread {
    fn run(mut self, inbox: &Inbox<Job>) {
        while self.receive(inbox) {
            self.jobs.retain(Running::is_wanted);
            match catch_unwind(AssertUnwindSafe(|| self.step())) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => self.fail_step(|| error.share()),
                Err(_) => {
                    tracing::error!(
                        "a step of an encoder panicked; the model is loaded again at its next use"
                    );
                    self.executor = None;
                    self.fail_step(|| Error::ModelFailed);
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
        loop {
            match inbox.poll() {
                Poll::Message(_, job) => self.jobs.push_back(Running::new(job)),
                // Every answer that is waited for holds a handle of this thread, so nobody waits any more.
                Poll::Closed => return false,
                Poll::Empty => return true,
            }
        }
    }

    /// Runs one step for the jobs that want the same as the first of the highest priority, and answers those that are
    /// done.
    fn step(&mut self) -> Result<(), StepError> {
        // The last of equals is what `max_by_key` takes; the first one's turn it is.
        let first = self.jobs.iter().rev().max_by_key(|running| running.job.ask.priority);
        let Some(Ask { wanted, priority, .. }) = first.map(|running| &running.job.ask) else { return Ok(()) };
        let (wanted, priority) = (*wanted, *priority);
        self.chosen = choose(&mut self.jobs, |ask| ask.wanted == wanted && ask.priority == priority);
        if self.executor.is_none() {
            self.executor = Some((self.load)().map_err(|error| StepError::Load(Arc::new(error)))?);
        }
        let Some(executor) = &mut self.executor else { return Ok(()) };
        let texts: Vec<&Text> =
            self.chosen.iter().map(|(at, text)| &self.jobs[*at].job.ask.texts[*text]).collect();
        let is_wanted = || self.chosen.iter().any(|(at, _)| self.jobs[*at].is_wanted());
        let outputs = run(executor.as_mut(), &texts, wanted, priority, is_wanted);
        let outputs = outputs.map_err(|error| StepError::Run(Arc::new(error)))?;
        self.share_out(outputs.unwrap_or_default());
        Ok(())
    }

    /// Makes of each text's rows what its caller wants, and gives each job that is complete its answer.
    fn share_out(&mut self, outputs: Vec<Output>) {
        for (output, (at, text)) in outputs.into_iter().zip(self.chosen.drain(..)) {
            let running = &mut self.jobs[at];
            running.done[text] = (running.job.ask.reduce)(&output);
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

    /// Fails the jobs whose texts were in the step.
    fn fail_step(&mut self, error: impl Fn() -> Error) {
        let failed: HashSet<usize> = self.chosen.drain(..).map(|(at, _)| at).collect();
        let mut at = 0;
        self.jobs.retain(|running| {
            let has_failed = failed.contains(&at);
            if has_failed {
                let _ = running.job.tx.try_send(Err(error()));
            }
            at += 1;
            !has_failed
        });
    }
}

/// Runs whole texts together, and returns the rows of each; nothing if they are no longer wanted.
///
/// Rows of a model of language see those before them, which it keeps until all are done: such texts go in pieces.
fn run(
    executor: &mut dyn Executor,
    texts: &[&Text],
    wanted: Wanted,
    priority: Priority,
    is_wanted: impl Fn() -> bool,
) -> Result<Option<Vec<Output>>, hub_nn::Error> {
    if executor.spec().mask != Mask::Causal {
        return run_at_once(executor, texts, wanted, priority).map(Some);
    }
    let mut states: Vec<SequenceState> = texts.iter().map(|_| SequenceState::default()).collect();
    let mut values = vec![Vec::new(); texts.len()];
    let mut width = 0;
    let longest = texts.iter().map(|text| text.tokens.len()).max().unwrap_or(0);
    let mut pieces = (0..longest).step_by(MAX_STEP_TOKENS);
    let ran = pieces.try_fold(true, |_, start| {
        if !is_wanted() {
            return Ok(false);
        }
        let mut segments = Vec::new();
        for (text, state) in texts.iter().zip(&mut states) {
            let end = text.tokens.len().min(start + MAX_STEP_TOKENS);
            let Some(piece) = text.tokens.get(start..end).filter(|piece| !piece.is_empty()) else { continue };
            executor.append(state, piece.len())?;
            let outputs = match wanted.outputs {
                Outputs::Last if end < text.tokens.len() => Outputs::None,
                Outputs::First if start > 0 => Outputs::None,
                outputs => outputs,
            };
            let (input, state, span) = (Input::Tokens(piece), Some(state), text.tokens.len());
            segments.push(Segment { input, state, outputs, span });
        }
        let counts: Vec<usize> =
            segments.iter().map(|segment| rows_of(executor.spec(), segment, wanted)).collect();
        let output = executor.run(0..executor.spec().layers.len(), &mut segments, wanted.want, priority)?;
        width = output.width();
        let mut rows = output.rows();
        let in_piece = texts.iter().zip(&mut values).filter(|(text, _)| text.tokens.len() > start);
        for ((_, values), count) in in_piece.zip(counts) {
            values.extend(rows.by_ref().take(count).flatten());
        }
        Ok::<_, hub_nn::Error>(true)
    });
    states.into_iter().for_each(|state| executor.release(state));
    Ok(ran?.then(|| values.into_iter().map(|values| Output::new(values, width)).collect()))
}

/// Runs whole texts in one step of a model whose rows all see each other.
fn run_at_once<'a>(
    executor: &mut dyn Executor,
    texts: &[&'a Text],
    wanted: Wanted,
    priority: Priority,
) -> Result<Vec<Output>, hub_nn::Error> {
    let segment = |text: &'a Text| Segment {
        input: Input::TypedTokens(&text.tokens, &text.types),
        state: None,
        outputs: wanted.outputs,
        span: text.tokens.len(),
    };
    let mut segments: Vec<Segment<'_>> = texts.iter().copied().map(segment).collect();
    let counts: Vec<usize> =
        segments.iter().map(|segment| rows_of(executor.spec(), segment, wanted)).collect();
    let output = executor.run(0..executor.spec().layers.len(), &mut segments, wanted.want, priority)?;
    let mut rows = output.rows();
    let part = |count| Output::new(rows.by_ref().take(count).flatten().copied().collect(), output.width());
    Ok(counts.into_iter().map(part).collect())
}

/// Returns how many rows come of a segment.
fn rows_of(spec: &ModelSpec, segment: &Segment<'_>, wanted: Wanted) -> usize {
    let is_mean = spec.head.pooled().is_some_and(|pooled| pooled.pooling == RowPooling::Mean);
    match segment.outputs {
        Outputs::None => 0,
        // The head makes one row of them.
        Outputs::All if is_mean && wanted.want == Want::Head => 1,
        Outputs::All => segment.input.rows(spec.hidden_size),
        Outputs::First | Outputs::Last => 1,
    }
}

/// Takes the texts of the next step, one from each job that may take part and again, so that a job of thousands of
/// texts holds up no other. Returns the job and the text of each.
fn choose(jobs: &mut VecDeque<Running>, may_join: impl Fn(&Ask) -> bool) -> Vec<(usize, usize)> {
    let mut rows = 0;
    let mut chosen = Vec::new();
    loop {
        let before = chosen.len();
        for (at, running) in jobs.iter_mut().enumerate().filter(|(_, running)| may_join(&running.job.ask)) {
            let Some(&text) = running.left.last() else { continue };
            let count = running.job.ask.texts[text].tokens.len();
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
