use candle_core::{Device, Result, Tensor};

use crate::spec::{Pairing, RopeSpec};

/// One rotation, shared by all layers that turn alike.
#[derive(Debug)]
pub(super) struct Rope {
    spec: RopeSpec,
    frequencies: Frequencies,
}

/// The angle each pair turns by per position.
#[derive(Debug)]
enum Frequencies {
    /// The same for sequences of any length.
    Fixed(Vec<f32>),
    /// By the length of the sequence; the tensors of divisors are read already, into the specification.
    BySpan,
}

/// Cosines and sines of some rows, each `[rows, dims / 2]`.
pub(super) struct Angles {
    cos: Tensor,
    sin: Tensor,
}

impl Rope {
    /// Prepares a rotation whose divisors are all values: none is left in a tensor.
    pub(super) fn new(spec: RopeSpec) -> Self {
        let frequencies =
            if spec.is_fixed() { Frequencies::Fixed(frequencies(&spec, 0)) } else { Frequencies::BySpan };
        Self { spec, frequencies }
    }

    pub(super) fn spec(&self) -> &RopeSpec {
        &self.spec
    }

    /// Computes the angles of rows, given as first position, count and span of each segment.
    ///
    /// Angles are products in `f32`, as in `transformers`.
    pub(super) fn angles(&self, segments: &[(usize, usize, usize)], device: &Device) -> Result<Angles> {
        let pairs = self.spec.dims / 2;
        let factor = self.spec.attention_factor();
        let rows = segments.iter().map(|(_, count, _)| count).sum::<usize>();
        let (mut cos, mut sin) = (Vec::with_capacity(rows * pairs), Vec::with_capacity(rows * pairs));
        for &(start, count, span) in segments {
            let by_span;
            let frequencies = match &self.frequencies {
                Frequencies::Fixed(fixed) => fixed,
                Frequencies::BySpan => {
                    by_span = frequencies(&self.spec, span);
                    &by_span
                }
            };
            for position in start..start + count {
                for frequency in frequencies {
                    let (s, c) = (position as f32 * frequency).sin_cos();
                    cos.push(c * factor);
                    sin.push(s * factor);
                }
            }
        }
        Ok(Angles {
            cos: Tensor::from_vec(cos, (rows, pairs), device)?,
            sin: Tensor::from_vec(sin, (rows, pairs), device)?,
        })
    }

    /// Turns `x`, `[rows, heads, head_dim]`, and returns the same shape.
    pub(super) fn rotate(&self, x: &Tensor, angles: &Angles) -> Result<Tensor> {
        let head_dim = x.dim(2)?;
        let dims = self.spec.dims;
        if dims == head_dim {
            return self.rotate_all(x, angles);
        }
        let turned = self.rotate_all(&x.narrow(2, 0, dims)?, angles)?;
        Tensor::cat(&[turned, x.narrow(2, dims, head_dim - dims)?], 2)
    }

    fn rotate_all(&self, x: &Tensor, angles: &Angles) -> Result<Tensor> {
        match self.spec.pairing {
            Pairing::Halves => {
                let x = x.unsqueeze(0)?.contiguous()?;
                candle_nn::rotary_emb::rope_thd(&x, &angles.cos, &angles.sin)?.squeeze(0)
            }
            Pairing::Interleaved => {
                let x = x.transpose(0, 1)?.unsqueeze(0)?.contiguous()?;
                candle_nn::rotary_emb::rope_i(&x, &angles.cos, &angles.sin)?.squeeze(0)?.transpose(0, 1)
            }
        }
    }
}

fn frequencies(spec: &RopeSpec, span: usize) -> Vec<f32> {
    // No divisor is left in a tensor, so nothing is read.
    let nothing = |_: &crate::spec::TensorRef| Ok::<_, std::convert::Infallible>(Vec::new());
    match spec.frequencies(span, nothing) {
        Ok(frequencies) => frequencies,
        Err(never) => match never {},
    }
}
