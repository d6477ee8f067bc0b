//! Texts into vectors.

use std::sync::Arc;

use hub_base::{ModelId, ProgressSink, Task};
use hub_models::{EmbedOptions, Input, TextForms};
use hub_router::Request;
use tracing::instrument;

use crate::{Caller, Error, Hub, Result, config::KeepAlive, meter::Meter, open::blocking};

/// Texts to turn into vectors.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EmbedRequest {
    /// A model, an alias, or `auto`.
    pub model: String,
    /// The texts, or their tokens.
    pub inputs: Vec<Input>,
    /// How they become vectors.
    pub options: EmbedOptions,
    /// How long the model stays after the answer; as the settings say if `None`.
    pub keep_alive: Option<KeepAlive>,
    /// Who asks.
    pub caller: Caller,
}

/// The vectors of a request.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct EmbedReply {
    /// The id of the request.
    pub request_id: String,
    /// The model that made them.
    pub model: ModelId,
    /// Why that model, in a few words.
    pub route: String,
    /// One vector an input, in the order of the inputs.
    pub vectors: Vec<Vec<f32>>,
    /// What else was asked for of each input; empty if nothing was.
    pub forms: Vec<TextForms>,
    /// Tokens read.
    pub prompt_tokens: usize,
}

impl EmbedRequest {
    /// Asks `model` for the vectors of `inputs`.
    pub fn new(model: impl Into<String>, inputs: Vec<Input>) -> Self {
        Self {
            model: model.into(),
            inputs,
            options: EmbedOptions::default(),
            keep_alive: None,
            caller: Caller::default(),
        }
    }

    /// Makes the vectors as `options` say.
    #[must_use]
    pub fn options(mut self, options: EmbedOptions) -> Self {
        self.options = options;
        self
    }

    /// Keeps the model for so long after the answer.
    #[must_use]
    pub fn keep_alive(mut self, keep_alive: Option<KeepAlive>) -> Self {
        self.keep_alive = keep_alive;
        self
    }

    /// Says who asks.
    #[must_use]
    pub fn caller(mut self, caller: Caller) -> Self {
        self.caller = caller;
        self
    }
}

impl Hub {
    /// Turns texts into vectors with the first model the router names: vectors of two models do not compare, so
    /// there is no falling back.
    ///
    /// # Errors
    /// [`Error::Router`] if no model can embed; otherwise what the model failed of.
    #[instrument(name = "hub.embed", skip_all, fields(model = %request.model, inputs = request.inputs.len()))]
    pub async fn embed(&self, request: EmbedRequest) -> Result<EmbedReply> {
        let EmbedRequest { model, inputs, options, keep_alive, caller } = request;
        let mut meter = Meter::new(self.store(), caller, Task::Embed, &model);
        let embedded = self.embed_with(&model, inputs, options, keep_alive, &mut meter).await;
        meter.close(&embedded);
        embedded
    }

    async fn embed_with(
        &self,
        model: &str,
        inputs: Vec<Input>,
        options: EmbedOptions,
        keep_alive: Option<KeepAlive>,
        meter: &mut Meter,
    ) -> Result<EmbedReply> {
        let longest = inputs.iter().map(estimate).max().unwrap_or(0);
        let request = Request { model, task: Task::Embed, prompt_tokens: longest, max_tokens: None };
        let planned = self.plan_one(&request).await?;
        meter.model(&planned.candidate.model);
        let lease = self.registry().get(&planned.installed, keep_alive, ProgressSink::default()).await?;
        let lease = Arc::new(lease);
        // With the lease, so that the model counts as in use although the caller may have left.
        let (used, registry) = (Arc::clone(&lease), self.registry().clone());
        let pending = blocking(move || {
            let model = used.embedding()?;
            let submitted = model.prepare(inputs, options).and_then(|prepared| model.submit(prepared));
            Ok::<_, Error>(submitted.inspect_err(|error| registry.reconsider(&used, error))?)
        });
        let embedded = pending.await??.ready().await;
        let embedded = embedded.inspect_err(|error| self.registry().reconsider(&lease, error))?;
        meter.prompt_tokens(embedded.prompt_tokens);
        lease.answered(&meter.usage());
        Ok(EmbedReply {
            request_id: meter.request_id().to_owned(),
            model: planned.candidate.model,
            route: planned.candidate.reason,
            vectors: embedded.vectors,
            forms: embedded.forms,
            prompt_tokens: embedded.prompt_tokens,
        })
    }
}

/// Estimates an input's tokens from above.
fn estimate(input: &Input) -> u64 {
    match input {
        Input::Text(text) => text.len().div_ceil(2) as u64,
        Input::Tokens(tokens) => tokens.len() as u64,
    }
}
