//! How a text is cut into words before pairs are merged, by what `tokenizer.ggml.pre` calls it.
//!
//! The expressions are those of `llm_tokenizer_bpe` in llama.cpp's `src/llama-vocab.cpp`; where a comment there gives the
//! expression of the model's own tokenizer, which its engine cannot run, the table has that one.

use crate::{tokens::Error, weights::Metadata};

/// One way to cut a text.
pub(super) struct PreTokenizer {
    /// What files call it; several models share one way.
    names: &'static [&'static str],
    /// Expressions that cut the text, one after the other.
    pub(super) splits: &'static [&'static str],
    /// Whether a word that is a token is taken whole, whatever the merges say.
    pub(super) ignores_merges: bool,
    /// Whether a text begins with the first special token unless the file says otherwise.
    pub(super) adds_bos: bool,
    pub(super) alphabet: Alphabet,
}

/// What tokens are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alphabet {
    /// One printable character for each byte.
    Bytes,
    /// The text itself with `▁` for spaces, and `<0x0A>` for bytes of what has no token.
    Text,
}

/// What files call the ways of models whose own tokenizers compose characters first (Unicode's NFC): `ế` may be typed as
/// one character or as three. Source: the tokenizers of `transformers` 5.24.0. (llama.cpp does not do it.)
static COMPOSING: &[&str] = &["qwen2", "qwen35", "command-r"];

/// Whether characters are composed before a text is cut.
pub(super) fn composes(metadata: &Metadata) -> bool {
    metadata.str("tokenizer.ggml.pre").is_some_and(|pre| COMPOSING.contains(&pre))
}

/// Finds the way that a file asks for.
pub(super) fn of(metadata: &Metadata) -> Result<&'static PreTokenizer, Error> {
    let pre = match metadata.str("tokenizer.ggml.model") {
        Some("gemma4") => "gemma4",
        _ => metadata.str("tokenizer.ggml.pre").unwrap_or("default"),
    };
    named(pre).ok_or_else(|| Error::UnknownPreTokenizer { pre: pre.to_owned() })
}

/// Returns the way that is called so.
pub(super) fn named(pre: &str) -> Option<&'static PreTokenizer> {
    PRE_TOKENIZERS.iter().find(|way| way.names.contains(&pre))
}

/// Iterates over the first names of the ways that cut bytes.
pub(super) fn names_of_bytes() -> impl Iterator<Item = &'static str> {
    let ways = PRE_TOKENIZERS.iter().filter(|way| way.alphabet == Alphabet::Bytes);
    ways.filter_map(|way| way.names.first().copied())
}

const WORDS_GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)";
const WORDS_LLAMA3: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const WORDS_QWEN2: &str = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const WORDS_GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const WORDS_DEEPSEEK3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;
const LINES: &str = r"[^\n]+|[\n]+";
const DIGIT: &str = r"\p{N}";
const UP_TO_THREE_DIGITS: &str = r"\p{N}{1,3}";

static PRE_TOKENIZERS: &[PreTokenizer] = &[
    PreTokenizer {
        names: &[
            "llama3",
            "llama-v3",
            "llama-bpe",
            "falcon3",
            "falcon-h1",
            "pixtral",
            "midm-2.0",
            "lfm2",
            "jina-v5-nano",
        ],
        splits: &[WORDS_LLAMA3],
        ignores_merges: true,
        adds_bos: true,
        alphabet: Alphabet::Bytes,
    },
    PreTokenizer {
        names: &["minicpm5"],
        splits: &[
            UP_TO_THREE_DIGITS,
            r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ],
        ignores_merges: true,
        adds_bos: false,
        alphabet: Alphabet::Bytes,
    },
    PreTokenizer {
        names: &["glm4", "glm5"],
        splits: &[WORDS_LLAMA3],
        ignores_merges: true,
        adds_bos: false,
        alphabet: Alphabet::Bytes,
    },
    PreTokenizer {
        names: &["chatglm-bpe", "dbrx", "smaug-bpe"],
        splits: &[WORDS_LLAMA3],
        ignores_merges: false,
        adds_bos: false,
        alphabet: Alphabet::Bytes,
    },
    PreTokenizer {
        names: &[
            "qwen2",
            "deepseek-r1-qwen",
            "kormo",
            "f2llmv2",
            "megrez",
            "stablelm2",
            "hunyuan",
            "solar-open",
            "grok-2",
        ],
        splits: &[WORDS_QWEN2],
        ignores_merges: false,
        adds_bos: false,
        alphabet: Alphabet::Bytes,
    },
    PreTokenizer {
        names: &["qwen35"],
        splits: &[
            r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ],
        ignores_merges: false,
        adds_bos: false,
        alphabet: Alphabet::Bytes,
    },
    PreTokenizer {
        names: &[
            "gpt-2",
            "phi-2",
            "jina-es",
            "jina-de",
            "gigachat",
            "jina-v2-es",
            "jina-v2-de",
            "a.x-4.0",
            "mellum",
            "modern-bert",
            "jina-v1-en",
            "jina-v2-code",
            "roberta-bpe",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "granite-docling",
            "exaone4",
        ],
        splits: &[WORDS_GPT2],
        ignores_merges: false,
        adds_bos: false,
        alphabet: Alphabet::Bytes,
    },
    PreTokenizer {
        names: &[
            "smollm",
            "starcoder",
            "refact",
            "command-r",
            "codeshell",
            "exaone",
            "minerva-7b",
            "mellum2",
        ],
        splits: &[DIGIT, WORDS_GPT2],
        ignores_merges: false,
        adds_bos: false,
        alphabet: Alphabet::Bytes,
    },
    PreTokenizer {
        names: &["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"],
        splits: &[WORDS_GPT4O],
        ignores_merges: false,
        adds_bos: false,
        alphabet: Alphabet::Bytes,
    },
    PreTokenizer {
        names: &["granite-embed-multi-97m"],
        splits: &[WORDS_GPT4O],
        ignores_merges: true,
        adds_bos: false,
        alphabet: Alphabet::Bytes,
    },
    PreTokenizer {
        names: &["tekken"],
        splits: &[
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ],
        ignores_merges: true,
        adds_bos: true,
        alphabet: Alphabet::Bytes,
    },
    PreTokenizer {
        names: &["deepseek-llm"],
        splits: &[
            r"[\r\n]",
            r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+",
            r"\s?[!-/:-~！-／：-～‘-‟　-。]+",
            r"\s+$",
            r"[一-龥ࠀ-一가-퟿]+",
            r"\p{N}+",
        ],
        ignores_merges: false,
        adds_bos: false,
        alphabet: Alphabet::Bytes,
    },
    PreTokenizer {
        names: &["deepseek-coder"],
        splits: &[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"[一-龥ࠀ-一가-퟿]+", DIGIT],
        ignores_merges: false,
        adds_bos: false,
        alphabet: Alphabet::Bytes,
    },
    PreTokenizer {
        names: &["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"],
        splits: &[UP_TO_THREE_DIGITS, r"[一-龥぀-ゟ゠-ヿ]+", WORDS_DEEPSEEK3],
        ignores_merges: false,
        adds_bos: false,
        alphabet: Alphabet::Bytes,
    },
    PreTokenizer {
        names: &["kimi-k2"],
        splits: &[
            r"\p{Han}+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ],
        ignores_merges: false,
        adds_bos: false,
        alphabet: Alphabet::Bytes,
    },
    PreTokenizer {
        names: &["spark2_5"],
        splits: &[
            UP_TO_THREE_DIGITS,
            r"[一-龥぀-ゟ゠-ヿ]+",
            r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+|[\r\n]|\s+(?!\S)|\s+"##,
            DIGIT,
        ],
        ignores_merges: false,
        adds_bos: false,
        alphabet: Alphabet::Bytes,
    },
    PreTokenizer {
        names: &["falcon"],
        splits: &[r"[\p{P}\$\+<=>\^~\|`]+", WORDS_GPT2, r"[0-9][0-9][0-9]"],
        ignores_merges: false,
        adds_bos: false,
        alphabet: Alphabet::Bytes,
    },
    PreTokenizer {
        names: &["jais-2"],
        splits: &[
            r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}",
        ],
        ignores_merges: false,
        adds_bos: false,
        alphabet: Alphabet::Bytes,
    },
    PreTokenizer {
        names: &["youtu"],
        splits: &[
            r"[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥぀-ゟ゠-ヿ]+",
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ],
        ignores_merges: true,
        adds_bos: false,
        alphabet: Alphabet::Bytes,
    },
    PreTokenizer {
        names: &["poro-chat", "bloom", "gpt3-finnish"],
        splits: &[r" ?[^(\s|.,!?…。，、।۔،)]+"],
        ignores_merges: false,
        adds_bos: false,
        alphabet: Alphabet::Bytes,
    },
    PreTokenizer {
        names: &["viking"],
        splits: &[r" ?[^(\s|.,!?…。，、।۔،)]+", DIGIT],
        ignores_merges: false,
        adds_bos: false,
        alphabet: Alphabet::Bytes,
    },
    PreTokenizer {
        names: &["chameleon"],
        splits: &[
            r"<sentinel:[0-9]+>",
            r"(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z",
            r"([\t\n]|    |  )",
            DIGIT,
            r"[\p{P}!-/:-@\[-`{-~]",
            WORDS_GPT2,
        ],
        ignores_merges: false,
        adds_bos: true,
        alphabet: Alphabet::Bytes,
    },
    PreTokenizer {
        names: &["tiny_aya", "cohere2moe"],
        splits: &[
            r"\d{1,3}(?=(?:\d{3})*\b)",
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ],
        ignores_merges: false,
        adds_bos: false,
        alphabet: Alphabet::Bytes,
    },
    PreTokenizer {
        names: &["superbpe"],
        splits: &[r"\p{N}+", r"(?=(\d{3})+(?!\d))"],
        ignores_merges: false,
        adds_bos: false,
        alphabet: Alphabet::Bytes,
    },
    PreTokenizer {
        names: &["bailingmoe", "bailingmoe2", "llada-moe"],
        splits: &[
            r"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
        ],
        ignores_merges: false,
        adds_bos: false,
        alphabet: Alphabet::Bytes,
    },
    PreTokenizer {
        names: &["seed-coder"],
        splits: &[
            r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+",
        ],
        ignores_merges: false,
        adds_bos: false,
        alphabet: Alphabet::Bytes,
    },
    PreTokenizer {
        names: &["ufakzeka"],
        splits: &[r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"],
        ignores_merges: false,
        adds_bos: false,
        alphabet: Alphabet::Bytes,
    },
    PreTokenizer {
        names: &["laguna"],
        splits: &[LINES, WORDS_QWEN2],
        ignores_merges: false,
        adds_bos: false,
        alphabet: Alphabet::Bytes,
    },
    PreTokenizer {
        names: &["exaone-moe"],
        splits: &[
            r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+",
        ],
        ignores_merges: false,
        adds_bos: false,
        alphabet: Alphabet::Bytes,
    },
    PreTokenizer {
        names: &["gemma4", "granite-embed-multi-311m"],
        splits: &[LINES],
        ignores_merges: false,
        adds_bos: true,
        alphabet: Alphabet::Text,
    },
    PreTokenizer {
        names: &["sarvam-moe"],
        splits: &[LINES],
        ignores_merges: false,
        adds_bos: false,
        alphabet: Alphabet::Text,
    },
    PreTokenizer {
        names: &["default"],
        splits: &[r"[\p{P}\$\+<=>\^~\|]+", WORDS_GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"],
        ignores_merges: false,
        adds_bos: false,
        alphabet: Alphabet::Bytes,
    },
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use tokenizers::SplitDelimiterBehavior;
    use tokenizers::pre_tokenizers::split::{Split, SplitPattern};

    use super::*;

    #[test]
    fn every_expression_is_understood_and_every_name_means_one_way() {
        let mut names = HashSet::new();
        for way in PRE_TOKENIZERS {
            assert!(way.names.iter().all(|name| names.insert(name)), "{:?}", way.names);
            for expression in way.splits {
                let pattern = SplitPattern::Regex((*expression).to_owned());
                let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false);
                assert!(split.is_ok(), "{:?}: {expression}: {:?}", way.names, split.err());
            }
        }
    }

    #[test]
    fn an_unknown_name_is_named() {
        let error = of(&Metadata::from_iter([("tokenizer.ggml.pre", "nobody-2")])).err().unwrap();
        assert!(error.to_string().contains("`nobody-2`"), "{error}");
    }
}
