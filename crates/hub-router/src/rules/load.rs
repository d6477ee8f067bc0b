use super::Rule;
use crate::{
    Result, Target,
    draft::{Case, Draft},
};

/// Prefers models that are in memory: loading one costs seconds.
pub(crate) struct Load;

impl Rule for Load {
    fn name(&self) -> &'static str {
        "load"
    }

    fn apply<'a>(&self, _case: &Case<'a>, draft: &mut Draft<'a>) -> Result<()> {
        let is_loaded = |target: &Target| target.is_loaded;
        draft.prefer(is_loaded);
        draft.explain(|target| is_loaded(target).then(|| "loaded".to_owned()));
        Ok(())
    }
}
