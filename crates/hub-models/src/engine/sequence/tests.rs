//! Answers in channels, read token by token.

use std::{num::NonZeroU32, time::Instant};

use hub_base::Account;
use hub_nn::{Priority, tokens::Tokenizer};
use serde_json::json;

use super::*;
use crate::{chat::HarmonyTokens, options::EndTokens, sample::Sampling};

/// Every token of the tests; the first six are control tokens.
const TOKENS: [&str; 12] = [
    "<|start|>",
    "<|channel|>",
    "<|message|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "analysis",
    "final",
    "assistant",
    "so f",
    "inal",
    " Yes",
];

fn settings() -> Settings {
    let vocab: serde_json::Map<_, _> =
        TOKENS.iter().zip(0..).map(|(text, id)| ((*text).to_owned(), json!(id))).collect();
    let added = TOKENS.iter().take(6).zip(0..).map(|(text, id)| {
        json!({ "id": id, "content": text, "special": true, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false })
    });
    let json = json!({ "added_tokens": added.collect::<Vec<_>>(),
        "model": { "type": "WordLevel", "vocab": vocab, "unk_token": "so f" } });
    Settings {
        tokenizer: Tokenizer::from_json(json.to_string().as_bytes()).unwrap(),
        end_tokens: vec![4],
        spelled: Vec::new(),
        context_tokens: 100,
        max_sequences: 1,
        prefill_tokens: 1,
        queue: 1,
        stalled_reader: std::time::Duration::from_secs(1),
        account: Account::unlimited(),
        instructions: hub_nn::Isa::best(),
    }
}

/// Reads an answer; returns thought and answer, and whether a stop text ended it.
fn read(stop: &str, min_tokens: usize, answer: &[&str]) -> (String, String, bool) {
    let settings = settings();
    let request = Request {
        tokens: vec![0],
        continues: false,
        harmony: HarmonyTokens::of(&settings.tokenizer).map(HarmonyTokens::begin),
        sampling: Sampling::default(),
        max_tokens: 99,
        min_tokens,
        stop: vec![stop.to_owned()],
        end: EndTokens::Stop,
        logprobs: None,
        prompt_logprobs: None,
        choices: NonZeroU32::MIN,
        priority: Priority::Interactive,
        submitted: Instant::now(),
        tx: async_channel::bounded(1).0,
    };
    let mut sequence = Sequence::first(0, &request, &settings);
    let mut delta = Delta::default();
    for text in answer {
        let token = settings.tokenizer.id_of(text).unwrap();
        sequence.tokens.push(token);
        if sequence.read(token, &request, &mut delta) {
            return (delta.reasoning, delta.text, true);
        }
    }
    sequence.close(Some(4), &mut delta);
    (delta.reasoning, delta.text, false)
}

const ANSWER: [&str; 11] = [
    "<|channel|>",
    "analysis",
    "<|message|>",
    "so f",
    "<|end|>",
    "<|start|>",
    "assistant",
    "<|channel|>",
    "final",
    "<|message|>",
    " Yes",
];

#[test]
fn what_waits_for_a_stop_text_stays_in_its_message() {
    for stop in ["final", "nowhere"] {
        assert_eq!(read(stop, 0, &ANSWER), ("so f".to_owned(), " Yes".to_owned(), false), "{stop}");
    }
}

#[test]
fn a_stop_text_ends_a_message_and_no_header() {
    let tokens = [&ANSWER[..], &["so f", "inal", " Yes"]].concat();
    assert_eq!(read("final", 0, &tokens), ("so f".to_owned(), " Yesso ".to_owned(), true));
    assert!(!read("assistant", 0, &tokens).2);
    assert!(!read("final", 14, &tokens).2, "its beginning came too early");
    assert_eq!(read("Yes", 12, &tokens).1, " Yesso final ");
}

#[test]
fn an_answer_without_a_header_is_one() {
    assert_eq!(read("final", 0, &[" Yes"]), (String::new(), " Yes".to_owned(), false));
}
