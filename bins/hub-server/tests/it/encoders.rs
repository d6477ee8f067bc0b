//! Embeddings and rerank.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::world::World;

fn numbers(value: &Value) -> Vec<f32> {
    serde_json::from_value(value.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_are_equal_in_both_encodings() {
    let world = World::new().await.import("bert").await;
    let ask =
        |encoding: &str| json!({"model": "bert", "input": ["hello", "world"], "encoding_format": encoding});
    let float = world.post("/v1/embeddings", &ask("float")).await.json(200);
    let base64 = world.post("/v1/embeddings", &ask("base64")).await.json(200);
    assert_eq!(float["object"], "list");
    assert_eq!(float["model"], "bert");
    for at in 0..2 {
        assert_eq!(float["data"][at]["object"], "embedding");
        assert_eq!(float["data"][at]["index"], at);
        let bytes = STANDARD.decode(base64["data"][at]["embedding"].as_str().unwrap()).unwrap();
        let decoded: Vec<f32> =
            bytes.as_chunks().0.iter().map(|bytes: &[u8; 4]| f32::from_le_bytes(*bytes)).collect();
        assert_eq!(decoded, numbers(&float["data"][at]["embedding"]));
    }
    assert_eq!(float["usage"]["prompt_tokens"], float["usage"]["total_tokens"]);
    assert!(float["usage"]["total_tokens"].as_u64().unwrap() >= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn fewer_dimensions_are_the_first_ones() {
    let world = World::new().await.import("bert").await;
    let body = json!({"model": "bert", "input": "hello", "dimensions": 3});
    let json = world.post("/v1/embeddings", &body).await.json(200);
    assert_eq!(numbers(&json["data"][0]["embedding"]).len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_come_back_best_first() {
    let world = World::new().await.import("bert-reranker").await;
    let documents = ["hello world", "a", "the quick brown fox"];
    let body =
        json!({"model": "bert-reranker", "query": "hello", "documents": documents, "return_documents": true});
    let json = world.post("/v1/rerank", &body).await.json(200);
    let results = json["results"].as_array().unwrap();
    let scores: Vec<f64> = results.iter().map(|result| result["relevance_score"].as_f64().unwrap()).collect();
    assert!(scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
    for result in results {
        let at = usize::try_from(result["index"].as_u64().unwrap()).unwrap();
        assert_eq!(result["document"]["text"], documents[at]);
    }
    let top = json!({"model": "bert-reranker", "query": "hello", "documents": documents, "top_n": 1});
    let json = world.post("/v1/rerank", &top).await.json(200);
    assert_eq!(json["results"].as_array().unwrap().len(), 1);
    assert_eq!(json["results"][0].get("document"), None);
}
