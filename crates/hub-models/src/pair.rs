//! How a query and a document become one text.

use std::time::SystemTime;

use hub_nn::{
    spec::Head,
    tokens::{AddSpecial, Tokenizer},
};
use serde_json::{Value, json};

use crate::{
    Error,
    bundle::Bundle,
    chat::{PromptEnd, RenderOptions, TypedControls, pieces},
    encoder::Text,
    judge::Scoring,
    pooling::Prompts,
    render::Renderer,
};

/// What Qwen3-Reranker reads, from its model card.
const JUDGE: &str = "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the \
                     Instruct provided. Note that the answer can only be \"yes\" or \"no\".<|im_end|>\n<|im_start|>user\n\
                     <Instruct>: {instruction}\n<Query>: {query}\n<Document>: {document}<|im_end|>\n\
                     <|im_start|>assistant\n<think>\n\n</think>\n\n";
/// What it is told to look for where nobody says.
const INSTRUCTION: &str = "Given a web search query, retrieve relevant passages that answer the query";
/// What stands before the instruction in a text that GGUF files carry.
const INSTRUCTION_SIGN: &str = "<Instruct>: ";

/// How a query and a document become one text.
#[derive(Debug)]
pub(crate) enum PairForm {
    /// The tokenizer frames both.
    Framed,
    /// A chat template writes both, each as a message of its own role.
    Rendered { renderer: Renderer, controls: TypedControls, instruction: String },
    /// They stand in a text, in place of their names in braces.
    Written { text: String, controls: TypedControls, instruction: String },
}

impl PairForm {
    /// Finds out what a model's files prescribe.
    pub(crate) fn of(bundle: &Bundle, tokenizer: &Tokenizer) -> Result<Self, Error> {
        let controls = TypedControls::of(tokenizer, JUDGE, &[]);
        if let Some(text) = bundle.weights.metadata().str("tokenizer.chat_template.rerank") {
            let (text, instruction) = open_instruction(text);
            return Ok(Self::Written { text, controls, instruction });
        }
        if !bundle.spec.keeps_state() || !matches!(bundle.spec.head, Head::Classifier(_)) {
            return Ok(Self::Framed);
        }
        if let Some((source, template)) = bundle.template(None)?
            && source.contains("document")
        {
            let instruction = Prompts::of(bundle)?.default_text()?.to_owned();
            return Ok(Self::Rendered { renderer: Renderer::new(template), controls, instruction });
        }
        // A classifier of one number is told nothing, as sentence-transformers has it.
        if bundle.scoring == Scoring::default() {
            return Ok(Self::Framed);
        }
        Ok(Self::Written { text: JUDGE.to_owned(), controls, instruction: INSTRUCTION.to_owned() })
    }

    /// Turns a query and a document into tokens.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for an instruction to a model that takes none.
    pub(crate) fn encode(
        &self,
        tokenizer: &Tokenizer,
        (query, document): (&str, &str),
        instruction: Option<&str>,
    ) -> Result<Text, Error> {
        let text = match self {
            Self::Framed if instruction.is_some() => {
                let reason = "is not taken by this model, whose files prescribe none".to_owned();
                return Err(Error::InvalidOption { name: "instruction", reason });
            }
            Self::Framed => {
                let pair = tokenizer.encode_pair(query, document)?;
                return Ok(Text { tokens: pair.ids, types: pair.types });
            }
            Self::Rendered { renderer, controls, instruction: usual } => {
                let say = |role: &str, text: &str| json!({"role": role, "content": controls.break_up(text)});
                let told = instruction.unwrap_or(usual);
                let mut messages: Vec<Value> = Vec::new();
                messages.extend((!told.is_empty()).then(|| say("system", told)));
                messages.extend([say("query", query), say("document", document)]);
                let options = RenderOptions::new(SystemTime::now()).end(PromptEnd::LastMessage);
                renderer.render_values(messages, options)?
            }
            Self::Written { text, controls, instruction: usual } => {
                let values = [
                    ("{instruction}", instruction.unwrap_or(usual)),
                    ("{query}", query),
                    ("{document}", document),
                ];
                fill(text, &values.map(|(name, value)| (name, controls.break_up(value))))
            }
        };
        let mut tokens = Vec::new();
        for piece in pieces(&text) {
            tokens.extend(tokenizer.encode(piece, AddSpecial::No)?);
        }
        let types = vec![0; tokens.len()];
        Ok(Text { tokens, types })
    }
}

/// Opens the place of the instruction in a text, and returns what stood there.
fn open_instruction(text: &str) -> (String, String) {
    let place = text.find(INSTRUCTION_SIGN).map(|at| at + INSTRUCTION_SIGN.len());
    let Some(place) = place else { return (text.to_owned(), String::new()) };
    let (before, rest) = text.split_at(place);
    let (instruction, after) = rest.split_at(rest.find('\n').unwrap_or(rest.len()));
    (format!("{before}{{instruction}}{after}"), instruction.to_owned())
}

/// Puts values in place of their names. What a value says of names stays as it is.
fn fill<T: AsRef<str>>(text: &str, values: &[(&str, T)]) -> String {
    let mut filled = String::new();
    let mut rest = text;
    let first = |rest: &str| {
        let found = values.iter().filter_map(|(name, value)| Some((rest.find(name)?, *name, value.as_ref())));
        found.min_by_key(|(at, ..)| *at).map(|(at, name, value)| (at, name.len(), value.to_owned()))
    };
    while let Some((at, len, value)) = first(rest) {
        filled.push_str(&rest[..at]);
        filled.push_str(&value);
        rest = &rest[at + len..];
    }
    filled + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_value_says_of_names_stays() {
        let values = [("{query}", "a {document}"), ("{document}", "b {query}")];
        assert_eq!(fill("<{query}|{document}>", &values), "<a {document}|b {query}>");
    }

    #[test]
    fn an_instruction_that_stands_in_a_text_can_be_another() {
        let (text, instruction) = open_instruction("x\n<Instruct>: find it\n<Query>: {query}");
        assert_eq!(
            (text.as_str(), instruction.as_str()),
            ("x\n<Instruct>: {instruction}\n<Query>: {query}", "find it")
        );
        assert_eq!(open_instruction("{query}"), ("{query}".to_owned(), String::new()));
    }
}
