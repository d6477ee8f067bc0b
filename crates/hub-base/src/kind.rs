/// What went wrong, as far as a caller can act on it.
///
/// Each crate maps its own errors to a kind; each frontend maps kinds to its own language (HTTP status, exit code,
/// Python exception) in one table. The set is closed on purpose: a new kind must break every such table at compile
/// time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// What was named does not exist.
    NotFound,
    /// The request is malformed or contradicts itself; sending it again unchanged is useless.
    InvalidInput,
    /// The request is well formed and larger than a limit.
    TooLarge,
    /// No capacity right now; the same request may succeed later.
    Busy,
    /// The caller, or a shutdown, stopped the work.
    Cancelled,
    /// The caller may not do this.
    Denied,
    /// The request is meaningful, and this build or model cannot do it.
    Unsupported,
    /// A part that the request needs is not there now: not loaded, over budget, failed.
    Unavailable,
    /// Stored data is damaged.
    Corrupt,
    /// A defect of the hub.
    Internal,
}
