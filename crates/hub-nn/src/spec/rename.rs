//! Changing where a specification's tensors lie.

use super::{
    AltUpSpec, AttentionSpec, ConvSpec, ExpertSpec, ExpertsSpec, Factors, Head, KvSpec, LatentSpec,
    LaurelSpec, LayerSpec, LinearSpec, Mixer, Mlp, ModelSpec, NormSpec, OwnKv, RecurrentSpec, RopeScaling,
    RopeSpec, Rule, SharedSpec, ShortConvSpec, StreamsSpec, TensorRef,
};

/// What is done to each tensor.
type Work<'a> = dyn FnMut(&mut TensorRef) + 'a;

impl ModelSpec {
    /// Calls `work` with every tensor that is named, so that one specification serves files that name them otherwise.
    pub fn each_tensor(&mut self, work: &mut Work<'_>) {
        let embedding = &mut self.embedding;
        work(&mut embedding.table);
        embedding.positions.iter_mut().for_each(|positions| work(&mut positions.table));
        embedding.token_types.iter_mut().for_each(&mut *work);
        if let Some(per_layer) = &mut embedding.per_layer {
            work(&mut per_layer.table);
            per_layer.projection.each_tensor(work);
            per_layer.norm.each_tensor(work);
        }
        norms([&mut embedding.norm, &mut self.final_norm], work);
        if let Some(StreamsSpec { projections, unembed_projections, .. }) = &mut self.streams {
            let linears = projections.iter_mut().chain(unembed_projections);
            linears.for_each(|linear| linear.each_tensor(work));
        }
        self.layers.iter_mut().for_each(|layer| layer.each_tensor(work));
        match &mut self.head {
            Head::None => {}
            Head::Logits { linear, .. } => linear.each_tensor(work),
            Head::Classifier(pooled) | Head::Vector(pooled) => pooled.each_tensor(work),
            Head::Beside(linears) => linears.iter_mut().for_each(|linear| linear.each_tensor(work)),
        }
    }
}

impl LayerSpec {
    fn each_tensor(&mut self, work: &mut Work<'_>) {
        self.mixer.each_tensor(work);
        for around in [&mut self.mixer_norms, &mut self.mlp_norms] {
            norms([&mut around.before, &mut around.after, &mut around.last], work);
        }
        self.mlp.each_tensor(work);
        if let Some(LaurelSpec { left, right, norm, .. }) = &mut self.laurel {
            [left, right].into_iter().for_each(|linear| linear.each_tensor(work));
            norm.each_tensor(work);
        }
        self.altup.iter_mut().for_each(|altup| altup.each_tensor(work));
        if let Some(per_layer) = &mut self.per_layer {
            per_layer.gate.each_tensor(work);
            per_layer.projection.each_tensor(work);
            per_layer.norm.each_tensor(work);
        }
        self.output_scale.iter_mut().for_each(work);
    }
}

impl AltUpSpec {
    fn each_tensor(&mut self, work: &mut Work<'_>) {
        let Self { router, router_norm, prediction, correction, output_scale, .. } = self;
        router.each_tensor(work);
        router_norm.each_tensor(work);
        [prediction, correction].into_iter().chain(output_scale).for_each(work);
    }
}

impl Mixer {
    fn each_tensor(&mut self, work: &mut Work<'_>) {
        match self {
            Self::Attention(attention) => attention.each_tensor(work),
            Self::Latent(latent) => latent.each_tensor(work),
            Self::Recurrent(recurrent) => recurrent.each_tensor(work),
            Self::ShortConv(conv) => conv.each_tensor(work),
        }
    }
}

impl LatentSpec {
    fn each_tensor(&mut self, work: &mut Work<'_>) {
        if let Some((linear, norm)) = &mut self.query_latent {
            linear.each_tensor(work);
            norm.each_tensor(work);
        }
        let linears = [&mut self.query, &mut self.latent, &mut self.key_rope, &mut self.output];
        linears.into_iter().for_each(|linear| linear.each_tensor(work));
        self.latent_norm.each_tensor(work);
        self.key.iter_mut().chain(&mut self.value).for_each(&mut *work);
        self.rope.each_tensor(work);
    }
}

impl RecurrentSpec {
    fn each_tensor(&mut self, work: &mut Work<'_>) {
        for part in [&mut self.query, &mut self.key, &mut self.value] {
            part.linear.each_tensor(work);
            part.conv.each_tensor(work);
        }
        let linears = [&mut self.gate, &mut self.step, &mut self.output];
        linears.into_iter().for_each(|linear| linear.each_tensor(work));
        work(&mut self.step_bias);
        work(&mut self.rate);
        match &mut self.rule {
            Rule::Delta { beta } => beta.each_tensor(work),
            Rule::StateSpace { skip } => work(skip),
        }
        self.norm.each_tensor(work);
    }
}

impl ShortConvSpec {
    fn each_tensor(&mut self, work: &mut Work<'_>) {
        let Self { before, after, value, conv, output } = self;
        [before, after, value, output].into_iter().for_each(|linear| linear.each_tensor(work));
        conv.each_tensor(work);
    }
}

impl ConvSpec {
    fn each_tensor(&mut self, work: &mut Work<'_>) {
        work(&mut self.weight);
        self.bias.iter_mut().for_each(work);
    }
}

impl AttentionSpec {
    fn each_tensor(&mut self, work: &mut Work<'_>) {
        let Self { query, kv, output, query_norm, rope, sinks, gate, .. } = self;
        [query, output].into_iter().chain(gate).for_each(|linear| linear.each_tensor(work));
        if let KvSpec::Own(own) = kv {
            let OwnKv { key, value, key_norm, .. } = &mut **own;
            [key, value].into_iter().for_each(|linear| linear.each_tensor(work));
            norms([key_norm], work);
        }
        sinks.iter_mut().for_each(&mut *work);
        norms([query_norm], work);
        rope.iter_mut().for_each(|rope| rope.each_tensor(work));
    }
}

impl RopeSpec {
    fn each_tensor(&mut self, work: &mut Work<'_>) {
        let factors = match &mut self.scaling {
            RopeScaling::Factors(factors) => vec![factors],
            RopeScaling::LongRope(long) => vec![&mut long.short, &mut long.long],
            _ => Vec::new(),
        };
        for factors in factors {
            if let Factors::Tensor(tensor) = factors {
                work(tensor);
            }
        }
    }
}

impl Mlp {
    fn each_tensor(&mut self, work: &mut Work<'_>) {
        match self {
            Self::Gated { gate, up, down, .. } => {
                [gate, up, down].into_iter().for_each(|linear| linear.each_tensor(work));
            }
            Self::Plain { up, down, .. } => {
                [up, down].into_iter().for_each(|linear| linear.each_tensor(work))
            }
            Self::Experts(spec) => spec.each_tensor(work),
        }
    }
}

impl ExpertsSpec {
    fn each_tensor(&mut self, work: &mut Work<'_>) {
        self.router.each_tensor(work);
        let routing = &mut self.routing;
        [&mut routing.correction, &mut routing.expert_scale].into_iter().flatten().for_each(&mut *work);
        for ExpertSpec { gate, up, down } in &mut self.experts {
            [gate, up, down].into_iter().for_each(|linear| linear.each_tensor(work));
        }
        if let Some(SharedSpec { mlp, gate }) = &mut self.shared {
            mlp.each_tensor(work);
            gate.iter_mut().for_each(|gate| gate.each_tensor(work));
        }
        if let Some(apart) = &mut self.apart {
            apart.norms_mut().into_iter().for_each(|norm| norm.each_tensor(work));
        }
    }
}

impl LinearSpec {
    pub(super) fn each_tensor(&mut self, work: &mut Work<'_>) {
        work(&mut self.weight);
        self.bias.iter_mut().for_each(work);
    }
}

fn norms<const N: usize>(norms: [&mut Option<NormSpec>; N], work: &mut Work<'_>) {
    norms.into_iter().flatten().for_each(|norm| norm.each_tensor(work));
}

impl NormSpec {
    pub(super) fn each_tensor(&mut self, work: &mut Work<'_>) {
        work(&mut self.weight);
        self.bias.iter_mut().for_each(work);
    }
}
