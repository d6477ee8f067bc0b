use std::fmt;

use hub_nn::{spec::ModelSpec, tokens::Tokenizer, weights::Weights};

use crate::{Error, Source, bundle::Bundle, chat::Template};

/// What a model's files hold, for a program that runs the model itself, step by step.
///
/// ```
/// use hub_base::{Account, CancelToken, ProgressSink};
/// use hub_models::{ModelParts, Source};
/// use hub_nn::{
///     Device, Priority,
///     executor::{CpuExecutor, Executor, ExecutorOptions, Input, Outputs, Segment, Want},
///     state::SequenceState,
///     tokens::AddSpecial,
/// };
///
/// let ModelParts { weights, spec, tokenizer, .. } = ModelParts::open(Source::Guide)?;
/// let device = Device::cpu(Account::unlimited());
/// let mut executor =
///     CpuExecutor::load(spec, &weights, &device, ExecutorOptions::default(), &ProgressSink::default(), &CancelToken::new())?;
///
/// let tokens = tokenizer.encode("How do I", AddSpecial::Yes)?;
/// let mut state = SequenceState::default();
/// executor.append(&mut state, tokens.len())?;
/// let rows = Segment {
///     input: Input::Tokens(&tokens),
///     span: tokens.len(),
///     state: Some(&mut state),
///     outputs: Outputs::Last,
/// };
/// let layers = 0..executor.spec().layers.len();
/// let logits = executor.run(layers, &mut [rows], Want::Head, Priority::default())?;
/// assert_eq!(logits.width(), executor.spec().vocab_size);
/// # executor.release(state);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// [`TextModel`](crate::TextModel) is made of the same parts. It adds a thread, a queue, batches, and time limits for
/// templates that never end.
#[non_exhaustive]
pub struct ModelParts {
    /// The open files; tensors are read when they are asked for.
    pub weights: Weights,
    /// The model as data, checked against the names and shapes of the tensors.
    pub spec: ModelSpec,
    /// Text to tokens and back.
    pub tokenizer: Tokenizer,
    /// Conversations to text; `None` if the model has no chat template.
    pub template: Option<Template>,
    /// The tokens that end an answer, in order of their ids.
    pub end_tokens: Vec<u32>,
}

impl ModelParts {
    /// Opens a Hugging Face folder, a GGUF file, or the guide model. Reads no weights.
    ///
    /// # Errors
    /// Where the files are missing, damaged or of an unknown kind.
    pub fn open(source: impl Into<Source>) -> Result<Self, Error> {
        let bundle = Bundle::open(&source.into())?;
        let tokenizer = bundle.tokenizer()?;
        let template = bundle.template(None)?.map(|(_, template)| template);
        let end_tokens = bundle.end_tokens(&tokenizer)?;
        Ok(Self { weights: bundle.weights, spec: bundle.spec, tokenizer, template, end_tokens })
    }
}

impl fmt::Debug for ModelParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelParts").field("spec", &self.spec).finish_non_exhaustive()
    }
}
