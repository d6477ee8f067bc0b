//! Documents scored against a query.

use std::sync::Arc;

use hub_base::{ModelId, ProgressSink, Task};
use hub_models::RerankOptions;
use hub_router::Request;
use tracing::instrument;

use crate::{Caller, Error, Hub, Result, meter::Meter, open::blocking};

/// Documents to score against a query.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RerankRequest {
    /// A model, an alias, or `auto`.
    pub model: String,
    /// What the documents are scored against.
    pub query: String,
    /// The documents.
    pub documents: Vec<String>,
    /// How they are scored.
    pub options: RerankOptions,
    /// Who asks.
    pub caller: Caller,
}

/// The scores of a request.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RerankReply {
    /// The id of the request.
    pub request_id: String,
    /// The model that scored.
    pub model: ModelId,
    /// Why that model, in a few words.
    pub route: String,
    /// One score a document, 0 to 1, in the order of the documents.
    pub scores: Vec<f32>,
    /// Tokens read.
    pub prompt_tokens: usize,
}

impl RerankReply {
    /// Returns the places and scores of the `top` best documents, best first; of equal ones the earlier comes first.
    pub fn best(&self, top: usize) -> Vec<(usize, f32)> {
        hub_models::best_scores(&self.scores, top)
    }
}

impl RerankRequest {
    /// Asks `model` to score `documents` against `query`.
    pub fn new(model: impl Into<String>, query: impl Into<String>, documents: Vec<String>) -> Self {
        Self {
            model: model.into(),
            query: query.into(),
            documents,
            options: RerankOptions::default(),
            caller: Caller::default(),
        }
    }

    /// Scores documents as `options` say.
    #[must_use]
    pub fn options(mut self, options: RerankOptions) -> Self {
        self.options = options;
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
    /// Scores documents against a query with the first model the router names.
    ///
    /// # Errors
    /// [`Error::Router`] if no model can rerank; otherwise what the model failed of.
    #[instrument(name = "hub.rerank", skip_all, fields(model = %request.model, documents = request.documents.len()))]
    pub async fn rerank(&self, request: RerankRequest) -> Result<RerankReply> {
        let RerankRequest { model, query, documents, options, caller } = request;
        let mut meter = Meter::new(self.store(), caller, Task::Rerank, &model);
        let ranked = self.rerank_with(&model, (query, documents), options, &mut meter).await;
        meter.close(&ranked);
        ranked
    }

    async fn rerank_with(
        &self,
        model: &str,
        (query, documents): (String, Vec<String>),
        options: RerankOptions,
        meter: &mut Meter,
    ) -> Result<RerankReply> {
        let longest = documents.iter().map(String::len).max().unwrap_or(0);
        let prompt_tokens = (query.len() + longest).div_ceil(2) as u64;
        let request = Request { model, task: Task::Rerank, prompt_tokens, max_tokens: None };
        let planned = self.plan_one(&request).await?;
        meter.model(&planned.candidate.model);
        let lease = Arc::new(self.registry().get(&planned.installed, None, ProgressSink::default()).await?);
        // With the lease, so that the model counts as in use although the caller may have left.
        let (used, registry) = (Arc::clone(&lease), self.registry().clone());
        let pending = blocking(move || {
            let model = used.reranker()?;
            let prepared = model.prepare(&query, &documents, options);
            let submitted = prepared.and_then(|prepared| model.submit(prepared));
            Ok::<_, Error>(submitted.inspect_err(|error| registry.reconsider(&used, error))?)
        });
        let ranked = pending.await??.ready().await;
        let ranked = ranked.inspect_err(|error| self.registry().reconsider(&lease, error))?;
        meter.prompt_tokens(ranked.prompt_tokens);
        lease.answered(&meter.usage());
        Ok(RerankReply {
            request_id: meter.request_id().to_owned(),
            model: planned.candidate.model,
            route: planned.candidate.reason,
            scores: ranked.scores,
            prompt_tokens: ranked.prompt_tokens,
        })
    }
}
