use candle_core::{Result, Tensor};

use super::{
    Rope,
    attention::Attention,
    latent::Latent,
    recurrent::{Recurrent, ShortConv},
    rope::Angles,
    store::LayerCache,
};

/// What lets a row see other rows, with its weights; [`spec::Mixer`](crate::spec::Mixer) says what each is.
#[derive(Debug)]
pub(super) enum Mixer {
    Attention(Box<Attention>),
    Latent(Box<Latent>),
    Recurrent(Box<Recurrent>),
    ShortConv(Box<ShortConv>),
}

/// The rows of one sequence within a step.
pub(super) struct Rows<'a> {
    /// Its first row among the rows of the step.
    pub(super) start: usize,
    pub(super) count: usize,
    /// The position of its first row in its sequence.
    pub(super) position: usize,
    /// What the sequence has cached; `None` where every row sees exactly the rows of this step.
    pub(super) cache: Option<LayerCache<'a>>,
}

impl Mixer {
    /// Mixes rows `[rows, hidden]` of several sequences.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        segments: &[Rows<'_>],
        ropes: (&[Rope], &[Angles]),
    ) -> Result<Tensor> {
        match self {
            Self::Attention(attention) => attention.forward(x, segments, ropes),
            Self::Latent(latent) => latent.forward(x, segments, ropes),
            Self::Recurrent(recurrent) => recurrent.forward(x, segments),
            Self::ShortConv(conv) => conv.forward(x, segments),
        }
    }
}
