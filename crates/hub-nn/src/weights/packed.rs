//! A file beside a model's own that holds its matrices as the executor for processors packs them, so that the next load
//! reads them instead of packing again.
//!
//! `HUBPACK1`, the layout and the length of a header as `u32`, the header as JSON, then the packed bytes. It says of
//! which files it was made; once one of those changes, it is of no use.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use hub_base::CancelToken;
use hub_kernels::{Kind, Packed};
use serde::{Deserialize, Serialize};

use super::source::Source;
use crate::spec::TensorRef;

const MAGIC: &[u8; 8] = b"HUBPACK1";
/// Before the header: the magic, the layout, the header's length.
const START: usize = 16;
/// No model has so many tensors that its header is longer.
const MAX_HEADER: usize = 64 << 20;

/// A packed file that fits the files of a model.
#[derive(Debug)]
pub(crate) struct PackedFile {
    source: Source,
    matrices: Vec<Matrix>,
    /// Where packed bytes begin.
    data: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    files: Vec<Stamp>,
    matrices: Vec<Matrix>,
}

/// What tells whether a file is still the same.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    path: String,
    bytes: u64,
    modified_ns: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Matrix {
    name: String,
    /// Which rows of the tensor, if not all.
    part: Option<(usize, usize)>,
    kind: String,
    rows: usize,
    cols: usize,
    /// From the beginning of packed bytes.
    offset: u64,
    bytes: u64,
}

impl PackedFile {
    /// Opens a packed file; `None` if there is none, or it is damaged, or not of `files` as they are now.
    pub(crate) fn open<'a>(path: &Path, files: impl Iterator<Item = &'a str>) -> Option<Self> {
        let source = Source::open(path).ok()?;
        let start = source.read(0, START).ok()?;
        let (magic, numbers) = start.split_first_chunk()?;
        let (layout, length) = numbers.split_first_chunk()?;
        let length = u32::from_le_bytes(*length.first_chunk()?) as usize;
        if magic != MAGIC || u32::from_le_bytes(*layout) != Packed::LAYOUT || length > MAX_HEADER {
            return None;
        }
        let header: Header = serde_json::from_slice(&source.read(START as u64, length).ok()?).ok()?;
        if header.files != stamps(files).ok()? {
            return None;
        }
        let data = (START + length) as u64;
        let end = |matrix: &Matrix| data.checked_add(matrix.offset)?.checked_add(matrix.bytes);
        let is_whole =
            header.matrices.iter().all(|matrix| end(matrix).is_some_and(|end| end <= source.len()));
        is_whole.then_some(Self { source, matrices: header.matrices, data })
    }

    /// Finds a matrix, and returns what reads its packed bytes from an offset on.
    pub(crate) fn find(
        &self,
        tensor: &TensorRef,
        kind: Kind,
        (rows, cols): (usize, usize),
    ) -> Option<impl Fn(usize, &mut [u8]) -> Result<(), super::Error> + Sync> {
        let bytes = Packed::bytes_of(kind, rows, cols)? as u64;
        let (part, kind) = (part(tensor), format!("{kind:?}"));
        let is_it = |matrix: &&Matrix| {
            (&matrix.name, matrix.part, &matrix.kind) == (&tensor.name, part, &kind)
                && (matrix.rows, matrix.cols, matrix.bytes) == (rows, cols, bytes)
        };
        let start = self.data + self.matrices.iter().find(is_it)?.offset;
        Some(move |offset: usize, out: &mut [u8]| self.source.read_into(start + offset as u64, out))
    }

    /// Writes one, under another name until it is whole.
    ///
    /// # Errors
    /// The system's; [`io::ErrorKind::Interrupted`] once `cancel` is set. Nothing is left behind then.
    pub(crate) fn write<'a>(
        path: &Path,
        files: impl Iterator<Item = &'a str>,
        matrices: &[(&TensorRef, &Packed)],
        cancel: &CancelToken,
        mut report: impl FnMut(usize),
    ) -> io::Result<()> {
        let mut offset = 0;
        let entry = |(tensor, packed): &(&TensorRef, &Packed)| {
            let bytes = packed.as_bytes().len() as u64;
            offset += bytes;
            Matrix {
                name: tensor.name.clone(),
                part: part(tensor),
                kind: format!("{:?}", packed.kind()),
                rows: packed.rows(),
                cols: packed.cols(),
                offset: offset - bytes,
                bytes,
            }
        };
        let header = Header { files: stamps(files)?, matrices: matrices.iter().map(entry).collect() };
        let header = serde_json::to_vec(&header)?;
        let length = u32::try_from(header.len()).map_err(io::Error::other)?;
        // Models of the same files may be loaded at once, by this process or another.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let unfinished = path.with_extension(format!("part-{}-{now}", std::process::id()));
        let mut write = || {
            let mut out = BufWriter::new(File::create_new(&unfinished)?);
            out.write_all(MAGIC)?;
            out.write_all(&Packed::LAYOUT.to_le_bytes())?;
            out.write_all(&length.to_le_bytes())?;
            out.write_all(&header)?;
            for piece in matrices.iter().flat_map(|(_, packed)| packed.as_bytes().chunks(4 << 20)) {
                if cancel.is_cancelled() {
                    return Err(io::ErrorKind::Interrupted.into());
                }
                out.write_all(piece)?;
                report(piece.len());
            }
            out.into_inner()?.sync_all()?;
            fs::rename(&unfinished, path)
        };
        let written = write();
        match &written {
            // Another's.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(_) => drop(fs::remove_file(&unfinished)),
            Ok(()) => {}
        }
        written
    }
}

fn part(tensor: &TensorRef) -> Option<(usize, usize)> {
    tensor.rows.as_ref().map(|rows| (rows.start, rows.end))
}

fn stamps<'a>(files: impl Iterator<Item = &'a str>) -> io::Result<Vec<Stamp>> {
    let stamp = |path: &str| {
        let metadata = fs::metadata(path)?;
        let modified = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        let modified_ns = u64::try_from(modified.as_nanos()).unwrap_or(u64::MAX);
        Ok(Stamp { path: path.to_owned(), bytes: metadata.len(), modified_ns })
    };
    files.map(stamp).collect()
}
