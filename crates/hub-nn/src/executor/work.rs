use super::{ExecutorKind, ExecutorOptions, cpu::Packing};
use crate::{
    spec::{Head, ModelSpec, TensorRef, TensorUse},
    weights::Weights,
};

/// What computing with a model's weights takes: the part of a step that does not grow with the sequences.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Work {
    /// What every row goes through.
    pub body: Cost,
    /// What the rows go through whose results are asked for: of a prompt the last one.
    pub head: Cost,
}

/// What some weights take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cost {
    /// Bytes that a step reads, once for all its rows.
    pub weight_bytes: u64,
    /// Multiplications of each row with weights of few bits.
    pub byte_products: u64,
    /// Multiplications of each row with plain numbers.
    pub float_products: u64,
}

impl Work {
    /// Counts what a model takes as `options` run it; `Auto` counts as the executor for processors.
    pub fn of(options: ExecutorOptions, spec: &ModelSpec, weights: &Weights) -> Self {
        let mut work = Self::default();
        let packing = (options.kind != ExecutorKind::Candle).then(|| Packing::of(options, spec));
        let head = head(spec);
        for used in spec.distinct_tensors() {
            let is_head = head.contains(&used.tensor);
            let is_multiplied = is_head || *used.tensor != spec.embedding.table;
            let Some(width) = used.width.filter(|_| is_multiplied && !used.is_looked_up) else { continue };
            let part = if is_head { &mut work.head } else { &mut work.body };
            part.add(packing, &used, width, weights);
        }
        work
    }
}

impl Cost {
    fn add(&mut self, packing: Option<Packing>, used: &TensorUse<'_>, width: usize, weights: &Weights) {
        let Some(info) = weights.info(&used.tensor.name) else { return };
        let (rows, all_rows) = used.rows_of(info.rows());
        let products = rows as u64 * width as u64;
        let (bytes, is_bytes) = match packing {
            Some(packing) => (packing.tensor_bytes(used, weights), packing.multiplies_bytes(info)),
            // candle rounds the activations only where it has kernels of its own for a kind.
            None => (info.bytes() / all_rows as u64 * rows as u64, false),
        };
        self.weight_bytes += bytes;
        match is_bytes {
            true => self.byte_products += products,
            false => self.float_products += products,
        }
    }
}

fn head(spec: &ModelSpec) -> Vec<&TensorRef> {
    match &spec.head {
        Head::None => Vec::new(),
        Head::Logits { linear, .. } => vec![&linear.weight],
        Head::Classifier { dense, out } => vec![&dense.weight, &out.weight],
    }
}
