use std::{num::NonZeroU32, time::Duration};

use hub_base::{CancelToken, ProgressSink};
use hub_nn::{Device, Priority, executor::ExecutorOptions, weights::PackedPlace};
use serde::{Deserialize, Serialize};

use crate::{Error, Preset};

/// How a model is opened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LoadOptions {
    /// Where it runs; the processor with an unlimited account if `None`.
    pub device: Option<Device>,
    /// What runs it, and how sequences are kept.
    pub executor: ExecutorOptions,
    /// The longest sequence to serve, in tokens; what the model was made for and the device's account holds if
    /// `None`.
    pub context_tokens: Option<usize>,
    /// How many requests may wait in front of the model; one more is refused as busy.
    pub queue: usize,
    /// How many sequences share one step at most. Memory may allow fewer.
    pub max_sequences: usize,
    /// How many prompt tokens one step computes at most, so that running streams keep flowing.
    pub prefill_tokens: usize,
    /// A stream whose reader takes nothing for this long is ended.
    pub stalled_reader: Duration,
    /// What is said of the model's use beside its files.
    pub preset: Preset,
    /// A file that keeps the model's packed weights, so that the next load need not pack them again; none if `None`.
    pub packed_file: Option<PackedPlace>,
    /// Where progress of loading is sent.
    pub progress: ProgressSink,
    /// Stops the loading.
    pub cancel: CancelToken,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            device: None,
            executor: ExecutorOptions::default(),
            context_tokens: None,
            queue: 256,
            max_sequences: 64,
            prefill_tokens: 256,
            stalled_reader: Duration::from_secs(60),
            preset: Preset::default(),
            packed_file: None,
            progress: ProgressSink::default(),
            cancel: CancelToken::new(),
        }
    }
}

impl LoadOptions {
    /// Runs the model on `device`, whose account pays for it.
    pub fn device(mut self, device: Device) -> Self {
        self.device = Some(device);
        self
    }

    /// Runs the model as `executor` says.
    pub fn executor(mut self, executor: ExecutorOptions) -> Self {
        self.executor = executor;
        self
    }

    /// Serves sequences of at most `tokens`.
    pub fn context_tokens(mut self, tokens: usize) -> Self {
        self.context_tokens = Some(tokens);
        self
    }

    /// Lets at most `requests` wait in front of the model.
    pub fn queue(mut self, requests: usize) -> Self {
        self.queue = requests;
        self
    }

    /// Lets at most `sequences` share a step.
    pub fn max_sequences(mut self, sequences: usize) -> Self {
        self.max_sequences = sequences;
        self
    }

    /// Computes at most `tokens` of prompts in a step.
    pub fn prefill_tokens(mut self, tokens: usize) -> Self {
        self.prefill_tokens = tokens;
        self
    }

    /// Ends streams whose reader takes nothing for `limit`.
    pub fn stalled_reader(mut self, limit: Duration) -> Self {
        self.stalled_reader = limit;
        self
    }

    /// Goes by what is said of the model's use beside its files.
    pub fn preset(mut self, preset: Preset) -> Self {
        self.preset = preset;
        self
    }

    /// Keeps the model's packed weights in a file, which is written if it is not there or no longer fits.
    pub fn packed_file(mut self, place: PackedPlace) -> Self {
        self.packed_file = Some(place);
        self
    }

    /// Sends progress to `sink`.
    pub fn progress(mut self, sink: ProgressSink) -> Self {
        self.progress = sink;
        self
    }

    /// Stops the loading once `token` is set.
    pub fn cancel(mut self, token: CancelToken) -> Self {
        self.cancel = token;
        self
    }
}

/// How an answer is generated.
///
/// What is `None` in `sampling` follows the model's own `generation_config.json`, else its neutral value.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GenerateOptions {
    /// How the next token is drawn.
    pub sampling: SamplingOptions,
    /// The most tokens an answer has; what the context leaves if `None`.
    pub max_tokens: Option<usize>,
    /// Whether `max_tokens` is cut to what the context leaves; a request that asks for more is refused otherwise.
    pub cuts_max_tokens: bool,
    /// The fewest tokens an answer has: the tokens that end an answer are not drawn before.
    pub min_tokens: usize,
    /// Texts that end an answer; they are not part of it.
    pub stop: Vec<String>,
    /// What the tokens that end an answer do.
    pub end: EndTokens,
    /// Reports the logarithm of the probability of each token, and of this many likeliest others (0 to 20).
    pub logprobs: Option<u8>,
    /// Reports the same for the tokens of the prompt.
    pub prompt_logprobs: Option<u8>,
    /// How many answers are drawn, each with its own random numbers.
    pub choices: NonZeroU32,
    /// Who goes first when the device is contended.
    pub priority: Priority,
}

/// What the tokens that end an answer do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EndTokens {
    /// End the answer.
    #[default]
    Stop,
    /// Are never drawn, so the answer goes on to its limit.
    Ignore,
}

/// What a request says of sampling; `None` leaves it to the model's own configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
#[non_exhaustive]
pub struct SamplingOptions {
    /// 0 takes the likeliest token; 1 draws from the model's own distribution.
    pub temperature: Option<f32>,
    /// Draws among this many likeliest tokens; 0 does not cut.
    pub top_k: Option<u32>,
    /// Draws among the likeliest tokens that hold this much of the probability.
    pub top_p: Option<f32>,
    /// Draws among tokens at least this probable relative to the likeliest.
    pub min_p: Option<f32>,
    /// Divides the score of tokens already seen; 1 does nothing.
    pub repetition_penalty: Option<f32>,
    /// Subtracted once from the score of tokens already generated.
    pub presence_penalty: Option<f32>,
    /// Subtracted from the score of a token for each time it was generated.
    pub frequency_penalty: Option<f32>,
    /// Added to the scores of these tokens.
    pub logit_bias: Vec<(u32, f32)>,
    /// Makes the answer repeatable; a fresh one is drawn if `None`.
    pub seed: Option<u64>,
}

impl SamplingOptions {
    /// Returns these, with what they leave open as `others` say.
    pub fn or(self, others: &Self) -> Self {
        Self {
            temperature: self.temperature.or(others.temperature),
            top_k: self.top_k.or(others.top_k),
            top_p: self.top_p.or(others.top_p),
            min_p: self.min_p.or(others.min_p),
            repetition_penalty: self.repetition_penalty.or(others.repetition_penalty),
            presence_penalty: self.presence_penalty.or(others.presence_penalty),
            frequency_penalty: self.frequency_penalty.or(others.frequency_penalty),
            logit_bias: if self.logit_bias.is_empty() { others.logit_bias.clone() } else { self.logit_bias },
            seed: self.seed.or(others.seed),
        }
    }
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self {
            sampling: SamplingOptions::default(),
            max_tokens: None,
            cuts_max_tokens: false,
            min_tokens: 0,
            stop: Vec::new(),
            end: EndTokens::default(),
            logprobs: None,
            prompt_logprobs: None,
            choices: NonZeroU32::MIN,
            priority: Priority::default(),
        }
    }
}

impl GenerateOptions {
    /// Generates at most `tokens`.
    pub fn max_tokens(mut self, tokens: usize) -> Self {
        self.max_tokens = Some(tokens);
        self
    }

    /// Generates at least `tokens`.
    pub fn min_tokens(mut self, tokens: usize) -> Self {
        self.min_tokens = tokens;
        self
    }

    /// Draws tokens as `sampling` says.
    pub fn sampling(mut self, sampling: SamplingOptions) -> Self {
        self.sampling = sampling;
        self
    }

    /// Takes the likeliest token each time.
    pub fn greedy(mut self) -> Self {
        self.sampling.temperature = Some(0.0);
        self
    }

    /// Makes the answer repeatable.
    pub fn seed(mut self, seed: u64) -> Self {
        self.sampling.seed = Some(seed);
        self
    }

    /// Ends the answer at `text`, which is not part of it.
    pub fn stop(mut self, text: impl Into<String>) -> Self {
        self.stop.push(text.into());
        self
    }

    /// Says what the tokens that end an answer do.
    pub fn end(mut self, end: EndTokens) -> Self {
        self.end = end;
        self
    }

    /// Reports probabilities of each token and of the `top` likeliest others.
    pub fn logprobs(mut self, top: u8) -> Self {
        self.logprobs = Some(top);
        self
    }

    /// Draws this many answers.
    pub fn choices(mut self, choices: NonZeroU32) -> Self {
        self.choices = choices;
        self
    }

    /// Says who goes first when the device is contended.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }
}

/// How texts become vectors.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct EmbedOptions {
    /// Keeps this many of a vector's first numbers and normalises again; all if `None`.
    pub dimensions: Option<usize>,
    /// What the model's authors put before a text that is used here; inputs that are tokens have it already.
    pub prompt: EmbedPrompt,
    /// Also returns the weight of each token (bge-m3).
    pub sparse: bool,
    /// Also returns a vector for each token (bge-m3).
    pub multi_vector: bool,
    /// What happens to a text over the model's limit.
    pub too_long: TooLong,
    /// Who goes first when the device is contended.
    pub priority: Priority,
    /// Stops the work once it is set; the call then fails as cancelled.
    pub cancel: CancelToken,
}

/// Which of the prompts that a model's files name stands before a text (`config_sentence_transformers.json`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum EmbedPrompt {
    /// The one that the files use where none is named; most use none.
    #[default]
    Default,
    /// The one for what is searched for: `query`. The default where the files name none.
    Query,
    /// The one for what is searched: `document`, `passage` or `corpus`. The default where the files name none.
    Document,
    /// The one of this name.
    Named(String),
}

impl From<String> for EmbedPrompt {
    /// Reads a name: `query` and `document` mean what stands for them in the files, and may be named otherwise there.
    fn from(name: String) -> Self {
        match name.as_str() {
            "query" => Self::Query,
            "document" => Self::Document,
            _ => Self::Named(name),
        }
    }
}

/// What happens to a text over a model's limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TooLong {
    /// The request is refused with the numbers.
    #[default]
    Refuse,
    /// The text is cut to the limit, as sentence-transformers does.
    Cut,
}

impl EmbedOptions {
    /// Keeps this many of a vector's first numbers.
    pub fn dimensions(mut self, dimensions: usize) -> Self {
        self.dimensions = Some(dimensions);
        self
    }

    /// Puts this before texts.
    pub fn prompt(mut self, prompt: EmbedPrompt) -> Self {
        self.prompt = prompt;
        self
    }

    /// Stops the work once `token` is set.
    pub fn cancel(mut self, token: CancelToken) -> Self {
        self.cancel = token;
        self
    }

    /// Says what happens to a text over the model's limit.
    pub fn too_long(mut self, too_long: TooLong) -> Self {
        self.too_long = too_long;
        self
    }
}

/// How documents are scored.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RerankOptions {
    /// What a model that judges is told to look for, in place of what its files say.
    pub instruction: Option<String>,
    /// Stops the work once it is set; the call then fails as cancelled.
    pub cancel: CancelToken,
}

impl RerankOptions {
    /// Tells a model that judges what to look for.
    pub fn instruction(mut self, instruction: impl Into<String>) -> Self {
        self.instruction = Some(instruction.into());
        self
    }

    /// Stops the work once `token` is set.
    pub fn cancel(mut self, token: CancelToken) -> Self {
        self.cancel = token;
        self
    }
}

/// The most texts that may end an answer, and the longest of them in bytes.
const MAX_STOPS: usize = 64;
const MAX_STOP_BYTES: usize = 1_024;

/// Checks the texts that end an answer.
pub(crate) fn check_stops(stops: &[String]) -> Result<(), Error> {
    let fits = |stop: &String| !stop.is_empty() && stop.len() <= MAX_STOP_BYTES;
    if stops.len() <= MAX_STOPS && stops.iter().all(fits) {
        return Ok(());
    }
    let reason = format!("must be at most {MAX_STOPS} texts of 1 to {MAX_STOP_BYTES} bytes");
    Err(Error::InvalidOption { name: "stop", reason })
}
