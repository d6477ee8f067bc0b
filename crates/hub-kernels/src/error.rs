use crate::Kind;

/// What can go wrong with a matrix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Its rows do not divide into blocks.
    #[error("rows of {cols} numbers do not divide into blocks of {} as {kind:?} has", kind.block())]
    Columns {
        /// The kind.
        kind: Kind,
        /// Numbers in a row.
        cols: usize,
    },
    /// There are more or fewer bytes than its shape needs.
    #[error("a matrix of {rows} rows and {cols} columns has {expected} bytes, not {found}")]
    Length {
        /// Rows.
        rows: usize,
        /// Numbers in a row.
        cols: usize,
        /// Bytes that it needs.
        expected: usize,
        /// Bytes that there are.
        found: usize,
    },
    /// Numbers are not rounded to this kind.
    #[error("numbers are not rounded to {kind:?} here")]
    NoTarget {
        /// The kind.
        kind: Kind,
    },
    /// A number is none, or larger than a kind can hold.
    #[error("{number} cannot be held by {kind:?}")]
    Number {
        /// The kind.
        kind: Kind,
        /// The number, as text: it may be none that equals itself.
        number: String,
    },
    /// The operating system gives no memory.
    #[error("the system gives no {} MiB of memory; end other programs or raise their limit, or take a smaller model", bytes.div_ceil(1 << 20))]
    Memory {
        /// What was asked for.
        bytes: usize,
    },
}
