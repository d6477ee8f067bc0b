//! Whether two specifications mean the same arithmetic.

use hub_nn::spec::{KeyForm, KeyOrder, Mixer, ModelSpec, Pairing, RateForm, TensorRef};

use super::{each_norm, each_rotation};

/// The most of a value that is shown, in characters.
const MAX_SHOWN: usize = 60;

/// Checks that a specification of a folder and one of metadata say the same of everything but tensors.
///
/// # Errors
/// The first part that differs.
pub(super) fn check(folder: &ModelSpec, metadata: &ModelSpec) -> Result<(), String> {
    let (folder, metadata) = (bare(folder), bare(metadata));
    if folder == metadata {
        return Ok(());
    }
    let beside_layers = |spec: &ModelSpec| format!("{:?}", ModelSpec { layers: Vec::new(), ..spec.clone() });
    let (mut ours, mut theirs) = (beside_layers(&folder), beside_layers(&metadata));
    let mut place = "the model".to_owned();
    let layers = folder.layers.iter().zip(&metadata.layers).enumerate();
    if let Some((at, (own, other))) = layers.into_iter().find(|(_, (own, other))| own != other) {
        (ours, theirs) = (format!("{own:?}"), format!("{other:?}"));
        place = format!("layer {at}");
    }
    let [field, ours, theirs] = first_difference(&ours, &theirs);
    Err(format!("GGUF metadata cannot say `{field}: {ours}` of {place}: read back, it is `{theirs}`"))
}

/// Returns the field in which two values differ that are written as `Debug` writes them, and what it is in each.
fn first_difference(ours: &str, theirs: &str) -> [String; 3] {
    let same = ours.bytes().zip(theirs.bytes()).take_while(|(own, other)| own == other).count();
    let before = ours.get(..same).unwrap_or_default();
    let end = before.rfind(": ").unwrap_or(0);
    let start = before[..end].rfind([' ', '{', '(']).map_or(0, |at| at + 1);
    let value = |text: &str| {
        let text = text.get(end..).unwrap_or_default().trim_start_matches(": ");
        let mut depth = 0;
        let is_within = |letter: &char| {
            match letter {
                '{' | '(' | '[' => depth += 1,
                '}' | ')' | ']' => depth -= 1,
                _ => {}
            }
            depth > 0 || (depth == 0 && *letter != ',')
        };
        let whole: String = text.chars().take_while(is_within).collect();
        let is_there = whole.starts_with("Some(");
        if whole.contains("TensorRef") || (ours.contains("TensorRef") && whole.trim_end() == "None") {
            return if is_there { "there" } else { "not there" }.to_owned();
        }
        match whole.char_indices().nth(MAX_SHOWN) {
            Some((at, _)) => format!("{}…", &whole[..at]),
            None => whole.trim_end().to_owned(),
        }
    };
    [before[start..end].to_owned(), value(ours), value(theirs)]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_told_by_its_field() {
        #[derive(Debug)]
        struct Rope {
            #[expect(dead_code, reason = "printed")]
            base: f32,
        }
        #[derive(Debug)]
        struct Layer {
            #[expect(dead_code, reason = "printed")]
            rope: Option<Rope>,
            #[expect(dead_code, reason = "printed")]
            scale: f32,
        }
        let layer =
            |base: Option<f32>, scale| format!("{:?}", Layer { rope: base.map(|base| Rope { base }), scale });
        let told = |ours: &str, theirs: &str| first_difference(ours, theirs).join(" ");
        assert_eq!(told(&layer(Some(1.5), 0.25), &layer(Some(1.5), 0.125)), "scale 0.25 0.125");
        assert_eq!(told(&layer(Some(1.5), 0.25), &layer(Some(1.0), 0.25)), "base 1.5 1.0");
        assert_eq!(told(&layer(Some(1.5), 0.25), &layer(None, 0.25)), "rope Some(Rope { base: 1.5 }) None");
    }
}
