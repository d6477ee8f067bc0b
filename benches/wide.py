"""The tiny models of `fixtures/models`, made wide enough for blocks of 256, as folders and as F16 files of llama.cpp's converter."""

import json
import math
import pathlib
import shutil
import sys

import safetensors.torch
import torch
import transformers

MODELS = pathlib.Path(__file__).parent.parent / "fixtures" / "models"
sys.path.insert(0, str(MODELS))

import convert
import draw
from cases import CASES
from expect import list_tensors, read_config

WIDTHS = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "moe_intermediate_size": 256,
    "shared_intermediate_size": 256,
    "shared_expert_intermediate_size": 256,
    "block_ff_dim": 512,
    "head_dim": 64,
    "global_head_dim": 128,
    "query_pre_attn_scalar": 64,
    # Latents, and heads that are not as wide as they are read.
    "kv_lora_rank": 256,
    "q_lora_rank": 256,
    "qk_nope_head_dim": 64,
    "qk_rope_head_dim": 32,
    "qk_head_dim": 96,
    "v_head_dim": 64,
    # Delta nets and Mamba.
    "linear_key_head_dim": 64,
    "linear_value_head_dim": 64,
    "mamba_d_head": 64,
    "mamba_d_state": 64,
    "mamba_n_heads": 8,
    # What Gemma has beside its layers.
    "hidden_size_per_layer_input": 256,
    "laurel_rank": 64,
}

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

# What their converter writes and llama.cpp does not read, or otherwise than the model is.
UNREAD = {
    "deepseek-v2": "it knows models without latent queries by their number of layers",
    "deepseek-v2-groups": "it knows no biases of latents",
    "deepseek-v3-direct": "it knows models without latent queries by their number of layers",
    "exaone4-window": "it sees windows in models of 64 layers alone",
    "glm4-flash-odd": "layers without experts come first",
    "granite-hybrid-dense": "it ends the process",
    "olmo2-groups": "it knows no biases of the family",
    "seed-oss-bias": "it knows no biases behind attention and in MLPs of the family",
}


def names():
    """The models of language that llama.cpp's converter and llama.cpp read."""
    return [name for name, case in CASES.items() if name not in convert.LEFT_OUT and name not in UNREAD and not case.pooling and not case.judge and case.architecture.endswith("ForCausalLM")]


def widen(config):
    """The configuration with other widths, and what depends on them."""
    wide = {**config, **{key: width for key, width in WIDTHS.items() if config.get(key)}}
    if config["model_type"].startswith("deepseek"):
        wide["head_dim"] = wide["qk_rope_head_dim"]
    elif "head_dim" not in config or config["head_dim"] is None:
        wide["num_attention_heads"] = 4
        wide["num_key_value_heads"] = 4 if config["num_key_value_heads"] == config["num_attention_heads"] else 2
    if config["model_type"] == "gemma3n_text":
        # llama.cpp has no other models in mind than those with 20 layers of their own keys and values.
        layers = 22
        wide |= {"num_hidden_layers": layers, "num_kv_shared_layers": 2, "intermediate_size": [512] * layers}
        wide["layer_types"] = ["full_attention" if layer % 5 == 4 else "sliding_attention" for layer in range(layers)]
        wide["activation_sparsity_pattern"] = [0.95] * 10 + [0.0] * (layers - 10)
    if config["model_type"] in ("deepseek_v3", "glm4_moe_lite"):
        # As the published folders say it, and llama.cpp's converter asks.
        wide["scoring_func"] = "sigmoid"
        wide.setdefault("first_k_dense_replace", 1)
    if config["model_type"] == "phi3":
        # llama.cpp reads no window of this family.
        wide["sliding_window"] = 262144
    if (config.get("rope_scaling") or {}).get("rope_type") == "yarn":
        # Of these families llama.cpp knows no other ramp.
        wide["rope_scaling"] = {**config["rope_scaling"], "beta_fast": 32.0, "beta_slow": 1.0}
    if config["model_type"] == "gpt_oss":
        # llama.cpp ends the ramp at a whole pair, and the published models do not: with this base it is the sixth of 32.
        turns = config["rope_scaling"]["original_max_position_embeddings"] / (2 * math.pi)
        wide["rope_theta"] = turns ** (32 / 5.9999)
    if "linear_key_head_dim" in config or "kv_lora_rank" in config:
        # The keys of delta nets and the norms of latents have this epsilon of their own, for which llama.cpp takes the model's.
        wide["rms_norm_eps"] = 1e-6
    if "mrope_section" in config.get("rope_parameters", {}):
        wide["rope_parameters"] = {**config["rope_parameters"], "mrope_section": [4, 2, 2]}
    scaling = config.get("rope_scaling") or {}
    if "long_factor" in scaling:
        pairs = int(32 * config.get("partial_rotary_factor", 1.0))
        stretched = {key: [1.0 + (scaling[key][-1] - 1.0) * pair / pairs for pair in range(pairs)] for key in ("long_factor", "short_factor")}
        wide["rope_scaling"] = {**scaling, **stretched}
    return wide


def unused(case, config):
    """Keys and values of layers that take another's: the published files of Gemma 3n have them, and llama.cpp insists."""
    if case.model_type != "gemma3n_text":
        return []
    width = config.num_key_value_heads * config.head_dim
    shapes = {"k_proj": [width, config.hidden_size], "v_proj": [width, config.hidden_size], "k_norm": [config.head_dim]}
    layers = range(config.num_hidden_layers - config.num_kv_shared_layers, config.num_hidden_layers)
    names = {f"model.layers.{layer}.self_attn.{part}.weight": shape for layer in layers for part, shape in shapes.items()}
    return [{"name": name, "shape": shape, **draw.plan(name, shape, **case.draws)} for name, shape in names.items()]


def write_folder(name, folder):
    """The folder of the wide model called `name`, in bfloat16 as most models are published."""
    case = CASES[name]
    keys = json.loads((MODELS / name / "config-v4.json").read_text())
    config = read_config(MODELS / name / "config-v4.json", widen(keys))
    tensors = [*list_tensors(case, config), *unused(case, config)]
    shutil.copytree(MODELS / "tokenizers" / case.tokenizer, folder, ignore=shutil.ignore_patterns("expected.json"))
    config.architectures = [case.architecture]
    config.save_pretrained(folder)
    if name in convert.OLDER_CONFIGURATION:
        (folder / "config.json").write_text(json.dumps(widen(keys)))
    weights = {entry["name"]: torch.from_numpy(draw.draw(**entry)).to(torch.bfloat16) for entry in tensors}
    safetensors.torch.save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def write_f16(name, folder, out):
    """What llama.cpp's converter makes of a folder; `conversion` must be importable."""
    import conversion
    import gguf
    from conversion.base import ModelBase, ModelType, TextModel

    TextModel.get_vocab_base_pre = lambda self, tokenizer: convert.PRE_TOKENIZERS[CASES[name].tokenizer]
    architecture = conversion.get_model_architecture(ModelBase.load_hparams(folder, False), ModelType.TEXT)
    converter = conversion.get_model_class(architecture)
    converter.no_mtp = True
    if name in convert.PLAIN_VOCABULARY:
        converter.set_vocab = converter._set_vocab_gpt2
    with torch.inference_mode():
        converter(folder, gguf.LlamaFileType.MOSTLY_F16, out).write()
