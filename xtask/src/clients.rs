//! Clients nobody here wrote, against a running hub.

use std::path::PathBuf;

use crate::{
    run::{Error, command, root, run},
    server::Server,
    tools,
};

/// Runs one client against a hub of its own.
pub(crate) type Client = fn() -> Result<(), Error>;

/// The clients by name.
pub(crate) const ALL: &[(&str, Client)] = &[
    ("openai for Python", python),
    ("openai for Node.js", node),
    ("ollama for Python", ollama),
    ("ollama for Node.js", ollama_node),
];

/// The profile whose `hub` is asked: the one that the tests have built already.
const PROFILE: &str = "debug";

/// The models that the clients ask.
const CHAT: &str = "hub-guide";
const EMBED: &str = "minilm";

fn python() -> Result<(), Error> {
    let (python, minilm) = tools::clients()?;
    let server = start(minilm)?;
    run(command(python, &[&script("openai_check.py"), &base(&server), CHAT, EMBED]))
}

fn node() -> Result<(), Error> {
    let (node, beside) = node_script("openai_check.mjs")?;
    let server = start(minilm()?)?;
    run(command(node, &[&beside, &base(&server), CHAT, EMBED]))
}

fn ollama() -> Result<(), Error> {
    let (python, minilm) = tools::clients()?;
    let server = start(minilm)?;
    run(command(python, &[&script("ollama_check.py"), &server.url]))
}

fn ollama_node() -> Result<(), Error> {
    let (node, beside) = node_script("ollama_check.mjs")?;
    let server = start(minilm()?)?;
    run(command(node, &[&beside, &server.url, CHAT, EMBED]))
}

fn base(server: &Server) -> String {
    format!("{}/v1", server.url)
}

fn minilm() -> Result<PathBuf, Error> {
    tools::clients().map(|(_, minilm)| minilm)
}

fn start(minilm: PathBuf) -> Result<Server, Error> {
    run(command("cargo", &["build", "--quiet", "--bin", "hub"]))?;
    Server::start(PROFILE, &[(minilm, EMBED)])
}

fn script(name: &str) -> String {
    root().join("bins/hub-server/tests/clients").join(name).to_string_lossy().into_owned()
}

/// Returns the Node.js, and the path of a script where it finds its packages: beside them.
fn node_script(name: &str) -> Result<(PathBuf, String), Error> {
    let (node, modules) = tools::node()?;
    let beside = modules.join(name);
    std::fs::copy(script(name), &beside)?;
    Ok((node, beside.to_string_lossy().into_owned()))
}
