//! The rules, one a file. Each narrows or orders what the rules before it left.

pub(crate) mod alias;
mod capability;
mod context;
mod load;

use crate::{
    Result,
    draft::{Case, Draft},
};

/// The rules in the order they apply. Orderings are stable, so a later rule weighs more than an earlier one.
pub(crate) static RULES: &[&dyn Rule] =
    &[&alias::Alias, &capability::Capability, &load::Load, &context::Context];

/// One step of a decision.
pub(crate) trait Rule: Sync {
    /// Returns the name of the rule, which is also the name of its file.
    fn name(&self) -> &'static str;

    /// Narrows or orders the candidates; fails if it leaves none.
    fn apply<'a>(&self, case: &Case<'a>, draft: &mut Draft<'a>) -> Result<()>;
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::RULES;

    #[test]
    fn every_file_here_is_registered() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/rules");
        let files: BTreeSet<String> = fs::read_dir(here)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .filter(|stem| stem != "mod")
            .collect();
        let registered: BTreeSet<String> = RULES.iter().map(|rule| rule.name().to_owned()).collect();
        assert_eq!(files, registered);
    }
}
