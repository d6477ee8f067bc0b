use super::{Error, TensorInfo, source::Source};

/// Refuses tensors of one file that share bytes: one of them would hold another's numbers.
pub(super) fn check_apart<'a>(
    tensors: impl Iterator<Item = (&'a str, &'a TensorInfo)>,
    source: &Source,
) -> Result<(), Error> {
    let mut by_place: Vec<(&str, &TensorInfo)> = tensors.filter(|(_, info)| info.len > 0).collect();
    by_place.sort_by_key(|(_, info)| info.offset);
    for pair in by_place.windows(2) {
        if let [(first, before), (second, after)] = pair
            && before.offset + before.len as u64 > after.offset
        {
            return Err(source.corrupt(format!("tensors `{first}` and `{second}` share bytes")));
        }
    }
    Ok(())
}
