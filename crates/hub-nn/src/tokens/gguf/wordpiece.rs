use tokenizers::{
    Tokenizer,
    decoders::wordpiece::WordPiece as Decoder,
    models::{bpe::Vocab as Ids, wordpiece::WordPiece},
    normalizers::BertNormalizer,
    pre_tokenizers::bert::BertPreTokenizer,
};

use super::{Vocab, corrupt, spm::SPACE, vocab::TokenKind};
use crate::{
    tokens::{Error, frame},
    weights::Metadata,
};

/// What marks a token that continues a word.
const CONTINUES: &str = "##";

/// Builds BERT's tokenizer, which finds in each word the longest tokens from its start on.
pub(super) fn build(metadata: &Metadata, vocab: &Vocab) -> Result<Tokenizer, Error> {
    // GGUF marks the tokens that start a word, the original those that do not.
    let ids: Ids = vocab
        .ids()
        .map(|(token, id)| match (token.kind, token.text.strip_prefix(SPACE)) {
            (TokenKind::Normal, Some(word)) => (word.to_owned(), id),
            (TokenKind::Normal, None) => (format!("{CONTINUES}{}", token.text), id),
            _ => (token.text.clone(), id),
        })
        .collect();
    let required = |key: &str, default| match vocab.named(metadata, key, Some(default))? {
        Some(token) => Ok(token),
        None => Err(Error::MissingKey { key: key.to_owned() }),
    };
    let unknown = required("tokenizer.ggml.unknown_token_id", 100)?;
    let cls = required("tokenizer.ggml.bos_token_id", 101)?;
    let sep = required("tokenizer.ggml.seperator_token_id", 102)?;
    let model = WordPiece::builder().vocab(ids).unk_token(unknown.1.to_owned()).build().map_err(corrupt)?;
    let mut tokenizer = Tokenizer::new(model);

    let lowercase = metadata.bool("tokenizer.ggml.normalizer.lowercase").unwrap_or(true);
    let strip_accents = metadata.bool("tokenizer.ggml.normalizer.strip_accents").unwrap_or(lowercase);
    let normalizer = BertNormalizer::new(true, true, Some(strip_accents), lowercase);
    tokenizer.with_normalizer(Some(normalizer)).map_err(corrupt)?;
    tokenizer.with_pre_tokenizer(Some(BertPreTokenizer));
    tokenizer.with_decoder(Some(Decoder::new(CONTINUES.to_owned(), true)));
    let single = ["cls", "$A", "sep"];
    let pair = ["cls", "$A", "sep", "$B:1", "sep:1"];
    tokenizer.with_post_processor(Some(frame::template(&single, &pair, &[("cls", cls), ("sep", sep)])?));
    Ok(tokenizer)
}
