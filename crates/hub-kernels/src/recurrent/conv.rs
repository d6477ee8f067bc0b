use std::sync::PoisonError;

use super::Stream;
use crate::{
    Cpu,
    rows::{Function, apply},
    simd::{LANES, Op, Simd},
};

/// A causal convolution of channels, each with its own weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Conv {
    /// `[kernel, channels]`, the oldest row first.
    weight: Vec<f32>,
    /// `[channels]`.
    bias: Vec<f32>,
    kernel: usize,
}

impl Conv {
    /// Makes one of weights `[channels, kernel]` and of what is added, nothing if it is empty.
    ///
    /// # Panics
    /// If `kernel` is 0, or the numbers are not as many as that.
    pub fn new(weight: &[f32], bias: Vec<f32>, kernel: usize) -> Self {
        let channels = weight.len() / kernel;
        assert_eq!(weight.len(), channels * kernel, "a weight for each row and channel");
        let turned = (0..kernel).flat_map(|row| (0..channels).map(move |channel| channel * kernel + row));
        let weight = turned.map(|from| weight[from]).collect();
        let bias = if bias.is_empty() { vec![0.0; channels] } else { bias };
        assert_eq!(bias.len(), channels, "one number to add for each channel");
        Self { weight, bias, kernel }
    }

    /// Returns how many channels there are.
    pub fn channels(&self) -> usize {
        self.bias.len()
    }

    /// Convolves `x` `[rows, channels]` into `out` of the same shape, then applies `function`. The channels are those
    /// from `offset` on of what a layer of the streams' blocks keeps, which is brought up to date.
    ///
    /// # Panics
    /// If shapes do not fit.
    pub fn run(
        &self,
        x: &[f32],
        streams: &[Stream<'_>],
        (layer, offset): (usize, usize),
        function: Option<Function>,
        out: &mut [f32],
        cpu: &Cpu,
    ) {
        let channels = self.channels();
        assert_eq!(x.len(), out.len(), "as many rows out as in");
        cpu.each_chunk(out, channels, |row, out| {
            let place = streams.partition_point(|stream| stream.start <= row);
            let Some(stream) = place.checked_sub(1).and_then(|place| streams.get(place)) else { return };
            let tail = stream.block.tail(layer);
            out.copy_from_slice(&self.bias);
            for (tap, weight) in self.weight.chunks_exact(channels).enumerate() {
                let seen = row + tap + 1;
                let from = match seen.checked_sub(self.kernel + stream.start) {
                    Some(within) => &x[(stream.start + within) * channels..][..channels],
                    None => {
                        let kept = row - stream.start + tap;
                        &tail[kept * stream.block.shape.channels + offset..][..channels]
                    }
                };
                cpu.isa().run(AddProduct { out, weight, from });
            }
            if let Some(function) = function {
                apply(function, out, cpu.isa());
            }
        });
        streams.iter().for_each(|stream| self.keep(x, stream, layer, offset));
    }

    /// Keeps the last rows that a stream saw.
    fn keep(&self, x: &[f32], stream: &Stream<'_>, layer: usize, offset: usize) {
        let (channels, kept) = (self.channels(), self.kernel - 1);
        let wide = stream.block.shape.channels;
        let mut tail = stream.block.tails[layer].write().unwrap_or_else(PoisonError::into_inner);
        for row in 0..kept {
            let to = row * wide + offset;
            match (row + stream.count).checked_sub(kept) {
                Some(within) => {
                    let from = (stream.start + within) * channels;
                    tail[to..to + channels].copy_from_slice(&x[from..from + channels]);
                }
                None => {
                    let from = (row + stream.count) * wide + offset;
                    tail.copy_within(from..from + channels, to);
                }
            }
        }
    }
}

/// Adds products number by number.
struct AddProduct<'a> {
    out: &'a mut [f32],
    weight: &'a [f32],
    from: &'a [f32],
}

impl Op for AddProduct<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (outs, rest) = self.out.as_chunks_mut::<LANES>();
        let (weights, last_weights) = self.weight.as_chunks::<LANES>();
        let (froms, last_froms) = self.from.as_chunks::<LANES>();
        for ((out, weight), from) in outs.iter_mut().zip(weights).zip(froms) {
            simd.store(simd.fma(simd.load(weight), simd.load(from), simd.load(out)), out);
        }
        for ((out, weight), from) in rest.iter_mut().zip(last_weights).zip(last_froms) {
            *out += weight * from;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recurrent::{RecurrentBlock, RecurrentShape};

    /// The definition, over a whole sequence from its beginning.
    fn reference(weight: &[f32], bias: f32, x: &[f32]) -> Vec<f32> {
        let kernel = weight.len();
        let at = |row: usize, tap: usize| (row + tap + 1).checked_sub(kernel).map_or(0.0, |from| x[from]);
        (0..x.len())
            .map(|row| bias + (0..kernel).map(|tap| weight[tap] * at(row, tap)).sum::<f32>())
            .collect()
    }

    #[test]
    fn pieces_of_sequences_are_convolved_as_a_whole() {
        let (channels, kernel, offset) = (19, 4, 3);
        let weight: Vec<f32> = (0..channels * kernel).map(|at| ((at * 37) % 11) as f32 - 5.0).collect();
        let bias: Vec<f32> = (0..channels).map(|at| at as f32).collect();
        let conv = Conv::new(&weight, bias.clone(), kernel);
        let shape = RecurrentShape {
            channels: channels + offset,
            rows: kernel - 1,
            heads: 0,
            key_dim: 0,
            value_dim: 0,
        };
        let all: [Vec<f32>; 2] =
            [7, 5].map(|seed| (0..9 * channels).map(|at| ((at * seed + seed) % 13) as f32 - 6.0).collect());
        let blocks = [RecurrentBlock::new(shape, 2), RecurrentBlock::new(shape, 2)];
        let mut found = [Vec::new(), Vec::new()];
        let mut done = [0, 0];
        for counts in [[1, 2], [2, 5], [6, 2]] {
            let x: Vec<f32> = (0..2)
                .flat_map(|at| all[at][done[at] * channels..(done[at] + counts[at]) * channels].to_vec())
                .collect();
            let mut out = vec![0.0; x.len()];
            let streams = [
                Stream { start: 0, count: counts[0], block: &blocks[0] },
                Stream { start: counts[0], count: counts[1], block: &blocks[1] },
            ];
            conv.run(&x, &streams, (1, offset), None, &mut out, &Cpu::single());
            let (first, second) = out.split_at(counts[0] * channels);
            found[0].extend_from_slice(first);
            found[1].extend_from_slice(second);
            (0..2).for_each(|at| done[at] += counts[at]);
        }
        for (all, found) in all.iter().zip(&found) {
            for channel in 0..channels {
                let of = |rows: &[f32]| -> Vec<f32> {
                    rows.iter().skip(channel).step_by(channels).copied().collect()
                };
                let weight = &weight[channel * kernel..(channel + 1) * kernel];
                assert_eq!(of(found), reference(weight, bias[channel], &of(all)), "channel {channel}");
            }
        }
        assert!(blocks[0].tail(0).iter().all(|number| *number == 0.0), "another layer's is left alone");
    }
}
