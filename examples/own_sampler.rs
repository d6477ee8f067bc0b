//! A sampler of one's own, over the executor and without the engine: `cargo ex own_sampler [QUESTION] [PATH]`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{
    io::{self, Write},
    time::SystemTime,
};

use hub_base::{Account, CancelToken, ProgressSink};
use hub_models::{
    ModelParts, Source,
    chat::{Message, RenderOptions},
};
use hub_nn::{
    Device, Priority,
    executor::{CpuExecutor, Executor, ExecutorOptions, Input, Outputs, Segment, Want},
    state::SequenceState,
    tokens::{AddSpecial, TextStream},
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let question = args.next().unwrap_or_else(|| "How do I import a model?".to_owned());
    let source = args.next().map_or(Source::Guide, |path| Source::Path(path.into()));

    let ModelParts { weights, spec, tokenizer, template, end_tokens, .. } = ModelParts::open(source)?;
    let device = Device::cpu(Account::unlimited());
    let (progress, cancel) = (ProgressSink::default(), CancelToken::new());
    let mut executor =
        CpuExecutor::load(spec, &weights, &device, ExecutorOptions::default(), &progress, &cancel)?;
    let layers = 0..executor.spec().layers.len();

    let template = template.ok_or("this model has no chat template")?;
    let prompt = template.render(&[Message::user(question)], &RenderOptions::new(SystemTime::now()))?;
    let mut tokens = tokenizer.encode(&prompt, AddSpecial::No)?;

    let mut sampler = Mirostat { limit: 2.0 * TARGET, random: 0x2545_F491_4F6C_DD1D };
    let mut text = TextStream::new(&tokenizer, &[]);
    let mut state = SequenceState::default();
    for _ in 0..120 {
        // The first step reads the whole prompt, every later one the token that was just drawn.
        let new = &tokens[state.tokens()..];
        executor.append(&mut state, new.len())?;
        let (input, span) = (Input::Tokens(new), tokens.len());
        let rows = Segment { input, state: Some(&mut state), outputs: Outputs::Last, span };
        let output = executor.run(layers.clone(), &mut [rows], Want::Head, Priority::default())?;
        let id = sampler.draw(output.rows().next().ok_or("a step without logits")?);
        if end_tokens.contains(&id) {
            break;
        }
        print!("{}", text.push(id).text);
        io::stdout().flush()?;
        tokens.push(id);
    }
    println!("{}", text.finish());
    executor.release(state);
    Ok(())
}

/// How surprising the text shall be on average, in bits a token, and how fast the limit follows.
const TARGET: f32 = 2.0;
const RATE: f32 = 0.1;

/// Leaves out the tokens that would surprise too much, and moves the limit so that the text surprises as it should.
///
/// Source: Basu et al. 2021, Mirostat, <https://arxiv.org/abs/2007.14966>; the shorter form known as version 2.
struct Mirostat {
    limit: f32,
    random: u64,
}

impl Mirostat {
    fn draw(&mut self, logits: &[f32]) -> u32 {
        let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let total: f32 = logits.iter().map(|logit| (logit - top).exp()).sum();
        let bits = |logit: &f32| (total.ln() + top - logit) / std::f32::consts::LN_2;
        let surprises = logits.iter().map(bits).zip(0..);
        // The likeliest token stays whatever the limit.
        let limit = self.limit.max(bits(&top));
        let likely: Vec<(f32, u32)> = surprises.filter(|(bits, _)| *bits <= limit).collect();

        let mut left = self.uniform() * likely.iter().map(|(bits, _)| (-bits).exp2()).sum::<f32>();
        let passes = |(bits, _): &&(f32, u32)| {
            left -= (-bits).exp2();
            left <= 0.0
        };
        let (bits, id) = likely.iter().find(passes).or(likely.last()).copied().unwrap_or_default();
        self.limit -= RATE * (bits - TARGET);
        id
    }

    /// Draws a number between 0 and 1 (xorshift64: Marsaglia 2003, <https://doi.org/10.18637/jss.v008.i14>).
    fn uniform(&mut self) -> f32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 40) as f32 / (1_u64 << 24) as f32
    }
}
