//! Requests of a day, as a text.
//!
//! JSON, a value a line. The first says what there is: the memory that models may take, and each model with what it takes and how
//! long its load lasts:
//!
//! ```json
//! {"budget_bytes": 13700000000, "models": [{"name": "chat", "bytes": 6200000000, "load_s": 2.8}]}
//! ```
//!
//! Every other line is a request: when, which model, and how long it is used. Requests come in the order of their times.
//!
//! ```json
//! {"at": 28812.5, "model": "chat", "for": 8.25}
//! ```

use serde::{Deserialize, Serialize};

use crate::Error;

/// The most models and requests of a trace.
const MAX_MODELS: usize = 64;
const MAX_REQUESTS: usize = 1_000_000;

/// A model of a trace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TracedModel {
    /// Its name.
    pub name: String,
    /// What it takes in memory, with the state of its requests.
    pub bytes: u64,
    /// How long a load lasts, in seconds.
    pub load_s: f64,
}

/// A request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Request {
    /// When it comes, in seconds.
    pub at: f64,
    /// The place of its model among those of the trace.
    pub model: usize,
    /// How long the model is used for it, in seconds.
    pub length_s: f64,
}

/// Requests, and the models and memory that they find.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// What models may take together.
    pub budget_bytes: u64,
    /// The models.
    pub models: Vec<TracedModel>,
    /// The requests, in order of their times.
    pub requests: Vec<Request>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    budget_bytes: u64,
    models: Vec<TracedModel>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    at: f64,
    #[serde(borrow)]
    model: std::borrow::Cow<'a, str>,
    #[serde(rename = "for")]
    length_s: f64,
}

impl Trace {
    /// Reads a trace.
    ///
    /// # Errors
    /// [`Error::Line`] naming the line that is no request, out of order, or of a model that is not there or does not fit.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let bad = |line: usize, reason: String| Error::Line { line: line + 1, reason };
        let (at, head) = lines.next().ok_or_else(|| bad(0, "there is none".to_owned()))?;
        let head: Head = serde_json::from_str(head).map_err(|error| bad(at, error.to_string()))?;
        head.check().map_err(|reason| bad(at, reason))?;
        let Head { budget_bytes, models } = head;
        let mut trace = Self { budget_bytes, models, requests: Vec::new() };
        for (at, line) in lines {
            let request = trace.request(line).map_err(|reason| bad(at, reason))?;
            trace.requests.push(request);
        }
        Ok(trace)
    }

    fn request(&self, line: &str) -> Result<Request, String> {
        let Line { at, model, length_s } = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let place = self.models.iter().position(|known| known.name == model);
        let place = place.ok_or_else(|| format!("there is no model `{model}` in the first line"))?;
        if !(at.is_finite() && length_s.is_finite() && length_s >= 0.0) {
            return Err("`at` and `for` are seconds".to_owned());
        }
        if self.requests.last().is_some_and(|last| last.at > at) {
            return Err("requests come in the order of their times".to_owned());
        }
        if self.requests.len() == MAX_REQUESTS {
            return Err(format!("a trace has at most {MAX_REQUESTS} requests"));
        }
        Ok(Request { at, model: place, length_s })
    }

    /// Writes it as [`Trace::parse`] reads it.
    pub fn to_text(&self) -> String {
        let head = Head { budget_bytes: self.budget_bytes, models: self.models.clone() };
        let lines = self.requests.iter().map(|request| {
            let name = self.models.get(request.model).map_or("", |model| &model.name);
            let line = Line { at: request.at, model: name.into(), length_s: request.length_s };
            serde_json::to_string(&line)
        });
        let lines = std::iter::once(serde_json::to_string(&head)).chain(lines);
        // Names and numbers can always be written.
        lines.map(|line| line.unwrap_or_default() + "\n").collect()
    }
}

impl Head {
    fn check(&self) -> Result<(), String> {
        if self.models.is_empty() || self.models.len() > MAX_MODELS {
            return Err(format!("a trace has 1 to {MAX_MODELS} models, not {}", self.models.len()));
        }
        for (at, model) in self.models.iter().enumerate() {
            let name = &model.name;
            if self.models[..at].iter().any(|other| other.name == *name) {
                return Err(format!("two models are called `{name}`"));
            }
            if model.bytes == 0 || model.bytes > self.budget_bytes {
                return Err(format!(
                    "`{name}` takes {} bytes, and there are {}",
                    model.bytes, self.budget_bytes
                ));
            }
            if !(model.load_s.is_finite() && model.load_s >= 0.0) {
                return Err(format!("the load of `{name}` lasts {} seconds", model.load_s));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = r#"{"budget_bytes": 10, "models": [{"name": "a", "bytes": 6, "load_s": 1.5}]}"#;

    #[test]
    fn a_trace_is_read_as_it_is_written() {
        let text = format!(
            "{HEAD}\n{}\n\n{}\n",
            r#"{"at": 1.5, "model": "a", "for": 2}"#, r#"{"at": 2, "model": "a", "for": 0}"#
        );
        let trace = Trace::parse(&text).unwrap();
        assert_eq!(trace.requests[1], Request { at: 2.0, model: 0, length_s: 0.0 });
        assert_eq!(Trace::parse(&trace.to_text()).unwrap(), trace);
    }

    #[test]
    fn mistakes_are_told_by_their_line() {
        let check = |line: &str, told: &str| {
            let error = Trace::parse(&format!("{HEAD}\n{line}")).unwrap_err().to_string();
            assert!(error.starts_with("line 2 of the trace: ") && error.contains(told), "{error}");
        };
        check(r#"{"at": 1, "model": "b", "for": 2}"#, "no model `b`");
        check(r#"{"at": 1, "model": "a", "for": -2}"#, "seconds");
        check(r#"{"at": 1, "model": "a"}"#, "for");
        check("x", "expected value");
        let heads = [
            ("", "there is none"),
            (r#"{"budget_bytes": 10, "models": []}"#, "1 to 64 models"),
            (r#"{"budget_bytes": 5, "models": [{"name": "a", "bytes": 6, "load_s": 1}]}"#, "takes 6 bytes"),
        ];
        for (head, told) in heads {
            let error = Trace::parse(head).unwrap_err().to_string();
            assert!(error.starts_with("line 1") && error.contains(told), "{error}");
        }
    }
}
