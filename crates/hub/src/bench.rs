//! How fast a model is on this machine.
//!
//! A language model is measured by single requests (prompt, then answer) and by several at once; an encoder by the
//! tokens it reads. What the device reaches at best is measured beside it, so that a figure can be judged.

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use hub_base::{Progress, ProgressSink, Task};
use hub_models::{
    EmbedOptions, EmbeddingModel, EndTokens, GenerateOptions, Input, LoadOptions, Prompt, Reply, Reranker,
    Source, TextModel, TooLong, Usage,
};
use serde::Serialize;

use crate::{Error, Hub, Result, open::blocking, os};

/// What is measured, and how often.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BenchOptions {
    /// Length of a prompt, in tokens. Prompt and answer are cut to the model's context.
    pub prompt_tokens: usize,
    /// Length of an answer, in tokens; at least 2.
    pub gen_tokens: usize,
    /// How many requests run at once, one figure each.
    pub parallel: Vec<NonZeroUsize>,
    /// How often each figure is measured.
    pub runs: NonZeroUsize,
    /// Where progress is sent, in figures.
    pub progress: ProgressSink,
}

impl Default for BenchOptions {
    fn default() -> Self {
        let parallel = [1, 4, 8].into_iter().filter_map(NonZeroUsize::new).collect();
        let runs = NonZeroUsize::MIN.saturating_add(4);
        Self { prompt_tokens: 512, gen_tokens: 64, parallel, runs, progress: ProgressSink::default() }
    }
}

/// What was measured. Parts that mean nothing for a task are `None`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct BenchReport {
    /// The model.
    pub model: String,
    /// What it does.
    pub task: Task,
    /// What it ran on.
    pub device: String,
    /// Length of the prompts, in tokens.
    pub prompt_tokens: usize,
    /// Length of the answers, in tokens.
    pub gen_tokens: usize,
    /// Reading a prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefill: Option<Rate>,
    /// Writing one answer after its first token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decode: Option<Rate>,
    /// Writing several answers at once after short prompts, all together.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub batch: BTreeMap<usize, Rate>,
    /// From a request to its first token, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_token_ms: Option<Spread>,
    /// Texts into vectors, eight at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embeddings: Option<Rate>,
    /// Scoring documents, eight at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rerank: Option<Rate>,
    /// From files to a model that answers, in milliseconds. The first load may find the files out of memory.
    pub load_ms: Spread,
    /// The most memory the process held.
    pub peak_bytes: Spread,
    /// What the device reaches at best.
    pub limits: Limits,
}

/// How many tokens a second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rate {
    /// The figure over the runs.
    pub tokens_per_s: Spread,
}

/// What a device reaches at best.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Limits {
    /// Bytes read from its memory in a second.
    pub read_bytes_per_s: Spread,
    /// Operations of 32 bits in a second, in a product of matrices; a multiplication with an addition counts as two.
    pub ops_per_s: Spread,
}

/// A figure over several runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Half of the runs are at most this.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The most.
    pub max: f64,
}

/// How many times a model is loaded at most: each time reads all of it.
const MAX_LOADS: usize = 3;
/// Length of the prompts of a batch: so short that one step reads all of them, and the answers begin together.
const BATCH_PROMPT_TOKENS: usize = 16;
/// How many texts an encoder gets at a time.
const TEXTS: usize = 8;

impl Hub {
    /// Measures a model in this process, apart from those in use.
    ///
    /// # Errors
    /// [`Error::NoSuchModel`], or what loading or running failed of.
    pub async fn bench(&self, name: &str, options: BenchOptions) -> Result<BenchReport> {
        let installed = self.model(name).await?;
        let device = self.registry().device().clone();
        let load = self.config().models.load_options(device.clone());
        blocking(move || {
            let subject = Subject { source: installed.source(), load, options };
            let mut report = match installed.task {
                Task::Chat => subject.language_model()?,
                Task::Embed => subject.embedding_model()?,
                Task::Rerank => subject.reranker()?,
            };
            report.limits = subject.limits()?;
            report.model = installed.name.to_string();
            device.name().clone_into(&mut report.device);
            Ok(report)
        })
        .await?
    }
}

/// A model under test.
struct Subject {
    source: Source,
    load: LoadOptions,
    options: BenchOptions,
}

impl Subject {
    fn language_model(&self) -> Result<BenchReport> {
        let (model, mut report) = self.loaded(Task::Chat, |source, load| TextModel::open(source, load))?;
        let vocab = model.info().vocab_size;
        let room = model.context_tokens();
        let gen_tokens = self.options.gen_tokens.clamp(2, (room / 2).max(2));
        let prompt_tokens = self.options.prompt_tokens.clamp(1, room.saturating_sub(gen_tokens).max(1));
        let options = GenerateOptions::default().greedy().max_tokens(gen_tokens).end(EndTokens::Ignore);

        let mut singles = Vec::new();
        let mut peaks = Vec::new();
        for run in 0..self.runs() {
            self.report("one request", run, self.runs());
            let watch = PeakWatch::start();
            let start = Instant::now();
            let prepared = model.prepare(&Prompt::Tokens(tokens(prompt_tokens, vocab, run)))?;
            let preparing = start.elapsed();
            singles.push((preparing, last_usage(model.submit(prepared, options.clone())?)?));
            peaks.push(watch.stop());
        }
        for &parallel in &self.options.parallel {
            let short = BATCH_PROMPT_TOKENS.min(prompt_tokens);
            let mut rates = Vec::new();
            for run in 0..self.runs() {
                self.report("several requests", run, self.runs());
                let watch = PeakWatch::start();
                let prompts = (0..parallel.get()).map(|at| tokens(short, vocab, run * parallel.get() + at));
                let replies: std::result::Result<Vec<_>, _> = prompts
                    .map(|prompt| model.submit(model.prepare(&Prompt::Tokens(prompt))?, options.clone()))
                    .collect();
                let usages: Result<Vec<_>> = replies?.into_iter().map(last_usage).collect();
                rates.push(together(&usages?));
                peaks.push(watch.stop());
            }
            report.batch.insert(parallel.get(), Rate::of(rates));
        }

        let per_s = |count: usize, time: Duration| count as f64 / time.as_secs_f64().max(1e-9);
        let usages = || singles.iter().map(|(_, usage)| usage);
        report.prefill =
            Some(Rate::of(usages().map(|usage| per_s(usage.prompt_tokens, usage.prefill)).collect()));
        let decoded = |usage: &Usage| per_s(usage.completion_tokens.saturating_sub(1), usage.decode);
        report.decode = Some(Rate::of(usages().map(decoded).collect()));
        let first = singles.iter().map(|(preparing, usage)| ms(*preparing + usage.queue + usage.prefill));
        report.first_token_ms = Some(Spread::of(first.collect()));
        report.peak_bytes = Spread::of(peaks);
        (report.prompt_tokens, report.gen_tokens) = (prompt_tokens, gen_tokens);
        Ok(report)
    }

    fn embedding_model(&self) -> Result<BenchReport> {
        let (model, mut report) =
            self.loaded(Task::Embed, |source, load| EmbeddingModel::open(source, load))?;
        let length = self.options.prompt_tokens.clamp(1, model.max_tokens());
        // Special tokens are added to the text, which is cut to make room for them.
        let options = EmbedOptions::default().too_long(TooLong::Cut);
        let vocab = model.info().vocab_size;
        let (rate, peak) = self.texts(|run| {
            let inputs =
                (0..TEXTS).map(|at| Input::Tokens(tokens(length, vocab, run * TEXTS + at))).collect();
            Ok(model.embed(inputs, options.clone())?.prompt_tokens)
        })?;
        (report.embeddings, report.peak_bytes, report.prompt_tokens) = (Some(rate), peak, length);
        Ok(report)
    }

    fn reranker(&self) -> Result<BenchReport> {
        let (model, mut report) = self.loaded(Task::Rerank, |source, load| Reranker::open(source, load))?;
        // A short English word is about a token; half the length leaves room where it is not.
        let length = self.options.prompt_tokens.clamp(2, model.info().context_tokens) / 2;
        let documents: Vec<String> =
            (0..TEXTS).map(|at| ["one", "two", "ten"][at % 3].to_owned() + &" word".repeat(length)).collect();
        let (rate, peak) =
            self.texts(|_| Ok(model.rerank("which words are these", &documents)?.prompt_tokens))?;
        (report.rerank, report.peak_bytes, report.prompt_tokens) = (Some(rate), peak, length);
        Ok(report)
    }

    /// Measures how many tokens a second `read` reads; it is given the number of the run.
    fn texts(&self, read: impl Fn(usize) -> Result<usize>) -> Result<(Rate, Spread)> {
        let (mut rates, mut peaks) = (Vec::new(), Vec::new());
        for run in 0..self.runs() {
            self.report("texts", run, self.runs());
            let watch = PeakWatch::start();
            let start = Instant::now();
            let tokens = read(run)?;
            rates.push(tokens as f64 / start.elapsed().as_secs_f64().max(1e-9));
            peaks.push(watch.stop());
        }
        Ok((Rate::of(rates), Spread::of(peaks)))
    }

    /// Loads the model several times and keeps the last, with a report that has nothing else yet.
    fn loaded<M>(
        &self,
        task: Task,
        open: impl Fn(Source, LoadOptions) -> std::result::Result<M, hub_models::Error>,
    ) -> Result<(M, BenchReport)> {
        let mut times = Vec::new();
        let loads = self.runs().min(MAX_LOADS);
        let mut open_one = || {
            self.report("loading", times.len(), loads);
            let start = Instant::now();
            let model = open(self.source.clone(), self.load.clone());
            times.push(ms(start.elapsed()));
            model
        };
        for _ in 1..loads {
            // Before the next: the budget need not hold two.
            drop(open_one()?);
        }
        let model = open_one()?;
        let report = BenchReport {
            model: String::new(),
            task,
            device: String::new(),
            prompt_tokens: 0,
            gen_tokens: 0,
            prefill: None,
            decode: None,
            batch: BTreeMap::new(),
            first_token_ms: None,
            embeddings: None,
            rerank: None,
            load_ms: Spread::of(times),
            peak_bytes: Spread::of(Vec::new()),
            limits: Limits { read_bytes_per_s: Spread::of(Vec::new()), ops_per_s: Spread::of(Vec::new()) },
        };
        Ok((model, report))
    }

    fn limits(&self) -> Result<Limits> {
        let Some(device) = &self.load.device else { return Err(Error::Stopped) };
        let (mut read, mut ops) = (Vec::new(), Vec::new());
        for run in 0..self.runs() {
            self.report("limits of the device", run, self.runs());
            let limits = device.measure()?;
            read.push(limits.read_bytes_per_s);
            ops.push(limits.ops_per_s);
        }
        Ok(Limits { read_bytes_per_s: Spread::of(read), ops_per_s: Spread::of(ops) })
    }

    fn runs(&self) -> usize {
        self.options.runs.get()
    }

    fn report(&self, stage: &'static str, done: usize, total: usize) {
        self.options.progress.report(Progress { stage, done: done as u64, total: total as u64 });
    }
}

impl Rate {
    fn of(tokens_per_s: Vec<f64>) -> Self {
        Self { tokens_per_s: Spread::of(tokens_per_s) }
    }
}

impl Spread {
    /// Sums up runs; of an even number of them the median is the mean of the middle two. All 0 without any.
    pub fn of(mut runs: Vec<f64>) -> Self {
        runs.sort_by(f64::total_cmp);
        let at = |index: usize| runs.get(index).copied().unwrap_or(0.0);
        let half = runs.len() / 2;
        let median =
            if runs.len() % 2 == 0 { (at(half.saturating_sub(1)) + at(half)) / 2.0 } else { at(half) };
        Self { median, min: at(0), max: at(runs.len().saturating_sub(1)) }
    }
}

/// Watches how much memory the process holds, ten times a second and at both ends.
struct PeakWatch {
    peak: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
}

impl PeakWatch {
    fn start() -> Self {
        let (peak, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (seen, over) = (Arc::clone(&peak), Arc::clone(&is_over));
        let look = move || {
            while !over.load(Ordering::Acquire) {
                seen.fetch_max(os::resident_bytes().unwrap_or(0), Ordering::AcqRel);
                thread::park_timeout(Duration::from_millis(100));
            }
        };
        Self { peak, is_over, thread: thread::spawn(look) }
    }

    fn stop(self) -> f64 {
        self.is_over.store(true, Ordering::Release);
        self.thread.thread().unpark();
        // A watcher that panicked has seen what it has seen.
        let _ = self.thread.join();
        let now = os::resident_bytes().unwrap_or(0);
        self.peak.load(Ordering::Acquire).max(now) as f64
    }
}

/// Returns the tokens a second of answers that began together: all but their first ones, over the longest of them.
fn together(usages: &[Usage]) -> f64 {
    let tokens: usize = usages.iter().map(|usage| usage.completion_tokens.saturating_sub(1)).sum();
    let longest = usages.iter().map(|usage| usage.decode).max().unwrap_or_default();
    tokens as f64 / longest.as_secs_f64().max(1e-9)
}

/// Waits for the end of an answer and returns what it cost.
fn last_usage(reply: Reply) -> Result<Usage> {
    let mut usage = Usage::default();
    for delta in reply.blocking() {
        usage = delta?.usage.unwrap_or(usage);
    }
    Ok(usage)
}

/// Makes up a prompt. Each `number` gives another, so that none can go on from what another left behind.
fn tokens(count: usize, vocab: usize, number: usize) -> Vec<u32> {
    // Any odd factor spreads them; the first hundred tokens of most vocabularies are special.
    let first = vocab.min(100);
    let span = (vocab - first).max(1);
    let token = |at: usize| first.min(vocab.saturating_sub(1)) + (at * 7_919 + number * 104_729) % span;
    (0..count).map(|at| u32::try_from(token(at).min(vocab.saturating_sub(1))).unwrap_or(0)).collect()
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_of_the_sorted_runs() {
        assert_eq!(Spread::of(vec![3.0, 1.0, 2.0]), Spread { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(Spread::of(vec![4.0, 1.0, 2.0, 3.0]), Spread { median: 2.5, min: 1.0, max: 4.0 });
        assert_eq!(Spread::of(Vec::new()), Spread { median: 0.0, min: 0.0, max: 0.0 });
    }

    #[test]
    fn made_up_prompts_differ_and_stay_inside_the_vocabulary() {
        for vocab in [1, 50, 101, 32_000] {
            assert!(tokens(600, vocab, 3).iter().all(|id| (*id as usize) < vocab), "{vocab}");
        }
        assert_ne!(tokens(16, 32_000, 0), tokens(16, 32_000, 1));
    }
}
