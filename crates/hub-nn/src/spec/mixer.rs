use super::{AttentionSpec, KvSpec, LatentSpec, RecurrentSpec, RopeSpec, ShortConvSpec, TensorUse};

/// What lets a row see other rows.
#[derive(Clone, Debug, PartialEq)]
pub enum Mixer {
    /// Attention: each row looks at the keys and values of those before it.
    Attention(Box<AttentionSpec>),
    /// Attention whose keys and values are made of one short row.
    Latent(Box<LatentSpec>),
    /// A state that each row reads and changes.
    Recurrent(Box<RecurrentSpec>),
    /// A few rows before each row, weighed by channel.
    ShortConv(Box<ShortConvSpec>),
}

impl Mixer {
    /// Returns the attention, if it is one.
    pub fn attention(&self) -> Option<&AttentionSpec> {
        match self {
            Self::Attention(attention) => Some(attention),
            _ => None,
        }
    }

    /// Returns the layer that keeps what a sequence leaves behind for `layer`, most often itself.
    pub fn keeper(&self, layer: usize) -> usize {
        match self.attention().map(|attention| &attention.kv) {
            Some(KvSpec::Of(keeper)) => *keeper,
            _ => layer,
        }
    }

    /// Returns how queries and keys are rotated, if they are.
    pub fn rope(&self) -> Option<&RopeSpec> {
        match self {
            Self::Attention(attention) => attention.rope.as_ref(),
            Self::Latent(latent) => Some(&latent.rope),
            Self::Recurrent(_) | Self::ShortConv(_) => None,
        }
    }

    /// Returns how many rows a row sees, where it does not see all before it.
    pub fn window(&self) -> Option<usize> {
        self.attention()?.window
    }

    pub(super) fn collect<'a>(&'a self, all: &mut Vec<TensorUse<'a>>) {
        match self {
            Self::Attention(attention) => attention.collect(all),
            Self::Latent(latent) => latent.collect(all),
            Self::Recurrent(recurrent) => recurrent.collect(all),
            Self::ShortConv(conv) => conv.collect(all),
        }
    }
}

impl From<AttentionSpec> for Mixer {
    fn from(attention: AttentionSpec) -> Self {
        Self::Attention(Box::new(attention))
    }
}
