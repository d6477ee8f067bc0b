//! The requests of Ollama's own command, replayed; what it would decode is read from the answers.
//!
//! `ollama_cli.json` holds the requests and says where they were taken from.

use axum::{body::Body, http::Request};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::world::{Answer, World};

#[derive(Deserialize)]
struct Fixture {
    headers: Map<String, Value>,
    commands: Vec<Command>,
}

#[derive(Deserialize)]
struct Command {
    command: String,
    requests: Vec<Asked>,
}

/// A request, and the shape of what is read from its answer: all of the body, or each of its lines and the last one.
#[derive(Deserialize)]
struct Asked {
    method: String,
    path: String,
    body: Option<Value>,
    status: Option<u16>,
    whole: Option<Value>,
    lines: Option<Value>,
    last: Option<Value>,
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_of_ollama_is_understood() {
    let fixture: Fixture = serde_json::from_str(include_str!("ollama_cli.json")).unwrap();
    let world = World::new().await.import("bert").await;
    for command in &fixture.commands {
        for asked in &command.requests {
            let answer = world.send(asked.request(&fixture.headers)).await;
            asked.check(&answer, &format!("{}: {} {}", command.command, asked.method, asked.path));
        }
    }
}

impl Asked {
    fn request(&self, headers: &Map<String, Value>) -> Request<Body> {
        let mut request = Request::builder().method(&*self.method).uri(&self.path);
        for (name, value) in headers {
            request = request.header(name, value.as_str().unwrap());
        }
        let accepted = if self.lines.is_some() { "application/x-ndjson" } else { "application/json" };
        let body = self.body.as_ref().map_or_else(Body::empty, |body| Body::from(body.to_string()));
        request.header("accept", accepted).body(body).unwrap()
    }

    #[track_caller]
    fn check(&self, answer: &Answer, at: &str) {
        assert_eq!(answer.status.as_u16(), self.status.unwrap_or(200), "{at}: {}", answer.text);
        if let Some(shape) = &self.whole {
            has_shape(shape, &serde_json::from_str(&answer.text).unwrap(), at);
        }
        let Some(shape) = &self.lines else { return };
        // As its scanner does: every line is JSON, the last with or without an end.
        let lines: Vec<Value> = answer
            .text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{at}: {error}: {line}")))
            .collect();
        for line in &lines {
            has_shape(shape, line, at);
        }
        if let Some(shape) = &self.last {
            let (last, others) = lines.split_last().unwrap();
            has_shape(shape, last, at);
            assert_eq!(last["done"], true, "{at}: {last}");
            assert!(others.iter().all(|line| line["done"] == false), "{at}: {others:?}");
        }
    }
}

/// Checks that what was found holds all that is read, each of the kind that the command's types can take.
#[track_caller]
fn has_shape(shape: &Value, found: &Value, at: &str) {
    match shape {
        Value::Object(fields) => {
            for (name, shape) in fields {
                has_shape(shape, &found[name], &format!("{at}: {name}"));
            }
        }
        Value::Array(each) => {
            let found = found.as_array().unwrap_or_else(|| panic!("{at} is no list: {found}"));
            assert!(!found.is_empty(), "{at} is empty");
            for found in found {
                has_shape(&each[0], found, at);
            }
        }
        kind => {
            let text = || found.as_str();
            let is_kind = match kind.as_str().unwrap() {
                "text" => found.is_string(),
                // It shows the first twelve letters, and ends if there are fewer.
                "hash" => text().is_some_and(|hash| hash.len() >= 12),
                "time" => text().is_some_and(|time| time.parse::<Timestamp>().is_ok()),
                "number" => found.is_number(),
                "whole number" => found.is_i64() || found.is_u64(),
                "yes or no" => found.is_boolean(),
                other => panic!("{other:?} is no kind"),
            };
            assert!(is_kind, "{at} is no {kind}: {found}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_be_shown_in_place_of_the_models_own_is_refused_by_name() {
    let world = World::new().await;
    let body = json!({"model": "", "name": "hub-guide", "system": "Be brief."});
    let refused = world.post("/api/show", &body).await.json(400);
    assert!(refused["error"].as_str().unwrap().contains("`system`"), "{refused}");
    let nameless = world.post("/api/show", &json!({"model": "", "name": ""})).await.json(400);
    assert!(nameless["error"].as_str().unwrap().contains("`model`"), "{nameless}");
}
