use std::time::{SystemTime, UNIX_EPOCH};

use hub_base::ErrorKind;

/// How a frontend answers an outcome (`None` is success), as a number: a status of HTTP, an exit code.
pub type StatusTable = fn(Option<ErrorKind>) -> u16;

/// Who asks, and through what: kept with the usage row of a request, and nowhere else.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Caller {
    /// Names the request in answers, logs and usage rows.
    pub request_id: String,
    /// The key it came with.
    pub key_id: Option<String>,
    /// Where it came in: `/v1/chat/completions`, `run`.
    pub endpoint: String,
    /// How the frontend answers an outcome.
    pub status: StatusTable,
}

impl Caller {
    /// Describes a request that came in at `endpoint`, with a fresh id, no key, and status 0 or 1.
    pub fn new(endpoint: impl Into<String>) -> Self {
        let request_id = format!("req_{:016x}", random_id());
        Self {
            request_id,
            key_id: None,
            endpoint: endpoint.into(),
            status: |error| u16::from(error.is_some()),
        }
    }

    /// Takes the id that the frontend gave the request.
    #[must_use]
    pub fn request_id(mut self, id: impl Into<String>) -> Self {
        self.request_id = id.into();
        self
    }

    /// Says which key the request came with.
    #[must_use]
    pub fn key_id(mut self, id: Option<String>) -> Self {
        self.key_id = id;
        self
    }

    /// Says how the frontend answers an outcome.
    #[must_use]
    pub fn status(mut self, table: StatusTable) -> Self {
        self.status = table;
        self
    }
}

impl Default for Caller {
    fn default() -> Self {
        Self::new("library")
    }
}

/// Returns the time in Unix milliseconds; 0 on a clock before 1970.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Draws a number that is unlikely to be drawn twice. It names things and guards nothing.
fn random_id() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(SystemTime::now())
}
