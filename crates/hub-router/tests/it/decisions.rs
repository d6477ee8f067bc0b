use hub_base::{ErrorKind, Task};
use hub_router::{Request, Router, RouterOptions};

use crate::{chat, describe, targets};

#[track_caller]
fn check(request: Request<'_>, installed: &str, expected: &str) {
    let router = Router::new(RouterOptions::default()).unwrap();
    let mut targets = targets(installed);
    let forward = router.decide(&request, &targets).unwrap();
    assert_eq!(describe(&forward), expected);
    targets.reverse();
    let backward = router.decide(&request, &targets).unwrap();
    assert_eq!(forward.candidates, backward.candidates, "the order of the targets must play no part");
}

#[track_caller]
fn check_refused(request: Request<'_>, installed: &str, kind: ErrorKind, expected: &str) {
    let error =
        Router::new(RouterOptions::default()).unwrap().decide(&request, &targets(installed)).unwrap_err();
    assert_eq!(error.to_string(), expected);
    assert_eq!(error.kind(), kind);
}

#[test]
fn a_named_model_is_the_only_candidate() {
    check(chat("small"), "big chat 8000 900 loaded\n small chat 4000 100", "small: named");
}

#[test]
fn a_named_model_is_not_refused_on_an_estimate() {
    let request = Request { prompt_tokens: 1_000_000, ..chat("small") };
    check(request, "small chat 4000 100\n big chat 8000 900", "small: named");
}

#[test]
fn an_unknown_model_lists_what_is_installed() {
    check_refused(
        chat("gpt-4o"),
        "small chat 4000 100\n big chat 8000 900",
        ErrorKind::NotFound,
        "there is no model \"gpt-4o\"; installed: big, small",
    );
    check_refused(chat("../etc"), "", ErrorKind::NotFound, "there is no model \"../etc\"; installed: none");
    check_refused(chat("auto"), "", ErrorKind::NotFound, "there is no model \"auto\"; installed: none");
}

#[test]
fn a_named_model_that_cannot_do_the_task_is_refused_by_name() {
    check_refused(
        Request { task: Task::Embed, ..chat("small") },
        "small chat 4000 100\n minilm embed+rerank 512 90",
        ErrorKind::Unsupported,
        "model small cannot embed; it can chat",
    );
}

#[test]
fn auto_keeps_the_models_that_can_do_the_task() {
    check(
        Request { task: Task::Rerank, ..chat("auto") },
        "a-chat chat 4000 100\n minilm embed+rerank 512 90",
        "minilm: auto\n- a-chat: capability: cannot rerank",
    );
    check_refused(
        Request { task: Task::Embed, ..chat("auto") },
        "small chat 4000 100",
        ErrorKind::NotFound,
        "no installed model can embed; installed: small",
    );
}

#[test]
fn auto_prefers_loaded_then_longer_context_then_larger_then_the_name() {
    check(
        chat("auto"),
        "
        hub-guide chat 9000 8 builtin loaded
        d chat 4000 100
        c chat 4000 100
        b chat 4000 200
        a chat 2000 900
        e chat 8000 100
        z chat 1000 50 loaded
        ",
        "z: auto, loaded\ne: auto\nb: auto\nc: auto\nd: auto\na: auto\nhub-guide: auto, built in, loaded",
    );
}

#[test]
fn auto_prefers_a_model_that_fits_over_one_that_is_loaded() {
    check(
        Request { prompt_tokens: 3_000, max_tokens: Some(1_000), ..chat("auto") },
        "small chat 2000 100 loaded\n edge chat 3999 100\n exact chat 4000 100",
        "exact: auto\nsmall: auto, loaded, may pass 2000 tokens\nedge: auto, may pass 3999 tokens",
    );
}

#[test]
fn auto_leaves_out_what_is_hopelessly_short() {
    let request = Request { prompt_tokens: 40_000, ..chat("auto") };
    let two = "tiny chat 512 10 loaded\n mid chat 6000 100";
    check(
        request,
        two,
        "mid: auto, may pass 6000 tokens\n- tiny: context: too long for its context of 512 tokens",
    );
    check_refused(
        Request { prompt_tokens: 500_000, max_tokens: Some(10), ..request },
        two,
        ErrorKind::TooLarge,
        "the request may take 500010 tokens and the longest context is 6000",
    );
}

#[test]
fn absurd_numbers_do_not_wrap_around() {
    let request = Request { prompt_tokens: 10, max_tokens: Some(u64::MAX), ..chat("auto") };
    check(request, "small chat 2000 100", "small: auto, may pass 2000 tokens");
}
