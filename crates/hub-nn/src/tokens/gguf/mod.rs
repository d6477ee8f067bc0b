//! Rebuilds a tokenizer from the metadata of a GGUF file.
//!
//! Source: `src/llama-vocab.cpp` of <https://github.com/ggml-org/llama.cpp>. Checked against the vocabularies and texts
//! that lie in its `models` folder, see `tests/it/llama_cpp.rs`.

mod bpe;
mod frame;
mod pre;
mod spm;
mod unigram;
mod vocab;
mod wordpiece;
mod write;

use tokenizers::Tokenizer;

use self::vocab::Vocab;
pub use self::write::Described;
pub(super) use self::write::describe;
use super::Error;
use crate::weights::Metadata;

/// Builds the tokenizer of the kind that `tokenizer.ggml.model` names.
pub(super) fn build(metadata: &Metadata) -> Result<Tokenizer, Error> {
    let key = "tokenizer.ggml.model";
    let model = metadata.str(key).ok_or_else(|| Error::MissingKey { key: key.to_owned() })?;
    let build = match model {
        "gpt2" | "gemma4" => bpe::build,
        "llama" => spm::build,
        "bert" => wordpiece::build,
        "t5" => unigram::build,
        _ => return Err(Error::UnknownModel { model: model.to_owned() }),
    };
    let vocab = Vocab::read(metadata)?;
    let mut tokenizer = build(metadata, &vocab)?;
    tokenizer.add_tokens(vocab.added(metadata)).map_err(corrupt)?;
    Ok(tokenizer)
}

/// Makes the error for metadata that do not fit together.
fn corrupt(reason: impl ToString) -> Error {
    Error::Corrupt { file: "the tokenizer of the GGUF file".to_owned(), reason: reason.to_string() }
}
