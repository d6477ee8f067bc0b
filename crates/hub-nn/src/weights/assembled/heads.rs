//! Norms of single heads (StableLM 2 12B): `NAME.norms.0.weight`, `NAME.norms.1.weight`, …, one for each head, become
//! `NAME.weight`, one after another.

use std::ops::Range;

use super::{Assembly, Made, Stored, assembled};
use crate::weights::{Error, TensorInfo, Weights};

/// The most heads that are looked for; far above any real model.
const MAX_HEADS: usize = 4_096;

#[derive(Debug)]
struct Heads(Vec<TensorInfo>);

/// Makes one tensor of the norms of each module.
pub(super) fn find(stored: &Stored<'_>) -> Result<Made, Error> {
    let mut found = Made::default();
    for stem in stored.stems(".norms.0.weight") {
        let name = |head: usize| format!("{stem}.norms.{head}.weight");
        let parts: Vec<TensorInfo> =
            (0..MAX_HEADS).map_while(|head| stored.get(&name(head)).cloned()).collect();
        let Some(first) = parts.first() else { continue };
        let [width] = first.shape[..] else { continue };
        let fits = |part: &&TensorInfo| part.shape == first.shape && part.kind == first.kind;
        if let Some(odd) = parts.iter().position(|part| !fits(&part)) {
            return Err(stored.misfit(
                &name(odd),
                &parts[odd],
                &format!("{} [{width}], as the first", first.kind),
            ));
        }
        found.taken.extend((0..parts.len()).map(name));
        let (shape, kind) = (vec![parts.len().saturating_mul(width)], first.kind);
        let info = assembled(shape, kind, Heads(parts))
            .ok_or_else(|| stored.corrupt(format!("the norms `{stem}` have an impossible shape")))?;
        found.made.push((format!("{stem}.weight"), info));
    }
    Ok(found)
}

impl Assembly for Heads {
    fn format(&self) -> &'static str {
        self.0.first().map_or("", |first| first.kind.as_str())
    }

    fn stored_bytes(&self) -> u64 {
        self.0.iter().map(TensorInfo::bytes).sum()
    }

    fn rows(&self, weights: &Weights, rows: Range<usize>, out: &mut [u8]) -> Result<(), Error> {
        let Some(first) = self.0.first().filter(|first| !rows.is_empty() && first.len > 0) else {
            return Ok(());
        };
        let (size, width) = (first.kind.block_bytes(), first.len / first.kind.block_bytes());
        let (mut at, mut rest) = (rows.start, out);
        while at < rows.end {
            let end = rows.end.min((at / width + 1) * width);
            let (own, others) = rest.split_at_mut((end - at) * size);
            if let Some(part) = self.0.get(at / width) {
                weights.read_bytes(part, at % width * size, own)?;
            }
            (at, rest) = (end, others);
        }
        Ok(())
    }
}
