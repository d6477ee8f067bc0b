use std::sync::Arc;

use hub_base::{Account, Reservation, Task};
use hub_nn::{
    Device,
    executor::{Output, Outputs, Want},
    spec::PooledSpec,
    tokens::{AddSpecial, Tokenizer},
};

use crate::{
    EmbedOptions, Error, LoadOptions, ModelInfo, Pending, Source, TooLong,
    bundle::Bundle,
    encoder::{Ask, Encoder, Text, Wanted},
    engine::executor_loader,
    m3::{M3, TextForms},
    pooling::Pooling,
};

/// A model that turns texts into vectors, loaded and ready.
///
/// Clones share it. It owns one thread, which ends when the last clone is dropped.
///
/// ```no_run
/// use hub_models::{EmbedOptions, EmbeddingModel, Input, LoadOptions};
///
/// let model = EmbeddingModel::open("models/all-MiniLM-L6-v2", LoadOptions::default())?;
/// let texts = vec![Input::from("Xin chào"), Input::from("Hello")];
/// let vectors = model.embed(texts, EmbedOptions::default())?.vectors;
/// assert_eq!(vectors[0].len(), model.dimensions());
/// # Ok::<(), hub_models::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct EmbeddingModel(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    info: ModelInfo,
    /// What it takes beside its weights and what sequences keep.
    _work: Reservation,
    tokenizer: Tokenizer,
    pooling: Arc<Pooling>,
    /// What rows hold beside the hidden state, of a model that says more of a text than one vector.
    m3: Option<Arc<M3>>,
    /// How many numbers a vector has.
    dimensions: usize,
    /// The token that closes every text, and stays where a text is cut.
    closing: Option<u32>,
    encoder: Encoder,
}

/// Something to embed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A text.
    Text(String),
    /// Tokens, taken as they are.
    Tokens(Vec<u32>),
}

impl From<&str> for Input {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Input {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// The vectors of some inputs.
#[derive(Clone, Debug, PartialEq)]
pub struct Embeddings {
    /// One vector an input, in their order.
    pub vectors: Vec<Vec<f32>>,
    /// What else was asked for of each input; empty if nothing was.
    pub forms: Vec<TextForms>,
    /// Tokens of all inputs.
    pub prompt_tokens: usize,
}

/// Inputs in tokens, checked.
#[derive(Clone, Debug)]
pub struct PreparedInputs {
    texts: Vec<Text>,
    dimensions: usize,
    options: EmbedOptions,
}

impl EmbeddingModel {
    /// Loads a model. Blocks until its weights are in memory.
    ///
    /// # Errors
    /// Where the files are missing, damaged or of an unknown kind, where the model makes no vectors
    /// ([`Error::WrongTask`]), and where its weights do not fit the device's account ([`Error::Memory`]).
    pub fn open(source: impl Into<Source>, options: LoadOptions) -> Result<Self, Error> {
        let source = source.into();
        let bundle = Bundle::open(&source)?;
        bundle.expect(Task::Embed)?;
        let tokenizer = bundle.tokenizer()?.reading_controls_as_text();
        let pooling = Arc::new(Pooling::of(&bundle)?);
        let dimensions = bundle.spec.head.pooled().map_or(bundle.spec.hidden_size, PooledSpec::outputs);
        let closing = tokenizer.encode("", AddSpecial::Yes)?.last().copied();
        let m3 = M3::of(&bundle, &tokenizer)?.map(Arc::new);
        let (name, queue) = (source.thread_name(), options.queue);
        let device = options.device.clone().unwrap_or_else(|| Device::cpu(Account::unlimited()));
        let info = bundle.info(options.executor.for_device(&device));
        let work = info.book_work(&device)?;
        let encoder = Encoder::start(&name, queue, executor_loader(bundle, device, options))?;
        Ok(Self(Arc::new(Inner { info, _work: work, tokenizer, pooling, m3, dimensions, closing, encoder })))
    }

    /// Returns what the model is.
    pub fn info(&self) -> &ModelInfo {
        &self.0.info
    }

    /// Returns how many numbers a vector has.
    pub fn dimensions(&self) -> usize {
        self.0.dimensions
    }

    /// Returns the longest text it takes, in tokens.
    pub fn max_tokens(&self) -> usize {
        self.0.pooling.max_tokens
    }

    /// Returns the bytes of its weights in memory.
    pub fn weight_bytes(&self) -> u64 {
        self.0.encoder.weight_bytes()
    }

    /// Turns inputs into vectors, pooled and scaled as the model's files prescribe. Blocks until all are done.
    ///
    /// Checked against sentence-transformers.
    ///
    /// # Errors
    /// Those of [`prepare`](Self::prepare) and [`submit`](Self::submit).
    pub fn embed(&self, inputs: Vec<Input>, options: EmbedOptions) -> Result<Embeddings, Error> {
        self.submit(self.prepare(inputs, options)?)?.wait()
    }

    /// Turns inputs into tokens and checks them.
    ///
    /// Takes time in proportion to the texts, so it does not belong on a thread that waits for sockets.
    ///
    /// # Errors
    /// [`Error::Empty`] if there is nothing, [`Error::TooLarge`] if an input is longer than the model takes and the
    /// options do not cut it, [`Error::InvalidOption`] for a number of dimensions or a prompt the model does not have.
    pub fn prepare(&self, inputs: Vec<Input>, options: EmbedOptions) -> Result<PreparedInputs, Error> {
        let dimensions = options.dimensions.unwrap_or(self.dimensions());
        if !(1..=self.dimensions()).contains(&dimensions) {
            let reason = format!("must be 1 to {}", self.dimensions());
            return Err(Error::InvalidOption { name: "dimensions", reason });
        }
        for (name, is_asked) in [("sparse", options.sparse), ("multi_vector", options.multi_vector)] {
            if is_asked && self.0.m3.is_none() {
                let reason = "is set, and this model makes one vector of a text and nothing else".to_owned();
                return Err(Error::InvalidOption { name, reason });
            }
        }
        if inputs.is_empty() {
            return Err(Error::Empty { what: "the input" });
        }
        let texts = inputs.into_iter().map(|input| self.encode(input, &options));
        let texts = texts.collect::<Result<Vec<Text>, Error>>()?;
        Ok(PreparedInputs { texts, dimensions, options })
    }

    /// Starts turning inputs into vectors. Returns at once.
    ///
    /// # Errors
    /// [`Error::Busy`] if too many requests wait.
    pub fn submit(&self, prepared: PreparedInputs) -> Result<Pending<Embeddings>, Error> {
        let PreparedInputs { texts, dimensions, options } = prepared;
        let prompt_tokens = texts.iter().map(|text| text.tokens.len()).sum();
        let pooling = Arc::clone(&self.0.pooling);
        let (width, encoder) = (self.dimensions(), &self.0.encoder);
        let EmbedOptions { sparse, multi_vector, priority, cancel, .. } = options;
        let Some(m3) = self.0.m3.clone().filter(|_| sparse || multi_vector) else {
            let wanted = Wanted { want: pooling.want(), outputs: pooling.outputs() };
            let reduce = Arc::new(move |rows: &Output| pooling.vector(rows, width, dimensions));
            let finish = move |vectors| Embeddings { vectors, forms: Vec::new(), prompt_tokens };
            return Ok(Pending::new(
                encoder.submit(Ask { texts, wanted, reduce, priority, cancel })?,
                encoder,
                finish,
            ));
        };
        let tokens: Vec<Vec<u32>> = texts.iter().map(|text| text.tokens.clone()).collect();
        let wanted = Wanted { want: Want::Head, outputs: Outputs::All };
        let of_rows = Arc::clone(&m3);
        let reduce = Arc::new(move |rows: &Output| {
            let mut all = pooling.vector(rows, width, dimensions);
            of_rows.flatten(rows, multi_vector, &mut all);
            all
        });
        let finish = move |mut vectors: Vec<Vec<f32>>| {
            let pairs = vectors.iter_mut().zip(&tokens);
            let forms = pairs.map(|(vector, tokens)| {
                let forms = m3.split(vector, dimensions, tokens);
                TextForms {
                    sparse: if sparse { forms.sparse } else { Vec::new() },
                    multi_vector: if multi_vector { forms.multi_vector } else { Vec::new() },
                }
            });
            let forms = forms.collect();
            Embeddings { vectors, forms, prompt_tokens }
        };
        Ok(Pending::new(encoder.submit(Ask { texts, wanted, reduce, priority, cancel })?, encoder, finish))
    }

    fn encode(&self, input: Input, options: &EmbedOptions) -> Result<Text, Error> {
        let limit = self.max_tokens();
        let mut tokens = match input {
            Input::Text(text) => {
                let text = self.0.pooling.prepare(text, &options.prompt)?;
                self.0.tokenizer.encode(&text, AddSpecial::Yes)?
            }
            Input::Tokens(tokens) => tokens,
        };
        let asked = tokens.len();
        if asked == 0 {
            return Err(Error::Empty { what: "an input" });
        }
        if let Some(id) = tokens.iter().find(|id| **id as usize >= self.0.info.vocab_size) {
            let reason = format!("names token {id}, outside the vocabulary of {}", self.0.info.vocab_size);
            return Err(Error::InvalidOption { name: "input", reason });
        }
        if asked > limit {
            match options.too_long {
                TooLong::Refuse => return Err(Error::TooLarge { asked, limit }),
                TooLong::Cut => cut(&mut tokens, limit, self.0.closing),
            }
        }
        let types = vec![0; tokens.len()];
        Ok(Text { tokens, types })
    }
}

/// Cuts the end off, but for the token that closes a text.
fn cut(tokens: &mut Vec<u32>, limit: usize, closing: Option<u32>) {
    match tokens.last().copied().filter(|last| Some(*last) == closing) {
        Some(last) => {
            tokens.truncate(limit.saturating_sub(1));
            tokens.push(last);
        }
        None => tokens.truncate(limit),
    }
}
