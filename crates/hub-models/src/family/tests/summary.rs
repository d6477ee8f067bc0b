use hub_nn::spec::{Head, Mixer, Mlp, ModelSpec, RopeScaling, RopeSpec, Scoring};

/// Says in one line what a specification computes, leaving out what is as in Llama 2, and all names.
///
/// The number of windowed layers stands for which they are; the divisors that GGUF files keep of Llama 3's scaling are
/// called as it is.
pub(super) fn summary(spec: &ModelSpec) -> String {
    let first = &spec.layers[0];
    let mut facts = vec![format!("{} layers", spec.layers.len())];
    facts.extend(of_attentions(spec));
    facts.extend(of_others(spec));
    facts.push(format!("context {}", spec.context_tokens));
    let mut fact = |is_so: bool, text: String| {
        if is_so {
            facts.push(text);
        }
    };
    let (down, activation) = match &first.mlp {
        Mlp::Gated { down, activation, .. } | Mlp::Plain { down, activation, .. } => (down, activation),
        Mlp::Experts(experts) => (&experts.experts[0].down, &experts.activation),
    };
    fact(true, format!("{activation:?} {}", down.inputs).to_lowercase());
    if let Some(Mlp::Experts(experts)) = spec.layers.last().map(|layer| &layer.mlp) {
        let routing = &experts.routing;
        fact(true, format!("{} of {} experts", routing.chosen, experts.experts.len()));
        fact(routing.scoring == Scoring::Sigmoid, "by sigmoid".to_owned());
        fact(routing.scale != 1.0, format!("times {}", routing.scale));
        fact(!routing.is_normalized, "as they are".to_owned());
        if let Some(groups) = routing.groups {
            fact(true, format!("of {} of {} groups by {}", groups.chosen, groups.count, groups.best));
        }
    }
    let dense = spec.layers.iter().filter(|layer| !matches!(layer.mlp, Mlp::Experts(_))).count();
    fact((1..spec.layers.len()).contains(&dense), format!("none in {dense}"));
    fact(down.bias.is_some(), "mlp bias".to_owned());
    fact(first.mixer_norms.after.is_some(), "sandwich".to_owned());
    fact(first.mixer_norms.last.is_some(), "post-norm".to_owned());
    fact(spec.embedding.scale != 1.0, format!("embedding by {}", spec.embedding.scale));
    fact(first.residual_scale != 1.0, format!("residual by {}", first.residual_scale));
    if let Some(positions) = &spec.embedding.positions {
        fact(true, format!("{} positions", positions.count - positions.offset));
    }
    match &spec.head {
        Head::None => fact(true, "no head".to_owned()),
        Head::Classifier(pooled) => fact(true, format!("{} labels", pooled.outputs())),
        Head::Vector(pooled) => fact(true, format!("vectors of {}", pooled.outputs())),
        Head::Beside(linears) => fact(true, format!("{} matrices beside rows", linears.len())),
        Head::Logits { scale, soft_cap, .. } => {
            fact(*scale != 1.0, format!("logits by {scale}"));
            fact(soft_cap.is_some(), format!("logits to {}", soft_cap.unwrap_or(0.0)));
            fact(spec.is_tied(), "tied".to_owned());
        }
    }
    facts.join(", ")
}

/// What the layers with attention have in common, and in what those with a window differ.
fn of_attentions(spec: &ModelSpec) -> Vec<String> {
    let attentions: Vec<_> = spec.layers.iter().filter_map(|layer| layer.mixer.attention()).collect();
    let Some(mixer) = attentions.first() else { return Vec::new() };
    let whole = attentions.iter().find(|attention| attention.window.is_none()).unwrap_or(mixer);
    let mut facts = vec![format!("{}/{} heads of {}", mixer.heads, mixer.kv_heads, mixer.head_dim)];
    let mut fact = |is_so: bool, text: String| {
        if is_so {
            facts.push(text);
        }
    };
    let rotated = |rope: &Option<RopeSpec>| rope.as_ref().map(|rope| rotation(rope, mixer.head_dim));
    fact(whole.rope.is_some(), format!("rope {}", rotated(&whole.rope).unwrap_or_default()));
    fact(mixer.rope != whole.rope, format!("local {}", rotated(&mixer.rope).unwrap_or_default()));
    let windowed = attentions.iter().filter(|attention| attention.window.is_some()).count();
    let window = attentions.iter().find_map(|attention| attention.window).unwrap_or(0);
    fact(windowed > 0, format!("window {window} in {windowed}"));
    fact(mixer.query.bias.is_some(), "query bias".to_owned());
    fact(mixer.output.bias.is_some(), "output bias".to_owned());
    fact(mixer.query_norm.is_some(), "head norms".to_owned());
    let scale = 1.0 / (mixer.head_dim as f32).sqrt();
    fact((mixer.scale - scale).abs() > 1e-6, format!("scores by {}", mixer.scale));
    fact(mixer.soft_cap.is_some(), format!("scores to {}", mixer.soft_cap.unwrap_or(0.0)));
    facts
}

/// What the layers with other mixers are like.
fn of_others(spec: &ModelSpec) -> Vec<String> {
    let mut facts: Vec<String> = Vec::new();
    for (layer, mixer) in spec.layers.iter().map(|layer| &layer.mixer).enumerate() {
        let fact = match mixer {
            Mixer::Attention(_) => continue,
            Mixer::Latent(latent) => {
                let widths = (latent.nope_dim, latent.rope_dim, latent.value_dim);
                let rope = rotation(&latent.rope, latent.rope_dim);
                format!(
                    "{} heads {widths:?} of {} by {:.4}, rope {rope}",
                    latent.heads, latent.rank, latent.scale
                )
            }
            Mixer::Recurrent(recurrent) => {
                let (heads, widths) = (recurrent.heads, (recurrent.key_dim, recurrent.value_dim));
                let kernel = recurrent.query.conv.kernel;
                format!("{heads}/{} matrices {widths:?} behind {kernel} rows", recurrent.key_heads)
            }
            Mixer::ShortConv(short) => format!("{} rows of {}", short.conv.kernel, short.conv.channels),
        };
        if !facts.iter().any(|known| known.ends_with(&fact)) {
            facts.push(format!("from {layer} on {fact}"));
        }
    }
    facts
}

fn rotation(rope: &RopeSpec, head_dim: usize) -> String {
    let part = if rope.dims == head_dim { String::new() } else { format!(" of {}", rope.dims) };
    let scaling = match &rope.scaling {
        RopeScaling::None => String::new(),
        RopeScaling::Linear { factor } => format!(" linear by {factor}"),
        RopeScaling::Dynamic { factor, original_tokens } => {
            format!(" dynamic by {factor} from {original_tokens}")
        }
        RopeScaling::Yarn(yarn) => {
            format!(
                " yarn by {} from {}, times {:.4}",
                yarn.factor, yarn.original_tokens, yarn.attention_factor
            )
        }
        RopeScaling::Llama3(_) | RopeScaling::Factors(_) => " llama3".to_owned(),
        RopeScaling::LongRope(long) => {
            format!(" longrope from {}, times {:.4}", long.original_tokens, long.attention_factor)
        }
    };
    format!("{}{part}{scaling}", rope.base)
}
