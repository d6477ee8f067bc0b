use crate::{
    Error,
    spec::{Factors, RopeScaling, RopeSpec, TensorRef},
};

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
#[derive(Debug, Default)]
pub(super) struct Rotations {
    pub(super) cos: Vec<f32>,
    pub(super) sin: Vec<f32>,
}

/// The rotations of a model while it is loaded: layers that turn alike share one.
#[derive(Debug, Default)]
pub(super) struct Ropes(Vec<Rope>);

impl Ropes {
    /// Returns the index of a rotation, after reading its divisors with `read`.
    pub(super) fn index(
        &mut self,
        rope: &RopeSpec,
        mut read: impl FnMut(&TensorRef) -> Result<Vec<f32>, Error>,
    ) -> Result<usize, Error> {
        let mut rope = rope.clone();
        let mut divisors = |factors: &mut Factors| {
            if let Factors::Tensor(tensor) = factors {
                *factors = Factors::Values(read(tensor)?);
            }
            Ok::<_, Error>(())
        };
        match &mut rope.scaling {
            RopeScaling::LongRope(long_rope) => {
                divisors(&mut long_rope.short)?;
                divisors(&mut long_rope.long)?;
            }
            RopeScaling::Factors(factors) => divisors(factors)?,
            _ => {}
        }
        if let Some(index) = self.0.iter().position(|known| known.spec == rope) {
            return Ok(index);
        }
        self.0.push(Rope::new(rope));
        Ok(self.0.len() - 1)
    }

    /// Returns all of them, by index.
    pub(super) fn into_all(self) -> Vec<Rope> {
        self.0
    }
}

impl Rope {
    /// Prepares a rotation whose divisors are all values: none is left in a tensor.
    fn new(spec: RopeSpec) -> Self {
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
    pub(super) fn rotations(
        &self,
        segments: impl Iterator<Item = (usize, usize, usize)>,
        out: &mut Rotations,
    ) {
        let factor = self.spec.attention_factor();
        out.cos.clear();
        out.sin.clear();
        for (start, count, span) in segments {
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
                    out.cos.push(c * factor);
                    out.sin.push(s * factor);
                }
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
