"""Texts a second of several engines over one model, in turns.

`embeddings.py MODEL_FOLDER CORPUS HUB_URL LLAMA_EMBEDDING CONVERT_SCRIPT WORK_FOLDER ROUNDS THREADS`:
sentence-transformers (PyTorch), ONNX Runtime over an export of the same module, the hub over HTTP, and llama.cpp over a
conversion to F32. All get the same texts, 32 at a time where they take batches, and must find the same vectors.
"""

import json
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from sentence_transformers import SentenceTransformer

BATCH = 32
WORDS = 60
TEXTS = 128


def texts_of(corpus):
    words = Path(corpus).read_text().split()
    return [" ".join(words[(7 * at + step) % len(words)] for step in range(WORDS)) for at in range(TEXTS)]


def batches(texts):
    return [texts[at : at + BATCH] for at in range(0, len(texts), BATCH)]


def with_torch(model):
    return lambda texts: model.encode(texts, batch_size=BATCH, normalize_embeddings=True)


def with_onnx(model, folder, threads):
    transformer = model[0].auto_model
    path = Path(folder) / "model.onnx"
    names = ["input_ids", "attention_mask", "token_type_ids"]
    if not path.exists():
        example = dict(model.tokenizer(["a text", "another, longer text"], padding=True, return_tensors="pt"))
        axes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
        inputs = {name: example[name] for name in names}
        torch.onnx.export(
            transformer, (), path, kwargs=inputs, dynamic_shapes={name: axes for name in names}, dynamo=True
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def embed(texts):
        found = []
        # As sentence-transformers does: texts of like length go together.
        order = np.argsort([len(text) for text in texts])
        for batch in batches([texts[at] for at in order]):
            tokens = model.tokenizer(batch, padding=True, truncation=True, max_length=256, return_tensors="np")
            hidden = session.run(None, {name: tokens[name].astype(np.int64) for name in names})[0]
            mask = tokens["attention_mask"][..., None]
            mean = (hidden * mask).sum(1) / mask.sum(1)
            found.append(mean / np.linalg.norm(mean, axis=1, keepdims=True))
        vectors = np.empty((len(texts), found[0].shape[1]), dtype=np.float32)
        vectors[order] = np.concatenate(found)
        return vectors

    return embed


def with_hub(url):
    def embed(texts):
        found = []
        for batch in batches(texts):
            body = json.dumps({"model": "subject", "input": batch}).encode()
            request = urllib.request.Request(f"{url}/v1/embeddings", body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(request) as answer:
                found += [entry["embedding"] for entry in json.load(answer)["data"]]
        return np.array(found, dtype=np.float32)

    return embed


def llama_cpp_rate(program, file, texts, threads):
    """Returns texts a second, without what starting and loading take: a run with one text is taken off."""
    command = [program, "-m", file, "-t", str(threads), "--embd-separator", "<#sep#>", "-b", "4096", "-ub", "4096"]
    command += ["-c", "4096", "--embd-output-format", "json", "--no-warmup"]

    def run(texts):
        start = time.perf_counter()
        done = subprocess.run([*command, "-p", "<#sep#>".join(texts)], capture_output=True, text=True, check=True)
        return time.perf_counter() - start, json.loads(done.stdout)["data"]

    (alone, _), (together, found) = run(texts[:1]), run(texts)
    vectors = np.array([entry["embedding"] for entry in found], dtype=np.float32)
    return (len(texts) - 1) / (together - alone), vectors


def main(model_folder, corpus, url, program, convert, folder, rounds, threads):
    threads = int(threads)
    torch.set_num_threads(threads)
    model = SentenceTransformer(model_folder, device="cpu")
    texts = texts_of(corpus)
    gguf = Path(folder) / "minilm-f32.gguf"
    if not gguf.exists():
        subprocess.run([sys.executable, convert, model_folder, "--outtype", "f32", "--outfile", gguf], check=True)
    engines = {
        "sentence-transformers": with_torch(model),
        "ONNX Runtime": with_onnx(model, folder, threads),
        "hub": with_hub(url),
    }
    expected = engines["sentence-transformers"](texts)
    least, rates = {}, {name: [] for name in [*engines, "llama.cpp"]}

    def note(name, rate, vectors):
        norms = np.linalg.norm(vectors, axis=1)
        least[name] = float(np.min((vectors * expected).sum(1) / norms))
        rates[name].append(rate)

    for name, embed in engines.items():
        embed(texts[:BATCH])
    for _ in range(int(rounds)):
        for name, embed in engines.items():
            start = time.perf_counter()
            vectors = embed(texts)
            note(name, len(texts) / (time.perf_counter() - start), vectors)
        note("llama.cpp", *llama_cpp_rate(program, str(gguf), texts, threads))
    tokens = sum(len(ids) for ids in model.tokenizer(texts)["input_ids"])
    print(f"\n{len(texts)} texts, {tokens} tokens, threads: {threads}, rounds: {rounds}\n")
    print("| engine | texts/s (spread) | hub is ahead by | least cosine |\n| --- | ---: | ---: | ---: |")
    for name, all_rates in rates.items():
        ratio = statistics.median(hub / other for hub, other in zip(rates["hub"], all_rates))
        middle = statistics.median(all_rates)
        print(f"| {name} | {middle:.1f} ({min(all_rates):.1f}–{max(all_rates):.1f}) | {ratio:.2f} × | {least[name]:.6f} |")


main(*sys.argv[1:])
