"""How far quantized models are from their own weights in f32, here and in llama.cpp: `divergence.py LLAMA_CPP LIBRARIES [CASE...]`.

LLAMA_CPP is llama.cpp's source folder, LIBRARIES where it was built; `llama_cpp` (llama-cpp-python) must be importable.
Every tiny model of `fixtures/models` that llama.cpp's converter reads is made wide enough for blocks of 256, converted to
F16 and quantized with its tool to each kind. Of every row of logits the Kullback-Leibler divergence to those of the same
weights as f32 is taken, llama.cpp's to llama.cpp's and ours to ours (`logits.rs`), with caches of f32 and of f16.

A line has the means and the ratio of ours to theirs with its standard error (caches of f32), and the ratio of the medians:
where experts are chosen or a row is capped, a few rows hold most of the mean. `agree` is the largest divergence of
llama.cpp's f32 logits from ours, which would show that the two read a file differently. Tables as in `docs/quality.md` come last.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent
LLAMA_CPP, LIBRARIES = map(pathlib.Path, sys.argv[1:3])
os.environ["LLAMA_CPP_LIB_PATH"] = str(LIBRARIES)
sys.path[:0] = [str(HERE), str(LLAMA_CPP), str(LLAMA_CPP / "gguf-py")]

import gguf
import llama_cpp
import numpy as np

import wide
from plain import write_plain

KINDS = ["F16", "Q8_0", "Q4_K_M", "IQ4_XS", "MXFP4_MOE", "IQ3_S", "IQ3_XXS", "IQ2_S", "IQ2_XS", "IQ2_XXS"]
F32, F16 = 0, 1
# Their Python says otherwise what the file says, if not told; one thread does not wait for another.
OF_THE_FILE = {"yarn_beta_fast": -1.0, "yarn_beta_slow": -1.0, "n_threads": 1, "n_threads_batch": 1}
LENGTH = 512
# Where experts are chosen, a rounding that turns a choice moves the whole row; more rows make up for it.
TEXTS, TEXTS_OF_MIXTURES = 2, 5
# Neighbouring rows share what they attend to.
TOGETHER = 16


def write_importance(source, out):
    """Every input counts alike."""
    writer = gguf.GGUFWriter(out, "imatrix")
    writer.add_string("general.type", "imatrix")
    writer.add_array("imatrix.datasets", ["ones"])
    writer.add_uint32("imatrix.chunk_count", 1)
    writer.add_uint32("imatrix.chunk_size", LENGTH)
    for tensor in gguf.GGUFReader(source).tensors:
        if len(tensor.shape) >= 2:
            width, experts = int(tensor.shape[0]), int(tensor.shape[2]) if len(tensor.shape) > 2 else 1
            writer.add_tensor(f"{tensor.name}.in_sum2", np.ones((experts, width), dtype=np.float32))
            writer.add_tensor(f"{tensor.name}.counts", np.ones((experts, 1), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def their_logits(path, texts, cache):
    model = llama_cpp.Llama(str(path), n_ctx=LENGTH, n_batch=LENGTH, **OF_THE_FILE, logits_all=True, verbose=False, type_k=cache, type_v=cache)
    found = []
    for text in texts:
        model.reset()
        model._ctx.kv_cache_clear()
        model.eval(text)
        found.append(np.array(model.scores[: len(text)], dtype=np.float32))
    model.close()
    return np.concatenate(found)


def our_logits(bench, path, ids, out, *how):
    subprocess.run([bench, path, ids, out, *how], check=True, capture_output=True, text=True)
    return np.fromfile(out, dtype=np.float32).reshape(sum(map(len, json.loads(ids.read_text()))), -1)


def divergences(reference, found):
    """Of every row, in nats."""

    def logarithms(logits):
        shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))

    left, right = logarithms(reference), logarithms(found)
    return (np.exp(left) * (left - right)).sum(axis=1)


def ratio(ours, theirs):
    """The ratio of the means, with its standard error."""
    ours, theirs = (rows.reshape(-1, TOGETHER).mean(axis=1) for rows in (ours, theirs))
    value = ours.mean() / theirs.mean()
    return value, (ours - value * theirs).std() / theirs.mean() / len(ours) ** 0.5


def build():
    """Builds the benchmark, and returns where it is."""
    command = ["cargo", "bench", "-q", "-p", "hub-benches", "--bench", "logits", "--no-run", "--message-format", "json"]
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [made["executable"] for made in map(json.loads, told.splitlines()) if made.get("executable")][-1]


def quantize(place, kind):
    """The file of a kind, or the last line of what llama.cpp says instead."""
    if kind == "F16":
        return place / "f16.gguf", None
    few = place / "few.gguf"
    command = [LIBRARIES / "llama-quantize", "--imatrix", place / "imatrix.gguf", place / "f16.gguf", few, kind, "2"]
    made = subprocess.run(command, capture_output=True, text=True)
    return few, None if made.returncode == 0 else (made.stderr.strip().splitlines() or ["it failed"])[-1]


def measure(bench, place, few, texts):
    plain, ids, out = place / "plain.gguf", place / "ids.json", place / "logits"
    ids.write_text(json.dumps(texts))
    write_plain(few, plain)
    exact, our_exact = their_logits(plain, texts, F32), our_logits(bench, plain, ids, out, "candle")
    found = {"agree": float(divergences(our_exact, exact).max())}
    for cache, name in ((F32, "f32"), (F16, "f16")):
        found[f"theirs {name}"] = divergences(exact, their_logits(few, texts, cache))
        found[f"ours {name}"] = divergences(our_exact, our_logits(bench, few, ids, out, "cpu", name))
    return found


def line(name, kind, found):
    means = [found[f"{who} {cache}"].mean() for cache in ("f32", "f16") for who in ("theirs", "ours")]
    value, error = ratio(found["ours f32"], found["theirs f32"])
    middle = np.median(found["ours f32"]) / np.median(found["theirs f32"])
    text = f"{name:20} {kind:10}" + "".join(f" {mean:10.2e}" for mean in means) + f" {value:6.2f} ±{error:5.2f} {middle:6.2f} {found['agree']:9.1e}"
    return text, (value, error, middle, found["agree"])


def cell(value, error, *_):
    return f"{value:.2f}" + (f" ± {error:.2f}" if error >= 0.03 else "")


def table(results):
    """Ratios of means by model and kind, and what stands out by kind, in Markdown."""
    kinds = KINDS[1:]
    print("\n| tiny model | " + " | ".join(kinds) + " | f32 |\n| --- |" + " ---: |" * (len(kinds) + 1))
    for name in dict.fromkeys(name for name, _ in results):
        cells = [cell(*results[name, kind]) if (name, kind) in results else "" for kind in kinds]
        cells.append(f"{max(row[3] for (other, _), row in results.items() if other == name):.0e}")
        print(f"| {name} | " + " | ".join(cells) + " |")
    print("\n| kind | models | ratio of means: median | largest | ratio of medians: median | largest |\n| --- | --- | --- | --- | --- | --- |")
    for kind in KINDS:
        of = {name: row for (name, other), row in results.items() if other == kind}
        if of:
            mean, middle = (max(of, key=lambda name, at=at: of[name][at]) for at in (0, 2))
            medians = [np.median([row[at] for row in of.values()]) for at in (0, 2)]
            print(f"| {kind} | {len(of)} | {medians[0]:.3f} | {of[mean][0]:.2f} ± {of[mean][1]:.2f} ({mean}) | {medians[1]:.3f} | {of[middle][2]:.2f} ({middle}) |")


def main():
    bench = build()
    tokens = np.random.default_rng(9).integers(4, 380, (TEXTS_OF_MIXTURES, LENGTH)).tolist()
    print(f"{'model':20} {'kind':10} {'theirs f32':>10} {'ours f32':>10} {'theirs f16':>10} {'ours f16':>10} {'ratio of means':>13} {'medians':>7} {'agree':>8}", flush=True)
    results = {}
    for name in sys.argv[3:] or wide.names():
        with tempfile.TemporaryDirectory() as temporary:
            place = pathlib.Path(temporary)
            wide.write_folder(name, place / "folder")
            wide.write_f16(name, place / "folder", place / "f16.gguf")
            write_importance(place / "f16.gguf", place / "imatrix.gguf")
            is_mixture = any(tensor.name.endswith("_exps.weight") for tensor in gguf.GGUFReader(place / "f16.gguf").tensors)
            texts = tokens[: TEXTS_OF_MIXTURES if is_mixture else TEXTS]
            for kind in KINDS:
                if kind == "MXFP4_MOE" and not is_mixture:
                    continue
                few, refused = quantize(place, kind)
                if refused:
                    print(f"{name:20} {kind:10} llama-quantize: {refused[:90]}", flush=True)
                    continue
                try:
                    text, results[name, kind] = line(name, kind, measure(bench, place, few, texts))
                except subprocess.CalledProcessError as failed:
                    text = f"{name:20} {kind:10} the hub: {failed.stderr.strip()[-200:]}"
                except ValueError as failed:
                    text = f"{name:20} {kind:10} llama.cpp: {failed}"
                print(text, flush=True)
    table(results)


main()
