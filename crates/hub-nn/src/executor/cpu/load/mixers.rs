//! Loading what mixes rows.

use hub_kernels::{Attention, Conv, Scan};

use super::super::{
    Norm,
    latent::Latent,
    layer::{self, Attend, Mixer},
    recurrent::{Convolved, Recurrent, ShortConv},
};
use super::Loader;
use crate::{
    Error,
    spec::{
        self, AttentionSpec, ConvSpec, ConvolvedSpec, KeyForm, KeyOrder, LatentSpec, LinearSpec, Mask,
        RateForm, RecurrentSpec, Rule, TensorRef,
    },
};

impl Loader<'_> {
    pub(super) fn mixer(&mut self, mixer: &spec::Mixer, mask: Mask) -> Result<Mixer, Error> {
        Ok(match mixer {
            spec::Mixer::Attention(spec) => Mixer::Attention(Box::new(self.attention(spec, mask)?)),
            spec::Mixer::Latent(spec) => Mixer::Latent(Box::new(self.latent(spec)?)),
            spec::Mixer::Recurrent(spec) => Mixer::Recurrent(Box::new(self.recurrent(spec)?)),
            spec::Mixer::ShortConv(spec) => Mixer::ShortConv(Box::new(ShortConv {
                before: self.linear(&spec.before)?,
                after: self.linear(&spec.after)?,
                value: self.linear(&spec.value)?,
                conv: self.conv(&spec.conv)?,
                output: self.linear(&spec.output)?,
            })),
        })
    }

    pub(super) fn attention(&mut self, spec: &AttentionSpec, mask: Mask) -> Result<Attend, Error> {
        let sinks = spec.sinks.as_ref().map(|sinks| self.numbers(sinks)).transpose()?;
        Ok(Attend {
            attention: attention(spec, mask, sinks.unwrap_or_default()),
            query: self.linear(&spec.query)?,
            kv: spec.own_kv().map(|kv| self.own_kv(kv, spec.head_dim)).transpose()?,
            gate: spec.gate.as_ref().map(|gate| self.linear(gate)).transpose()?,
            output: self.linear(&spec.output)?,
            query_norm: self.maybe_norm(spec.query_norm.as_ref())?,
            norm_scope: spec.norm_scope,
            temperature: spec.temperature,
            rope: self.rope(spec.rope.as_ref())?,
        })
    }

    pub(super) fn own_kv(&mut self, spec: &spec::OwnKv, head_dim: usize) -> Result<layer::OwnKv, Error> {
        let unit = |eps| Norm {
            kind: spec::NormKind::Rms,
            eps,
            weight: vec![1.0; head_dim],
            bias: vec![0.0; head_dim],
        };
        Ok(layer::OwnKv {
            key: self.linear(&spec.key)?,
            value: self.linear(&spec.value)?,
            key_norm: self.maybe_norm(spec.key_norm.as_ref())?,
            value_norm: spec.value_norm_eps.map(unit),
        })
    }

    pub(super) fn latent(&mut self, spec: &LatentSpec) -> Result<Latent, Error> {
        let query_latent = match &spec.query_latent {
            Some((linear, norm)) => Some((self.linear(linear)?, self.norm(norm)?)),
            None => None,
        };
        let linear = |tensor: &TensorRef, inputs, outputs| LinearSpec {
            weight: tensor.clone(),
            bias: None,
            inputs,
            outputs,
        };
        let &LatentSpec { heads, rank, nope_dim, rope_dim, value_dim, scale, .. } = spec;
        let keys: Vec<_> = spec.key.iter().map(|tensor| linear(tensor, nope_dim, rank)).collect();
        let values: Vec<_> = spec.value.iter().map(|tensor| linear(tensor, rank, value_dim)).collect();
        Ok(Latent {
            attention: Attention {
                heads,
                kv_heads: 1,
                head_dim: rank + rope_dim,
                value_dim: rank,
                scale,
                soft_cap: None,
                window: None,
                is_causal: true,
                sinks: Vec::new(),
            },
            nope_dim,
            value_dim,
            query_latent,
            query: self.linear(&spec.query)?,
            latent: self.linear(&spec.latent)?,
            latent_norm: self.norm(&spec.latent_norm)?,
            key_rope: self.linear(&spec.key_rope)?,
            key: match spec.key_form {
                KeyForm::Key => self.turned(&keys)?,
                KeyForm::Query => self.stack(&keys, |key| key)?,
            },
            value: self.stack(&values, |value| value)?,
            output: self.linear(&spec.output)?,
            rope: self.rope(Some(&spec.rope))?.unwrap_or_default(),
        })
    }

    pub(super) fn recurrent(&mut self, spec: &RecurrentSpec) -> Result<Recurrent, Error> {
        let (beta, skip) = match &spec.rule {
            Rule::Delta { beta } => (Some(self.linear(beta)?), Vec::new()),
            Rule::StateSpace { skip } => (None, self.numbers(skip)?),
        };
        let &RecurrentSpec { heads, key_heads, key_dim, value_dim, gating, step_limits, .. } = spec;
        let is_tiled = spec.key_order == KeyOrder::Tiled;
        let mut rate = self.numbers(&spec.rate)?;
        if spec.rate_form == RateForm::Log {
            rate.iter_mut().for_each(|rate| *rate = -rate.exp());
        }
        Ok(Recurrent {
            scan: Scan { heads, key_heads, is_tiled, key_dim, value_dim, is_delta: beta.is_some(), skip },
            query: self.convolved(&spec.query)?,
            key: self.convolved(&spec.key)?,
            value: self.convolved(&spec.value)?,
            gate: self.linear(&spec.gate)?,
            step: self.linear(&spec.step)?,
            step_bias: self.numbers(&spec.step_bias)?,
            step_limits,
            rate,
            beta,
            norm: self.norm(&spec.norm)?,
            gating,
            output: self.linear(&spec.output)?,
        })
    }

    pub(super) fn convolved(&mut self, spec: &ConvolvedSpec) -> Result<Convolved, Error> {
        Ok(Convolved { linear: self.linear(&spec.linear)?, conv: self.conv(&spec.conv)? })
    }

    pub(super) fn conv(&self, spec: &ConvSpec) -> Result<Conv, Error> {
        let bias = spec.bias.as_ref().map(|bias| self.numbers(bias)).transpose()?;
        Ok(Conv::new(&self.numbers(&spec.weight)?, bias.unwrap_or_default(), spec.kernel))
    }
}

fn attention(mixer: &AttentionSpec, mask: Mask, sinks: Vec<f32>) -> Attention {
    Attention {
        heads: mixer.heads,
        kv_heads: mixer.kv_heads,
        head_dim: mixer.head_dim,
        value_dim: mixer.head_dim,
        scale: mixer.scale,
        soft_cap: mixer.soft_cap,
        window: mixer.window,
        is_causal: mask == Mask::Causal,
        sinks,
    }
}
