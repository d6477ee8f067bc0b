//! Which stored rows each tensor of a GGUF file is made of.

use std::collections::{BTreeMap, HashMap};

use hub_nn::{
    spec::{
        AttentionSpec, Axis, Factors, KeyOrder, KvSpec, Mixer, ModelSpec, Pairing, RateForm, RecurrentSpec,
        RopeScaling, RopeSpec, Rows, Rule, TensorRef,
    },
    weights::{Change, ContentTensor, MadeOf, RowOrder, SourceRows, WeightKind, Weights},
};

use super::{each_norm, each_rotation};

/// Divisors of angles, by the names that GGUF files have for them.
pub(super) type Divisors = Vec<(&'static str, Vec<f32>)>;

const SHORT: &str = "rope_factors_short.weight";
const LONG: &str = "rope_factors_long.weight";
const PLAIN: &str = "rope_freqs.weight";

/// Takes the divisors of angles out of a specification, and lets it name the tensors that will hold them.
///
/// # Errors
/// What no tensor can hold.
pub(super) fn take_divisors(spec: &mut ModelSpec) -> Result<Divisors, String> {
    let mut found: BTreeMap<&'static str, Vec<f32>> = BTreeMap::new();
    let mut contradicts = false;
    each_rotation(spec, &mut |rope| {
        let mut take = |name: &'static str, numbers: Vec<f32>| {
            contradicts |= found.insert(name, numbers.clone()).is_some_and(|other| other != numbers);
            Factors::Tensor(TensorRef::new(name))
        };
        match &mut rope.scaling {
            RopeScaling::Llama3(_) => rope.scaling = RopeScaling::Factors(take(PLAIN, divisors(rope))),
            RopeScaling::Factors(factors) => {
                if let Factors::Values(values) = factors {
                    *factors = take(PLAIN, values.clone());
                }
            }
            RopeScaling::LongRope(long) => {
                for (name, factors) in [(SHORT, &mut long.short), (LONG, &mut long.long)] {
                    if let Factors::Values(values) = factors {
                        *factors = take(name, values.clone());
                    }
                }
            }
            _ => {}
        }
    });
    if contradicts {
        return Err(
            "its layers have different divisors of angles, and there is one tensor for them".to_owned()
        );
    }
    Ok(found.into_iter().collect())
}

/// Returns by what a fixed rotation divides the angles of an unscaled one.
fn divisors(rope: &RopeSpec) -> Vec<f32> {
    let none = |_: &TensorRef| Ok::<_, std::convert::Infallible>(Vec::new());
    let angles = |rope: &RopeSpec| rope.frequencies(0, none).unwrap_or_else(|never| match never {});
    let plain = RopeSpec { scaling: RopeScaling::None, ..rope.clone() };
    angles(&plain).iter().zip(angles(rope)).map(|(plain, scaled)| plain / scaled).collect()
}

/// Makes the tensor of some divisors.
pub(super) fn numbers((name, numbers): (&'static str, Vec<f32>)) -> ContentTensor {
    ContentTensor::new(name, vec![numbers.len()], WeightKind::F32, MadeOf::Numbers(numbers))
}

/// Pairs the tensors that stand in the same places of both specifications.
///
/// # Errors
/// What cannot be made by putting rows after one another.
pub(super) fn of(
    folder: &ModelSpec,
    file: &ModelSpec,
    weights: &Weights,
) -> Result<Vec<ContentTensor>, String> {
    let mut parts: indexmap::IndexMap<String, Vec<(TensorRef, TensorRef)>> = indexmap::IndexMap::new();
    let (from, to) = (refs(folder), refs(file));
    for (from, to) in from.into_iter().zip(to) {
        let pairs = parts.entry(to.name.clone()).or_default();
        if !pairs.iter().any(|(known, place)| *known == from && *place == to) {
            pairs.push((from, to));
        }
    }
    let mut moves = moves(folder, file);
    for (name, plus) in plus(folder, file).into_iter().filter(|(_, plus)| *plus != 0.0) {
        moves.entry(name).or_default().change = Change::Plus(plus);
    }
    let made = parts.into_iter().filter(|(name, _)| ![SHORT, LONG, PLAIN].contains(&name.as_str()));
    made.map(|(name, pairs)| {
        let mut tensor = join(&name, pairs, weights)?;
        if let MadeOf::Rows(sources) = &tensor.made_of
            && let Some(first) = sources.first()
        {
            let Move { order, columns, change } = moves.get(&first.name).copied().unwrap_or_default();
            (tensor.order, tensor.columns, tensor.change) = (order, columns, change);
        }
        Ok(tensor)
    })
    .collect()
}

/// Returns what layers would make keys and values with that read those of another, as far as the folder has it: published
/// ones of Gemma 3n do. Nothing computes with it, but llama.cpp reads no file of that family without.
pub(super) fn unread(folder: &ModelSpec, file: &ModelSpec, weights: &Weights) -> Vec<ContentTensor> {
    const PARTS: [(&str, &str); 3] = [("k_proj", "attn_k"), ("v_proj", "attn_v"), ("k_norm", "attn_k_norm")];
    let mut unread = Vec::new();
    for (from, to) in folder.layers.iter().zip(&file.layers) {
        let (Some(from), Some(to)) = (from.mixer.attention(), to.mixer.attention()) else { continue };
        if matches!(from.kv, KvSpec::Own(_)) || !from.query.weight.name.contains("q_proj") {
            continue;
        }
        // They are called what the queries beside them are called.
        for (here, there) in PARTS {
            let name = from.query.weight.name.replace("q_proj", here);
            if let Some(info) = weights.info(&name) {
                let source = SourceRows { name, start: 0 };
                let made = to.query.weight.name.replace("attn_q", there);
                unread.push(tensor(&made, info.shape.clone(), vec![source]));
            }
        }
    }
    unread
}

/// Lists the tensors of a specification, in one order for all of the same structure.
fn refs(spec: &ModelSpec) -> Vec<TensorRef> {
    let mut refs = Vec::new();
    spec.clone().each_tensor(&mut |tensor| refs.push(tensor.clone()));
    refs
}

/// Makes one tensor of the stored rows that its rows are.
fn join(
    name: &str,
    mut pairs: Vec<(TensorRef, TensorRef)>,
    weights: &Weights,
) -> Result<ContentTensor, String> {
    let cannot = |why: &str| format!("tensor `{name}` cannot be made of {why}");
    let info = |name: &str| weights.info(name).ok_or_else(|| cannot("what is not there"));
    let is_same = |(from, to): &(TensorRef, TensorRef)| from.rows == to.rows && from.axis == to.axis;
    let whole =
        pairs.first().filter(|first| pairs.iter().all(|pair| is_same(pair) && pair.0.name == first.0.name));
    if let Some((from, _)) = whole {
        let source = SourceRows { name: from.name.clone(), start: 0 };
        let mut shape = info(&from.name)?.shape.clone();
        // Convolutions of single channels have an axis for the others there.
        if let [_, 1, _] = shape[..] {
            shape.remove(1);
        }
        return Ok(tensor(name, shape, vec![source]));
    }
    if pairs.iter().any(|(from, to)| from.axis != Axis::Rows || to.axis != Axis::Rows) {
        return Err(cannot("one that is stored turned over"));
    }
    pairs.sort_by_key(|(_, to)| to.rows.map_or(0, |rows| rows.start));
    let (mut sources, mut next, mut each, mut width) = (Vec::new(), 0, None, 0);
    for (from, to) in &pairs {
        let info = info(&from.name)?;
        let (rows, at) = match from.rows {
            Some(Rows { start, len, step, count }) if count == 1 || step == len => (len * count, start),
            Some(_) => return Err(cannot("rows that are not side by side")),
            None => (info.rows(), 0),
        };
        let is_next = to
            .rows
            .is_none_or(|to| (to.count == 1 || to.step == to.len) && to.start == next && to.total() == rows);
        if !is_next || each.is_some_and(|each| each != rows) {
            return Err(cannot("parts of several sizes"));
        }
        (each, next) = (Some(rows), next + rows);
        width = info.shape.last().copied().unwrap_or(1);
        sources.push(SourceRows { name: from.name.clone(), start: at });
    }
    let rows = each.unwrap_or(0);
    // Several matrices lie in a stack.
    let shape = if sources.len() > 1 { vec![sources.len(), rows, width] } else { vec![rows, width] };
    Ok(tensor(name, shape, sources))
}

/// Parts of the names of matrices that stay `f32` even where others become F16, as llama.cpp's converter has them.
const FULL: [&str; 5] =
    ["ffn_gate_inp", "shortconv.conv", "ssm_conv1d", "altup_correct_coef", "altup_predict_coef"];

fn tensor(name: &str, shape: Vec<usize>, sources: Vec<SourceRows>) -> ContentTensor {
    let is_full = shape.len() < 2 || FULL.iter().any(|part| name.contains(part));
    let plain = if is_full { WeightKind::F32 } else { WeightKind::F16 };
    ContentTensor::new(name, shape, plain, MadeOf::Rows(sources))
}

/// What becomes of a stored tensor.
#[derive(Clone, Copy)]
struct Move {
    order: RowOrder,
    columns: RowOrder,
    change: Change,
}

impl Default for Move {
    fn default() -> Self {
        Self { order: RowOrder::Stored, columns: RowOrder::Stored, change: Change::None }
    }
}

/// Returns what becomes of stored tensors: queries and keys have another order if files rotate other pairs, and the heads
/// of recurrent layers if files let their keys take turns. Where a layer rotates nothing the order changes nothing, and
/// llama.cpp's converter moves its rows as well.
fn moves(folder: &ModelSpec, file: &ModelSpec) -> HashMap<String, Move> {
    let mut moves: HashMap<String, Move> = HashMap::new();
    let has = |spec: &ModelSpec, pairing: Pairing| {
        let mut has = false;
        each_rotation(&mut spec.clone(), &mut |rope| has |= rope.pairing == pairing);
        has
    };
    let is_paired = has(folder, Pairing::Halves) && has(file, Pairing::Interleaved);
    for (from, to) in folder.layers.iter().zip(&file.layers) {
        match (&from.mixer, &to.mixer) {
            (Mixer::Attention(from), _) if is_paired => pair(from, &mut moves),
            (Mixer::Recurrent(from), Mixer::Recurrent(to)) => take_turns(from, to, &mut moves),
            _ => {}
        }
    }
    moves
}

/// Puts the rows of queries and keys in the order of pairs.
fn pair(attention: &AttentionSpec, moves: &mut HashMap<String, Move>) {
    let key = match &attention.kv {
        KvSpec::Own(own) => Some(&own.key),
        KvSpec::Of(_) => None,
    };
    for linear in [Some(&attention.query), key].into_iter().flatten() {
        for name in [Some(&linear.weight), linear.bias.as_ref()].into_iter().flatten() {
            moves.entry(name.name.clone()).or_default().order = RowOrder::Paired { head: attention.head_dim };
        }
    }
}

/// Puts the heads of a recurrent layer in the order of files, and its decays in their form.
fn take_turns(from: &RecurrentSpec, to: &RecurrentSpec, moves: &mut HashMap<String, Move>) {
    if (from.rate_form, to.rate_form) == (RateForm::Log, RateForm::Negative) {
        moves.entry(from.rate.name.clone()).or_default().change = Change::NegativeExp;
    }
    let (keys, each) = (from.key_heads, from.heads / from.key_heads.max(1));
    if (from.key_order, to.key_order) != (KeyOrder::Grouped, KeyOrder::Tiled) || each < 2 {
        return;
    }
    let tiled = |start: usize, head: usize| RowOrder::Tiled { start, head, keys, each };
    let start = |tensor: &TensorRef| tensor.rows.map_or(0, |rows| rows.start);
    let dim = from.value_dim;
    let mut order = |tensor: &TensorRef, head| {
        moves.entry(tensor.name.clone()).or_default().order = tiled(start(tensor), head);
    };
    order(&from.value.linear.weight, dim);
    order(&from.value.conv.weight, dim);
    order(&from.gate.weight, dim);
    order(&from.step.weight, 1);
    order(&from.step_bias, 1);
    order(&from.rate, 1);
    if let Rule::Delta { beta } = &from.rule {
        order(&beta.weight, 1);
    }
    moves.entry(from.output.weight.name.clone()).or_default().columns = tiled(0, dim);
}

/// Returns what is added to the weights of norms, where files keep them without what is added later.
fn plus(folder: &ModelSpec, file: &ModelSpec) -> HashMap<String, f32> {
    let offsets = |spec: &ModelSpec| {
        let mut offsets = Vec::new();
        each_norm(&mut spec.clone(), &mut |norm| {
            offsets.push((norm.weight.name.clone(), norm.weight_offset))
        });
        offsets
    };
    let pairs = offsets(folder).into_iter().zip(offsets(file));
    pairs.map(|((name, own), (_, other))| (name, own - other)).collect()
}
