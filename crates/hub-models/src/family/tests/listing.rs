//! `FAMILIES.md`: what the registry and the tiny models say of each family.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use hub_fixtures::{ConfigForm, Kind, gguf_models, models};
use hub_nn::spec::{
    Activation, AttentionSpec, Head, KvSpec, LayerSpec, Mask, Mixer, Mlp, ModelSpec, NormKind, NormScope,
    Pairing, RopeScaling, RopeSpec, Rule, Scoring, SublayerNorms,
};

use super::{super::FAMILIES, fixtures::read};

const HEAD: &str = "# Families

What `hub-models` reads, by family: written by a test from the registry in `src/family/mod.rs` and from the tiny models in
`fixtures/models`, whose logits and greedy tokens are those of transformers 5.24.0 (and of 4.57.6 where that knows the
family) on both executors. `cargo test -p hub-models --lib -- --ignored write_families` writes it again. Where
GGUF's name is followed by \"written\", `hub quantize` makes such files of folders. A new family:
[docs/add-a-family.md](../../docs/add-a-family.md). Folders of Mistral's own programs (`params.json`) hold models of mistral,
mixtral and ministral3.

| family | `architectures` in a Hugging Face folder | GGUF's `general.architecture` | what its layers do beside Llama's | tiny models |
| --- | --- | --- | --- | --- |
";

#[test]
fn families_are_listed_as_they_are() {
    let found = fs::read_to_string(path()).unwrap_or_default().replace("\r\n", "\n");
    assert_eq!(
        found,
        listing(),
        "`cargo test -p hub-models --lib -- --ignored write_families` writes it again"
    );
}

/// Not a test: writes the file.
#[test]
#[ignore = "writes FAMILIES.md"]
fn write_families() {
    fs::write(path(), listing()).unwrap();
}

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("FAMILIES.md")
}

fn listing() -> String {
    let kinds = [Kind::Text, Kind::Embedding, Kind::Rerank];
    let all: Vec<(String, ModelSpec)> =
        kinds.into_iter().flat_map(models).map(|name| (name.clone(), read(&name, ConfigForm::V5))).collect();
    let files: BTreeSet<String> = kinds.into_iter().flat_map(gguf_models).collect();
    let mut text = HEAD.to_owned();
    for family in FAMILIES {
        let own: Vec<_> = all.iter().filter(|(_, spec)| spec.family == family.name).collect();
        assert!(!own.is_empty(), "{} has no tiny model", family.name);
        let facts: BTreeSet<&str> = own.iter().flat_map(|(_, spec)| features(spec)).collect();
        let code =
            |names: &[&str]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let gguf = family.gguf.as_ref().map_or_else(
            || "-".to_owned(),
            |gguf| code(&[gguf.architecture]) + if gguf.write.is_some() { ", written" } else { "" },
        );
        let names = own
            .iter()
            .map(|(name, _)| if files.contains(name) { format!("{name} (and GGUF)") } else { name.clone() });
        text += &format!(
            "| {} | {} | {gguf} | {} | {} |\n",
            family.name,
            code(family.architectures),
            facts.into_iter().collect::<Vec<_>>().join(", "),
            names.collect::<Vec<_>>().join(", "),
        );
    }
    text
}

/// Says what a model does that Llama 2 does not.
fn features(spec: &ModelSpec) -> BTreeSet<&'static str> {
    let mut facts = BTreeSet::new();
    let mut fact = |is_so: bool, text: &'static str| {
        if is_so {
            facts.insert(text);
        }
    };
    fact(spec.mask == Mask::Bidirectional, "sees both ways");
    fact(spec.embedding.positions.is_some(), "learned positions");
    fact(spec.embedding.scale != 1.0, "embedding scale");
    if let Head::Logits { scale, soft_cap, .. } = &spec.head {
        fact(*scale != 1.0, "logit scale");
        fact(soft_cap.is_some(), "logit cap");
        fact(spec.is_tied(), "tied head");
    }
    for layer in &spec.layers {
        facts.extend(of_layer(layer));
    }
    facts
}

fn of_layer(layer: &LayerSpec) -> Vec<&'static str> {
    let LayerSpec { mixer, mixer_norms, mlp, .. } = layer;
    let mut facts = of_mixer(mixer);
    let SublayerNorms { before, after, last } = mixer_norms;
    let norm = before.as_ref().or(after.as_ref()).or(last.as_ref());
    let mut fact = |is_so: bool, text: &'static str| {
        if is_so {
            facts.push(text);
        }
    };
    fact(norm.is_some_and(|norm| norm.kind == NormKind::Layer), "LayerNorm");
    fact(before.is_some() && after.is_some(), "norms around sublayers");
    fact(before.is_none() && after.is_some(), "norms after sublayers");
    fact(last.is_some(), "norms of the residual");
    fact(layer.is_parallel, "attention beside the MLP");
    fact(layer.residual_scale != 1.0, "residual scale");
    fact(layer.laurel.is_some(), "a path beside attention");
    fact(layer.altup.is_some(), "several residual streams");
    fact(layer.per_layer.is_some(), "a second embedding by layer");
    fact(layer.output_scale.is_some(), "layer scale");
    match mlp {
        Mlp::Gated { sparsity, .. } => fact(sparsity.is_some(), "gates of which few count"),
        Mlp::Plain { .. } => fact(true, "MLP without a gate"),
        Mlp::Experts(experts) => {
            let is_clamped = matches!(experts.activation, Activation::ClampedSwish { .. });
            fact(is_clamped, "clamped SwiGLU");
            fact(experts.experts.iter().any(|expert| expert.up.bias.is_some()), "biases of experts");
            fact(experts.routing.scoring == Scoring::Softmax, "experts by softmax");
            fact(experts.routing.scoring == Scoring::Sigmoid, "experts by sigmoid");
            fact(experts.shared.is_some(), "shared experts");
            fact(experts.routing.correction.is_some(), "corrected choice of experts");
            fact(experts.routing.groups.is_some(), "groups of experts");
        }
    }
    facts
}

fn of_mixer(mixer: &Mixer) -> Vec<&'static str> {
    let attention = match mixer {
        Mixer::Attention(attention) => attention,
        Mixer::Latent(latent) => {
            let mut facts = vec!["latent attention"];
            facts.extend(latent.query_latent.is_some().then_some("latent queries"));
            facts.extend(of_rope(&latent.rope));
            return facts;
        }
        Mixer::Recurrent(recurrent) => match recurrent.rule {
            Rule::Delta { .. } => return vec!["gated delta net"],
            Rule::StateSpace { .. } => return vec!["Mamba-2"],
        },
        Mixer::ShortConv(_) => return vec!["short convolutions"],
    };
    of_attention(attention)
}

fn of_attention(mixer: &AttentionSpec) -> Vec<&'static str> {
    let mut facts = Vec::new();
    let mut fact = |is_so: bool, text: &'static str| {
        if is_so {
            facts.push(text);
        }
    };
    fact(mixer.sinks.is_some(), "sinks");
    fact(mixer.gate.is_some(), "gated attention");
    fact(mixer.window.is_some(), "windows");
    fact(matches!(mixer.kv, KvSpec::Of(_)), "keys and values of another layer");
    fact(mixer.soft_cap.is_some(), "score cap");
    fact(mixer.temperature.is_some(), "queries by position");
    let has_norms = mixer.query_norm.is_some();
    fact(has_norms && mixer.norm_scope == NormScope::Head, "norms of query and key heads");
    fact(has_norms && mixer.norm_scope == NormScope::Row, "norms of query and key rows");
    fact(has_norms && mixer.norm_scope == NormScope::EachHead, "norms of each query and key head");
    fact(mixer.query.bias.is_some(), "attention biases");
    match &mixer.rope {
        None => fact(true, "layers without rotation"),
        Some(rope) => {
            fact(rope.dims < mixer.head_dim, "part of a head rotated");
            facts.extend(of_rope(rope));
        }
    }
    facts
}

fn of_rope(rope: &RopeSpec) -> Vec<&'static str> {
    let mut facts = Vec::new();
    if rope.pairing == Pairing::Interleaved {
        facts.push("rotation in pairs");
    }
    facts.extend(match rope.scaling {
        RopeScaling::Linear { .. } => Some("linear scaling"),
        RopeScaling::Dynamic { .. } => Some("dynamic scaling"),
        RopeScaling::Yarn(_) => Some("YaRN"),
        RopeScaling::Llama3(_) => Some("Llama 3's scaling"),
        RopeScaling::LongRope(_) => Some("LongRoPE"),
        RopeScaling::None | RopeScaling::Factors(_) => None,
    });
    facts
}
