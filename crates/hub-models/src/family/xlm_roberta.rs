//! XLM-RoBERTa: multilingual-e5, bge-m3, bge-reranker-v2-m3. BERT's shape, with positions that begin behind the
//! padding's. Its GGUF files call themselves BERT.

use hub_nn::spec::{Head, ModelSpec};

use super::{
    FamilyError, FamilySpec, Files, Gguf, Keys,
    bert::{DEFAULTS, Encoder, buffers, linear, one_score, scored},
};

pub(super) static SPEC: FamilySpec = FamilySpec {
    name: "xlm-roberta",
    architectures: &["XLMRobertaModel", "XLMRobertaForSequenceClassification"],
    model_types: &["xlm-roberta"],
    defaults: DEFAULTS,
    from_config,
    gguf: Some(Gguf { architecture: "bert", read: None, write: None }),
};

fn from_config(keys: &Keys<'_>, files: &Files<'_>) -> Result<ModelSpec, FamilyError> {
    let prefix = if files.has("roberta.embeddings.word_embeddings.weight") { "roberta." } else { "" };
    let offset = keys.maybe_size("pad_token_id")?.unwrap_or(1) + 1;
    let encoder = Encoder::from_config(keys, offset, prefix)?;
    let mut spec = encoder.spec();
    if files.architecture == "XLMRobertaForSequenceClassification" {
        let hidden = encoder.hidden;
        let labels = one_score(keys, files, "classifier.out_proj.weight")?;
        spec.head = Head::Classifier(scored(
            linear("classifier.dense", hidden, hidden),
            linear("classifier.out_proj", hidden, labels),
        ));
    }
    let pooler = format!("{prefix}pooler.");
    let is_head = |name: &str| name.starts_with(&pooler) || name.starts_with("lm_head.");
    spec.left_out = files.left_out("a head of the pre-training", is_head);
    spec.left_out.extend(buffers(files));
    Ok(spec)
}
