use hub_base::{ErrorKind, ModelId};
use hub_store::ModelRow;
use serde_json::json;

use crate::{NOW, in_file, in_memory};

fn row(name: &str) -> ModelRow {
    ModelRow {
        name: ModelId::new(name).unwrap(),
        source: "import".to_owned(),
        path: format!("/models/{name}/mô hình.gguf"),
        task: "chat".to_owned(),
        format: "gguf".to_owned(),
        family: "qwen3".to_owned(),
        weights: "q4_k".to_owned(),
        parameters: 8_000_000_000,
        bytes: 4_700_000_000,
        context_tokens: u32::MAX,
        details: json!({"z": 1, "a": [null, "ü"]}),
        created_at_ms: NOW,
    }
}

#[tokio::test]
async fn a_row_comes_back_as_it_went_in() {
    let home = tempfile::tempdir().unwrap();
    let store = in_file(home.path()).await.unwrap();
    store.catalog().insert(&row("qwen3:8b")).await.unwrap();
    store.close().await;

    let store = in_file(home.path()).await.unwrap();
    let found = store.catalog().find(&ModelId::new("qwen3:8b").unwrap()).await.unwrap();
    assert_eq!(found, Some(row("qwen3:8b")));
    assert_eq!(found.unwrap().details.to_string(), r#"{"z":1,"a":[null,"ü"]}"#, "keys keep their order");
    store.close().await;
}

#[tokio::test]
async fn a_name_is_given_once() {
    let store = in_memory().await;
    store.catalog().insert(&row("a")).await.unwrap();
    let error = store.catalog().insert(&ModelRow { bytes: 1, ..row("a") }).await.unwrap_err();
    assert_eq!(error.to_string(), "there is already a model named \"a\"");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(store.catalog().list().await.unwrap(), [row("a")]);
}

#[tokio::test]
async fn a_speed_is_kept_until_its_model_goes() {
    let store = in_memory().await;
    let a = ModelId::new("a").unwrap();
    store.catalog().insert(&row("a")).await.unwrap();
    assert_eq!(store.catalog().speed(&a).await.unwrap(), None);
    for speed in [json!({"decode": 1.5}), json!({"decode": 2.5})] {
        store.catalog().save_speed(&a, &speed).await.unwrap();
        assert_eq!(store.catalog().speed(&a).await.unwrap(), Some(speed));
    }
    store.catalog().remove(&a).await.unwrap();
    assert_eq!(store.catalog().speed(&a).await.unwrap(), None);
}

#[tokio::test]
async fn a_removed_model_is_returned_and_gone() {
    let store = in_memory().await;
    for name in ["b", "a"] {
        store.catalog().insert(&row(name)).await.unwrap();
    }
    let b = ModelId::new("b").unwrap();
    assert_eq!(store.catalog().list().await.unwrap(), [row("a"), row("b")]);
    assert_eq!(store.catalog().remove(&b).await.unwrap(), Some(row("b")));
    assert_eq!(store.catalog().remove(&b).await.unwrap(), None);
    assert_eq!(store.catalog().find(&b).await.unwrap(), None);
    assert_eq!(store.catalog().list().await.unwrap(), [row("a")]);
}
