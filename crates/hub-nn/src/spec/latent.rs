use super::{LinearSpec, NormSpec, RopeSpec, TensorRef, TensorUse};

/// Latent attention ("MLA"): keys and values of all heads are made of one short row, which is all that is cached.
///
/// A query head has `nope_dim` numbers without a position and `rope_dim` that are rotated. Its key is made of the latent
/// row, and of `rope_dim` rotated numbers that all heads share. Instead of making keys, the first part of the query is
/// multiplied with the same matrix from the other side, so that heads look at the latent rows themselves, and read a mean
/// of them, of which their values are made. Source: DeepSeek-V2, <https://arxiv.org/abs/2405.04434>, section 2.1.
#[derive(Clone, Debug, PartialEq)]
pub struct LatentSpec {
    /// Number of heads.
    pub heads: usize,
    /// Width of what is cached.
    pub rank: usize,
    /// How many numbers of a query and a key have no position.
    pub nope_dim: usize,
    /// How many are rotated.
    pub rope_dim: usize,
    /// Width of a value.
    pub value_dim: usize,
    /// What queries are made of, and its normalisation, if that is not the row itself.
    pub query_latent: Option<(LinearSpec, NormSpec)>,
    /// `[heads * (nope_dim + rope_dim), hidden_size]`, or as wide as `query_latent` is high.
    pub query: LinearSpec,
    /// `[rank, hidden_size]`: what is cached.
    pub latent: LinearSpec,
    /// Normalises that.
    pub latent_norm: NormSpec,
    /// `[rope_dim, hidden_size]`: the rotated part of all keys.
    pub key_rope: LinearSpec,
    /// What the other part of a head's key is made of the latent row with, head by head.
    pub key: Vec<TensorRef>,
    /// How files hold those matrices.
    pub key_form: KeyForm,
    /// `[value_dim, rank]` each: what a head's value is made with.
    pub value: Vec<TensorRef>,
    /// `[hidden_size, heads * value_dim]`.
    pub output: LinearSpec,
    /// Rotation of `rope_dim` numbers.
    pub rope: RopeSpec,
    /// Multiplier of the scores.
    pub scale: f32,
}

/// How files hold what makes keys of latent rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyForm {
    /// `[nope_dim, rank]`: Hugging Face folders, and GGUF files before 2025.
    Key,
    /// `[rank, nope_dim]`, turned over for queries: GGUF files.
    Query,
}

impl LatentSpec {
    /// Returns how wide the queries of a row are.
    pub fn queries(&self) -> usize {
        self.heads.saturating_mul(self.nope_dim + self.rope_dim)
    }

    pub(super) fn collect<'a>(&'a self, all: &mut Vec<TensorUse<'a>>) {
        if let Some((linear, norm)) = &self.query_latent {
            linear.collect(all);
            norm.collect(linear.outputs, all);
        }
        for linear in [&self.query, &self.latent, &self.key_rope, &self.output] {
            linear.collect(all);
        }
        self.latent_norm.collect(self.rank, all);
        all.extend(self.key.iter().map(|tensor| match self.key_form {
            KeyForm::Key => {
                TensorUse { is_turned: true, ..TensorUse::of_head(tensor, self.nope_dim, self.rank) }
            }
            KeyForm::Query => TensorUse::of_head(tensor, self.rank, self.nope_dim),
        }));
        all.extend(self.value.iter().map(|tensor| TensorUse::of_head(tensor, self.value_dim, self.rank)));
    }
}
