//! The model's own Jinja template, rendered byte for byte as `transformers` renders it.
//!
//! Templates come with the model's files and are not trusted: they reach nothing but their arguments, and what they
//! compute and write is bounded. How deep a list of lists nests is not, because the engine offers no limit for it; the
//! work that a template may do bounds it, at a depth that fits the stack it is given (`render.rs`).

mod arguments;
mod error;
mod filters;
mod generation;
mod json;
mod methods;
mod python;
mod strftime;

use std::{collections::BTreeMap, io, time::SystemTime};

use minijinja::{AutoEscape, Environment, Value as Rendered, syntax::SyntaxConfig};
use serde_json::{Map, Value};

use self::error::Raised;
pub use self::error::TemplateError;
use super::{Message, Role};

/// Name under which the one template of an environment is kept; it never names a file.
const NAME: &str = "chat template";

/// How much work one rendering may do, in steps of the template engine; a step also pays for 64 bytes of text.
///
/// Real templates take a few hundred steps a message, so this is a conversation of ten thousand messages, or half a
/// second of a template that loops. A level of nesting takes eleven steps at least: 460 thousand levels.
const FUEL: u64 = 5_000_000;

/// The longest text a rendering may produce, in bytes: several million tokens.
const MAX_OUTPUT_BYTES: usize = 32 << 20;

/// How deep a value may nest that is written as text.
const MAX_DEPTH: usize = 200;

/// A model's chat template, compiled.
///
/// Checked against `transformers` 5.24.0 with 70 real templates: `fixtures/templates/make.py`. One thing differs on
/// purpose: a template that iterates over `none`, or prints a lazy sequence as JSON, works here and fails there.
#[derive(Debug)]
pub struct Template {
    environment: Environment<'static>,
    tokens: TemplateTokens,
    /// Whether the template tells developers from the system.
    knows_developers: bool,
}

/// The special tokens that a template writes by name: `bos_token`, `eos_token` and their like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TemplateTokens(BTreeMap<String, String>);

impl TemplateTokens {
    /// Takes pairs of a name, as `tokenizer_config.json` has it, and the token's text.
    pub fn new<N: Into<String>, T: Into<String>>(tokens: impl IntoIterator<Item = (N, T)>) -> Self {
        Self(tokens.into_iter().map(|(name, text)| (name.into(), text.into())).collect())
    }
}

/// What a rendering depends on besides the messages.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RenderOptions {
    /// How the text ends.
    pub end: PromptEnd,
    /// Further names the template may read: `enable_thinking`. They win over special tokens of the same name.
    pub kwargs: Map<String, Value>,
    /// Tools the model may call, as OpenAI's JSON describes them.
    pub tools: Option<Value>,
    /// What the template takes for the present, in UTC.
    pub now: SystemTime,
}

/// How a rendered conversation ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PromptEnd {
    /// With the opening of the assistant's turn, for the model to continue.
    #[default]
    AssistantTurn,
    /// With the last message.
    LastMessage,
}

impl RenderOptions {
    /// Renders for an answer, without tools, at the time `now`.
    pub fn new(now: SystemTime) -> Self {
        Self { end: PromptEnd::default(), kwargs: Map::new(), tools: None, now }
    }

    /// Says how the text ends.
    pub fn end(mut self, end: PromptEnd) -> Self {
        self.end = end;
        self
    }

    /// Hands further names to the template.
    pub fn kwargs(mut self, kwargs: Map<String, Value>) -> Self {
        self.kwargs = kwargs;
        self
    }

    /// Describes tools the model may call.
    pub fn tools(mut self, tools: Value) -> Self {
        self.tools = Some(tools);
        self
    }
}

impl Template {
    /// Compiles a template from its source.
    ///
    /// # Errors
    /// [`TemplateError::Syntax`] with the line, if it is not a template.
    pub fn compile(source: &str, tokens: TemplateTokens) -> Result<Self, TemplateError> {
        let mut environment = environment();
        environment
            .add_template_owned(NAME, generation::rewrite(source))
            .map_err(|error| TemplateError::syntax(&error))?;
        Ok(Self { environment, tokens, knows_developers: source.contains("developer") })
    }

    /// Renders a conversation to the text the model reads.
    ///
    /// Developers speak as the system in a template that does not know them, as llama.cpp does it.
    ///
    /// # Errors
    /// [`TemplateError::Raised`] if the template refuses the conversation, [`TemplateError::TooMuchWork`] if it does
    /// not come to an end, [`TemplateError::Reserved`] for a keyword argument that hides an argument of ours, and
    /// [`TemplateError::Render`] if it cannot be rendered for another reason.
    pub fn render(&self, messages: &[Message], options: &RenderOptions) -> Result<String, TemplateError> {
        let messages = messages.iter().map(|message| Value::Object(self.object_of(message)));
        self.render_values(messages.collect(), options)
    }

    /// Renders messages given as JSON, as templates read them: with `tool_calls` and whatever else a template knows.
    ///
    /// Fields that are `null` count as absent, and reasoning is found under each of its names, as in `transformers`.
    ///
    /// # Errors
    /// As for [`render`](Self::render).
    pub fn render_values(
        &self,
        messages: Vec<Value>,
        options: &RenderOptions,
    ) -> Result<String, TemplateError> {
        let messages: Vec<_> = messages.into_iter().map(arguments::message).collect();
        let context = arguments::context(&messages, &self.tokens.0, options)?;
        let template = self.environment.get_template(NAME).map_err(|error| TemplateError::render(&error))?;
        let mut output = Bounded { bytes: Vec::new(), is_full: false };
        let result = template.render_captured_to(context, &mut output).map(drop);
        match result {
            Err(_) if output.is_full => Err(TemplateError::TooMuchWork),
            Err(error) => Err(TemplateError::render(&error)),
            // The engine writes whole strings, so what it wrote is text.
            Ok(()) => Ok(String::from_utf8_lossy(&output.bytes).into_owned()),
        }
    }

    fn object_of(&self, message: &Message) -> Map<String, Value> {
        let role = match message.role {
            Role::Developer if !self.knows_developers => Role::System,
            role => role,
        };
        let mut object = Map::new();
        object.insert("role".to_owned(), role.as_str().into());
        object.insert("content".to_owned(), message.content.as_str().into());
        if let Some(name) = &message.name {
            object.insert("name".to_owned(), name.as_str().into());
        }
        if let Some(reasoning) = &message.reasoning {
            object.insert("reasoning_content".to_owned(), reasoning.as_str().into());
        }
        object
    }
}

/// Sets the engine up as `transformers` sets up Jinja2, and teaches it what of Python templates rely on.
fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_syntax(syntax());
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    environment.set_formatter(python::format);
    environment.set_unknown_method_callback(methods::call);
    environment.add_filter("tojson", json::tojson);
    environment.add_filter("string", filters::string);
    environment.add_filter("join", filters::join);
    environment.add_filter("indent", filters::indent);
    environment.add_test("iterable", filters::is_iterable);
    environment.add_test("sequence", filters::is_sequence);
    environment.add_test("number", filters::is_number);
    environment.add_test("float", filters::is_float);
    environment.add_function("raise_exception", raise_exception);
    environment
}

fn syntax() -> SyntaxConfig {
    SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()
        .expect("the default delimiters differ from each other")
}

/// Lets a template refuse a conversation.
fn raise_exception(message: String) -> Result<Rendered, minijinja::Error> {
    Err(minijinja::Error::new(minijinja::ErrorKind::InvalidOperation, "raised").with_source(Raised(message)))
}

/// Text up to a limit.
struct Bounded {
    bytes: Vec<u8>,
    is_full: bool,
}

impl io::Write for &mut Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > MAX_OUTPUT_BYTES {
            self.is_full = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
