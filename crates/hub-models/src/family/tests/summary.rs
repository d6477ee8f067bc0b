use hub_nn::spec::{Head, Mlp, ModelSpec, RopeScaling, RopeSpec};

/// Says in one line what a specification computes, leaving out what is as in Llama 2, and all names.
///
/// The number of windowed layers stands for which they are; the divisors that GGUF files keep of Llama 3's scaling are
/// called as it is.
pub(super) fn summary(spec: &ModelSpec) -> String {
    let first = &spec.layers[0];
    let attentions: Vec<_> = spec.layers.iter().filter_map(|layer| layer.mixer.attention()).collect();
    let mixer = attentions[0];
    let whole = *attentions.iter().find(|attention| attention.window.is_none()).unwrap_or(&mixer);
    let mut facts = vec![
        format!("{} layers", spec.layers.len()),
        format!("{}/{} heads of {}", mixer.heads, mixer.kv_heads, mixer.head_dim),
        format!("context {}", spec.context_tokens),
    ];
    let mut fact = |is_so: bool, text: String| {
        if is_so {
            facts.push(text);
        }
    };
    let rotated = |rope: &Option<RopeSpec>| rope.as_ref().map(|rope| rotation(rope, mixer.head_dim));
    fact(whole.rope.is_some(), format!("rope {}", rotated(&whole.rope).unwrap_or_default()));
    let is_local = mixer.rope != whole.rope;
    fact(is_local, format!("local {}", rotated(&mixer.rope).unwrap_or_default()));
    let windowed = attentions.iter().filter(|attention| attention.window.is_some()).count();
    let window = attentions.iter().find_map(|attention| attention.window).unwrap_or(0);
    fact(windowed > 0, format!("window {window} in {windowed}"));
    let (down, activation) = match &first.mlp {
        Mlp::Gated { down, activation, .. } | Mlp::Plain { down, activation, .. } => (down, activation),
        Mlp::Experts(experts) => (&experts.experts[0].down, &experts.activation),
    };
    fact(true, format!("{activation:?} {}", down.inputs).to_lowercase());
    if let Mlp::Experts(experts) = &first.mlp {
        fact(true, format!("{} of {} experts", experts.routing.chosen, experts.experts.len()));
    }
    let dense = spec.layers.iter().filter(|layer| !matches!(layer.mlp, Mlp::Experts(_))).count();
    fact((1..spec.layers.len()).contains(&dense), format!("none in {dense}"));
    fact(mixer.query.bias.is_some(), "query bias".to_owned());
    fact(mixer.output.bias.is_some(), "output bias".to_owned());
    fact(down.bias.is_some(), "mlp bias".to_owned());
    fact(mixer.query_norm.is_some(), "head norms".to_owned());
    fact(first.mixer_norms.after.is_some(), "sandwich".to_owned());
    fact(first.mixer_norms.last.is_some(), "post-norm".to_owned());
    let scale = 1.0 / (mixer.head_dim as f32).sqrt();
    fact((mixer.scale - scale).abs() > 1e-6, format!("scores by {}", mixer.scale));
    fact(mixer.soft_cap.is_some(), format!("scores to {}", mixer.soft_cap.unwrap_or(0.0)));
    fact(spec.embedding.scale != 1.0, format!("embedding by {}", spec.embedding.scale));
    fact(first.residual_scale != 1.0, format!("residual by {}", first.residual_scale));
    if let Some(positions) = &spec.embedding.positions {
        fact(true, format!("{} positions", positions.count - positions.offset));
    }
    match &spec.head {
        Head::None => fact(true, "no head".to_owned()),
        Head::Classifier { out, .. } => fact(true, format!("{} labels", out.outputs)),
        Head::Logits { scale, soft_cap, .. } => {
            fact(*scale != 1.0, format!("logits by {scale}"));
            fact(soft_cap.is_some(), format!("logits to {}", soft_cap.unwrap_or(0.0)));
            fact(spec.is_tied(), "tied".to_owned());
        }
    }
    facts.join(", ")
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
