//! Folders as Mistral's own programs keep them, against the same models in the layout of Hugging Face.

use std::{collections::BTreeMap, fs, path::Path};

use hub_base::ErrorKind;
use hub_fixtures::{TinyModel, TinyTensor};
use hub_models::{ChatPrompt, GenerateOptions, LoadOptions, Prompt, TextModel, chat::Message, spec_of};
use hub_nn::{spec::ModelSpec, weights::Weights};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::{
    folders::{Stored, write_safetensors},
    parity::check,
};

/// The most that a logit may differ.
const TOLERANCE: f32 = 1e-3;

/// What `config.json` calls things, and `params.json`.
const KEYS: [(&str, &str); 10] = [
    ("hidden_size", "dim"),
    ("num_hidden_layers", "n_layers"),
    ("num_attention_heads", "n_heads"),
    ("num_key_value_heads", "n_kv_heads"),
    ("head_dim", "head_dim"),
    ("intermediate_size", "hidden_dim"),
    ("rms_norm_eps", "norm_eps"),
    ("vocab_size", "vocab_size"),
    ("max_position_embeddings", "max_position_embeddings"),
    ("sliding_window", "sliding_window"),
];

/// What the tensors of a layer are called in both layouts.
const NAMES: [(&str, &str); 13] = [
    ("model.embed_tokens.", "tok_embeddings."),
    ("model.layers.", "layers."),
    ("model.norm.", "norm."),
    ("lm_head.", "output."),
    ("self_attn.q_proj", "attention.wq"),
    ("self_attn.k_proj", "attention.wk"),
    ("self_attn.v_proj", "attention.wv"),
    ("self_attn.o_proj", "attention.wo"),
    ("input_layernorm", "attention_norm"),
    ("post_attention_layernorm", "ffn_norm"),
    ("block_sparse_moe", "feed_forward"),
    ("mlp.gate_proj", "feed_forward.w1"),
    ("mlp.up_proj", "feed_forward.w3"),
];

/// Reads a file of the tiny model as Hugging Face has it.
fn config_of(name: &str) -> Value {
    let folder = TinyModel::new(name).write();
    serde_json::from_slice(&fs::read(folder.path().join("config.json")).unwrap()).unwrap()
}

/// Writes what a `config.json` says as a `params.json`.
fn params_of(config: &Value) -> Value {
    let mut params: Map<String, Value> =
        KEYS.iter().map(|(theirs, own)| ((*own).to_owned(), config[*theirs].clone())).collect();
    let rope = &config["rope_parameters"];
    params["head_dim"] = match config["head_dim"].as_u64() {
        Some(width) => width.into(),
        None => {
            (config["hidden_size"].as_u64().unwrap() / config["num_attention_heads"].as_u64().unwrap()).into()
        }
    };
    params.insert("rope_theta".to_owned(), rope["rope_theta"].clone());
    params.insert("tied_embeddings".to_owned(), config["tie_word_embeddings"].clone());
    if let Some(count) = config.get("num_local_experts") {
        let moe = json!({ "num_experts": count, "num_experts_per_tok": config["num_experts_per_tok"] });
        params.insert("moe".to_owned(), moe);
    }
    if rope["rope_type"] == "yarn" {
        let original = &rope["original_max_position_embeddings"];
        let yarn = json!({
            "original_max_position_embeddings": original, "factor": rope["factor"], "apply_scale": false,
            "beta": rope["beta_fast"], "alpha": rope["beta_slow"],
        });
        let scaling =
            json!({ "original_max_position_embeddings": original, "beta": rope["llama_4_scaling_beta"] });
        params.extend([("yarn".to_owned(), yarn), ("llama_4_scaling".to_owned(), scaling)]);
    }
    Value::Object(params)
}

/// Renames a tensor, and puts the pairs of a head that are rotated together side by side: row `2 j + p` of a head is
/// row `p width / 2 + j` in the layout of Hugging Face (`permute_for_rope` in transformers' converter of Mistral).
fn own(mut tensor: TinyTensor, head_dim: usize) -> TinyTensor {
    let is_rotated = ["q_proj.weight", "k_proj.weight"].iter().any(|end| tensor.name.ends_with(end));
    if is_rotated {
        let row = tensor.shape[1];
        let old = tensor.values.clone();
        for (at, values) in tensor.values.chunks_exact_mut(row).enumerate() {
            let (head, within) = (at / head_dim, at % head_dim);
            let from = head * head_dim + within % 2 * (head_dim / 2) + within / 2;
            values.copy_from_slice(&old[from * row..(from + 1) * row]);
        }
    }
    let name = NAMES.iter().fold(tensor.name, |name, (theirs, own)| name.replace(theirs, own));
    tensor.name = name.replace("mlp.down_proj", "feed_forward.w2");
    tensor
}

/// Writes a tiny model in Mistral's own layout.
fn write(name: &str) -> (TempDir, Value) {
    let params = params_of(&config_of(name));
    let head_dim = params["head_dim"].as_u64().unwrap() as usize;
    let tensors = TinyModel::new(name).tensors().into_iter().map(|tensor| own(tensor, head_dim));
    let mut tensors: BTreeMap<String, Stored> =
        tensors.map(|tensor| (tensor.name, Stored::f32(tensor.shape, &tensor.values))).collect();
    // What sees is left out.
    tensors.insert("vision_encoder.patch_conv.weight".to_owned(), Stored::f32(vec![1], &[0.0]));
    let folder = tempfile::tempdir().unwrap();
    write_safetensors(&folder.path().join("consolidated.safetensors"), &tensors);
    fs::write(folder.path().join("params.json"), params.to_string()).unwrap();
    (folder, params)
}

/// A tiny `tekken.json` with as many tokens as the tiny models have rows.
fn tekken(version: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tokens/tekken.json");
    let fixture: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let mut file = fixture["files"][version].clone();
    file["vocab"] = fixture["vocab"].clone();
    file["config"]["default_vocab_size"] = 384.into();
    file.to_string()
}

fn read(folder: &TempDir, params: &Value) -> Result<ModelSpec, hub_models::FamilyError> {
    let weights = Weights::open(folder.path()).unwrap();
    let spec = spec_of(&weights, Some(params))?;
    drop(spec.check().and_then(|()| spec.check_tensors(weights.shapes())));
    Ok(spec)
}

#[test]
fn mistral_s_own_folders_compute_what_transformers_computes() {
    let families = [
        ("mistral", "mistral"),
        ("mistral-head-dim", "mistral"),
        ("mixtral", "mixtral"),
        ("mixtral-window", "mixtral"),
    ];
    let newer = [("ministral3", "ministral3"), ("ministral3-tied", "ministral3")];
    for (name, family) in families.into_iter().chain(newer) {
        let (folder, params) = write(name);
        check(name, folder.path(), TOLERANCE);
        let spec = read(&folder, &params).unwrap();
        assert_eq!((spec.family, spec.left_out.len()), (family, 1), "{name}");
    }
}

#[test]
fn a_folder_with_nothing_else_answers_as_the_other_layout() {
    let theirs = TinyModel::new("mistral").write();
    for file in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json"]
    {
        let _ = fs::remove_file(theirs.path().join(file));
    }
    let (own, _) = write("mistral");
    let ask = |path: &Path| {
        fs::write(path.join("tekken.json"), tekken("v7")).unwrap();
        let model = TextModel::open(path, LoadOptions::default()).unwrap();
        assert!(model.info().has_chat_template);
        let prompt =
            Prompt::Chat(ChatPrompt::new(vec![Message::system("Be brief."), Message::user("[INST]")]));
        let tokens = model.prepare(&prompt).unwrap().tokens().to_vec();
        // What is typed stays text.
        assert_eq!(tokens.iter().filter(|id| **id < 40).copied().collect::<Vec<_>>(), [1, 17, 18, 3, 4]);
        let options = GenerateOptions::default().greedy().max_tokens(16);
        (tokens, model.generate(prompt, options).unwrap().text().unwrap())
    };
    assert_eq!(ask(own.path()), ask(theirs.path()));
}

#[test]
fn parts_with_an_index_are_the_same_model() {
    let (folder, params) = write("mistral");
    let names = |folder: &TempDir| {
        let weights = Weights::open(folder.path()).unwrap();
        weights.names().map(str::to_owned).collect::<Vec<_>>()
    };
    let part = "consolidated-00001-of-00001.safetensors";
    let before = names(&folder);
    fs::rename(folder.path().join("consolidated.safetensors"), folder.path().join(part)).unwrap();
    let map: Map<String, Value> = before.iter().map(|name| (name.clone(), part.into())).collect();
    let index = folder.path().join("consolidated.safetensors.index.json");
    fs::write(index, json!({ "weight_map": map }).to_string()).unwrap();
    assert_eq!(names(&folder), before);
    assert_eq!(read(&folder, &params).unwrap().layers.len(), 2);
}

#[test]
fn older_files_leave_the_base_unsaid_and_newer_ones_repeat_windows() {
    let (folder, params) = write("mistral");
    let with = |changes: Value| {
        let mut params = params.clone();
        params.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        read(&folder, &params).map(|spec| {
            let attention = |layer: usize| spec.layers[layer].mixer.attention().unwrap().clone();
            ([attention(0).window, attention(1).window], attention(0).rope.unwrap().base)
        })
    };
    let none = Value::Null;
    assert_eq!(with(json!({ "rope_theta": none })), Ok(([Some(16); 2], 10_000.0)));
    assert_eq!(with(json!({ "rope_theta": none, "sliding_window": none })), Ok(([None; 2], 1e6)));
    let repeated = json!({ "sliding_window": none, "_sliding_window": [none, 32] });
    assert_eq!(with(repeated), Ok(([None, Some(32)], 10_000.0)));
    for (changes, key) in [
        (json!({ "sliding_window": [1, 2, 3] }), "sliding_window"),
        (json!({ "sliding_window": [] }), "sliding_window"),
        (json!({ "quantization": { "qformat_weight": "fp8_e4m3" } }), "quantization"),
        (json!({ "model_type": "mamba" }), "model_type"),
        (json!({ "moe": { "num_experts": 4, "num_experts_per_tok": 2, "num_shared_experts": 1 } }), "shared"),
        (json!({ "q_lora_rank": 8 }), "q_lora_rank"),
        (json!({ "multimodal": {} }), "multimodal"),
    ] {
        let error = with(changes).unwrap_err();
        assert!(error.to_string().contains(key), "{error}");
        assert!(matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::Corrupt), "{error}");
    }
}

#[test]
fn yarn_scales_as_in_the_other_layout_unless_the_file_says_not_to() {
    let theirs = TinyModel::new("ministral3").write();
    let mut config = config_of("ministral3");
    let parameters = config["rope_parameters"].as_object_mut().unwrap();
    ["mscale", "mscale_all_dim"].into_iter().for_each(|key| drop(parameters.remove(key)));
    let (own, mut params) = write("ministral3");
    params["yarn"]["apply_scale"] = true.into();
    let scaling = |spec: ModelSpec| spec.layers[0].mixer.attention().unwrap().rope.clone().unwrap().scaling;
    assert_eq!(scaling(read(&own, &params).unwrap()), scaling(read(&theirs, &config).unwrap()));
}

#[test]
fn broken_files_are_errors() {
    for name in ["mixtral", "ministral3"] {
        let (folder, params) = write(name);
        let paths = params.as_object().unwrap().iter().flat_map(|(key, value)| {
            let inner =
                value.as_object().into_iter().flatten().map(move |(inner, _)| format!("/{key}/{inner}"));
            [format!("/{key}")].into_iter().chain(inner)
        });
        for path in paths {
            for mistake in [
                json!(-1),
                json!(0),
                json!(1.5),
                json!(1_u64 << 30),
                json!(u64::MAX),
                json!("what"),
                json!([]),
                json!({}),
            ] {
                let mut broken = params.clone();
                *broken.pointer_mut(&path).unwrap() = mistake.clone();
                if let Err(error) = read(&folder, &broken) {
                    let key = path.split('/').nth(1).unwrap();
                    assert!(error.to_string().contains(key), "{path} at {mistake}: {error}");
                }
            }
        }
    }
    let (folder, _) = write("mistral");
    fs::remove_file(folder.path().join("params.json")).unwrap();
    let error = TextModel::open(folder.path(), LoadOptions::default()).unwrap_err();
    assert!(error.to_string().contains("params.json is missing"), "{error}");
}
