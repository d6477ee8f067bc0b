use std::cmp::Ordering;

use tokenizers::{
    Tokenizer,
    decoders::{
        DecoderWrapper, byte_fallback::ByteFallback, fuse::Fuse, sequence::Sequence as Decoders, strip::Strip,
    },
    models::bpe::{BPE, Vocab as Ids},
    normalizers::{NormalizerWrapper, Prepend, Replace, Sequence},
};

use super::{
    Vocab, corrupt,
    frame::{self, Defaults},
    vocab::TokenKind,
};
use crate::{tokens::Error, weights::Metadata};

/// How vocabularies of SentencePiece write a space.
pub(super) const SPACE: &str = "▁";

/// Builds a tokenizer of SentencePiece's BPE kind, whose tokens have scores instead of a list of merges.
pub(super) fn build(metadata: &Metadata, vocab: &Vocab) -> Result<Tokenizer, Error> {
    let ids: Ids = vocab.ids().map(|(token, id)| (token.text.clone(), id)).collect();
    let merges = merges(vocab, &ids);
    let unknown = vocab.named(metadata, "tokenizer.ggml.unknown_token_id", Some(0))?;
    let mut model = BPE::builder().vocab_and_merges(ids, merges).fuse_unk(true).byte_fallback(true);
    if let Some((_, text)) = unknown {
        model = model.unk_token(text.to_owned());
    }
    let mut tokenizer = Tokenizer::new(model.build().map_err(corrupt)?);

    let mut normalizers = Vec::new();
    let mut decoders = vec![
        DecoderWrapper::Replace(Replace::new(SPACE, " ").map_err(corrupt)?),
        DecoderWrapper::ByteFallback(ByteFallback::new()),
        DecoderWrapper::Fuse(Fuse::new()),
    ];
    if metadata.bool("tokenizer.ggml.add_space_prefix").unwrap_or(true) {
        normalizers.push(NormalizerWrapper::Prepend(Prepend::new(SPACE.to_owned())));
        decoders.push(DecoderWrapper::Strip(Strip::new(' ', 1, 0)));
    }
    normalizers.push(NormalizerWrapper::Replace(Replace::new(" ", SPACE).map_err(corrupt)?));
    tokenizer.with_normalizer(Some(Sequence::new(normalizers))).map_err(corrupt)?;
    tokenizer.with_decoder(Some(Decoders::new(decoders)));
    let defaults = Defaults { add_bos: true, add_eos: false, bos: Some(1), eos: Some(2) };
    tokenizer.with_post_processor(frame::build(metadata, vocab, defaults)?);
    Ok(tokenizer)
}

/// The longest token that is looked at for merges. Real ones have tens of bytes; the work grows with the square.
const MAX_MERGED_BYTES: usize = 512;

/// Lists the merges that the scores amount to: SentencePiece always makes the pair whose token scores highest.
///
/// Source: `generate_merges` in `convert_slow_tokenizer.py` of <https://github.com/huggingface/transformers>.
fn merges(vocab: &Vocab, ids: &Ids) -> Vec<(String, String)> {
    struct Merge<'a> {
        score: f32,
        parts: (u32, u32),
        text: (&'a str, &'a str),
    }
    let mut merges = Vec::new();
    for token in &vocab.tokens {
        let is_text = !matches!(token.kind, TokenKind::Byte | TokenKind::Control | TokenKind::Unknown);
        if !is_text || token.text.len() > MAX_MERGED_BYTES {
            continue;
        }
        for (at, _) in token.text.char_indices().skip(1) {
            let (left, right) = token.text.split_at(at);
            if let (Some(&first), Some(&second)) = (ids.get(left), ids.get(right)) {
                merges.push(Merge { score: token.score, parts: (first, second), text: (left, right) });
            }
        }
    }
    let order = |a: &Merge<'_>, b: &Merge<'_>| {
        b.score.partial_cmp(&a.score).unwrap_or(Ordering::Equal).then(a.parts.cmp(&b.parts))
    };
    merges.sort_by(order);
    merges.into_iter().map(|merge| (merge.text.0.to_owned(), merge.text.1.to_owned())).collect()
}
