//! Some tokens of one sequence and the query heads of one key head, through all blocks they see.

use std::ops::Range;

use super::{
    Attention, BLOCK, RUN, Sequence,
    cache::{Element, Numbers, Part},
};
use crate::{
    Isa,
    disjoint::Disjoint,
    simd::{LANES, Math, Op, Simd},
};

/// How many query rows are multiplied with a vector of keys or values at once, and how many where vectors are wide: as
/// many sums as the latency of the instruction asks for.
const SET: usize = 4;
const WIDE_SET: usize = 8;
/// Less than any score: softmax of what a row does not see begins here.
const LOW: f32 = -1e30;

pub(super) struct Rows<'a> {
    pub(super) attention: &'a Attention,
    pub(super) sequence: &'a Sequence<'a>,
    pub(super) layer: usize,
    pub(super) head: usize,
    /// Which rows of the sequence's.
    pub(super) tokens: Range<usize>,
}

/// Where results go.
#[derive(Clone, Copy)]
pub(super) enum Target<'a> {
    /// Of all blocks, each row at its place.
    Whole(&'a Disjoint<'a, f32>),
    /// Of one run of blocks, to be merged with the others of [`Partials`].
    Run(usize, Partials<'a>),
}

/// Room for what each run of blocks makes of each row, `[rows, heads, runs, value_dim + 2]`: the largest score, the sum of
/// the weights, and what they sum up.
#[derive(Clone, Copy)]
pub(super) struct Partials<'a> {
    pub(super) numbers: &'a Disjoint<'a, f32>,
    pub(super) runs: usize,
}

impl Partials<'_> {
    /// Returns where the numbers of a row are, by its place among all heads of all rows.
    fn range(&self, place: usize, value_dim: usize, run: usize) -> Range<usize> {
        let start = (place * self.runs + run) * (value_dim + 2);
        start..start + value_dim + 2
    }
}

/// What is kept of each set of rows between blocks.
struct Set<'a, const N: usize> {
    /// `[head_dim, N]`, scaled.
    queries: &'a [[f32; N]],
    /// `[N, value_dim / 16, 16]`
    sums: &'a mut [[f32; LANES]],
    /// The largest score so far, and the sum of the weights, of each row.
    softmax: &'a mut [[f32; N]; 2],
    /// The positions that each row sees.
    seen: [Range<usize>; N],
}

impl Rows<'_> {
    fn group(&self) -> usize {
        self.attention.heads / self.attention.kv_heads
    }

    /// Returns how many rows of queries there are: the heads of each token follow each other.
    fn len(&self) -> usize {
        self.tokens.len() * self.group()
    }

    /// Returns where a row lies among all heads of all rows, of queries as well as results.
    fn place(&self, row: usize) -> usize {
        let token = self.sequence.start + self.tokens.start + row / self.group();
        token * self.attention.heads + self.head * self.group() + row % self.group()
    }

    /// Returns which positions a row sees.
    fn seen(&self, row: usize) -> Range<usize> {
        if row >= self.len() {
            return 0..0;
        }
        let Sequence { position, count, .. } = *self.sequence;
        let (end, all) = (position + self.tokens.start + row / self.group() + 1, position + count);
        let start = self.attention.window.map_or(0, |window| end.saturating_sub(window));
        match (self.attention.is_causal, self.attention.window) {
            (true, _) => start..end,
            (false, None) => 0..all,
            (false, Some(window)) => start..end.saturating_add(window).saturating_sub(1).min(all),
        }
    }

    /// Returns which positions some of the rows see.
    fn positions(&self) -> Range<usize> {
        let first = (0..self.len()).map(|row| self.seen(row).start).min().unwrap_or(0);
        first..(0..self.len()).map(|row| self.seen(row).end).max().unwrap_or(0)
    }

    /// Returns which runs of blocks some of the rows see.
    pub(super) fn runs(&self) -> Range<usize> {
        let Range { start, end } = self.positions();
        start / (RUN * BLOCK)..end.div_ceil(RUN * BLOCK)
    }

    pub(super) fn attend(&self, queries: &[f32], scratch: &mut Vec<f32>, target: Target<'_>, isa: Isa) {
        if isa.vectors() == Isa::Avx512 && self.len() > SET {
            self.attend_by::<WIDE_SET>(queries, scratch, target, isa);
        } else {
            self.attend_by::<SET>(queries, scratch, target, isa);
        }
    }

    /// The same, by sets of `N` rows: a row's result does not depend on how many.
    fn attend_by<const N: usize>(
        &self,
        queries: &[f32],
        scratch: &mut Vec<f32>,
        target: Target<'_>,
        isa: Isa,
    ) {
        let (dim, value_dim) = (self.attention.head_dim, self.attention.value_dim);
        let wide = value_dim.div_ceil(LANES);
        let sets = self.len().div_ceil(N);
        let (query_size, sum_size) = (dim * N, N * wide * LANES);
        let total_size = self.len() * (value_dim + 2);
        scratch.clear();
        scratch.resize(sets * (query_size + sum_size + 2 * N) + total_size, 0.0);
        let (all_queries, rest) = scratch.split_at_mut(sets * query_size);
        let (sums, rest) = rest.split_at_mut(sets * sum_size);
        let (softmax, totals) = rest.split_at_mut(sets * 2 * N);
        for row in 0..self.len() {
            let from = &queries[self.place(row) * dim..][..dim];
            let to = all_queries[row / N * query_size..].as_chunks_mut::<N>().0;
            for (to, from) in to.iter_mut().zip(from) {
                to[row % N] = from * self.attention.scale;
            }
        }
        totals.chunks_exact_mut(value_dim + 2).for_each(|total| total[0] = LOW);

        let softmax = softmax.as_chunks_mut::<N>().0.as_chunks_mut::<2>().0;
        let runs = match target {
            Target::Whole(_) => self.runs(),
            Target::Run(run, _) => run..run + 1,
        };
        for run in runs {
            sums.fill(0.0);
            softmax.fill([[LOW; N], [0.0; N]]);
            self.attend_run(run, all_queries, sums, softmax, isa);
            for (row, total) in totals.chunks_exact_mut(value_dim + 2).enumerate() {
                let sums = &sums[row / N * sum_size + row % N * wide * LANES..][..value_dim];
                let [largest, sum] = softmax[row / N].map(|numbers| numbers[row % N]);
                isa.run(Merge { total, largest, sum, sums });
            }
        }
        for (row, total) in totals.chunks_exact(value_dim + 2).enumerate() {
            match target {
                Target::Whole(out) => self.write(row, total, out),
                Target::Run(run, partials) => {
                    let range = partials.range(self.place(row), value_dim, run);
                    #[expect(unsafe_code, reason = "threads write parts of one buffer")]
                    // SAFETY: each row belongs to one sequence, as `attend` asserts, and each run of each of its heads to
                    // one part: no two write the same numbers.
                    let to = unsafe { partials.numbers.part(range) };
                    to.copy_from_slice(total);
                }
            }
        }
    }

    /// Lets all sets of rows pass the blocks of one run.
    fn attend_run<const N: usize>(
        &self,
        run: usize,
        queries: &[f32],
        sums: &mut [f32],
        softmax: &mut [[[f32; N]; 2]],
        isa: Isa,
    ) {
        let sets = softmax.len();
        let (query_size, sum_size) = (queries.len() / sets, sums.len() / sets);
        let Range { start, end } = self.positions();
        let blocks = (start / BLOCK).max(run * RUN)..end.div_ceil(BLOCK).min((run + 1) * RUN);
        for block in blocks {
            let part = self.sequence.blocks[block - self.sequence.dropped].read(self.layer, self.head);
            for (index, softmax) in softmax.iter_mut().enumerate() {
                let mut set = Set {
                    queries: queries[index * query_size..(index + 1) * query_size].as_chunks().0,
                    sums: sums[index * sum_size..(index + 1) * sum_size].as_chunks_mut().0,
                    softmax,
                    seen: std::array::from_fn(|row| within(&self.seen(index * N + row), block)),
                };
                let soft_cap = self.attention.soft_cap;
                match &*part {
                    Part::F32(numbers) => isa.run(Step { numbers, set: &mut set, soft_cap }),
                    Part::F16(numbers) => isa.run(Step { numbers, set: &mut set, soft_cap }),
                    Part::Q8(numbers) => isa.run(Step { numbers, set: &mut set, soft_cap }),
                }
            }
        }
    }

    /// Merges what runs left in `partials`, in the order of their positions, as one part would have.
    pub(super) fn merge(
        &self,
        partials: &[f32],
        runs: usize,
        scratch: &mut Vec<f32>,
        out: &Disjoint<'_, f32>,
        isa: Isa,
    ) {
        let size = self.attention.value_dim + 2;
        for row in 0..self.len() {
            scratch.clear();
            scratch.resize(size, 0.0);
            scratch[0] = LOW;
            let first = self.place(row) * runs;
            for run in self.runs() {
                let partial = &partials[(first + run) * size..][..size];
                let [largest, sum, sums @ ..] = partial else { continue };
                isa.run(Merge { total: scratch, largest: *largest, sum: *sum, sums });
            }
            self.write(row, scratch, out);
        }
    }

    /// Writes the mean of a row.
    fn write(&self, row: usize, total: &[f32], out: &Disjoint<'_, f32>) {
        let [largest, sum, sums @ ..] = total else { return };
        let sink = self.attention.sinks.get(self.head * self.group() + row % self.group());
        // A sink far above all scores leaves nothing.
        let weight = 1.0 / (sum + sink.map_or(0.0, |sink| (sink - largest).exp()));
        #[expect(unsafe_code, reason = "threads write columns of one matrix")]
        // SAFETY: each row belongs to one sequence, as `attend` asserts, and each head of it to one part: no two write
        // the same numbers.
        let out = unsafe { out.part(self.place(row) * sums.len()..(self.place(row) + 1) * sums.len()) };
        out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum * weight);
    }
}

/// Adds what a run of blocks made of a row to what those before it made.
struct Merge<'a> {
    /// The largest score, the sum of the weights, and what they sum up.
    total: &'a mut [f32],
    largest: f32,
    sum: f32,
    sums: &'a [f32],
}

impl Op for Merge<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let [largest, sum, sums @ ..] = self.total else { return };
        let most = if self.largest > *largest { self.largest } else { *largest };
        let mut measures = [0.0; LANES];
        (measures[0], measures[1]) = (*largest - most, self.largest - most);
        // The exponential of zero is one, so what sees nothing of a run stays as it was.
        simd.store(simd.exp(simd.load(&measures)), &mut measures);
        let [before, here, ..] = measures;
        *largest = most;
        *sum = *sum * before + self.sum * here;
        sums.iter_mut().zip(self.sums).for_each(|(total, sum)| *total = *total * before + sum * here);
    }
}

/// Cuts a range of positions to a block, and counts from the block's beginning.
fn within(seen: &Range<usize>, block: usize) -> Range<usize> {
    let start = block * BLOCK;
    let cut = |position: usize| position.clamp(start, start + BLOCK) - start;
    cut(seen.start)..cut(seen.end)
}

/// One block for one set of rows.
struct Step<'a, 'b, E, const N: usize> {
    numbers: &'a Numbers<E>,
    set: &'a mut Set<'b, N>,
    soft_cap: Option<f32>,
}

impl<E: Element, const N: usize> Op for Step<'_, '_, E, N> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { numbers, set, soft_cap } = self;
        let first = set.seen.iter().map(|seen| seen.start).min().unwrap_or(0) / LANES;
        let end = set.seen.iter().map(|seen| seen.end).max().unwrap_or(0);
        let tiles = first..end.div_ceil(LANES);
        if tiles.is_empty() {
            return;
        }
        let mut weights = [[[0.0; LANES]; BLOCK / LANES]; N];
        for tile in tiles.clone() {
            score(simd, numbers, set, tile, soft_cap, &mut weights);
        }
        for (row, weights) in weights.iter_mut().enumerate() {
            soften(simd, weights, tiles.clone(), set, row);
            if E::HAS_SCALES {
                for (weights, scales) in weights.iter_mut().zip(&numbers.value_scales) {
                    simd.store(simd.mul(simd.load(weights), simd.load(scales)), weights);
                }
            }
        }
        weigh(simd, numbers, set, first * LANES..end, &weights);
    }
}

/// Multiplies a tile of keys with the queries of a set.
#[inline(always)]
fn score<S: Simd, E: Element, const N: usize>(
    simd: S,
    numbers: &Numbers<E>,
    set: &Set<'_, N>,
    tile: usize,
    soft_cap: Option<f32>,
    out: &mut [[[f32; LANES]; BLOCK / LANES]; N],
) {
    let dim = set.queries.len();
    let mut scores = [simd.splat(0.0); N];
    for (key, queries) in numbers.keys[tile * dim..(tile + 1) * dim].iter().zip(set.queries) {
        let key = E::load(simd, key);
        for (score, query) in scores.iter_mut().zip(queries) {
            *score = simd.fma(key, simd.splat(*query), *score);
        }
    }
    for (score, (out, seen)) in scores.into_iter().zip(out.iter_mut().zip(&set.seen)) {
        let mut score = score;
        if E::HAS_SCALES {
            score = simd.mul(score, simd.load(&numbers.key_scales[tile]));
        }
        if let Some(cap) = soft_cap {
            let part = simd.mul(score, simd.splat(1.0 / cap));
            score = simd.mul(simd.tanh(part), simd.splat(cap));
        }
        simd.store(score, &mut out[tile]);
        hide(&mut out[tile], seen, tile, LOW);
    }
}

/// Adds values at some positions of the block, by weight, to the sums of a set.
#[inline(always)]
fn weigh<S: Simd, E: Element, const N: usize>(
    simd: S,
    numbers: &Numbers<E>,
    set: &mut Set<'_, N>,
    positions: Range<usize>,
    weights: &[[[f32; LANES]; BLOCK / LANES]; N],
) {
    let wide = set.sums.len() / N;
    for column in 0..wide {
        let mut sums = [simd.splat(0.0); N];
        for (row, sum) in sums.iter_mut().enumerate() {
            *sum = simd.load(&set.sums[row * wide + column]);
        }
        for at in positions.clone() {
            let value = E::load(simd, &numbers.values[at * wide + column]);
            for (sum, weights) in sums.iter_mut().zip(weights) {
                *sum = simd.fma(simd.splat(weights[at / LANES][at % LANES]), value, *sum);
            }
        }
        for (row, sum) in sums.into_iter().enumerate() {
            simd.store(sum, &mut set.sums[row * wide + column]);
        }
    }
}

/// Turns a row's scores into weights, and what was summed up before to the same measure.
#[inline(always)]
fn soften<S: Simd, const N: usize>(
    simd: S,
    weights: &mut [[f32; LANES]; BLOCK / LANES],
    tiles: Range<usize>,
    set: &mut Set<'_, N>,
    row: usize,
) {
    let mut largest = simd.splat(set.softmax[0][row]);
    for tile in tiles.clone() {
        largest = simd.max(largest, simd.load(&weights[tile]));
    }
    let (before, largest) = (set.softmax[0][row], simd.largest(largest));
    let mut sum = simd.splat(0.0);
    for tile in tiles {
        let weight = simd.exp(simd.sub(simd.load(&weights[tile]), simd.splat(largest)));
        simd.store(weight, &mut weights[tile]);
        hide(&mut weights[tile], &set.seen[row], tile, 0.0);
        sum = simd.add(sum, simd.load(&weights[tile]));
    }
    let mut measure = [0.0; LANES];
    simd.store(simd.exp(simd.splat(before - largest)), &mut measure);
    let measure = if before == largest { 1.0 } else { measure[0] };
    set.softmax[0][row] = largest;
    set.softmax[1][row] = set.softmax[1][row] * measure + simd.sum(sum);
    let wide = set.sums.len() / N;
    for sums in &mut set.sums[row * wide..(row + 1) * wide] {
        simd.store(simd.mul(simd.load(sums), simd.splat(measure)), sums);
    }
}

/// Writes `value` where a row does not see.
#[inline(always)]
fn hide(weights: &mut [f32; LANES], seen: &Range<usize>, tile: usize, value: f32) {
    let start = tile * LANES;
    if seen.start <= start && start + LANES <= seen.end {
        return;
    }
    for (at, weight) in weights.iter_mut().enumerate() {
        if !seen.contains(&(start + at)) {
            *weight = value;
        }
    }
}
