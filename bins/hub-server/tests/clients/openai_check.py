"""Checks a running hub with OpenAI's own Python package.

    python openai_check.py http://127.0.0.1:8484/v1 CHAT_MODEL EMBEDDING_MODEL

Prints a line a check; exits with 1 if one fails. Needs `pip install openai`.
"""

import asyncio
import json
import sys
import traceback

import openai

BASE_URL, CHAT, EMBED = sys.argv[1:4]
client = openai.OpenAI(base_url=BASE_URL, api_key="sk-anything", max_retries=0)
ASK = [{"role": "user", "content": "How do I list my models?"}]
GREEDY = {"model": CHAT, "temperature": 0, "max_tokens": 16}


def equal(found, expected):
    assert found == expected, f"{found!r} is not {expected!r}"


def raises(kind, call, param=None, code=None):
    try:
        call()
    except kind as error:
        equal(type(error), kind)
        if param:
            equal(error.param, param)
        if code:
            equal(error.code, code)
        return error
    raise AssertionError(f"no {kind.__name__}")


def chat_whole():
    answer = client.chat.completions.create(messages=ASK, **GREEDY)
    assert answer.choices[0].message.content
    equal(answer.choices[0].message.role, "assistant")
    assert answer.choices[0].finish_reason in ("stop", "length")
    equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens)


def chat_streamed():
    whole = client.chat.completions.create(messages=ASK, **GREEDY)
    stream = client.chat.completions.create(
        messages=ASK, stream=True, stream_options={"include_usage": True}, **GREEDY
    )
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    equal(text, whole.choices[0].message.content)
    equal(chunks[-1].usage.completion_tokens, whole.usage.completion_tokens)
    equal(chunks[-1].choices, [])


def chat_helper():
    with client.chat.completions.stream(messages=ASK, stream_options={"include_usage": True}, **GREEDY) as stream:
        for _ in stream:
            pass
        try:
            final = stream.get_final_completion()
        except openai.LengthFinishReasonError as cut:
            # The helper's own view of an answer that reached `max_tokens`.
            final = cut.completion
    assert final.choices[0].message.content
    assert final.usage.completion_tokens > 0


def chat_asynchronous():
    async def together():
        hub = openai.AsyncOpenAI(base_url=BASE_URL, api_key="sk-anything", max_retries=0)
        calls = [hub.chat.completions.create(messages=ASK, **GREEDY) for _ in range(8)]
        texts = [answer.choices[0].message.content for answer in await asyncio.gather(*calls)]
        equal(len(set(texts)), 1)

    asyncio.run(together())


def chat_logprobs():
    answer = client.chat.completions.create(messages=ASK, logprobs=True, top_logprobs=2, n=2, **GREEDY)
    equal([choice.index for choice in answer.choices], [0, 1])
    for token in answer.choices[1].logprobs.content:
        assert token.logprob <= 0 and token.bytes and token.top_logprobs


def chat_left():
    stream = client.chat.completions.create(messages=ASK, stream=True, **GREEDY)
    next(iter(stream))
    stream.close()
    chat_whole()


def chat_raw_headers():
    raw = client.chat.completions.with_raw_response.create(messages=ASK, **GREEDY)
    equal(raw.headers["x-hub-model"], CHAT)
    assert raw.headers["x-hub-route"] and raw.headers["x-request-id"]


def completions():
    answer = client.completions.create(prompt=["How do", "What is"], echo=True, logprobs=1, **GREEDY)
    equal(len(answer.choices), 2)
    assert answer.choices[0].text.startswith("How do")
    first = answer.choices[0].logprobs
    equal(len(first.tokens), len(first.token_logprobs))
    tokens = client.completions.create(prompt=[[5, 6, 7], [8]], **GREEDY)
    equal(tokens.usage.prompt_tokens, 4)
    stream = client.completions.create(prompt="How do", stream=True, **GREEDY)
    assert "".join(chunk.choices[0].text for chunk in stream)


def embeddings():
    texts = ["How do I list my models?", "Xin chào"]
    # Asks for base64 and decodes it.
    packed = client.embeddings.create(model=EMBED, input=texts)
    plain = client.embeddings.create(model=EMBED, input=texts, encoding_format="float")
    for a, b in zip(packed.data, plain.data, strict=True):
        equal(a.index, b.index)
        equal(len(a.embedding), len(b.embedding))
        assert max(abs(x - y) for x, y in zip(a.embedding, b.embedding)) < 1e-6
    tokens = client.embeddings.create(model=EMBED, input=[[5, 6, 7], [8]])
    equal(len(tokens.data), 2)
    equal(tokens.usage.prompt_tokens, 4)
    fewer = client.embeddings.create(model=EMBED, input="a", dimensions=2)
    equal(len(fewer.data[0].embedding), 2)


def models():
    names = [model.id for model in client.models.list()]
    assert CHAT in names and EMBED in names, names
    equal(client.models.retrieve(CHAT).id, CHAT)


def errors():
    chat = client.chat.completions.create
    raises(openai.NotFoundError, lambda: chat(model="gpt-9", messages=ASK), "model", "model_not_found")
    raises(openai.NotFoundError, lambda: client.models.retrieve("gpt-9"), "model", "model_not_found")
    raises(openai.BadRequestError, lambda: chat(messages=[], **GREEDY), "messages")
    tool = {"type": "function", "function": {"name": "now", "parameters": {}}}
    raises(openai.BadRequestError, lambda: chat(messages=ASK, tools=[tool], **GREEDY), "tools", "unsupported_parameter")
    too_long = lambda: chat(model=CHAT, messages=ASK, max_tokens=1_000_000)
    raises(openai.BadRequestError, too_long, "messages", "context_length_exceeded")
    stream = lambda: chat(model=CHAT, messages=ASK, max_tokens=1_000_000, stream=True)
    raises(openai.BadRequestError, stream, "messages", "context_length_exceeded")
    raises(openai.BadRequestError, lambda: chat(messages=ASK, **(GREEDY | {"temperature": -1})), "temperature")
    error = raises(openai.NotFoundError, lambda: client.images.generate(model=CHAT, prompt="a cat"))
    assert set(error.body) == {"message", "type", "param", "code"}, json.dumps(error.body)


CHECKS = [
    models,
    chat_whole,
    chat_streamed,
    chat_helper,
    chat_asynchronous,
    chat_logprobs,
    chat_left,
    chat_raw_headers,
    completions,
    embeddings,
    errors,
]


def main():
    failed = 0
    for check in CHECKS:
        try:
            check()
        except Exception:
            failed += 1
            print(f"openai-python {openai.__version__}: {check.__name__} failed")
            traceback.print_exc()
        else:
            print(f"openai-python {openai.__version__}: {check.__name__} ok")
    sys.exit(1 if failed else 0)


main()
