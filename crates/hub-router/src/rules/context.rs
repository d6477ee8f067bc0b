use super::Rule;
use crate::{
    Error, Request, Result, Target,
    draft::{Case, Draft, Freedom},
};

/// Prefers models that surely hold the request, and leaves out those that surely do not.
///
/// Only what `auto` found is weighed. A model that was named keeps its place: it counts the tokens exactly, and its
/// own refusal carries the exact numbers.
pub(crate) struct Context;

/// How many times the truth the estimate may be before a model is left out unasked.
///
/// The estimate counts two bytes a token; English takes four to five and code about three. At eight times that, sixteen
/// bytes a token, only runs of one character are left.
const SLACK: u64 = 8;

impl Rule for Context {
    fn name(&self) -> &'static str {
        "context"
    }

    fn apply<'a>(&self, case: &Case<'a>, draft: &mut Draft<'a>) -> Result<()> {
        let asked = wanted_tokens(case.request);
        let limit = draft.choices.iter().map(|choice| u64::from(choice.target.context_tokens)).max();
        draft.reject(self.name(), |choice| {
            let holds = u64::from(choice.target.context_tokens);
            let is_hopeless = choice.freedom == Freedom::Free && case.request.prompt_tokens / SLACK > holds;
            is_hopeless.then(|| format!("too long for its context of {holds} tokens"))
        });
        let fits = |target: &Target| asked <= u64::from(target.context_tokens);
        draft.prefer(fits);
        draft.explain(|target| (!fits(target)).then(|| format!("may pass {} tokens", target.context_tokens)));
        match limit {
            Some(limit) if draft.choices.is_empty() => Err(Error::TooLong { asked, limit }),
            _ => Ok(()),
        }
    }
}

/// Returns an upper estimate of prompt and answer together.
fn wanted_tokens(request: &Request<'_>) -> u64 {
    request.prompt_tokens.saturating_add(request.max_tokens.unwrap_or(0))
}
