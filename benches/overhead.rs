//! What the server adds to the engine: time to the first piece of text over HTTP, minus the same without HTTP.
//!
//! Both ask the guide model the same question in turn, so that whatever else the machine does meets both. The HTTP
//! connection is open and has served a request before; the stream closes it, so that the next one opens another.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::{
    error::Error,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use hub::{
    ChatRequest, Hub, HubConfig,
    models::{GenerateOptions, chat::Message},
};

/// How many requests of each kind are counted, after a tenth as many that are not.
const REQUESTS: usize = 300;
const QUESTION: &str = "How do I import a model?";

fn main() -> Result<(), Box<dyn Error>> {
    let home = tempfile::tempdir()?;
    let mut config = HubConfig::default();
    config.server.port = 0;
    let runtime = tokio::runtime::Runtime::new()?;
    let hub = runtime.block_on(Hub::open(config, home.path()))?;
    let server = runtime.block_on(hub_server::Server::bind(hub.clone()))?;
    let address = server.address();
    runtime.spawn(server.run(std::future::pending(), async {}));

    let (mut over_http, mut direct) = (Vec::new(), Vec::new());
    for round in 0..REQUESTS + REQUESTS / 10 {
        let pair = (first_piece_over_http(address)?, runtime.block_on(first_piece(&hub))?);
        if round >= REQUESTS / 10 {
            over_http.push(pair.0);
            direct.push(pair.1);
        }
    }
    over_http.sort();
    direct.sort();
    println!("time to the first piece of text, {REQUESTS} requests of each kind in turn");
    println!("          engine       server       server over engine");
    for percent in [50, 90, 99] {
        let at = (REQUESTS * percent / 100).min(REQUESTS - 1);
        let over = over_http[at].saturating_sub(direct[at]);
        println!("p{percent}   {:>10.3?}   {:>10.3?}   {over:>10.3?}", direct[at], over_http[at]);
    }
    Ok(())
}

async fn first_piece(hub: &Hub) -> Result<Duration, hub::Error> {
    let options = GenerateOptions::default().greedy().max_tokens(8);
    let request = ChatRequest::new("hub-guide", vec![Message::user(QUESTION)]).options(options);
    let start = Instant::now();
    let mut reply = hub.chat(request).await?;
    while let Some(delta) = reply.next().await {
        if !delta?.text.is_empty() {
            break;
        }
    }
    let time = start.elapsed();
    // The rest is read, so that both kinds leave the engine the same work.
    while reply.next().await.is_some() {}
    Ok(time)
}

fn first_piece_over_http(address: SocketAddr) -> Result<Duration, Box<dyn Error>> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    let mut answer = BufReader::new(socket.try_clone()?);
    write!(socket, "GET /health HTTP/1.1\r\nhost: {address}\r\n\r\n")?;
    skip_answer(&mut answer)?;

    let body = format!(
        r#"{{"model":"hub-guide","stream":true,"temperature":0,"max_tokens":8,"messages":[{{"role":"user","content":"{QUESTION}"}}]}}"#
    );
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let start = Instant::now();
    socket.write_all(request.as_bytes())?;
    let mut line = String::new();
    loop {
        line.clear();
        if answer.read_line(&mut line)? == 0 {
            return Err("the stream ended without a text".into());
        }
        let is_piece = line.starts_with("data: ") && line.contains(r#""content":""#);
        if is_piece && !line.contains(r#""content":"""#) {
            break;
        }
    }
    let time = start.elapsed();
    answer.read_to_string(&mut line)?;
    Ok(time)
}

/// Reads an answer whose length is in its head.
fn skip_answer(answer: &mut impl BufRead) -> Result<(), Box<dyn Error>> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        answer.read_line(&mut line)?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
        if line.trim().is_empty() {
            break;
        }
    }
    answer.read_exact(&mut vec![0; length])?;
    Ok(())
}
