"""The model as a GGUF file, written and read the way llama.cpp's Llama architecture expects it."""

import gguf
import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM

NAME = "hub-guide"
PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"

# The way Qwen2 cuts text into words, which GGUF files call "qwen2".
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# (name in the file, name in transformers) of a layer's tensors.
LAYER = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
]


def new_tokenizer(model):
    """Wraps a BPE model with the cutting and the byte alphabet that the file names."""
    from tokenizers import Regex

    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def names(layers):
    """Pairs every tensor's name in the file with its name in transformers."""
    yield "token_embd.weight", "model.embed_tokens.weight"
    yield "output_norm.weight", "model.norm.weight"
    for layer in range(layers):
        for ours, theirs in LAYER:
            yield f"blk.{layer}.{ours}.weight", f"model.layers.{layer}.{theirs}.weight"


def interleave(weight, heads):
    """Orders the rows of a query or key projection for rotation of neighbours, as llama.cpp's converter does."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def deinterleave(weight, heads):
    """Undoes `interleave`."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def write(path, model, tokenizer, vocabulary, merges, chat_template):
    """Writes the model. `vocabulary` lists the tokens by id; `merges` are "left right" in order."""
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("model")
    writer.add_name(NAME)
    writer.add_description("Answers questions about using AI Backend Hub, in English and Vietnamese")
    writer.add_license("MIT OR Apache-2.0")
    writer.add_languages(["en", "vi"])
    # A model this small is right where it is sure, so it answers with the likeliest tokens unless told otherwise.
    writer.add_float32("general.sampling.temp", 0.0)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)

    special = {PAD, START, END}
    kinds = [gguf.TokenType.CONTROL if token in special else gguf.TokenType.NORMAL for token in vocabulary]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(vocabulary)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(tokenizer.token_to_id(PAD))
    writer.add_eos_token_id(tokenizer.token_to_id(END))
    writer.add_pad_token_id(tokenizer.token_to_id(PAD))
    writer.add_add_bos_token(False)
    writer.add_chat_template(chat_template)

    state = model.state_dict()
    for ours, theirs in names(config.num_hidden_layers):
        weight = state[theirs].float().numpy()
        if ".attn_q." in ours or ".attn_k." in ours:
            weight = interleave(weight, config.num_attention_heads)
        if weight.ndim == 1:
            writer.add_tensor(ours, weight)
        else:
            packed = gguf.quants.quantize(np.ascontiguousarray(weight), gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(ours, packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read(path):
    """Reads the file back: the model with its weights unpacked, the tokenizer, the chat template."""
    reader = gguf.GGUFReader(path)

    def value(key):
        return reader.fields[key].contents()

    config = LlamaConfig(
        vocab_size=value("llama.vocab_size"),
        hidden_size=value("llama.embedding_length"),
        intermediate_size=value("llama.feed_forward_length"),
        num_hidden_layers=value("llama.block_count"),
        num_attention_heads=value("llama.attention.head_count"),
        num_key_value_heads=value("llama.attention.head_count_kv"),
        max_position_embeddings=value("llama.context_length"),
        rms_norm_eps=value("llama.attention.layer_norm_rms_epsilon"),
        rope_theta=value("llama.rope.freq_base"),
        tie_word_embeddings=True,
        bos_token_id=value("tokenizer.ggml.bos_token_id"),
        eos_token_id=value("tokenizer.ggml.eos_token_id"),
        pad_token_id=value("tokenizer.ggml.padding_token_id"),
    )
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    state = {}
    for ours, theirs in names(config.num_hidden_layers):
        weight = gguf.quants.dequantize(tensors[ours].data, tensors[ours].tensor_type)
        if ".attn_q." in ours or ".attn_k." in ours:
            weight = deinterleave(weight, config.num_attention_heads)
        state[theirs] = torch.from_numpy(np.array(weight, dtype=np.float32))
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model = LlamaForCausalLM(config).eval()
    model.load_state_dict(state)

    tokens = value("tokenizer.ggml.tokens")
    vocabulary = {token: id for id, token in enumerate(tokens)}
    merges = [tuple(merge.split(" ")) for merge in value("tokenizer.ggml.merges")]
    tokenizer = new_tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.add_special_tokens([PAD, START, END])
    return model, tokenizer, value("tokenizer.chat_template")
