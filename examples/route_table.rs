//! What the router would do, as a table: `cargo ex route_table`. No model is loaded.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use hub_base::{ModelId, Task};
use hub_router::{Request, Router, RouterOptions, Target};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let router = Router::new(RouterOptions::default().alias("gpt-4o-mini", ["qwen3-8b", "auto"]))?;
    let targets = [
        target("hub-guide", Task::Chat, 1_024, true)?,
        target("qwen3-8b", Task::Chat, 32_768, false)?,
        target("minilm", Task::Embed, 512, false)?,
    ];
    for (model, task, prompt_tokens) in [
        ("auto", Task::Chat, 100),
        ("auto", Task::Chat, 20_000),
        ("gpt-4o-mini", Task::Chat, 100),
        ("auto", Task::Embed, 100),
        ("minilm", Task::Chat, 100),
    ] {
        let asked = format!("{model:12} {:6} {prompt_tokens:6}", task.as_str());
        let request = Request { model, task, prompt_tokens, max_tokens: Some(256) };
        match router.decide(&request, &targets) {
            Ok(decision) => {
                for candidate in &decision.candidates {
                    println!("{asked}  {} ({})", candidate.model, candidate.reason);
                }
            }
            Err(error) => println!("{asked}  refused: {error}"),
        }
    }
    Ok(())
}

fn target(
    name: &str,
    task: Task,
    context_tokens: u32,
    is_builtin: bool,
) -> Result<Target, Box<dyn std::error::Error>> {
    let name = ModelId::new(name)?;
    Ok(Target { name, tasks: vec![task], context_tokens, bytes: 0, is_loaded: is_builtin, is_builtin })
}
