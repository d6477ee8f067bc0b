use std::{fmt::Write, fs, num::NonZeroUsize, path::PathBuf};

use hub::{
    bench::{BenchOptions, BenchReport, Rate, Spread},
    pool::{Comparison, Trace, compare},
};
use hub_base::Size;

use crate::{
    failure::Failure,
    output::{complain, table},
    progress::ProgressLine,
    session::Session,
};

/// Measures how fast a model is here, or what switching models costs on a trace of requests
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The model
    #[arg(required_unless_present = "trace")]
    model: Option<String>,
    /// Runs the requests of this file through the rules by which models leave memory, on paper: nothing is loaded
    #[arg(long, value_name = "FILE", conflicts_with_all = ["model", "save"])]
    trace: Option<PathBuf>,
    /// Length of a prompt, in tokens
    #[arg(long, value_name = "N", default_value = "512")]
    prompt_tokens: NonZeroUsize,
    /// Length of an answer, in tokens; at least 2
    #[arg(long, value_name = "N", default_value = "64", value_parser = two_or_more)]
    gen_tokens: NonZeroUsize,
    /// How many requests run at once, one figure each
    #[arg(long, value_name = "N,…", default_value = "1,4,8,16,32", value_delimiter = ',')]
    parallel: Vec<NonZeroUsize>,
    /// Processor threads [default: one per core]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// How often each figure is measured
    #[arg(long, value_name = "N", default_value = "5")]
    runs: NonZeroUsize,
    /// Keeps the figures with the model: `hub show` prints them
    #[arg(long)]
    save: bool,
}

impl Args {
    pub(crate) fn run(mut self, session: &Session) -> Result<(), Failure> {
        if let Some(path) = &self.trace {
            let text = fs::read_to_string(path).map_err(|error| Failure::Setting {
                message: format!("cannot read {}: {error}", path.display()),
            })?;
            let trace =
                Trace::parse(&text).map_err(|error| Failure::Setting { message: error.to_string() })?;
            return session.output.emit(&compare(&trace), compared);
        }
        let model = self.model.take().unwrap_or_default();
        let flags = self.threads.map(|threads| ("--threads", "compute.threads", threads.to_string()));
        let report = session.with_hub(flags.into_iter().collect(), async |hub| {
            let progress = ProgressLine::new();
            let mut options = BenchOptions::default();
            options.prompt_tokens = self.prompt_tokens.get();
            options.gen_tokens = self.gen_tokens.get();
            options.parallel = self.parallel;
            options.runs = self.runs;
            options.progress = progress.sink();
            let report = hub.bench(&model, options).await?;
            if self.save {
                hub.save_bench(&report).await?;
            }
            Ok(report)
        })?;
        let lengths = [
            ("prompt", self.prompt_tokens.get(), report.prompt_tokens),
            ("answer", self.gen_tokens.get(), report.gen_tokens),
        ];
        for (what, asked, taken) in
            lengths.into_iter().filter(|(_, asked, taken)| 0 < *taken && taken < asked)
        {
            complain(&format!(
                "note: {asked} tokens of {what} do not fit this model, so {taken} were measured"
            ));
        }
        session.output.emit(&report, text)
    }
}

/// Lists what each rule came to.
fn compared(comparison: &Comparison) -> String {
    let seconds = |seconds: f64| format!("{seconds:.1} s");
    let rows = comparison.rules.iter().map(|rule| {
        [
            rule.rule.to_owned(),
            rule.outcome.loads.to_string(),
            seconds(rule.outcome.load_s),
            seconds(rule.outcome.blocked_s),
            rule.to_least.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")),
        ]
    });
    let mut text = table(["WHO LEAVES", "LOADS", "LOADING", "BLOCKED", "TO THE LEAST"], rows);
    text += &match comparison.least_load_s {
        Some(least) => format!(
            "{} requests could not have waited less than {} for loads",
            comparison.requests,
            seconds(least)
        ),
        None => format!("{} requests; of so many models the least is not computed", comparison.requests),
    };
    text
}

/// Reads the length of an answer: the first token comes out of the prompt, so one has no speed.
fn two_or_more(text: &str) -> Result<NonZeroUsize, String> {
    let number: NonZeroUsize = text.parse().map_err(|_| "this is no number over 1".to_owned())?;
    if number.get() < 2 {
        Err("an answer of one token has no speed; at least 2".to_owned())
    } else {
        Ok(number)
    }
}

fn text(report: &BenchReport) -> String {
    let mut text = format!("{} ({}) on {}\n", report.model, report.task, report.device);
    let mut line = |name: &str, spread: Spread, shown: fn(f64) -> String, limit: &str| {
        let Spread { median, min, max } = spread;
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<14}{:>16}  ({} to {}){limit}", shown(median), shown(min), shown(max));
    };
    let mut rate = |name: &str, rate: Option<Rate>| {
        if let Some(Rate { tokens_per_s, limit_tokens_per_s: limit }) = rate {
            let share = 100.0 * tokens_per_s.median / limit;
            let limit = format!("  {share:.0} % of the limit, {limit:.1}");
            line(name, tokens_per_s, |value| format!("{value:.1} tokens/s"), &limit);
        }
    };
    rate("prefill", report.prefill);
    rate("decode", report.decode);
    for (parallel, batch) in &report.batch {
        rate(&format!("batch {parallel}"), Some(*batch));
    }
    rate("embeddings", report.embeddings);
    rate("rerank", report.rerank);
    let mut figure = |name: &str, spread: Spread, shown: fn(f64) -> String| line(name, spread, shown, "");
    if let Some(first) = report.first_token_ms {
        figure("first token", first, |value| format!("{value:.1} ms"));
    }
    figure("load", report.load_ms, |value| format!("{value:.0} ms"));
    figure("peak memory", report.peak_bytes, |value| Size(value as u64).to_string());
    figure("limit: read", report.limits.read_bytes_per_s, |value| format!("{:.1} GB/s", value / 1e9));
    let ops = |value: f64| format!("{:.1} Gop/s", value / 1e9);
    figure("limit: floats", report.limits.ops_per_s, ops);
    figure("limit: bytes", report.limits.byte_ops_per_s, ops);
    text
}
