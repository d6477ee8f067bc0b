use hub_base::ModelId;
use serde::Serialize;

/// Who may answer a request, in order, and who may not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Decision {
    /// The models to try, best first; never empty. Those after the first are fallbacks: they are tried when the one
    /// before them fails before its first token.
    pub candidates: Vec<Candidate>,
    /// The models that were considered and left out.
    pub rejected: Vec<Rejection>,
}

/// One model of a [`Decision`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Candidate {
    /// The model.
    pub model: ModelId,
    /// Why it stands where it stands, in a few words: `auto, loaded`.
    pub reason: String,
}

/// One model that a rule left out of a [`Decision`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Rejection {
    /// The model.
    pub model: ModelId,
    /// The rule that left it out: `capability`.
    pub rule: &'static str,
    /// Why it was left out, in a few words: `cannot embed`.
    pub reason: String,
}
