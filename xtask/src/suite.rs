//! `cargo xtask test`: every check and every test, one summary line at the end.

use std::time::{Duration, Instant};

use crate::{
    alone, clients, guide,
    run::{Error, Outcome, command, output, run},
    tools,
};

/// The least number of the 60 held-out questions that the guide model must answer.
const GUIDE_LEAST: usize = 45;

/// What the steps so far have come to.
#[derive(Default)]
struct Summary {
    passed: usize,
    failed: usize,
    skipped: Vec<String>,
    times: Vec<(String, Duration)>,
}

/// Runs everything.
///
/// # Errors
/// If any check or test fails; the others have run all the same.
pub(crate) fn test() -> Result<(), Error> {
    let mut summary = Summary::default();
    summary.check("format", || run(command("cargo", &["fmt", "--all", "--check"])));
    summary.check("lints", || {
        run(command("cargo", &["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]))
    });
    summary.check("dependencies", dependencies);
    summary.check("each crate alone", alone::check);
    summary.tests(
        "tests",
        &["test", "--workspace", "--lib", "--bins", "--tests", "--examples", "--no-fail-fast"],
    );
    summary.tests("documentation tests", &["test", "--workspace", "--doc", "--no-fail-fast"]);
    summary.check("documentation", || {
        let mut doc = command("cargo", &["doc", "--workspace", "--no-deps", "--quiet"]);
        doc.env("RUSTDOCFLAGS", "-D warnings");
        run(doc)
    });
    summary.check("guide model", || {
        let score = guide::score()?;
        let is_enough = score.right >= GUIDE_LEAST;
        if is_enough { Ok(()) } else { Err(format!("{score}; at least {GUIDE_LEAST} are promised").into()) }
    });
    for (name, client) in clients::ALL {
        summary.check(name, client);
    }
    summary.finish()
}

impl Summary {
    /// Runs a step that passes, fails or is skipped as a whole.
    fn check<T: Into<Outcome>>(&mut self, name: &str, step: impl FnOnce() -> Result<T, Error>) {
        let start = self.begin(name);
        match step().map(Into::into) {
            Ok(Outcome::Passed) => self.passed += 1,
            Ok(Outcome::Skipped(reason)) => {
                println!("skipped: {reason}");
                self.skipped.push(format!("{name} ({reason})"));
            }
            Err(error) => {
                println!("FAILED {name}: {error}");
                self.failed += 1;
            }
        }
        self.times.push((name.to_owned(), start.elapsed()));
    }

    /// Runs a step of cargo's test runner and counts what it ran.
    fn tests(&mut self, name: &str, args: &[&str]) {
        let start = self.begin(name);
        let mut cargo = command("cargo", args);
        match tools::llama_cpp() {
            Ok(folder) => {
                cargo.env("HUB_TEST_LLAMA_CPP", folder);
            }
            Err(error) => self.skipped.push(format!("real vocabularies and chat templates ({error})")),
        }
        match tools::clients() {
            Ok((_, minilm)) => {
                cargo.env("HUB_TEST_MINILM", minilm);
            }
            Err(error) => self.skipped.push(format!("the real MiniLM ({error})")),
        }
        match tools::tekken() {
            Ok(file) => {
                cargo.env("HUB_TEST_TEKKEN", file);
            }
            Err(error) => self.skipped.push(format!("the real tekken.json ({error})")),
        }
        match tools::strace() {
            Ok(strace) => {
                cargo.env("HUB_TEST_STRACE", strace);
            }
            Err(reason) => {
                self.skipped.push(format!("what the command opens and writes, by strace ({reason})"))
            }
        }
        match output(cargo) {
            Ok((text, is_success)) => self.count(name, &text, is_success),
            Err(error) => {
                println!("FAILED {name}: {error}");
                self.failed += 1;
            }
        }
        self.times.push((name.to_owned(), start.elapsed()));
    }

    /// Adds up the closing lines of cargo's test runner: `test result: ok. 9 passed; 0 failed; 0 ignored; …`.
    fn count(&mut self, name: &str, text: &str, is_success: bool) {
        let mut failed = 0;
        for line in text.lines().filter(|line| line.starts_with("test result:")) {
            let number = |word: &str| {
                let before = line.split(&format!(" {word}")).next().unwrap_or("");
                before.rsplit(' ').next().and_then(|digits| digits.parse::<usize>().ok()).unwrap_or(0)
            };
            self.passed += number("passed");
            failed += number("failed");
            let ignored = number("ignored");
            if ignored > 0 {
                self.skipped.push(format!("{ignored} ignored tests in {name}"));
            }
        }
        // A test that does not compile is counted by no closing line.
        self.failed += if is_success { 0 } else { failed.max(1) };
    }

    fn begin(&self, name: &str) -> Instant {
        println!("\n== {name}");
        Instant::now()
    }

    fn finish(self) -> Result<(), Error> {
        println!();
        for (name, time) in &self.times {
            println!("{:>7.1} s  {name}", time.as_secs_f32());
        }
        for skipped in &self.skipped {
            println!("skipped: {skipped}");
        }
        println!("{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped.len());
        if self.failed == 0 { Ok(()) } else { Err("something failed; see above".into()) }
    }
}

/// Bans, licences and sources of every dependency; advisories where their database can be reached.
fn dependencies() -> Result<(), Error> {
    let deny = tools::cargo_deny()?;
    run(command(&deny, &["--all-features", "check", "bans", "licenses", "sources"]))?;
    if run(command(&deny, &["--all-features", "fetch", "db"])).is_ok() {
        return run(command(&deny, &["--all-features", "check", "advisories"]));
    }
    println!("advisories are not checked: their database cannot be reached from here");
    Ok(())
}
