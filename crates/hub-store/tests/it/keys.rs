use std::fs;

use crate::{NOW, in_file, in_memory};

#[tokio::test]
async fn a_secret_opens_until_it_is_revoked() {
    let store = in_memory().await;
    let key = store.keys().create("laptop", NOW).await.unwrap();
    let secret = key.secret.reveal();
    assert_eq!(store.keys().verify(secret, NOW).await.unwrap().unwrap().id, key.row.id);

    let revoked = store.keys().revoke("laptop", NOW + 5).await.unwrap().unwrap();
    assert_eq!(revoked.revoked_at_ms, Some(NOW + 5));
    assert_eq!(store.keys().verify(secret, NOW).await.unwrap(), None);
    assert_eq!(store.keys().revoke("laptop", NOW + 6).await.unwrap(), None, "it is revoked already");
}

#[tokio::test]
async fn other_secrets_open_nothing() {
    let store = in_memory().await;
    let key = store.keys().create("laptop", NOW).await.unwrap();
    let secret = key.secret.reveal().to_owned();
    for wrong in [
        "",
        "hub_",
        &secret[1..],
        &secret.to_uppercase(),
        &format!("{secret} "),
        &key.row.prefix,
        &key.row.id,
    ] {
        assert_eq!(store.keys().verify(wrong, NOW).await.unwrap(), None, "{wrong:?}");
    }
}

#[tokio::test]
async fn secrets_are_long_random_and_hidden_from_logs() {
    let store = in_memory().await;
    let a = store.keys().create("a", NOW).await.unwrap();
    let b = store.keys().create("b", NOW).await.unwrap();
    assert_eq!(a.secret.reveal().len(), "hub_".len() + 64);
    assert!(a.secret.reveal().starts_with(&a.row.prefix));
    assert_ne!(a.secret, b.secret);
    assert_ne!(a.row.id, b.row.id);
    assert!(!format!("{a:?}").contains(a.secret.reveal()));
}

#[tokio::test]
async fn the_file_does_not_hold_the_secret() {
    let home = tempfile::tempdir().unwrap();
    let store = in_file(home.path()).await.unwrap();
    let key = store.keys().create("laptop", NOW).await.unwrap();
    store.close().await;
    let file = fs::read(home.path().join("hub.db")).unwrap();
    let holds = |text: &str| file.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds(&key.row.prefix), "the check must be able to find what is there");
    assert!(!holds(key.secret.reveal()));
    assert!(!holds(&key.secret.reveal()[key.row.prefix.len()..]));
}

#[tokio::test]
async fn active_names_are_unique_and_revoked_ones_are_free() {
    let store = in_memory().await;
    let first = store.keys().create("ci", NOW).await.unwrap().row;
    let error = store.keys().create("ci", NOW).await.unwrap_err();
    assert_eq!(error.to_string(), "there is already a key named \"ci\"");
    store.keys().revoke("ci", NOW).await.unwrap();
    let second = store.keys().create("ci", NOW + 1).await.unwrap().row;
    let listed = store.keys().list().await.unwrap();
    assert_eq!(
        listed.iter().map(|row| (&row.id, row.is_active())).collect::<Vec<_>>(),
        [(&first.id, false), (&second.id, true)]
    );
}

#[tokio::test]
async fn an_id_is_told_from_a_name_that_looks_like_it() {
    let store = in_memory().await;
    let real = store.keys().create("real", NOW).await.unwrap().row;
    let impostor = store.keys().create(&real.id, NOW).await.unwrap().row;
    assert_eq!(store.keys().revoke(&real.id, NOW).await.unwrap().unwrap().id, real.id);
    assert_eq!(store.keys().revoke(&real.id, NOW).await.unwrap().unwrap().id, impostor.id);
}

#[tokio::test]
async fn the_last_use_is_noted_to_the_minute() {
    let store = in_memory().await;
    let key = store.keys().create("laptop", NOW).await.unwrap();
    for (used_at, noted) in [(NOW + 1, NOW + 1), (NOW + 30_000, NOW + 1), (NOW + 60_001, NOW + 60_001)] {
        store.keys().verify(key.secret.reveal(), used_at).await.unwrap();
        store.usage().flush().await;
        assert_eq!(store.keys().list().await.unwrap()[0].last_used_at_ms, Some(noted));
    }
}
