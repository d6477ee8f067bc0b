//! The four bits of bitsandbytes, NF4 and FP4: `NAME`, bytes of two numbers, the first in the high half; `NAME.quant_map`,
//! the sixteen numbers they stand for; `NAME.absmax`, what a block is multiplied with, itself bytes with
//! `NAME.nested_quant_map` and `NAME.nested_absmax` where it was quantized, too; and `NAME.quant_state.bitsandbytes__nf4`,
//! JSON that says the rest.
//!
//! Numbers become the kind of the model they were made from, as bitsandbytes unpacks them: products are `f32` and rounded
//! once.
//!
//! Source: Dettmers et al. 2023, <https://arxiv.org/abs/2305.14314>, and `bitsandbytes`' `functional.py`. Checked against
//! `fixtures/kinds/folders.json`.

use std::{ops::Range, sync::Arc};

use serde::Deserialize;

use super::{
    Assembly, Made, Stored, assembled,
    plain::{numbers, write},
};
use crate::weights::{Error, TensorInfo, WeightKind, Weights, kind::elements_of};

/// The longest description that is read.
const MAX_JSON: usize = 1 << 16;

#[derive(Debug)]
struct Bits4 {
    format: &'static str,
    codes: TensorInfo,
    table: [f32; 16],
    /// Numbers of a row.
    cols: usize,
    /// Numbers that share a scale.
    block: usize,
    scales: TensorInfo,
    nested: Option<Nested>,
    bytes: u64,
    kind: WeightKind,
}

/// How scales are quantized themselves.
#[derive(Debug)]
struct Nested {
    table: Arc<[f32]>,
    scales: TensorInfo,
    /// Scales that share one.
    block: usize,
    offset: f32,
}

/// What bitsandbytes says of a matrix.
#[derive(Deserialize)]
struct State {
    blocksize: usize,
    dtype: String,
    shape: Vec<usize>,
    nested_blocksize: Option<usize>,
    #[serde(default)]
    nested_offset: f32,
}

/// Makes one tensor of each set of parts.
pub(super) fn find(stored: &Stored<'_>) -> Result<Made, Error> {
    let mut found = Made::default();
    for (format, kind) in [("NF4", "nf4"), ("FP4", "fp4")] {
        let suffix = format!(".quant_state.bitsandbytes__{kind}");
        for name in stored.stems(&suffix) {
            let info = parts(stored, format, name, &format!("{name}{suffix}"))?;
            let parts = ["", ".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map", &suffix];
            found.taken.extend(parts.map(|part| format!("{name}{part}")));
            found.made.push((name.to_owned(), info));
        }
    }
    Ok(found)
}

fn parts(
    stored: &Stored<'_>,
    format: &'static str,
    name: &str,
    state_name: &str,
) -> Result<TensorInfo, Error> {
    let state_info = stored.part(state_name, state_name)?;
    let state = state(stored, state_name, state_info)?;
    let State { blocksize: block, shape, .. } = &state;
    let kind = match state.dtype.as_str() {
        "float16" => WeightKind::F16,
        "bfloat16" => WeightKind::BF16,
        "float32" => WeightKind::F32,
        other => return Err(stored.unsupported(name, format!("{format} of {}", shown(other)))),
    };
    let codes = stored.part(name, state_name)?;
    let count = elements_of(shape).filter(|count| *count > 0 && shape.len() == 2 && *block > 0);
    let Some(count) = count.filter(|count| codes.kind == WeightKind::U8 && codes.len == count.div_ceil(2))
    else {
        let expected =
            format!("U8, two numbers a byte of {shape:?} in blocks of {block}, as `{state_name}` says");
        return Err(stored.misfit(name, codes, &expected));
    };
    let table_name = format!("{name}.quant_map");
    let table_info = stored.part(&table_name, name)?;
    let table = table(stored, &table_name, table_info, 16)?;
    let Ok(table) = <[f32; 16]>::try_from(table) else {
        return Err(stored.misfit(&table_name, table_info, "F32 [16]"));
    };
    let scales_name = format!("{name}.absmax");
    let scales = stored.part(&scales_name, name)?;
    let blocks = count.div_ceil(*block);
    let nested =
        if scales.kind == WeightKind::U8 { Some(nested(stored, name, &state, blocks)?) } else { None };
    if (nested.is_none() && scales.kind != WeightKind::F32) || scales.elements() != blocks {
        return Err(stored.misfit(&scales_name, scales, &format!("F32 or U8 [{blocks}]")));
    }
    let nested_bytes =
        nested.as_ref().map_or(0, |nested| nested.scales.bytes() + nested.table.len() as u64 * 4);
    let parts = Bits4 {
        format,
        codes: codes.clone(),
        table,
        cols: shape[1],
        block: *block,
        scales: scales.clone(),
        nested,
        bytes: [codes, table_info, scales, state_info].map(TensorInfo::bytes).iter().sum::<u64>()
            + nested_bytes,
        kind,
    };
    assembled(shape.clone(), kind, parts)
        .ok_or_else(|| stored.corrupt(format!("tensor `{name}` has impossible shape")))
}

fn state(stored: &Stored<'_>, name: &str, info: &TensorInfo) -> Result<State, Error> {
    if info.kind != WeightKind::U8 || info.len > MAX_JSON {
        return Err(stored.misfit(name, info, "U8, a short text in JSON"));
    }
    serde_json::from_slice(&stored.read(info)?)
        .map_err(|error| stored.corrupt(format!("tensor `{name}` cannot be understood: {error}")))
}

/// Reads which number each code stands for.
fn table(stored: &Stored<'_>, name: &str, info: &TensorInfo, len: usize) -> Result<Vec<f32>, Error> {
    if info.kind != WeightKind::F32 || info.elements() != len {
        return Err(stored.misfit(name, info, &format!("F32 [{len}]")));
    }
    Ok(numbers(WeightKind::F32, &stored.read(info)?))
}

fn nested(stored: &Stored<'_>, name: &str, state: &State, blocks: usize) -> Result<Nested, Error> {
    let [table_name, scales_name] =
        ["nested_quant_map", "nested_absmax"].map(|part| format!("{name}.{part}"));
    let table = table(stored, &table_name, stored.part(&table_name, name)?, 256)?.into();
    let scales = stored.part(&scales_name, name)?;
    let block = state.nested_blocksize.unwrap_or(256);
    if block == 0 || scales.kind != WeightKind::F32 || scales.elements() != blocks.div_ceil(block) {
        let expected = format!("F32, one for each {block} of {blocks} scales");
        return Err(stored.misfit(&scales_name, scales, &expected));
    }
    Ok(Nested { table, scales: scales.clone(), block, offset: state.nested_offset })
}

/// Returns as much of a foreign word as an error can show.
fn shown(word: &str) -> String {
    word.chars().take(40).collect()
}

impl Bits4 {
    /// Returns some of the scales.
    fn scales(&self, weights: &Weights, range: Range<usize>) -> Result<Vec<f32>, Error> {
        let size = self.scales.kind.block_bytes();
        let mut bytes = vec![0; range.len() * size];
        weights.read_bytes(&self.scales, range.start * size, &mut bytes)?;
        let Some(Nested { table, scales, block, offset }) = &self.nested else {
            return Ok(numbers(WeightKind::F32, &bytes));
        };
        let first = range.start / block;
        let mut outer = vec![0; (range.end.div_ceil(*block) - first) * 4];
        weights.read_bytes(scales, first * 4, &mut outer)?;
        let outer = numbers(WeightKind::F32, &outer);
        let scale = |(at, code): (usize, u8)| table[usize::from(code)] * outer[at / block - first] + offset;
        Ok(range.zip(bytes).map(scale).collect())
    }
}

impl Assembly for Bits4 {
    fn format(&self) -> &'static str {
        self.format
    }

    fn stored_bytes(&self) -> u64 {
        self.bytes
    }

    fn rows(&self, weights: &Weights, rows: Range<usize>, out: &mut [u8]) -> Result<(), Error> {
        let (start, end) = (rows.start * self.cols, rows.end * self.cols);
        let (first, first_byte) = (start / self.block, start / 2);
        let scales = self.scales(weights, first..end.div_ceil(self.block))?;
        let mut codes = vec![0; end.div_ceil(2) - first_byte];
        weights.read_bytes(&self.codes, first_byte, &mut codes)?;
        let number = |at: usize| {
            let byte = codes[at / 2 - first_byte];
            let code = if at.is_multiple_of(2) { byte >> 4 } else { byte & 15 };
            self.table[usize::from(code)] * scales[at / self.block - first]
        };
        write(self.kind, (start..end).map(number), out);
        Ok(())
    }
}
