use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use hub_base::ModelId;

use super::Rule;
use crate::{
    AUTO, Error, OneOrMany, Rejection, Result, Target,
    draft::{Case, Choice, Draft, Freedom},
};

/// Turns the name a caller used into models: itself, the list behind an alias, or all of them.
pub(crate) struct Alias;

/// Every alias with what it leads to in the end.
#[derive(Clone, Debug)]
pub(crate) struct AliasTable(BTreeMap<String, Vec<Leaf>>);

/// Where an alias ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Leaf {
    /// At a model.
    Model(ModelId),
    /// At the router's own choice.
    Auto,
}

impl Rule for Alias {
    fn name(&self) -> &'static str {
        "alias"
    }

    fn apply<'a>(&self, case: &Case<'a>, draft: &mut Draft<'a>) -> Result<()> {
        let asked = case.request.model;
        if let Some(leaves) = case.aliases.0.get(asked) {
            for leaf in leaves {
                self.add_leaf(leaf, asked, case, draft);
            }
        } else if asked == AUTO {
            add_all(case, draft, "auto");
        } else if let Some(target) = case.targets.iter().find(|target| target.name.as_str() == asked) {
            let choice = Choice { target, freedom: Freedom::Named, reason: "named".to_owned() };
            draft.choices.push(choice);
        }
        if draft.choices.is_empty() { Err(not_installed(case)) } else { Ok(()) }
    }
}

impl Alias {
    fn add_leaf<'a>(&self, leaf: &Leaf, alias: &str, case: &Case<'a>, draft: &mut Draft<'a>) {
        let Leaf::Model(model) = leaf else {
            add_all(case, draft, &format!("alias {alias}, auto"));
            return;
        };
        let Some(target) = case.targets.iter().find(|target| target.name == *model) else {
            let reason = "not installed".to_owned();
            draft.rejected.push(Rejection { model: model.clone(), rule: self.name(), reason });
            return;
        };
        // What stands behind `auto` in a list is already there, as one of all.
        if draft.choices.iter().all(|choice| choice.target.name != *model) {
            let reason = format!("alias {alias}");
            draft.choices.push(Choice { target, freedom: Freedom::Named, reason });
        }
    }
}

/// Adds every model that is not a candidate yet, in the order the router prefers before it looks at the request.
fn add_all<'a>(case: &Case<'a>, draft: &mut Draft<'a>, reason: &str) {
    let named: Vec<&Target> = draft.choices.iter().map(|choice| choice.target).collect();
    let mut free: Vec<&Target> =
        case.targets.iter().filter(|target| named.iter().all(|other| other.name != target.name)).collect();
    free.sort_by_key(|target| {
        (target.is_builtin, Reverse(target.context_tokens), Reverse(target.bytes), &target.name)
    });
    draft.choices.extend(free.into_iter().map(|target| {
        let reason = if target.is_builtin { format!("{reason}, built in") } else { reason.to_owned() };
        Choice { target, freedom: Freedom::Free, reason }
    }));
}

fn not_installed(case: &Case<'_>) -> Error {
    // A caller's text can have any length; an error shows as much of it as a name can be long.
    let asked = case.request.model.chars().take(ModelId::MAX_LEN).collect();
    let installed = case.installed();
    let wanted: Vec<ModelId> = match case.aliases.0.get(case.request.model) {
        None => Vec::new(),
        Some(leaves) => leaves.iter().filter_map(Leaf::model).cloned().collect(),
    };
    if wanted.is_empty() {
        Error::NoSuchModel { asked, installed }
    } else {
        Error::AliasUnmet { alias: asked, wanted, installed }
    }
}

impl Leaf {
    fn new(name: &str, alias: &str) -> Result<Self> {
        if name == AUTO {
            return Ok(Self::Auto);
        }
        let bad = |reason| Error::BadAlias { alias: alias.to_owned(), reason };
        Ok(Self::Model(ModelId::new(name).map_err(bad)?))
    }

    pub(crate) fn name(&self) -> &str {
        self.model().map_or(AUTO, ModelId::as_str)
    }

    fn model(&self) -> Option<&ModelId> {
        match self {
            Self::Model(model) => Some(model),
            Self::Auto => None,
        }
    }
}

impl AliasTable {
    /// Follows every alias to its end.
    ///
    /// # Errors
    /// As [`Router::new`](crate::Router::new).
    pub(crate) fn new(aliases: &BTreeMap<String, OneOrMany>) -> Result<Self> {
        let mut table = BTreeMap::new();
        for alias in aliases.keys() {
            if alias == AUTO {
                return Err(Error::ReservedAlias { alias: alias.clone() });
            }
            let mut walk = Walk { aliases, path: Vec::new(), done: BTreeSet::new(), leaves: Vec::new() };
            walk.visit(alias)?;
            table.insert(alias.clone(), walk.leaves);
        }
        Ok(Self(table))
    }
}

impl AliasTable {
    /// Iterates over every alias and what it leads to in the end, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &[Leaf])> {
        self.0.iter().map(|(alias, leaves)| (alias.as_str(), leaves.as_slice()))
    }
}

/// The way through the aliases from one of them.
struct Walk<'a> {
    aliases: &'a BTreeMap<String, OneOrMany>,
    /// How we came to where we are; an alias that is on it again closes a circle.
    path: Vec<&'a str>,
    /// What is behind us and need not be walked again.
    done: BTreeSet<&'a str>,
    leaves: Vec<Leaf>,
}

impl<'a> Walk<'a> {
    /// Gathers what `alias` leads to, depth first, each leaf once.
    fn visit(&mut self, alias: &'a str) -> Result<()> {
        if let Some(start) = self.path.iter().position(|earlier| *earlier == alias) {
            let circle = self.path.iter().skip(start).chain([&alias]);
            return Err(Error::AliasLoop { chain: circle.map(|name| (*name).to_owned()).collect() });
        }
        if !self.done.insert(alias) {
            return Ok(());
        }
        let names = self.aliases.get(alias).map(OneOrMany::names).unwrap_or_default();
        if names.is_empty() {
            return Err(Error::EmptyAlias { alias: alias.to_owned() });
        }
        self.path.push(alias);
        for name in names {
            if self.aliases.contains_key(name) {
                self.visit(name)?;
            } else {
                self.add(Leaf::new(name, alias)?);
            }
        }
        self.path.pop();
        Ok(())
    }

    fn add(&mut self, leaf: Leaf) {
        if !self.leaves.contains(&leaf) {
            self.leaves.push(leaf);
        }
    }
}
