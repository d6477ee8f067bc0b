//! The three ways in which bge-m3 says what a text is about: one vector, a weight for each of its tokens, and a vector for
//! each of its tokens.
//!
//! Source: Chen et al. 2024, <https://arxiv.org/abs/2402.03216>, and FlagEmbedding's `M3Embedder`. Checked against its
//! formulas in `fixtures/m3`.

use std::{collections::BTreeMap, path::Path};

use hub_nn::{
    executor::Output,
    spec::{Head, LinearSpec, ModelSpec, TensorRef},
    tokens::Tokenizer,
    weights::Weights,
};

use crate::{
    Error,
    bundle::Bundle,
    pooling::{normalize, unsupported},
};

/// The files of the two matrices, and what their tensors are called here.
const SPARSE: (&str, &str) = ("sparse_linear.pt", "sparse_linear.");
const MULTI: (&str, &str) = ("colbert_linear.pt", "colbert_linear.");

/// A text in more ways than one vector.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TextForms {
    /// The weight of each token that the text has, by its id; empty unless it was asked for.
    pub sparse: Vec<(u32, f32)>,
    /// A vector of length one for each token but the first; empty unless it was asked for.
    pub multi_vector: Vec<Vec<f32>>,
}

/// Where a model's rows hold what.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct M3 {
    /// Numbers of a row that are the hidden state; the weight of its token follows, then its vector.
    hidden: usize,
    /// Tokens that say nothing of a text.
    unused: Vec<u32>,
}

/// Puts the two matrices beside a model's rows, if its folder has them.
///
/// # Errors
/// Those of reading them.
pub(crate) fn add(folder: &Path, weights: Weights, spec: &mut ModelSpec) -> Result<Weights, Error> {
    let paths = [SPARSE, MULTI].map(|(file, _)| folder.join(file));
    if !matches!(spec.head, Head::None) || !paths.iter().all(|path| path.is_file()) {
        return Ok(weights);
    }
    let mut linears = Vec::new();
    let mut weights = weights;
    for (path, (_, prefix)) in paths.iter().zip([SPARSE, MULTI]) {
        weights = weights.with_torch_file(prefix, path)?;
        let [weight, bias] = ["weight", "bias"].map(|part| format!("{prefix}{part}"));
        let outputs = weights.info(&weight).map_or(0, |info| info.rows());
        let bias = weights.info(&bias).is_some().then(|| TensorRef::new(bias));
        let weight = TensorRef::new(weight);
        linears.push(LinearSpec { weight, bias, inputs: spec.hidden_size, outputs });
    }
    if linears.first().is_some_and(|sparse| sparse.outputs != 1) {
        return Err(unsupported(SPARSE.0, "weight", "a matrix of more than one row"));
    }
    spec.head = Head::Beside(linears);
    Ok(weights)
}

impl M3 {
    /// Returns how a model's rows are read, if it has the two matrices.
    pub(crate) fn of(bundle: &Bundle, tokenizer: &Tokenizer) -> Result<Option<Self>, Error> {
        if !matches!(bundle.spec.head, Head::Beside(_)) {
            return Ok(None);
        }
        let special = bundle.special_tokens()?;
        let unused = ["cls_token", "eos_token", "pad_token", "unk_token"];
        let unused = unused.iter().filter_map(|name| tokenizer.id_of(special.get(name)?)).collect();
        Ok(Some(Self { hidden: bundle.spec.hidden_size, unused }))
    }

    /// Puts what the rows of a text say into one list: its vector is there already, then come the weights of all tokens,
    /// and, if they are wanted, the vectors of all but the first.
    pub(crate) fn flatten(&self, rows: &Output, has_vectors: bool, all: &mut Vec<f32>) {
        let weight = |row: &[f32]| row.get(self.hidden).copied().unwrap_or(0.0).max(0.0);
        all.extend(rows.rows().map(weight));
        for row in rows.rows().skip(1).filter(|_| has_vectors) {
            let mut vector = row.get(self.hidden + 1..).unwrap_or_default().to_vec();
            normalize(&mut vector);
            all.extend(vector);
        }
    }

    /// Takes apart what [`flatten`](Self::flatten) put behind the first `dimensions` numbers.
    pub(crate) fn split(&self, all: &mut Vec<f32>, dimensions: usize, tokens: &[u32]) -> TextForms {
        let behind = all.split_off(dimensions.min(all.len()));
        let (weights, vectors) = behind.split_at(tokens.len().min(behind.len()));
        let mut sparse = BTreeMap::new();
        for (token, weight) in tokens.iter().zip(weights) {
            if *weight > 0.0 && !self.unused.contains(token) {
                let known = sparse.entry(*token).or_insert(0.0_f32);
                *known = known.max(*weight);
            }
        }
        let width = vectors.len() / tokens.len().saturating_sub(1).max(1);
        let multi_vector =
            if width == 0 { Vec::new() } else { vectors.chunks_exact(width).map(<[f32]>::to_vec).collect() };
        TextForms { sparse: sparse.into_iter().collect(), multi_vector }
    }
}
