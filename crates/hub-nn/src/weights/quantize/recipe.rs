//! Which tensor gets which kind.
//!
//! The rules are those of llama.cpp (`llama_tensor_get_type_impl` of its `llama-quant.cpp`), so that a mix means the same
//! here and there: what suffers most from rounding gets more bits.

use super::{Content, ContentTensor, Mix, Target};
use crate::weights::{Metadata, WeightKind, Weights};

/// Why a tensor gets its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// The mix says so.
    Mix,
    /// It is small, or suffers too much: norms, biases, routers, convolutions.
    Kept,
    /// Its rows are not whole blocks of this kind, which the mix would give it.
    Narrow(WeightKind),
}

/// Parts of the names of matrices that are not rounded: small ones, and those that decide about others.
const KEPT: [&str; 14] = [
    "_norm.weight",
    "ffn_gate_inp.weight",
    "altup",
    "laurel",
    "per_layer_model_proj",
    "ssm_conv1d",
    "shortconv.conv.weight",
    "indexer.k_proj.weight",
    "indexer.q_proj.weight",
    "attn_rel_b.weight",
    "position_embd",
    "token_types.weight",
    ".patch_embd",
    ".patch_merger",
];

/// Returns what becomes of each tensor.
pub(crate) fn targets(mix: Mix, content: &Content, weights: &Weights) -> Vec<Target> {
    let model = Model::of(content);
    let place = |name: &str, list: &[(i64, &str)]| list.iter().position(|(_, known)| *known == name);
    let target = |tensor: &ContentTensor| {
        let from = tensor.kind(weights);
        let (to, why) = if is_kept(tensor) {
            (tensor.plain, Why::Kept)
        } else if mix == Mix::F16 {
            (WeightKind::F16, Why::Mix)
        } else {
            let more =
                Places { value: place(&tensor.name, &model.values), down: place(&tensor.name, &model.downs) };
            fitting(model.kind(mix, tensor, more), tensor.shape.last().copied().unwrap_or(1))
        };
        Target { name: tensor.name.clone(), from, to, why }
    };
    content.tensors.iter().map(target).collect()
}

/// Whether a tensor is no matrix of weights, or one that is not rounded.
fn is_kept(tensor: &ContentTensor) -> bool {
    let name = tensor.name.as_str();
    let is_matrix = tensor.shape.iter().skip_while(|len| **len == 1).count() >= 2;
    !is_matrix || !name.ends_with("weight") || KEPT.iter().any(|part| name.contains(part))
}

/// Returns a kind, or what takes its place in rows that are not whole blocks of it.
fn fitting(wanted: WeightKind, cols: usize) -> (WeightKind, Why) {
    if cols.is_multiple_of(wanted.block_len()) {
        return (wanted, Why::Mix);
    }
    let narrow = match wanted {
        WeightKind::Q4K => WeightKind::Q5_0,
        WeightKind::Q5K => WeightKind::Q5_1,
        WeightKind::Q6K => WeightKind::Q8_0,
        _ => WeightKind::F16,
    };
    let is_whole = cols.is_multiple_of(narrow.block_len());
    (if is_whole { narrow } else { WeightKind::F16 }, Why::Narrow(wanted))
}

/// What of a model decides about its tensors.
struct Model<'a> {
    layers: u64,
    experts: u64,
    /// Whether eight heads share the values of one: with 80 layers, as llama.cpp tells Llama 2 70B and its like.
    is_70b: bool,
    /// Whether the embedding is the head as well.
    is_tied: bool,
    /// Tensors that make values, by layer.
    values: Vec<(i64, &'a str)>,
    /// Tensors that end a feed-forward part, by layer.
    downs: Vec<(i64, &'a str)>,
}

/// The places of a tensor among those like it.
struct Places {
    value: Option<usize>,
    down: Option<usize>,
}

impl<'a> Model<'a> {
    fn of(content: &'a Content) -> Self {
        let Content { metadata, tensors, .. } = content;
        let named = |is_one: fn(&str) -> bool| {
            let found = tensors.iter().filter(|tensor| is_one(&tensor.name) && !is_kept(tensor));
            let mut found: Vec<_> =
                found.map(|tensor| (layer_of(&tensor.name), tensor.name.as_str())).collect();
            found.sort_unstable();
            found
        };
        let architecture = metadata.str("general.architecture").unwrap_or_default();
        let number = |key: &str| metadata.u64(&format!("{architecture}.{key}"));
        let layers = number("block_count").unwrap_or(0);
        Self {
            layers,
            experts: number("expert_count").unwrap_or(0),
            is_70b: layers == 80 && is_like_70b(metadata, architecture),
            is_tied: !tensors.iter().any(|tensor| tensor.name == "output.weight"),
            values: named(makes_values),
            downs: named(|name| name.contains("ffn_down")),
        }
    }

    /// Returns the kind that a mix gives a tensor, whatever its width.
    fn kind(&self, mix: Mix, tensor: &ContentTensor, at: Places) -> WeightKind {
        let (name, kind) = (tensor.name.as_str(), mix.kind());
        let is_table = ["token_embd.weight", "per_layer_token_embd.weight"].contains(&name);
        if name == "output.weight" || is_table && self.is_tied {
            let is_whole = tensor.shape.last().is_some_and(|cols| cols.is_multiple_of(kind.block_len()));
            return if is_whole && kind != WeightKind::Q8_0 { WeightKind::Q6K } else { WeightKind::Q8_0 };
        }
        if is_table {
            return kind;
        }
        let is_mixed = matches!(mix, Mix::Q4KM | Mix::Q5KM);
        if let Some(at) = at.value {
            return self.kind_of_values(kind, is_mixed && gets_more(at as u64, self.values.len() as u64));
        }
        if name.contains("attn_k.weight") && self.experts == 8 {
            return WeightKind::Q8_0;
        }
        if let Some(at) = at.down {
            // Layers with experts have several of these.
            let layer = if self.experts > 1 { layer_of(name).max(0) as u64 } else { at as u64 };
            return if is_mixed && gets_more(layer, self.layers) { WeightKind::Q6K } else { kind };
        }
        if name.contains("attn_output.weight") && self.experts == 8 && mix == Mix::Q4KM {
            return WeightKind::Q5K;
        }
        kind
    }

    fn kind_of_values(&self, kind: WeightKind, gets_more: bool) -> WeightKind {
        if self.experts == 8 {
            return WeightKind::Q8_0;
        }
        match if gets_more { WeightKind::Q6K } else { kind } {
            WeightKind::Q4K if self.is_70b => WeightKind::Q5K,
            kind => kind,
        }
    }
}

/// Whether a layer is of those that get more bits: the first eighth, the last, and every third between.
fn gets_more(layer: u64, layers: u64) -> bool {
    let eighth = layers / 8;
    layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2
}

fn makes_values(name: &str) -> bool {
    ["attn_v.weight", "attn_qkv.weight", "attn_kv_b.weight"].iter().any(|part| name.contains(part))
}

fn is_like_70b(metadata: &Metadata, architecture: &str) -> bool {
    let heads = |key: &str| metadata.u64(&format!("{architecture}.attention.{key}"));
    match architecture {
        "llama" => heads("head_count_kv").is_some_and(|shared| Some(shared) != heads("head_count")),
        architecture => architecture == "qwen2",
    }
}

/// Returns the layer that a name says, -1 for none.
fn layer_of(name: &str) -> i64 {
    let number = name.strip_prefix("blk.").and_then(|rest| rest.split('.').next()?.parse().ok());
    number.unwrap_or(-1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says which of a model's layers get more bits in a mix.
    #[track_caller]
    fn check(layers: u64, expected: &[u64]) {
        let found: Vec<u64> = (0..layers).filter(|layer| gets_more(*layer, layers)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn the_ends_and_every_third_layer_get_more() {
        check(1, &[0]);
        check(2, &[1]);
        check(16, &[0, 1, 4, 7, 10, 13, 14, 15]);
        check(24, &[0, 1, 2, 5, 8, 11, 14, 17, 20, 21, 22, 23]);
    }

    #[test]
    fn narrow_rows_get_smaller_blocks() {
        for (wanted, cols, expected) in [
            (WeightKind::Q4K, 512, WeightKind::Q4K),
            (WeightKind::Q4K, 96, WeightKind::Q5_0),
            (WeightKind::Q5K, 96, WeightKind::Q5_1),
            (WeightKind::Q6K, 96, WeightKind::Q8_0),
            (WeightKind::Q6K, 100, WeightKind::F16),
            (WeightKind::Q4_0, 100, WeightKind::F16),
        ] {
            let (found, why) = fitting(wanted, cols);
            assert_eq!((found, why == Why::Mix), (expected, wanted == expected));
        }
    }
}
