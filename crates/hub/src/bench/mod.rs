//! How fast a model is on this machine.
//!
//! A language model is measured by single requests (prompt, then answer) and by several at once; an encoder by the
//! tokens it reads. What the device reaches at best is measured beside it, so that a figure can be judged.

mod bound;
mod peak;
mod subject;

use std::{collections::BTreeMap, num::NonZeroUsize};

use hub_base::{ProgressSink, Task};
use serde::Serialize;

use crate::{Hub, Result, bench::subject::Subject, open::blocking};

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
        let parallel = [1, 4, 8, 16, 32].into_iter().filter_map(NonZeroUsize::new).collect();
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
    /// What it could be at most, by the limits of the device.
    pub limit_tokens_per_s: f64,
}

/// What a device reaches at best.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Limits {
    /// Bytes read from its memory in a second.
    pub read_bytes_per_s: Spread,
    /// Operations on `f32` in a second; a multiplication with an addition counts as two.
    pub ops_per_s: Spread,
    /// The same on bytes, which processors multiply weights of few bits as.
    pub byte_ops_per_s: Spread,
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

impl Hub {
    /// Measures a model in this process, apart from those in use.
    ///
    /// # Errors
    /// [`Error::NoSuchModel`](crate::Error::NoSuchModel), or what loading or running failed of.
    pub async fn bench(&self, name: &str, options: BenchOptions) -> Result<BenchReport> {
        let installed = self.model(name).await?;
        let device = self.registry().device().clone();
        let load = self.config().load_options(device.clone());
        blocking(move || {
            let subject = Subject { source: installed.files_source(), device, load, options };
            let mut report = match installed.task {
                Task::Chat => subject.language_model()?,
                Task::Embed => subject.embedding_model()?,
                Task::Rerank => subject.reranker()?,
            };
            report.model = installed.name.to_string();
            Ok(report)
        })
        .await?
    }
}

impl Rate {
    fn of(tokens_per_s: Vec<f64>, limit_tokens_per_s: f64) -> Self {
        Self { tokens_per_s: Spread::of(tokens_per_s), limit_tokens_per_s }
    }
}

impl Spread {
    /// Sums up runs; of an even number of them the median is the mean of the middle two. All 0 without any.
    pub fn of(mut runs: Vec<f64>) -> Self {
        runs.sort_by(f64::total_cmp);
        let at = |index: usize| runs.get(index).copied().unwrap_or(0.0);
        let half = runs.len() / 2;
        let median = if runs.len().is_multiple_of(2) {
            (at(half.saturating_sub(1)) + at(half)) / 2.0
        } else {
            at(half)
        };
        Self { median, min: at(0), max: at(runs.len().saturating_sub(1)) }
    }
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
}
