use std::path::Path;

use hub_base::ModelId;
use hub_store::{ModelRow, Store, StoreOptions};

/// A server awaits these on threads that share work, so the futures must be `Send`.
fn is_send<T: Send>(_: T) {}

#[test]
fn futures_can_move_between_threads() {
    let _ = |store: Store, row: ModelRow, name: ModelId| {
        is_send(Store::open(Path::new("home"), StoreOptions::default()));
        is_send(store.catalog().insert(&row));
        is_send(store.catalog().find(&name));
        is_send(store.catalog().list());
        is_send(store.catalog().remove(&name));
        is_send(store.keys().create("name", 0));
        is_send(store.keys().list());
        is_send(store.keys().revoke("name", 0));
        is_send(store.keys().verify("secret", 0));
        is_send(store.usage().flush());
        is_send(store.usage().summary(0));
        is_send(store.close());
    };
}
