use hub_base::ErrorKind;
use hub_router::{Router, RouterOptions};

use crate::{chat, describe, router, targets};

const INSTALLED: &str = "
    big chat 8000 900
    small chat 4000 100
    hub-guide chat 1000 8 builtin
";

#[track_caller]
fn check(aliases: &str, model: &str, expected: &str) {
    let decision = router(aliases).decide(&chat(model), &targets(INSTALLED)).unwrap();
    assert_eq!(describe(&decision), expected);
}

#[track_caller]
fn check_refused(aliases: &str, expected: &str) {
    let options: RouterOptions = toml::from_str(&format!("[aliases]\n{aliases}")).unwrap();
    let error = Router::new(options).unwrap_err();
    assert_eq!(error.to_string(), expected);
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn an_alias_leads_to_its_model_alone() {
    check(r#""gpt-4o" = "small""#, "gpt-4o", "small: alias gpt-4o");
}

#[test]
fn a_list_gives_fallbacks_in_its_order() {
    check(r#"fast = ["small", "big"]"#, "fast", "small: alias fast\nbig: alias fast");
}

#[test]
fn an_alias_may_lead_to_an_alias() {
    let aliases = "a = \"b\"\nb = [\"c\", \"big\"]\nc = \"small\"";
    check(aliases, "a", "small: alias a\nbig: alias a");
}

#[test]
fn a_model_reached_twice_is_tried_once() {
    let aliases = "a = [\"b\", \"c\"]\nb = \"small\"\nc = [\"small\", \"big\"]";
    check(aliases, "a", "small: alias a\nbig: alias a");
}

#[test]
fn a_list_may_end_in_auto() {
    check(
        r#"fast = ["small", "auto"]"#,
        "fast",
        "small: alias fast\nbig: alias fast, auto\nhub-guide: alias fast, auto, built in",
    );
}

#[test]
fn an_alias_wins_over_a_model_of_its_name() {
    check(r#"big = "small""#, "big", "small: alias big");
}

#[test]
fn a_missing_entry_is_skipped_and_named() {
    check(r#"a = ["gone", "big"]"#, "a", "big: alias a\n- gone: alias: not installed");
}

#[test]
fn an_alias_to_nothing_installed_says_where_it_leads() {
    let error = router(r#"a = ["gone", "lost"]"#).decide(&chat("a"), &targets(INSTALLED)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(
        error.to_string(),
        "alias \"a\" leads to gone, lost, which is not installed; installed: big, hub-guide, small"
    );
}

#[test]
fn circles_are_refused_with_their_chain() {
    check_refused(
        "a = \"b\"\nb = [\"small\", \"c\"]\nc = \"a\"",
        "aliases lead in a circle: a -> b -> c -> a",
    );
    check_refused(r#"a = "a""#, "aliases lead in a circle: a -> a");
    // The way into the circle is no part of it.
    check_refused("a = \"b\"\nb = \"c\"\nc = \"b\"", "aliases lead in a circle: b -> c -> b");
}

#[test]
fn a_ladder_of_doubled_aliases_is_walked_once() {
    let rungs = (0..60).map(|i| format!("a{i} = [\"a{}\", \"a{}\"]", i + 1, i + 1));
    let aliases = rungs.chain(["a60 = \"small\"".to_owned()]).collect::<Vec<_>>().join("\n");
    check(&aliases, "a0", "small: alias a0");
}

#[test]
fn aliases_without_a_meaning_are_refused() {
    check_refused("a = []", "alias \"a\" names no model");
    check_refused(r#"auto = "big""#, "\"auto\" is a reserved name and cannot be an alias");
    check_refused(
        r#"a = "no such name""#,
        "alias \"a\" leads to an impossible name: \"no such name\" is not a model name: use 1 to 128 ASCII letters, digits and `-_.:/`, \
         beginning with a letter or a digit",
    );
}

#[test]
fn an_unknown_setting_is_refused() {
    assert!(toml::from_str::<RouterOptions>("alias = {}").is_err());
    assert_eq!(toml::from_str::<RouterOptions>("").unwrap(), RouterOptions::default());
}
