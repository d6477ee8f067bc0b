//! Whether two specifications mean the same arithmetic.

use hub_nn::spec::{KeyForm, KeyOrder, Mixer, ModelSpec, Pairing, RateForm, TensorRef};

use super::{each_norm, each_rotation};

/// The longest difference that is shown, in characters.
const MAX_SHOWN: usize = 120;

/// Checks that a specification of a folder and one of metadata say the same of everything but tensors.
///
/// # Errors
/// The first part that differs.
pub(super) fn check(folder: &ModelSpec, metadata: &ModelSpec) -> Result<(), String> {
    let (folder, metadata) = (bare(folder), bare(metadata));
    if folder == metadata {
        return Ok(());
    }
    let head = |spec: &ModelSpec| {
        let ModelSpec { hidden_size, vocab_size, context_tokens, embedding, head, final_norm, .. } = spec;
        format!("{hidden_size} {vocab_size} {context_tokens} {embedding:?} {final_norm:?} {head:?}")
    };
    let (mut ours, mut theirs) = (head(&folder), head(&metadata));
    let mut place = "the model".to_owned();
    let layers = folder.layers.iter().zip(&metadata.layers).enumerate();
    if let Some((at, (own, other))) = layers.into_iter().find(|(_, (own, other))| own != other) {
        (ours, theirs) = (format!("{own:?}"), format!("{other:?}"));
        place = format!("layer {at}");
    }
    let same = ours.chars().zip(theirs.chars()).take_while(|(own, other)| own == other).count();
    let part = |text: &str| {
        text.chars().skip(same.saturating_sub(MAX_SHOWN / 2)).take(MAX_SHOWN).collect::<String>()
    };
    Err(format!("its GGUF metadata cannot say all of {place}: `{}` became `{}`", part(&ours), part(&theirs)))
}

/// Returns a specification without where its tensors lie, and without what conversion takes care of.
fn bare(spec: &ModelSpec) -> ModelSpec {
    let mut spec = spec.clone();
    spec.family = "";
    spec.left_out.clear();
    each_norm(&mut spec, &mut |norm| norm.weight_offset = 0.0);
    each_rotation(&mut spec, &mut |rope| rope.pairing = Pairing::Halves);
    for layer in &mut spec.layers {
        match &mut layer.mixer {
            Mixer::Recurrent(recurrent) => {
                (recurrent.key_order, recurrent.rate_form) = (KeyOrder::Grouped, RateForm::Log);
            }
            Mixer::Latent(latent) => latent.key_form = KeyForm::Key,
            _ => {}
        }
    }
    spec.each_tensor(&mut |tensor| *tensor = TensorRef::new(""));
    spec
}
