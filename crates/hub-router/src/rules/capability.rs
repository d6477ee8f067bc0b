use super::Rule;
use crate::{
    Error, Result,
    draft::{Case, Draft, Freedom},
};

/// Leaves out the models that cannot do the task.
pub(crate) struct Capability;

impl Rule for Capability {
    fn name(&self) -> &'static str {
        "capability"
    }

    fn apply<'a>(&self, case: &Case<'a>, draft: &mut Draft<'a>) -> Result<()> {
        let task = case.request.task;
        // The caller who named a model wants to hear about that model, not about a list.
        let named = draft.choices.first().filter(|choice| choice.freedom == Freedom::Named);
        let refusal = match named {
            Some(choice) => Error::NotCapable {
                model: choice.target.name.clone(),
                task,
                tasks: choice.target.tasks.clone(),
            },
            None => Error::NoneCapable { task, installed: case.installed() },
        };
        draft.reject(self.name(), |choice| {
            (!choice.target.tasks.contains(&task)).then(|| format!("cannot {task}"))
        });
        if draft.choices.is_empty() { Err(refusal) } else { Ok(()) }
    }
}
