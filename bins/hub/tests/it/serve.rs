use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Stdio},
};

use crate::Hub;

/// A server that is killed with its owner, however the test ends.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: String,
}

impl Server {
    /// Starts a server on a free port and waits until it is ready.
    pub(crate) fn start(hub: &Hub, args: &[&str]) -> Self {
        let args = [&["serve", "--port", "0"], args].concat();
        let mut child = hub.command(&args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").map(str::to_owned);
        Self { child, address: address.unwrap_or_else(|| panic!("{line:?}")) }
    }

    /// Sends a request and returns everything that comes back.
    fn get(&self, path: &str) -> String {
        let mut socket = TcpStream::connect(&self.address).unwrap();
        write!(socket, "GET {path} HTTP/1.0\r\nhost: {}\r\n\r\n", self.address).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_server_says_where_it_is_and_a_second_one_is_refused() {
    let hub = Hub::new();
    let server = Server::start(&hub, &["--model", "hub-guide"]);
    assert!(server.get("/health").starts_with("HTTP/1.0 200"), "{}", server.get("/health"));

    let place = format!("at http://{}", server.address);
    let output = hub.run(&["serve", "--port", "0"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(crate::stderr(&output).contains(&place), "{}", crate::stderr(&output));

    let running = hub.json(&["ps", "--json"]);
    assert_eq!(running["models"][0]["name"], "hub-guide");
    assert!(hub.works(&["ps"]).contains("hub-guide  chat"));
    assert!(hub.works(&["list"]).contains("hub-guide"), "commands work beside a server");
    assert_eq!(hub.works(&["load", "hub-guide"]).trim_end(), "hub-guide is in memory");
    assert!(hub.works(&["unload", "hub-guide"]).starts_with("hub-guide leaves memory"));

    // Killed, it leaves its files behind, and the next one starts all the same.
    drop(server);
    hub.fails(&["ps"], 1, "error: no hub serves ");
    drop(Server::start(&hub, &[]));
}

#[test]
fn a_running_server_answers_hub_run() {
    let hub = Hub::new();
    let _server = Server::start(&hub, &[]);
    let run = ["run", "hub-guide", "--temperature", "0", "--max-tokens", "6", "How do I list my models?"];
    let answer = hub.works(&run);
    let here = hub.works(&[&run[..1], &["--local"], &run[1..]].concat());
    assert_eq!(answer, here, "the same model, the same answer");
    let requests = hub.json(&["ps", "--json"])["models"][0]["requests"].clone();
    assert_eq!(requests, 1, "one of the two was asked of the server");

    let told = hub.json(&[&run[..], &["--json", "--system", "Be brief."]].concat());
    assert_eq!((&told["model"], &told["usage"]["completion_tokens"]), (&"hub-guide".into(), &6.into()));
    let figures = hub.run(&[&run[..], &["-v"]].concat());
    assert!(crate::stderr(&figures).contains("tokens/s"), "{}", crate::stderr(&figures));
    hub.fails(&["run", "nope", "hi"], 1, "error: there is no model \"nope\"; installed: hub-guide");
    hub.works(&["run", "hub-guide", "--keepalive", "0", "--max-tokens", "2", "hi"]);
}

#[cfg(unix)]
#[test]
fn a_server_that_is_asked_to_stop_ends_well() {
    let hub = Hub::new();
    let mut server = Server::start(&hub, &[]);
    let pid = server.child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
    assert!(!hub.home().join("serve.address").exists());
}
