//! A file beside a model's own that holds its matrices as the executor for processors packs them, so that the next load
//! reads them instead of packing again.
//!
//! `HUBPACK1`, the layout and the length of a header as `u32`, the header as JSON, then the packed bytes. It says of
//! which files it was made, and holds a CRC-32 of each piece; once one of the files changes, or the bytes do, it is of no
//! use.

use std::{
    fmt,
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use hub_base::CancelToken;
use hub_kernels::{Cpu, Kind, Packed};
use serde::{Deserialize, Serialize};

use super::source::Source;
use crate::spec::TensorRef;

/// Where a model's packed weights are kept.
#[derive(Clone)]
pub struct PackedPlace {
    path: PathBuf,
    make_room: Arc<dyn Fn(u64) -> bool + Send + Sync>,
}

impl PackedPlace {
    /// A file that may be as long as it needs to be.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), make_room: Arc::new(|_| true) }
    }

    /// Asks `make_room` before so many bytes are written; nothing is if it returns false.
    #[must_use]
    pub fn make_room(mut self, make_room: impl Fn(u64) -> bool + Send + Sync + 'static) -> Self {
        self.make_room = Arc::new(make_room);
        self
    }

    /// Returns the file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl fmt::Debug for PackedPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PackedPlace").field("path", &self.path).finish_non_exhaustive()
    }
}

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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    path: String,
    bytes: u64,
    modified_ns: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Matrix {
    name: String,
    /// Which rows of the tensor, if not all.
    part: Option<[usize; 5]>,
    kind: String,
    rows: usize,
    cols: usize,
    /// From the beginning of packed bytes.
    offset: u64,
    bytes: u64,
    /// Of each piece of [`Packed::PIECE`] bytes.
    crc32: Vec<u32>,
}

impl Stamp {
    /// Looks at the files of a model; `None` if it has none, or one cannot be looked at.
    pub(crate) fn of_all<'a>(files: impl Iterator<Item = &'a str>) -> Option<Vec<Self>> {
        let stamp = |path: &str| {
            let metadata = fs::metadata(path).ok()?;
            let modified = metadata.modified().ok()?.duration_since(UNIX_EPOCH).unwrap_or_default();
            let modified_ns = u64::try_from(modified.as_nanos()).unwrap_or(u64::MAX);
            Some(Self { path: path.to_owned(), bytes: metadata.len(), modified_ns })
        };
        files.map(stamp).collect::<Option<Vec<_>>>().filter(|stamps| !stamps.is_empty())
    }
}

impl PackedFile {
    /// Opens a packed file; `None` if there is none, or it is not of these files, or its header is damaged or it is cut
    /// short, which the log says.
    pub(crate) fn open(path: &Path, files: &[Stamp]) -> Option<Self> {
        // A pipe would be waited for.
        if !fs::metadata(path).ok()?.is_file() {
            tracing::warn!(path = %path.display(), "packed weights are not kept: this is no file");
            return None;
        }
        let opened = Self::read_header(path);
        if opened.is_none() {
            tracing::warn!(path = %path.display(), "packed weights are damaged or of another version, and packed again");
        }
        let (source, header, data) = opened?;
        (header.files == files).then_some(Self { source, matrices: header.matrices, data })
    }

    fn read_header(path: &Path) -> Option<(Source, Header, u64)> {
        let source = Source::open(path).ok()?;
        let start = source.read(0, START).ok()?;
        let (magic, numbers) = start.split_first_chunk()?;
        let (layout, length) = numbers.split_first_chunk()?;
        let length = u32::from_le_bytes(*length.first_chunk()?) as usize;
        if magic != MAGIC || u32::from_le_bytes(*layout) != Packed::LAYOUT || length > MAX_HEADER {
            return None;
        }
        let header: Header = serde_json::from_slice(&source.read(START as u64, length).ok()?).ok()?;
        let data = (START + length) as u64;
        let end = |matrix: &Matrix| data.checked_add(matrix.offset)?.checked_add(matrix.bytes);
        let is_whole =
            header.matrices.iter().all(|matrix| end(matrix).is_some_and(|end| end <= source.len()));
        is_whole.then_some((source, header, data))
    }

    /// Reads a matrix on all threads of `cpu`; `None` if it is not among these.
    ///
    /// # Errors
    /// Those of the read and of `check`, [`Error::Corrupt`](super::Error::Corrupt) if the bytes are not those that were
    /// written.
    pub(crate) fn read(
        &self,
        tensor: &TensorRef,
        kind: Kind,
        (rows, cols): (usize, usize),
        cpu: &Cpu,
        check: impl Fn() -> Result<(), crate::Error> + Sync,
    ) -> Result<Option<Packed>, crate::Error> {
        let Some(bytes) = Packed::bytes_of(kind, rows, cols) else { return Ok(None) };
        let (part, kind_name) = (part(tensor), format!("{kind:?}"));
        let is_it = |matrix: &&Matrix| {
            (&matrix.name, matrix.part, &matrix.kind) == (&tensor.name, part, &kind_name)
                && (matrix.rows, matrix.cols, matrix.bytes) == (rows, cols, bytes as u64)
        };
        let Some(matrix) = self.matrices.iter().find(is_it) else { return Ok(None) };
        let start = self.data + matrix.offset;
        let read = |piece: usize, out: &mut [u8]| {
            check()?;
            self.source.read_into(start + (piece * Packed::PIECE) as u64, out)?;
            if matrix.crc32.get(piece) != Some(&crc32fast::hash(out)) {
                return Err(self.source.corrupt("its packed bytes are not those that were written").into());
            }
            Ok(())
        };
        Packed::read_with(kind, rows, cols, cpu, read).map(Some)
    }

    /// Writes one, under another name until it is whole; false if its place has no room. Matrices lie in the order they
    /// are given in.
    ///
    /// What a killed process leaves unfinished is told from what is being written by its lock.
    ///
    /// # Errors
    /// The system's; [`io::ErrorKind::Interrupted`] once `cancel` is set. Nothing is left behind then.
    pub(crate) fn write(
        place: &PackedPlace,
        files: Vec<Stamp>,
        matrices: &[(&TensorRef, &Packed)],
        cancel: &CancelToken,
        report: impl FnMut(usize),
    ) -> io::Result<bool> {
        let path = place.path();
        let header = Header::of(files, matrices)?;
        let packed: usize = matrices.iter().map(|(_, packed)| packed.bytes()).sum();
        if !(place.make_room)((START + header.len() + packed) as u64) {
            return Ok(false);
        }
        // Models of the same files may be loaded at once, by this process or another.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let unfinished = path.with_extension(format!("part-{}-{now}", std::process::id()));
        let out = File::create_new(&unfinished)?;
        // Where there are no locks, it is told by its age.
        drop(out.try_lock());
        let written = Self::write_to(&out, &header, matrices, cancel, report);
        written
            .and_then(|()| fs::rename(&unfinished, path))
            .map(|()| true)
            .inspect_err(|_| drop(fs::remove_file(&unfinished)))
    }

    fn write_to(
        out: &File,
        header: &[u8],
        matrices: &[(&TensorRef, &Packed)],
        cancel: &CancelToken,
        mut report: impl FnMut(usize),
    ) -> io::Result<()> {
        let length = u32::try_from(header.len()).map_err(io::Error::other)?;
        let mut out = BufWriter::new(out);
        out.write_all(MAGIC)?;
        out.write_all(&Packed::LAYOUT.to_le_bytes())?;
        out.write_all(&length.to_le_bytes())?;
        out.write_all(header)?;
        for piece in matrices.iter().flat_map(|(_, packed)| packed.as_bytes().chunks(Packed::PIECE)) {
            if cancel.is_cancelled() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            out.write_all(piece)?;
            report(piece.len());
        }
        out.into_inner()?.sync_all()
    }
}

impl Header {
    /// Describes matrices that lie in this order, as it is written.
    fn of(files: Vec<Stamp>, matrices: &[(&TensorRef, &Packed)]) -> io::Result<Vec<u8>> {
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
                crc32: packed.as_bytes().chunks(Packed::PIECE).map(crc32fast::hash).collect(),
            }
        };
        let header = Self { files, matrices: matrices.iter().map(entry).collect() };
        Ok(serde_json::to_vec(&header)?)
    }
}

fn part(tensor: &TensorRef) -> Option<[usize; 5]> {
    tensor.rows.map(|rows| [tensor.axis as usize, rows.start, rows.len, rows.step, rows.count])
}
