"""Writes a GGUF file of F16 weights in the shape of a real model: `random_gguf.py SHAPE OUT.gguf`.

Speed does not depend on the values, so they are random; layout, metadata and vocabulary size are the real ones'.
"""

import sys

import gguf
import numpy as np

COMMON = {"eps": 1e-5, "bias": False}
SHAPES = {
    "llama-3.2-1b": COMMON
    | {"arch": "llama", "pre": "llama-bpe", "layers": 16, "hidden": 2048, "mlp": 8192, "heads": 32, "kv_heads": 8}
    | {"head_dim": 64, "vocab": 128256, "rope_base": 5e5, "context": 131072},
    "qwen2.5-0.5b": COMMON
    | {"arch": "qwen2", "pre": "qwen2", "layers": 24, "hidden": 896, "mlp": 4864, "heads": 14, "kv_heads": 2}
    | {"head_dim": 64, "vocab": 151936, "rope_base": 1e6, "context": 32768, "eps": 1e-6, "bias": True},
    # Four of the 48 layers of Qwen3 30B-A3B: what a row goes through in each is what matters.
    "qwen3-a3b-4-layers": COMMON
    | {"arch": "qwen3moe", "pre": "qwen2", "layers": 4, "hidden": 2048, "mlp": 6144, "heads": 32, "kv_heads": 4}
    | {"head_dim": 128, "vocab": 151936, "rope_base": 1e6, "context": 40960, "eps": 1e-6}
    | {"experts": 128, "chosen": 8, "expert_mlp": 768},
}
SPECIAL = ["<|im_start|>", "<|im_end|>", "<|endoftext|>"]


def alphabet():
    """Returns the characters that stand for the 256 bytes in GPT-2's vocabularies."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [chr(256 + at) for at in range(256 - len(printable))]
    return [chr(byte) for byte in printable] + others


def write_metadata(writer, shape):
    writer.add_block_count(shape["layers"])
    writer.add_context_length(shape["context"])
    writer.add_embedding_length(shape["hidden"])
    writer.add_feed_forward_length(shape["mlp"])
    writer.add_head_count(shape["heads"])
    writer.add_head_count_kv(shape["kv_heads"])
    writer.add_key_length(shape["head_dim"])
    writer.add_value_length(shape["head_dim"])
    writer.add_rope_dimension_count(shape["head_dim"])
    writer.add_rope_freq_base(shape["rope_base"])
    writer.add_layer_norm_rms_eps(shape["eps"])
    writer.add_vocab_size(shape["vocab"])
    if "experts" in shape:
        writer.add_expert_count(shape["experts"])
        writer.add_expert_used_count(shape["chosen"])
        writer.add_expert_feed_forward_length(shape["expert_mlp"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)


def write_vocabulary(writer, shape):
    words = [*alphabet(), "ab"]
    words += [f"word{at}" for at in range(shape["vocab"] - len(words) - len(SPECIAL))]
    normal, control = gguf.TokenType.NORMAL, gguf.TokenType.CONTROL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(shape["pre"])
    writer.add_token_list(words + SPECIAL)
    writer.add_token_types([normal] * len(words) + [control] * len(SPECIAL))
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(shape["vocab"] - 3)
    writer.add_eos_token_id(shape["vocab"] - 2)


def write_tensors(writer, shape):
    rng = np.random.default_rng(5)
    hidden, mlp = shape["hidden"], shape["mlp"]
    queries, keys = shape["heads"] * shape["head_dim"], shape["kv_heads"] * shape["head_dim"]

    def matrix(name, rows, cols):
        values = rng.standard_normal((rows, cols), dtype=np.float32) * 0.02
        writer.add_tensor(f"{name}.weight", values.astype(np.float16))

    def stack(name, rows, cols):
        shape_of_all = (shape["experts"], rows, cols)
        values = rng.standard_normal(shape_of_all, dtype=np.float32) * 0.02
        writer.add_tensor(f"{name}.weight", values.astype(np.float16))

    def ones(name, count):
        writer.add_tensor(f"{name}.weight", np.ones(count, dtype=np.float32))

    matrix("token_embd", shape["vocab"], hidden)
    ones("output_norm", hidden)
    for layer in range(shape["layers"]):
        block = f"blk.{layer}"
        ones(f"{block}.attn_norm", hidden)
        ones(f"{block}.ffn_norm", hidden)
        for name, rows in [("q", queries), ("k", keys), ("v", keys)]:
            matrix(f"{block}.attn_{name}", rows, hidden)
            if shape["bias"]:
                writer.add_tensor(f"{block}.attn_{name}.bias", np.full(rows, 0.01, dtype=np.float32))
        matrix(f"{block}.attn_output", hidden, queries)
        if "experts" in shape:
            ones(f"{block}.attn_q_norm", shape["head_dim"])
            ones(f"{block}.attn_k_norm", shape["head_dim"])
            matrix(f"{block}.ffn_gate_inp", shape["experts"], hidden)
            inner = shape["expert_mlp"]
            for name, rows, cols in [("gate", inner, hidden), ("up", inner, hidden), ("down", hidden, inner)]:
                stack(f"{block}.ffn_{name}_exps", rows, cols)
            continue
        matrix(f"{block}.ffn_gate", mlp, hidden)
        matrix(f"{block}.ffn_up", mlp, hidden)
        matrix(f"{block}.ffn_down", hidden, mlp)


def main(name, path):
    shape = SHAPES[name]
    writer = gguf.GGUFWriter(path, shape["arch"])
    writer.add_name(f"{name} with random weights")
    write_metadata(writer, shape)
    write_vocabulary(writer, shape)
    write_tensors(writer, shape)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


main(*sys.argv[1:])
