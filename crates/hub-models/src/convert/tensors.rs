//! Which stored rows each tensor of a GGUF file is made of.

use std::collections::{BTreeMap, HashMap, HashSet};

use hub_nn::{
    spec::{
        AttentionSpec, Axis, Factors, KeyOrder, KvSpec, Mixer, ModelSpec, Pairing, RateForm, RecurrentSpec,
        RopeScaling, RopeSpec, Rule, TensorRef,
    },
    weights::{Change, ContentTensor, MadeOf, RowOrder, WeightKind, Weights},
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
    let mut moves = moves(folder, file)?;
    for (name, plus) in plus(folder, file).into_iter().filter(|(_, plus)| *plus != 0.0) {
        moves.entry(name).or_default().change = Change::Plus(plus);
    }
    let (shapes, turned) = (shapes(file), turned(folder, file));
    let made = parts.into_iter().filter(|(name, _)| ![SHORT, LONG, PLAIN].contains(&name.as_str()));
    made.map(|(name, pairs)| {
        let mut tensor = join(&name, pairs, &turned, weights)?;
        if let MadeOf::Rows(parts) = &tensor.made_of
            && let Some(first) = parts.first()
        {
            let Move { order, columns, change } = moves.get(&first.name).copied().unwrap_or_default();
            (tensor.order, tensor.columns, tensor.change) = (order, columns, change);
        }
        if let Some(shape) = shapes.get(&name) {
            (tensor.shape, tensor.plain) = (shape.to_vec(), WeightKind::F32);
        }
        Ok(tensor)
    })
    .collect()
}

/// Returns the shapes of vectors that files of Mamba-2 give a second axis.
fn shapes(file: &ModelSpec) -> HashMap<String, [usize; 2]> {
    let mut shapes = HashMap::new();
    for layer in &file.layers {
        if let Mixer::Recurrent(mamba) = &layer.mixer
            && let Rule::StateSpace { skip } = &mamba.rule
        {
            let (heads, groups) = (mamba.heads, mamba.key_heads);
            let inner = heads.saturating_mul(mamba.value_dim);
            shapes.insert(mamba.rate.name.clone(), [heads, 1]);
            shapes.insert(skip.name.clone(), [heads, 1]);
            shapes.insert(mamba.norm.weight.name.clone(), [groups, inner / groups.max(1)]);
        }
    }
    shapes
}

/// Returns the tensors whose matrices lie the other way round in the folder: what keys of latent attention are made with.
fn turned(folder: &ModelSpec, file: &ModelSpec) -> HashSet<String> {
    let mut turned = HashSet::new();
    for (from, to) in folder.layers.iter().zip(&file.layers) {
        if let (Mixer::Latent(from), Mixer::Latent(to)) = (&from.mixer, &to.mixer)
            && from.key_form != to.key_form
        {
            turned.extend(to.key.iter().map(|key| key.name.clone()));
        }
    }
    turned
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
                let made = to.query.weight.name.replace("attn_q", there);
                unread.push(tensor(&made, info.shape.clone(), MadeOf::whole(&name)));
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
    turned: &HashSet<String>,
    weights: &Weights,
) -> Result<ContentTensor, String> {
    let is_same = |(from, to): &(TensorRef, TensorRef)| from.rows == to.rows && from.axis == to.axis;
    let whole =
        pairs.first().filter(|first| pairs.iter().all(|pair| is_same(pair) && pair.0.name == first.0.name));
    if let Some((from, _)) = whole {
        let info = weights.info(&from.name);
        let mut shape = info.ok_or_else(|| format!("tensor `{}` is not there", from.name))?.shape.clone();
        // Convolutions of single channels have an axis for the others there.
        if let [_, 1, _] = shape[..] {
            shape.remove(1);
        }
        return Ok(tensor(name, shape, MadeOf::whole(&from.name)));
    }
    let cannot = |why: &str| format!("tensor `{name}` cannot be made of {why}");
    pairs.sort_by_key(|(_, to)| to.rows.map_or(0, |rows| rows.start));
    let (mut next, mut shapes) = (0, Vec::new());
    for (from, to) in &pairs {
        let (mut rows, mut width) =
            weights.part_shape(from).map_err(|error| format!("tensor `{name}`: {error}"))?;
        if turned.contains(name) {
            (rows, width) = (width, rows);
        }
        if to.rows.is_some_and(|to| to.start != next || to.total() != rows || to.end() != next + rows) {
            return Err(cannot("parts that do not lie behind each other"));
        }
        next += rows;
        shapes.push((rows, width));
    }
    let (rows, width) = shapes.first().copied().unwrap_or_default();
    let is_vector = pairs.iter().all(|(_, to)| to.axis == Axis::Numbers) && width == 1;
    let mut shape = if STACKS.iter().any(|part| name.contains(part)) {
        if shapes.iter().any(|shape| *shape != (rows, width)) {
            return Err(cannot("parts of several sizes"));
        }
        vec![shapes.len(), rows, width]
    } else {
        vec![next, width]
    };
    if is_vector {
        shape.pop();
    }
    let parts = pairs.into_iter().map(|(from, _)| from).collect();
    let is_turned = turned.contains(name);
    Ok(tensor(name, shape, if is_turned { MadeOf::Turned(parts) } else { MadeOf::Rows(parts) }))
}

/// Parts of the names of what has a matrix or vector for each expert, head or stream.
const STACKS: [&str; 5] = ["_exps.", "attn_k_b.", "attn_v_b.", "altup_proj.", "altup_unembd_proj."];
/// Parts of the names of matrices that stay `f32` even where others become F16, as llama.cpp's converter has them.
const FULL: [&str; 6] =
    [".bias", "ffn_gate_inp", "shortconv.conv", "ssm_conv1d", "altup_correct_coef", "altup_predict_coef"];

fn tensor(name: &str, shape: Vec<usize>, made_of: MadeOf) -> ContentTensor {
    let is_full = shape.len() < 2 || FULL.iter().any(|part| name.contains(part));
    let plain = if is_full { WeightKind::F32 } else { WeightKind::F16 };
    ContentTensor::new(name, shape, plain, made_of)
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
/// llama.cpp's converter moves its rows as well, also in models where no layer rotates (Granite 4).
///
/// # Errors
/// If some layers rotate other pairs than files do, and no order of rows makes up for it.
fn moves(folder: &ModelSpec, file: &ModelSpec) -> Result<HashMap<String, Move>, String> {
    let mut moves: HashMap<String, Move> = HashMap::new();
    // If there are any at all.
    let all = |spec: &ModelSpec, pairing: Pairing| {
        let mut all = true;
        each_rotation(&mut spec.clone(), &mut |rope| all &= rope.pairing == pairing);
        all
    };
    let is_paired = all(folder, Pairing::Halves) && all(file, Pairing::Interleaved);
    let pairings = |spec: &ModelSpec| {
        let mut pairings = Vec::new();
        each_rotation(&mut spec.clone(), &mut |rope| pairings.push(rope.pairing));
        pairings
    };
    if !is_paired && pairings(folder) != pairings(file) {
        return Err("its files rotate other pairs of numbers in some layers".to_owned());
    }
    for (from, to) in folder.layers.iter().zip(&file.layers) {
        match (&from.mixer, &to.mixer) {
            (Mixer::Attention(from), _) if is_paired => pair(from, &mut moves),
            (Mixer::Recurrent(from), Mixer::Recurrent(to)) => take_turns(from, to, &mut moves),
            _ => {}
        }
    }
    Ok(moves)
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
