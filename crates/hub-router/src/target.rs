use hub_base::{ModelId, Task};

/// What a decision needs to know of an installed model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name, unique among the targets of one decision.
    pub name: ModelId,
    /// What it can do.
    pub tasks: Vec<Task>,
    /// How many tokens fit its context, prompt and answer together.
    pub context_tokens: u32,
    /// How large its weights are.
    pub bytes: u64,
    /// Whether it is in memory now.
    pub is_loaded: bool,
    /// Whether it is the small model inside the program, which answers only when nothing else can.
    pub is_builtin: bool,
}
