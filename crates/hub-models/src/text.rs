use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::{Instant, SystemTime},
};

use hub_base::{Account, Reservation, Task};
use hub_nn::{
    Device,
    tokens::{AddSpecial, Tokenizer},
};

use crate::{
    ChatPrompt, Error, GenerateOptions, Load, LoadOptions, ModelInfo, Preset, Prompt, Reply, Source,
    bundle::Bundle,
    chat::{Harmony, HarmonyTokens, Message, RenderOptions, Role, Thinking, TypedControls, pieces},
    engine::{Engine, Request, Settings, executor_loader},
    generation::GenerationConfig,
    options::check_stops,
    render::Renderer,
};

/// The most answers one request may draw.
const MAX_CHOICES: u32 = 128;
/// The most likely tokens that can be reported beside each token.
const MAX_LOGPROBS: u8 = 20;

/// A language model, loaded and ready.
///
/// Clones share it. It owns one thread, which ends when the last clone and the last [`Reply`] are dropped.
#[derive(Clone, Debug)]
pub struct TextModel(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    info: ModelInfo,
    /// What it takes beside its weights and what sequences keep.
    _work: Reservation,
    context_tokens: usize,
    /// How many sequences share a step at most.
    max_sequences: usize,
    tokenizer: Tokenizer,
    template: Option<Renderer>,
    /// Tells thinking from answers, if the template sets them apart.
    thinking: Option<Thinking>,
    /// Takes answers apart that have channels.
    harmony: Option<HarmonyTokens>,
    /// What a person must not be able to type.
    controls: TypedControls,
    /// What an earlier answer must not hold: templates look for the marks of thinking in it.
    answered: TypedControls,
    generation: GenerationConfig,
    /// What is said of the model's use beside its files.
    preset: Preset,
    engine: Engine,
}

/// A prompt in tokens.
#[derive(Clone, Debug)]
pub struct Prepared {
    tokens: Vec<u32>,
    /// Whether an answer goes on with the text, and does not begin one of its own.
    continues: bool,
    /// Tells thinking from the answer.
    thinking: Option<Thinking>,
    /// Takes the answer apart if it has channels.
    harmony: Option<Harmony>,
}

impl Prepared {
    /// Returns the tokens.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }
}

impl TextModel {
    /// Loads a model. Blocks until its weights are in memory.
    ///
    /// # Errors
    /// Where the files are missing, damaged or of an unknown kind, where the model is no language model
    /// ([`Error::WrongTask`]), and where its weights do not fit the device's account ([`Error::Memory`]).
    pub fn open(source: impl Into<Source>, options: LoadOptions) -> Result<Self, Error> {
        let source = source.into();
        let bundle = Bundle::open(&source)?;
        bundle.expect(Task::Chat)?;
        let tokenizer = bundle.tokenizer()?;
        let generation = bundle.generation_config()?;
        generation.check()?;
        let preset = options.preset.clone();
        let template = bundle.template(preset.chat_template.as_deref())?;
        let thinking = template.as_ref().and_then(|(source, _)| Thinking::of_template(source));
        let harmony = HarmonyTokens::of(&tokenizer).filter(|_| template.is_some());
        let source_of_template = template.as_ref().map_or("", |(source, _)| source);
        let controls = TypedControls::of(&tokenizer, source_of_template, &[]);
        let marks = thinking.as_ref().map(Thinking::marks).unwrap_or_default();
        let answered = TypedControls::of(&tokenizer, source_of_template, &marks);
        let template = template.map(|(_, template)| Renderer::new(template));
        let end_tokens = bundle.end_tokens(&tokenizer)?;
        let device = options.device.clone().unwrap_or_else(|| Device::cpu(Account::unlimited()));
        let info = bundle.info(options.executor.for_device(&device));
        let work = info.book_work(&device)?;
        let context_tokens = match options.context_tokens {
            Some(tokens) => tokens.clamp(1, info.context_tokens.max(1)),
            None => info.context_within(device.account().limit_bytes()),
        };
        let max_sequences = options.max_sequences;
        let settings = Settings {
            tokenizer: tokenizer.clone(),
            end_tokens,
            spelled: thinking.as_ref().map(|thinking| thinking.controls(&tokenizer)).unwrap_or_default(),
            context_tokens,
            max_sequences: options.max_sequences,
            prefill_tokens: options.prefill_tokens.clamp(1, hub_nn::state::MAX_STEP_TOKENS),
            queue: options.queue,
            stalled_reader: options.stalled_reader,
            account: device.account().clone(),
            instructions: device.instructions(),
        };
        let engine =
            Engine::start(&source.thread_name(), settings, executor_loader(bundle, device, options))?;
        Ok(Self(Arc::new(Inner {
            info,
            _work: work,
            context_tokens,
            max_sequences,
            tokenizer,
            template,
            thinking,
            harmony,
            controls,
            answered,
            generation,
            preset,
            engine,
        })))
    }

    /// Returns what the model is.
    pub fn info(&self) -> &ModelInfo {
        &self.0.info
    }

    /// Returns the longest sequence it serves, in tokens.
    pub fn context_tokens(&self) -> usize {
        self.0.context_tokens
    }

    /// Returns its tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.0.tokenizer
    }

    /// Returns what it is doing now.
    pub fn load(&self) -> Load {
        self.0.engine.stats().read()
    }

    /// Counts the tokens of a text, without any that the tokenizer adds.
    ///
    /// # Errors
    /// [`Error::Tokens`] if the text cannot be read.
    pub fn count_tokens(&self, text: &str) -> Result<usize, Error> {
        Ok(self.0.tokenizer.encode(text, AddSpecial::No)?.len())
    }

    /// Turns a prompt into tokens: renders the conversation, reads the text, checks the length.
    ///
    /// Takes time in proportion to the prompt, so it does not belong on a thread that waits for sockets.
    ///
    /// # Errors
    /// [`Error::NoTemplate`] and [`Error::Template`] for conversations, [`Error::Empty`] for nothing,
    /// [`Error::TooLarge`] if the prompt leaves no room for an answer.
    pub fn prepare(&self, prompt: &Prompt) -> Result<Prepared, Error> {
        let tokenizer = &self.0.tokenizer;
        let going_on = |tokens| Prepared { tokens, continues: true, thinking: None, harmony: None };
        let prepared = match prompt {
            Prompt::Chat(chat) => self.encode_chat(chat)?,
            Prompt::Question(question) if self.0.template.is_some() => {
                self.encode_chat(&ChatPrompt::new(vec![Message::user(question.as_str())]))?
            }
            Prompt::Text(text) | Prompt::Question(text) => {
                self.check_length(text)?;
                going_on(tokenizer.encode(text, AddSpecial::Yes)?)
            }
            Prompt::Tokens(tokens) => going_on(tokens.clone()),
        };
        self.check_prompt(&prepared.tokens)?;
        Ok(prepared)
    }

    /// Starts generating. Returns at once: the answer arrives in the reply.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] or [`Error::Sampling`] for options without meaning, [`Error::TooLarge`] if prompt and
    /// answer do not fit the context, [`Error::Busy`] if too many requests wait.
    pub fn submit(&self, prepared: Prepared, options: GenerateOptions) -> Result<Reply, Error> {
        // The prompt may have been prepared by another model.
        let room = self.check_prompt(&prepared.tokens)?;
        check(&options, self.0.info.vocab_size)?;
        let most = MAX_CHOICES.min(u32::try_from(self.0.max_sequences).unwrap_or(u32::MAX)).max(1);
        if options.choices.get() > most {
            return Err(Error::InvalidOption { name: "n", reason: format!("must be at most {most}") });
        }
        let max_tokens = match (options.max_tokens, self.0.preset.max_tokens) {
            (Some(asked), _) if options.cuts_max_tokens => asked.min(room),
            (Some(asked), _) => asked,
            (None, Some(preset)) => preset.clamp(1, room),
            (None, None) => room,
        };
        if max_tokens > room {
            let asked = prepared.tokens.len().saturating_add(max_tokens);
            return Err(Error::TooLarge { asked, limit: self.0.context_tokens });
        }
        let asked = options.sampling.or(&self.0.preset.sampling);
        let sampling = self.0.generation.sampling(&asked, fresh_seed())?;
        let stops = self.0.generation.stop().iter().chain(&self.0.preset.stop);
        let (tx, rx) = async_channel::bounded(Request::channel_capacity(options.choices));
        let request = Request {
            tokens: prepared.tokens,
            continues: prepared.continues,
            harmony: prepared.harmony,
            sampling,
            max_tokens,
            min_tokens: options.min_tokens.max(self.0.generation.min_tokens()).min(max_tokens),
            stop: options.stop.into_iter().chain(stops.cloned()).collect(),
            end: options.end,
            logprobs: options.logprobs,
            prompt_logprobs: options.prompt_logprobs,
            choices: options.choices,
            priority: options.priority,
            submitted: Instant::now(),
            tx,
        };
        Ok(self.0.engine.submit(request, rx)?.thinking(prepared.thinking))
    }

    /// Prepares a prompt and starts generating.
    ///
    /// # Errors
    /// Those of [`prepare`](Self::prepare) and [`submit`](Self::submit).
    pub fn generate(&self, prompt: impl Into<Prompt>, options: GenerateOptions) -> Result<Reply, Error> {
        self.submit(self.prepare(&prompt.into())?, options)
    }

    /// Checks a prompt, and returns how many tokens of the context it leaves: at least one.
    fn check_prompt(&self, tokens: &[u32]) -> Result<usize, Error> {
        if tokens.is_empty() {
            return Err(Error::Empty { what: "the prompt" });
        }
        if let Some(id) = tokens.iter().find(|id| **id as usize >= self.0.info.vocab_size) {
            let reason = format!("names token {id}, outside the vocabulary of {}", self.0.info.vocab_size);
            return Err(Error::InvalidOption { name: "prompt", reason });
        }
        match self.0.context_tokens.checked_sub(tokens.len()) {
            Some(room @ 1..) => Ok(room),
            _ => Err(Error::TooLarge { asked: tokens.len() + 1, limit: self.0.context_tokens }),
        }
    }

    /// Refuses a text that is too long whatever its tokens are: making them takes a hundred times its memory.
    fn check_length(&self, text: &str) -> Result<(), Error> {
        let (asked, limit) = (self.0.tokenizer.least_tokens(text.len()), self.0.context_tokens);
        if asked > limit { Err(Error::TooLarge { asked, limit }) } else { Ok(()) }
    }

    /// Returns the conversation with the preset's instructions before it, unless it has some of its own.
    fn opening(&self, chat: &ChatPrompt) -> Option<Vec<Message>> {
        let is_instruction = |message: &Message| matches!(message.role, Role::System | Role::Developer);
        let system = self.0.preset.system.as_deref().filter(|system| !system.trim().is_empty())?;
        let is_open = !chat.messages.iter().any(is_instruction);
        is_open.then(|| [&[Message::system(system)], chat.messages.as_slice()].concat())
    }

    fn encode_chat(&self, chat: &ChatPrompt) -> Result<Prepared, Error> {
        let template = self.0.template.as_ref().ok_or(Error::NoTemplate)?;
        if chat.messages.is_empty() {
            return Err(Error::Empty { what: "the conversation" });
        }
        let kwargs = self.0.controls.break_up_object(&chat.template_kwargs);
        let options = RenderOptions::new(SystemTime::now()).kwargs(kwargs);
        let opening = self.opening(chat);
        let messages = opening.as_deref().unwrap_or(&chat.messages);
        let text = template.render(&self.harmless(messages), options)?;
        self.check_length(&text)?;
        let thinking = self.0.thinking.as_ref().map(|thinking| thinking.after(&text));
        // The template has written every special token itself.
        let mut tokens = Vec::new();
        for piece in pieces(&text) {
            tokens.extend(self.0.tokenizer.encode(piece, AddSpecial::No)?);
        }
        let harmony = self.0.harmony.map(HarmonyTokens::begin);
        Ok(Prepared { tokens, continues: false, thinking, harmony })
    }

    /// Breaks up control tokens that were typed.
    fn harmless(&self, messages: &[Message]) -> Vec<Message> {
        let harmless = |message: &Message| {
            let controls = match message.role {
                Role::Assistant => &self.0.answered,
                _ => &self.0.controls,
            };
            let break_up = |text: &str| controls.break_up(text).into_owned();
            Message {
                role: message.role,
                content: break_up(&message.content),
                name: message.name.as_deref().map(break_up),
                reasoning: message.reasoning.as_deref().map(break_up),
            }
        };
        messages.iter().map(harmless).collect()
    }
}

fn check(options: &GenerateOptions, vocab_size: usize) -> Result<(), Error> {
    let rule = |holds: bool, name: &'static str, reason: &str| {
        if holds { Ok(()) } else { Err(Error::InvalidOption { name, reason: reason.to_owned() }) }
    };
    let most = options.max_tokens.unwrap_or(usize::MAX);
    rule(options.min_tokens <= most, "min_tokens", "must be at most `max_tokens`")?;
    let logprobs = options.logprobs.max(options.prompt_logprobs).unwrap_or(0);
    rule(logprobs <= MAX_LOGPROBS, "top_logprobs", "must be at most 20")?;
    check_stops(&options.stop)?;
    let known = options.sampling.logit_bias.iter().all(|(id, _)| (*id as usize) < vocab_size);
    rule(known, "logit_bias", "names a token outside the vocabulary")
}

/// Draws a seed from what the standard library draws from the operating system for its hash maps.
fn fresh_seed() -> u64 {
    RandomState::new().hash_one(Instant::now())
}
