"""How far quantized models are from their own weights in f32, here and in llama.cpp: `divergence.py LLAMA_CPP LIBRARIES [CASE...]`.

LLAMA_CPP is llama.cpp's source folder, LIBRARIES where it was built; `llama_cpp` (llama-cpp-python) must be importable. For
each tiny model of `fixtures/models`, made wide enough for blocks of 256: converts it with llama.cpp's converter, quantizes it
with its tool, and prints the mean Kullback-Leibler divergence of 1,024 positions to the same weights as f32: llama.cpp's logits
to llama.cpp's, and ours to ours (`cargo bench --bench quality`).
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent
MODELS = HERE.parent / "fixtures" / "models"
LLAMA_CPP, LIBRARIES = map(pathlib.Path, sys.argv[1:3])
os.environ["LLAMA_CPP_LIB_PATH"] = str(LIBRARIES)
sys.path[:0] = [str(MODELS), str(LLAMA_CPP), str(LLAMA_CPP / "gguf-py")]

import conversion
import gguf
import llama_cpp
import numpy as np
import safetensors.torch
import shutil
import torch
from conversion.base import ModelBase, ModelType, TextModel

import convert
import draw
from cases import CASES
from expect import list_tensors, read_config

WIDE = {"hidden_size": 256, "intermediate_size": 512, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64}
EXPERTS = {"moe_intermediate_size": 256}
OVERRIDES = {
    "llama31": {},
    "mistral-head-dim": {},
    "qwen2": {},
    "qwen3": {},
    "gemma2": {"query_pre_attn_scalar": 64},
    "gemma3": {"query_pre_attn_scalar": 64},
    "phi3": {"num_key_value_heads": 4},
    "olmo2": {},
    "exaone4": {},
    "glm4": {},
    "cohere2": {},
    "starcoder2": {},
    "smollm3": {},
    "granite": {},
    "lfm2": {"block_ff_dim": 512},
    "qwen3-moe": EXPERTS,
    "mixtral": {},
    "gpt-oss": {},
    "granite-moe": {},
}
KINDS = ["Q8_0", "Q4_K_M", "IQ4_XS"]
MIXTURE_KINDS = ["MXFP4_MOE"]
SMALL_KINDS = ["IQ3_S", "IQ3_XXS", "IQ2_S", "IQ2_XS", "IQ2_XXS"]
MIXTURES = {"qwen3-moe", "mixtral", "gpt-oss", "granite-moe"}
PIECE, PIECES = 512, 4


def write_folder(name, folder):
    case = CASES[name]
    listing = json.loads((MODELS / name / "tensors.json").read_text())
    shutil.copytree(MODELS / "tokenizers" / listing["tokenizer"], folder, ignore=shutil.ignore_patterns("expected.json"))
    config = read_config(MODELS / name / "config-v4.json", {**WIDE, **OVERRIDES[name]})
    config.architectures = [case.architecture]
    config.save_pretrained(folder)
    tensors = {entry["name"]: torch.from_numpy(draw.draw(**entry)).to(torch.bfloat16) for entry in list_tensors(case, config)}
    safetensors.torch.save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def write_f16(name, folder, out):
    TextModel.get_vocab_base_pre = lambda self, tokenizer: convert.PRE_TOKENIZERS[CASES[name].tokenizer]
    architecture = conversion.get_model_architecture(ModelBase.load_hparams(folder, False), ModelType.TEXT)
    converter = conversion.get_model_class(architecture)
    if name in convert.PLAIN_VOCABULARY:
        converter.set_vocab = converter._set_vocab_gpt2
    with torch.inference_mode():
        converter(folder, gguf.LlamaFileType.MOSTLY_F16, out).write()


def write_importance(source, out):
    """Every input counts alike."""
    writer = gguf.GGUFWriter(out, "imatrix")
    writer.add_string("general.type", "imatrix")
    writer.add_array("imatrix.datasets", ["ones"])
    writer.add_uint32("imatrix.chunk_count", 1)
    writer.add_uint32("imatrix.chunk_size", 512)
    for tensor in gguf.GGUFReader(source).tensors:
        if len(tensor.shape) >= 2:
            width, experts = int(tensor.shape[0]), int(tensor.shape[2]) if len(tensor.shape) > 2 else 1
            writer.add_tensor(f"{tensor.name}.in_sum2", np.ones((experts, width), dtype=np.float32))
            writer.add_tensor(f"{tensor.name}.counts", np.ones((experts, 1), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def their_logits(path, tokens, cache):
    model = llama_cpp.Llama(str(path), n_ctx=PIECE, n_batch=PIECE, logits_all=True, verbose=False, type_k=cache, type_v=cache)
    found = []
    for start in range(0, len(tokens), PIECE):
        model.reset()
        model.eval(tokens[start : start + PIECE])
        found.append(np.array(model.scores[PIECE // 2 : PIECE], dtype=np.float64))
    model.close()
    return np.concatenate(found)


def divergence(reference, found):
    def logarithms(logits):
        shifted = logits - logits.max(axis=1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))

    left, right = logarithms(reference), logarithms(found)
    found = (np.exp(left) * (left - right)).sum(axis=1)
    return float(found.mean()), float(np.median(found))


def build():
    """Builds the benchmark, and returns where it is."""
    command = ["cargo", "bench", "-q", "-p", "hub-benches", "--bench", "quality", "--no-run", "--message-format", "json"]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [made["executable"] for made in map(json.loads, told.splitlines()) if made.get("executable")][-1]


def ours(bench, path, tokens, plain):
    told = subprocess.run([bench, path, tokens, plain], check=True, capture_output=True, text=True).stdout
    rows = re.findall(r"(cpu, cache \w+) +\S+ +(\S+) +(\S+)", told)
    return {name: (float(mean), float(median)) for name, mean, median in rows}


def main():
    bench = build()
    tokens = [int(token) for token in np.random.default_rng(9).integers(4, 380, PIECE * PIECES)]
    print("means of divergences with caches of f16 and f32, and their medians with f32; ratios are ours to theirs with f32", flush=True)
    print(f"{'model':18} {'kind':10} {'theirs':>9} {'ours':>9} {'theirs':>9} {'ours':>9} {'ratio':>6} {'theirs':>9} {'ours':>9} {'ratio':>6}", flush=True)
    for name in sys.argv[3:] or OVERRIDES:
        with tempfile.TemporaryDirectory() as temporary:
            place = pathlib.Path(temporary)
            write_folder(name, place / "tiny")
            f16, ids = place / "f16.gguf", place / "ids.json"
            write_f16(name, place / "tiny", f16)
            ids.write_text(json.dumps(tokens))
            importance = place / "imatrix.gguf"
            write_importance(f16, importance)
            for kind in [*KINDS, *(MIXTURE_KINDS if name in MIXTURES else []), *SMALL_KINDS]:
                few, plain = place / "few.gguf", place / "plain.gguf"
                quantize = [LIBRARIES / "llama-quantize", "--imatrix", importance, f16, few, kind, "2"]
                made = subprocess.run(quantize, capture_output=True, text=True)
                if made.returncode != 0:
                    print(f"{name:18} {kind:10} llama-quantize refuses: {made.stderr.strip().splitlines()[-1][:80]}", flush=True)
                    continue
                subprocess.run([sys.executable, HERE / "plain.py", few, plain], check=True)
                theirs = [divergence(their_logits(plain, tokens, 0), their_logits(few, tokens, cache)) for cache in (1, 0)]
                found = ours(bench, few, ids, plain)
                (few16, _), (few32, middle32) = theirs
                (own16, _), (own32, own_middle32) = found["cpu, cache f16"], found["cpu, cache f32"]
                print(
                    f"{name:18} {kind:10} {few16:9.2e} {own16:9.2e} {few32:9.2e} {own32:9.2e} {own32 / few32:6.2f}"
                    f" {middle32:9.2e} {own_middle32:9.2e} {own_middle32 / middle32:6.2f}",
                    flush=True,
                )


main()
