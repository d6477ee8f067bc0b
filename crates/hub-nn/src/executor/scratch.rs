//! How much memory a step computes in, beside weights and states.

use crate::spec::{ExpertsSpec, Head, KvSpec, LayerSpec, LinearSpec, Mixer, Mlp, ModelSpec};

/// Bytes of a number as products of bytes read it: itself, and its parts of scales and sums.
const ROUNDED: f64 = 1.3;

/// How many places of an expert stay empty on average: its rows fill panels of 16.
const EMPTY: usize = 8;

/// How many numbers a row takes in each kind of buffer: the widest layer counts, since buffers serve one after another.
#[derive(Clone, Copy, Debug, Default)]
struct Widths {
    mixer: usize,
    mlp: usize,
    /// What products read.
    inputs: usize,
    /// What the second products of a layer read.
    inner: usize,
}

/// Estimates how many bytes a step of `rows` rows computes in, of which `outputs` have logits. What the processor's
/// executor takes was measured within a tenth of it for dense models, and up to a third above for small experts.
pub(super) fn bytes(spec: &ModelSpec, rows: usize, outputs: usize) -> u64 {
    let widest = spec.layers.iter().map(|layer| Widths::of(layer, spec)).fold(Widths::default(), Widths::max);
    let streams = spec.streams.as_ref().map_or(0, |streams| 2 * streams.count() * spec.hidden_size);
    let parts = spec.embedding.per_layer.as_ref().map_or(0, |part| 2 * part.width * spec.layers.len());
    let numbers = 2 * spec.hidden_size + widest.mixer + widest.mlp + streams + parts;
    let inputs = (widest.inputs + widest.inner) as f64 * ROUNDED;
    let logits = match &spec.head {
        Head::Logits { linear, .. } => outputs as f64 * linear.outputs as f64 * 4.0,
        Head::None | Head::Classifier(_) | Head::Vector(_) | Head::Beside(_) => 0.0,
    };
    (rows as f64 * (numbers as f64 * 4.0 + inputs) + logits + padding(spec)) as u64
}

/// Returns what the empty places of experts take.
fn padding(spec: &ModelSpec) -> f64 {
    let of_mixture = |experts: &ExpertsSpec| {
        let inner = experts.experts.first().map_or(0, |expert| expert.up.outputs);
        let place = (2 * inner + spec.hidden_size) as f64 * 4.0 + (inner + spec.hidden_size) as f64 * ROUNDED;
        (experts.experts.len() * EMPTY) as f64 * place
    };
    spec.mixtures().map(of_mixture).fold(0.0, f64::max)
}

impl Widths {
    fn of(layer: &LayerSpec, spec: &ModelSpec) -> Self {
        let hidden = spec.hidden_size;
        let (mixer, mixed) = of_mixer(&layer.mixer);
        let (mlp, inner, copies) = match &layer.mlp {
            Mlp::Gated { up, .. } | Mlp::Plain { up, .. } => (2 * up.outputs, up.outputs, 0),
            Mlp::Experts(experts) => {
                let inner = experts.experts.first().map_or(0, |expert| expert.up.outputs);
                let shared = match experts.shared.as_ref().map(|shared| &*shared.mlp) {
                    Some(Mlp::Gated { up, .. }) => up.outputs,
                    _ => 0,
                };
                let chosen = experts.routing.chosen;
                let scores = 2 * experts.experts.len();
                (
                    chosen * (2 * inner + hidden) + 2 * shared + scores,
                    inner.max(shared),
                    chosen * (hidden + inner),
                )
            }
        };
        Self { mixer: mixer + mixed, mlp, inputs: hidden + copies, inner: inner.max(mixed) }
    }

    fn max(self, other: Self) -> Self {
        Self {
            mixer: self.mixer.max(other.mixer),
            mlp: self.mlp.max(other.mlp),
            inputs: self.inputs.max(other.inputs),
            inner: self.inner.max(other.inner),
        }
    }
}

/// Returns how many numbers of a row a mixer computes, and how many its last product reads.
fn of_mixer(mixer: &Mixer) -> (usize, usize) {
    let width = |linear: &LinearSpec| linear.outputs;
    match mixer {
        Mixer::Attention(attention) => {
            let cached = match &attention.kv {
                KvSpec::Own(own) => width(&own.key) + width(&own.value),
                KvSpec::Of(_) => 0,
            };
            let gate = attention.gate.as_ref().map_or(0, width);
            (width(&attention.query) + cached + gate, attention.output.inputs)
        }
        Mixer::Latent(latent) => {
            let cached = latent.rank + latent.rope_dim;
            let queries = width(&latent.query);
            let turned = latent.heads * (cached + latent.rank);
            let first = latent.query_latent.as_ref().map_or(0, |(linear, _)| width(linear));
            (first + queries + 2 * cached + 2 * turned, latent.output.inputs)
        }
        Mixer::Recurrent(recurrent) => {
            let convolved: usize = recurrent.convolved().iter().map(|part| 2 * width(&part.linear)).sum();
            (
                convolved + width(&recurrent.gate) + 3 * recurrent.heads + recurrent.inner(),
                recurrent.output.inputs,
            )
        }
        Mixer::ShortConv(conv) => (4 * width(&conv.value), conv.output.inputs),
    }
}
