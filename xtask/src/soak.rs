//! `cargo xtask soak`: what takes too long for every change.

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    time::{Duration, Instant},
};

use crate::{
    run::{Error, cache, command, run},
    server::Server,
    tools,
};

/// How many streams run at the same time.
const STREAMS: usize = 64;
/// How long they are kept up.
const TIME: Duration = Duration::from_secs(600);
/// How long each fuzz target runs.
const FUZZ: Duration = Duration::from_secs(60);
/// The fuzz targets, each with the folder of files it begins with.
const TARGETS: [(&str, &str); 2] =
    [("gguf", "fixtures/models/gguf"), ("safetensors", "fuzz/seeds/safetensors")];
/// How long the allocator may take to find its size.
const WARM_UP: Duration = Duration::from_secs(150);
/// How much the memory of the process may grow from then on.
const GROWTH: f64 = 1.1;

/// Damages model files by the thousand, runs the fuzz targets, and keeps 64 streams on the guide model for ten minutes.
///
/// # Errors
/// If a stream does not complete, the slowest takes more than three times the median, memory grows, or a damaged file
/// does anything but fail with an error.
pub(crate) fn soak() -> Result<(), Error> {
    run(command("cargo", &["test", "--release", "--package", "hub-nn", "--test", "it", "--", "--ignored"]))?;
    fuzz()?;
    run(command("cargo", &["build", "--release", "--bin", "hub"]))?;
    let server = Server::start("release", &[])?;
    let start = Instant::now();
    let mut warm = 0;
    let mut rounds = 0;
    while start.elapsed() < TIME {
        round(&server)?;
        rounds += 1;
        let resident = resident_bytes(server.pid()).ok_or("this system does not say what a process holds")?;
        println!("round {rounds}: {} MiB resident", resident >> 20);
        if start.elapsed() < WARM_UP {
            warm = warm.max(resident);
        } else if resident as f64 > warm as f64 * GROWTH {
            return Err(format!("memory grew from {warm} to {resident} bytes").into());
        }
    }
    println!("{rounds} rounds of {STREAMS} streams, all complete");
    Ok(())
}

/// Runs every fuzz target for a while, beginning with the tiny models of the fixtures.
fn fuzz() -> Result<(), Error> {
    if run(command("rustc", &["+nightly", "--version"])).is_err() {
        println!(
            "fuzz targets are not run: they need a nightly compiler (`rustup toolchain install nightly`)"
        );
        return Ok(());
    }
    let program = tools::cargo_fuzz()?;
    let time = format!("-max_total_time={}", FUZZ.as_secs());
    for (target, seeds) in TARGETS {
        let corpus = cache()?.join("corpus").join(target);
        std::fs::create_dir_all(&corpus)?;
        let corpus = corpus.to_string_lossy();
        let limits = [time.as_str(), "-rss_limit_mb=4096", "-timeout=20"];
        let args = [&["+nightly", "fuzz", "run", target, &corpus, seeds, "--"], &limits[..]].concat();
        let mut fuzz = command("cargo", &args);
        // Cargo finds its subcommands on the path.
        let folders = program.parent().map(Path::to_owned).into_iter();
        let path = std::env::var_os("PATH").unwrap_or_default();
        fuzz.env("PATH", std::env::join_paths(folders.chain(std::env::split_paths(&path)))?);
        run(fuzz)?;
    }
    Ok(())
}

/// Runs all streams once.
fn round(server: &Server) -> Result<(), Error> {
    let address = server.url.trim_start_matches("http://");
    let times = std::thread::scope(|scope| {
        let streams: Vec<_> = (0..STREAMS).map(|_| scope.spawn(|| stream(address))).collect();
        let joined =
            streams.into_iter().map(|stream| stream.join().unwrap_or(Err("a stream panicked".into())));
        joined.collect::<Result<Vec<Duration>, String>>()
    });
    let mut times = times?;
    times.sort();
    let (median, slowest) = (times[times.len() / 2], times[times.len() - 1]);
    println!("median {median:.2?}, slowest {slowest:.2?}");
    if slowest > median * 3 {
        return Err(format!("the slowest stream took {slowest:.2?}, the median {median:.2?}").into());
    }
    Ok(())
}

/// Streams one answer and returns how long it took.
fn stream(address: &str) -> Result<Duration, String> {
    let body = r#"{"model":"hub-guide","stream":true,"max_tokens":64,"ignore_eos":true,
        "messages":[{"role":"user","content":"How do I import a model?"}]}"#;
    let start = Instant::now();
    let mut socket = TcpStream::connect(address).map_err(|error| error.to_string())?;
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all((head + body).as_bytes()).map_err(|error| error.to_string())?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).map_err(|error| error.to_string())?;
    if answer.contains("data: [DONE]") {
        Ok(start.elapsed())
    } else {
        Err(format!("an incomplete stream: {answer}"))
    }
}

/// Returns how much memory a process holds, where the system says so in `/proc`.
fn resident_bytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1_024)
}
