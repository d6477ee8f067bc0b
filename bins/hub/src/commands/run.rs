mod conversation;
mod piped;

use std::pin::pin;

use hub::{
    Caller, ChatRequest, Hub,
    models::{Delta, FinishReason, GenerateOptions, Prompt, chat::Message},
};
use hub_base::{ModelId, Task};
use serde_json::json;

use crate::{
    failure::Failure,
    output::{Output, faint, is_interactive, piece, read_input},
    progress::ProgressLine,
    session::Session,
};

/// Asks a model: once with a prompt, else as a conversation
///
/// Runs in this process, beside any server. Ctrl-C stops an answer; at an empty prompt, Ctrl-C twice, Ctrl-D or /bye
/// leave. What is piped in is the prompt, or stands before it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The model, an alias, or auto
    model: String,
    /// The prompt; `-` reads standard input
    prompt: Vec<String>,
    /// What the model is told before the conversation
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// 0 takes the likeliest token each time, 1 draws freely
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    temperature: Option<f32>,
    /// The longest answer, in tokens
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = at_least_one)]
    max_tokens: Option<usize>,
    /// Makes answers repeatable
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    seed: Option<i64>,
}

/// An answer, or as much of it as there was before it was stopped.
#[derive(Default)]
struct Answer {
    model: Option<ModelId>,
    text: String,
    reasoning: String,
    last: Option<Delta>,
    was_stopped: bool,
}

/// What is shown of an answer while it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Show {
    Nothing,
    Pieces,
}

impl Show {
    fn text(self, text: &str) -> Result<(), Failure> {
        if self == Self::Pieces { piece(text) } else { Ok(()) }
    }

    fn thought(self, text: &str) -> Result<(), Failure> {
        if self == Self::Pieces { faint(text) } else { Ok(()) }
    }
}

impl Args {
    pub(crate) fn run(self, session: &Session) -> Result<(), Failure> {
        session.with_hub(Vec::new(), async |hub| {
            // Here and not before: reading may start a thread, and the hub must be opened by the only one.
            let prompt = self.prompt(session.output)?;
            let progress = ProgressLine::new();
            let installed = hub.load(&self.model, Task::Chat, progress.sink()).await?;
            drop(progress);
            match prompt {
                Some(prompt) => self.once(session, hub, prompt).await,
                None => conversation::hold(hub, &self, &installed).await,
            }
        })
    }

    /// Returns what to ask once; `None` for a conversation.
    fn prompt(&self, output: Output) -> Result<Option<String>, Failure> {
        let prompt = match self.prompt.as_slice() {
            [] if is_interactive() && !output.is_json => return Ok(None),
            [] => read_input()?,
            [dash] if dash == "-" => read_input()?,
            words => match piped::read()? {
                Some(text) => format!("{}\n\n{}", text.trim_end(), words.join(" ")),
                None => words.join(" "),
            },
        };
        if prompt.trim().is_empty() {
            return Err(Failure::Nothing { what: "no prompt" });
        }
        Ok(Some(prompt))
    }

    async fn once(&self, session: &Session, hub: &Hub, prompt: String) -> Result<(), Failure> {
        let prompt = match &self.system {
            Some(_) => self.opening().into_iter().chain([Message::user(prompt)]).collect::<Vec<_>>().into(),
            None => Prompt::from(prompt),
        };
        let is_json = session.output.is_json;
        let show = if is_json { Show::Nothing } else { Show::Pieces };
        let answer = ask(hub, self.request(prompt), show).await?;
        if !is_json {
            piece("\n")?;
        }
        if answer.was_stopped {
            return Err(Failure::Interrupted);
        }
        if !is_json {
            return Ok(());
        }
        let usage = answer.last.as_ref().and_then(|delta| delta.usage).unwrap_or_default();
        let finish = answer.last.as_ref().and_then(|delta| delta.finish).map(|reason| match reason {
            FinishReason::Stop => "stop",
            FinishReason::Length => "length",
        });
        let usage = json!({
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "queue_ms": usage.queue.as_millis() as u64,
            "prefill_ms": usage.prefill.as_millis() as u64,
            "decode_ms": usage.decode.as_millis() as u64,
        });
        let reasoning = Some(answer.reasoning).filter(|reasoning| !reasoning.is_empty());
        let json = json!({
            "model": answer.model,
            "text": answer.text,
            "reasoning": reasoning,
            "finish_reason": finish,
            "usage": usage,
        });
        session.output.emit(&json, |_| String::new())
    }

    /// Returns what a conversation begins with.
    fn opening(&self) -> Vec<Message> {
        self.system.iter().map(|system| Message::system(system.as_str())).collect()
    }

    fn request(&self, prompt: Prompt) -> ChatRequest {
        let mut options = GenerateOptions::default();
        options.sampling.temperature = self.temperature;
        options.sampling.seed = self.seed.map(i64::cast_unsigned);
        options.max_tokens = self.max_tokens;
        ChatRequest::new(self.model.as_str(), prompt).options(options).caller(Caller::new("run"))
    }
}

/// Reads a number that is at least 1.
fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| "must be a number of at least 1".to_owned())
}

/// Asks, and shows the answer piece by piece until it ends or Ctrl-C stops it.
async fn ask(hub: &Hub, request: ChatRequest, show: Show) -> Result<Answer, Failure> {
    let mut answer = Answer::default();
    // One for the whole answer: between two of them a Ctrl-C would be lost.
    let mut stop = pin!(tokio::signal::ctrl_c());
    let mut reply = tokio::select! {
        reply = hub.chat(request) => reply?,
        _ = &mut stop => return Ok(Answer { was_stopped: true, ..answer }),
    };
    answer.model = Some(reply.model().clone());
    loop {
        let delta = tokio::select! {
            delta = reply.next() => delta,
            _ = &mut stop => return Ok(Answer { was_stopped: true, ..answer }),
        };
        let Some(delta) = delta else { return Ok(answer) };
        let delta = delta?;
        if !delta.reasoning.is_empty() {
            show.thought(&delta.reasoning)?;
            answer.reasoning.push_str(&delta.reasoning);
        }
        if !delta.text.is_empty() {
            // What was thought ends here.
            if answer.text.is_empty() && !answer.reasoning.is_empty() {
                show.thought("\n\n")?;
            }
            show.text(&delta.text)?;
            answer.text.push_str(&delta.text);
        }
        answer.last = Some(delta);
    }
}
