"""Whether llama.cpp reads what `hub quantize` writes as it reads its own: `written.py LLAMA_CPP LIBRARIES HUB [CASE...]`.

LLAMA_CPP is llama.cpp's source folder, LIBRARIES where it was built, HUB the program; `llama_cpp` (llama-cpp-python) must be
importable. Every tiny model of `fixtures/models` that llama.cpp's converter reads, as it is and made wide enough for blocks of
256, is written in every kind by the hub, from the F16 file of llama.cpp's converter and from the folder, and in the same kind by
llama.cpp's tool. Both files continue two prompts by 32 greedy tokens in llama.cpp.

A line says which of the hub's files differ: `tokens` if llama.cpp continues otherwise, `kinds` and `bytes` with how many tensors
have another kind or other bytes, and what was refused. A table of all comes last; errors are the root mean square of ours by
llama.cpp's, of tensors with other bytes.
"""

import collections
import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent
LLAMA_CPP, LIBRARIES, HUB = map(pathlib.Path, sys.argv[1:4])
os.environ["LLAMA_CPP_LIB_PATH"] = str(LIBRARIES)
sys.path[:0] = [str(HERE), str(LLAMA_CPP), str(LLAMA_CPP / "gguf-py")]

import gguf
import llama_cpp
import numpy as np
from gguf.quants import dequantize

import wide
from wide import convert

KINDS = ["F16", "Q8_0", "Q4_0", "Q4_K_M", "Q5_K_M", "Q6_K"]
PROMPTS = np.random.default_rng(11).integers(4, 380, 12).tolist(), np.random.default_rng(12).integers(4, 380, 160).tolist()
NEW_TOKENS = 32
# Their Python says otherwise what the file says, if not told; one thread does not wait for another.
OF_THE_FILE = {"yarn_beta_fast": -1.0, "yarn_beta_slow": -1.0, "n_threads": 1, "n_threads_batch": 1}


def continued(path):
    """The greedy tokens after each prompt, or what llama.cpp says instead."""
    try:
        model = llama_cpp.Llama(str(path), n_ctx=256, n_batch=256, **OF_THE_FILE, logits_all=True, verbose=False)
    except ValueError as failed:
        return str(failed).partition(":")[0]
    found = []
    for prompt in PROMPTS:
        model.reset()
        model._ctx.kv_cache_clear()
        step, count = prompt, 0
        for _ in range(NEW_TOKENS):
            model.eval(step)
            count += len(step)
            step = [int(model.scores[count - 1].argmax())]
            found += step
    model.close()
    return found


def last_line(told):
    return (told.stderr.strip().splitlines() or ["it failed"])[-1]


def hub(source, out, kind, home):
    told = subprocess.run([HUB, "quantize", source, "--to", kind.lower(), "--output", out, "--overwrite"], capture_output=True, text=True, env={**os.environ, "HUB_HOME": str(home)})
    return None if told.returncode == 0 else last_line(told)


def llama_quantize(source, out, kind):
    told = subprocess.run([LIBRARIES / "llama-quantize", source, out, kind, "2"], capture_output=True, text=True)
    return None if told.returncode == 0 else last_line(told)


def tensors(path):
    return {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}


def distance(tensor, exact):
    """The root of the mean squared error."""
    values = (dequantize(each.data, each.tensor_type).astype(np.float64) for each in (tensor, exact))
    return float(np.square(next(values) - next(values)).mean() ** 0.5)


def compare(ours, theirs, f16, reference):
    """What is different about our file, and how far its tensors are from their numbers beside llama.cpp's."""
    left, right, exact = tensors(ours), tensors(theirs), tensors(f16)
    found = []
    if names := sorted(left.keys() ^ right.keys()):
        found.append(f"names {' '.join(names[:4])}")
    shared = left.keys() & right.keys()
    kinds = [name for name in shared if left[name].tensor_type != right[name].tensor_type]
    values = [name for name in shared if name not in kinds and left[name].data.tobytes() != right[name].data.tobytes()]
    found += [f"{what} {len(of)}/{len(shared)} ({min(of)})" for what, of in (("kinds", kinds), ("bytes", values)) if of]
    errors = [distance(left[name], exact[name]) / distance(right[name], exact[name]) for name in values if right[name].n_bytes < exact[name].n_bytes]
    mine = continued(ours)
    if isinstance(mine, str):
        found.append(f"llama.cpp: {mine}")
    elif mine != reference:
        same = sum(a == b for a, b in zip(mine, reference))
        found.append(f"tokens {len(mine) - same}/{len(mine)}")
    return found, errors


def check(name, width, place, counts, errors):
    """All kinds of one model."""
    folder, f16, ours = place / width, place / f"{width}.gguf", place / "ours.gguf"
    wide.write_f16(name, folder, f16)
    for kind in KINDS:
        theirs = f16 if kind == "F16" else place / "theirs.gguf"
        if refused := None if kind == "F16" else llama_quantize(f16, theirs, kind):
            print(f"{name:20} {width:6} {kind:7} llama-quantize: {refused[:80]}", flush=True)
            continue
        reference = continued(theirs)
        if isinstance(reference, str):
            print(f"{name:20} {width:6} llama.cpp of its own file: {reference}", flush=True)
            return
        for what, source in (("file", f16), ("folder", folder)):
            if refused := hub(source, ours, kind, place / "home"):
                print(f"{name:20} {width:6} {what:6} {kind:7} the hub: {refused}", flush=True)
                counts[width, what, kind, "refused"] += 1
                continue
            different, far = compare(ours, theirs, f16, reference)
            errors[width, what, kind] += far
            counts[width, what, kind, "files"] += 1
            counts[width, what, kind, "same tokens"] += not any(text.startswith(("tokens", "llama.cpp")) for text in different)
            counts[width, what, kind, "same bytes"] += not any(text.startswith(("names", "kinds", "bytes")) for text in different)
            if different:
                print(f"{name:20} {width:6} {what:6} {kind:7} {'; '.join(different)}", flush=True)


def table(counts, errors):
    print("\n| model | made of | kind | refused | files | same tokens | same bytes | error of other tensors: median | largest |\n" + "| --- " * 9 + "|")
    for width in ("narrow", "wide"):
        for what in ("file", "folder"):
            for kind in KINDS:
                cells = [str(counts[width, what, kind, part]) for part in ("refused", "files", "same tokens", "same bytes")]
                far = errors[width, what, kind]
                cells += [f"{np.median(far):.3f}", f"{max(far):.3f}"] if far else ["", ""]
                print(f"| {width} | {what} | {kind} | " + " | ".join(cells) + " |")


def main():
    counts, errors = collections.Counter(), collections.defaultdict(list)
    for name in sys.argv[4:] or wide.names():
        with tempfile.TemporaryDirectory() as temporary:
            place = pathlib.Path(temporary)
            convert.write_folder(name, place / "narrow")
            wide.write_folder(name, place / "wide")
            for width in ("narrow", "wide"):
                check(name, width, place, counts, errors)
    table(counts, errors)


main()
