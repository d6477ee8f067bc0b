use serde_json::{Value, json};

use crate::world::World;

const PATH: &str = "/v1/completions";

fn ask(extra: &Value) -> Value {
    let mut body = json!({"model": "hub-guide", "temperature": 0, "max_tokens": 4, "prompt": "How do"});
    let fields = extra.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(fields);
    body
}

fn texts(json: &Value) -> Vec<String> {
    let choices = json["choices"].as_array().unwrap();
    choices.iter().map(|choice| choice["text"].as_str().unwrap().to_owned()).collect()
}

/// Puts the texts of a stream together, by choice.
fn joined(events: &[Value], choices: usize) -> Vec<String> {
    let mut texts = vec![String::new(); choices];
    for event in events {
        for choice in event["choices"].as_array().unwrap() {
            texts[usize::try_from(choice["index"].as_u64().unwrap()).unwrap()] +=
                choice["text"].as_str().unwrap();
        }
    }
    texts
}

#[tokio::test(flavor = "multi_thread")]
async fn prompts_and_choices_are_numbered_through() {
    let world = World::new().await;
    let body = ask(&json!({"prompt": ["How do", "What is"], "n": 2}));
    let json = world.post(PATH, &body).await.json(200);
    assert_eq!(json["object"], "text_completion");
    let texts = texts(&json);
    assert_eq!(texts.len(), 4);
    // At temperature 0 the choices of a prompt are equal.
    assert_eq!(texts[0], texts[1]);
    assert_eq!(texts[2], texts[3]);
    let alone = world.post(PATH, &ask(&json!({"prompt": "What is"}))).await.json(200);
    assert_eq!(alone["choices"][0]["text"], texts[2]);
    assert!(json["usage"]["completion_tokens"].as_u64().unwrap() >= 4);

    let mut streamed = body.clone();
    streamed["stream"] = true.into();
    assert_eq!(joined(&world.post(PATH, &streamed).await.events(), 4), texts);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_prompts_are_one_request() {
    let world = World::new().await;
    let json = world.post(PATH, &ask(&json!({"prompt": ["How do", "What is"], "n": 2}))).await.json(200);
    world.hub.store().usage().flush().await;
    let summary = world.hub.store().usage().summary(0).await.unwrap();
    assert_eq!((summary[0].requests, summary[0].failed), (1, 0));
    assert_eq!(summary[0].completion_tokens, json["usage"]["completion_tokens"].as_u64().unwrap());
    assert_eq!(summary[0].prompt_tokens, json["usage"]["prompt_tokens"].as_u64().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_is_scored_without_an_answer() {
    let world = World::new().await;
    let mut body =
        ask(&json!({"prompt": "How do I import a model?", "max_tokens": 0, "echo": true, "logprobs": 1}));
    let json = world.post(PATH, &body).await.json(200);
    let choice = &json["choices"][0];
    assert_eq!((&choice["text"], &choice["finish_reason"]), (&body["prompt"], &json!("length")));
    assert_eq!(json["usage"]["completion_tokens"], 0);
    let tokens = choice["logprobs"]["token_logprobs"].as_array().unwrap();
    assert_eq!(tokens.len() as u64, json["usage"]["prompt_tokens"].as_u64().unwrap());
    assert!(tokens[0].is_null() && tokens[1..].iter().all(|logprob| logprob.as_f64().unwrap() <= 0.0));
    body["stream"] = true.into();
    assert_eq!(joined(&world.post(PATH, &body).await.events(), 1), [body["prompt"].as_str().unwrap()]);
    let chat =
        json!({"model": "hub-guide", "max_tokens": 0, "messages": [{"role": "user", "content": "hi"}]});
    world.post("/v1/chat/completions", &chat).await.check_error(400, &"max_tokens".into(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_prompt_comes_back_once() {
    let world = World::new().await;
    let prompt = "How do I import a model? ".repeat(20);
    let body = json!({"prompt": prompt, "echo": true, "logprobs": 1, "stream": true, "max_tokens": 2});
    let events = world.post(PATH, &ask(&body)).await.events();
    assert!(joined(&events, 1)[0].starts_with(&prompt));
    assert_eq!(joined(&events, 1)[0].matches("How do I import").count(), 20);
    let offsets = events.iter().filter_map(|event| event["choices"][0]["logprobs"]["text_offset"].as_array());
    let offsets: Vec<u64> = offsets.flatten().map(|offset| offset.as_u64().unwrap()).collect();
    assert!(offsets.len() > 64 && offsets.is_sorted(), "{offsets:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_llama_cpp_mean_the_same() {
    let world = World::new().await;
    let json = world.post(PATH, &ask(&json!({"max_tokens": null, "n_predict": 2}))).await.json(200);
    assert!(json["usage"]["completion_tokens"].as_u64().unwrap() <= 2);
    let both = ask(&json!({"repetition_penalty": 1.2, "repeat_penalty": 1.3}));
    world.post(PATH, &both).await.check_error(400, &"repeat_penalty".into(), None);
    world.post(PATH, &ask(&json!({"n_predict": -1}))).await.json(200);
    let chat = json!({"model": "hub-guide", "n_predict": 0, "messages": [{"role": "user", "content": "hi"}]});
    world.post("/v1/chat/completions", &chat).await.check_error(400, &"n_predict".into(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_prompt_comes_back_if_it_is_wanted() {
    let world = World::new().await;
    let plain = world.post(PATH, &ask(&json!({}))).await.json(200);
    let expected = format!("How do{}", plain["choices"][0]["text"].as_str().unwrap());
    for extra in [json!({"echo": true}), json!({"echo": true, "logprobs": 2})] {
        let mut body = ask(&extra);
        assert_eq!(texts(&world.post(PATH, &body).await.json(200)), [expected.as_str()]);
        body["stream"] = true.into();
        assert_eq!(joined(&world.post(PATH, &body).await.events(), 1), [expected.as_str()]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn probabilities_are_four_lists_of_one_length() {
    let world = World::new().await;
    let json =
        world.post(PATH, &ask(&json!({"echo": true, "logprobs": 2, "ignore_eos": true}))).await.json(200);
    let logprobs = &json["choices"][0]["logprobs"];
    let list = |key: &str| logprobs[key].as_array().unwrap();
    let tokens = json["usage"]["total_tokens"].as_u64().unwrap();
    for key in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
        assert_eq!(list(key).len() as u64, tokens, "{key}");
    }
    // Nothing comes before the first token of the prompt.
    assert_eq!(list("token_logprobs")[0], Value::Null);
    assert!(list("token_logprobs").iter().skip(1).all(|logprob| logprob.as_f64().unwrap() <= 0.0));
    assert!(list("text_offset").is_sorted_by_key(|offset| offset.as_u64()));
    assert_eq!(list("text_offset")[0], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_a_prompt_too() {
    let world = World::new().await;
    let json = world.post(PATH, &ask(&json!({"prompt": [5, 6, 7], "echo": true}))).await.json(200);
    assert_eq!(json["usage"]["prompt_tokens"], 3);
    assert!(!texts(&json)[0].is_empty());
}
