//! As what matrices are packed, and how many bytes that takes.

use std::collections::HashMap;

use hub_kernels::{Kind, Packed};

use crate::{
    executor::{ExecutorOptions, rounding},
    spec::{ModelSpec, TensorUse},
    weights::{TensorInfo, WeightKind, Weights},
};

/// As what the matrices of a model are packed.
#[derive(Clone, Debug)]
pub(in crate::executor) struct Packing {
    /// Plain matrices that are rounded, by their names.
    rounded: HashMap<String, WeightKind>,
}

/// As what a matrix is packed.
pub(super) enum Packs {
    AsStored(Kind),
    /// Plain numbers, rounded.
    Rounded(Kind),
    /// Numbers of a kind that is not multiplied with, as plain ones.
    Widened,
}

impl Packs {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::AsStored(kind) | Self::Rounded(kind) => *kind,
            Self::Widened => Kind::F32,
        }
    }
}

impl Packing {
    pub(in crate::executor) fn of(options: ExecutorOptions, spec: &ModelSpec, weights: &Weights) -> Self {
        Self { rounded: rounding::rounded(options, spec, weights) }
    }

    pub(super) fn kind(&self, name: &str, info: &TensorInfo) -> Packs {
        if let Some(kind) = self.rounded.get(name).and_then(|kind| kind.to_kernels()) {
            return Packs::Rounded(kind);
        }
        info.kind.to_kernels().map_or(Packs::Widened, Packs::AsStored)
    }

    /// Whether products with a matrix are products of bytes.
    pub(in crate::executor) fn multiplies_bytes(&self, name: &str, info: &TensorInfo) -> bool {
        !self.kind(name, info).kind().is_plain()
    }

    /// Returns how many bytes the tensors of a specification take once they are loaded.
    pub(super) fn weight_bytes(&self, spec: &ModelSpec, weights: &Weights) -> u64 {
        let bytes = |used: &TensorUse<'_>| self.tensor_bytes(used, weights);
        spec.distinct_tensors().iter().map(bytes).fold(0, u64::saturating_add)
    }

    /// Returns how many bytes one of them takes.
    pub(in crate::executor) fn tensor_bytes(&self, used: &TensorUse<'_>, weights: &Weights) -> u64 {
        let Some(info) = weights.info(&used.tensor.name) else { return 0 };
        let (rows, numbers) = used.size_in(&info.shape);
        match used.width {
            Some(cols) if used.is_turned => {
                Packed::bytes_of(turned_kind(info), cols, rows).map_or(u64::MAX, |bytes| bytes as u64)
            }
            Some(cols) if !used.is_looked_up => {
                Packed::bytes_of(self.kind(&used.tensor.name, info).kind(), rows, cols)
                    .map_or(u64::MAX, |bytes| bytes as u64)
            }
            _ => numbers.saturating_mul(4),
        }
    }
}

/// Returns as what a matrix is packed that is turned over first.
pub(super) fn turned_kind(info: &TensorInfo) -> Kind {
    info.kind.to_kernels().filter(|kind| kind.is_plain()).unwrap_or(Kind::F32)
}

/// Returns how many bytes the tensors of a specification take once they are loaded.
pub(in crate::executor) fn weight_bytes(
    options: ExecutorOptions,
    spec: &ModelSpec,
    weights: &Weights,
) -> u64 {
    Packing::of(options, spec, weights).weight_bytes(spec, weights)
}
