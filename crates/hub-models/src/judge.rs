//! Models of language that judge: how likely they answer yes says how well a document answers a query.
//!
//! Source: Zhang et al. 2025, <https://arxiv.org/abs/2506.05176>, section 2. A folder says so by a part `LogitScore`
//! (sentence-transformers 5.4), or, as the first files of Qwen3-Reranker, by nothing but `pipeline_tag` on their card.

use std::path::Path;

use hub_nn::{
    spec::{Head, LinearSpec, ModelSpec, PooledLayer, PooledSpec, RowPooling, Rows, TensorRef},
    tokens::Tokenizer,
};
use serde::Deserialize;

use crate::{
    Error,
    card::{self, Card},
    modules::Modules,
    pooling::unsupported,
};

/// What a card calls models that rerank.
const RANKS: &str = "text-ranking";
/// What such a model is made of.
const PARTS: [&str; 2] = ["Transformer", "LogitScore"];

/// Which of a model's numbers say yes and no. A cross-encoder has one number, which says yes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scoring {
    yes: usize,
    no: Option<usize>,
}

/// The tokens that mean yes and no.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Answers {
    #[serde(rename = "true_token_id")]
    yes: u32,
    #[serde(rename = "false_token_id")]
    no: Option<u32>,
}

impl Scoring {
    /// Two numbers, as GGUF files have them: yes and no.
    pub(crate) const YES_AND_NO: Self = Self { yes: 0, no: Some(1) };

    /// Makes of a model of language one that judges, if its folder says that it does. Nothing changes otherwise.
    pub(crate) fn find(
        folder: &Path,
        modules: Option<&Modules>,
        spec: &mut ModelSpec,
    ) -> Result<Option<Self>, Error> {
        let Head::Logits { linear, scale, soft_cap } = &spec.head else { return Ok(None) };
        let Some(Answers { yes, no }) = Answers::of(folder, modules)? else { return Ok(None) };
        if *scale != 1.0 || soft_cap.is_some() {
            return Err(unsupported("modules.json", "type", "LogitScore of logits that are scaled or bent"));
        }
        let (first, step) = (yes.min(no.unwrap_or(yes)), yes.abs_diff(no.unwrap_or(yes)));
        let count = if step == 0 { 1 } else { 2 };
        let rows = Rows { start: first as usize, len: 1, step: step as usize, count };
        let linear = LinearSpec {
            weight: TensorRef::rows(linear.weight.name.clone(), rows),
            bias: None,
            inputs: linear.inputs,
            outputs: count,
        };
        spec.head = Head::Classifier(PooledSpec {
            pooling: RowPooling::Last,
            layers: vec![PooledLayer::plain(linear)],
        });
        // The rows come in the order of the vocabulary.
        let place = |token: u32| usize::from(token > first);
        Ok(Some(Self { yes: place(yes), no: no.filter(|no| *no != yes).map(place) }))
    }

    /// Returns the probability that numbers mean yes.
    pub(crate) fn score(self, numbers: &[f32]) -> f32 {
        let number = |place: usize| numbers.get(place).copied().unwrap_or(f32::NAN);
        let odds = number(self.yes) - self.no.map_or(0.0, number);
        1.0 / (1.0 + (-odds).exp())
    }
}

impl Answers {
    fn of(folder: &Path, modules: Option<&Modules>) -> Result<Option<Self>, Error> {
        if let Some((modules, module)) = modules.and_then(|all| Some((all, all.find("LogitScore")?))) {
            if let Some(other) = modules.iter().find(|part| !PARTS.contains(&part.kind())) {
                return Err(other.unsupported());
            }
            let missing = || unsupported("modules.json", "type", "LogitScore without its configuration");
            return Ok(Some(modules.config(module)?.ok_or_else(missing)?));
        }
        if modules.is_some() || Card::purpose(&card::read(folder)).as_deref() != Some(RANKS) {
            return Ok(None);
        }
        let tokenizer = Tokenizer::open(&folder.join("tokenizer.json"))?;
        let token = |text: &str| {
            let unknown =
                || unsupported("model card", "pipeline_tag", "text-ranking without tokens for yes and no");
            tokenizer.id_of(text).ok_or_else(unknown)
        };
        Ok(Some(Self { yes: token("yes")?, no: Some(token("no")?) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_the_probability_of_yes() {
        let softmax = |yes: f32, no: f32| yes.exp() / (yes.exp() + no.exp());
        assert!((Scoring::YES_AND_NO.score(&[0.3, 1.1]) - softmax(0.3, 1.1)).abs() < 1e-6);
        assert!((Scoring { yes: 1, no: Some(0) }.score(&[0.3, 1.1]) - softmax(1.1, 0.3)).abs() < 1e-6);
        assert!((Scoring::default().score(&[0.0]) - 0.5).abs() < 1e-6);
        assert!(Scoring::default().score(&[]).is_nan());
    }
}
