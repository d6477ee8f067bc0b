use tokenizers::{
    Tokenizer,
    models::unigram::Unigram,
    normalizers::{NormalizerWrapper, Precompiled, Replace, Sequence, replace::ReplacePattern},
    pre_tokenizers::metaspace::{Metaspace, PrependScheme},
};

use super::{
    Vocab, corrupt,
    frame::{self, Defaults},
    vocab::TokenKind,
};
use crate::{
    tokens::Error,
    weights::{Array, Metadata, Value},
};

/// Builds a tokenizer of SentencePiece's unigram kind (T5, XLM-R), which takes the most likely cut of the whole text.
pub(super) fn build(metadata: &Metadata, vocab: &Vocab) -> Result<Tokenizer, Error> {
    let unknown = vocab.named(metadata, "tokenizer.ggml.unknown_token_id", Some(2))?;
    let normal = vocab.tokens.iter().filter(|token| token.kind == TokenKind::Normal);
    let worst = normal.map(|token| token.score).fold(0.0_f32, f32::min);
    // Converters give tokens that nobody uses absurd scores, and the library takes the worst of all scores as the
    // measure of the unknown; llama.cpp takes the worst of the normal ones.
    let scored =
        vocab.tokens.iter().map(|token| (token.text.clone(), f64::from(token.score.max(worst)))).collect();
    let model = Unigram::from(scored, unknown.map(|(id, _)| id as usize), false).map_err(corrupt)?;
    let mut tokenizer = Tokenizer::new(model);

    let mut normalizers = Vec::new();
    if let Some(map) = charsmap(metadata)? {
        normalizers.push(NormalizerWrapper::Precompiled(map));
    }
    if metadata.bool("tokenizer.ggml.remove_extra_whitespaces").unwrap_or(false) {
        // Only spaces: what else is white is a character to SentencePiece, unless its map made a space of it.
        for (runs, instead) in [(r"\A +| +\z", ""), (" {2,}", " ")] {
            let runs = ReplacePattern::Regex(runs.to_owned());
            normalizers.push(NormalizerWrapper::Replace(Replace::new(runs, instead).map_err(corrupt)?));
        }
    }
    tokenizer.with_normalizer(Some(Sequence::new(normalizers))).map_err(corrupt)?;
    let scheme = match metadata.bool("tokenizer.ggml.add_space_prefix") {
        Some(false) => PrependScheme::Never,
        _ => PrependScheme::Always,
    };
    tokenizer.with_pre_tokenizer(Some(Metaspace::new('▁', scheme, true)));
    tokenizer.with_decoder(Some(Metaspace::new('▁', scheme, true)));
    let defaults = Defaults { add_bos: false, add_eos: true, bos: None, eos: Some(1) };
    tokenizer.with_post_processor(frame::build(metadata, vocab, defaults)?);
    Ok(tokenizer)
}

/// Reads SentencePiece's table of character replacements (Unicode's NFKC, mostly).
fn charsmap(metadata: &Metadata) -> Result<Option<Precompiled>, Error> {
    let bytes = match metadata.get("tokenizer.ggml.precompiled_charsmap") {
        Some(Value::Array(Array::U8(bytes))) => bytes.clone(),
        Some(Value::Array(Array::I8(bytes))) => bytes.iter().map(|&byte| byte.cast_unsigned()).collect(),
        _ => return Ok(None),
    };
    Precompiled::from(&bytes).map(Some).map_err(|error| corrupt(format!("its character map: {error:?}")))
}
