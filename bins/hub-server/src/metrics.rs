use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::http::StatusCode;
use hub::models::Usage;

/// Upper bounds of the buckets of every histogram, in milliseconds.
const BOUNDS_MS: [u64; 12] = [1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000];

/// What the server counted since it started. Clones share the counts.
///
/// Labels are routes and statuses alone, never what a caller wrote, so that their number is bounded.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    requests: Mutex<BTreeMap<(String, u16), u64>>,
    answer: Histogram,
    prompt_tokens: AtomicU64,
    completion_tokens: AtomicU64,
    queue: Histogram,
    prefill: Histogram,
    decode: Histogram,
}

#[derive(Debug, Default)]
struct Histogram {
    buckets: [AtomicU64; BOUNDS_MS.len()],
    count: AtomicU64,
    sum_us: AtomicU64,
}

impl Metrics {
    /// Counts a request whose head was sent after `elapsed`.
    pub(crate) fn answered(&self, route: &str, status: StatusCode, elapsed: Duration) {
        let mut requests = self.0.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((route.to_owned(), status.as_u16())).or_default() += 1;
        drop(requests);
        self.0.answer.observe(elapsed);
    }

    /// Counts what a generation took.
    pub(crate) fn generated(&self, usage: &Usage) {
        self.read(usage.prompt_tokens);
        self.0.completion_tokens.fetch_add(usage.completion_tokens as u64, Ordering::Relaxed);
        self.0.queue.observe(usage.queue);
        self.0.prefill.observe(usage.prefill);
        self.0.decode.observe(usage.decode);
    }

    /// Counts tokens that were read and not answered with tokens: texts that became vectors or scores.
    pub(crate) fn read(&self, prompt_tokens: usize) {
        self.0.prompt_tokens.fetch_add(prompt_tokens as u64, Ordering::Relaxed);
    }

    /// Writes everything in Prometheus' text format.
    ///
    /// Source: <https://prometheus.io/docs/instrumenting/exposition_formats/>.
    pub(crate) fn write(&self, page: &mut Page) {
        page.head("hub_http_requests_total", "counter", "Requests answered, by route and status.");
        for ((route, status), count) in &*self.0.requests.lock().unwrap_or_else(PoisonError::into_inner) {
            page.sample(
                "hub_http_requests_total",
                &[("route", route), ("status", &status.to_string())],
                *count,
            );
        }
        page.head("hub_tokens_total", "counter", "Tokens read and written.");
        for (kind, count) in [("prompt", &self.0.prompt_tokens), ("completion", &self.0.completion_tokens)] {
            page.sample("hub_tokens_total", &[("kind", kind)], count.load(Ordering::Relaxed));
        }
        page.histogram(
            "hub_http_head_seconds",
            "Time from a request to the head of its answer.",
            &self.0.answer,
        );
        page.histogram("hub_queue_seconds", "Time a generation waited for its place.", &self.0.queue);
        page.histogram("hub_prefill_seconds", "Time from there to the first token.", &self.0.prefill);
        page.histogram("hub_decode_seconds", "Time from there to the last token.", &self.0.decode);
    }
}

impl Histogram {
    fn observe(&self, value: Duration) {
        let us = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
        for (bucket, bound_ms) in self.buckets.iter().zip(BOUNDS_MS) {
            if us <= bound_ms * 1_000 {
                bucket.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }
}

/// A page of metrics in Prometheus' text format.
#[derive(Debug, Default)]
pub(crate) struct Page(String);

impl Page {
    /// Begins a metric.
    pub(crate) fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// Adds a value under labels.
    pub(crate) fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.0.push_str(name);
        for (i, (label, text)) in labels.iter().enumerate() {
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{}{label}=\"{text}\"", if i == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    /// Adds a metric with a single value.
    pub(crate) fn gauge(&mut self, name: &str, help: &str, value: impl std::fmt::Display) {
        self.head(name, "gauge", help);
        self.sample(name, &[], value);
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.head(name, "histogram", help);
        let bucket = format!("{name}_bucket");
        for (count, bound_ms) in histogram.buckets.iter().zip(BOUNDS_MS) {
            let bound = Duration::from_millis(bound_ms).as_secs_f64().to_string();
            self.sample(&bucket, &[("le", &bound)], count.load(Ordering::Relaxed));
        }
        let count = histogram.count.load(Ordering::Relaxed);
        self.sample(&bucket, &[("le", "+Inf")], count);
        let sum = Duration::from_micros(histogram.sum_us.load(Ordering::Relaxed)).as_secs_f64();
        self.sample(&format!("{name}_sum"), &[], sum);
        self.sample(&format!("{name}_count"), &[], count);
    }

    /// Returns the page.
    pub(crate) fn into_text(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_written_as_prometheus_reads_them() {
        let metrics = Metrics::default();
        metrics.answered("/health", StatusCode::OK, Duration::from_millis(2));
        metrics.answered("/health", StatusCode::OK, Duration::from_millis(20));
        metrics.read(7);
        let mut page = Page::default();
        metrics.write(&mut page);
        page.sample("odd", &[("name", "a\"b\\c")], 1.5);
        let text = page.into_text();
        for line in [
            "# TYPE hub_http_requests_total counter",
            "hub_http_requests_total{route=\"/health\",status=\"200\"} 2",
            "hub_tokens_total{kind=\"prompt\"} 7",
            "hub_http_head_seconds_bucket{le=\"0.003\"} 1",
            "hub_http_head_seconds_bucket{le=\"+Inf\"} 2",
            "hub_http_head_seconds_sum 0.022",
            "hub_http_head_seconds_count 2",
            "odd{name=\"a\\\"b\\\\c\"} 1.5",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
