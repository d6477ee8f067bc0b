use std::{
    collections::BTreeMap,
    panic::resume_unwind,
    time::{Duration, Instant},
};

use hub_base::{Progress, Task};
use hub_models::{
    EmbedOptions, EmbeddingModel, EndTokens, GenerateOptions, Input, LoadOptions, Prompt, Reply,
    RerankOptions, Reranker, Source, TextModel, TooLong, Usage,
};
use hub_nn::Device;

use crate::{
    Result,
    bench::{BenchOptions, BenchReport, Limits, Rate, Spread, bound::Bound, peak::PeakWatch},
};

/// What documents are ranked by.
const QUERY: &str = "which words are these";
/// How many times a model is loaded at most: each time reads all of it.
const MAX_LOADS: usize = 3;
/// How many times several requests at once are measured at most: the larger ones take long.
const MAX_BATCHES: usize = 3;
/// Length of the prompts of a batch: so short that one step reads all of them, and the answers begin together.
const BATCH_PROMPT_TOKENS: usize = 16;
/// How many texts an encoder gets at a time.
const TEXTS: usize = 8;

/// A model under test.
pub(super) struct Subject {
    pub(super) source: Source,
    pub(super) device: Device,
    pub(super) load: LoadOptions,
    pub(super) options: BenchOptions,
}

impl Subject {
    pub(super) fn language_model(&self) -> Result<BenchReport> {
        self.check_parallel()?;
        let (model, mut report) = self.loaded(Task::Chat, TextModel::open)?;
        let bound = Bound { limits: report.limits, work: model.info().work };
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
            let runs = self.runs().min(MAX_BATCHES);
            for run in 0..runs {
                self.report("several requests", run, runs);
                let watch = PeakWatch::start();
                let prompts = (0..parallel.get()).map(|at| tokens(short, vocab, run * parallel.get() + at));
                let replies: std::result::Result<Vec<_>, _> = prompts
                    .map(|prompt| model.submit(model.prepare(&Prompt::Tokens(prompt))?, options.clone()))
                    .collect();
                rates.push(together(&all_usages(replies?)?));
                peaks.push(watch.stop());
            }
            let limit = bound.tokens_per_s(parallel.get(), parallel.get());
            report.batch.insert(parallel.get(), Rate::of(rates, limit));
        }

        let per_s = |count: usize, time: Duration| count as f64 / time.as_secs_f64().max(1e-9);
        let usages = || singles.iter().map(|(_, usage)| usage);
        let read = usages().map(|usage| per_s(usage.prompt_tokens, usage.prefill));
        report.prefill = Some(Rate::of(read.collect(), bound.tokens_per_s(prompt_tokens, 1)));
        let decoded = |usage: &Usage| per_s(usage.completion_tokens.saturating_sub(1), usage.decode);
        report.decode = Some(Rate::of(usages().map(decoded).collect(), bound.tokens_per_s(1, 1)));
        let first = singles.iter().map(|(preparing, usage)| ms(*preparing + usage.queue + usage.prefill));
        report.first_token_ms = Some(Spread::of(first.collect()));
        report.peak_bytes = Spread::of(peaks);
        (report.prompt_tokens, report.gen_tokens) = (prompt_tokens, gen_tokens);
        Ok(report)
    }

    /// Refuses more requests at once than the model's queue holds.
    fn check_parallel(&self) -> Result<()> {
        let most = self.load.queue;
        if self.options.parallel.iter().all(|parallel| parallel.get() <= most) {
            return Ok(());
        }
        let reason =
            format!("must be at most {most}, which is how many requests may wait in front of a model");
        Err(hub_models::Error::InvalidOption { name: "parallel", reason }.into())
    }

    pub(super) fn embedding_model(&self) -> Result<BenchReport> {
        let (model, mut report) = self.loaded(Task::Embed, EmbeddingModel::open)?;
        let length = self.options.prompt_tokens.clamp(1, model.max_tokens());
        // Special tokens are added to the text, which is cut to make room for them.
        let options = EmbedOptions::default().too_long(TooLong::Cut);
        let vocab = model.info().vocab_size;
        let limit = Bound { limits: report.limits, work: model.info().work }.tokens_per_s(TEXTS * length, 0);
        let (rate, peak) = self.texts(limit, |run| {
            let inputs =
                (0..TEXTS).map(|at| Input::Tokens(tokens(length, vocab, run * TEXTS + at))).collect();
            Ok(model.embed(inputs, options.clone())?.prompt_tokens)
        })?;
        (report.embeddings, report.peak_bytes, report.prompt_tokens) = (Some(rate), peak, length);
        Ok(report)
    }

    pub(super) fn reranker(&self) -> Result<BenchReport> {
        let (model, mut report) = self.loaded(Task::Rerank, Reranker::open)?;
        // A short English word is about a token; half the length leaves room where it is not.
        let mut length = self.options.prompt_tokens.clamp(2, model.info().context_tokens) / 2;
        let words = |length: usize| {
            let document = |at: usize| ["one", "two", "ten"][at % 3].to_owned() + &" word".repeat(length);
            (0..TEXTS).map(document).collect::<Vec<_>>()
        };
        let mut documents = words(length);
        // Where a word is several tokens, as many words as there is room for.
        while length > 1
            && let Err(hub_models::Error::TooLarge { asked, limit }) =
                model.prepare(QUERY, &documents, RerankOptions::default())
        {
            length = (length * limit / asked.max(1)).clamp(1, length - 1);
            documents = words(length);
        }
        let bound = Bound { limits: report.limits, work: model.info().work };
        let (rate, peak) = self.texts(bound.tokens_per_s(TEXTS * 2 * length, TEXTS), |_| {
            Ok(model.rerank(QUERY, &documents, RerankOptions::default())?.prompt_tokens)
        })?;
        (report.rerank, report.peak_bytes, report.prompt_tokens) = (Some(rate), peak, length);
        Ok(report)
    }

    /// Measures how many tokens a second `read` reads, where `limit` would be the most; it is given the number of the
    /// run.
    fn texts(&self, limit: f64, read: impl Fn(usize) -> Result<usize>) -> Result<(Rate, Spread)> {
        let (mut rates, mut peaks) = (Vec::new(), Vec::new());
        for run in 0..self.runs() {
            self.report("texts", run, self.runs());
            let watch = PeakWatch::start();
            let start = Instant::now();
            let tokens = read(run)?;
            rates.push(tokens as f64 / start.elapsed().as_secs_f64().max(1e-9));
            peaks.push(watch.stop());
        }
        Ok((Rate::of(rates, limit), Spread::of(peaks)))
    }

    /// Loads the model several times and keeps the last, with a report that has nothing else yet.
    fn loaded<M>(
        &self,
        task: Task,
        open: fn(Source, LoadOptions) -> std::result::Result<M, hub_models::Error>,
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
            device: self.device.name().to_owned(),
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
            limits: self.limits()?,
        };
        Ok((model, report))
    }

    fn limits(&self) -> Result<Limits> {
        let (mut read, mut ops, mut byte_ops) = (Vec::new(), Vec::new(), Vec::new());
        for run in 0..self.runs() {
            self.report("limits of the device", run, self.runs());
            let limits = self.device.measure()?;
            read.push(limits.read_bytes_per_s);
            ops.push(limits.ops_per_s);
            byte_ops.push(limits.byte_ops_per_s);
        }
        Ok(Limits {
            read_bytes_per_s: Spread::of(read),
            ops_per_s: Spread::of(ops),
            byte_ops_per_s: Spread::of(byte_ops),
        })
    }

    fn runs(&self) -> usize {
        self.options.runs.get()
    }

    fn report(&self, stage: &'static str, done: usize, total: usize) {
        self.options.progress.report(Progress { stage, done: done as u64, total: total as u64 });
    }
}

/// Returns the tokens a second of answers that began together: all but their first ones, over the longest of them.
fn together(usages: &[Usage]) -> f64 {
    let tokens: usize = usages.iter().map(|usage| usage.completion_tokens.saturating_sub(1)).sum();
    let longest = usages.iter().map(|usage| usage.decode).max().unwrap_or_default();
    tokens as f64 / longest.as_secs_f64().max(1e-9)
}

/// Waits for the ends of several answers, each read by a thread of its own: an answer whose reader lags stops for it.
fn all_usages(replies: Vec<Reply>) -> Result<Vec<Usage>> {
    std::thread::scope(|scope| {
        let readers: Vec<_> = replies.into_iter().map(|reply| scope.spawn(|| last_usage(reply))).collect();
        readers.into_iter().map(|reader| reader.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    })
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
    fn made_up_prompts_differ_and_stay_inside_the_vocabulary() {
        for vocab in [1, 50, 101, 32_000] {
            assert!(tokens(600, vocab, 3).iter().all(|id| (*id as usize) < vocab), "{vocab}");
        }
        assert_ne!(tokens(16, 32_000, 0), tokens(16, 32_000, 1));
    }
}
