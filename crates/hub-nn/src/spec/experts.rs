use super::{Activation, LinearSpec, Mlp, NormSpec, TensorRef, TensorUse};

/// A mixture of experts: MLPs of one shape, of which each row goes through a few.
///
/// Source: Shazeer et al. 2017, <https://arxiv.org/abs/1701.06538>; sigmoid scores, correction and groups as in
/// DeepSeek-V3, <https://arxiv.org/abs/2412.19437>, section 2.1.2.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpertsSpec {
    /// Scores every expert for a row.
    pub router: LinearSpec,
    /// What becomes of the scores.
    pub routing: RoutingSpec,
    /// The experts, all of the same widths.
    pub experts: Vec<ExpertSpec>,
    /// The function of each.
    pub activation: Activation,
    /// What every row goes through besides.
    pub shared: Option<SharedSpec>,
    /// Norms of their own, where router and experts read the residual and not what the shared MLP reads.
    pub apart: Option<ApartSpec>,
}

/// The norms around router, experts and the shared MLP, where each has its own (Gemma 4).
#[derive(Clone, Debug, PartialEq)]
pub struct ApartSpec {
    /// Of the residual, for the router.
    pub router: NormSpec,
    /// Of the residual, for the experts.
    pub before: NormSpec,
    /// Of what the experts return.
    pub after: NormSpec,
    /// Of what the shared MLP returns.
    pub shared_after: NormSpec,
}

/// One expert: a gated MLP.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpertSpec {
    /// What goes through the function.
    pub gate: LinearSpec,
    /// What that is multiplied with.
    pub up: LinearSpec,
    /// What the product is multiplied with.
    pub down: LinearSpec,
}

/// How experts are chosen by their scores, and how much each counts.
#[derive(Clone, Debug, PartialEq)]
pub struct RoutingSpec {
    /// How many experts a row goes through.
    pub chosen: usize,
    /// What scores are multiplied with first.
    pub score_scale: f32,
    /// What a score means.
    pub scoring: Scoring,
    /// `[experts]`: added where experts are chosen, and left out of how much they count.
    pub correction: Option<TensorRef>,
    /// Experts are chosen within the best groups alone.
    pub groups: Option<GroupsSpec>,
    /// Whether the weights of the chosen experts are divided by their sum.
    pub is_normalized: bool,
    /// What the weights are multiplied with at the end.
    pub scale: f32,
    /// `[experts]`: what the weight of each is multiplied with besides (Gemma 4).
    pub expert_scale: Option<TensorRef>,
}

/// What the score of an expert means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scoring {
    /// Its weight is the softmax over all experts.
    Softmax,
    /// Its weight is the sigmoid.
    Sigmoid,
}

/// Experts after another in the files form groups of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupsSpec {
    /// How many groups there are; divides the number of experts.
    pub count: usize,
    /// How many of them experts are chosen from.
    pub chosen: usize,
    /// A group is as good as the sum of so many of its best experts.
    pub best: usize,
}

/// An MLP beside the experts.
#[derive(Clone, Debug, PartialEq)]
pub struct SharedSpec {
    /// What every row goes through.
    pub mlp: Box<Mlp>,
    /// `[1, hidden]`: the sigmoid of its product says how much of it counts; all if `None`.
    pub gate: Option<LinearSpec>,
}

impl ApartSpec {
    fn norms(&self) -> [&NormSpec; 4] {
        [&self.router, &self.before, &self.after, &self.shared_after]
    }

    pub(super) fn norms_mut(&mut self) -> [&mut NormSpec; 4] {
        [&mut self.router, &mut self.before, &mut self.after, &mut self.shared_after]
    }
}

impl ExpertSpec {
    /// Returns how many numbers its matrices have.
    pub fn parameters(&self) -> u64 {
        let numbers = |linear: &LinearSpec| linear.inputs as u64 * linear.outputs as u64;
        [&self.gate, &self.up, &self.down].into_iter().map(numbers).sum()
    }
}

impl ExpertsSpec {
    /// Returns how many parameters a row does not go through.
    pub fn idle_parameters(&self) -> u64 {
        let idle = self.experts.len().saturating_sub(self.routing.chosen) as u64;
        self.experts.first().map_or(0, |expert| idle * expert.parameters())
    }

    /// Returns which part of the experts a row goes through.
    pub(crate) fn share(&self) -> f64 {
        self.routing.chosen as f64 / self.experts.len().max(1) as f64
    }

    pub(super) fn collect<'a>(&'a self, hidden_size: usize, all: &mut Vec<TensorUse<'a>>) {
        self.router.collect(all);
        let vectors = [&self.routing.correction, &self.routing.expert_scale].into_iter().flatten();
        all.extend(vectors.map(|tensor| TensorUse::vector(tensor, self.experts.len())));
        for ExpertSpec { gate, up, down } in &self.experts {
            [gate, up, down].into_iter().for_each(|linear| linear.collect(all));
        }
        if let Some(SharedSpec { mlp, gate }) = &self.shared {
            mlp.collect(hidden_size, all);
            gate.iter().for_each(|gate| gate.collect(all));
        }
        self.apart.iter().flat_map(ApartSpec::norms).for_each(|norm| norm.collect(hidden_size, all));
    }
}
