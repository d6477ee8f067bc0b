use std::fmt;

use hub_nn::spec::{KvSpec, LayerSpec, Mixer, Mlp, ModelSpec, Rule};
use serde::Serialize;

/// Layers of one kind, of a model that may have several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LayerKind {
    /// How a row sees others, and what works on it alone: `"attention within 1024, 8 of 128 experts"`.
    pub name: String,
    /// How many layers are of this kind.
    pub count: usize,
}

/// Counts the layers of each kind, in the order in which the kinds first occur.
pub(crate) fn by_kind(spec: &ModelSpec) -> Vec<LayerKind> {
    let mut kinds: Vec<LayerKind> = Vec::new();
    for layer in &spec.layers {
        let name = name(layer);
        match kinds.iter_mut().find(|kind| kind.name == name) {
            Some(kind) => kind.count += 1,
            None => kinds.push(LayerKind { name, count: 1 }),
        }
    }
    kinds
}

fn name(layer: &LayerSpec) -> String {
    let mixer = mixer(&layer.mixer);
    match &layer.mlp {
        Mlp::Gated { .. } | Mlp::Plain { .. } => mixer,
        Mlp::Experts(experts) => {
            format!("{mixer}, {} of {} experts", experts.routing.chosen, experts.experts.len())
        }
    }
}

fn mixer(mixer: &Mixer) -> String {
    match mixer {
        Mixer::Attention(attention) => {
            let window = attention.window.map(|window| format!(" within {window}"));
            let keys = match attention.kv {
                KvSpec::Own(_) => "",
                KvSpec::Of(_) => " to the keys of another layer",
            };
            format!("attention{}{keys}", window.unwrap_or_default())
        }
        Mixer::Latent(_) => "latent attention".to_owned(),
        Mixer::Recurrent(recurrent) => match recurrent.rule {
            Rule::Delta { .. } => "gated delta net".to_owned(),
            Rule::StateSpace { .. } => "Mamba-2".to_owned(),
        },
        Mixer::ShortConv(_) => "short convolution".to_owned(),
    }
}

impl fmt::Display for LayerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.count, self.name)
    }
}
