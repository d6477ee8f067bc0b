//! Hugging Face folders as what a GGUF file of them holds.

use hub_nn::weights::Content;

use crate::{Error, bundle::Bundle};

/// Returns what a GGUF file of a folder holds.
///
/// # Errors
/// [`Error::NoConversion`] for a family that is only read.
pub(crate) fn content_of(bundle: &Bundle) -> Result<Content, Error> {
    Err(Error::NoConversion { family: bundle.spec.family })
}
