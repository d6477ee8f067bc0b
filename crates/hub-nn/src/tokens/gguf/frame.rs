//! The tokens that a text is framed with.

use tokenizers::processors::template::TemplateProcessing;

use super::Vocab;
use crate::{
    tokens::{Error, frame::template},
    weights::Metadata,
};

/// Whether a frame has its parts where the file does not say.
#[derive(Clone, Copy)]
pub(super) struct Defaults {
    pub(super) add_bos: bool,
    pub(super) add_eos: bool,
    pub(super) bos: Option<u32>,
    pub(super) eos: Option<u32>,
}

/// Frames a text as `bos A eos`, and a pair as `bos A eos eos B eos`, which is what encoders with such tokenizers want.
///
/// Returns nothing if the file adds no token.
pub(super) fn build(
    metadata: &Metadata,
    vocab: &Vocab,
    defaults: Defaults,
) -> Result<Option<TemplateProcessing>, Error> {
    let add = |key: &str, default| metadata.bool(key).unwrap_or(default);
    let mut tokens = Vec::new();
    if add("tokenizer.ggml.add_bos_token", defaults.add_bos) {
        let bos = vocab.named(metadata, "tokenizer.ggml.bos_token_id", defaults.bos)?;
        tokens.extend(bos.map(|token| ("bos", token)));
    }
    if add("tokenizer.ggml.add_eos_token", defaults.add_eos) {
        let eos = vocab.named(metadata, "tokenizer.ggml.eos_token_id", defaults.eos)?;
        tokens.extend(eos.map(|token| ("eos", token)));
    }
    let (single, pair): (&[&str], &[&str]) = match tokens.as_slice() {
        [] => return Ok(None),
        [("bos", _)] => (&["bos", "$A"], &["bos", "$A", "$B"]),
        [_] => (&["$A", "eos"], &["$A", "eos", "$B", "eos"]),
        _ => (&["bos", "$A", "eos"], &["bos", "$A", "eos", "eos", "$B", "eos"]),
    };
    template(single, pair, &tokens).map(Some)
}
