use std::collections::HashMap;

/// How much tokens lose that were seen before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Penalties {
    pub(super) repetition: f32,
    pub(super) presence: f32,
    pub(super) frequency: f32,
}

impl Default for Penalties {
    fn default() -> Self {
        Self { repetition: 1.0, presence: 0.0, frequency: 0.0 }
    }
}

/// The tokens seen so far. Nothing is kept where there are no penalties.
#[derive(Debug)]
pub(super) struct History {
    penalties: Penalties,
    /// How often each token seen was generated; 0 if it stands in the prompt alone.
    generated: HashMap<u32, u32>,
}

impl History {
    pub(super) fn new(penalties: Penalties, prompt: &[u32]) -> Self {
        // The other penalties look at the answer alone.
        let counts_prompt = penalties.repetition != 1.0;
        let prompt = if counts_prompt { prompt } else { &[] };
        Self { penalties, generated: prompt.iter().map(|id| (*id, 0)).collect() }
    }

    pub(super) fn has_penalties(&self) -> bool {
        self.penalties != Penalties::default()
    }

    pub(super) fn push(&mut self, id: u32) {
        if self.has_penalties() {
            *self.generated.entry(id).or_insert(0) += 1;
        }
    }

    /// Lowers the scores of tokens seen: repetition first, then frequency and presence, as vLLM does.
    ///
    /// Source of the latter two: <https://platform.openai.com/docs/guides/text-generation>, "frequency and presence
    /// penalties". Checked against `fixtures/sample/expected.json`.
    pub(super) fn apply(&self, scores: &mut [f32]) {
        let Penalties { repetition, presence, frequency } = self.penalties;
        for (id, count) in &self.generated {
            let Some(score) = scores.get_mut(*id as usize) else { continue };
            if *score < 0.0 {
                *score *= repetition;
            } else {
                *score /= repetition;
            }
            if *count > 0 {
                *score -= frequency * *count as f32 + presence;
            }
        }
    }
}
