use hub_base::ModelId;
use serde::{Deserialize, Serialize};

use crate::{Hub, Result, bench::BenchReport, caller::now_ms};

/// How fast a model was on this machine when it was last measured. Figures that mean nothing for its task are `None`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[derive(Default)]
#[non_exhaustive]
pub struct Speed {
    /// When, in Unix milliseconds.
    pub measured_at_ms: i64,
    /// On which device.
    pub device: String,
    /// Tokens of a prompt read in a second.
    pub prefill_tokens_per_s: Option<f64>,
    /// Tokens of an answer written in a second, for one request.
    pub decode_tokens_per_s: Option<f64>,
    /// Tokens read in a second by an encoder.
    pub read_tokens_per_s: Option<f64>,
    /// From a request to its first token.
    pub first_token_ms: Option<f64>,
    /// From files to a model that answers.
    pub load_ms: f64,
    /// The most memory that the process held.
    pub peak_bytes: u64,
}

impl Speed {
    /// Keeps the medians of a measurement.
    fn of(report: &BenchReport) -> Self {
        let rate = |rate: Option<crate::bench::Rate>| rate.map(|rate| rate.tokens_per_s.median);
        Self {
            measured_at_ms: now_ms(),
            device: report.device.clone(),
            prefill_tokens_per_s: rate(report.prefill),
            decode_tokens_per_s: rate(report.decode),
            read_tokens_per_s: rate(report.embeddings).or(rate(report.rerank)),
            first_token_ms: report.first_token_ms.map(|spread| spread.median),
            load_ms: report.load_ms.median,
            peak_bytes: report.peak_bytes.max as u64,
        }
    }
}

impl Hub {
    /// Keeps what was measured of a model, in place of what was measured before.
    ///
    /// # Errors
    /// [`Error::Store`](crate::Error::Store).
    pub async fn save_bench(&self, report: &BenchReport) -> Result<()> {
        let name = self.model(&report.model).await?.name;
        let speed = serde_json::to_value(Speed::of(report)).unwrap_or_default();
        Ok(self.store().catalog().save_speed(&name, &speed).await?)
    }

    /// Returns how fast a model was when it was last measured here.
    pub(crate) async fn speed(&self, name: &ModelId) -> Result<Option<Speed>> {
        let kept = self.store().catalog().speed(name).await?;
        // One that a newer version wrote in another way is as good as none.
        Ok(kept.and_then(|speed| serde_json::from_value(speed).ok()))
    }
}
