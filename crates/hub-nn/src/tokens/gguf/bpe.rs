use tokenizers::{
    SplitDelimiterBehavior, Tokenizer,
    decoders::{DecoderWrapper, byte_fallback::ByteFallback, fuse::Fuse, sequence::Sequence as Decoders},
    models::bpe::BPE,
    normalizers::{Replace, unicode::NFC},
    pre_tokenizers::{
        PreTokenizerWrapper,
        byte_level::ByteLevel,
        sequence::Sequence,
        split::{Split, SplitPattern},
    },
};

use super::{
    Vocab, corrupt,
    frame::{self, Defaults},
    pre::{self, Alphabet, PreTokenizer},
    spm::SPACE,
};
use crate::{tokens::Error, weights::Metadata};

/// Builds a tokenizer that merges pairs in the order of `tokenizer.ggml.merges`.
pub(super) fn build(metadata: &Metadata, vocab: &Vocab) -> Result<Tokenizer, Error> {
    let rules = pre::of(metadata)?;
    let key = "tokenizer.ggml.merges";
    let merges = metadata.strings(key).ok_or_else(|| Error::MissingKey { key: key.to_owned() })?;
    let ids =
        vocab.ids().map(|(token, id)| (token.text.clone(), id)).collect::<tokenizers::models::bpe::Vocab>();
    // The first byte belongs to the left part even if it is a space.
    let split = |merge: &String| {
        let at = merge.char_indices().skip(1).find(|&(_, letter)| letter == ' ')?.0;
        Some((merge[..at].to_owned(), merge[at + 1..].to_owned()))
    };
    let merges = merges.iter().filter_map(split);
    // A merge that leads to no token can never be seen in a result; the library refuses it.
    let merges = merges.filter(|(left, right)| {
        ids.contains_key(left) && ids.contains_key(right) && ids.contains_key(&format!("{left}{right}"))
    });
    let merges = merges.collect();
    let model = BPE::builder()
        .vocab_and_merges(ids, merges)
        .ignore_merges(rules.ignores_merges)
        .byte_fallback(rules.alphabet == Alphabet::Text)
        .build()
        .map_err(corrupt)?;
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(Sequence::new(splits(rules)?)));
    match rules.alphabet {
        Alphabet::Bytes => {
            if pre::composes(metadata) {
                tokenizer.with_normalizer(Some(NFC)).map_err(corrupt)?;
            }
            tokenizer.with_decoder(Some(ByteLevel::new(false, false, false)));
        }
        Alphabet::Text => {
            let escape = Replace::new(" ", SPACE).map_err(corrupt)?;
            tokenizer.with_normalizer(Some(escape)).map_err(corrupt)?;
            tokenizer.with_decoder(Some(Decoders::new(vec![
                DecoderWrapper::Replace(Replace::new(SPACE, " ").map_err(corrupt)?),
                DecoderWrapper::ByteFallback(ByteFallback::new()),
                DecoderWrapper::Fuse(Fuse::new()),
            ])));
        }
    }
    let defaults = Defaults { add_bos: rules.adds_bos, add_eos: false, bos: Some(11), eos: Some(11) };
    tokenizer.with_post_processor(frame::build(metadata, vocab, defaults)?);
    Ok(tokenizer)
}

/// Returns what cuts a text in the way of a name.
pub(super) fn cutter(name: &str) -> Result<Sequence, Error> {
    let unknown = || Error::UnknownPreTokenizer { pre: name.to_owned() };
    pre::named(name).ok_or_else(unknown).and_then(splits).map(Sequence::new)
}

/// Cuts a text by each expression in turn; what an expression does not match stays a part of its own.
fn splits(rules: &PreTokenizer) -> Result<Vec<PreTokenizerWrapper>, Error> {
    let split = |expression: &&str| {
        let pattern = SplitPattern::Regex((*expression).to_owned());
        Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
            .map(PreTokenizerWrapper::Split)
            .map_err(corrupt)
    };
    let mut parts = rules.splits.iter().map(split).collect::<Result<Vec<_>, _>>()?;
    if rules.alphabet == Alphabet::Bytes {
        parts.push(PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, false, false)));
    }
    Ok(parts)
}
