use axum::{body::Body, http::Request};
use hub::HubConfig;
use serde_json::{Value, json};

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn supervisors_are_answered() {
    let world = World::new().await;
    assert_eq!(world.get("/health").await.json(200), json!({"status": "ok"}));
    let ready = world.get("/ready").await.json(200);
    assert_eq!(ready["store"]["status"], "ok");
    assert_eq!(ready["models"], json!({"status": "ok", "installed": 1, "loaded": 0, "loading": []}));
    let metrics = world.get("/metrics").await;
    assert!(metrics.header("content-type").starts_with("text/plain; version=0.0.4"));
    assert!(metrics.text.contains("hub_http_requests_total{route=\"/ready\",status=\"200\"} 1\n"));
    assert!(metrics.text.contains("hub_models_loaded 0\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_used_is_counted() {
    let world = World::new().await;
    let body =
        json!({"model": "hub-guide", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 3});
    let usage = world.post("/v1/chat/completions", &body).await.json(200)["usage"].clone();
    let metrics = world.get("/metrics").await.text;
    let line = format!("hub_tokens_total{{kind=\"completion\"}} {}\n", usage["completion_tokens"]);
    assert!(metrics.contains(&line), "{metrics}");
    assert!(metrics.contains("hub_decode_seconds_count 1\n"));
    let loaded = world.get("/hub/v1/ps").await.json(200);
    assert_eq!(loaded["models"][0]["name"], "hub-guide");
    assert_eq!(loaded["models"][0]["task"], "chat");
    for key in ["memory_bytes", "context_tokens", "running", "waiting"] {
        assert!(loaded["models"][0][key].is_u64(), "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_loaded_before_it_is_asked_and_unloaded_when_nobody_uses_it() {
    let world = World::new().await.import("bert").await;
    let names = async || {
        let loaded = world.get("/hub/v1/ps").await.json(200);
        let models = loaded["models"].as_array().unwrap().clone();
        models.into_iter().map(|model| model["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for model in ["hub-guide", "bert"] {
        let body = json!({"model": model, "keep_alive": "30m"});
        assert_eq!(world.post("/hub/v1/models/load", &body).await.json(200)["name"], model);
    }
    assert_eq!(names().await, ["bert", "hub-guide"]);
    world.post("/hub/v1/models/unload", &json!({"model": "bert"})).await.json(200);
    let mut left = names().await;
    for _ in 0..200 {
        if left == ["hub-guide"] {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        left = names().await;
    }
    assert_eq!(left, ["hub-guide"]);
    for path in ["/hub/v1/models/load", "/hub/v1/models/unload"] {
        assert!(world.post(path, &json!({"model": "nope"})).await.text.contains("nope"));
        let wrong = world.post(path, &json!({"model": "bert", "x": 1})).await;
        wrong.check_error(400, &"x".into(), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_listed_and_found() {
    let world = World::new().await.import("bert").await;
    let list = world.get("/v1/models").await.json(200);
    assert_eq!(list["object"], "list");
    let ids: Vec<&str> =
        list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["bert", "hub-guide"]);
    let model = world.get("/v1/models/hub-guide").await.json(200);
    assert_eq!(model["object"], "model");
    assert!(model["created"].is_i64() && model["owned_by"].is_string());
    let missing = world.get("/v1/models/org%2Fnothing").await;
    missing.check_error(404, &"model".into(), Some("model_not_found"));
    assert!(missing.text.contains("org/nothing") && missing.text.contains("hub-guide"), "{}", missing.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_is_a_model_to_whoever_looks_for_it() {
    let config = HubConfig::default().alias("gpt-4o-mini", "hub-guide").alias("o9", "not-here");
    let world = World::with(config).await;
    let list = world.get("/v1/models").await.json(200);
    let ids: Vec<_> = list["data"].as_array().unwrap().iter().map(|model| &model["id"]).collect();
    assert_eq!(ids, ["hub-guide", "gpt-4o-mini"]);
    assert_eq!(world.get("/v1/models/gpt-4o-mini").await.json(200)["owned_by"], "alias");
    world.get("/v1/models/o9").await.check_error(404, &"model".into(), Some("model_not_found"));
    world.get("/v1/models/%ff%fe").await.check_error(404, &"model".into(), Some("model_not_found"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_exist_is_refused_in_the_same_shape() {
    let world = World::new().await;
    world.get("/v1/nothing").await.check_error(404, &Value::Null, Some("unknown_operation"));
    let wrong_method = world.get("/v1/chat/completions").await;
    wrong_method.check_error(405, &Value::Null, Some("method_not_allowed"));
    assert_eq!(wrong_method.header("allow"), "POST");
    let deleted = world.send(Request::delete("/v1/models").body(Body::empty()).unwrap()).await;
    deleted.check_error(405, &Value::Null, Some("method_not_allowed"));
    // Names that callers made up are not counted one by one.
    assert!(world.get("/metrics").await.text.contains("route=\"unknown\",status=\"404\"} 1\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_no_json_are_refused() {
    let world = World::new().await;
    for body in [&b""[..], b"{", b"[]", b"null", b"{\"model\": \"\xff\xfe\"}", b"\x00"] {
        let request = Request::post("/v1/chat/completions").body(Body::from(body)).unwrap();
        world.send(request).await.check_error(400, &Value::Null, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_streams_how_far_it_has_come() {
    let registry = hub_fixtures::Registry::start();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../crates/hub-models/guide/hub-guide.gguf");
    registry.ollama("library/tiny", "latest", &[("model", std::fs::read(path).unwrap())]);
    let mut config = HubConfig::default();
    config.fetch.ollama_registry = registry.url();
    let world = World::with(config).await;
    let events = world.post("/hub/v1/models/pull", &json!({"source": "ollama:tiny"})).await.events();
    assert_eq!(events[0]["event"], "plan");
    assert!(events.iter().any(|event| event["event"] == "file" && event["stage"] == "done"), "{events:?}");
    assert_eq!(events.last().unwrap()["model"]["name"], "tiny");
    world.get("/v1/models/tiny").await.json(200);

    registry.ollama(
        "library/tuned",
        "latest",
        &[("model", std::fs::read(path).unwrap()), ("adapter", vec![1, 2, 3])],
    );
    let tuned = world.post("/hub/v1/models/pull", &json!({"source": "ollama:tuned", "stream": false})).await;
    let notes = tuned.json(200)["notes"].to_string();
    assert!(notes.contains("its adapter is stored"), "{notes}");
    let ask = json!({"model": "tuned", "messages": [{"role": "user", "content": "hi"}]});
    let refused = world.post("/v1/chat/completions", &ask).await;
    refused.check_error(400, &"messages".into(), Some("unsupported"));
    assert!(refused.text.contains("ollama:tuned:latest comes with an adapter"), "{}", refused.text);

    let whole = json!({"source": "ollama:nothing", "stream": false});
    world.post("/hub/v1/models/pull", &whole).await.check_error(404, &Value::Null, None);
    let refused = world.post("/hub/v1/models/pull", &json!({"source": "nothing"})).await;
    refused.check_error(400, &Value::Null, None);
    assert!(refused.text.contains("names no source"), "{}", refused.text);
}
