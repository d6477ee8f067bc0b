use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;

use super::{Operation, meanings, write};
use crate::{
    api::operations,
    fields::{Fields, Notes},
};

fn with_bodies() -> Vec<(&'static Operation, &'static super::Body)> {
    operations().into_iter().filter_map(|operation| Some((operation, operation.body.as_ref()?))).collect()
}

/// Calls `see` with every value inside `value`, and itself.
fn walk(value: &Value, see: &mut impl FnMut(&Value)) {
    see(value);
    match value {
        Value::Object(map) => map.values().for_each(|value| walk(value, see)),
        Value::Array(list) => list.iter().for_each(|value| walk(value, see)),
        _ => {}
    }
}

#[test]
fn every_example_is_accepted_by_the_parser() {
    for (operation, body) in with_bodies() {
        assert!(!body.examples.is_empty(), "{} has no example", operation.path);
        for example in body.examples {
            let Value::Object(map) = (example.body)() else { panic!("{} is no object", example.name) };
            let read = (body.read)(Fields::example(map, Notes::default()));
            assert!(read.is_ok(), "{} of {}: {read:?}", example.name, operation.path);
        }
    }
}

#[test]
fn every_object_that_a_body_may_hold_is_in_an_example() {
    for (operation, body) in with_bodies() {
        assert_eq!(body.notes().unseen(), Vec::<String>::new(), "{}", operation.path);
    }
}

#[test]
fn every_field_has_a_meaning_and_every_meaning_a_field() {
    let mut names: BTreeSet<String> =
        with_bodies().iter().flat_map(|(_, body)| body.notes().names()).collect();
    names.extend(["id", "file"].map(str::to_owned));
    let known: BTreeSet<String> = meanings::names().map(str::to_owned).collect();
    assert_eq!(names, known);
}

#[test]
fn no_route_is_made_outside_the_list_of_operations() {
    fn sources(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, found);
            } else {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    sources(&root, &mut found);
    // Put together, so that this file does not hold it.
    let call = ["Router", "new"].join("::");
    let makers = found.into_iter().filter(|path| fs::read_to_string(path).unwrap().contains(&call));
    assert_eq!(makers.collect::<Vec<_>>(), [root.join("api/mod.rs")]);
}

#[test]
fn the_document_has_every_operation_once_and_no_other() {
    let document = write(&operations());
    let paths = document["paths"].as_object().unwrap();
    let count: usize = paths.values().map(|path| path.as_object().unwrap().len()).sum();
    assert_eq!(count, operations().len());
    let mut ids = BTreeSet::new();
    walk(&document["paths"], &mut |value| {
        if let Some(id) = value.get("operationId") {
            assert!(ids.insert(id.to_string()), "{id} twice");
        }
    });
    assert_eq!(ids.len(), count);
}

#[test]
fn the_document_is_whole_and_always_the_same() {
    let document = write(&operations());
    assert_eq!(document, write(&operations()));
    assert_eq!(document["openapi"], "3.1.0");
    walk(&document, &mut |value| {
        if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
        }
    });
    // Two types of one name are told apart by a number, which says nothing to a reader.
    for name in document["components"]["schemas"].as_object().unwrap().keys() {
        assert!(!name.ends_with(|c: char| c.is_ascii_digit()), "{name} is the name of two types");
    }
}
