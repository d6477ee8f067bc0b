//! Latent attention: all heads look at the same short rows.

use hub_kernels::{
    Activations, Attention, Cpu, Forms, PANEL, Product, Scratch, Sequence, multiply, rotate_halves,
    rotate_pairs,
};

use super::{
    layer::{Linear, Norm, Stack},
    plan::emptied,
};
use crate::{
    executor::rope::{Rope, Rotations},
    spec::Pairing,
};

/// Up to so many rows are multiplied each on its own with the matrices of the heads.
const FEW: usize = 4;

/// Latent attention with its weights; [`spec::LatentSpec`](crate::spec::LatentSpec) says what each part is.
#[derive(Debug)]
pub(super) struct Latent {
    /// As the heads look at the latent rows: one key head.
    pub(super) attention: Attention,
    pub(super) nope_dim: usize,
    pub(super) value_dim: usize,
    pub(super) query_latent: Option<(Linear, Norm)>,
    pub(super) query: Linear,
    pub(super) latent: Linear,
    pub(super) latent_norm: Norm,
    pub(super) key_rope: Linear,
    /// `[heads, rank, nope_dim]`
    pub(super) key: Stack,
    /// `[heads, value_dim, rank]`
    pub(super) value: Stack,
    pub(super) output: Linear,
    /// Which of the model's rotations turns queries and keys.
    pub(super) rope: usize,
}

/// What latent attention computes in; kept from one layer to the next.
#[derive(Debug, Default)]
pub(super) struct LatentRoom {
    /// What queries are made of.
    query_latents: Vec<f32>,
    /// `[rows, heads, nope_dim + rope_dim]`
    queries: Vec<f32>,
    /// `[rows, rank]`
    latents: Vec<f32>,
    /// `[rows, rope_dim]`
    ropes: Vec<f32>,
    /// `[rows, rank + rope_dim]`
    keys: Vec<f32>,
    /// `[rows, heads, rank + rope_dim]`: queries as they look at the latent rows.
    turned: Vec<f32>,
    /// `[rows, heads, rank]`
    read: Vec<f32>,
    inputs: Activations,
    /// By head and place.
    out: Vec<f32>,
    products: Vec<Product<'static>>,
}

impl Latent {
    /// Returns the matrices that rows of the residual are multiplied with.
    pub(super) fn inputs(&self) -> Forms {
        let query = self.query_latent.as_ref().map_or(&self.query, |(linear, _)| linear);
        Linear::forms([query, &self.latent, &self.key_rope])
    }

    /// Mixes the rows `x` into `mixed`, `[rows, heads * value_dim]`.
    pub(super) fn mix(
        &self,
        x: &Activations,
        (sequences, within): (&[Sequence<'_>], usize),
        (rope, rotations): (&Rope, &Rotations),
        mixed: &mut [f32],
        (room, scratch): (&mut LatentRoom, &mut Scratch),
        cpu: &Cpu,
    ) {
        self.project(x, room, cpu);
        let turn = |row: usize, head: &mut [f32]| {
            let pairs = rope.spec().dims / 2;
            let (cos, sin) = (&rotations.cos[row * pairs..][..pairs], &rotations.sin[row * pairs..][..pairs]);
            match rope.spec().pairing {
                Pairing::Halves => rotate_halves(head, cos, sin, cpu.isa()),
                Pairing::Interleaved => rotate_pairs(head, cos, sin),
            }
        };
        self.make_keys(room, turn, cpu);
        self.turn_queries(x.tokens(), room, turn, cpu);
        let LatentRoom { keys, turned, latents, read, .. } = room;
        read.resize(x.tokens() * self.attention.heads * self.attention.value_dim, 0.0);
        self.attention.write(keys, latents, sequences, within, cpu);
        self.attention.attend(turned, sequences, within, read, scratch, cpu);
        self.make_values(x.tokens(), room, mixed, cpu);
    }

    /// Multiplies rows with what makes queries, latent rows, and the rotated part of keys.
    fn project(&self, x: &Activations, room: &mut LatentRoom, cpu: &Cpu) {
        let LatentRoom { query_latents, queries, latents, ropes, inputs, .. } = room;
        let rows = x.tokens();
        queries.resize(rows * self.query.rows(), 0.0);
        latents.resize(rows * self.latent.rows(), 0.0);
        ropes.resize(rows * self.key_rope.rows(), 0.0);
        let others = [self.latent.product(x, latents), self.key_rope.product(x, ropes)];
        let [latent, rope] = others;
        let Some((linear, norm)) = &self.query_latent else {
            return multiply(&mut [self.query.product(x, queries), latent, rope], cpu);
        };
        query_latents.resize(rows * linear.rows(), 0.0);
        multiply(&mut [linear.product(x, query_latents), latent, rope], cpu);
        let width = linear.rows();
        let query_latents = &*query_latents;
        inputs.fill(Linear::forms([&self.query]), rows, width, cpu, |row, out| {
            out.copy_from_slice(&query_latents[row * width..(row + 1) * width]);
            norm.apply(out, cpu.isa());
        });
        multiply(&mut [self.query.product(inputs, queries)], cpu);
    }

    /// Normalises the latent rows, and puts the rotated part behind them.
    fn make_keys(&self, room: &mut LatentRoom, turn: impl Fn(usize, &mut [f32]) + Sync, cpu: &Cpu) {
        let (rank, width) = (self.attention.value_dim, self.attention.head_dim);
        let LatentRoom { latents, ropes, keys, .. } = room;
        cpu.each_chunk(latents, rank, |_, latent| self.latent_norm.apply(latent, cpu.isa()));
        keys.resize(latents.len() / rank * width, 0.0);
        let (latents, ropes) = (&*latents, &*ropes);
        cpu.each_chunk(keys, width, |row, key| {
            let (latent, rotated) = key.split_at_mut(rank);
            latent.copy_from_slice(&latents[row * rank..(row + 1) * rank]);
            rotated.copy_from_slice(&ropes[row * rotated.len()..(row + 1) * rotated.len()]);
            turn(row, rotated);
        });
    }

    /// Multiplies the first part of each query with its head's key matrix, and rotates the other.
    fn turn_queries(
        &self,
        rows: usize,
        room: &mut LatentRoom,
        turn: impl Fn(usize, &mut [f32]) + Sync,
        cpu: &Cpu,
    ) {
        let (rank, width, heads) = (self.attention.value_dim, self.attention.head_dim, self.attention.heads);
        let each = self.nope_dim + width - rank;
        let queries = std::mem::take(&mut room.queries);
        self.multiply_heads(&self.key, rows, room, cpu, |row, head| {
            &queries[(row * heads + head) * each..][..self.nope_dim]
        });
        let LatentRoom { turned, out, .. } = room;
        turned.resize(rows * heads * width, 0.0);
        let out = &*out;
        cpu.each_chunk(turned, heads * width, |row, turned| {
            for (head, turned) in turned.chunks_exact_mut(width).enumerate() {
                let (latent, rotated) = turned.split_at_mut(rank);
                latent.copy_from_slice(&out[place(rows, row, head) * rank..][..rank]);
                let query = &queries[(row * heads + head) * each..][..each];
                rotated.copy_from_slice(&query[self.nope_dim..]);
                turn(row, rotated);
            }
        });
        room.queries = queries;
    }

    /// Makes values of what heads read.
    fn make_values(&self, rows: usize, room: &mut LatentRoom, mixed: &mut [f32], cpu: &Cpu) {
        let (rank, heads, dim) = (self.attention.value_dim, self.attention.heads, self.value_dim);
        let read = std::mem::take(&mut room.read);
        self.multiply_heads(&self.value, rows, room, cpu, |row, head| {
            &read[(row * heads + head) * rank..][..rank]
        });
        room.read = read;
        let out = &room.out;
        cpu.each_chunk(mixed, heads * dim, |row, mixed| {
            for (head, mixed) in mixed.chunks_exact_mut(dim).enumerate() {
                mixed.copy_from_slice(&out[place(rows, row, head) * dim..][..dim]);
            }
        });
    }

    /// Multiplies what each head has of each row with the head's own matrix: `out` is by head and place.
    fn multiply_heads<'q>(
        &self,
        stack: &Stack,
        rows: usize,
        room: &mut LatentRoom,
        cpu: &Cpu,
        of: impl Fn(usize, usize) -> &'q [f32] + Sync,
    ) {
        let (heads, each) = (self.attention.heads, padded(rows));
        let LatentRoom { inputs, out, products, .. } = room;
        let forms = Forms::of([stack.matrix.kind()]);
        let cols = stack.matrix.cols();
        let row = |place: usize, out: &mut [f32]| {
            if place % each < rows {
                out.copy_from_slice(of(place % each, place / each));
            } else {
                out.fill(0.0);
            }
        };
        if rows <= FEW {
            inputs.fill_apart(forms, heads * each, cols, cpu, row);
        } else {
            inputs.fill_side_by_side(forms, heads * each, cols, cpu, row);
        }
        out.resize(heads * each * stack.rows, 0.0);
        let mut all = emptied(std::mem::take(products));
        for (head, out) in out.chunks_exact_mut(each * stack.rows).enumerate() {
            let (matrix, _) = stack.part(head);
            let start = head * each;
            if rows <= FEW {
                for (row, out) in out.chunks_exact_mut(stack.rows).enumerate() {
                    let token = start + row..start + row + 1;
                    all.push(Product::new(&stack.matrix, inputs, out).rows(matrix.clone()).tokens(token));
                }
            } else {
                let out = &mut out[..rows * stack.rows];
                all.push(Product::new(&stack.matrix, inputs, out).rows(matrix).tokens(start..start + rows));
            }
        }
        multiply(&mut all, cpu);
        *products = emptied(all);
    }
}

/// Returns how many places the rows of a head take: whole panels, unless each row is multiplied on its own.
fn padded(rows: usize) -> usize {
    if rows <= FEW { rows } else { rows.next_multiple_of(PANEL) }
}

/// Returns where a row of a head lies among all places.
fn place(rows: usize, row: usize, head: usize) -> usize {
    head * padded(rows) + row
}
