use super::Stream;
use crate::{
    Cpu,
    simd::{LANES, Op, Simd},
};

/// Sums that are added up side by side, so that one does not wait for another.
const SUMS: usize = 4;

/// Heads with a matrix each, which rows read by their query after they have changed it by key and value.
///
/// With matrix `S`, key `k`, query `q`, value `v`, decay `a` and share `b`: `S = a S + k (x) u` and `out = q S + skip v`,
/// where `u = b v`, or `u = b (v - a k S)` by the delta rule. Sources: Yang et al. 2024,
/// <https://arxiv.org/abs/2412.06464>; Dao and Gu 2024, <https://arxiv.org/abs/2405.21060>.
#[derive(Clone, Debug, PartialEq)]
pub struct Scan {
    /// Number of matrices.
    pub heads: usize,
    /// Number of keys; divides `heads`.
    pub key_heads: usize,
    /// Whether head `h` reads by key `h % key_heads`, and not by `h / (heads / key_heads)`.
    pub is_tiled: bool,
    /// Numbers of a key.
    pub key_dim: usize,
    /// Numbers of a value.
    pub value_dim: usize,
    /// Whether what the key reads already is taken off the value.
    pub is_delta: bool,
    /// `[heads]`; empty if nothing is added.
    pub skip: Vec<f32>,
}

/// What rows bring.
#[derive(Clone, Copy, Debug)]
pub struct ScanRows<'a> {
    /// `[rows, key_heads * key_dim]`
    pub queries: &'a [f32],
    /// `[rows, key_heads * key_dim]`
    pub keys: &'a [f32],
    /// `[rows, heads * value_dim]`
    pub values: &'a [f32],
    /// `[rows, heads]`
    pub decays: &'a [f32],
    /// `[rows, heads]`
    pub shares: &'a [f32],
}

impl Scan {
    /// Lets rows pass the matrices of a layer of the streams' blocks: `out` is `[heads, rows, value_dim]`.
    ///
    /// # Panics
    /// If shapes do not fit.
    pub fn run(&self, rows: ScanRows<'_>, streams: &[Stream<'_>], layer: usize, out: &mut [f32], cpu: &Cpu) {
        let count = rows.decays.len() / self.heads;
        assert_eq!(rows.keys.len(), count * self.key_heads * self.key_dim, "a key for each row");
        assert_eq!(rows.values.len(), out.len(), "as many values out as in");
        assert_eq!(out.len(), count * self.heads * self.value_dim, "a value for each row and head");
        cpu.each_chunk(out, count * self.value_dim, |head, out| {
            for stream in streams {
                let mut matrix = stream.block.head(layer, head);
                for (strip, matrix) in matrix.chunks_exact_mut(self.key_dim).enumerate() {
                    cpu.isa().run(Strip { scan: self, rows, stream, head, strip, matrix, out });
                }
            }
        });
    }

    /// Returns which key a head reads by.
    fn key_of(&self, head: usize) -> usize {
        if self.is_tiled { head % self.key_heads } else { head / (self.heads / self.key_heads) }
    }
}

/// Sixteen columns of a matrix, and the rows of one sequence.
struct Strip<'a> {
    scan: &'a Scan,
    rows: ScanRows<'a>,
    stream: &'a Stream<'a>,
    head: usize,
    strip: usize,
    /// `[key_dim]`
    matrix: &'a mut [[f32; LANES]],
    /// `[rows, value_dim]`
    out: &'a mut [f32],
}

impl Op for Strip<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { scan, rows, stream, head, strip, matrix, out } = self;
        let (dim, key) = (scan.value_dim, scan.key_of(head));
        let columns = strip * LANES..dim.min((strip + 1) * LANES);
        let skip = scan.skip.get(head).copied().unwrap_or(0.0);
        for row in stream.start..stream.start + stream.count {
            let at = (row * scan.key_heads + key) * scan.key_dim;
            let (query, key) = (&rows.queries[at..at + scan.key_dim], &rows.keys[at..at + scan.key_dim]);
            let number = row * scan.heads + head;
            let (decay, share) = (simd.splat(rows.decays[number]), simd.splat(rows.shares[number]));
            let mut value = [0.0; LANES];
            value[..columns.len()].copy_from_slice(&rows.values[number * dim..][columns.clone()]);
            let value = simd.load(&value);
            let news = match scan.is_delta {
                true => simd.sub(value, simd.mul(decay, read(simd, matrix, key))),
                false => value,
            };
            let found = write_and_read(simd, matrix, (decay, simd.mul(news, share)), key, query);
            let mut lanes = [0.0; LANES];
            simd.store(simd.fma(simd.splat(skip), value, found), &mut lanes);
            out[row * dim..][columns.clone()].copy_from_slice(&lanes[..columns.len()]);
        }
    }
}

/// Multiplies a key with the matrix.
#[inline(always)]
fn read<S: Simd>(simd: S, matrix: &[[f32; LANES]], key: &[f32]) -> S::F {
    let mut sums = [simd.splat(0.0); SUMS];
    let (fours, rest) = matrix.as_chunks::<SUMS>();
    let (keys, last) = key.as_chunks::<SUMS>();
    for (lines, keys) in fours.iter().zip(keys) {
        for ((sum, line), key) in sums.iter_mut().zip(lines).zip(keys) {
            *sum = simd.fma(simd.splat(*key), simd.load(line), *sum);
        }
    }
    for (line, key) in rest.iter().zip(last) {
        sums[0] = simd.fma(simd.splat(*key), simd.load(line), sums[0]);
    }
    total(simd, sums)
}

/// Lets the matrix decay, adds the key times `news`, and multiplies the query with what it is then.
#[inline(always)]
fn write_and_read<S: Simd>(
    simd: S,
    matrix: &mut [[f32; LANES]],
    (decay, news): (S::F, S::F),
    key: &[f32],
    query: &[f32],
) -> S::F {
    let mut sums = [simd.splat(0.0); SUMS];
    let change = |line: &mut [f32; LANES], key: f32, query: f32, sum: &mut S::F| {
        let changed = simd.fma(simd.splat(key), news, simd.mul(simd.load(line), decay));
        simd.store(changed, line);
        *sum = simd.fma(simd.splat(query), changed, *sum);
    };
    let (fours, rest) = matrix.as_chunks_mut::<SUMS>();
    let ((keys, last_keys), (queries, last_queries)) = (key.as_chunks::<SUMS>(), query.as_chunks::<SUMS>());
    for ((lines, keys), queries) in fours.iter_mut().zip(keys).zip(queries) {
        for (at, sum) in sums.iter_mut().enumerate() {
            change(&mut lines[at], keys[at], queries[at], sum);
        }
    }
    for ((line, key), query) in rest.iter_mut().zip(last_keys).zip(last_queries) {
        change(line, *key, *query, &mut sums[0]);
    }
    total(simd, sums)
}

#[inline(always)]
fn total<S: Simd>(simd: S, [a, b, c, d]: [S::F; SUMS]) -> S::F {
    simd.add(simd.add(a, b), simd.add(c, d))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recurrent::{RecurrentBlock, RecurrentShape};

    struct Drawn {
        queries: Vec<f32>,
        keys: Vec<f32>,
        values: Vec<f32>,
        decays: Vec<f32>,
        shares: Vec<f32>,
    }

    fn drawn(scan: &Scan, rows: usize) -> Drawn {
        let draw = |len: usize, seed: usize| -> Vec<f32> {
            (0..len).map(|at| ((at * 73 + seed) % 101) as f32 / 101.0 - 0.5).collect()
        };
        let unit = |numbers: Vec<f32>| numbers.into_iter().map(|number| number + 0.5).collect();
        Drawn {
            queries: draw(rows * scan.key_heads * scan.key_dim, 3),
            keys: draw(rows * scan.key_heads * scan.key_dim, 31),
            values: draw(rows * scan.heads * scan.value_dim, 17),
            decays: unit(draw(rows * scan.heads, 7)),
            shares: unit(draw(rows * scan.heads, 11)),
        }
    }

    impl Drawn {
        fn rows(&self, scan: &Scan, rows: std::ops::Range<usize>) -> ScanRows<'_> {
            let part =
                |numbers: &'_ [f32], width: usize| rows.start * width..(rows.end * width).min(numbers.len());
            let (key, value) = (scan.key_heads * scan.key_dim, scan.heads * scan.value_dim);
            ScanRows {
                queries: &self.queries[part(&self.queries, key)],
                keys: &self.keys[part(&self.keys, key)],
                values: &self.values[part(&self.values, value)],
                decays: &self.decays[part(&self.decays, scan.heads)],
                shares: &self.shares[part(&self.shares, scan.heads)],
            }
        }
    }

    /// The definition, in `f64`: `[rows, value_dim]` of one head.
    fn reference(scan: &Scan, drawn: &Drawn, rows: usize, head: usize) -> Vec<f64> {
        let (keys, values) = (scan.key_dim, scan.value_dim);
        let mut matrix = vec![0.0; keys * values];
        let mut out = Vec::new();
        for row in 0..rows {
            let at = (row * scan.key_heads + scan.key_of(head)) * keys;
            let (key, query) = (&drawn.keys[at..at + keys], &drawn.queries[at..at + keys]);
            let number = row * scan.heads + head;
            let value = &drawn.values[number * values..(number + 1) * values];
            matrix.iter_mut().for_each(|number_of| *number_of *= f64::from(drawn.decays[number]));
            for column in 0..values {
                let read: f64 = (0..keys).map(|at| f64::from(key[at]) * matrix[at * values + column]).sum();
                let known = if scan.is_delta { read } else { 0.0 };
                let news = f64::from(drawn.shares[number]) * (f64::from(value[column]) - known);
                (0..keys).for_each(|at| matrix[at * values + column] += f64::from(key[at]) * news);
                let found: f64 =
                    (0..keys).map(|at| f64::from(query[at]) * matrix[at * values + column]).sum();
                let skip = scan.skip.get(head).copied().unwrap_or(0.0);
                out.push(found + f64::from(skip) * f64::from(value[column]));
            }
        }
        out
    }

    #[test]
    fn rows_pass_as_the_rule_says_in_every_set_and_in_pieces() {
        let one = Scan {
            heads: 4,
            key_heads: 2,
            is_tiled: false,
            key_dim: 9,
            value_dim: 21,
            is_delta: true,
            skip: Vec::new(),
        };
        let skip = vec![0.5, -1.0, 2.0, 0.25];
        for scan in [one.clone(), Scan { is_tiled: true, is_delta: false, skip, ..one }] {
            let (rows, drawn) = (7, drawn(&scan, 7));
            let Scan { heads, key_dim, value_dim, .. } = scan;
            let shape = RecurrentShape { channels: 0, rows: 0, heads, key_dim, value_dim };
            for isa in crate::Isa::ALL.into_iter().filter(|isa| isa.is_here()) {
                let cpu = Cpu::new(std::num::NonZeroUsize::MIN, isa).unwrap();
                let block = RecurrentBlock::new(shape, 1);
                let mut whole = vec![0.0; rows * heads * value_dim];
                let stream = Stream { start: 0, count: rows, block: &block };
                scan.run(drawn.rows(&scan, 0..rows), &[stream], 0, &mut whole, &cpu);
                let block = RecurrentBlock::new(shape, 1);
                for head in 0..heads {
                    let found = &whole[head * rows * value_dim..(head + 1) * rows * value_dim];
                    for (found, expected) in found.iter().zip(reference(&scan, &drawn, rows, head)) {
                        assert!((f64::from(*found) - expected).abs() < 1e-5, "{isa:?}: {found}, {expected}");
                    }
                }
                for part in [0..1, 1..5, 5..7] {
                    let count = part.len();
                    let mut out = vec![0.0; count * heads * value_dim];
                    let stream = Stream { start: 0, count, block: &block };
                    scan.run(drawn.rows(&scan, part.clone()), &[stream], 0, &mut out, &cpu);
                    for head in 0..heads {
                        let of = |all: &[f32], rows: usize, from: usize| {
                            all[(head * rows + from) * value_dim..][..count * value_dim].to_vec()
                        };
                        assert_eq!(of(&out, count, 0), of(&whole, rows, part.start), "{isa:?}, {part:?}");
                    }
                }
            }
        }
    }
}
