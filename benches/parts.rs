//! The parts of a request that are not arithmetic: routing, template, tokens, sampling.

use divan::{Bencher, black_box};
use hub_base::{ModelId, Task};
use hub_models::{
    ChatPrompt, LoadOptions, Prompt, Source, TextModel,
    chat::Message,
    sample::{Sampler, Sampling},
};
use hub_router::{Request, Router, RouterOptions, Target};

fn main() {
    divan::main();
}

/// Logits as wide as those of the models people run.
fn logits() -> Vec<f32> {
    (0..151_936u32)
        .map(|id| ((id.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 24) as f32 - 0.5) * 20.0)
        .collect()
}

#[divan::bench(args = ["greedy", "all", "top_p 0.9", "top_k 40", "min_p 0.05"])]
fn sample(bencher: Bencher<'_, '_>, kind: &str) {
    let sampling = match kind {
        "greedy" => Sampling::default().temperature(0.0),
        "all" => Ok(Sampling::default()),
        "top_p 0.9" => Sampling::default().top_p(Some(0.9)),
        "min_p 0.05" => Sampling::default().min_p(Some(0.05)),
        _ => Ok(Sampling::default().top_k(Some(40))),
    };
    let logits = logits();
    let mut sampler = Sampler::new(&sampling.unwrap_or_default(), &[]);
    bencher.bench_local(|| sampler.next(black_box(&logits), &[], None));
}

#[divan::bench]
fn prepare_a_conversation(bencher: Bencher<'_, '_>) {
    let Ok(model) = TextModel::open(Source::Guide, LoadOptions::default()) else { return };
    let messages = (0..10).map(|turn| match turn % 2 {
        0 => Message::user("Làm sao để nhập một mô hình vào hub?"),
        _ => Message::assistant("Use `hub import PATH --name NAME`."),
    });
    let prompt = Prompt::Chat(ChatPrompt::new(messages.take(9).collect()));
    bencher.bench_local(|| model.prepare(black_box(&prompt)).map(|prepared| prepared.tokens().len()));
}

#[divan::bench]
fn route_among_fifty(bencher: Bencher<'_, '_>) {
    let Ok(router) = Router::new(RouterOptions::default()) else { return };
    let target = |number: u32| {
        let name = ModelId::new(&format!("model-{number}")).ok()?;
        let context_tokens = 1_024 * (number + 1);
        Some(Target {
            name,
            tasks: vec![Task::Chat],
            context_tokens,
            bytes: 0,
            is_loaded: false,
            is_builtin: false,
        })
    };
    let targets: Vec<Target> = (0..50).filter_map(target).collect();
    let request = Request { model: "auto", task: Task::Chat, prompt_tokens: 20_000, max_tokens: None };
    bencher.bench_local(|| {
        router.decide(black_box(&request), &targets).map(|decision| decision.candidates.len())
    });
}
