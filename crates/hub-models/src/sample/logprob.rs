use super::select::largest;

/// A token, and how likely the model found it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Sampled {
    /// The token.
    pub id: u32,
    /// The natural logarithm of its probability; nothing unless asked for.
    pub logprob: Option<f32>,
    /// The likeliest tokens and the logarithms of their probabilities, best first, ties by id. Tokens that cannot
    /// occur are left out.
    pub top: Vec<(u32, f32)>,
}

/// Returns how likely the model finds the token `id` and the `top` likeliest ones: the logarithm of the softmax of
/// `logits`, one per token of the vocabulary.
///
/// `logprob` is nothing if the vocabulary has no such token. Logits that are not numbers give what is not a number.
pub fn logprobs(logits: &[f32], id: u32, top: u8) -> Sampled {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    // Infinite logits are equally likely, and their difference is not a number.
    let relative = |logit: f32| if logit == max { 0.0 } else { f64::from(logit) - f64::from(max) };
    let total: f64 = logits.iter().map(|logit| relative(*logit).exp()).sum();
    let logprob = |logit: f32| (relative(logit) - total.ln()) as f32;
    let mut best = Vec::new();
    largest(logits, usize::from(top), &mut best);
    Sampled {
        id,
        logprob: logits.get(id as usize).map(|logit| logprob(*logit)),
        top: best.iter().map(|candidate| (candidate.id, logprob(candidate.weight))).collect(),
    }
}
