use axum::{body::Body, http::Request};
use serde_json::{Value, json};

use crate::world::World;

const PATH: &str = "/v1/chat/completions";

fn ask(extra: &Value) -> Value {
    let mut body = json!({
        "model": "hub-guide", "temperature": 0, "max_tokens": 12,
        "messages": [{"role": "user", "content": "How do I list my models?"}],
    });
    let fields = extra.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(fields);
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn timings_are_told_when_they_are_asked_for() {
    let world = World::new().await;
    let chat = json!({"messages": [{"role": "user", "content": "a"}]});
    for (path, mut body) in [("/v1/chat/completions", chat), ("/v1/completions", json!({"prompt": "a"}))] {
        for (key, value) in
            [("model", json!("hub-guide")), ("max_tokens", json!(4)), ("ignore_eos", json!(true))]
        {
            body[key] = value;
        }
        assert_eq!(world.post(path, &body).await.json(200).get("timings"), None, "{path}");
        body["timings"] = true.into();
        let told = world.post(path, &body).await.json(200);
        assert_eq!(told["timings"]["predicted_n"], 4, "{path}: {told}");
        assert!(told["timings"]["prompt_ms"].as_f64() > Some(0.0), "{path}: {told}");
        body["stream"] = true.into();
        let streamed = world.post(path, &body).await.text;
        assert_eq!(streamed.matches("\"timings\":{").count(), 1, "{path}: {streamed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_has_every_field_that_some_client_needs() {
    let world = World::new().await;
    let answer = world.post(PATH, &ask(&json!({"n": 2}))).await;
    assert_eq!(answer.header("x-hub-model"), "hub-guide");
    let json = answer.json(200);
    assert_eq!(json["object"], "chat.completion");
    assert_eq!(json["model"], "hub-guide");
    assert!(json["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert!(json["created"].as_u64().unwrap() > 1_600_000_000);
    for (index, choice) in json["choices"].as_array().unwrap().iter().enumerate() {
        assert_eq!(choice["index"], index);
        assert_eq!(choice["message"]["role"], "assistant");
        assert!(!choice["message"]["content"].as_str().unwrap().is_empty());
        assert!(["stop", "length"].contains(&choice["finish_reason"].as_str().unwrap()));
        assert_eq!(choice["logprobs"], Value::Null);
    }
    assert_eq!(json["choices"].as_array().unwrap().len(), 2);
    let usage = &json["usage"];
    let count = |key: &str| usage[key].as_u64().unwrap();
    assert_eq!(count("prompt_tokens") + count("completion_tokens"), count("total_tokens"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_says_what_the_whole_answer_says() {
    let world = World::new().await;
    let whole = world.post(PATH, &ask(&json!({}))).await.json(200);
    let streamed = ask(&json!({"stream": true, "stream_options": {"include_usage": true}}));
    let answer = world.post(PATH, &streamed).await;
    assert_eq!(answer.header("connection"), "close");
    assert_eq!(answer.header("x-hub-model"), "hub-guide");
    let events = answer.events();

    let (usage, chunks) = events.split_last().unwrap();
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(usage["usage"], whole["usage"]);
    assert_eq!(chunks[0]["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
    let mut text = String::new();
    for chunk in chunks {
        assert_eq!(chunk["object"], "chat.completion.chunk");
        assert_eq!(chunk["id"], events[0]["id"]);
        assert_eq!(chunk["created"], events[0]["created"]);
        assert_eq!(chunk["model"], "hub-guide");
        assert_eq!(chunk["usage"], Value::Null);
        assert!(chunk.as_object().unwrap().contains_key("usage"));
        assert_eq!(chunk["choices"][0]["index"], 0);
        text += chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default();
    }
    assert_eq!(text, whole["choices"][0]["message"]["content"]);
    let finishes: Vec<&Value> = chunks
        .iter()
        .map(|chunk| &chunk["choices"][0]["finish_reason"])
        .filter(|value| !value.is_null())
        .collect();
    assert_eq!(finishes, [&whole["choices"][0]["finish_reason"]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_is_told_only_where_it_was_asked_for() {
    let world = World::new().await;
    let events = world.post(PATH, &ask(&json!({"stream": true}))).await.events();
    assert!(events.iter().all(|event| !event.as_object().unwrap().contains_key("usage")));
    assert!(events.iter().all(|event| event["choices"].as_array().unwrap().len() == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_choice_of_a_stream_begins_and_ends() {
    let world = World::new().await;
    let events = world.post(PATH, &ask(&json!({"stream": true, "n": 3}))).await.events();
    for index in 0..3 {
        let own =
            || events.iter().map(|event| &event["choices"][0]).filter(|choice| choice["index"] == index);
        assert_eq!(own().next().unwrap()["delta"]["role"], "assistant");
        assert_eq!(own().filter(|choice| !choice["finish_reason"].is_null()).count(), 1);
        assert!(own().any(|choice| choice["delta"]["content"].as_str().is_some_and(|text| !text.is_empty())));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn probabilities_come_with_their_tokens() {
    let world = World::new().await;
    let body = ask(&json!({"logprobs": true, "top_logprobs": 3, "max_tokens": 3, "ignore_eos": true}));
    let json = world.post(PATH, &body).await.json(200);
    let tokens = json["choices"][0]["logprobs"]["content"].as_array().unwrap().clone();
    assert_eq!(tokens.len() as u64, json["usage"]["completion_tokens"].as_u64().unwrap());
    for token in &tokens {
        assert!(token["logprob"].as_f64().unwrap() <= 0.0);
        assert!(!token["bytes"].as_array().unwrap().is_empty());
        assert!(!token["top_logprobs"].as_array().unwrap().is_empty());
        assert!(token["token"].is_string());
    }
    let mut streamed = body.clone();
    streamed["stream"] = true.into();
    let events = world.post(PATH, &streamed).await.events();
    let told =
        events.iter().filter_map(|event| event["choices"][0]["logprobs"]["content"].as_array()).flatten();
    assert_eq!(told.cloned().collect::<Vec<_>>(), tokens);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_cannot_begin_is_a_plain_error() {
    let world = World::new().await;
    let body = ask(&json!({"stream": true, "max_tokens": 1_000_000}));
    world.post(PATH, &body).await.check_error(400, &"messages".into(), Some("context_length_exceeded"));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_named_and_their_use_is_kept() {
    let world = World::new().await;
    let body = ask(&json!({})).to_string();
    let request = Request::post(PATH).header("x-request-id", "mine-1").body(Body::from(body)).unwrap();
    let answer = world.send(request).await;
    assert_eq!(answer.header("x-request-id"), "mine-1");
    let usage = &answer.json(200)["usage"];
    world.hub.store().usage().flush().await;
    let summary = world.hub.store().usage().summary(0).await.unwrap();
    assert_eq!(summary.len(), 1);
    assert_eq!(summary[0].requests, 1);
    assert_eq!(summary[0].failed, 0);
    assert_eq!(summary[0].completion_tokens, usage["completion_tokens"].as_u64().unwrap());
}
