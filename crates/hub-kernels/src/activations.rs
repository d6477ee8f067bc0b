#![expect(unsafe_code, reason = "several threads write rows of one buffer")]

use crate::{
    Cpu, Isa, Kind,
    disjoint::Disjoint,
    simd::{LANES, Op, Simd},
};

/// How many tokens lie side by side where there are several.
pub const PANEL: usize = 4;

/// Tokens of a tile, as AMX multiplies them at once.
pub(crate) const ROWS: usize = 16;
/// Columns of such a tile.
pub(crate) const COLUMNS: usize = 64;
/// Bytes of such a tile.
pub(crate) const TILE_BYTES: usize = ROWS * COLUMNS;
/// From how many tokens on tiles are worth their taking apart of weights.
const TILED: usize = 32;

/// Returns how many tiles hold so many columns.
pub(crate) const fn tiles_in(cols: usize) -> usize {
    cols.div_ceil(COLUMNS)
}

/// Inputs of products: `[tokens, cols]`, in every form that the weights they meet ask for.
///
/// Weights of few bits are multiplied with bytes: each run of 32 or 256 numbers of a token, as long as the weights'
/// blocks, has a scale of its own, and its largest number becomes 127. Memory is kept from one use to the next.
#[derive(Debug, Default)]
pub struct Activations {
    pub(crate) tokens: usize,
    pub(crate) cols: usize,
    /// How many tokens lie side by side: 1 or [`PANEL`].
    pub(crate) lanes: usize,
    forms: Forms,
    /// Whether bytes are there for tiles too.
    pub(crate) tiled: bool,
    /// `[tokens / lanes, cols, lanes]`
    pub(crate) numbers: Vec<f32>,
    /// In blocks of 32.
    pub(crate) small: Bytes,
    /// In blocks of 256.
    pub(crate) large: Bytes,
    /// A row for each thread, before it takes its forms.
    rows: Vec<f32>,
}

/// Activations as bytes.
#[derive(Debug, Default)]
pub(crate) struct Bytes {
    /// `[tokens / lanes, cols / 4, lanes, 4]`
    pub(crate) q: Vec<i8>,
    /// The same for tiles: `[tokens / 16, cols / 64, 16, 64]`.
    pub(crate) tiles: Vec<i8>,
    /// `[tokens / lanes, cols / block, lanes]`
    pub(crate) scales: Vec<f32>,
    /// Sums of the bytes. Blocks of 32: one sum each, `[tokens / lanes, cols / 32, lanes]`. Blocks of 256: the sums of
    /// two groups of 16 in one number, the first in the low half, `[tokens / lanes, cols / 32, lanes]`.
    pub(crate) sums: Vec<i32>,
    /// Blocks of 256: the sums of two groups of 32 in one number, `[tokens / lanes, cols / 64, lanes]`.
    pub(crate) pairs: Vec<i32>,
}

/// The forms of activations that some weights ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forms {
    pub(crate) numbers: bool,
    pub(crate) small: bool,
    pub(crate) large: bool,
}

impl Forms {
    /// Returns the forms that weights of these kinds ask for.
    pub fn of(kinds: impl IntoIterator<Item = Kind>) -> Self {
        let mut forms = Self::default();
        for kind in kinds {
            match kind.block() {
                32 => forms.small = true,
                256 => forms.large = true,
                _ => forms.numbers = true,
            }
        }
        forms
    }

    /// Returns these and others.
    pub fn and(self, other: Self) -> Self {
        Self {
            numbers: self.numbers || other.numbers,
            small: self.small || other.small,
            large: self.large || other.large,
        }
    }

    pub(crate) fn includes(self, kind: Kind) -> bool {
        let Self { numbers, small, large } = Self::of([kind]);
        (!numbers || self.numbers) && (!small || self.small) && (!large || self.large)
    }
}

impl Activations {
    /// Takes rows `x`, `[tokens, cols]`.
    ///
    /// # Panics
    /// If `x` does not divide into rows of `cols`, or rows not into the blocks of a form.
    pub fn of(x: &[f32], cols: usize, forms: Forms, cpu: &Cpu) -> Self {
        let mut all = Self::default();
        assert!(cols > 0 && x.len().is_multiple_of(cols), "{} numbers in rows of {cols}", x.len());
        all.fill(forms, x.len() / cols, cols, cpu, |token, row| {
            row.copy_from_slice(&x[token * cols..(token + 1) * cols]);
        });
        all
    }

    /// Takes `tokens` rows of `cols` numbers, each as `row(token, out)` writes it.
    ///
    /// # Panics
    /// If rows do not divide into the blocks of a form.
    pub fn fill(
        &mut self,
        forms: Forms,
        tokens: usize,
        cols: usize,
        cpu: &Cpu,
        row: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        self.fill_beside(forms, tokens, cols, cpu, &mut [(); 0], |token, _, out| row(token, out));
    }

    /// As [`fill`](Self::fill), with each token on its own as if it were the only one: for products that take one of them
    /// each.
    ///
    /// # Panics
    /// As [`fill`](Self::fill).
    pub fn fill_apart(
        &mut self,
        forms: Forms,
        tokens: usize,
        cols: usize,
        cpu: &Cpu,
        row: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        self.shape(forms, (tokens, 1), cols, cpu);
        self.write(cpu, &mut [(); 0], |token, _, out| row(token, out));
    }

    /// As [`fill`](Self::fill), with tokens side by side even if there is only one.
    ///
    /// # Panics
    /// As [`fill`](Self::fill).
    pub fn fill_side_by_side(
        &mut self,
        forms: Forms,
        tokens: usize,
        cols: usize,
        cpu: &Cpu,
        row: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        self.shape(forms, (tokens, PANEL), cols, cpu);
        self.write(cpu, &mut [(); 0], |token, _, out| row(token, out));
    }

    /// Takes rows of `from` as they were rounded there, for each of `count` places the one that `row` names. A place
    /// without a row holds anything.
    ///
    /// # Panics
    /// If `from` has no such row.
    pub fn gather(
        &mut self,
        from: &Self,
        count: usize,
        row: impl Fn(usize) -> Option<usize> + Sync,
        is_apart: bool,
        cpu: &Cpu,
    ) {
        let lanes = if is_apart { 1 } else { PANEL };
        self.shape(from.forms, (count, lanes), from.cols, cpu);
        self.tiled = false;
        let cols = self.cols;
        let places = Places { row, count, lanes, from_lanes: from.lanes };
        if self.forms.numbers {
            places.copy(&from.numbers, &mut self.numbers, cols, cpu);
        }
        for (to, from, block, is_wanted) in [
            (&mut self.small, &from.small, 32, self.forms.small),
            (&mut self.large, &from.large, 256, self.forms.large),
        ] {
            if is_wanted {
                places.copy(from.q.as_chunks::<4>().0, to.q.as_chunks_mut::<4>().0, cols / 4, cpu);
                places.copy(&from.scales, &mut to.scales, cols / block, cpu);
                places.copy(&from.sums, &mut to.sums, cols / 32, cpu);
                if block == 256 {
                    places.copy(&from.pairs, &mut to.pairs, cols / 64, cpu);
                }
            }
        }
    }

    /// The same, where making a row also changes the token's part of `beside`, which is `[tokens, any]`: the residual.
    ///
    /// # Panics
    /// If rows do not divide into the blocks of a form.
    pub fn fill_beside<T: Send>(
        &mut self,
        forms: Forms,
        tokens: usize,
        cols: usize,
        cpu: &Cpu,
        beside: &mut [T],
        row: impl Fn(usize, &mut [T], &mut [f32]) + Sync,
    ) {
        let lanes = if tokens == 1 { 1 } else { PANEL };
        self.shape(forms, (tokens, lanes), cols, cpu);
        self.write(cpu, beside, row);
    }

    /// Writes every row in every form.
    fn write<T: Send>(
        &mut self,
        cpu: &Cpu,
        beside: &mut [T],
        row: impl Fn(usize, &mut [T], &mut [f32]) + Sync,
    ) {
        let Self { tokens, cols, lanes, forms, .. } = *self;
        let width = beside.len() / tokens.max(1);
        let beside = Disjoint::new(beside);
        let rows = Disjoint::new(&mut self.rows);
        let out = Out {
            cols,
            lanes,
            forms,
            tiled: self.tiled,
            numbers: Disjoint::new(&mut self.numbers),
            small: BytesOut::new(&mut self.small),
            large: BytesOut::new(&mut self.large),
        };
        cpu.run(tokens.div_ceil(lanes), |thread, panel| {
            // SAFETY: each thread has one row, and no two parts run on one thread at once.
            let scratch = unsafe { rows.part(thread * cols..(thread + 1) * cols) };
            for token in panel * lanes..((panel + 1) * lanes).min(tokens) {
                // SAFETY: each token is in one panel, and each panel is one part.
                let beside = unsafe { beside.part(token * width..(token + 1) * width) };
                row(token, beside, scratch);
                // SAFETY: as above: this panel is written by this part alone.
                unsafe { out.put(cpu, token, scratch) };
            }
        });
    }

    fn shape(&mut self, forms: Forms, (tokens, lanes): (usize, usize), cols: usize, cpu: &Cpu) {
        (self.tokens, self.cols, self.lanes, self.forms) = (tokens, cols, lanes, forms);
        let all = tokens.div_ceil(lanes) * lanes * cols;
        grow(&mut self.rows, cpu.threads() * cols);
        self.tiled = cpu.isa() == Isa::Amx && lanes > 1 && tokens >= TILED;
        let tiles = if self.tiled { tiles_in(cols) * tokens.div_ceil(ROWS) * TILE_BYTES } else { 0 };
        if forms.numbers {
            grow(&mut self.numbers, all);
        }
        if forms.small {
            self.small.shape(all, cols, 32);
            grow(&mut self.small.tiles, tiles);
        }
        if forms.large {
            self.large.shape(all, cols, 256);
            grow(&mut self.large.pairs, all / 64);
            grow(&mut self.large.tiles, tiles);
        }
    }

    /// Returns how many rows there are.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Whether weights of this kind with this many columns can be multiplied with these.
    pub(crate) fn fits(&self, kind: Kind, cols: usize) -> bool {
        self.cols == cols && self.forms.includes(kind)
    }
}

impl Bytes {
    fn shape(&mut self, all: usize, cols: usize, block: usize) {
        assert!(cols.is_multiple_of(block), "rows of {cols} numbers in blocks of {block}");
        grow(&mut self.q, all);
        grow(&mut self.scales, all / block);
        grow(&mut self.sums, all / 32);
    }
}

/// Where rows go that are gathered.
struct Places<R> {
    row: R,
    count: usize,
    lanes: usize,
    from_lanes: usize,
}

impl<R: Fn(usize) -> Option<usize> + Sync> Places<R> {
    /// Copies what each row has `count` of.
    fn copy<T: Copy + Send + Sync>(&self, from: &[T], to: &mut [T], count: usize, cpu: &Cpu) {
        let Self { lanes, from_lanes, .. } = *self;
        let to = &mut to[..self.count.div_ceil(lanes) * lanes * count];
        cpu.each_chunk(to, (lanes * count).max(1), |panel, to| {
            let places = panel * lanes..self.count.min((panel + 1) * lanes);
            for (lane, place) in places.enumerate() {
                let Some(row) = (self.row)(place) else { continue };
                let from = &from[row / from_lanes * from_lanes * count..][..from_lanes * count];
                let from = from.iter().skip(row % from_lanes).step_by(from_lanes);
                to.iter_mut().skip(lane).step_by(lanes).zip(from).for_each(|(to, from)| *to = *from);
            }
        });
    }
}

/// Makes room; what was there is written over.
fn grow<T: Clone + Default>(buffer: &mut Vec<T>, len: usize) {
    if buffer.len() < len {
        buffer.resize(len, T::default());
    }
}

/// Where rows are written.
struct Out<'a> {
    cols: usize,
    lanes: usize,
    forms: Forms,
    tiled: bool,
    numbers: Disjoint<'a, f32>,
    small: BytesOut<'a>,
    large: BytesOut<'a>,
}

struct BytesOut<'a> {
    q: Disjoint<'a, i8>,
    tiles: Disjoint<'a, i8>,
    scales: Disjoint<'a, f32>,
    sums: Disjoint<'a, i32>,
    pairs: Disjoint<'a, i32>,
}

impl<'a> BytesOut<'a> {
    fn new(bytes: &'a mut Bytes) -> Self {
        Self {
            q: Disjoint::new(&mut bytes.q),
            tiles: Disjoint::new(&mut bytes.tiles),
            scales: Disjoint::new(&mut bytes.scales),
            sums: Disjoint::new(&mut bytes.sums),
            pairs: Disjoint::new(&mut bytes.pairs),
        }
    }

    /// # Safety
    /// Nobody else holds any of this panel.
    unsafe fn panel(&self, panel: usize, size: usize, block: usize) -> PanelOut<'_> {
        let part = |each: usize| panel * (size / each)..(panel + 1) * (size / each);
        // SAFETY: the caller's promise.
        unsafe {
            PanelOut {
                q: self.q.part(part(1)).as_chunks_mut().0,
                scales: self.scales.part(part(block)),
                sums: self.sums.part(part(32)),
                pairs: if block == 256 { self.pairs.part(part(64)) } else { &mut [] },
            }
        }
    }
}

impl Out<'_> {
    /// Writes one token's row in every form.
    ///
    /// # Safety
    /// Nobody else holds any of the token's panel.
    unsafe fn put(&self, cpu: &Cpu, token: usize, row: &[f32]) {
        let (panel, lane) = (token / self.lanes, token % self.lanes);
        let size = self.cols * self.lanes;
        if self.forms.numbers {
            // SAFETY: the caller's promise.
            let numbers = unsafe { self.numbers.part(panel * size..(panel + 1) * size) };
            for (out, number) in numbers.chunks_exact_mut(self.lanes).zip(row) {
                out[lane] = *number;
            }
        }
        if self.forms.small {
            // SAFETY: the caller's promise.
            let out = unsafe { self.small.panel(panel, size, 32) };
            let tiles = self.tiled.then(|| TileRow::new(&self.small.tiles, token, self.cols));
            cpu.isa().run(Round::<32> { row, out, lane, lanes: self.lanes, tiles });
        }
        if self.forms.large {
            // SAFETY: the caller's promise.
            let out = unsafe { self.large.panel(panel, size, 256) };
            let tiles = self.tiled.then(|| TileRow::new(&self.large.tiles, token, self.cols));
            cpu.isa().run(Round::<256> { row, out, lane, lanes: self.lanes, tiles });
        }
    }
}

/// The bytes of one panel of tokens.
struct PanelOut<'a> {
    q: &'a mut [[i8; 4]],
    scales: &'a mut [f32],
    sums: &'a mut [i32],
    pairs: &'a mut [i32],
}

/// Where a token's bytes go in tiles.
struct TileRow<'a> {
    tiles: &'a Disjoint<'a, i8>,
    start: usize,
}

impl<'a> TileRow<'a> {
    fn new(tiles: &'a Disjoint<'a, i8>, token: usize, cols: usize) -> Self {
        Self { tiles, start: token / ROWS * tiles_in(cols) * TILE_BYTES + token % ROWS * COLUMNS }
    }

    /// Writes bytes from `column` on, which do not cross the end of a tile.
    ///
    /// # Safety
    /// Nobody else holds any of this token's bytes.
    unsafe fn put(&self, column: usize, bytes: &[i8; LANES]) {
        let at = self.start + column / COLUMNS * TILE_BYTES + column % COLUMNS;
        // SAFETY: the caller's promise.
        unsafe { self.tiles.part(at..at + LANES) }.copy_from_slice(bytes);
    }
}

/// Blocks in which no number is larger are rounded to zeros: the factor would be infinite.
const LEAST: f32 = 127.0 / f32::MAX;

/// Rounds a row to bytes, block by block. A block with what is not a finite number has a scale that is none, so that it
/// spoils what is computed of it instead of vanishing.
struct Round<'a, const BLOCK: usize> {
    row: &'a [f32],
    out: PanelOut<'a>,
    lane: usize,
    lanes: usize,
    tiles: Option<TileRow<'a>>,
}

impl<const BLOCK: usize> Op for Round<'_, BLOCK> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { row, out, lane, lanes, tiles } = self;
        for (at, block) in row.as_chunks::<BLOCK>().0.iter().enumerate() {
            let runs = block.as_chunks::<LANES>().0;
            let mut most = simd.splat(0.0);
            for run in runs {
                most = simd.max(most, simd.abs(simd.load(run)));
            }
            let most = simd.largest(most);
            let (scale, factor) = if most > LEAST { (most / 127.0, 127.0 / most) } else { (0.0, 0.0) };
            let factor = simd.splat(factor);
            let mut total = 0.0;
            let mut sums = [0_i32; 16];
            for (index, run) in runs.iter().enumerate() {
                let rounded = simd.round(simd.mul(simd.load(run), factor));
                let sum = simd.sum(rounded);
                total += sum;
                sums[index] = sum as i32;
                let mut bytes = [0; LANES];
                simd.store_bytes(rounded, &mut bytes);
                if let Some(tiles) = &tiles {
                    // SAFETY: a row is rounded by one thread, the one that holds its token's panel.
                    unsafe { tiles.put(at * BLOCK + index * LANES, &bytes) };
                }
                let first = (at * BLOCK + index * LANES) / 4;
                for (step, bytes) in bytes.as_chunks::<4>().0.iter().enumerate() {
                    out.q[(first + step) * lanes + lane] = *bytes;
                }
            }
            out.scales[at * lanes + lane] = if total.is_finite() { scale } else { f32::NAN };
            if BLOCK == 32 {
                out.sums[at * lanes + lane] = sums[0] + sums[1];
                continue;
            }
            for pair in 0..8 {
                out.sums[(at * 8 + pair) * lanes + lane] = both(sums[2 * pair], sums[2 * pair + 1]);
            }
            for pair in 0..4 {
                let four = &sums[4 * pair..4 * pair + 4];
                out.pairs[(at * 4 + pair) * lanes + lane] = both(four[0] + four[1], four[2] + four[3]);
            }
        }
    }
}

/// Puts two sums, each of 16 bits, into one number.
#[inline(always)]
fn both(low: i32, high: i32) -> i32 {
    low & 0xffff | high << 16
}
