use hub_base::Task;

/// The model name that leaves the choice to the router.
pub const AUTO: &str = "auto";

/// What a decision needs to know of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The model as the caller named it: a model, an alias, or [`AUTO`].
    pub model: &'a str,
    /// What is asked.
    pub task: Task,
    /// An upper estimate of the prompt's tokens. Its bytes halved will do: the model counts exactly, later.
    pub prompt_tokens: u64,
    /// How many tokens the answer may take, where the caller said so.
    pub max_tokens: Option<u64>,
}
