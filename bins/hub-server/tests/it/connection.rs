//! What only a socket shows.

use std::{net::SocketAddr, time::Duration};

use hub::HubConfig;
use hub_server::{Error, Server};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};

use crate::world::World;

/// How long anything here may take before the test fails.
const LIMIT: Duration = Duration::from_secs(60);

/// A server on a free port.
struct Serving {
    world: World,
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Serving {
    async fn start() -> Self {
        Self::start_with(LIMIT).await
    }

    /// Starts a server that lets open requests go on for `patience` once it is stopped.
    async fn start_with(patience: Duration) -> Self {
        let mut config = HubConfig::default();
        config.server.port = 0;
        let world = World::with(config).await;
        let server = Server::bind(world.hub.clone()).await.unwrap();
        let address = server.address();
        let (stop, stopped) = oneshot::channel();
        let patience = async move { tokio::time::sleep(patience).await };
        let task = tokio::spawn(server.run(async { drop(stopped.await) }, patience));
        Self { world, address, stop, task }
    }

    /// Sends a request whose connection nobody has asked to close.
    async fn send(&self, path: &str, body: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let length = body.len();
        let head =
            format!("POST {path} HTTP/1.1\r\nhost: {}\r\ncontent-length: {length}\r\n\r\n", self.address);
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body).await.unwrap();
        stream
    }

    async fn chat(&self, max_tokens: usize) -> TcpStream {
        let body = json!({
            "model": "hub-guide", "stream": true, "ignore_eos": true, "max_tokens": max_tokens,
            "messages": [{"role": "user", "content": "Hello"}],
        });
        self.send("/v1/chat/completions", body.to_string().as_bytes()).await
    }

    async fn model(&self) -> Value {
        self.world.get("/hub/v1/ps").await.json(200)["models"][0].clone()
    }
}

async fn read_to_end(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    timeout(LIMIT, stream.read_to_end(&mut bytes)).await.expect("the connection closes").unwrap();
    String::from_utf8(bytes).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_connection_closes_after_the_last_event() {
    let serving = Serving::start().await;
    let text = read_to_end(serving.chat(4).await).await;
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    assert!(text.contains("data: [DONE]\n\n"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_stops_its_generation() {
    const TOKENS: usize = 400;
    let serving = Serving::start().await;
    let mut lines = BufReader::new(serving.chat(TOKENS).await).lines();
    let mut contents = 0;
    while contents < 3 {
        let line = timeout(LIMIT, lines.next_line()).await.unwrap().unwrap().unwrap();
        contents += usize::from(line.contains("\"content\":\""));
    }
    drop(lines);
    timeout(LIMIT, async {
        while serving.model().await["running"] != 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("the sequence ends");
    let generated = serving.model().await["load"]["generated_tokens"].as_u64().unwrap();
    assert!(generated < TOKENS as u64, "{generated} tokens were generated for nobody");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_cut_off_says_so() {
    let serving = Serving::start_with(Duration::ZERO).await;
    let mut reader = BufReader::new(serving.chat(400).await);
    let mut text = String::new();
    while !text.contains("\"content\":\"") {
        timeout(LIMIT, reader.read_line(&mut text)).await.unwrap().unwrap();
    }
    serving.stop.send(()).unwrap();
    timeout(LIMIT, reader.read_to_string(&mut text)).await.expect("the connection closes").unwrap();
    assert!(
        text.contains("event: error\ndata: {\"error\":{\"message\":\"the hub is shutting down\""),
        "{text}"
    );
    timeout(LIMIT, serving.task).await.expect("the server ends").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_streams_all_end() {
    let serving = Serving::start().await;
    let mut streams = Vec::new();
    for _ in 0..64 {
        streams.push(tokio::spawn(read_to_end(serving.chat(8).await)));
    }
    for stream in streams {
        let text = stream.await.unwrap();
        assert!(text.contains("\"finish_reason\":\"length\""), "{text}");
        assert!(text.contains("data: [DONE]\n\n"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_comes_late_misses_nothing() {
    let serving = Serving::start().await;
    let stream = serving.chat(64).await;
    // Others are served while it reads nothing.
    let text = read_to_end(serving.chat(4).await).await;
    assert!(text.contains("data: [DONE]\n\n"), "{text}");
    let text = read_to_end(stream).await;
    assert!(text.contains("data: [DONE]\n\n"), "{text}");
    assert!(text.matches("\"object\":\"chat.completion.chunk\"").count() > 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_huge_body_is_refused_and_the_server_lives() {
    let serving = Serving::start().await;
    let body = vec![b' '; 100 << 20];
    let mut stream = serving.send("/v1/chat/completions", &body).await;
    let mut answer = vec![0; 4_096];
    let length = timeout(LIMIT, stream.read(&mut answer)).await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&answer[..length]).into_owned();
    assert!(text.starts_with("HTTP/1.1 413 "), "{text}");
    assert!(text.contains("request_too_large"), "{text}");
    assert_eq!(serving.world.get("/health").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_breaks_off_harms_nobody() {
    let serving = Serving::start().await;
    let mut stream = TcpStream::connect(serving.address).await.unwrap();
    let head = format!(
        "POST /v1/embeddings HTTP/1.1\r\nhost: {}\r\ncontent-length: 1000\r\n\r\n{{",
        serving.address
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    read_to_end(stream).await;
    let text = read_to_end(serving.chat(2).await).await;
    assert!(text.contains("data: [DONE]\n\n"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_names_who_has_it() {
    let serving = Serving::start().await;
    let mut config = HubConfig::default();
    config.server.port = serving.address.port();
    let second = World::with(config).await;
    let refused = Server::bind(second.hub.clone()).await.unwrap_err();
    assert!(matches!(refused, Error::PortTaken { .. }), "{refused}");
    assert!(refused.to_string().contains("--port"));
    #[cfg(target_os = "linux")]
    assert!(refused.to_string().contains(&format!("process {}", std::process::id())), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_server_lets_streams_end() {
    let serving = Serving::start().await;
    let mut lines = BufReader::new(serving.chat(16).await).lines();
    // It has begun once its head is there.
    timeout(LIMIT, lines.next_line()).await.unwrap().unwrap().unwrap();
    serving.stop.send(()).unwrap();
    let mut last = String::new();
    while let Some(line) = timeout(LIMIT, lines.next_line()).await.unwrap().unwrap() {
        if line.starts_with("data: ") {
            last = line;
        }
    }
    assert_eq!(last, "data: [DONE]");
    timeout(LIMIT, serving.task).await.unwrap().unwrap();
    assert!(TcpStream::connect(serving.address).await.is_err());
}
