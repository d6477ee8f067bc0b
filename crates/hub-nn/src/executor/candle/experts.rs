use candle_core::{DType, Result, Tensor};

use super::{matrix::Linear, mlp::Mlp, norm::Norm};
use crate::executor::routing::{Chosen, Routing, RoutingRoom};

/// A mixture of experts; [`spec::ExpertsSpec`](crate::spec::ExpertsSpec) says what each part is.
#[derive(Clone, Debug)]
pub(super) struct Experts {
    pub(super) router: Linear,
    pub(super) routing: Routing,
    pub(super) experts: Vec<Mlp>,
    pub(super) shared: Option<(Box<Mlp>, Option<Linear>)>,
    pub(super) apart: Option<Apart>,
}

/// The norms around router, experts and the shared MLP, where each has its own.
#[derive(Clone, Debug)]
pub(super) struct Apart {
    pub(super) router: Norm,
    pub(super) before: Norm,
    pub(super) after: Norm,
    pub(super) shared_after: Norm,
}

impl Experts {
    /// Lets each expert see the rows that chose it, one expert after another.
    pub(super) fn forward(&self, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        let (routed, own) = match &self.apart {
            Some(apart) => (apart.router.forward(residual)?, apart.before.forward(residual)?),
            None => (x.clone(), x.clone()),
        };
        let out = self.mixture(&routed, &own)?;
        let Some((mlp, gate)) = &self.shared else { return Ok(out) };
        let mut shared = mlp.forward(x, residual)?;
        if let Some(gate) = gate {
            shared = shared.broadcast_mul(&candle_nn::ops::sigmoid(&gate.forward(x)?)?)?;
        }
        match &self.apart {
            Some(apart) => apart.after.forward(&out)? + apart.shared_after.forward(&shared)?,
            None => out + shared,
        }
    }

    /// Lets experts see `x`, chosen by what the router sees.
    fn mixture(&self, routed: &Tensor, x: &Tensor) -> Result<Tensor> {
        let mut rows = vec![Vec::new(); self.experts.len()];
        let mut room = RoutingRoom::default();
        let mut chosen = vec![Chosen::default(); self.routing.spec.chosen];
        for (row, mut scores) in
            self.router.forward(routed)?.to_dtype(DType::F32)?.to_vec2()?.into_iter().enumerate()
        {
            self.routing.choose(&mut scores, &mut room, &mut chosen);
            for Chosen { expert, weight } in &chosen {
                rows[*expert].push((row as u32, *weight));
            }
        }
        let mut out = x.zeros_like()?;
        for (expert, rows) in self.experts.iter().zip(rows).filter(|(_, rows)| !rows.is_empty()) {
            let (ids, weights): (Vec<u32>, Vec<f32>) = rows.into_iter().unzip();
            let count = ids.len();
            let ids = Tensor::from_vec(ids, count, x.device())?;
            let weights = Tensor::from_vec(weights, (count, 1), x.device())?;
            let found = {
                let own = x.index_select(&ids, 0)?;
                expert.forward(&own, &own)?
            }
            .broadcast_mul(&weights)?;
            out = out.index_add(&ids, &found, 0)?;
        }
        Ok(out)
    }
}
