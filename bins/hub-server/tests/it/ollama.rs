use serde_json::{Value, json};

use crate::world::{Answer, World};

/// Reads an answer that is lines of JSON.
fn lines(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.header("content-type"), "application/x-ndjson", "{}", answer.text);
    answer.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn ask(extra: &Value) -> Value {
    let mut body = json!({
        "model": "hub-guide:latest", "options": {"temperature": 0, "num_ctx": 2048},
        "messages": [{"role": "user", "content": "How do I import a model?"}],
    });
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_streams_lines_and_says_what_it_took() {
    let world = World::new().await;
    let whole = world.post("/api/chat", &ask(&json!({"stream": false}))).await.json(200);
    let text = whole["message"]["content"].as_str().unwrap();
    assert!(text.contains("hub import"), "{text}");
    assert_eq!((&whole["done"], &whole["done_reason"]), (&json!(true), &json!("stop")));
    let streamed = lines(&world.post("/api/chat", &ask(&json!({}))).await);
    let joined: String = streamed.iter().map(|line| line["message"]["content"].as_str().unwrap()).collect();
    assert_eq!(joined, text);
    let last = streamed.last().unwrap();
    assert_eq!(last["done"], true);
    for key in ["total_duration", "prompt_eval_count", "prompt_eval_duration", "eval_count", "eval_duration"]
    {
        assert!(last[key].as_u64().unwrap() > 0, "{key}: {last}");
    }
    assert_eq!(last["eval_count"], whole["eval_count"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_is_a_question_or_a_text() {
    let world = World::new().await;
    let body =
        json!({"model": "hub-guide", "prompt": "How do I import a model?", "options": {"temperature": 0}});
    let last = lines(&world.post("/api/generate", &body).await).pop().unwrap();
    assert_eq!((&last["response"], &last["done_reason"]), (&json!(""), &json!("stop")));
    let raw = json!({"model": "hub-guide", "prompt": "How do", "raw": true, "stream": false, "options": {"num_predict": 3}});
    let raw = world.post("/api/generate", &raw).await.json(200);
    assert!(raw["eval_count"].as_u64().unwrap() <= 3);
    let load = json!({"model": "hub-guide", "keep_alive": "5m"});
    let load = world.post("/api/generate", &load).await.json(200);
    assert_eq!((&load["done"], &load["done_reason"]), (&json!(true), &json!("load")));
    let kept = world.get("/hub/v1/ps").await.json(200)["models"][0]["expires_in_ms"].as_u64();
    assert!(kept.is_some_and(|ms| (1..=300_000).contains(&ms)), "{kept:?}");
    let bad = json!({"model": "hub-guide", "keep_alive": "soon"});
    let bad = world.post("/api/generate", &bad).await.json(400);
    assert!(bad["error"].as_str().unwrap().contains("is no time"), "{bad}");
    let unload = world.post("/api/chat", &json!({"model": "hub-guide", "keep_alive": 0})).await.json(200);
    assert_eq!(unload["done_reason"], "unload");
    while world.get("/api/ps").await.json(200)["models"] != json!([]) {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_told_in_ollamas_words() {
    let world = World::new().await.import("bert").await;
    let tags = world.get("/api/tags").await.json(200);
    let names: Vec<_> = tags["models"].as_array().unwrap().iter().map(|model| &model["name"]).collect();
    assert_eq!(names, ["bert", "hub-guide"]);
    assert!(tags["models"][0]["modified_at"].as_str().unwrap().starts_with("20"));
    let show = world.post("/api/show", &json!({"model": "bert"})).await.json(200);
    assert_eq!(show["capabilities"], json!(["embedding"]));
    assert_eq!(show["details"]["format"], "safetensors");
    assert!(world.get("/api/version").await.json(200)["version"].is_string());
    let embedded =
        world.post("/api/embed", &json!({"model": "bert:latest", "input": ["a", "b"]})).await.json(200);
    assert_eq!(embedded["embeddings"].as_array().unwrap().len(), 2);
    assert_eq!(world.get("/api/ps").await.json(200)["models"][0]["name"], "bert");
    let stop = world.post("/api/generate", &json!({"model": "bert", "keep_alive": 0})).await.json(200);
    assert_eq!(stop["done_reason"], "unload", "whatever a model does, it is stopped so");
    let old = world.post("/api/embeddings", &json!({"model": "bert", "prompt": "a"})).await.json(200);
    let numbers = |vector: &Value| -> Vec<f64> {
        vector.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
    };
    let pairs = numbers(&old["embedding"]).into_iter().zip(numbers(&embedded["embeddings"][0]));
    assert!(pairs.into_iter().all(|(one, other)| (one - other).abs() < 1e-4));
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_have_ollamas_shape() {
    let world = World::requiring_keys().await;
    let refused = world.get("/api/tags").await;
    assert_eq!(refused.status, 401);
    assert!(refused.json(401)["error"].is_string(), "{}", refused.text);
    let world = World::new().await;
    for (path, body, status) in [
        ("/api/chat", ask(&json!({"model": "nope"})), 404),
        ("/api/chat", ask(&json!({"format": "json"})), 400),
        ("/api/chat", ask(&json!({"tools": [{}]})), 400),
        ("/api/chat", ask(&json!({"options": {"mirostat": 1}})), 400),
        ("/api/chat", ask(&json!({"options": {"stop": [""]}})), 400),
        ("/api/embed", json!({"model": "hub-guide", "input": "x", "options": {"stop": [""]}}), 400),
        ("/api/embed", json!({"model": "hub-guide", "input": "x", "options": 1}), 400),
        // Nothing is asked, and what cannot be meant is refused all the same.
        ("/api/chat", json!({"model": "hub-guide", "odd": 1}), 400),
        ("/api/show", json!({"name": null}), 400),
        ("/api/generate", json!({"prompt": "x"}), 400),
        ("/api/nothing", json!({}), 404),
    ] {
        let answer = world.post(path, &body).await;
        assert!(answer.json(status)["error"].is_string(), "{}", answer.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_is_told_in_ollamas_words() {
    let registry = hub_fixtures::Registry::start();
    let guide = include_bytes!("../../../../crates/hub-models/guide/hub-guide.gguf");
    registry.ollama("library/tiny", "latest", &[("model", guide.to_vec())]);
    let mut config = hub::HubConfig::default();
    config.fetch.ollama_registry = registry.url();
    let world = World::with(config).await;
    let told = lines(&world.post("/api/pull", &json!({"model": "tiny"})).await);
    assert_eq!(told.first().map(|line| &line["status"]), Some(&json!("pulling manifest")));
    assert_eq!(told.last().map(|line| &line["status"]), Some(&json!("success")));
    assert!(told.iter().any(|line| line["completed"] == line["total"] && line["total"].is_u64()));
    let again = world.post("/api/pull", &json!({"name": "tiny", "stream": false})).await.json(200);
    assert_eq!(again, json!({"status": "success"}));
    let missing = world.post("/api/pull", &json!({"model": "nothing", "stream": false})).await.json(404);
    assert!(missing["error"].as_str().unwrap().contains("nothing"), "{missing}");
    let answer = json!({"model": "tiny", "prompt": "hi", "stream": false});
    assert_eq!(world.post("/api/generate", &answer).await.json(200)["done"], true);
}
