use hub_base::CancelToken;
use hub_fetch::{Digest, Error, Source};
use sha2::Digest as _;

use hub_fixtures::Registry;

use crate::{fetcher, noise};

#[test]
fn a_checksum_is_asked_for_and_held_to() {
    let registry = Registry::start();
    let bytes = noise(3 << 20, 1);
    registry.file("/files/tiny.gguf", bytes.clone());
    let home = tempfile::tempdir().unwrap();
    let fetcher = fetcher(home.path(), &registry, |_| {});
    let cancel = CancelToken::new();
    let url = format!("{}/files/tiny.gguf", registry.url());
    let source = |digest| Source::Address { url: url.clone(), digest };
    assert!(matches!(fetcher.plan(&source(None), &cancel), Err(Error::NoChecksum { .. })));

    let right = sha2::Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let wrong =
        fetcher.plan(&source(Digest::sha256(&right.replace(char::is_alphabetic, "0"))), &cancel).unwrap();
    assert!(matches!(fetcher.fetch(&wrong, &|_| {}, &cancel), Err(Error::Digest { .. })));
    let plan = fetcher.plan(&source(Digest::sha256(&right)), &cancel).unwrap();
    let fetched = fetcher.fetch(&plan, &|_| {}, &cancel).unwrap();
    assert!(fetched.path.ends_with("tiny.gguf"));
    let connections = registry.connections();
    let offline = crate::fetcher(home.path(), &registry, |options| options.is_offline = true);
    let none = Digest::sha256(&"0".repeat(64));
    let absent = offline.plan(&source(none), &cancel).unwrap_err();
    let place = home.path().join("models/addresses").join("0".repeat(64)).join("tiny.gguf");
    assert!(matches!(&absent, Error::Offline { place: Some(found), .. } if *found == place), "{absent}");
    offline.plan(&source(Digest::sha256(&right)), &cancel).unwrap();
    assert_eq!(registry.connections(), connections);
    assert_eq!(std::fs::read(fetched.path).unwrap(), bytes);
}
