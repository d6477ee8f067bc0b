use super::TensorRef;

/// A learned row per position, added to the embedding.
#[derive(Clone, Debug, PartialEq)]
pub struct LearnedPositions {
    /// `[count, hidden_size]`.
    pub table: TensorRef,
    /// Number of rows in the table.
    pub count: usize,
    /// Row of the first position (RoBERTa: the padding index plus one).
    pub offset: usize,
}

/// Rotation of queries and keys by position.
///
/// Source: Su et al. 2021, <https://arxiv.org/abs/2104.09864>. How positions are stretched past the context a model
/// was trained on follows `transformers.modeling_rope_utils`, and was checked against it.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeSpec {
    /// The base of the angles: pair `i` turns by `base^(-2i / dims)` a position.
    pub base: f32,
    /// How many of a head's first numbers are rotated; even, at most `head_dim`.
    pub dims: usize,
    /// Which two numbers make a pair.
    pub pairing: Pairing,
    /// How the angles change for long contexts.
    pub scaling: RopeScaling,
}

/// Which two numbers of a head are turned together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairing {
    /// `i` with `i + dims / 2`: Hugging Face folders, and GGUF files of most families.
    Halves,
    /// `2i` with `2i + 1`: GGUF files of the Llama family, whose rows were reordered for it.
    Interleaved,
}

/// How the angles change for long contexts.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// All angles divided by `factor`.
    Linear {
        /// How much longer the context becomes.
        factor: f32,
    },
    /// The base grows with the sequence once it passes the original context ("dynamic NTK").
    Dynamic {
        /// How much longer the context becomes.
        factor: f32,
        /// The context the model was trained on, in tokens.
        original_tokens: usize,
    },
    /// Fast pairs stay, slow pairs are divided, a ramp between.
    Yarn(YarnScaling),
    /// Llama 3.1's ramp by wavelength.
    Llama3(Llama3Scaling),
    /// Each pair has its own divisor, in one set for short and one for long sequences.
    LongRope(LongRope),
    /// Each pair has its own divisor, whatever the length: what GGUF files keep of `Llama3`.
    Factors(Factors),
}

/// The parameters of YaRN. Source: Peng et al. 2023, <https://arxiv.org/abs/2309.00071>.
#[derive(Clone, Debug, PartialEq)]
pub struct YarnScaling {
    /// How much longer the context becomes.
    pub factor: f32,
    /// The context the model was trained on, in tokens.
    pub original_tokens: usize,
    /// Pairs that turn more often than this over the original context stay.
    pub beta_fast: f32,
    /// Pairs that turn less often than this are divided by `factor`.
    pub beta_slow: f32,
    /// Multiplier of cosine and sine.
    pub attention_factor: f32,
    /// Whether the ramp begins and ends at whole pairs.
    pub truncate: bool,
}

/// The parameters of Llama 3.1's ramp. Source: `transformers.modeling_rope_utils`.
#[derive(Clone, Debug, PartialEq)]
pub struct Llama3Scaling {
    /// How much longer the context becomes.
    pub factor: f32,
    /// Wavelengths over `original_tokens / low_freq_factor` are divided by `factor`.
    pub low_freq_factor: f32,
    /// Wavelengths under `original_tokens / high_freq_factor` stay.
    pub high_freq_factor: f32,
    /// The context the model was trained on, in tokens.
    pub original_tokens: usize,
}

/// The parameters of LongRoPE. Source: Ding et al. 2024, <https://arxiv.org/abs/2402.13753>.
#[derive(Clone, Debug, PartialEq)]
pub struct LongRope {
    /// Divisors while the sequence fits the original context.
    pub short: Factors,
    /// Divisors once it does not.
    pub long: Factors,
    /// The context the model was trained on, in tokens.
    pub original_tokens: usize,
    /// Multiplier of cosine and sine.
    pub attention_factor: f32,
}

/// One divisor per pair.
#[derive(Clone, Debug, PartialEq)]
pub enum Factors {
    /// From the configuration.
    Values(Vec<f32>),
    /// From a tensor of `dims / 2` numbers.
    Tensor(TensorRef),
}

impl RopeSpec {
    pub(super) fn tensors(&self) -> Vec<&TensorRef> {
        let factors = match &self.scaling {
            RopeScaling::LongRope(long_rope) => vec![&long_rope.short, &long_rope.long],
            RopeScaling::Factors(factors) => vec![factors],
            _ => vec![],
        };
        factors.into_iter().filter_map(Factors::tensor).collect()
    }

    pub(super) fn restart_tokens(&self) -> Option<usize> {
        match &self.scaling {
            RopeScaling::LongRope(long_rope) => Some(long_rope.original_tokens),
            _ => None,
        }
    }

    /// Computes the angle each pair turns by per position, `dims / 2` of them.
    ///
    /// `span` is the length of the sequence in tokens, which LongRoPE and dynamic NTK depend on. `read` returns the
    /// numbers of a tensor of divisors.
    ///
    /// # Errors
    /// What `read` returns.
    pub fn frequencies<E>(
        &self,
        span: usize,
        read: impl Fn(&TensorRef) -> Result<Vec<f32>, E>,
    ) -> Result<Vec<f32>, E> {
        let plain = self.powers(self.base);
        let divide = |factors: &Factors| {
            let divisors = match factors {
                Factors::Values(values) => values.clone(),
                Factors::Tensor(tensor) => read(tensor)?,
            };
            Ok(plain.iter().zip(divisors).map(|(angle, divisor)| angle / divisor).collect())
        };
        Ok(match &self.scaling {
            RopeScaling::None => plain,
            RopeScaling::Linear { factor } => plain.iter().map(|angle| angle / factor).collect(),
            RopeScaling::Dynamic { factor, original_tokens } => {
                self.powers(self.dynamic_base(*factor, *original_tokens, span))
            }
            RopeScaling::Yarn(yarn) => yarn.apply(self.base, &plain),
            RopeScaling::Llama3(scaling) => plain.iter().map(|angle| scaling.apply(*angle)).collect(),
            RopeScaling::LongRope(long_rope) => divide(long_rope.factors(span))?,
            RopeScaling::Factors(factors) => divide(factors)?,
        })
    }

    /// Returns the multiplier of cosine and sine.
    pub fn attention_factor(&self) -> f32 {
        match &self.scaling {
            RopeScaling::Yarn(yarn) => yarn.attention_factor,
            RopeScaling::LongRope(long_rope) => long_rope.attention_factor,
            _ => 1.0,
        }
    }

    /// Tells whether the angles are the same for sequences of any length.
    pub fn is_fixed(&self) -> bool {
        !matches!(self.scaling, RopeScaling::Dynamic { .. } | RopeScaling::LongRope(_))
    }

    pub(super) fn has_all_factors(&self) -> bool {
        let complete = |factors: &Factors| match factors {
            Factors::Values(values) => {
                values.len() == self.dims / 2 && values.iter().all(|value| *value > 0.0)
            }
            Factors::Tensor(_) => true,
        };
        match &self.scaling {
            RopeScaling::LongRope(long_rope) => complete(&long_rope.short) && complete(&long_rope.long),
            RopeScaling::Factors(factors) => complete(factors),
            _ => true,
        }
    }

    pub(super) fn has_sane_scaling(&self) -> bool {
        let positive = |numbers: &[f32]| numbers.iter().all(|number| number.is_finite() && *number > 0.0);
        match &self.scaling {
            RopeScaling::None | RopeScaling::Factors(_) => true,
            RopeScaling::Linear { factor } => positive(&[*factor]),
            RopeScaling::Dynamic { factor, original_tokens } => {
                // The base grows by a power of `dims / (dims - 2)`.
                positive(&[*factor]) && *original_tokens > 0 && self.dims > 2
            }
            RopeScaling::Yarn(yarn) => {
                positive(&[yarn.factor, yarn.beta_fast, yarn.beta_slow, yarn.attention_factor])
                    && yarn.original_tokens > 0
            }
            RopeScaling::Llama3(scaling) => {
                positive(&[scaling.factor, scaling.low_freq_factor, scaling.high_freq_factor])
                    && scaling.original_tokens > 0
                    && scaling.low_freq_factor < scaling.high_freq_factor
            }
            RopeScaling::LongRope(long_rope) => {
                positive(&[long_rope.attention_factor]) && long_rope.original_tokens > 0
            }
        }
    }

    fn powers(&self, base: f32) -> Vec<f32> {
        (0..self.dims / 2).map(|pair| 1.0 / base.powf((2 * pair) as f32 / self.dims as f32)).collect()
    }

    fn dynamic_base(&self, factor: f32, original_tokens: usize, span: usize) -> f32 {
        let (span, original, dims) =
            (span.max(original_tokens) as f32, original_tokens as f32, self.dims as f32);
        self.base * (factor * span / original - (factor - 1.0)).powf(dims / (dims - 2.0))
    }
}

impl YarnScaling {
    fn apply(&self, base: f32, plain: &[f32]) -> Vec<f32> {
        let (low, high) = self.ramp_ends(base, plain.len() * 2);
        let ramp = |pair: usize| ((pair as f32 - low) / (high - low)).clamp(0.0, 1.0);
        plain
            .iter()
            .enumerate()
            .map(|(pair, angle)| angle / self.factor * ramp(pair) + angle * (1.0 - ramp(pair)))
            .collect()
    }

    /// The pairs between which the division fades in.
    fn ramp_ends(&self, base: f32, dims: usize) -> (f32, f32) {
        let pair_of = |turns: f32| {
            let wavelength = self.original_tokens as f32 / (turns * 2.0 * std::f32::consts::PI);
            dims as f32 * wavelength.ln() / (2.0 * base.ln())
        };
        let (mut low, mut high) = (pair_of(self.beta_fast), pair_of(self.beta_slow));
        if self.truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        let (low, high) = (low.max(0.0), high.min(dims as f32 - 1.0));
        // A ramp without width would divide by zero.
        (low, if high == low { high + 0.001 } else { high })
    }
}

impl Llama3Scaling {
    fn apply(&self, angle: f32) -> f32 {
        let wavelength = 2.0 * std::f32::consts::PI / angle;
        let original = self.original_tokens as f32;
        if wavelength > original / self.low_freq_factor {
            return angle / self.factor;
        }
        if wavelength < original / self.high_freq_factor {
            return angle;
        }
        let smooth =
            (original / wavelength - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor);
        (1.0 - smooth) * angle / self.factor + smooth * angle
    }
}

impl LongRope {
    fn factors(&self, span: usize) -> &Factors {
        if span > self.original_tokens { &self.long } else { &self.short }
    }
}

impl Factors {
    fn tensor(&self) -> Option<&TensorRef> {
        match self {
            Self::Values(_) => None,
            Self::Tensor(tensor) => Some(tensor),
        }
    }
}
