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
    # Eight of the 40 layers of Qwen3.5 35B-A3B: three gated delta nets to an attention, with fewer of the experts.
    "qwen3.5-a3b-8-layers": COMMON
    | {"arch": "qwen35moe", "pre": "qwen2", "layers": 8, "hidden": 2048, "mlp": 512, "heads": 16, "kv_heads": 2}
    | {"head_dim": 256, "rotated": 64, "vocab": 151936, "rope_base": 1e7, "context": 40960, "eps": 1e-6}
    | {"experts": 64, "chosen": 8, "expert_mlp": 512, "shared_mlp": 512, "interval": 4}
    | {"net_heads": 32, "net_keys": 16, "net_dim": 128, "net_kernel": 4},
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
    writer.add_rope_dimension_count(shape.get("rotated", shape["head_dim"]))
    writer.add_rope_freq_base(shape["rope_base"])
    writer.add_layer_norm_rms_eps(shape["eps"])
    writer.add_vocab_size(shape["vocab"])
    if "experts" in shape:
        writer.add_expert_count(shape["experts"])
        writer.add_expert_used_count(shape["chosen"])
        writer.add_expert_feed_forward_length(shape["expert_mlp"])
    if "net_heads" in shape:
        writer.add_expert_shared_feed_forward_length(shape["shared_mlp"])
        writer.add_full_attention_interval(shape["interval"])
        writer.add_rope_dimension_sections([11, 11, 10, 0])
        writer.add_ssm_conv_kernel(shape["net_kernel"])
        writer.add_ssm_state_size(shape["net_dim"])
        writer.add_ssm_group_count(shape["net_keys"])
        writer.add_ssm_time_step_rank(shape["net_heads"])
        writer.add_ssm_inner_size(shape["net_heads"] * shape["net_dim"])
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

    def numbers(name, values):
        writer.add_tensor(name, np.asarray(values, dtype=np.float32))

    def hybrid_layer(block, layer):
        ones(f"{block}.post_attention_norm", hidden)
        if (layer + 1) % shape["interval"] == 0:
            for name, rows in [("q", 2 * queries), ("k", keys), ("v", keys)]:
                matrix(f"{block}.attn_{name}", rows, hidden)
            matrix(f"{block}.attn_output", hidden, queries)
            ones(f"{block}.attn_q_norm", shape["head_dim"])
            ones(f"{block}.attn_k_norm", shape["head_dim"])
        else:
            heads, dim = shape["net_heads"], shape["net_dim"]
            inner, channels = heads * dim, (heads + 2 * shape["net_keys"]) * dim
            matrix(f"{block}.attn_qkv", channels, hidden)
            matrix(f"{block}.attn_gate", inner, hidden)
            numbers(f"{block}.ssm_conv1d.weight", rng.standard_normal((channels, shape["net_kernel"])) * 0.2)
            numbers(f"{block}.ssm_dt.bias", np.ones(heads))
            numbers(f"{block}.ssm_a", -np.linspace(0.01, 1, heads))
            ones(f"{block}.ssm_norm", dim)
            matrix(f"{block}.ssm_beta", heads, hidden)
            matrix(f"{block}.ssm_alpha", heads, hidden)
            matrix(f"{block}.ssm_out", hidden, inner)
        matrix(f"{block}.ffn_gate_inp", shape["experts"], hidden)
        numbers(f"{block}.ffn_gate_inp_shexp.weight", rng.standard_normal((1, hidden)) * 0.02)
        for suffix, width, write in [("exps", shape["expert_mlp"], stack), ("shexp", shape["shared_mlp"], matrix)]:
            for name, rows, cols in [("gate", width, hidden), ("up", width, hidden), ("down", hidden, width)]:
                write(f"{block}.ffn_{name}_{suffix}", rows, cols)

    matrix("token_embd", shape["vocab"], hidden)
    ones("output_norm", hidden)
    for layer in range(shape["layers"]):
        block = f"blk.{layer}"
        ones(f"{block}.attn_norm", hidden)
        if "net_heads" in shape:
            hybrid_layer(block, layer)
            continue
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
