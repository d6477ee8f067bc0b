//! Writes the logits of every token: `cargo bench -p hub-benches --bench logits -- MODEL IDS OUT [EXECUTOR [CACHE]]`.
//!
//! IDS is a JSON file with lists of token ids, each of which is read from its beginning. OUT gets one row of `f32` for every
//! token, in the machine's byte order. EXECUTOR is `cpu` or `candle`, CACHE `f16`, `f32` or `q8`. `divergence.py` beside this
//! file compares such rows with llama.cpp's.

use std::{error::Error, io::Write, path::Path};

use hub_base::{Account, CancelToken, ProgressSink};
use hub_models::spec_of;
use hub_nn::{
    Device, Priority,
    executor::{Executor, ExecutorKind, ExecutorOptions, Input, KvKind, Outputs, Segment, Want},
    state::SequenceState,
    weights::Weights,
};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let [model, ids, out, rest @ ..] = args.as_slice() else {
        return Err("which model, ids and file?".into());
    };
    let mut rest = rest.iter().map(String::as_str);
    let kind = match rest.next() {
        None | Some("cpu") => ExecutorKind::Cpu,
        Some("candle") => ExecutorKind::Candle,
        Some(other) => return Err(format!("no executor is called {other}").into()),
    };
    let cache = match rest.next() {
        None | Some("f16") => KvKind::F16,
        Some("f32") => KvKind::F32,
        Some("q8") => KvKind::Q8,
        Some(other) => return Err(format!("no cache is called {other}").into()),
    };
    let texts: Vec<Vec<u32>> = serde_json::from_str(&std::fs::read_to_string(ids)?)?;
    let weights = Weights::open(Path::new(model))?;
    let device = Device::cpu(Account::unlimited());
    let options = ExecutorOptions::default().kind(kind).kv(cache);
    let spec = spec_of(&weights, None)?;
    let mut executor =
        options.load(spec, &weights, &device, &ProgressSink::default(), &CancelToken::new())?;
    let mut out = std::io::BufWriter::new(std::fs::File::create(out)?);
    for tokens in &texts {
        for value in logits(executor.as_mut(), tokens)? {
            out.write_all(&value.to_ne_bytes())?;
        }
    }
    Ok(out.flush()?)
}

/// Returns the logits of all tokens of a text, row after row.
fn logits(executor: &mut dyn Executor, tokens: &[u32]) -> Result<Vec<f32>, Box<dyn Error>> {
    let mut state = SequenceState::default();
    executor.append(&mut state, tokens.len())?;
    let (input, span) = (Input::Tokens(tokens), tokens.len());
    let mut segments = [Segment { input, state: Some(&mut state), outputs: Outputs::All, span }];
    let layers = 0..executor.spec().layers.len();
    let output = executor.run(layers, &mut segments, Want::Head, Priority::Interactive)?;
    let rows = output.rows().flatten().copied().collect();
    executor.release(state);
    Ok(rows)
}
