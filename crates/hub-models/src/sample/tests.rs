use std::{collections::BTreeMap, path::Path};

use hub_nn::Isa;
use proptest::prelude::*;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use serde::Deserialize;

use super::{
    InvalidSampling, Probability, SampleError, Sampler, Sampling,
    cut::Left,
    logprob::logprobs,
    select::{self, Candidate},
    softmax::Softmax,
    uniform,
};

#[derive(Deserialize)]
struct Expected {
    logits: Vec<f32>,
    prompt: Vec<u32>,
    answer: Vec<u32>,
    logprobs: Vec<f32>,
    cases: BTreeMap<String, Case>,
}

#[derive(Deserialize)]
struct Case {
    options: Options,
    probabilities: Vec<f32>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    temperature: Option<f32>,
    top_k: Option<u32>,
    top_p: Option<f32>,
    min_p: Option<f32>,
    repetition_penalty: Option<f32>,
    presence_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    logit_bias: Vec<(u32, f32)>,
}

impl Options {
    fn sampling(&self) -> Sampling {
        self.checked().unwrap()
    }

    fn checked(&self) -> Result<Sampling, InvalidSampling> {
        Sampling::default()
            .temperature(self.temperature.unwrap_or(1.0))?
            .top_k(self.top_k)
            .top_p(self.top_p)?
            .min_p(self.min_p)?
            .repetition_penalty(self.repetition_penalty.unwrap_or(1.0))?
            .presence_penalty(self.presence_penalty.unwrap_or(0.0))?
            .frequency_penalty(self.frequency_penalty.unwrap_or(0.0))?
            .logit_bias(self.logit_bias.clone())
    }
}

fn expected() -> Expected {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/sample/expected.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Returns the probability of each token in the next draw.
fn probabilities(sampler: &mut Sampler, logits: &[f32]) -> Vec<f32> {
    let is_changed = sampler.change(logits, &[]).unwrap();
    let scores = if is_changed { &sampler.scores } else { logits };
    let (temperature, isa) = (sampler.sampling.temperature, sampler.instructions);
    let softmax = Softmax { scores, max: select::max(scores).unwrap(), temperature, isa };
    sampler.left.cut(&sampler.sampling, softmax);
    let candidates = &sampler.left.candidates;
    let total: f32 = candidates.iter().map(|candidate| candidate.weight).sum();
    let mut probabilities = vec![0.0; logits.len()];
    for candidate in candidates {
        probabilities[candidate.id as usize] = candidate.weight / total;
    }
    probabilities
}

#[track_caller]
fn assert_close(ours: &[f32], theirs: &[f32], tolerance: f32, what: &str) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    for (id, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        assert!((ours - theirs).abs() <= tolerance, "{what}, token {id}: {ours} is not {theirs}");
    }
}

#[test]
fn distributions_are_those_of_transformers() {
    let expected = expected();
    for (name, case) in &expected.cases {
        let mut sampler = Sampler::new(&case.options.sampling(), &expected.prompt);
        for id in &expected.answer {
            sampler.history.push(*id);
        }
        assert_close(&probabilities(&mut sampler, &expected.logits), &case.probabilities, 1e-6, name);
    }
}

#[test]
fn reported_probabilities_are_those_of_the_model() {
    let expected = expected();
    let sampling = Sampling::default().temperature(0.0).unwrap().logit_bias(vec![(7, 100.0)]).unwrap();
    let sampled = Sampler::new(&sampling, &[]).next(&expected.logits, &[], Some(20)).unwrap();
    assert_eq!(sampled.id, 7);
    assert_close(&[sampled.logprob.unwrap()], &expected.logprobs[7..8], 1e-6, "drawn");
    assert_eq!(sampled.top.len(), expected.logits.len());
    assert!(sampled.top.is_sorted_by(|a, b| a.1 > b.1));
    for (id, logprob) in sampled.top {
        assert_close(&[logprob], &[expected.logprobs[id as usize]], 1e-6, "top");
    }
}

#[test]
fn equal_tokens_are_told_apart_by_their_ids() {
    let logits = [1.0, 3.0, 3.0, 2.0, 3.0, 2.0];
    let greedy = Sampling::default().temperature(0.0).unwrap();
    let sampled = Sampler::new(&greedy, &[]).next(&logits, &[], Some(4)).unwrap();
    assert_eq!(sampled.id, 1);
    assert_eq!(sampled.top.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1, 2, 4, 3]);
    let two = Sampling::default().top_k(Some(2));
    let mut sampler = Sampler::new(&two, &[]);
    assert!((0..50).all(|_| [1, 2].contains(&sampler.next(&logits, &[], None).unwrap().id)));
}

#[test]
fn nothing_is_reported_unless_asked_for() {
    let mut sampler = Sampler::new(&Sampling::default(), &[]);
    let silent = sampler.next(&[0.0, 1.0], &[], None).unwrap();
    assert_eq!((silent.logprob, silent.top.len()), (None, 0));
    let brief = sampler.next(&[0.0, 1.0], &[], Some(0)).unwrap();
    assert!(brief.logprob.is_some() && brief.top.is_empty());
}

#[test]
fn infinite_logits() {
    const LEAST: f32 = f32::NEG_INFINITY;
    const MOST: f32 = f32::INFINITY;
    for temperature in [0.0, 1e-30, 1.0, 1e30] {
        let sampling = Sampling::default().temperature(temperature).unwrap().top_p(Some(0.9)).unwrap();
        let mut sampler = Sampler::new(&sampling, &[]);
        for _ in 0..20 {
            assert_eq!(sampler.next(&[LEAST, -3e38, LEAST], &[], None).unwrap().id, 1);
            assert!([0, 2].contains(&sampler.next(&[MOST, 3e38, MOST], &[], None).unwrap().id));
        }
    }
    let sampled = logprobs(&[MOST, 0.0, MOST, LEAST], 0, 20);
    assert_close(&[sampled.logprob.unwrap()], &[0.5f32.ln()], 1e-6, "half");
    assert_eq!(logprobs(&[LEAST, 0.0], 0, 20).top, [(1, 0.0)]);
    assert_eq!(logprobs(&[LEAST, 0.0], 0, 20).logprob, Some(LEAST));
    assert_eq!(logprobs(&[0.0], 7, 1).logprob, None);
}

#[test]
fn broken_logits_are_errors() {
    for temperature in [0.0, 1.0] {
        let sampling = Sampling::default().temperature(temperature).unwrap();
        let draw =
            |logits: &[f32], forbidden: &[u32]| Sampler::new(&sampling, &[]).next(logits, forbidden, None);
        for at in 0..40 {
            let mut logits = [0.0; 40];
            logits[at] = f32::NAN;
            assert_eq!(draw(&logits, &[]), Err(SampleError::NotANumber));
        }
        assert_eq!(draw(&[f32::NEG_INFINITY; 40], &[]), Err(SampleError::NothingLeft));
        assert_eq!(draw(&[], &[]), Err(SampleError::NothingLeft));
        assert_eq!(draw(&[0.0, 0.0], &[0, 1]), Err(SampleError::NothingLeft));
        // A token that does not exist is not drawn anyway.
        assert_eq!(draw(&[0.0, 1.0], &[0, 99]).unwrap().id, 1);
    }
    let biased = Sampling::default().logit_bias(vec![(2, 1.0)]).unwrap();
    let error = Sampler::new(&biased, &[]).next(&[0.0, 0.0], &[], None);
    assert_eq!(error, Err(SampleError::UnknownToken { id: 2, vocab_size: 2 }));
    // A prompt may hold tokens that have no logit.
    let repeats = Sampling::default().repetition_penalty(2.0).unwrap();
    assert!(Sampler::new(&repeats, &[1_000_000]).next(&[0.0, 0.0], &[], None).is_ok());
}

#[test]
fn values_without_meaning_are_refused_by_name() {
    type Setter = fn(f32) -> Result<Sampling, InvalidSampling>;
    let setters: [(&str, Setter, &[f32], &[f32]); 7] = [
        (
            "temperature",
            |x| Sampling::default().temperature(x),
            &[0.0, 0.7, 2.0, 50.0],
            &[-0.1, f32::INFINITY],
        ),
        ("top_p", |x| Sampling::default().top_p(Some(x)), &[0.0, 0.5, 1.0], &[-0.1, 1.1]),
        ("min_p", |x| Sampling::default().min_p(Some(x)), &[0.0, 0.5, 1.0], &[-0.1, 1.1]),
        ("repetition_penalty", |x| Sampling::default().repetition_penalty(x), &[0.1, 1.0, 9.0], &[0.0, -1.0]),
        ("presence_penalty", |x| Sampling::default().presence_penalty(x), &[-2.0, 2.0], &[-2.1, 2.1]),
        ("frequency_penalty", |x| Sampling::default().frequency_penalty(x), &[-2.0, 2.0], &[-2.1, 2.1]),
        ("logit_bias", |x| Sampling::default().logit_bias(vec![(0, x)]), &[-100.0, 100.0], &[-100.1, 100.1]),
    ];
    for (name, set, legal, illegal) in setters {
        for value in legal {
            assert!(set(*value).is_ok(), "{name} {value}");
        }
        for value in illegal.iter().chain(&[f32::NAN, f32::NEG_INFINITY]) {
            assert_eq!(set(*value).unwrap_err().name, name);
        }
    }
    assert_eq!(
        Sampling::default().top_p(Some(3.0)).unwrap_err().to_string(),
        "`top_p` must be from 0 to 1, not 3"
    );
    assert_eq!(Probability::new(0.25).map(Probability::get), Ok(0.25));
}

#[test]
fn repetition_looks_at_the_prompt_and_the_others_at_the_answer() {
    let logits = [1.0, 0.9];
    let greedy = || Sampling::default().temperature(0.0).unwrap();
    let first = |sampling: &Sampling| Sampler::new(sampling, &[0, 0]).next(&logits, &[], None).unwrap().id;
    assert_eq!(first(&greedy().repetition_penalty(1.5).unwrap()), 1);
    assert_eq!(first(&greedy().presence_penalty(1.0).unwrap()), 0);
    assert_eq!(first(&greedy().frequency_penalty(1.0).unwrap()), 0);
    let mut sampler = Sampler::new(&greedy().frequency_penalty(0.3).unwrap(), &[]);
    let drawn: Vec<_> = (0..4).map(|_| sampler.next(&logits, &[], None).unwrap().id).collect();
    assert_eq!(drawn, [0, 1, 0, 1]);
}

#[test]
fn draws_follow_the_distribution() {
    const DRAWS: u32 = 20_000;
    let logits = [0.0, 1.0, -1.0, 2.0, 0.5, -3.0, 1.5, -0.5];
    let mut sampler = Sampler::new(&Sampling::default().seed(7), &[]);
    let mut counts = [0u32; 8];
    for _ in 0..DRAWS {
        counts[sampler.next(&logits, &[], None).unwrap().id as usize] += 1;
    }
    let chi_square: f32 = probabilities(&mut sampler, &logits)
        .iter()
        .zip(counts)
        .map(|(probability, count)| {
            let expected = probability * DRAWS as f32;
            (count as f32 - expected).powi(2) / expected
        })
        .sum();
    // With seven degrees of freedom, a fair draw stays under this 999 times of 1000.
    assert!(chi_square < 24.3, "{chi_square}, {counts:?}");
}

#[test]
fn answers_to_one_request_differ() {
    let logits = [0.0; 1000];
    let sampling = Sampling::default().seed(3);
    let draw = |sampling: &Sampling| {
        let mut sampler = Sampler::new(sampling, &[]);
        [(); 8].map(|()| sampler.next(&logits, &[], None).unwrap().id)
    };
    assert_eq!(draw(&sampling.reseeded(0)), draw(&sampling));
    assert_ne!(draw(&sampling.reseeded(1)), draw(&sampling));
    assert_ne!(draw(&sampling.reseeded(1)), draw(&sampling.reseeded(2)));
    assert_ne!(draw(&sampling.clone().seed(4)), draw(&sampling));
}

#[test]
fn a_flat_distribution_needs_more_than_the_first_look() {
    let logits: Vec<f32> = (0..5000).map(|id| (id % 7) as f32 * 1e-3).collect();
    let sampling = Sampling::default().top_p(Some(0.9)).unwrap();
    let mut sampler = Sampler::new(&sampling, &[]);
    sampler.next(&logits, &[], None).unwrap();
    assert!((4490..=4510).contains(&sampler.left.candidates.len()), "{}", sampler.left.candidates.len());
}

/// Draws with everything sorted and nothing clever, to compare with: the ids left, best first.
fn left_by_sorting(options: &Options, logits: &[f32]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    order.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b)));
    order.truncate(options.top_k.filter(|k| *k > 0).map_or(usize::MAX, |k| k as usize));
    let temperature = options.temperature.unwrap_or(1.0);
    let best = logits[order[0] as usize];
    let weight = |id: &u32| f64::from(((logits[*id as usize] - best) / temperature).exp());
    if let Some(p) = options.top_p.filter(|p| *p < 1.0) {
        let total: f64 = order.iter().map(weight).sum();
        let mut before = 0.0;
        let count = order.iter().take_while(|id| {
            let is_in = before < f64::from(p) * total;
            before += weight(id);
            is_in
        });
        let count = count.count().max(1);
        order.truncate(count);
    }
    order.retain(|id| weight(id) >= f64::from(options.min_p.unwrap_or(0.0)));
    order
}

prop_compose! {
    // Whole and half numbers, so that ties are common.
    fn some_logits()(halves in prop::collection::vec(-20i8..20, 1..700)) -> Vec<f32> {
        halves.into_iter().map(|half| f32::from(half) / 2.0).collect()
    }
}

prop_compose! {
    fn some_cuts()(
        temperature in prop::option::of(0.1f32..3.0),
        top_k in prop::option::of(0u32..300),
        top_p in prop::option::of(0.0f32..=1.0),
        min_p in prop::option::of(0.0f32..=1.0),
    ) -> Options {
        Options { temperature, top_k, top_p, min_p, ..Options::default() }
    }
}

proptest! {
    #[test]
    fn cuts_leave_what_sorting_leaves(logits in some_logits(), options in some_cuts()) {
        let sampling = options.sampling();
        let max = select::max(&logits).unwrap();
        let softmax = Softmax { scores: &logits, max, temperature: sampling.temperature, isa: Isa::best() };
        let mut left = Left::default();
        left.cut(&sampling, softmax);
        let mut ours: Vec<u32> = left.candidates.iter().map(|candidate| candidate.id).collect();
        ours.sort_unstable();
        // Sums are rounded: where the share ends within that of a token, it may be in or out.
        let theirs = [0.999_999, 1.0, 1.000_001].map(|factor| {
            let top_p = options.top_p.map(|p| if p < 1.0 { (p * factor).min(1.0) } else { p });
            let mut theirs = left_by_sorting(&Options { top_p, ..options.clone() }, &logits);
            theirs.sort_unstable();
            theirs
        });
        prop_assert!(theirs.contains(&ours), "{ours:?} {theirs:?}");
    }

    #[test]
    fn a_draw_among_all_follows_their_weights(seed in any::<u64>(), len in 1usize..5000) {
        let mut numbers = ChaCha8Rng::seed_from_u64(seed);
        let logits: Vec<f32> = (0..len).map(|_| uniform(&mut numbers) as f32 * 12.0).collect();
        let sampling = Sampling::default().seed(seed);
        let drawn = Sampler::new(&sampling, &[]).next(&logits, &[], None).unwrap().id;
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(0);
        let weights: Vec<f64> = logits.iter().map(|logit| f64::from(*logit).exp()).collect();
        let point = uniform(&mut random) * weights.iter().sum::<f64>();
        let before: f64 = weights[..drawn as usize].iter().sum();
        let slack = 2e-6 * weights.iter().sum::<f64>();
        prop_assert!(before - slack <= point && point <= before + weights[drawn as usize] + slack);
    }

    #[test]
    fn what_is_drawn_is_left_and_allowed(
        logits in some_logits(),
        options in some_cuts(),
        seed in any::<u64>(),
        forbidden in prop::collection::vec(0u32..700, 0..20),
    ) {
        let mut sampler = Sampler::new(&options.sampling().seed(seed), &[]);
        let mut masked = logits.clone();
        for id in &forbidden {
            if let Some(logit) = masked.get_mut(*id as usize) {
                *logit = f32::NEG_INFINITY;
            }
        }
        match sampler.next(&logits, &forbidden, None) {
            Ok(sampled) => {
                prop_assert!(left_by_sorting(&options, &masked).contains(&sampled.id));
                prop_assert!(!forbidden.contains(&sampled.id));
            }
            Err(error) => {
                prop_assert_eq!(error, SampleError::NothingLeft);
                prop_assert!(masked.iter().all(|logit| *logit == f32::NEG_INFINITY));
            }
        }
    }

    #[test]
    fn the_same_seed_draws_the_same(logits in some_logits(), options in some_cuts(), seed in any::<u64>()) {
        let sampling = options.sampling().seed(seed);
        let (mut one, mut other) = (Sampler::new(&sampling, &[]), Sampler::new(&sampling, &[]));
        for _ in 0..5 {
            prop_assert_eq!(one.next(&logits, &[], Some(3)), other.next(&logits, &[], Some(3)));
        }
    }

    #[test]
    fn the_largest_are_those_of_a_sort(logits in some_logits(), count in 0usize..800) {
        let mut best = Vec::new();
        select::largest(&logits, count, &mut best);
        let mut sorted: Vec<_> = (0u32..).zip(&logits).map(|(id, score)| Candidate { id, weight: *score }).collect();
        sorted.sort_by(|a, b| b.weight.total_cmp(&a.weight).then(a.id.cmp(&b.id)));
        sorted.truncate(count);
        prop_assert_eq!(best, sorted);
    }

    #[test]
    fn probabilities_add_up(logits in some_logits()) {
        let total: f32 = (0..logits.len() as u32).filter_map(|id| logprobs(&logits, id, 0).logprob).map(f32::exp).sum();
        prop_assert!((total - 1.0).abs() < 1e-4);
    }
}
