//! The two engines, each measured by its own programs.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{Figures, less_is_better};
use crate::{
    run::{Error, cache, command, root, run},
    tools,
};

const PROMPT: usize = 512;
const ANSWER: usize = 64;
/// Several answers at once begin after prompts as short as these.
const SHORT_PROMPT: usize = 16;

/// What is measured.
pub(super) struct Setting<'a> {
    pub(super) file: &'a Path,
    pub(super) threads: usize,
    /// How many answers are written at once.
    pub(super) parallel: &'a [usize],
}

impl Setting<'_> {
    fn parallel(&self) -> String {
        self.parallel.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
    }
}

/// The hub's program, with a home of its own.
pub(super) struct Hub {
    program: PathBuf,
    home: PathBuf,
    instructions: Instructions,
}

impl Hub {
    /// Builds it, to be run with these instructions.
    ///
    /// # Errors
    /// If it cannot be built.
    pub(super) fn built(instructions: Instructions) -> Result<Self, Error> {
        run(command("cargo", &["build", "--release", "--quiet", "--bin", "hub"]))?;
        let program = root().join(format!("target/release/hub{}", std::env::consts::EXE_SUFFIX));
        let home = std::env::temp_dir().join(format!("hub-compare-{}", std::process::id()));
        std::fs::create_dir_all(&home)?;
        Ok(Self { program, home, instructions })
    }

    /// Measures every figure once.
    ///
    /// # Errors
    /// If the program fails, or prints other JSON than it should.
    pub(super) fn measure(&self, setting: &Setting<'_>) -> Result<Figures, Error> {
        let Setting { file, threads, .. } = *setting;
        let threads = threads.to_string();
        ended(self.hub(&["import", &file.to_string_lossy(), "--name", "subject"]))?;
        let lengths = [PROMPT, ANSWER].map(|length| length.to_string());
        let [prompt, answer] = lengths.each_ref().map(String::as_str);
        let parallel = setting.parallel();
        let report = ended(self.hub(&[
            "bench",
            "subject",
            "--json",
            "--runs",
            "1",
            "--threads",
            &threads,
            "--prompt-tokens",
            prompt,
            "--gen-tokens",
            answer,
            "--parallel",
            &parallel,
        ]))?;
        let report: Value = serde_json::from_slice(&report.stdout)?;
        let mut figures = Figures::new();
        let mut rate = |name: String, value: &Value| {
            if let Some(rate) = value["tokens_per_s"]["median"].as_f64() {
                figures.insert(name, rate);
            }
        };
        rate(format!("prefill {PROMPT}"), &report["prefill"]);
        rate(format!("decode {ANSWER}"), &report["decode"]);
        for (parallel, value) in report["batch"].as_object().into_iter().flatten() {
            rate(batch(parallel), value);
        }
        let mut first = self.hub(&["run", "subject", "a", "--max-tokens", "1"]);
        first.env("HUB_COMPUTE__THREADS", &threads);
        cost(&ended(first)?, &mut figures);
        ended(self.hub(&["rm", "subject"]))?;
        Ok(figures)
    }

    fn hub(&self, args: &[&str]) -> Command {
        let mut command = command(&self.program, args);
        command.env("HUB_HOME", &self.home).env("HUB_OFFLINE", "1");
        command.env("HUB_COMPUTE__INSTRUCTIONS", self.instructions.hub());
        command
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        // Whatever is left is of no use to anyone.
        let _ = std::fs::remove_dir_all(&self.home);
    }
}

/// What both engines may use of the processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Instructions {
    /// All that each makes use of.
    All,
    /// AVX2, FMA and F16C.
    Avx2,
    /// What every processor of the kind has.
    Portable,
}

impl Instructions {
    pub(super) fn parse(name: &str) -> Option<Self> {
        [Self::All, Self::Avx2, Self::Portable].into_iter().find(|known| known.hub() == name)
    }

    /// Returns what the hub calls them.
    fn hub(self) -> &'static str {
        match self {
            Self::All => "auto",
            Self::Avx2 => "avx2",
            Self::Portable => "portable",
        }
    }

    fn folder(self) -> String {
        match self {
            Self::All => "llama.cpp".to_owned(),
            other => format!("llama.cpp-{}", other.hub()),
        }
    }

    /// Returns what llama.cpp is built with.
    fn flags(self) -> &'static [&'static str] {
        match self {
            Self::All => &["-DGGML_NATIVE=ON"],
            Self::Avx2 => &["-DGGML_NATIVE=OFF"],
            Self::Portable => &[
                "-DGGML_NATIVE=OFF",
                "-DGGML_SSE42=OFF",
                "-DGGML_AVX=OFF",
                "-DGGML_AVX2=OFF",
                "-DGGML_FMA=OFF",
                "-DGGML_F16C=OFF",
                "-DGGML_BMI2=OFF",
            ],
        }
    }
}

/// llama.cpp's programs.
pub(super) struct LlamaCpp {
    folder: PathBuf,
}

impl LlamaCpp {
    /// Builds them at the first call for these instructions, which takes minutes.
    ///
    /// # Errors
    /// If the source cannot be fetched, or cannot be built.
    pub(super) fn built(instructions: Instructions) -> Result<Self, Error> {
        let folder = cache()?.join(instructions.folder());
        let done = folder.join("built");
        let programs =
            ["llama-bench", "llama-batched-bench", "llama-quantize", "llama-perplexity", "llama-embedding"];
        if !done.exists() {
            let source = tools::llama_cpp()?;
            mend(&source)?;
            let python = tools::python("build", &[&["cmake", "ninja"]])?;
            let bin = python.parent().ok_or("Python lies in no folder")?;
            let (from, to) = (source.to_string_lossy(), folder.to_string_lossy());
            let ninja = format!("-DCMAKE_MAKE_PROGRAM={}", bin.join("ninja").display());
            let mut configure = command(bin.join("cmake"), &["-G", "Ninja", "-S", &from, "-B", &to, &ninja]);
            configure.args(["-DCMAKE_BUILD_TYPE=Release", "-DLLAMA_CURL=OFF"]).args(instructions.flags());
            configure.args([
                "-DLLAMA_BUILD_TESTS=OFF",
                "-DLLAMA_BUILD_SERVER=OFF",
                "-DLLAMA_BUILD_EXAMPLES=ON",
            ]);
            run(configure)?;
            run(command(bin.join("ninja"), &[&["-C", &*to][..], &programs].concat()))?;
            std::fs::write(done, "")?;
        }
        Ok(Self { folder: folder.join("bin") })
    }

    /// Makes a quantized file of one with F16 weights.
    ///
    /// # Errors
    /// If the program fails.
    pub(super) fn quantize(&self, from: &Path, to: &Path, kind: &str) -> Result<(), Error> {
        let unfinished = to.with_extension("part");
        ended(
            self.program("llama-quantize", &[&from.to_string_lossy(), &unfinished.to_string_lossy(), kind]),
        )?;
        Ok(std::fs::rename(unfinished, to)?)
    }

    /// Measures every figure with and without repacked weights, and keeps the better ones.
    ///
    /// # Errors
    /// If a program fails, or prints other JSON than it should.
    pub(super) fn measure(&self, setting: &Setting<'_>) -> Result<Figures, Error> {
        let mut best = Figures::new();
        for repack in [true, false] {
            for (name, value) in self.measure_with(setting, repack)? {
                let is_cost = less_is_better(&name);
                let better = |old: f64| if is_cost { old.min(value) } else { old.max(value) };
                best.entry(name).and_modify(|old| *old = better(*old)).or_insert(value);
            }
        }
        Ok(best)
    }

    fn measure_with(&self, setting: &Setting<'_>, repack: bool) -> Result<Figures, Error> {
        let file = setting.file.to_string_lossy();
        let threads = setting.threads.to_string();
        let repacked = if repack { "1" } else { "0" };
        let bench = |prompt: usize, answer: usize| {
            let lengths = [prompt, answer].map(|length| length.to_string());
            let mut bench = self.program("llama-bench", &["-m", &file, "-t", &threads, "--repack", repacked]);
            bench.args(["-o", "json", "-r", "1", "-p", &lengths[0], "-n", &lengths[1]]);
            bench
        };
        let mut figures = Figures::new();
        let tests: Vec<Value> = serde_json::from_slice(&ended(bench(PROMPT, ANSWER))?.stdout)?;
        for test in tests {
            let is_prompt = test["n_prompt"].as_u64() > Some(0);
            let name = if is_prompt { format!("prefill {PROMPT}") } else { format!("decode {ANSWER}") };
            figures.insert(name, test["avg_ts"].as_f64().ok_or("llama-bench printed no figure")?);
        }
        if !setting.parallel.is_empty() {
            let most = setting.parallel.iter().max().unwrap_or(&1) * (SHORT_PROMPT + ANSWER);
            let (most, parallel) = (most.to_string(), setting.parallel());
            let lengths = [SHORT_PROMPT, ANSWER].map(|length| length.to_string());
            let mut batched =
                self.program("llama-batched-bench", &["-m", &file, "-t", &threads, "-c", &most]);
            batched.args([
                "-npp",
                &lengths[0],
                "-ntg",
                &lengths[1],
                "-npl",
                &parallel,
                "--output-format",
                "jsonl",
            ]);
            batched.args((!repack).then_some("--no-repack"));
            let printed = String::from_utf8_lossy(&ended(batched)?.stdout).into_owned();
            for line in printed.lines().filter(|line| line.starts_with('{')) {
                let test: Value = serde_json::from_str(line)?;
                if let (Some(parallel), Some(rate)) = (test["pl"].as_u64(), test["speed_tg"].as_f64()) {
                    figures.insert(batch(&parallel.to_string()), rate);
                }
            }
        }
        let mut first = bench(SHORT_PROMPT, 0);
        first.arg("--no-warmup");
        cost(&ended(first)?, &mut figures);
        Ok(figures)
    }

    /// Returns where one of the programs lies.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn program(&self, name: &str, args: &[&str]) -> Command {
        let mut command = command(self.path(name), args);
        command.env("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1");
        command
    }
}

/// Mends the one fault without which llama.cpp cannot be measured at its best: GCC 12 drops the stores to the
/// configuration of AMX tiles, and every prompt of quantized weights then ends in a protection fault.
fn mend(source: &Path) -> Result<(), Error> {
    let file = source.join("ggml/src/ggml-cpu/amx/mmq.cpp");
    let text = std::fs::read_to_string(&file)?;
    let (call, barrier) = ("    _tile_loadconfig(&tc);", r#"    asm volatile("" :: "r"(&tc) : "memory");"#);
    if !text.contains(barrier) {
        std::fs::write(&file, text.replace(call, &format!("{barrier}\n{call}")))?;
    }
    Ok(())
}

fn batch(parallel: &str) -> String {
    format!("batch {parallel:>2}")
}

/// A program that has ended well.
struct Ended {
    stdout: Vec<u8>,
    wall: Duration,
    /// The most memory it held, where that can be seen: with the pages of files it had mapped.
    peak: Option<u64>,
}

/// Adds what it cost to start a program, load a model and get a first token.
fn cost(ended: &Ended, figures: &mut Figures) {
    figures.insert("start to first token, s".to_owned(), ended.wall.as_secs_f64());
    if let Some(peak) = ended.peak {
        figures.insert("peak memory, MiB".to_owned(), peak as f64 / 1024.0);
    }
}

/// Runs a program to its end.
///
/// # Errors
/// If it cannot be started, or ends with another code than 0: with what it said.
fn ended(mut command: Command) -> Result<Ended, Error> {
    let start = Instant::now();
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let id = child.id();
    let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
    let read = |pipe: Option<&mut dyn std::io::Read>| {
        let mut bytes = Vec::new();
        pipe.map_or(Ok(0), |pipe| pipe.read_to_end(&mut bytes)).map(|_| bytes)
    };
    let (mut peak, mut status) = (None, None);
    let (stdout, stderr) = std::thread::scope(|scope| {
        let out = scope.spawn(|| read(stdout.as_mut().map(|pipe| pipe as _)));
        let err = scope.spawn(|| read(stderr.as_mut().map(|pipe| pipe as _)));
        while status.is_none() {
            peak = high_water(id).or(peak);
            std::thread::sleep(Duration::from_millis(5));
            status = child.try_wait()?;
        }
        let joined = |thread: std::thread::ScopedJoinHandle<'_, std::io::Result<Vec<u8>>>| {
            thread.join().unwrap_or_else(|_| Ok(Vec::new()))
        };
        Ok::<_, std::io::Error>((joined(out)?, joined(err)?))
    })?;
    if status.is_some_and(|status| status.success()) {
        return Ok(Ended { stdout, wall: start.elapsed(), peak });
    }
    let said = String::from_utf8_lossy(&stderr);
    Err(format!("{} failed: {said}", command.get_program().to_string_lossy()).into())
}

/// Reads the most memory that a process has held, in KiB.
fn high_water(id: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let fields: HashMap<&str, &str> = status.lines().filter_map(|line| line.split_once(':')).collect();
    fields.get("VmHWM")?.split_whitespace().next()?.parse().ok()
}
