//! Templates of the tokens that a text is framed with.

use tokenizers::processors::template::{SpecialToken, TemplateProcessing};

use super::Error;

/// Makes a template of the names of tokens and of `$A` and `$B`.
pub(super) fn template(
    single: &[&str],
    pair: &[&str],
    tokens: &[(&str, (u32, &str))],
) -> Result<TemplateProcessing, Error> {
    let special = |&(name, (id, text)): &(&str, (u32, &str))| {
        SpecialToken::new(name.to_owned(), vec![id], vec![text.to_owned()]).map_err(corrupt)
    };
    let special = tokens.iter().map(special).collect::<Result<Vec<_>, _>>()?;
    TemplateProcessing::builder()
        .try_single(single.to_vec())
        .and_then(|builder| builder.try_pair(pair.to_vec()))
        .map_err(corrupt)?
        .special_tokens(special)
        .build()
        .map_err(corrupt)
}

fn corrupt(reason: impl ToString) -> Error {
    Error::Corrupt { file: "the frame of the tokenizer".to_owned(), reason: reason.to_string() }
}
