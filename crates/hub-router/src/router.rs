use crate::{
    Decision, Request, Result, RouterOptions, Target,
    draft::{Case, Draft},
    rules::{
        RULES,
        alias::{AliasTable, Leaf},
    },
};

/// Chooses models by its settings alone.
#[derive(Clone, Debug)]
pub struct Router {
    aliases: AliasTable,
}

impl Router {
    /// Checks the settings and resolves every alias once.
    ///
    /// # Errors
    /// [`Error::AliasLoop`](crate::Error::AliasLoop), [`EmptyAlias`](crate::Error::EmptyAlias),
    /// [`ReservedAlias`](crate::Error::ReservedAlias) or [`BadAlias`](crate::Error::BadAlias), each naming the alias.
    pub fn new(options: RouterOptions) -> Result<Self> {
        Ok(Self { aliases: AliasTable::new(&options.aliases)? })
    }

    /// Iterates over the aliases by name, each with what it leads to in the end: models, and [`AUTO`](crate::AUTO).
    pub fn aliases(&self) -> impl Iterator<Item = (&str, Vec<&str>)> {
        self.aliases.iter().map(|(alias, leaves)| (alias, leaves.iter().map(Leaf::name).collect()))
    }

    /// Decides which of `targets` may answer `request`, best first.
    ///
    /// A model asked for by name is the only candidate, whatever its context holds. An alias gives the models of its
    /// list, in that order. With [`AUTO`](crate::AUTO) every capable model is a candidate: those the request fits
    /// first, then those in memory, the longer context, the larger weights, the name; the built-in model comes last.
    /// The order of `targets` plays no part.
    ///
    /// # Errors
    /// [`Error::NoSuchModel`](crate::Error::NoSuchModel) or [`AliasUnmet`](crate::Error::AliasUnmet) if nothing that
    /// was named is installed, [`NotCapable`](crate::Error::NotCapable) or
    /// [`NoneCapable`](crate::Error::NoneCapable) if nothing can do the task, [`TooLong`](crate::Error::TooLong) if
    /// the choice was free and the request is far longer than every context.
    pub fn decide(&self, request: &Request<'_>, targets: &[Target]) -> Result<Decision> {
        let case = Case { aliases: &self.aliases, request, targets };
        let mut draft = Draft::default();
        for rule in RULES {
            rule.apply(&case, &mut draft)?;
        }
        Ok(draft.into_decision())
    }
}
