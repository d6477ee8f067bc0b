use serde_json::{Value, json};

use super::{changed, configs, read, summary};

#[track_caller]
fn check(config: Value, expected: &str) {
    let spec = read(&config).unwrap();
    spec.check().unwrap();
    assert_eq!(summary(&spec), expected);
}

#[test]
fn llama_and_its_kin() {
    check(
        configs::llama_3_2_1b(),
        "16 layers, 32/8 heads of 64, rope 500000 llama3, context 131072, silu 8192, tied",
    );
    check(configs::codellama_7b(), "32 layers, 32/32 heads of 128, rope 1000000, context 16384, silu 11008");
    check(configs::smollm2_135m(), "30 layers, 9/3 heads of 64, rope 100000, context 8192, silu 1536, tied");
}

#[test]
fn mistral() {
    check(
        configs::mistral_7b_v0_1(),
        "32 layers, 32/8 heads of 128, rope 10000, window 4096 in 32, context 32768, silu 14336",
    );
    check(
        configs::mistral_7b_v0_3(),
        "32 layers, 32/8 heads of 128, rope 1000000, context 32768, silu 14336",
    );
    check(configs::mistral_nemo(), "40 layers, 32/8 heads of 128, rope 1000000, context 131072, silu 14336");
}

#[test]
fn qwen() {
    check(
        configs::qwen2_5_0_5b(),
        "24 layers, 14/2 heads of 64, rope 1000000, query bias, context 32768, silu 4864, tied",
    );
    check(
        configs::qwen3_0_6b(),
        "28 layers, 16/8 heads of 128, rope 1000000, head norms, context 40960, silu 3072, tied",
    );
    // As the card of Qwen2.5 says to reach further.
    let scaling = json!({"factor": 4.0, "original_max_position_embeddings": 32768, "type": "yarn"});
    check(
        changed(configs::qwen2_5_0_5b(), json!({"rope_scaling": scaling})),
        "24 layers, 14/2 heads of 64, rope 1000000 yarn by 4 from 32768, times 1.1386, query bias, \
         context 131072, silu 4864, tied",
    );
    check(
        changed(configs::qwen2_5_0_5b(), json!({"use_sliding_window": true})),
        "24 layers, 14/2 heads of 64, rope 1000000, window 32768 in 3, query bias, context 32768, silu \
         4864, tied",
    );
}

#[test]
fn gemma() {
    check(
        configs::gemma_2_2b(),
        "26 layers, 8/4 heads of 256, rope 10000, window 4096 in 13, scores to 50, context 8192, \
         gelutanh 9216, sandwich, embedding by 48, logits to 30, tied",
    );
    check(
        configs::gemma_3_1b(),
        "26 layers, 4/1 heads of 256, rope 1000000, local 10000, window 512 in 22, head norms, context \
         32768, gelutanh 6912, sandwich, embedding by 33.941124, tied",
    );
    let windows: Vec<_> =
        read(&configs::gemma_3_1b()).unwrap().layers.iter().map(|l| l.mixer.window()).collect();
    assert_eq!(windows[..7], [Some(512), Some(512), Some(512), Some(512), Some(512), None, Some(512)]);
}

#[test]
fn phi() {
    check(
        configs::phi_3_mini_4k(),
        "32 layers, 32/32 heads of 96, rope 10000, window 2047 in 32, context 4096, silu 8192",
    );
    for kind in ["longrope", "su", "yarn"] {
        check(
            configs::phi_3_mini_128k(kind),
            "32 layers, 32/32 heads of 96, rope 10000 longrope from 4096, times 1.1902, window 262144 in 32, \
         context 131072, silu 8192",
        );
    }
    check(configs::phi_4(), "40 layers, 40/10 heads of 128, rope 250000, context 16384, silu 17920");
    check(
        configs::phi_4_mini(),
        "32 layers, 24/8 heads of 128, rope 10000 of 96 longrope from 4096, times 1.1902, window 262144 \
         in 32, context 131072, silu 8192, tied",
    );
}

#[test]
fn granite() {
    check(
        configs::granite_3_1_2b(),
        "40 layers, 32/8 heads of 64, rope 5000000, scores by 0.015625, context 131072, silu 8192, \
         embedding by 12, residual by 0.22, logits by 0.125, tied",
    );
}

#[test]
fn encoders() {
    let (biases, rest) = ("query bias, output bias", "mlp bias, post-norm");
    let minilm = |layers: usize, head: &str| {
        format!(
            "{layers} layers, 12/12 heads of 32, {biases}, context 512, gelu 1536, {rest}, 512 positions, {head}"
        )
    };
    check(configs::minilm_l6_v2(), &minilm(6, "no head"));
    check(configs::multilingual_e5_small(), &minilm(12, "no head"));
    check(configs::ms_marco_minilm(), &minilm(6, "1 labels"));
    let bge = |head: &str| {
        format!(
            "24 layers, 16/16 heads of 64, {biases}, context 8192, gelu 4096, {rest}, 8192 positions, {head}"
        )
    };
    check(configs::bge_m3(), &bge("no head"));
    check(configs::bge_reranker_v2_m3(), &bge("1 labels"));
}

/// Checks that a configuration without `key` means the same as one where it is `value`.
#[track_caller]
fn check_default(config: Value, key: &str, value: Value) {
    let without = read(&changed(config.clone(), json!({key: "absent"}))).unwrap();
    assert_eq!(without, read(&changed(config, json!({key: value}))).unwrap());
}

#[test]
fn a_key_that_is_not_there_means_what_transformers_takes_it_for() {
    check_default(configs::codellama_7b(), "rope_theta", json!(10_000.0));
    check_default(configs::codellama_7b(), "num_key_value_heads", json!(32));
    check_default(configs::mistral_7b_v0_1(), "num_key_value_heads", json!(8));
    check_default(configs::mistral_7b_v0_3(), "sliding_window", json!(4096));
    check_default(configs::qwen3_0_6b(), "head_dim", json!(128));
    check_default(configs::qwen3_0_6b(), "tie_word_embeddings", json!(false));
    check_default(
        changed(configs::qwen2_5_0_5b(), json!({"use_sliding_window": true, "num_hidden_layers": 32})),
        "max_window_layers",
        json!(28),
    );
    check_default(configs::gemma_2_2b(), "attn_logit_softcapping", json!(50.0));
    check_default(configs::gemma_2_2b(), "final_logit_softcapping", json!(30.0));
    check_default(configs::gemma_2_2b(), "hidden_activation", json!("gelu_pytorch_tanh"));
    check_default(configs::gemma_3_1b(), "rope_local_base_freq", json!(10_000));
    check_default(configs::gemma_3_1b(), "sliding_window_pattern", json!(6));
    check_default(configs::gemma_3_1b(), "tie_word_embeddings", json!(true));
    check_default(configs::phi_3_mini_128k("longrope"), "original_max_position_embeddings", json!(4096));
    check_default(configs::bge_m3(), "pad_token_id", json!(1));
    check_default(configs::minilm_l6_v2(), "layer_norm_eps", json!(1e-12));
}

#[test]
fn null_says_none_where_absence_says_something() {
    let gemma = |changes| {
        read(&changed(configs::gemma_2_2b(), changes))
            .unwrap()
            .layers
            .remove(0)
            .mixer
            .attention()
            .cloned()
            .unwrap()
    };
    assert_eq!(gemma(json!({"attn_logit_softcapping": null})).soft_cap, None);
    assert_eq!(gemma(json!({"sliding_window": null})).window, None);
}
