//! Mixtures of experts: only the weights of chosen experts are read, once for all rows that chose them.

use hub_kernels::{Activations, Cpu, Forms, PANEL, Product, gate, multiply};

use super::{
    layer::{Apart, Experts, Norm, Stack},
    plan::emptied,
};
use crate::executor::routing::{Chosen, RoutingRoom};

/// Up to so many pairs of a row and an expert are multiplied each on its own: hardly two of them share an expert.
const FEW: usize = 32;

/// What the experts of a layer compute in; kept from one layer to the next.
#[derive(Debug, Default)]
pub(super) struct ExpertsRoom {
    /// `[rows, experts]`.
    scores: Vec<f32>,
    routing: RoutingRoom,
    /// `[rows, chosen]`.
    chosen: Vec<Chosen>,
    /// The row of each place, experts after another; none where a place only fills a panel.
    rows: Vec<Option<usize>>,
    /// `[rows, chosen]`: the place of each.
    places: Vec<usize>,
    /// Which experts were chosen, and where their places begin and end.
    spans: Vec<Span>,
    /// What places begin with, by expert.
    starts: Vec<usize>,
    inputs: Activations,
    gates: Vec<f32>,
    ups: Vec<f32>,
    /// `[places, hidden]`.
    out: Vec<f32>,
    products: Vec<Product<'static>>,
}

/// What experts with norms of their own read, and what they return.
#[derive(Debug, Default)]
pub(super) struct ApartRoom {
    routed: Activations,
    inputs: Activations,
    sum: Vec<f32>,
}

/// The rows of an expert.
#[derive(Clone, Copy, Debug)]
struct Span {
    expert: usize,
    start: usize,
    count: usize,
}

impl Experts {
    /// Adds what experts make of each row of `x` to `out`, `[rows, hidden]`, chosen by the same row of `routed`.
    ///
    /// What a row gets is bitwise the same whatever rows share its experts: every place is computed alike, and a row adds
    /// up its own in the order of the experts.
    pub(super) fn add(
        &self,
        routed: &Activations,
        x: &Activations,
        out: &mut [f32],
        room: &mut ExpertsRoom,
        cpu: &Cpu,
    ) {
        let rows = x.tokens();
        room.route(self, routed, cpu);
        let is_apart = rows * self.routing.spec.chosen <= FEW;
        room.place(rows, self.experts(), is_apart);
        let hidden = out.len() / rows.max(1);
        let of_places = &room.rows;
        room.inputs.gather(x, of_places.len(), |place| of_places[place], is_apart, cpu);
        let inner = self.gate.rows;
        let size = room.rows.len() * inner;
        room.gates.resize(size, 0.0);
        room.ups.resize(size, 0.0);
        let mut products = emptied(std::mem::take(&mut room.products));
        push(&mut products, &self.gate, &room.inputs, &room.spans, &mut room.gates);
        push(&mut products, &self.up, &room.inputs, &room.spans, &mut room.ups);
        multiply(&mut products, cpu);
        room.products = emptied(products);

        let (gates, ups, isa) = (&room.gates, &room.ups, cpu.isa());
        let forms = Forms::of([self.down.matrix.kind()]);
        let row = |place: usize, out: &mut [f32]| {
            let part = place * inner..(place + 1) * inner;
            out.copy_from_slice(&gates[part.clone()]);
            gate(self.function, out, &ups[part], isa);
        };
        if is_apart {
            room.inputs.fill_apart(forms, room.rows.len(), inner, cpu, row);
        } else {
            room.inputs.fill_side_by_side(forms, room.rows.len(), inner, cpu, row);
        }
        room.out.resize(room.rows.len() * hidden, 0.0);
        let mut products = emptied(std::mem::take(&mut room.products));
        push(&mut products, &self.down, &room.inputs, &room.spans, &mut room.out);
        multiply(&mut products, cpu);
        room.products = emptied(products);

        let (chosen, places, found) = (&room.chosen, &room.places, &room.out);
        let count = self.routing.spec.chosen;
        cpu.each_chunk(out, hidden, |row, out| {
            for slot in row * count..(row + 1) * count {
                let found = &found[places[slot] * hidden..][..hidden];
                let weight = chosen[slot].weight;
                out.iter_mut().zip(found).for_each(|(out, found)| *out += found * weight);
            }
        });
    }

    /// Adds what experts with norms of their own make of the residual `x` to `out`, `[rows, hidden]`, which holds what the
    /// shared MLP returned.
    pub(super) fn add_apart(
        &self,
        norms: &Apart,
        x: &[f32],
        out: &mut [f32],
        (apart, room): (&mut ApartRoom, &mut ExpertsRoom),
        cpu: &Cpu,
    ) {
        let (hidden, isa) = (self.router.matrix.cols(), cpu.isa());
        let rows = out.len() / hidden;
        let ApartRoom { routed, inputs, sum } = apart;
        let normed = |norm: &Norm, row: usize, out: &mut [f32]| {
            out.copy_from_slice(&x[row * hidden..(row + 1) * hidden]);
            norm.apply(out, isa);
        };
        let forms = Forms::of([self.router.matrix.kind()]);
        routed.fill(forms, rows, hidden, cpu, |row, out| normed(&norms.router, row, out));
        let forms = Forms::of([self.gate.matrix.kind(), self.up.matrix.kind()]);
        inputs.fill(forms, rows, hidden, cpu, |row, out| normed(&norms.before, row, out));
        sum.clear();
        sum.resize(rows * hidden, 0.0);
        self.add(routed, inputs, sum, room, cpu);
        cpu.each_chunk(sum, hidden, |_, sum| norms.after.apply(sum, isa));
        let sum = &*sum;
        cpu.each_chunk(out, hidden, |row, out| {
            norms.shared_after.apply(out, isa);
            out.iter_mut().zip(&sum[row * hidden..]).for_each(|(out, sum)| *out += sum);
        });
    }

    /// Returns how many experts there are.
    fn experts(&self) -> usize {
        self.router.rows()
    }
}

/// Adds a product for each expert that was chosen.
fn push<'a>(
    products: &mut Vec<Product<'a>>,
    stack: &'a Stack,
    x: &'a Activations,
    spans: &[Span],
    mut out: &'a mut [f32],
) {
    let mut at = 0;
    for Span { expert, start, count } in spans.iter().copied() {
        let (rows, bias) = stack.part(expert);
        // Places that only fill a panel get nothing.
        let (_, rest) = out.split_at_mut((start - at) * stack.rows);
        let (own, rest) = rest.split_at_mut(count * stack.rows);
        (out, at) = (rest, start + count);
        products.push(Product::new(&stack.matrix, x, own).rows(rows).tokens(start..start + count).bias(bias));
    }
}

impl ExpertsRoom {
    /// Chooses the experts of every row.
    fn route(&mut self, experts: &Experts, x: &Activations, cpu: &Cpu) {
        let (rows, count, chosen) = (x.tokens(), experts.experts(), experts.routing.spec.chosen);
        self.scores.resize(rows * count, 0.0);
        let router = &experts.router;
        let product = Product::new(&router.matrix, x, &mut self.scores).bias(router.bias.as_deref());
        multiply(&mut [product], cpu);
        self.chosen.resize(rows * chosen, Chosen::default());
        for (scores, chosen) in self.scores.chunks_exact_mut(count).zip(self.chosen.chunks_exact_mut(chosen))
        {
            experts.routing.choose(scores, &mut self.routing, chosen);
        }
    }

    /// Gives each pair of a row and an expert a place, experts after another, each from the beginning of a panel on.
    fn place(&mut self, rows: usize, experts: usize, is_apart: bool) {
        let Self { chosen, rows: of_places, places, spans, starts, .. } = self;
        let each = chosen.len() / rows.max(1);
        starts.clear();
        starts.resize(experts, 0);
        chosen.iter().for_each(|chosen| starts[chosen.expert] += 1);
        spans.clear();
        let mut end = 0;
        for (expert, start) in starts.iter_mut().enumerate() {
            let count = std::mem::replace(start, end);
            if is_apart {
                spans.extend((end..end + count).map(|start| Span { expert, start, count: 1 }));
                end += count;
            } else if count > 0 {
                spans.push(Span { expert, start: end, count });
                end += count.next_multiple_of(PANEL);
            }
        }
        of_places.clear();
        of_places.resize(end, None);
        places.clear();
        for (slot, chosen) in chosen.iter().enumerate() {
            let place = starts[chosen.expert];
            starts[chosen.expert] += 1;
            of_places[place] = Some(slot / each.max(1));
            places.push(place);
        }
    }
}
