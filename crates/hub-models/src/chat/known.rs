//! Chat templates of well-known forms, for models that come with a template in another language than Jinja.

/// A form of conversation: what tells it in a template of any language, and the same as Jinja.
struct Known {
    /// Texts that such a template holds, all of them.
    marks: &'static [&'static str],
    /// Texts of other forms with the same marks.
    others: &'static [&'static str],
    jinja: &'static str,
}

/// The forms, each before those whose marks it also has.
const KNOWN: &[Known] = &[
    Known {
        marks: &["<|start_header_id|>", "<|eot_id|>"],
        others: &[],
        jinja: include_str!("known/llama3.jinja"),
    },
    Known {
        marks: &["<|im_start|>", "<|im_end|>"],
        others: &["<|im_sep|>"],
        jinja: include_str!("known/chatml.jinja"),
    },
    Known {
        marks: &["<start_of_turn>", "<end_of_turn>"],
        others: &[],
        jinja: include_str!("known/gemma.jinja"),
    },
    Known { marks: &["<|user|>", "<|end|>"], others: &[], jinja: include_str!("known/phi3.jinja") },
    Known { marks: &["<|user|>", "</s>"], others: &[], jinja: include_str!("known/zephyr.jinja") },
    Known { marks: &["<<SYS>>", "[INST]"], others: &[], jinja: include_str!("known/llama2.jinja") },
    Known {
        marks: &["[INST]", "[/INST]"],
        others: &["[SYSTEM_PROMPT]"],
        jinja: include_str!("known/mistral.jinja"),
    },
    Known { marks: &["USER:", "ASSISTANT:"], others: &[], jinja: include_str!("known/vicuna.jinja") },
    Known {
        marks: &["### Instruction:", "### Response:"],
        others: &[],
        jinja: include_str!("known/alpaca.jinja"),
    },
];

/// Returns the Jinja template of the form that a template of another language has, by the marks in it: Ollama writes
/// its templates in Go's language, which is not run here. `None` if it is no form that is known.
///
/// The forms are those that the models' authors publish, for conversations of system, user and assistant.
pub fn known_template(foreign: &str) -> Option<&'static str> {
    let has = |mark: &&str| foreign.contains(*mark);
    let is_it = |known: &&Known| known.marks.iter().all(has) && !known.others.iter().any(has);
    KNOWN.iter().find(is_it).map(|known| known.jinja)
}

/// Returns the Jinja template of a version of Mistral's form of conversation, which its own files name and do not hold.
///
/// Source: `tokens/tokenizers/instruct.py` of <https://github.com/mistralai/mistral-common>. Checked against its 1.13.1:
/// `fixtures/tokens/tekken.py`.
pub(crate) fn mistral_template(version: u32) -> Option<&'static str> {
    match version {
        3 => Some(include_str!("known/mistral_v3.jinja")),
        7 | 11 => Some(include_str!("known/mistral_v7.jinja")),
        13 => Some(include_str!("known/mistral_v13.jinja")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use hub_nn::tokens::{AddSpecial, Tokenizer};
    use serde::Deserialize;
    use serde_json::{Map, Value};

    use super::*;
    use crate::chat::{Message, RenderOptions, Template, TemplateTokens};

    /// Renders a conversation in the form of a foreign template.
    #[track_caller]
    fn check(foreign: &str, expected: &str) {
        let tokens = TemplateTokens::new([("bos_token", "<s>"), ("eos_token", "</s>")]);
        let template = Template::compile(known_template(foreign).unwrap(), tokens).unwrap();
        let messages = [
            Message::system("Be brief."),
            Message::user("Xin chào"),
            Message::assistant("Chào bạn"),
            Message::user("Hm?"),
        ];
        let text = template.render(&messages, &RenderOptions::new(SystemTime::now())).unwrap();
        assert_eq!(text, expected);
    }

    #[test]
    fn each_form_is_known_by_its_marks() {
        check(
            "{{ if .System }}<|im_start|>system\n{{ .System }}<|im_end|>\n{{ end }}",
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nXin chào<|im_end|>\n<|im_start|>assistant\n\
             Chào bạn<|im_end|>\n<|im_start|>user\nHm?<|im_end|>\n<|im_start|>assistant\n",
        );
        check(
            "{{ if .System }}<|start_header_id|>system<|end_header_id|>\n\n{{ .System }}<|eot_id|>{{ end }}",
            "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|><|start_header_id|>user\
             <|end_header_id|>\n\nXin chào<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nChào bạn\
             <|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHm?<|eot_id|><|start_header_id|>assistant\
             <|end_header_id|>\n\n",
        );
        check(
            "<start_of_turn>user\n{{ .Prompt }}<end_of_turn>",
            "<s><start_of_turn>user\nBe brief.\n\nXin chào<end_of_turn>\n<start_of_turn>model\nChào bạn<end_of_turn>\n\
             <start_of_turn>user\nHm?<end_of_turn>\n<start_of_turn>model\n",
        );
        check(
            "<|user|>\n{{ .Prompt }}<|end|>",
            "<|system|>\nBe brief.<|end|>\n<|user|>\nXin chào<|end|>\n<|assistant|>\nChào bạn<|end|>\n<|user|>\n\
             Hm?<|end|>\n<|assistant|>\n",
        );
        check(
            "<|user|>\n{{ .Prompt }}</s>",
            "<|system|>\nBe brief.</s>\n<|user|>\nXin chào</s>\n<|assistant|>\nChào bạn</s>\n<|user|>\nHm?</s>\n\
             <|assistant|>\n",
        );
        check(
            "[INST] <<SYS>>{{ .System }}<</SYS>> {{ .Prompt }} [/INST]",
            "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nXin chào [/INST] Chào bạn </s><s>[INST] Hm? [/INST]",
        );
        check(
            "[INST] {{ .System }} {{ .Prompt }} [/INST]",
            "<s>[INST] Be brief.\n\nXin chào [/INST] Chào bạn</s>[INST] Hm? [/INST]",
        );
        check(
            "{{ .System }}\nUSER: {{ .Prompt }}\nASSISTANT: ",
            "<s>Be brief.\n\nUSER: Xin chào\nASSISTANT: Chào bạn</s>\nUSER: Hm?\nASSISTANT:",
        );
        check(
            "### Instruction:\n{{ .Prompt }}\n\n### Response:\n",
            "Be brief.\n\n### Instruction:\nXin chào\n\n### Response:\nChào bạn</s>\n\n### Instruction:\nHm?\n\n\
             ### Response:\n",
        );
    }

    /// What `fixtures/tokens/tekken.py` wrote.
    #[derive(Deserialize)]
    struct Mistral {
        files: Map<String, Value>,
        vocab: Value,
        conversations: Vec<Conversation>,
    }

    #[derive(Deserialize)]
    struct Conversation {
        version: String,
        /// Role, content, and for some what was thought.
        messages: Vec<Vec<String>>,
        ids: Vec<u32>,
    }

    #[test]
    fn mistral_s_conversations_have_the_tokens_of_its_own_library() {
        let fixture: Mistral =
            serde_json::from_str(include_str!("../../../../fixtures/tokens/tekken.json")).unwrap();
        assert_eq!(fixture.conversations.len(), 17);
        for Conversation { version, messages, ids } in &fixture.conversations {
            let mut file = fixture.files[version].clone();
            file["vocab"] = fixture.vocab.clone();
            let tokenizer = Tokenizer::from_tekken(file.to_string().as_bytes()).unwrap();
            let source = mistral_template(version[1..].parse().unwrap()).unwrap();
            let tokens = TemplateTokens::new([("bos_token", "<s>"), ("eos_token", "</s>")]);
            let message = |turn: &Vec<String>| {
                let role = serde_json::from_value(turn[0].as_str().into()).unwrap();
                let message = Message::new(role, turn[1].as_str());
                turn.get(2).iter().fold(message, |message, thought| message.reasoning(thought.as_str()))
            };
            let messages: Vec<Message> = messages.iter().map(message).collect();
            let template = Template::compile(source, tokens).unwrap();
            let text = template.render(&messages, &RenderOptions::new(SystemTime::now())).unwrap();
            assert_eq!(tokenizer.encode(&text, AddSpecial::No).unwrap(), *ids, "{version}: {text}");
        }
        assert_eq!(mistral_template(15), None);
    }

    #[test]
    fn an_unknown_form_is_none() {
        assert_eq!(known_template("<|im_start|>user<|im_sep|>{{ .Prompt }}<|im_end|>"), None, "Phi-4's");
        assert_eq!(
            known_template("[SYSTEM_PROMPT]{{ .System }}[/SYSTEM_PROMPT][INST]{{ .Prompt }}[/INST]"),
            None
        );
        assert_eq!(known_template("{{ .Prompt }}"), None);
        assert_eq!(known_template(""), None);
    }
}
