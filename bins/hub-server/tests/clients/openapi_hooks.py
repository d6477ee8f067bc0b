"""What schemathesis is told of a hub beside /openapi.json: which models there are, and to keep answers short."""

import collections
import json
import re

import schemathesis

CHAT = "hub-guide"
EMBED = "minilm"
EMBEDDING = ("/v1/embeddings", "/api/embed", "/api/embeddings")
OPENAI = ("/v1/chat/completions", "/v1/completions")
OLLAMA = ("/api/chat", "/api/generate")

# Answers take longer than anything else: of the requests that are allowed, one in so many gets one. The others ask for
# a model that is not there, which is found out when all else was read.
ANSWERED = 3
asked = collections.Counter()

# Numbers that only make an answer longer, and the largest that is still quick.
MOST = {"max_tokens": 2, "max_completion_tokens": 2, "n_predict": 2, "num_predict": 2, "n": 2, "min_tokens": 1}

# Why a request that fits the document may be refused all the same: it says two things at once, or asks for what the
# model does not have. Everything else that is refused must be refused by the document, too.
REASONS = re.compile(
    r"(another|old) name of"
    r"|needs `\"(stream|logprobs)\": true`"
    r"|`logit_bias` maps token ids"
    r"|`best_of` other than `n`"
    r"|`min_tokens` must be"
    r"|`dimensions` must be 1 to \d+"
    r"|and this model makes one vector of a text"
    r"|and the model's files name "
    r"|`instruction` "
    r"|cannot (chat|embed|rerank); it can"
    r"|outside the vocabulary of \d+"
    r"|the prompt is empty"
    r"|names no source"
    # Of a name and its older name one may be empty, not both.
    r"|`model` is missing"
)


@schemathesis.hook
def before_call(context, case, kwargs):
    body = case.body
    if not isinstance(body, dict):
        return
    # What is no text is there to be refused, and stays as it is.
    if isinstance(body.get("model"), str) and body["model"]:
        body["model"] = EMBED if case.path in EMBEDDING else CHAT
        if case.path in OPENAI + OLLAMA and case.meta and case.meta.generation.mode.is_positive:
            asked[case.path] += 1
            if asked[case.path] % ANSWERED != 1:
                body["model"] = "nothing"
    if case.path in OPENAI and body.get("max_completion_tokens") is None and body.get("n_predict") is None:
        body.setdefault("max_tokens", 2)
    if case.path in OLLAMA and isinstance(body.setdefault("options", {}), dict):
        body["options"].setdefault("num_predict", 2)
    for fields in (body, body.get("options")):
        if isinstance(fields, dict):
            for name, most in MOST.items():
                value = fields.get(name)
                is_whole = type(value) is int or (type(value) is float and value.is_integer())
                if is_whole and most < value <= (128 if name == "n" else 1 << 30):
                    fields[name] = most


@schemathesis.deserializer("text/event-stream")
def events(context, response):
    """Returns what the events carry: the schema in the document is that of one."""
    found = []
    for event in response.content.decode().split("\n\n"):
        if event.startswith("data: ") and event != "data: [DONE]":
            found.append(json.loads(event.removeprefix("data: ")))
    return found


@schemathesis.deserializer("application/x-ndjson")
def last_line(context, response):
    """Returns the last line, which has the most in it."""
    return json.loads(response.content.decode().splitlines()[-1])


@schemathesis.check
def refused_for_a_reason(context, response, case):
    if case.meta is None or not case.meta.generation.mode.is_positive or response.status_code != 400:
        return
    error = response.json()["error"]
    message = error if isinstance(error, str) else error["message"]
    assert REASONS.search(message), f"the document allows what is refused: {message}"
