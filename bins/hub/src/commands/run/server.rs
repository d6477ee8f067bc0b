//! A model that a server runs, through the API that Ollama's servers speak as well.

use std::{
    io::{BufRead, BufReader},
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
        let sink = progress.sink();
        loop {
            tokio::select! {
                loaded = &mut load => {
                    loaded.map_err(|_| Failure::Interrupted)??;
                    break;
                }
                () = tokio::time::sleep(LOOK) => {
                    let this = self.clone();
                    let looked = tokio::task::spawn_blocking(move || this.loading()).await;
                    if let Ok(Some((done, total))) = looked {
                        sink.report(Progress { stage: "loading", done, total });
                    }
                }
                _ = tokio::signal::ctrl_c() => return Err(Failure::Interrupted),
            }
        }
        let this = self.clone();
        let name = model.to_owned();
        let context = tokio::task::spawn_blocking(move || this.context(&name)).await.ok().flatten();
        Ok(Ready { name: model.to_owned(), context })
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
        let refused =
            |message: String| Failure::Refused { url: format!("{}{path}", self.url), status: 200, message };
        for text in BufReader::new(response.into_reader()).lines() {
            let line = match text {
                // A server that has nothing to say yet sends empty ones.
                Ok(text) if text.trim().is_empty() => continue,
                Ok(text) => serde_json::from_str::<Line>(&text)
                    .map_err(|_| refused("this is no answer of a hub".to_owned()))
                    .and_then(|line| match line.error {
                        Some(message) => Err(refused(message)),
                        None => Ok(line),
                    }),
                Err(error) => Err(refused(format!("the answer broke off: {error}"))),
            };
            let is_over = line.as_ref().map_or(true, |line| line.done);
            if tx.blocking_send(line).is_err() || is_over {
                return;
            }
        }
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
            let mut usage = Usage::default();
            usage.prompt_tokens = line.prompt_eval_count;
            usage.completion_tokens = line.eval_count;
            usage.queue = Duration::from_nanos(line.total_duration).saturating_sub(prefill + decode);
            usage.prefill = prefill;
            usage.decode = decode;
            usage
        });
        let text = if line.message.content.is_empty() { line.response } else { line.message.content };
        let reasoning = if line.message.thinking.is_empty() { line.thinking } else { line.message.thinking };
        Self { text, reasoning, finish, usage }
    }
}
