//! Decisions as tables: what is installed, what is asked, who answers and why.
#![cfg(test)]

mod aliases;
mod decisions;

use hub_base::{ModelId, Task};
use hub_router::{Decision, Request, Router, Target};

/// Describes a model in one line: `name tasks context bytes [loaded] [builtin]`.
fn target(line: &str) -> Target {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [name, tasks, context, bytes, flags @ ..] = words.as_slice() else {
        panic!("too few words in {line:?}")
    };
    let task = |name: &str| match name {
        "chat" => Task::Chat,
        "embed" => Task::Embed,
        "rerank" => Task::Rerank,
        other => panic!("no task {other}"),
    };
    Target {
        name: ModelId::new(name).unwrap(),
        tasks: tasks.split('+').map(task).collect(),
        context_tokens: context.parse().unwrap(),
        bytes: bytes.parse().unwrap(),
        is_loaded: flags.contains(&"loaded"),
        is_builtin: flags.contains(&"builtin"),
    }
}

fn targets(lines: &str) -> Vec<Target> {
    lines.lines().map(str::trim).filter(|line| !line.is_empty()).map(target).collect()
}

fn router(aliases: &str) -> Router {
    Router::new(toml::from_str(&format!("[aliases]\n{aliases}")).unwrap()).unwrap()
}

fn chat(model: &str) -> Request<'_> {
    Request { model, task: Task::Chat, prompt_tokens: 100, max_tokens: None }
}

/// Writes a decision in lines: `name: reason` for candidates, `- name: rule: reason` for the rest.
fn describe(decision: &Decision) -> String {
    let candidates = decision.candidates.iter().map(|c| format!("{}: {}", c.model, c.reason));
    let rejected = decision.rejected.iter().map(|r| format!("- {}: {}: {}", r.model, r.rule, r.reason));
    candidates.chain(rejected).collect::<Vec<_>>().join("\n")
}
