//! Every family against `transformers`: the same tiny weights, the same tokens, the same logits.

use std::{num::NonZeroUsize, path::Path};

use hub_base::{Account, CancelToken, ProgressSink};
use hub_fixtures::{ConfigForm, TinyModel, expected_text};
use hub_models::spec_of;
use hub_nn::{
    Device, DeviceOptions, Priority,
    executor::{Executor, ExecutorKind, ExecutorOptions, Input, KvKind, Outputs, SavedState, Segment, Want},
    state::SequenceState,
    weights::{WeightKind, Weights},
};

use crate::gguf::quantized_and_dequantized;

/// The most that a logit may differ in `f32`.
const TOLERANCE: f32 = 1e-3;

/// The decoders that fixtures exist for.
const DECODERS: &[&str] = &[
    "llama",
    "llama31",
    "llama-linear",
    "llama-dynamic",
    "llama-yarn",
    "llama-bias",
    "codellama",
    "smollm",
    "mistral",
    "mistral-head-dim",
    "mixtral",
    "mixtral-window",
    "qwen2",
    "qwen2-window",
    "qwen3",
    "qwen3-odd",
    "smollm3",
    "smollm3-bias",
    "olmo2",
    "olmo2-groups",
    "olmo3",
    "olmo3-yarn",
    "ministral3",
    "ministral3-tied",
    "exaone4",
    "exaone4-window",
    "seed-oss",
    "seed-oss-bias",
    "glm4",
    "glm4-plain",
    "cohere2",
    "cohere2-bias",
    "starcoder2",
    "starcoder2-window",
    "stablelm",
    "stablelm-parallel",
    "stablelm-heads",
    "qwen3-moe",
    "qwen3-moe-dense",
    "gemma2",
    "gemma3",
    "gemma3-vision",
    "mistral-vision",
    "phi3",
    "phi3-longrope",
    "phi4",
    "granite",
    "granite-bias",
    "granite-moe",
    "granite-moe-shared",
    "gpt-oss",
    "gpt-oss-wide",
    "deepseek-v2",
    "deepseek-v2-groups",
    "deepseek-v3",
    "deepseek-v3-direct",
    "glm4-flash",
    "glm4-flash-odd",
    "gemma3n",
    "gemma3n-three",
    "gemma4",
    "gemma4-moe",
    "gemma4-vision",
    "qwen3.5-vision",
    "granite-hybrid",
    "granite-hybrid-dense",
    "granite-hybrid-rope",
    "lfm2",
    "lfm2-bias",
    "qwen3-next",
    "qwen3-next-dense",
    "qwen3.5",
    "qwen3.5-tied",
    "qwen3.5-moe",
    "qwen3.5-moe-odd",
];

/// Of those, some that differ in what they keep of a sequence, and in what rows have to do with each other.
const VARIED: &[&str] = &[
    "llama",
    "mistral",
    "gemma3",
    "qwen3",
    "qwen3-odd",
    "qwen3-moe",
    "mixtral-window",
    "cohere2",
    "olmo2",
    "gpt-oss",
    "lfm2",
    "qwen3-next-dense",
    "qwen3.5",
    "granite-hybrid",
    "deepseek-v2",
    "gemma3n",
    "gemma3n-three",
    "gemma4",
    "gemma4-moe",
];

/// The executors that every model runs on; caches in `f32`, since the reference has no other.
pub(crate) const EXECUTORS: [ExecutorKind; 2] = [ExecutorKind::Candle, ExecutorKind::Cpu];

/// Loads a model from a folder or a GGUF file into an executor, without an engine around it.
pub(crate) fn load(path: &Path, kind: ExecutorKind) -> Box<dyn Executor> {
    load_with(path, ExecutorOptions::default().kind(kind).kv(KvKind::F32))
}

pub(crate) fn load_with(path: &Path, options: ExecutorOptions) -> Box<dyn Executor> {
    // `cargo xtask cuda` names a card.
    let name = std::env::var("HUB_TEST_DEVICE").unwrap_or_else(|_| "cpu".to_owned());
    let device = Device::open(&name, Account::unlimited(), DeviceOptions::default()).unwrap();
    load_on(path, options, &device)
}

fn load_on(path: &Path, options: ExecutorOptions, device: &Device) -> Box<dyn Executor> {
    let weights = Weights::open(path).unwrap();
    let config = ["config.json", "params.json"].iter().find_map(|name| std::fs::read(path.join(name)).ok());
    let config = config.map(|bytes| serde_json::from_slice(&bytes).unwrap());
    let spec = spec_of(&weights, config.as_ref()).unwrap();
    options.load(spec, &weights, device, &ProgressSink::default(), &CancelToken::new()).unwrap()
}

/// Runs `tokens` in steps of at most `step` rows, and returns the logits of every row.
pub(crate) fn logits(executor: &mut dyn Executor, tokens: &[u32], step: usize) -> Vec<Vec<f32>> {
    let mut state = SequenceState::default();
    let mut all = Vec::new();
    for tokens_of_step in tokens.chunks(step) {
        all.extend(run(executor, &mut state, tokens_of_step, tokens.len(), Outputs::All));
    }
    executor.release(state);
    all
}

fn run(
    executor: &mut dyn Executor,
    state: &mut SequenceState,
    tokens: &[u32],
    span: usize,
    outputs: Outputs,
) -> Vec<Vec<f32>> {
    executor.append(state, tokens.len()).unwrap();
    let mut segments = [Segment { input: Input::Tokens(tokens), state: Some(state), outputs, span }];
    let layers = 0..executor.spec().layers.len();
    let output = executor.run(layers, &mut segments, Want::Head, Priority::Interactive).unwrap();
    output.rows().map(<[f32]>::to_vec).collect()
}

/// Continues `prompt` by the likeliest token each time, as the engine does.
pub(crate) fn greedy(executor: &mut dyn Executor, prompt: &[u32], count: usize) -> Vec<u32> {
    let restart = executor.spec().restart_tokens();
    let mut state = SequenceState::default();
    let mut tokens = prompt.to_vec();
    let mut computed_span = 0;
    while tokens.len() < prompt.len() + count {
        if restart.is_some_and(|limit| computed_span <= limit && tokens.len() > limit) {
            executor.rewind(&mut state, 0);
        }
        computed_span = tokens.len();
        let pending = tokens[state.tokens()..].to_vec();
        let last = run(executor, &mut state, &pending, tokens.len(), Outputs::Last).remove(0);
        tokens.push(argmax(&last));
    }
    executor.release(state);
    tokens.split_off(prompt.len())
}

fn argmax(logits: &[f32]) -> u32 {
    let better = |best: usize, index: usize| if logits[index] > logits[best] { index } else { best };
    (0..logits.len()).fold(0, better) as u32
}

pub(crate) fn distance(left: &[f32], right: &[f32]) -> f32 {
    assert_eq!(left.len(), right.len());
    left.iter().zip(right).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Compares logits and greedy tokens with the expected ones, on every executor.
#[track_caller]
pub(crate) fn check(name: &str, path: &Path, tolerance: f32) {
    for kind in EXECUTORS {
        check_on(&format!("{name} on {kind:?}"), name, load(path, kind).as_mut(), tolerance);
    }
}

#[track_caller]
fn check_on(called: &str, name: &str, executor: &mut dyn Executor, tolerance: f32) {
    for (index, prompt) in expected_text(name).prompts.iter().enumerate() {
        let computed = logits(executor, &prompt.ids, prompt.ids.len());
        for expected in &prompt.logits {
            let far = distance(&computed[expected.position], &expected.values);
            assert!(far < tolerance, "{called}, prompt {index}, position {}: {far}", expected.position);
        }
        assert_eq!(
            greedy(executor, &prompt.ids, prompt.greedy.len()),
            prompt.greedy,
            "{called}, prompt {index}"
        );
    }
    assert_eq!(executor.state_bytes(), 0, "{called}: every block went back");
}

#[test]
fn every_family_computes_what_transformers_computes() {
    for name in DECODERS {
        let folder = TinyModel::new(name).write();
        check(name, folder.path(), TOLERANCE);
    }
}

#[test]
fn the_configurations_of_older_transformers_mean_the_same() {
    for name in ["llama", "llama31", "gemma3", "phi3-longrope"] {
        let folder = TinyModel::new(name).config(ConfigForm::V4).write();
        check(name, folder.path(), TOLERANCE);
    }
}

#[test]
fn shards_hold_the_same_model() {
    let folder = TinyModel::new("qwen3").shards(3).write();
    check("qwen3", folder.path(), TOLERANCE);
}

#[test]
fn a_prompt_read_in_pieces_gives_the_same_logits() {
    for name in VARIED {
        let folder = TinyModel::new(name).write();
        for kind in EXECUTORS {
            let mut executor = load(folder.path(), kind);
            let prompt = &expected_text(name).prompts[1].ids;
            let whole = logits(executor.as_mut(), prompt, prompt.len());
            for step in [1, 7, 64] {
                let pieces = logits(executor.as_mut(), prompt, step);
                let far = whole.iter().zip(&pieces).map(|(a, b)| distance(a, b)).fold(0.0, f32::max);
                // The executor for processors promises the very same bits.
                let most = if kind == ExecutorKind::Cpu { 0.0 } else { 1e-4 };
                assert!(far <= most, "{name} on {kind:?} in steps of {step}: {far}");
            }
        }
    }
}

/// Continues from `state`, and returns the logits of each row.
fn read_on(executor: &mut dyn Executor, state: &mut SequenceState, tokens: &[u32]) -> Vec<Vec<f32>> {
    run(executor, state, tokens, state.tokens() + tokens.len(), Outputs::All)
}

#[test]
fn what_cannot_be_cut_goes_on_from_its_checkpoints() {
    for name in ["lfm2", "qwen3.5", "granite-hybrid"] {
        let folder = TinyModel::new(name).write();
        let prompt = &expected_text(name).prompts[1].ids;
        for kind in EXECUTORS {
            let mut executor = load(folder.path(), kind);
            let executor = executor.as_mut();
            let mut state = SequenceState::default();
            let expected = logits(executor, prompt, 20);
            let check = |found: Vec<Vec<f32>>, rows: std::ops::Range<usize>| {
                let far = found.iter().zip(&expected[rows.clone()]).map(|(a, b)| distance(a, b));
                let far = far.fold(0.0, f32::max);
                // As in pieces of other lengths.
                assert!(
                    far <= if kind == ExecutorKind::Cpu { 0.0 } else { 1e-4 },
                    "{name} on {kind:?}, {rows:?}: {far}"
                );
            };
            read_on(executor, &mut state, &prompt[..40]);
            executor.checkpoint(&mut state);
            let mut fork = executor.fork(&state);
            read_on(executor, &mut state, &prompt[40..60]);
            executor.checkpoint(&mut state);
            read_on(executor, &mut state, &prompt[60..80]);
            assert_eq!(executor.rewind(&mut state, 79), 60, "{name} on {kind:?}");
            check(read_on(executor, &mut state, &prompt[60..80]), 60..80);
            assert_eq!(executor.rewind(&mut state, 59), 40, "{name} on {kind:?}");
            check(read_on(executor, &mut state, &prompt[40..60]), 40..60);
            assert_eq!(executor.rewind(&mut state, 39), 0, "before the first of them");
            check(read_on(executor, &mut state, &prompt[..20]), 0..20);
            // A fork goes on alone, and has no checkpoints of its own.
            check(read_on(executor, &mut fork, &prompt[40..60]), 40..60);
            assert_eq!(executor.rewind(&mut fork, 50), 0, "{name} on {kind:?}");
            executor.release(state);
            executor.release(fork);
            assert_eq!(executor.state_bytes(), 0, "{name} on {kind:?}: every block went back");
        }
    }
}

#[test]
fn a_restored_sequence_goes_on_as_it_would_have() {
    for name in VARIED {
        let folder = TinyModel::new(name).write();
        let prompt = &expected_text(name).prompts[1].ids;
        for kind in EXECUTORS {
            let [mut first, mut second] = [(); 2].map(|()| load(folder.path(), kind));
            let mut state = SequenceState::default();
            read_on(first.as_mut(), &mut state, &prompt[..140]);
            let saved = first.save(&state).unwrap();
            let expected = read_on(first.as_mut(), &mut state, &prompt[140..]);
            // Through bytes, as from a file.
            let saved = SavedState::from_bytes(saved.as_bytes().to_vec());
            let mut restored = second.restore(&saved).unwrap();
            assert_eq!(restored.tokens(), 140);
            assert_eq!(
                read_on(second.as_mut(), &mut restored, &prompt[140..]),
                expected,
                "{name} on {kind:?}"
            );
            second.release(restored);
            for bytes in [&saved.as_bytes()[..saved.as_bytes().len() - 1], b"HUBSTAT1", b"nothing"] {
                let damaged = SavedState::from_bytes(bytes.to_vec());
                assert!(second.restore(&damaged).is_err(), "{name} on {kind:?}");
            }
            assert_eq!(second.state_bytes(), 0, "{name} on {kind:?}: every block went back");
        }
    }
    let [llama, mistral] = ["llama", "mistral"].map(|name| TinyModel::new(name).write());
    let mut other = load(mistral.path(), ExecutorKind::Cpu);
    let saved = load(llama.path(), ExecutorKind::Cpu).save(&SequenceState::default()).unwrap();
    assert!(other.restore(&saved).unwrap_err().to_string().contains("another model"));
}

/// Runs one step of several sequences: some read their prompts, others go on by a token.
fn together(executor: &mut dyn Executor, prompts: &[&[u32]], next: u32) -> Vec<Vec<Vec<f32>>> {
    let mut states: Vec<SequenceState> = prompts.iter().map(|_| SequenceState::default()).collect();
    let half = prompts.len() / 2;
    let layers = 0..executor.spec().layers.len();
    let mut all = vec![Vec::new(); prompts.len()];
    // The first half reads its prompts; then it goes on by a token, while the second half reads.
    for step in 0..2 {
        let tokens: Vec<&[u32]> = prompts
            .iter()
            .enumerate()
            .map(|(at, prompt)| match (step, at < half) {
                (0, true) | (1, false) => *prompt,
                (0, false) => &[],
                _ => std::slice::from_ref(&next),
            })
            .collect();
        for (state, tokens) in states.iter_mut().zip(&tokens) {
            executor.append(state, tokens.len()).unwrap();
        }
        let taking_part =
            states.iter_mut().zip(&tokens).enumerate().filter(|(_, (_, tokens))| !tokens.is_empty());
        let (order, mut segments): (Vec<_>, Vec<_>) = taking_part
            .map(|(at, (state, tokens))| {
                let span = state.tokens() + tokens.len();
                (
                    at,
                    Segment { input: Input::Tokens(tokens), state: Some(state), outputs: Outputs::All, span },
                )
            })
            .unzip();
        let counts: Vec<usize> = order.iter().map(|at| tokens[*at].len()).collect();
        let output = executor.run(layers.clone(), &mut segments, Want::Head, Priority::Interactive).unwrap();
        let mut rows = output.rows().map(<[f32]>::to_vec);
        for (at, count) in order.into_iter().zip(counts) {
            all[at].extend(rows.by_ref().take(count));
        }
    }
    states.into_iter().for_each(|state| executor.release(state));
    all
}

#[test]
fn sequences_get_the_same_bits_whatever_shares_their_steps() {
    for name in VARIED {
        let folder = TinyModel::new(name).write();
        for kv in [KvKind::F32, KvKind::F16, KvKind::Q8] {
            check_bits(name, folder.path(), kv);
        }
    }
}

#[test]
fn quantized_models_give_the_same_bits_whatever_shares_their_steps() {
    for kind in [WeightKind::Q4K, WeightKind::Q6K, WeightKind::Q8_0, WeightKind::Q4_0] {
        let folder = tempfile::tempdir().unwrap();
        let (blocks, _) = quantized_and_dequantized(kind, folder.path());
        check_bits("qwen2-wide", &blocks, KvKind::F16);
    }
}

/// Runs sequences together and alone, on one thread and on several: the logits must be the same bits.
fn check_bits(name: &str, model: &Path, kv: KvKind) {
    let prompt = &expected_text(name).prompts[1].ids;
    let prompts: Vec<&[u32]> = [1, 2, 5, 7, 3, 4, 6].map(|short| &prompt[..prompt.len() - short]).to_vec();
    let mut found: Vec<Vec<Vec<Vec<f32>>>> = Vec::new();
    for threads in [1, 3] {
        let mut options = DeviceOptions::default();
        options.threads = NonZeroUsize::new(threads);
        let device = Device::open("cpu", Account::unlimited(), options).unwrap();
        let executor = ExecutorOptions::default().kind(ExecutorKind::Cpu).kv(kv);
        let mut executor = load_on(model, executor, &device);
        found.push(together(executor.as_mut(), &prompts, 3));
        let alone = prompts.iter().enumerate().map(|(at, prompt)| {
            // Alone, a sequence of the first half has a step of its own for its last token.
            let tokens = if at < prompts.len() / 2 { [*prompt, &[3]].concat() } else { prompt.to_vec() };
            logits(executor.as_mut(), &tokens, 4)
        });
        found.push(alone.collect());
    }
    assert!(found.iter().all(|logits| *logits == found[0]), "{name}, cache {kv:?}");
}
