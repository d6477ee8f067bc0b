//! A model that a server runs, through the API that Ollama's servers speak as well.

use std::{
    io::{BufRead, BufReader},
    pin::pin,
    time::Duration,
};

use hub::models::{Usage, chat::Message};
use hub_base::{ModelId, Progress};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use super::{
    backend::{Asked, Piece, Ready},
    settings::Settings,
};
use crate::{client, failure::Failure, progress::ProgressLine};

/// A server to ask.
#[derive(Clone, Debug)]
pub(super) struct Server {
    url: String,
    key: Option<String>,
}

/// An answer that arrives line by line.
#[derive(Debug)]
pub(super) struct Lines {
    first: Option<Line>,
    rest: mpsc::Receiver<Result<Line, Failure>>,
}

/// One line of an answer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Line {
    model: String,
    message: Said,
    response: String,
    thinking: String,
    done: bool,
    done_reason: Option<String>,
    prompt_eval_count: usize,
    prompt_eval_duration: u64,
    eval_count: usize,
    eval_duration: u64,
    total_duration: u64,
    error: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Said {
    content: String,
    thinking: String,
}

/// How many lines may wait for a slow terminal.
const WAITING: usize = 64;

/// How often a server is asked how far a load has come.
const LOOK: Duration = Duration::from_millis(500);

impl Server {
    pub(super) fn new(url: String, key: Option<&str>) -> Self {
        Self { url, key: key.map(str::to_owned) }
    }

    /// Has the server load a model, and shows how far that has come.
    pub(super) async fn load(&self, model: &str, settings: &Settings) -> Result<Ready, Failure> {
        let mut body = json!({ "model": model, "stream": false });
        settings.write_keep_alive(&mut body);
        let this = self.clone();
        let mut load =
            tokio::task::spawn_blocking(move || this.post("/api/generate", &body)?.read().map(drop));
        let progress = ProgressLine::new();
        let (this, sink) = (self.clone(), progress.sink());
        // Ends with the load: nobody listens to it then.
        let look = async move {
            loop {
                tokio::time::sleep(LOOK).await;
                let this = this.clone();
                if let Ok(Some((done, total))) = tokio::task::spawn_blocking(move || this.loading()).await {
                    sink.report(Progress { stage: "loading", done, total });
                }
            }
        };
        // One for the whole load: between two of them a Ctrl-C would be lost.
        let mut stop = pin!(tokio::signal::ctrl_c());
        tokio::select! {
            loaded = &mut load => loaded.map_err(|_| Failure::Interrupted)??,
            () = look => {}
            _ = &mut stop => return Err(Failure::Interrupted),
        }
        let (this, name) = (self.clone(), model.to_owned());
        let looked = tokio::task::spawn_blocking(move || this.context(&name));
        tokio::select! {
            context = looked => Ok(Ready { name: model.to_owned(), context: context.ok().flatten() }),
            _ = &mut stop => Err(Failure::Interrupted),
        }
    }

    /// Posts, and shows what the server says as if it were said here.
    fn post(&self, path: &str, body: &Value) -> Result<client::Answer, Failure> {
        client::post(&self.url, path, self.key.as_deref(), body).map_err(|failure| match failure {
            Failure::Refused { status, message, .. } => Failure::Answered { status, message },
            failure => failure,
        })
    }

    /// Returns how far the first load that goes on has come; `None` if there is none, or the server does not say.
    fn loading(&self) -> Option<(u64, u64)> {
        let answer = client::get(&self.url, "/hub/v1/ps", self.key.as_deref()).ok()?;
        let load = answer.get("loading")?.get(0)?;
        Some((load.get("done")?.as_u64()?, load.get("total")?.as_u64()?))
    }

    /// Returns the longest sequence that a model in memory serves; `None` if the server does not say.
    fn context(&self, model: &str) -> Option<(usize, usize)> {
        let answer = client::get(&self.url, "/hub/v1/ps", self.key.as_deref()).ok()?;
        let loaded = answer.get("models")?.as_array()?.iter().find(|loaded| loaded["name"] == model)?;
        let tokens = usize::try_from(loaded.get("context_tokens")?.as_u64()?).ok()?;
        Some((tokens, tokens))
    }

    /// Asks, and returns once the answer begins.
    pub(super) async fn ask(&self, model: &str, asked: Asked, settings: &Settings) -> Result<Lines, Failure> {
        let (path, mut body) = match asked {
            Asked::Question(prompt) => ("/api/generate", json!({ "model": model, "prompt": prompt })),
            Asked::Conversation(messages) => {
                let messages: Vec<Value> = messages.iter().map(said).collect();
                ("/api/chat", json!({ "model": model, "messages": messages }))
            }
        };
        body["options"] = Value::Object(settings.parameters());
        if let Some(is_on) = settings.think() {
            body["think"] = is_on.into();
        }
        settings.write_keep_alive(&mut body);
        let this = self.clone();
        let (tx, mut rest) = mpsc::channel(WAITING);
        tokio::task::spawn_blocking(move || this.read(path, &body, &tx));
        let first = rest.recv().await.transpose()?;
        Ok(Lines { first, rest })
    }

    /// Reads an answer until it ends, or nobody wants more of it.
    fn read(&self, path: &str, body: &Value, tx: &mpsc::Sender<Result<Line, Failure>>) {
        let response = match self.post(path, body) {
            Ok(response) => response,
            Err(failure) => {
                // Whoever left needs no error.
                let _ = tx.blocking_send(Err(failure));
                return;
            }
        };
        let mut reader = BufReader::new(response.into_reader());
        while let Some(line) = next_line(&mut reader, || tx.is_closed()) {
            let is_over = line.as_ref().map_or(true, |line| line.done);
            if tx.blocking_send(line).is_err() || is_over {
                return;
            }
        }
    }
}

/// The longest line that is read: no answer has one.
const MAX_LINE: usize = 16 << 20;

/// Reads the next line of an answer; `None` at its end, or once nobody wants more.
///
/// A server that has nothing to say yet sends spaces now and then, which is when it is seen that nobody wants more.
fn next_line(reader: &mut impl BufRead, is_unwanted: impl Fn() -> bool) -> Option<Result<Line, Failure>> {
    let failed = |message: String| Some(Err(Failure::Answered { status: 200, message }));
    let mut line = Vec::new();
    loop {
        let bytes = match reader.fill_buf() {
            Ok(bytes) => bytes,
            Err(error) => return failed(format!("the answer broke off: {error}")),
        };
        if is_unwanted() || (bytes.is_empty() && line.trim_ascii().is_empty()) {
            return None;
        }
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(bytes.len(), |end| end + 1);
        line.extend_from_slice(bytes.get(..taken).unwrap_or_default());
        let is_over = bytes.is_empty() || end.is_some();
        reader.consume(taken);
        if line.len() > MAX_LINE {
            return failed("the answer has a line without end".to_owned());
        }
        if is_over && !line.trim_ascii().is_empty() {
            break;
        }
    }
    match serde_json::from_slice::<Line>(&line) {
        Ok(Line { error: Some(message), .. }) => failed(message),
        Ok(line) => Some(Ok(line)),
        Err(_) => failed("this is no answer of a hub".to_owned()),
    }
}

/// Writes a message as a server reads it.
fn said(message: &Message) -> Value {
    let mut said = Map::new();
    said.insert("role".to_owned(), message.role.as_str().into());
    said.insert("content".to_owned(), message.content.as_str().into());
    Value::Object(said)
}

impl Lines {
    pub(super) fn model(&self) -> Option<ModelId> {
        ModelId::new(&self.first.as_ref()?.model).ok()
    }

    pub(super) async fn next(&mut self) -> Option<Result<Piece, Failure>> {
        match self.first.take() {
            Some(line) => Some(Ok(line.into())),
            None => Some(self.rest.recv().await?.map(Piece::from)),
        }
    }
}

impl From<Line> for Piece {
    fn from(line: Line) -> Self {
        let finish = match line.done_reason.as_deref() {
            Some("length") => Some("length"),
            Some(_) => Some("stop"),
            None => None,
        };
        let usage = line.done.then(|| {
            let (prefill, decode) =
                (Duration::from_nanos(line.prompt_eval_duration), Duration::from_nanos(line.eval_duration));
            Usage {
                prompt_tokens: line.prompt_eval_count,
                completion_tokens: line.eval_count,
                queue: Duration::from_nanos(line.total_duration).saturating_sub(prefill + decode),
                prefill,
                decode,
            }
        });
        let text = if line.message.content.is_empty() { line.response } else { line.message.content };
        let reasoning = if line.message.thinking.is_empty() { line.thinking } else { line.message.thinking };
        Self { text, reasoning, finish, usage }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads lines from pieces as they arrive.
    fn read(text: &str) -> Vec<Result<String, String>> {
        // A buffer of three bytes cuts every line.
        let mut reader = BufReader::with_capacity(3, text.as_bytes());
        let lines = std::iter::from_fn(|| next_line(&mut reader, || false));
        lines.map(|line| line.map(|line| line.response).map_err(|failure| failure.to_string())).collect()
    }

    #[test]
    fn lines_are_read_whole_and_spaces_are_passed_over() {
        let text = "  \n {\"response\": \"Xin chào\"}\n\n  {\"response\": \"!\", \"done\": true}";
        assert_eq!(read(text), [Ok("Xin chào".to_owned()), Ok("!".to_owned())]);
        assert_eq!(read("   "), []);
    }

    #[test]
    fn what_went_wrong_is_said() {
        assert_eq!(read("{\"error\": \"the model failed\"}\n"), [Err("the model failed".to_owned())]);
        assert_eq!(read("<html>\n"), [Err("this is no answer of a hub".to_owned())]);
    }

    #[test]
    fn nobody_reads_on_for_nobody() {
        assert!(next_line(&mut &b" {"[..], || true).is_none());
    }
}
