use hub_base::ModelId;

use crate::{Candidate, Decision, Rejection, Request, Target, rules::alias::AliasTable};

/// What a decision is about.
pub(crate) struct Case<'a> {
    pub(crate) aliases: &'a AliasTable,
    pub(crate) request: &'a Request<'a>,
    pub(crate) targets: &'a [Target],
}

impl Case<'_> {
    /// Returns the names of all targets, sorted.
    pub(crate) fn installed(&self) -> Vec<ModelId> {
        let mut names: Vec<_> = self.targets.iter().map(|target| target.name.clone()).collect();
        names.sort();
        names
    }
}

/// A decision while rules are still working on it.
#[derive(Default)]
pub(crate) struct Draft<'a> {
    /// Named choices first, in the caller's order; free ones after them.
    pub(crate) choices: Vec<Choice<'a>>,
    pub(crate) rejected: Vec<Rejection>,
}

/// One candidate while rules are still working on it.
pub(crate) struct Choice<'a> {
    pub(crate) target: &'a Target,
    pub(crate) freedom: Freedom,
    pub(crate) reason: String,
}

/// Whether a caller or an alias named the model, or the router may weigh it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freedom {
    /// Named: it keeps its place.
    Named,
    /// Found by `auto`: rules may move it.
    Free,
}

impl<'a> Draft<'a> {
    /// Removes the choices for which `reason` has something to say, and keeps what it said.
    pub(crate) fn reject(&mut self, rule: &'static str, reason: impl Fn(&Choice<'a>) -> Option<String>) {
        let rejected = &mut self.rejected;
        self.choices.retain(|choice| match reason(choice) {
            None => true,
            Some(reason) => {
                rejected.push(Rejection { model: choice.target.name.clone(), rule, reason });
                false
            }
        });
    }

    /// Moves the free choices for which `wanted` holds before the others; the built-in model stays last.
    pub(crate) fn prefer(&mut self, wanted: impl Fn(&Target) -> bool) {
        self.choices.sort_by_key(|choice| match choice.freedom {
            Freedom::Named => (0, false),
            Freedom::Free if choice.target.is_builtin => (2, false),
            Freedom::Free => (1, !wanted(choice.target)),
        });
    }

    /// Adds words to the reason of each free choice for which `words` has some.
    pub(crate) fn explain(&mut self, words: impl Fn(&Target) -> Option<String>) {
        for choice in self.choices.iter_mut().filter(|choice| choice.freedom == Freedom::Free) {
            if let Some(words) = words(choice.target) {
                choice.reason.push_str(", ");
                choice.reason.push_str(&words);
            }
        }
    }

    pub(crate) fn into_decision(self) -> Decision {
        let candidate =
            |choice: Choice<'_>| Candidate { model: choice.target.name.clone(), reason: choice.reason };
        Decision { candidates: self.choices.into_iter().map(candidate).collect(), rejected: self.rejected }
    }
}
