//! The executors on their own: what a step may and may not do to what is cached.

use hub_base::{Account, CancelToken, ProgressSink};
use hub_nn::{
    Device, Error, Priority,
    executor::{Executor, ExecutorKind, ExecutorOptions, Input, KvKind, Outputs, Segment, Want},
    spec::{
        Activation, AttentionSpec, EmbeddingSpec, Head, KvSpec, LayerSpec, LinearSpec, Mask, Mixer, Mlp,
        ModelSpec, NormKind, NormScope, NormSpec, OwnKv, Pairing, RopeScaling, RopeSpec, SublayerNorms,
        TensorRef,
    },
    state::{BLOCK_TOKENS, SequenceState},
    weights::Weights,
};

const HIDDEN: usize = 64;
const HEAD_DIM: usize = 16;

/// The tiny Llama of the fixtures, written out by hand: this crate knows no family.
pub(super) fn tiny_llama(window: Option<usize>) -> ModelSpec {
    let linear = |name: String, inputs: usize, outputs: usize| LinearSpec {
        weight: TensorRef::new(name),
        bias: None,
        inputs,
        outputs,
    };
    let norm = |name: String| NormSpec {
        kind: NormKind::Rms,
        eps: 0.02,
        weight: TensorRef::new(name),
        bias: None,
        weight_offset: 0.0,
    };
    let config = config();
    let inner = config["intermediate_size"].as_u64().unwrap() as usize;
    let vocab_size = config["vocab_size"].as_u64().unwrap() as usize;
    let layers = config["num_hidden_layers"].as_u64().unwrap();
    let layer = |index: u64| {
        let name = |part: &str| format!("model.layers.{index}.{part}.weight");
        let rope =
            RopeSpec { base: 10_000.0, dims: HEAD_DIM, pairing: Pairing::Halves, scaling: RopeScaling::None };
        LayerSpec {
            mixer: Mixer::from(AttentionSpec {
                heads: 4,
                kv_heads: 4,
                head_dim: HEAD_DIM,
                query: linear(name("self_attn.q_proj"), HIDDEN, 64),
                kv: KvSpec::Own(Box::new(OwnKv {
                    key: linear(name("self_attn.k_proj"), HIDDEN, 64),
                    value: linear(name("self_attn.v_proj"), HIDDEN, 64),
                    key_norm: None,
                    value_norm_eps: None,
                })),
                output: linear(name("self_attn.o_proj"), 64, HIDDEN),
                query_norm: None,
                norm_scope: NormScope::Head,
                rope: Some(rope),
                scale: 0.25,
                temperature: None,
                window,
                soft_cap: None,
                sinks: None,
                gate: None,
            }),
            mixer_norms: SublayerNorms::pre(norm(name("input_layernorm"))),
            mlp: Mlp::Gated {
                gate: linear(name("mlp.gate_proj"), HIDDEN, inner),
                up: linear(name("mlp.up_proj"), HIDDEN, inner),
                down: linear(name("mlp.down_proj"), inner, HIDDEN),
                activation: Activation::Silu,
                sparsity: None,
            },
            mlp_norms: SublayerNorms::pre(norm(name("post_attention_layernorm"))),
            residual_scale: 1.0,
            is_parallel: false,
            laurel: None,
            altup: None,
            per_layer: None,
            output_scale: None,
        }
    };
    ModelSpec {
        family: "llama",
        hidden_size: HIDDEN,
        vocab_size,
        context_tokens: 4_096,
        mask: Mask::Causal,
        embedding: EmbeddingSpec {
            table: TensorRef::new("model.embed_tokens.weight"),
            scale: 1.0,
            positions: None,
            token_types: None,
            norm: None,
            per_layer: None,
        },
        streams: None,
        layers: (0..layers).map(layer).collect(),
        final_norm: Some(norm("model.norm.weight".to_owned())),
        head: Head::Logits {
            linear: linear("lm_head.weight".to_owned(), HIDDEN, vocab_size),
            scale: 1.0,
            soft_cap: None,
        },
        left_out: Vec::new(),
    }
}

fn config() -> serde_json::Value {
    let path = hub_fixtures::root().join("models/llama/config.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

const EXECUTORS: [ExecutorKind; 2] = [ExecutorKind::Candle, ExecutorKind::Cpu];

pub(super) fn load(
    spec: ModelSpec,
    account: &Account,
    kind: ExecutorKind,
) -> Result<Box<dyn Executor>, Error> {
    let folder = hub_fixtures::tiny_model("llama");
    let weights = Weights::open(folder.path()).unwrap();
    let device = Device::cpu(account.clone());
    let options = ExecutorOptions::default().kind(kind).kv(KvKind::F32);
    options.load(spec, &weights, &device, &ProgressSink::default(), &CancelToken::new())
}

/// Makes room for tokens, runs them, and returns the logits of the last one.
fn run(executor: &mut dyn Executor, state: &mut SequenceState, tokens: &[u32]) -> Vec<f32> {
    executor.append(state, tokens.len()).unwrap();
    let span = state.tokens() + tokens.len();
    let mut segments =
        [Segment { input: Input::Tokens(tokens), state: Some(state), outputs: Outputs::Last, span }];
    let layers = 0..executor.spec().layers.len();
    let output = executor.run(layers, &mut segments, Want::Head, Priority::Interactive).unwrap();
    output.rows().next().unwrap().to_vec()
}

/// Tokens that no two positions of share a pattern with.
pub(super) fn tokens(count: usize) -> Vec<u32> {
    (0..count as u32).map(|index| (index * index + 7 * index + 3) % 300).collect()
}

#[track_caller]
fn assert_close(left: &[f32], right: &[f32]) {
    let far = left.iter().zip(right).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(left.len() == right.len() && far < 1e-4, "{far}");
}

#[test]
fn logits_agree_with_transformers() {
    for kind in EXECUTORS {
        let mut executor = load(tiny_llama(None), &Account::unlimited(), kind).unwrap();
        for prompt in hub_fixtures::expected_text("llama").prompts {
            let mut state = SequenceState::default();
            let computed = run(executor.as_mut(), &mut state, &prompt.ids);
            let expected = &prompt.logits.last().unwrap().values;
            let far = computed.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(far < 1e-3, "{far}");
            executor.release(state);
        }
    }
}

#[test]
fn growing_takes_blocks_and_copies_nothing() {
    for kind in EXECUTORS {
        let account = Account::unlimited();
        let mut executor = load(tiny_llama(None), &account, kind).unwrap();
        let weights = account.used_bytes();
        let mut state = SequenceState::default();
        for token in tokens(2 * BLOCK_TOKENS + 1) {
            run(executor.as_mut(), &mut state, &[token]);
            assert_eq!(executor.state_bytes(), executor.bytes_for(state.tokens()), "a block at a time");
        }
        assert_eq!(executor.copied_bytes(), 0);
        assert_eq!(account.used_bytes(), weights + executor.bytes_for(2 * BLOCK_TOKENS + 1));
        executor.release(state);
        assert_eq!(account.used_bytes(), weights, "all of it went back");
    }
}

#[test]
fn a_fork_shares_full_blocks_and_goes_its_own_way() {
    for kind in EXECUTORS {
        let mut executor = load(tiny_llama(None), &Account::unlimited(), kind).unwrap();
        let prompt = tokens(BLOCK_TOKENS + 10);
        let mut first = SequenceState::default();
        run(executor.as_mut(), &mut first, &prompt);
        let mut second = executor.fork(&first);
        assert_eq!(executor.copied_bytes(), 0, "a fork alone copies nothing");
        let one = executor.bytes_for(1);
        assert_eq!(executor.state_bytes(), 2 * one);

        let left = run(executor.as_mut(), &mut first, &[5]);
        assert_eq!(
            (executor.copied_bytes(), executor.state_bytes()),
            (one, 3 * one),
            "the shared tail is copied once"
        );
        let right = run(executor.as_mut(), &mut second, &[6]);
        assert_eq!(executor.copied_bytes(), one, "the other one keeps the original");

        let mut alone = SequenceState::default();
        let fresh = run(executor.as_mut(), &mut alone, &[prompt.as_slice(), &[6]].concat());
        assert_close(&right, &fresh);
        assert!(left.iter().zip(&right).any(|(a, b)| (a - b).abs() > 0.1), "another token, other logits");
    }
}

#[test]
fn a_rewound_sequence_continues_as_if_it_had_never_been_longer() {
    for kind in EXECUTORS {
        let mut executor = load(tiny_llama(None), &Account::unlimited(), kind).unwrap();
        let prompt = tokens(BLOCK_TOKENS + 40);
        let mut state = SequenceState::default();
        run(executor.as_mut(), &mut state, &prompt);
        assert_eq!(executor.rewind(&mut state, 20), 20);
        assert_eq!(executor.state_bytes(), executor.bytes_for(20));
        let again = run(executor.as_mut(), &mut state, &[9, 8]);
        let mut alone = SequenceState::default();
        let fresh = run(executor.as_mut(), &mut alone, &[&prompt[..20], &[9, 8]].concat());
        assert_close(&again, &fresh);
    }
}

#[test]
fn a_window_drops_the_blocks_behind_it() {
    for kind in EXECUTORS {
        let mut executor = load(tiny_llama(Some(16)), &Account::unlimited(), kind).unwrap();
        let all = tokens(3 * BLOCK_TOKENS);
        let mut state = SequenceState::default();
        for step in all.chunks(100) {
            run(executor.as_mut(), &mut state, step);
        }
        let one = executor.bytes_for(1);
        assert!(executor.state_bytes() <= one, "one block holds all that a window of 16 sees");
        let dropped = run(executor.as_mut(), &mut state, &[11]);
        let mut alone = SequenceState::default();
        let mut fresh = Vec::new();
        for step in [all.as_slice(), &[11]].concat().chunks(400) {
            fresh = run(executor.as_mut(), &mut alone, step);
        }
        assert_close(&dropped, &fresh);
        assert_eq!(executor.rewind(&mut state, 5), 0, "what the rows before 5 would see is gone");
    }
}

#[test]
fn sequences_of_any_length_share_a_step() {
    for kind in EXECUTORS {
        let mut executor = load(tiny_llama(None), &Account::unlimited(), kind).unwrap();
        let prompts: Vec<Vec<u32>> = [1, 5, 64, 130, 200].map(tokens).into();
        let alone: Vec<Vec<f32>> = prompts
            .iter()
            .map(|prompt| {
                let mut state = SequenceState::default();
                run(executor.as_mut(), &mut state, prompt)
            })
            .collect();
        let mut states: Vec<SequenceState> = prompts.iter().map(|_| SequenceState::default()).collect();
        for (state, prompt) in states.iter_mut().zip(&prompts) {
            executor.append(state, prompt.len()).unwrap();
        }
        let segment = |(state, prompt)| {
            let prompt: &Vec<u32> = prompt;
            Segment {
                input: Input::Tokens(prompt),
                state: Some(state),
                outputs: Outputs::Last,
                span: prompt.len(),
            }
        };
        let mut segments: Vec<Segment<'_>> = states.iter_mut().zip(&prompts).map(segment).collect();
        let layers = 0..executor.spec().layers.len();
        let output = executor.run(layers, &mut segments, Want::Head, Priority::Interactive).unwrap();
        for (together, alone) in output.rows().zip(&alone) {
            assert_close(together, alone);
        }
    }
}

#[test]
fn a_model_can_be_run_in_two_halves() {
    for kind in EXECUTORS {
        let mut executor = load(tiny_llama(None), &Account::unlimited(), kind).unwrap();
        let prompt = tokens(30);
        let mut whole = SequenceState::default();
        let expected = run(executor.as_mut(), &mut whole, &prompt);

        let count = executor.spec().layers.len();
        let mut state = SequenceState::default();
        executor.append(&mut state, prompt.len()).unwrap();
        let first = [Segment {
            input: Input::Tokens(&prompt),
            state: Some(&mut state),
            outputs: Outputs::All,
            span: prompt.len(),
        }];
        let hidden = executor.run(0..1, &mut { first }, Want::Hidden, Priority::Interactive).unwrap();
        let hidden: Vec<f32> = hidden.rows().flatten().copied().collect();
        let second = [Segment {
            input: Input::Hidden(&hidden),
            state: Some(&mut state),
            outputs: Outputs::Last,
            span: prompt.len(),
        }];
        let output = executor.run(1..count, &mut { second }, Want::Head, Priority::Interactive).unwrap();
        assert_close(output.rows().next().unwrap(), &expected);
    }
}

#[test]
fn memory_is_paid_for_first() {
    for kind in EXECUTORS {
        let error = load(tiny_llama(None), &Account::new(1_000), kind).err().unwrap();
        assert!(matches!(error, Error::Memory { what: "the weights", .. }), "{error}");

        let unlimited = Account::unlimited();
        let weights = load(tiny_llama(None), &unlimited, kind).unwrap().weight_bytes();
        assert_eq!(unlimited.used_bytes(), 0, "a dropped model gives its memory back");
        let account = Account::new(weights + 1_000);
        let mut executor = load(tiny_llama(None), &account, kind).unwrap();
        let mut state = SequenceState::default();
        assert!(matches!(executor.append(&mut state, 1), Err(Error::Memory { what: "keys and values", .. })));
        assert_eq!((account.used_bytes(), state.tokens()), (weights, 0));
    }
}

#[test]
fn rows_that_do_not_fit_are_refused() {
    for kind in EXECUTORS {
        let mut executor = load(tiny_llama(None), &Account::unlimited(), kind).unwrap();
        let layers = executor.spec().layers.len();
        let mut refuse = |tokens: &[u32], room: usize, layers: std::ops::Range<usize>| {
            let mut state = SequenceState::default();
            executor.append(&mut state, room).unwrap();
            let input = Input::Tokens(tokens);
            let mut segments =
                [Segment { input, state: Some(&mut state), outputs: Outputs::Last, span: tokens.len() }];
            let error = executor.run(layers, &mut segments, Want::Head, Priority::Interactive).unwrap_err();
            assert!(matches!(error, Error::Rows { .. }), "{error}");
            executor.release(state);
        };
        refuse(&[1_000_000], 1, 0..layers);
        refuse(&[], 1, 0..layers);
        refuse(&vec![1; BLOCK_TOKENS + 1], BLOCK_TOKENS, 0..layers);
        refuse(&[1], 1, 0..layers + 1);
        refuse(&[1], 1, 0..layers - 1);
    }
}
