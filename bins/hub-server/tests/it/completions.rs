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
    let json = world.post(PATH, &ask(&json!({"echo": true, "logprobs": 2}))).await.json(200);
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
