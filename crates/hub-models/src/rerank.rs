use std::sync::Arc;

use hub_base::{Account, CancelToken, Task};
use hub_nn::{
    Device, Priority,
    executor::{Outputs, Want},
    tokens::Tokenizer,
};

use crate::{
    Error, LoadOptions, ModelInfo, Source,
    bundle::Bundle,
    encoder::{Encoder, Text, Wanted},
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
        let (info, tokenizer) = (bundle.info(), bundle.tokenizer()?);
        let (name, queue) = (source.thread_name(), options.queue);
        let device = options.device.clone().unwrap_or_else(|| Device::cpu(Account::unlimited()));
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
    /// [`Error::Empty`] if there is no document, [`Error::TooLarge`] if query and document are longer than the model
    /// takes, [`Error::Busy`] if too many requests wait.
    pub fn rerank(&self, query: &str, documents: &[String], cancel: CancelToken) -> Result<Ranking, Error> {
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
        let texts = texts.collect::<Result<Vec<Text>, Error>>()?;
        let prompt_tokens = texts.iter().map(|text| text.tokens.len()).sum();
        let wanted = Wanted { want: Want::Head, outputs: Outputs::First };
        let rows = self.0.encoder.run(texts, wanted, Priority::Interactive, cancel)?;
        let score = |row: &[f32]| 1.0 / (1.0 + (-row[0]).exp());
        let scores = rows.iter().flat_map(|output| output.rows().map(score)).collect();
        Ok(Ranking { scores, prompt_tokens })
    }
}
