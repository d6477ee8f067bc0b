use std::collections::HashSet;

use super::{ExecutorKind, ExecutorOptions, cpu::Packing};
use crate::{
    spec::{ExpertSpec, ExpertsSpec, Head, ModelSpec, TensorRef, TensorUse},
    weights::Weights,
};

/// What computing with a model's weights takes: the part of a step that does not grow with the sequences.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Work {
    /// What every row goes through.
    pub body: Cost,
    /// What all experts of all layers take together.
    pub experts: Cost,
    /// Which part of them a row goes through.
    pub expert_share: f64,
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
        let packing = (options.kind != ExecutorKind::Candle).then(|| Packing::of(options, spec, weights));
        let head = head(spec);
        let experts: HashSet<&TensorRef> = spec.mixtures().flat_map(expert_matrices).collect();
        work.expert_share = spec.mixtures().next().map_or(0.0, ExpertsSpec::share);
        for used in spec.distinct_tensors() {
            let is_head = head.contains(&used.tensor);
            let is_multiplied = is_head || *used.tensor != spec.embedding.table;
            let Some(width) = used.width.filter(|_| is_multiplied && !used.is_looked_up) else { continue };
            let part = match is_head {
                true => &mut work.head,
                false if experts.contains(used.tensor) => &mut work.experts,
                false => &mut work.body,
            };
            part.add(packing.as_ref(), &used, width, weights);
        }
        work
    }
}

impl Cost {
    fn add(&mut self, packing: Option<&Packing>, used: &TensorUse<'_>, width: usize, weights: &Weights) {
        let Some(info) = weights.info(&used.tensor.name) else { return };
        let (rows, numbers) = used.size_in(&info.shape);
        let products = rows as u64 * width as u64;
        let (bytes, is_bytes) = match packing {
            Some(packing) => {
                (packing.tensor_bytes(used, weights), packing.multiplies_bytes(&used.tensor.name, info))
            }
            // candle rounds the activations only where it has kernels of its own for a kind.
            None => (info.bytes_of(numbers), false),
        };
        self.weight_bytes += bytes;
        match is_bytes {
            true => self.byte_products += products,
            false => self.float_products += products,
        }
    }
}

fn expert_matrices(experts: &ExpertsSpec) -> impl Iterator<Item = &TensorRef> {
    fn of_one(expert: &ExpertSpec) -> [&TensorRef; 3] {
        [&expert.gate.weight, &expert.up.weight, &expert.down.weight]
    }
    experts.experts.iter().flat_map(of_one)
}

fn head(spec: &ModelSpec) -> Vec<&TensorRef> {
    match &spec.head {
        Head::None => Vec::new(),
        Head::Logits { linear, .. } => vec![&linear.weight],
        Head::Classifier(pooled) | Head::Vector(pooled) => {
            pooled.layers.iter().map(|layer| &layer.linear.weight).collect()
        }
        Head::Beside(linears) => linears.iter().map(|linear| &linear.weight).collect(),
    }
}
