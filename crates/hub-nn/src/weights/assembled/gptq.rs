//! GPTQ and AWQ: `NAME.qweight`, `NAME.qzeros`, `NAME.scales` and, of GPTQ, `NAME.g_idx`, which says the group of each
//! input.
//!
//! | | GPTQ | AWQ (GEMM) |
//! | --- | --- | --- |
//! | `qweight`, words of 32 bits | `[inputs / lanes, outputs]` | `[inputs, outputs / lanes]` |
//! | `qzeros`, words of 32 bits | `[groups, outputs / lanes]` | `[groups, outputs / lanes]` |
//! | `scales` | `[groups, outputs]` | `[groups, outputs]` |
//! | numbers of a word, from its lowest bits | in order | 0 2 4 6 1 3 5 7 |
//! | zeros | one less is stored, unless it is `gptq_v2` | as they are |
//!
//! Sources: Frantar et al. 2022, <https://arxiv.org/abs/2210.17323>; Lin et al. 2023, <https://arxiv.org/abs/2306.00978>.
//! Checked against `fixtures/kinds/folders.json`.

use std::collections::BTreeMap;

use super::{
    Made, Stored, assembled,
    grouped::{Grouped, Groups, Layout, Need, words},
    plain::is_scale,
};
use crate::weights::{Error, TensorInfo, WeightKind};

/// Makes one tensor of each set of parts.
pub(super) fn find(stored: &Stored<'_>) -> Result<Made, Error> {
    let mut found = Made::default();
    let mut matrices = Vec::new();
    // Matrices of as many bits become the same kind, as experts must.
    let mut needs: BTreeMap<usize, Need> = BTreeMap::new();
    for stem in stored.stems(".qweight") {
        let matrix = parts(stored, stem)?;
        let need = matrix.need(stored)?;
        needs.entry(matrix.bits).and_modify(|all| *all = all.with(need)).or_insert(need);
        found.taken.extend(["qweight", "qzeros", "scales", "g_idx"].map(|part| format!("{stem}.{part}")));
        matrices.push((stem, matrix));
    }
    for (stem, matrix) in matrices {
        let kind = matrix.kind_for(needs.get(&matrix.bits).copied().unwrap_or_default());
        let shape = vec![matrix.outputs, matrix.inputs];
        let info = assembled(shape, kind, Grouped { kind, ..matrix })
            .ok_or_else(|| stored.corrupt(format!("tensor `{stem}.qweight` has impossible shape")))?;
        found.made.push((format!("{stem}.weight"), info));
    }
    Ok(found)
}

/// Returns the parts of a matrix, whose shapes fit.
fn parts(stored: &Stored<'_>, stem: &str) -> Result<Grouped, Error> {
    let [weight_name, zeros_name, scales_name, groups_name] =
        ["qweight", "qzeros", "scales", "g_idx"].map(|part| format!("{stem}.{part}"));
    let numbers = stored.part(&weight_name, &weight_name)?;
    let zeros = stored.part(&zeros_name, &weight_name)?;
    let scales = stored.part(&scales_name, &weight_name)?;
    let [count, outputs] = match scales.shape[..] {
        [count, outputs] if is_scale(scales.kind) && scales.kind != WeightKind::F8E8M0 && scales.len > 0 => {
            [count, outputs]
        }
        _ => return Err(stored.misfit(&scales_name, scales, "F16, BF16 or F32 [groups, outputs]")),
    };
    let bits = match zeros.shape[..] {
        [lines, columns] if lines == count && zeros.kind == WeightKind::I32 && columns <= outputs => {
            columns * 32 / outputs
        }
        _ => {
            return Err(stored.misfit(
                &zeros_name,
                zeros,
                &format!("I32 [{count}, outputs / numbers of a word]"),
            ));
        }
    };
    if ![2, 4, 8].contains(&bits) {
        return Err(stored.unsupported(&weight_name, format!("GPTQ or AWQ with {bits} bits")));
    }
    let (lanes, words_wide) = (32 / bits, outputs * bits / 32);
    if !outputs.is_multiple_of(lanes) || zeros.shape[1] != words_wide {
        let expected = format!("I32 [{count}, outputs / {lanes}], beside scales of {outputs} outputs");
        return Err(stored.misfit(&zeros_name, zeros, &expected));
    }
    let (layout, inputs) = match numbers.shape[..] {
        [lines, columns] if numbers.kind == WeightKind::I32 && columns == outputs && lines > 0 => {
            (Layout::Inputs, lines * lanes)
        }
        [lines, columns] if numbers.kind == WeightKind::I32 && columns == words_wide && lines > 0 => {
            (Layout::Outputs, lines)
        }
        _ => {
            let expected = format!(
                "I32 [inputs / {lanes}, {outputs}] for GPTQ, or [inputs, {words_wide}] for AWQ in its GEMM layout"
            );
            return Err(stored.misfit(&weight_name, numbers, &expected));
        }
    };
    let is_gptq = layout == Layout::Inputs;
    if !is_gptq && bits != 4 {
        return Err(stored.unsupported(&weight_name, format!("AWQ with {bits} bits")));
    }
    let list = stored.get(&groups_name).filter(|_| is_gptq);
    let groups = match list {
        Some(list) => listed(stored, &groups_name, list, (inputs, count))?,
        None => even(stored, &scales_name, scales, (inputs, count))?,
    };
    let bytes =
        [Some(numbers), Some(zeros), Some(scales), list].into_iter().flatten().map(TensorInfo::bytes).sum();
    Ok(Grouped {
        format: name(is_gptq, bits),
        layout,
        bits,
        inputs,
        outputs,
        count,
        groups,
        numbers: numbers.clone(),
        zeros: zeros.clone(),
        scales: scales.clone(),
        bytes,
        added: if is_gptq { stored.quantization.gptq_added(bits) } else { 0 },
        kind: scales.kind,
    })
}

fn name(is_gptq: bool, bits: usize) -> &'static str {
    match (is_gptq, bits) {
        (true, 2) => "GPTQ (2 bit)",
        (true, 4) => "GPTQ (4 bit)",
        (true, _) => "GPTQ (8 bit)",
        (false, _) => "AWQ (4 bit)",
    }
}

/// Reads which group each input is of.
fn listed(
    stored: &Stored<'_>,
    name: &str,
    list: &TensorInfo,
    (inputs, count): (usize, usize),
) -> Result<Groups, Error> {
    if list.kind != WeightKind::I32 || list.shape != [inputs] {
        return Err(stored.misfit(name, list, &format!("I32 [{inputs}], the group of each input")));
    }
    let groups: Vec<u32> = words(&stored.read(list)?).collect();
    if let Some(group) = groups.iter().find(|group| **group as usize >= count) {
        return Err(stored.corrupt(format!("tensor `{name}` names group {group}, and there are {count}")));
    }
    let size = inputs.div_ceil(count);
    let is_even = groups.iter().enumerate().all(|(input, group)| input / size == *group as usize);
    Ok(if is_even { Groups::Even(size) } else { Groups::Listed(groups) })
}

/// Returns groups that follow each other.
fn even(
    stored: &Stored<'_>,
    name: &str,
    scales: &TensorInfo,
    (inputs, count): (usize, usize),
) -> Result<Groups, Error> {
    let size = inputs.div_ceil(count);
    if inputs.div_ceil(size) == count {
        return Ok(Groups::Even(size));
    }
    Err(stored.misfit(name, scales, &format!("as many groups as {inputs} inputs can be parted into")))
}
