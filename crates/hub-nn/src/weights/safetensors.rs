//! The file format of Hugging Face: the length of a JSON header, the header, the tensors.
//!
//! Source: <https://huggingface.co/docs/safetensors/index#format>.

use std::{collections::BTreeMap, fmt};

use indexmap::IndexMap;
use serde::{
    Deserialize,
    de::{Error as _, MapAccess, Visitor},
};

use super::{Error, TensorInfo, WeightKind, apart::check_apart, source::Source};

/// The length that the reference implementation allows a header.
const MAX_HEADER: u64 = 100_000_000;

/// Reads the header of a safetensors file. `index` is the place of `source` among the sources of the model.
pub(super) fn read_head(source: &Source, index: usize) -> Result<IndexMap<String, TensorInfo>, Error> {
    let mut len = [0; 8];
    len.copy_from_slice(&source.read(0, 8)?);
    let len = u64::from_le_bytes(len);
    let room = source.len() - 8;
    if len > room.min(MAX_HEADER) {
        let reason = format!("its header should take {len} bytes, and {room} bytes follow");
        return Err(source.corrupt(reason));
    }
    let json = source.read(8, len as usize)?;
    let Header(entries) = serde_json::from_slice(&json)
        .map_err(|error| source.corrupt(format!("its header cannot be understood: {error}")))?;
    let data = Data { source, index, start: 8 + len, len: room - len };
    let located = entries.into_iter().map(|(name, entry)| data.locate(&name, entry).map(|info| (name, info)));
    let tensors: Vec<(String, TensorInfo)> = located.collect::<Result<_, _>>()?;
    check_apart(tensors.iter().map(|(name, info)| (name.as_str(), info)), source)?;
    Ok(tensors.into_iter().collect())
}

/// The part of a file that follows the header.
struct Data<'a> {
    source: &'a Source,
    index: usize,
    start: u64,
    len: u64,
}

impl Data<'_> {
    fn locate(&self, name: &str, entry: Entry) -> Result<TensorInfo, Error> {
        let Entry { dtype, shape, data_offsets: [begin, end] } = entry;
        let Some(kind) = WeightKind::from_safetensors(&dtype) else {
            return Err(Error::UnsupportedTensor {
                file: self.source.name().to_owned(),
                name: name.to_owned(),
                dtype,
            });
        };
        let len = kind.bytes_of(&shape);
        let len = len
            .ok_or_else(|| self.source.corrupt(format!("tensor `{name}` has impossible shape {shape:?}")))?;
        if end > self.len {
            let reason = format!("tensor `{name}` ends at {end} of {}; the file is cut short", self.len);
            return Err(self.source.corrupt(reason));
        }
        if end.checked_sub(begin) != Some(len as u64) {
            let reason =
                format!("tensor `{name}` takes {len} bytes and is said to lie from {begin} to {end}");
            return Err(self.source.corrupt(reason));
        }
        Ok(TensorInfo { shape, kind, source: self.index, offset: self.start + begin, len, assembly: None })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [u64; 2],
}

/// The tensors of a header by name. A map type of the standard library would let the last of two equal names win.
struct Header(IndexMap<String, Entry>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with an entry for each tensor")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut entries = IndexMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<BTreeMap<String, String>>()?;
                    } else if entries.contains_key(&name) {
                        return Err(A::Error::custom(format_args!("it holds two tensors `{name}`")));
                    } else {
                        entries.insert(name, map.next_value()?);
                    }
                }
                Ok(Header(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}
