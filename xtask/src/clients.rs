//! Clients nobody here wrote, against a running hub.

use std::path::PathBuf;

use crate::{
    run::{Error, Outcome, cache, command, output, root, run},
    server::Server,
    tools,
};

/// Runs one client against a hub of its own.
pub(crate) type Client = fn() -> Result<Outcome, Error>;

/// The clients by name.
pub(crate) const ALL: &[(&str, Client)] = &[
    ("openai for Python", python),
    ("openai for Node.js", node),
    ("ollama for Python", ollama),
    ("ollama for Node.js", ollama_node),
    ("a page in Chromium", page),
    ("schemathesis", schemathesis),
];

/// The profile whose `hub` is asked: the one that the tests have built already.
const PROFILE: &str = "debug";

/// The least number of requests that the description of all operations is worth.
const LEAST_CASES: usize = 2_000;

/// The models that the clients ask.
const CHAT: &str = "hub-guide";
const EMBED: &str = "minilm";

fn python() -> Result<Outcome, Error> {
    let (python, minilm) = tools::clients()?;
    let server = start(minilm)?;
    run(command(python, &[&script("openai_check.py"), &base(&server), CHAT, EMBED])).map(Outcome::from)
}

fn node() -> Result<Outcome, Error> {
    let (node, beside) = node_script("openai_check.mjs")?;
    let server = start(minilm()?)?;
    run(command(node, &[&beside, &base(&server), CHAT, EMBED])).map(Outcome::from)
}

fn ollama() -> Result<Outcome, Error> {
    let (python, minilm) = tools::clients()?;
    let server = start(minilm)?;
    run(command(python, &[&script("ollama_check.py"), &server.url])).map(Outcome::from)
}

fn ollama_node() -> Result<Outcome, Error> {
    let (node, beside) = node_script("ollama_check.mjs")?;
    let server = start(minilm()?)?;
    run(command(node, &[&beside, &server.url, CHAT, EMBED])).map(Outcome::from)
}

fn page() -> Result<Outcome, Error> {
    let chromium = match tools::chromium() {
        Ok(chromium) => chromium.to_string_lossy().into_owned(),
        Err(reason) => return Ok(Outcome::Skipped(reason)),
    };
    let (node, beside) = node_script("page_check.mjs")?;
    let picture = cache()?.join("page.png");
    let server = start(minilm()?)?;
    let args = [&beside, &server.url, CHAT, &script("page.html"), &chromium, &picture.to_string_lossy()];
    run(command(node, &args)).map(Outcome::from)
}

/// Makes requests from `/openapi.json`, those it allows and those it does not, and holds the answers against it.
fn schemathesis() -> Result<Outcome, Error> {
    let (_, minilm) = tools::clients()?;
    let program = tools::schemathesis()?;
    let server = start(minilm)?;
    let document = format!("{}/openapi.json", server.url);
    let mut asking = command(program, &["--config-file", &script("schemathesis.toml"), "run", &document]);
    asking.env("SCHEMATHESIS_HOOKS", script("openapi_hooks.py"));
    // It leaves files where it runs.
    asking.current_dir(cache()?);
    let (text, is_success) = output(asking)?;
    let mut words = text.split_whitespace().skip_while(|word| *word != "cases:").skip(1);
    let cases = words.next().and_then(|count| count.parse().ok()).unwrap_or(0);
    match (is_success, cases) {
        (false, _) => Err("the server and its description differ; see above".into()),
        (true, LEAST_CASES..) => Ok(Outcome::Passed),
        (true, few) => Err(format!("only {few} requests were made; {LEAST_CASES} are due").into()),
    }
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
