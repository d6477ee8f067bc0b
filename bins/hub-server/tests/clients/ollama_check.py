"""Checks a running hub with Ollama's official client for Python. Arguments: the server's URL."""

import sys

import ollama

client = ollama.Client(host=sys.argv[1])
question = [{"role": "user", "content": "How do I import a model?"}]
greedy = {"temperature": 0}
checks = 0


def check(condition, what):
    global checks
    assert condition, what
    checks += 1


names = [model.model for model in client.list().models]
check({"hub-guide", "minilm"} <= set(names), names)
whole = client.chat(model="hub-guide", messages=question, options=greedy)
check("hub import" in whole.message.content and whole.done_reason == "stop", whole)
check(whole.eval_count > 0 and whole.total_duration > 0, whole)
pieces = client.chat(model="hub-guide:latest", messages=question, options=greedy, stream=True)
check("".join(piece.message.content for piece in pieces) == whole.message.content, "the stream says the same")
generated = client.generate(model="hub-guide", prompt=question[0]["content"], options=greedy)
check(generated.response == whole.message.content, generated)
embedded = client.embed(model="minilm", input=["Xin chào", "Hello"])
check([len(vector) for vector in embedded.embeddings] == [384, 384], "two vectors")
check(client.show("minilm").capabilities == ["embedding"], "what it can do")
check("hub-guide" in [model.model for model in client.ps().models], "it is in memory")
try:
    client.chat(model="nothing", messages=question)
    check(False, "an unknown model is refused")
except ollama.ResponseError as error:
    check(error.status_code == 404 and "hub-guide" in error.error, error)
print(f"{checks} checks passed")
