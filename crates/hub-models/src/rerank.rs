use std::sync::Arc;

use hub_base::{Account, CancelToken, Task};
use hub_nn::{
    Device, Priority,
    executor::{Output, Outputs, Want},
    tokens::Tokenizer,
};

use crate::{
    Error, LoadOptions, ModelInfo, Pending, Source,
    bundle::Bundle,
    encoder::{Ask, Encoder, Text, Wanted},
    engine::executor_loader,
};

/// A cross-encoder that scores documents against a query, loaded and ready.
///
/// Clones share it. It owns one thread, which ends when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Reranker(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    info: ModelInfo,
    tokenizer: Tokenizer,
    encoder: Encoder,
}

/// How well documents answer a query.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranking {
    /// One score a document, in their order, 0 to 1: the logistic function of what the model says.
    pub scores: Vec<f32>,
    /// Tokens of all pairs of query and document.
    pub prompt_tokens: usize,
}

/// Pairs of query and document in tokens, checked.
#[derive(Clone, Debug)]
pub struct PreparedPairs {
    texts: Vec<Text>,
}

impl Reranker {
    /// Loads a model. Blocks until its weights are in memory.
    ///
    /// # Errors
    /// Where the files are missing, damaged or of an unknown kind, where the model is no cross-encoder with one score
    /// ([`Error::WrongTask`]), and where its weights do not fit the device's account ([`Error::Memory`]).
    pub fn open(source: impl Into<Source>, options: LoadOptions) -> Result<Self, Error> {
        let source = source.into();
        let bundle = Bundle::open(&source)?;
        bundle.expect(Task::Rerank)?;
        let tokenizer = bundle.tokenizer()?;
        let (name, queue) = (source.thread_name(), options.queue);
        let device = options.device.clone().unwrap_or_else(|| Device::cpu(Account::unlimited()));
        let info = bundle.info(options.executor.for_device(&device));
        let encoder = Encoder::start(&name, queue, executor_loader(bundle, device, options))?;
        Ok(Self(Arc::new(Inner { info, tokenizer, encoder })))
    }

    /// Returns what the model is.
    pub fn info(&self) -> &ModelInfo {
        &self.0.info
    }

    /// Returns the bytes of its weights in memory.
    pub fn weight_bytes(&self) -> u64 {
        self.0.encoder.weight_bytes()
    }

    /// Scores documents against a query. Blocks until all are done, or `cancel` is set.
    ///
    /// Checked against the cross-encoders of sentence-transformers.
    ///
    /// # Errors
    /// Those of [`prepare`](Self::prepare) and [`submit`](Self::submit).
    pub fn rerank(&self, query: &str, documents: &[String], cancel: CancelToken) -> Result<Ranking, Error> {
        self.submit(self.prepare(query, documents)?, cancel)?.wait()
    }

    /// Turns a query and documents into tokens and checks them.
    ///
    /// # Errors
    /// [`Error::Empty`] if there is no document, [`Error::TooLarge`] if query and document are longer than the model
    /// takes.
    pub fn prepare(&self, query: &str, documents: &[String]) -> Result<PreparedPairs, Error> {
        if documents.is_empty() {
            return Err(Error::Empty { what: "the list of documents" });
        }
        let limit = self.0.info.context_tokens;
        let texts = documents.iter().map(|document| {
            let pair = self.0.tokenizer.encode_pair(query, document)?;
            match pair.ids.len() {
                asked if asked > limit => Err(Error::TooLarge { asked, limit }),
                _ => Ok(Text { tokens: pair.ids, types: pair.types }),
            }
        });
        Ok(PreparedPairs { texts: texts.collect::<Result<_, Error>>()? })
    }

    /// Starts scoring. Returns at once.
    ///
    /// # Errors
    /// [`Error::Busy`] if too many requests wait.
    pub fn submit(&self, prepared: PreparedPairs, cancel: CancelToken) -> Result<Pending<Ranking>, Error> {
        let PreparedPairs { texts } = prepared;
        let prompt_tokens = texts.iter().map(|text| text.tokens.len()).sum();
        let wanted = Wanted { want: Want::Head, outputs: Outputs::First };
        // The logistic function of the one number a cross-encoder gives.
        let score = |number: &f32| 1.0 / (1.0 + (-number).exp());
        let reduce = Arc::new(move |rows: &Output| rows.rows().flatten().take(1).map(score).collect());
        let encoder = &self.0.encoder;
        let ask = Ask { texts, wanted, reduce, priority: Priority::Interactive, cancel };
        let finish = move |scores: Vec<Vec<f32>>| Ranking { scores: scores.concat(), prompt_tokens };
        Ok(Pending::new(encoder.submit(ask)?, encoder, finish))
    }
}
