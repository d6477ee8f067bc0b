use std::path::Path;

use hub_store::{Database, ModelUsage, Store, StoreOptions, UsageRow};

use crate::{NOW, in_file, in_memory};

fn row(model: &str, at_ms: i64) -> UsageRow {
    UsageRow {
        at_ms,
        request_id: "req_1".to_owned(),
        model: model.to_owned(),
        task: "chat".to_owned(),
        endpoint: "/v1/chat/completions".to_owned(),
        prompt_tokens: 10,
        completion_tokens: 20,
        queue_ms: 1,
        prefill_ms: 2,
        decode_ms: 3,
        status: 200,
        ..UsageRow::default()
    }
}

fn requests(summary: &[ModelUsage]) -> u64 {
    summary.iter().map(|model| model.requests).sum()
}

#[tokio::test]
async fn a_summary_adds_up_by_model() {
    let store = in_memory().await;
    store.usage().record(row("b", NOW));
    store.usage().record(UsageRow { status: 413, error_kind: Some("too_large".to_owned()), ..row("a", NOW) });
    store.usage().record(UsageRow { key_id: Some("key_1".to_owned()), ..row("a", NOW + 1) });
    store.usage().record(row("a", NOW - 1));
    store.usage().flush().await;

    let summary = store.usage().summary(NOW).await.unwrap();
    let described: Vec<_> = summary
        .iter()
        .map(|m| (m.model.as_str(), m.requests, m.failed, m.prompt_tokens, m.completion_tokens, m.decode_ms))
        .collect();
    assert_eq!(described, [("a", 2, 1, 20, 40, 6), ("b", 1, 0, 10, 20, 3)]);
    assert_eq!(store.usage().summary(NOW + 2).await.unwrap(), []);
}

#[tokio::test]
async fn closing_writes_what_is_queued() {
    let home = tempfile::tempdir().unwrap();
    let store = in_file(home.path()).await.unwrap();
    for i in 0..1_000 {
        store.usage().record(row("a", NOW + i));
    }
    store.close().await;
    assert_eq!(store.usage().dropped(), 0);

    let store = in_file(home.path()).await.unwrap();
    assert_eq!(requests(&store.usage().summary(NOW).await.unwrap()), 1_000);
    store.close().await;
}

#[tokio::test]
async fn a_full_queue_drops_and_counts_and_never_waits() {
    let options = StoreOptions::default().database(Database::Memory).usage_queue(8);
    let store = Store::open(Path::new("unused"), options).await.unwrap();
    // The writing task shares this thread and cannot run before the first await.
    for i in 0..20 {
        store.usage().record(row("a", NOW + i));
    }
    assert_eq!(store.usage().dropped(), 12);
    store.usage().flush().await;
    assert_eq!(requests(&store.usage().summary(NOW).await.unwrap()), 8);
}

#[tokio::test]
async fn after_closing_rows_are_dropped_and_reads_fail() {
    let store = in_memory().await;
    store.close().await;
    store.close().await;
    store.usage().record(row("a", NOW));
    store.usage().flush().await;
    assert_eq!(store.usage().dropped(), 1);
    assert_eq!(store.usage().summary(NOW).await.unwrap_err().to_string(), "the store is closed");
}
