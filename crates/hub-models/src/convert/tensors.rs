//! Which stored rows each tensor of a GGUF file is made of.

use std::collections::{BTreeMap, HashMap};

use hub_nn::{
    spec::{Axis, Factors, KvSpec, Mixer, ModelSpec, Pairing, RopeScaling, RopeSpec, Rows, TensorRef},
    weights::{ContentTensor, MadeOf, RowOrder, SourceRows, WeightKind, Weights},
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
    let (orders, plus) = (orders(folder, file), plus(folder, file));
    let made = parts.into_iter().filter(|(name, _)| ![SHORT, LONG, PLAIN].contains(&name.as_str()));
    made.map(|(name, pairs)| {
        let mut tensor = join(&name, pairs, weights)?;
        if let MadeOf::Rows(sources) = &tensor.made_of
            && let Some(first) = sources.first()
        {
            tensor.order = orders.get(&first.name).copied().unwrap_or(RowOrder::Stored);
            tensor.plus = plus.get(&first.name).copied().unwrap_or(0.0);
        }
        Ok(tensor)
    })
    .collect()
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

/// Returns the stored tensors whose rows are put in another order: those of queries and keys, if files rotate other pairs.
/// Where a layer rotates nothing the order changes nothing, and llama.cpp's converter moves its rows as well.
fn orders(folder: &ModelSpec, file: &ModelSpec) -> HashMap<String, RowOrder> {
    let mut orders = HashMap::new();
    let has = |spec: &ModelSpec, pairing: Pairing| {
        let mut has = false;
        each_rotation(&mut spec.clone(), &mut |rope| has |= rope.pairing == pairing);
        has
    };
    if !has(folder, Pairing::Halves) || !has(file, Pairing::Interleaved) {
        return orders;
    }
    for layer in &folder.layers {
        let Mixer::Attention(from) = &layer.mixer else { continue };
        let key = match &from.kv {
            KvSpec::Own(own) => Some(&own.key),
            KvSpec::Of(_) => None,
        };
        for linear in [Some(&from.query), key].into_iter().flatten() {
            let order = RowOrder::Paired { head: from.head_dim };
            orders.insert(linear.weight.name.clone(), order);
            orders.extend(linear.bias.as_ref().map(|bias| (bias.name.clone(), order)));
        }
    }
    orders
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
