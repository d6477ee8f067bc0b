//! LLM.int8 of bitsandbytes: `NAME.weight`, bytes with a sign, and `NAME.SCB`, the largest magnitude of each row, which 127
//! stands for.
//!
//! Numbers become F32: a scale over 127 is no F16, which blocks of bytes would need.
//!
//! Source: Dettmers et al. 2022, <https://arxiv.org/abs/2208.07339>, and `bitsandbytes`' `int8_vectorwise_dequant`. Checked
//! against `fixtures/kinds/folders.json`.

use std::ops::Range;

use super::{
    Assembly, Made, Stored, assembled,
    plain::{numbers, write},
};
use crate::weights::{Error, TensorInfo, WeightKind, Weights};

/// What bitsandbytes multiplies with instead of dividing by 127.
const STEP: f32 = 1.0 / 127.0;

#[derive(Debug)]
struct Int8 {
    codes: TensorInfo,
    scales: TensorInfo,
}

/// Makes one tensor of each pair of numbers and scales.
pub(super) fn find(stored: &Stored<'_>) -> Result<Made, Error> {
    let mut found = Made::default();
    for stem in stored.stems(".SCB") {
        let [name, scales_name, layout_name] =
            ["weight", "SCB", "weight_format"].map(|part| format!("{stem}.{part}"));
        let (codes, scales) = (stored.part(&name, &scales_name)?, stored.part(&scales_name, &name)?);
        let [rows, _] = codes.shape[..] else {
            return Err(stored.misfit(&name, codes, "I8 [rows, columns]"));
        };
        if codes.kind != WeightKind::I8 {
            return Err(stored.misfit(&name, codes, "I8 [rows, columns]"));
        }
        if scales.kind != WeightKind::F32 || scales.shape != [rows] {
            return Err(stored.misfit(&scales_name, scales, &format!("F32 [{rows}]")));
        }
        if let Some(layout) = stored.get(&layout_name)
            && (layout.len > 8 || stored.read(layout)?.iter().any(|byte| *byte != 0))
        {
            return Err(stored.unsupported(&name, "LLM.int8 in the order of a graphics card's tiles"));
        }
        let parts = Int8 { codes: codes.clone(), scales: scales.clone() };
        let info = assembled(codes.shape.clone(), WeightKind::F32, parts)
            .ok_or_else(|| stored.corrupt(format!("tensor `{name}` has impossible shape")))?;
        found.made.push((name.clone(), info));
        found.taken.extend([name, scales_name, layout_name]);
    }
    Ok(found)
}

impl Assembly for Int8 {
    fn format(&self) -> &'static str {
        "LLM.int8"
    }

    fn stored_bytes(&self) -> u64 {
        self.codes.bytes() + self.scales.bytes()
    }

    fn rows(&self, weights: &Weights, rows: Range<usize>, out: &mut [u8]) -> Result<(), Error> {
        let cols = self.codes.len / self.codes.rows().max(1);
        let (mut codes, mut scales) = (vec![0; rows.len() * cols], vec![0; rows.len() * 4]);
        weights.read_bytes(&self.codes, rows.start * cols, &mut codes)?;
        weights.read_bytes(&self.scales, rows.start * 4, &mut scales)?;
        let scales = numbers(WeightKind::F32, &scales);
        let numbers = codes.iter().enumerate();
        let number = |(at, code): (usize, &u8)| f32::from(code.cast_signed()) * scales[at / cols] * STEP;
        write(WeightKind::F32, numbers.map(number), out);
        Ok(())
    }
}
