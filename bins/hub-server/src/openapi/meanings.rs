/// What fields of requests mean, by name: a name means the same wherever it stands.
static MEANINGS: &[(&str, &str)] = &[
    ("best_of", "As `n`; any other value is refused."),
    ("chat_template_kwargs", "What the chat template is told."),
    ("content", "What is said: a text, or parts whose texts are put together."),
    ("dimensions", "The length of the vectors, for models that can shorten theirs."),
    ("documents", "What is scored against the query."),
    ("echo", "Whether the prompt comes back before the answer."),
    ("encoding_format", "How vectors are written: as numbers, or as base64 of little-endian `f32`."),
    ("file", "The name of the file."),
    ("frequency_penalty", "Taken from the score of a token as often as it has come."),
    ("id", "The name of the model; its slashes may be written as they are."),
    ("ignore_eos", "Whether the answer goes on where the model would end it."),
    ("include_usage", "Whether the last event tells the usage."),
    ("input", "What is turned into vectors: one text or several, or token ids."),
    ("instruction", "What a model that judges looks for, in place of what its files say."),
    (
        "keep_alive",
        "How long the model stays in memory after the answer: `30m`, or seconds; 0 is not at all, a negative number \
         forever.",
    ),
    ("logit_bias", "Token ids, and from -100 to 100 what is added to their scores."),
    (
        "logprobs",
        "Whether the probabilities of tokens are told; as a number, also of so many likeliest ones.",
    ),
    ("max_completion_tokens", "The longest answer, in tokens."),
    ("max_tokens", "The longest answer, in tokens."),
    ("messages", "The conversation so far."),
    ("min_p", "Tokens less likely than this share of the likeliest one's probability are left out."),
    ("min_tokens", "The shortest answer, in tokens."),
    ("model", "The name of an installed model or of an alias."),
    ("multi_vector", "Whether a vector for each token comes as well, from models that make them (bge-m3)."),
    ("n", "The number of answers to each prompt."),
    ("n_predict", "Another name of `max_tokens`; -1 is no limit."),
    ("name", "A name."),
    ("num_predict", "The longest answer, in tokens; -1 and -2 are no limit."),
    ("options", "How the answer is generated."),
    ("presence_penalty", "Taken from the score of every token that has come."),
    ("prompt", "What is gone on with."),
    (
        "prompt_name",
        "Which of the prompts that the model's files name stands before texts: `query`, `document`, or another name.",
    ),
    ("query", "What the documents are scored against."),
    ("raw", "Whether the prompt goes to the model without its chat template."),
    ("reasoning", "What was thought before the answer."),
    ("reasoning_content", "Another name of `reasoning`."),
    ("reasoning_effort", "How much the model thinks, if its template knows degrees; `none` is not at all."),
    ("repeat_penalty", "Another name of `repetition_penalty`."),
    ("repetition_penalty", "Divides the scores of tokens that have come; 1 changes nothing."),
    ("return_documents", "Whether the documents come back with their scores."),
    ("role", "Who says it."),
    ("seed", "The same seed gives the same answer."),
    ("sha256", "What the file must hash to; needed for `https://` sources."),
    ("source", "Where it comes from: `hf:ORG/REPO[:QUANT]`, `ollama:NAME[:TAG]`, or an `https://` address."),
    ("sparse", "Whether the weight of each token comes as well, from models that have them (bge-m3)."),
    ("stop", "Texts that end the answer: at most 64, of 1 to 1024 bytes."),
    ("stream", "Whether the answer is sent while it is generated."),
    ("stream_options", "Options of the stream; only with `\"stream\": true`."),
    ("system", "What the model is told before the prompt."),
    ("temperature", "How freely tokens are drawn; 0 takes the likeliest."),
    ("text", "The text."),
    ("think", "Whether the model thinks before it answers, or how much."),
    ("thinking", "Another name of `reasoning`."),
    ("timings", "Whether the answer tells how long queue, prompt and answer took."),
    ("timings_per_token", "Another name of `timings`, which are told once."),
    ("top_k", "Tokens are drawn from so many likeliest ones; 0 is no limit, and so is -1 in OpenAI's API."),
    (
        "top_logprobs",
        "Of how many likeliest tokens the probabilities are told; only with `\"logprobs\": true`.",
    ),
    ("top_n", "How many documents come back, best first."),
    ("top_p", "Tokens are drawn from the likeliest ones that have this probability together."),
    ("truncate", "Whether what is too long is cut; otherwise it is refused."),
    ("type", "The kind of the part."),
    ("verbose", "Accepted; changes nothing."),
];

/// Returns what a field means.
pub(crate) fn meaning(name: &str) -> Option<&'static str> {
    MEANINGS.iter().find(|(known, _)| *known == name).map(|(_, meaning)| *meaning)
}

/// Returns the names of all fields that mean something.
#[cfg(test)]
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    MEANINGS.iter().map(|(name, _)| *name)
}
