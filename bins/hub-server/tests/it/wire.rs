//! Every request of `fixtures/wire`.

use std::fs;

use serde::Deserialize;
use serde_json::Value;

use crate::world::World;

#[derive(Deserialize)]
struct Refused {
    about: String,
    path: String,
    body: Value,
    status: u16,
    param: Value,
    code: Option<String>,
}

#[derive(Deserialize)]
struct Accepted {
    about: String,
    path: String,
    body: Value,
}

fn read<T: serde::de::DeserializeOwned>(name: &str) -> Vec<T> {
    let text = fs::read(hub_fixtures::root().join("wire").join(name)).unwrap();
    serde_json::from_slice(&text).unwrap()
}

async fn world() -> World {
    World::new().await.import("bert").await.import("bert-reranker").await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_meant_is_refused_by_name() {
    let world = world().await;
    for case in read::<Refused>("refused.json") {
        println!("{}", case.about);
        let answer = world.post(&case.path, &case.body).await;
        answer.check_error(case.status, &case.param, case.code.as_deref());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_send_is_answered() {
    let world = world().await;
    for case in read::<Accepted>("accepted.json") {
        let answer = world.post(&case.path, &case.body).await;
        assert_eq!(answer.status, 200, "{}: {}", case.about, answer.text);
        assert!(!answer.header("x-hub-model").is_empty(), "{}", case.about);
        assert!(!answer.header("x-hub-route").is_empty(), "{}", case.about);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_carry_the_numbers_and_the_names() {
    let world = world().await;
    let long = serde_json::json!({"model": "hub-guide", "prompt": vec![5; 100_000]});
    let answer = world.post("/v1/completions", &long).await;
    answer.check_error(400, &"prompt".into(), Some("context_length_exceeded"));
    assert!(answer.text.contains("100001"), "{}", answer.text);
    let unknown = serde_json::json!({"model": "gpt-9", "input": "a"});
    let answer = world.post("/v1/embeddings", &unknown).await;
    for name in ["gpt-9", "hub-guide", "bert"] {
        assert!(answer.text.contains(name), "{}", answer.text);
    }
}
