use std::sync::Arc;

use hub_base::{Account, Reservation, Task};
use hub_nn::{
    Device, Priority,
    executor::{Output, Outputs, Want},
    spec::RowPooling,
    tokens::Tokenizer,
};

use crate::{
    Error, LoadOptions, ModelInfo, Pending, RerankOptions, Source,
    bundle::Bundle,
    encoder::{Ask, Encoder, Text, Wanted},
    engine::executor_loader,
    judge::Scoring,
    pair::PairForm,
};

/// A cross-encoder, or a model of language that judges, which scores documents against a query, loaded and ready.
///
/// Clones share it. It owns one thread, which ends when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Reranker(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    info: ModelInfo,
    /// What it takes beside its weights and what sequences keep.
    _work: Reservation,
    tokenizer: Tokenizer,
    form: PairForm,
    scoring: Scoring,
    wanted: Wanted,
    encoder: Encoder,
}

/// How well documents answer a query.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranking {
    /// One score a document, in their order, 0 to 1: the logistic function of what a cross-encoder says, or how likely a
    /// model that judges says yes.
    pub scores: Vec<f32>,
    /// Tokens of all pairs of query and document.
    pub prompt_tokens: usize,
}

/// Returns the places and scores of the `top` best documents, best first; of equal ones the earlier comes first, and what is no
/// number is last.
pub fn best_scores(scores: &[f32], top: usize) -> Vec<(usize, f32)> {
    let mut ranked: Vec<(usize, f32)> = scores.iter().copied().enumerate().collect();
    ranked.sort_by(|(_, a), (_, b)| a.is_nan().cmp(&b.is_nan()).then(b.total_cmp(a)));
    ranked.truncate(top);
    ranked
}

/// Pairs of query and document in tokens, checked.
#[derive(Clone, Debug)]
pub struct PreparedPairs {
    texts: Vec<Text>,
    options: RerankOptions,
}

impl Reranker {
    /// Loads a model. Blocks until its weights are in memory.
    ///
    /// # Errors
    /// Where the files are missing, damaged or of an unknown kind, where the model scores nothing ([`Error::WrongTask`]),
    /// and where its weights do not fit the device's account ([`Error::Memory`]).
    pub fn open(source: impl Into<Source>, options: LoadOptions) -> Result<Self, Error> {
        let source = source.into();
        let bundle = Bundle::open(&source)?;
        bundle.expect(Task::Rerank)?;
        let tokenizer = bundle.tokenizer()?;
        let form = PairForm::of(&bundle, &tokenizer)?;
        let tokenizer = match form {
            PairForm::Framed => tokenizer.reading_controls_as_text(),
            PairForm::Rendered { .. } | PairForm::Written { .. } => tokenizer,
        };
        let outputs = match bundle.spec.head.pooled().map(|pooled| pooled.pooling) {
            Some(RowPooling::Mean) => Outputs::All,
            Some(RowPooling::Last) => Outputs::Last,
            Some(RowPooling::First) | None => Outputs::First,
        };
        let (wanted, scoring) = (Wanted { want: Want::Head, outputs }, bundle.scoring);
        let (name, queue) = (source.thread_name(), options.queue);
        let device = options.device.clone().unwrap_or_else(|| Device::cpu(Account::unlimited()));
        let info = bundle.info(options.executor.for_device(&device));
        let work = info.book_work(&device)?;
        let encoder = Encoder::start(&name, queue, executor_loader(bundle, device, options))?;
        Ok(Self(Arc::new(Inner { info, _work: work, tokenizer, form, scoring, wanted, encoder })))
    }

    /// Returns what the model is.
    pub fn info(&self) -> &ModelInfo {
        &self.0.info
    }

    /// Returns the bytes of its weights in memory.
    pub fn weight_bytes(&self) -> u64 {
        self.0.encoder.weight_bytes()
    }

    /// Scores documents against a query. Blocks until all are done.
    ///
    /// Checked against the cross-encoders of sentence-transformers.
    ///
    /// # Errors
    /// Those of [`prepare`](Self::prepare) and [`submit`](Self::submit).
    pub fn rerank(
        &self,
        query: &str,
        documents: &[String],
        options: RerankOptions,
    ) -> Result<Ranking, Error> {
        self.submit(self.prepare(query, documents, options)?)?.wait()
    }

    /// Turns a query and documents into tokens and checks them.
    ///
    /// # Errors
    /// [`Error::Empty`] if there is no document, [`Error::TooLarge`] if query and document are longer than the model
    /// takes, [`Error::InvalidOption`] for an instruction to a model that takes none.
    pub fn prepare(
        &self,
        query: &str,
        documents: &[String],
        options: RerankOptions,
    ) -> Result<PreparedPairs, Error> {
        if documents.is_empty() {
            return Err(Error::Empty { what: "the list of documents" });
        }
        let limit = self.0.info.context_tokens;
        let texts = documents.iter().map(|document| {
            let pair = (query, document.as_str());
            let text = self.0.form.encode(&self.0.tokenizer, pair, options.instruction.as_deref())?;
            match text.tokens.len() {
                asked if asked > limit => Err(Error::TooLarge { asked, limit }),
                _ => Ok(text),
            }
        });
        let texts = texts.collect::<Result<_, Error>>()?;
        Ok(PreparedPairs { texts, options })
    }

    /// Starts scoring. Returns at once.
    ///
    /// # Errors
    /// [`Error::Busy`] if too many requests wait.
    pub fn submit(&self, prepared: PreparedPairs) -> Result<Pending<Ranking>, Error> {
        let PreparedPairs { texts, options: RerankOptions { cancel, .. } } = prepared;
        let prompt_tokens = texts.iter().map(|text| text.tokens.len()).sum();
        let (wanted, scoring) = (self.0.wanted, self.0.scoring);
        let reduce =
            Arc::new(move |rows: &Output| rows.rows().take(1).map(|row| scoring.score(row)).collect());
        let encoder = &self.0.encoder;
        let ask = Ask { texts, wanted, reduce, priority: Priority::Interactive, cancel };
        let finish = move |scores: Vec<Vec<f32>>| Ranking { scores: scores.concat(), prompt_tokens };
        Ok(Pending::new(encoder.submit(ask)?, encoder, finish))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_come_first_and_what_is_no_number_last() {
        assert_eq!(best_scores(&[0.1, 0.9, 0.9, 0.5], 3), [(1, 0.9), (2, 0.9), (3, 0.5)]);
        assert_eq!(best_scores(&[0.1], usize::MAX), [(0, 0.1)]);
        let places: Vec<usize> =
            best_scores(&[f32::NAN, 0.2, 0.3], 3).into_iter().map(|(place, _)| place).collect();
        assert_eq!(places, [2, 1, 0]);
    }
}
