//! The engine around a real, tiny model whose executor is watched, and told to panic.

use std::{
    num::NonZeroU32,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use hub_base::{Account, CancelToken, ProgressSink};
use hub_nn::{
    Device, Priority,
    executor::{CandleExecutor, Executor, Input, Output, SavedState, Segment, Want},
    spec::ModelSpec,
    state::SequenceState,
    tokens::Tokenizer,
    weights::Weights,
};

use super::{Engine, LoadExecutor, Request, Settings};
use crate::{Delta, Error, FinishReason, Reply, TokenLogprob, family, options::EndTokens, sample::Sampling};

/// A step that carries this token panics.
const POISON: u32 = 300;

/// An executor that counts its steps, and panics when it meets [`POISON`].
struct Watched {
    inner: CandleExecutor,
    forwards: Arc<AtomicUsize>,
}

impl Executor for Watched {
    fn spec(&self) -> &ModelSpec {
        self.inner.spec()
    }
    fn weight_bytes(&self) -> u64 {
        self.inner.weight_bytes()
    }
    fn state_bytes(&self) -> u64 {
        self.inner.state_bytes()
    }
    fn copied_bytes(&self) -> u64 {
        self.inner.copied_bytes()
    }

    fn bytes_for(&self, tokens: usize) -> u64 {
        self.inner.bytes_for(tokens)
    }
    fn append(&mut self, state: &mut SequenceState, tokens: usize) -> Result<(), hub_nn::Error> {
        self.inner.append(state, tokens)
    }
    fn fork(&mut self, state: &SequenceState) -> SequenceState {
        self.inner.fork(state)
    }
    fn save(&self, state: &SequenceState) -> Result<SavedState, hub_nn::Error> {
        self.inner.save(state)
    }

    fn restore(&mut self, saved: &SavedState) -> Result<SequenceState, hub_nn::Error> {
        self.inner.restore(saved)
    }

    fn checkpoint(&mut self, state: &mut SequenceState) {
        self.inner.checkpoint(state);
    }

    fn rewind(&mut self, state: &mut SequenceState, to: usize) -> usize {
        self.inner.rewind(state, to)
    }
    fn release(&mut self, state: SequenceState) {
        self.inner.release(state);
    }
    fn run_into(
        &mut self,
        layers: Range<usize>,
        segments: &mut [Segment<'_>],
        want: Want,
        priority: Priority,
        output: &mut Output,
    ) -> Result<(), hub_nn::Error> {
        self.forwards.fetch_add(1, Ordering::Relaxed);
        let is_poisoned =
            |segment: &Segment<'_>| matches!(segment.input, Input::Tokens(t) if t.contains(&POISON));
        assert!(!segments.iter().any(is_poisoned), "on purpose");
        self.inner.run_into(layers, segments, want, priority, output)
    }
}

struct Fixture {
    engine: Engine,
    forwards: Arc<AtomicUsize>,
    account: Account,
}

/// Starts an engine whose account holds the weights and `state_blocks` blocks of sequences.
fn start(state_blocks: u64, change: impl FnOnce(&mut Settings)) -> Fixture {
    let folder = hub_fixtures::tiny_model("llama");
    let weights = Weights::open(folder.path()).unwrap();
    let config = std::fs::read(folder.path().join("config.json")).unwrap();
    let spec = family::spec_of(&weights, Some(&serde_json::from_slice(&config).unwrap())).unwrap();
    let tokenizer = Tokenizer::open(&folder.path().join("tokenizer.json")).unwrap();
    let load = |account: &Account| {
        let device = Device::cpu(account.clone());
        let (progress, cancel) = (ProgressSink::default(), CancelToken::new());
        CandleExecutor::load(spec.clone(), &weights, &device, &progress, &cancel)
    };
    let sample = load(&Account::unlimited()).unwrap();
    let account = Account::new(sample.weight_bytes() + state_blocks.saturating_mul(sample.bytes_for(1)));
    drop(sample);

    let forwards = Arc::new(AtomicUsize::new(0));
    let mut settings = Settings {
        tokenizer,
        end_tokens: vec![2],
        spelled: Vec::new(),
        context_tokens: 512,
        max_sequences: 64,
        prefill_tokens: 64,
        queue: 64,
        stalled_reader: Duration::from_secs(60),
        account: account.clone(),
        instructions: hub_nn::Isa::best(),
    };
    change(&mut settings);
    let loader: LoadExecutor = {
        let (weights, spec, account, forwards) =
            (weights.clone(), spec.clone(), account.clone(), forwards.clone());
        Box::new(move || {
            // The folder must outlive every reload.
            let _keep = &folder;
            let device = Device::cpu(account.clone());
            let (progress, cancel) = (ProgressSink::default(), CancelToken::new());
            let inner = CandleExecutor::load(spec.clone(), &weights, &device, &progress, &cancel)?;
            Ok(Box::new(Watched { inner, forwards: forwards.clone() }) as Box<dyn Executor>)
        })
    };
    Fixture { engine: Engine::start("test", settings, loader).unwrap(), forwards, account }
}

/// What is asked; every test changes what it is about.
#[derive(Clone)]
struct Ask {
    prompt: Vec<u32>,
    max_tokens: usize,
    min_tokens: usize,
    stop: Vec<String>,
    prompt_logprobs: Option<u8>,
    sampling: Sampling,
    choices: u32,
}

/// A prompt that differs from every other number's.
fn ask(number: u32, length: u32) -> Ask {
    let prompt = (0..length).map(|index| (index * 31 + number * 57 + index * index) % 290 + 5).collect();
    let sampling = Sampling::default().temperature(0.0).unwrap();
    Ask {
        prompt,
        max_tokens: 24,
        min_tokens: 0,
        stop: Vec::new(),
        prompt_logprobs: None,
        sampling,
        choices: 1,
    }
}

impl Fixture {
    fn submit(&self, ask: Ask) -> Reply {
        self.try_submit(ask).unwrap()
    }

    fn try_submit(&self, ask: Ask) -> Result<Reply, Error> {
        let choices = NonZeroU32::new(ask.choices).unwrap();
        let (tx, rx) = async_channel::bounded(Request::channel_capacity(choices));
        let request = Request {
            tokens: ask.prompt,
            continues: false,
            harmony: None,
            sampling: ask.sampling,
            max_tokens: ask.max_tokens,
            min_tokens: ask.min_tokens,
            stop: ask.stop,
            end: EndTokens::Ignore,
            logprobs: Some(0),
            prompt_logprobs: ask.prompt_logprobs,
            choices,
            priority: Priority::Interactive,
            submitted: Instant::now(),
            tx,
        };
        self.engine.submit(request, rx)
    }

    fn wait_until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !is_so(self) {
            assert!(start.elapsed() < Duration::from_secs(20), "{what} never happened");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Returns the tokens of each choice.
fn tokens(reply: Reply) -> Result<Vec<Vec<u32>>, Error> {
    let deltas = reply.blocking().collect::<Result<Vec<Delta>, Error>>()?;
    let usage = deltas.last().and_then(|delta| delta.usage).expect("the last piece carries the usage");
    let count = deltas.iter().map(|delta| delta.choice).max().unwrap_or(0) + 1;
    let mut choices = vec![Vec::new(); count];
    for delta in &deltas {
        choices[delta.choice].extend(delta.logprobs.iter().map(|token| token.id));
    }
    assert_eq!(usage.completion_tokens, choices.iter().map(Vec::len).sum::<usize>());
    Ok(choices)
}

#[test]
fn a_request_gets_the_same_tokens_alone_and_among_others() {
    let fixture = start(1_000, |_| {});
    let lengths = [3, 150, 9, 64, 200, 33, 1, 17, 90];
    let asks: Vec<Ask> = lengths.iter().zip(0..).map(|(length, number)| ask(number, *length)).collect();
    let alone: Vec<_> = asks.iter().map(|ask| tokens(fixture.submit(ask.clone())).unwrap()).collect();
    let together: Vec<Reply> = asks.iter().map(|ask| fixture.submit(ask.clone())).collect();
    for (reply, alone) in together.into_iter().zip(alone) {
        assert_eq!(tokens(reply).unwrap(), alone);
    }
}

#[test]
fn a_seed_means_the_same_text_whatever_shares_the_steps() {
    let fixture = start(1_000, |_| {});
    let seeded = |seed| Ask { sampling: Sampling::default().seed(seed), ..ask(1, 20) };
    let alone = tokens(fixture.submit(seeded(7))).unwrap();
    let _noise: Vec<Reply> = (0..8).map(|number| fixture.submit(seeded(100 + number))).collect();
    assert_eq!(tokens(fixture.submit(seeded(7))).unwrap(), alone);
    assert_ne!(tokens(fixture.submit(seeded(8))).unwrap(), alone);
}

#[test]
fn one_forward_carries_all_sequences() {
    let fixture = start(1_000, |settings| settings.prefill_tokens = 512);
    let replies: Vec<Reply> = (0..16).map(|number| fixture.submit(ask(number, 10))).collect();
    for reply in replies {
        tokens(reply).unwrap();
    }
    let forwards = fixture.forwards.load(Ordering::Relaxed);
    // 24 steps if all 16 arrive before the first; a few more while they trickle in. One by one it would be 384.
    assert!(forwards < 24 * 3, "{forwards}");
}

#[test]
fn choices_share_their_prompt() {
    let fixture = start(1_000, |settings| settings.prefill_tokens = 512);
    let sampling = Sampling::default().seed(3);
    let single = tokens(fixture.submit(Ask { sampling: sampling.clone(), ..ask(1, 200) })).unwrap();
    let before = fixture.engine.stats().read().rows;
    let four = tokens(fixture.submit(Ask { sampling, choices: 4, ..ask(1, 200) })).unwrap();
    let rows = fixture.engine.stats().read().rows - before;
    assert_eq!(four.len(), 4);
    assert_eq!(four[0], single[0], "the first choice is what a single one would be");
    assert!(four[1..].iter().all(|choice| *choice != four[0]), "each has its own random numbers");
    assert_eq!(rows, 200 + 4 * 23, "the prompt is computed once");
}

#[test]
fn a_dropped_reply_frees_its_memory() {
    let fixture = start(1_000, |_| {});
    let weights = fixture.account.used_bytes();
    let mut reply = fixture.submit(Ask { max_tokens: 400, ..ask(1, 50) }).blocking();
    assert!(reply.next().unwrap().is_ok());
    drop(reply);
    fixture.wait_until("the memory went back", |fixture| fixture.account.used_bytes() == weights);
    assert!(fixture.engine.stats().read().generated_tokens < 300, "it did not run to its end");
}

#[test]
fn a_panic_fails_its_requests_and_the_model_lives_on() {
    let fixture = start(1_000, |_| {});
    let expected = tokens(fixture.submit(ask(1, 20))).unwrap();
    let mut poisoned = ask(2, 20);
    poisoned.prompt[10] = POISON;
    assert!(matches!(tokens(fixture.submit(poisoned)), Err(Error::ModelFailed)));
    assert_eq!(tokens(fixture.submit(ask(1, 20))).unwrap(), expected);
    assert_eq!(fixture.engine.stats().read().restarts, 1);
}

#[test]
fn sequences_that_outgrow_the_memory_step_back_and_finish() {
    let roomy = start(1_000, |_| {});
    let long = |number| Ask { max_tokens: 150, ..ask(number, 100) };
    let expected: Vec<_> = (0..4).map(|number| tokens(roomy.submit(long(number))).unwrap()).collect();
    // Each needs two blocks at its end; four fit at their beginnings and not at their ends.
    let tight = start(4, |_| {});
    let replies: Vec<Reply> = (0..4).map(|number| tight.submit(long(number))).collect();
    for (reply, expected) in replies.into_iter().zip(expected) {
        assert_eq!(tokens(reply).unwrap(), expected);
    }
    assert!(tight.engine.stats().read().rows > 4 * (100 + 149), "something was computed twice");
}

#[test]
fn choices_that_outgrow_the_memory_step_back_and_finish() {
    // Drawn at random, and fed back, the poison would be met.
    let sampling = Sampling::default().seed(5).logit_bias(vec![(POISON, -100.0)]).unwrap();
    let long = || Ask { choices: 3, max_tokens: 150, sampling: sampling.clone(), ..ask(1, 100) };
    let expected = tokens(start(1_000, |_| {}).submit(long())).unwrap();
    let tight = start(4, |_| {});
    assert_eq!(tokens(tight.submit(long())).unwrap(), expected);
    assert!(tight.engine.stats().read().rows > 100 + 3 * 149, "something was computed twice");
}

#[test]
fn a_prompt_is_reported_with_the_numbers_it_was_generated_by() {
    let fixture = start(1_000, |_| {});
    let logprobs = |reply: Reply| -> (Vec<TokenLogprob>, Vec<TokenLogprob>) {
        let deltas: Vec<Delta> = reply.blocking().collect::<Result<_, _>>().unwrap();
        let flat = |of: fn(&Delta) -> &Vec<TokenLogprob>| deltas.iter().flat_map(of).cloned().collect();
        (flat(|delta| &delta.prompt_logprobs), flat(|delta| &delta.logprobs))
    };
    let (_, generated) = logprobs(fixture.submit(ask(1, 90)));
    let mut prompt = ask(1, 90).prompt;
    prompt.extend(generated.iter().map(|token| token.id));
    let whole = Ask { prompt: prompt.clone(), max_tokens: 0, prompt_logprobs: Some(2), ..ask(1, 1) };
    let (reported, nothing) = logprobs(fixture.submit(whole));
    assert!(nothing.is_empty(), "no token was asked for");
    assert_eq!(reported.iter().map(|token| token.id).collect::<Vec<_>>(), prompt);
    assert!(reported[0].logprob.is_nan(), "the first token has nothing before it");
    for (reported, generated) in reported[90..].iter().zip(&generated) {
        assert!((reported.logprob - generated.logprob).abs() < 1e-4, "{reported:?}, not {generated:?}");
        assert_eq!(reported.top[0].id, generated.id, "it was the likeliest");
    }
}

#[test]
fn no_stop_text_ends_an_answer_before_its_least_length() {
    let fixture = start(1_000, |_| {});
    let text = |ask: Ask| fixture.submit(ask).text().unwrap();
    let whole = text(ask(1, 20));
    let stop: Vec<String> = whole.chars().take(1).map(String::from).collect();
    assert_eq!(text(Ask { stop: stop.clone(), ..ask(1, 20) }), "");
    let late = Ask { stop, min_tokens: 20, ..ask(1, 20) };
    assert!(tokens(fixture.submit(late.clone())).unwrap()[0].len() >= 20);
    assert!(whole.starts_with(&text(late)));
}

#[test]
fn a_prompt_that_can_never_fit_is_refused_with_the_numbers() {
    let fixture = start(1, |_| {});
    match tokens(fixture.submit(ask(1, 400))) {
        Err(Error::Memory { source, .. }) => assert!(source.asked > source.free, "{source}"),
        other => panic!("{other:?}"),
    }
    tokens(fixture.submit(ask(1, 20))).unwrap();
}

#[test]
fn a_reader_that_takes_nothing_is_ended_and_delays_nobody() {
    let fixture = start(1_000, |settings| settings.stalled_reader = Duration::from_millis(200));
    let stalled = fixture.submit(Ask { max_tokens: 400, ..ask(1, 20) });
    for number in 2..6 {
        tokens(fixture.submit(ask(number, 20))).unwrap();
    }
    fixture.wait_until("the stalled reply ended", |fixture| fixture.engine.stats().read().running == 0);
    let last = stalled.blocking().last();
    assert!(matches!(last, Some(Err(Error::Interrupted))), "a cut answer never looks whole: {last:?}");
}

#[test]
fn an_answer_ends_at_its_limit() {
    let fixture = start(1_000, |_| {});
    let last = fixture.submit(ask(1, 20)).blocking().last().unwrap().unwrap();
    assert_eq!(last.finish, Some(FinishReason::Length));
}

#[test]
fn a_full_queue_is_busy() {
    let fixture = start(1_000, |settings| {
        settings.queue = 1;
        settings.max_sequences = 1;
    });
    let long = || Ask { max_tokens: 400, ..ask(1, 20) };
    let replies: Vec<_> = (0..10).map(|_| fixture.try_submit(long())).collect();
    assert!(replies.iter().any(|reply| matches!(reply, Err(Error::Busy { waiting: 1 }))));
}
