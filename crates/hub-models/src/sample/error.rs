use hub_base::ErrorKind;

/// Why no token can be drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SampleError {
    /// A logit is not a number: the weights or the arithmetic are broken.
    #[error("the model computed something that is not a number")]
    NotANumber,
    /// Every token is ruled out.
    #[error("no token is left to draw from")]
    NothingLeft,
    /// The bias names a token that the model does not have.
    #[error("`logit_bias` names token {id}, and the vocabulary has {vocab_size}")]
    UnknownToken {
        /// The token.
        id: u32,
        /// How many there are.
        vocab_size: usize,
    },
}

impl SampleError {
    /// Classifies the error for frontends.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotANumber | Self::NothingLeft => ErrorKind::Internal,
            Self::UnknownToken { .. } => ErrorKind::InvalidInput,
        }
    }
}
