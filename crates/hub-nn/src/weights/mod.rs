//! Tensors by name, from safetensors and GGUF files.
//!
//! Opening reads the heads of the files and checks every number in them against their lengths; the tensors stay where
//! they are until [`Weights::read`] copies one of them into memory. Nothing is mapped: a file that shrinks under a
//! running model is an error of that read, not a fault of the process.

mod apart;
mod assembled;
mod error;
mod folder;
mod gguf;
mod kind;
mod metadata;
mod packed;
mod part;
mod quantization_config;
mod quantize;
mod safetensors;
mod source;
mod tensor;
mod torch;

use std::{borrow::Cow, ops::Range, path::Path, sync::Arc};

pub use error::Error;
pub use gguf::{GgufWriter, write_gguf};
use indexmap::{IndexMap, map::Entry};
pub use kind::WeightKind;
pub use metadata::{Array, Metadata, Value};
pub use packed::PackedPlace;
pub(crate) use packed::{PackedFile, Stamp};
pub(crate) use quantize::targets;
pub use quantize::{
    Again, Change, Content, ContentTensor, Existing, MadeOf, Mix, Quantization, QuantizeOptions, RowOrder,
    Target, Why, delete_abandoned, file_type_name,
};
pub use tensor::{RawTensor, TensorInfo};

use self::{
    folder::{Found, Shards},
    quantization_config::QuantizationConfig,
    source::Source,
};

/// The tensors of a model by name. Clones share the open files; several threads may read at once.
#[derive(Clone, Debug)]
pub struct Weights {
    opened: Arc<Opened>,
    /// Where [`CpuExecutor`](crate::executor::CpuExecutor) keeps what it packed.
    packed: Option<PackedPlace>,
}

/// What kind of files weights come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// One or several safetensors files.
    Safetensors,
    /// One GGUF file, or the parts of one.
    Gguf,
}

#[derive(Debug)]
struct Opened {
    format: Format,
    /// What errors call the whole: a file or a folder.
    name: String,
    sources: Vec<Arc<Source>>,
    tensors: IndexMap<String, TensorInfo>,
    metadata: Metadata,
    /// The configuration that says how tensors are quantized, if it does.
    settings: Option<String>,
}

impl From<Opened> for Weights {
    fn from(opened: Opened) -> Self {
        Self { opened: Arc::new(opened), packed: None }
    }
}

impl Weights {
    /// Opens a `.safetensors` file, a `.gguf` file, or a folder that holds one of `model.safetensors`,
    /// `model.safetensors.index.json` with its shards, and a single `.gguf` file or the parts of one. Of a file in parts any
    /// part may be named; the others lie beside it.
    ///
    /// What a file is, is read from its first bytes; its name does not matter.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Empty`] or [`Error::Ambiguous`] if there is no one model at `path`;
    /// [`Error::Pickle`], [`Error::UnknownFormat`], [`Error::Unsupported`] or [`Error::UnsupportedTensor`] if it is
    /// stored in a way that is not read; [`Error::Corrupt`] if the files contradict themselves; [`Error::Read`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        if !path.is_dir() {
            return Self::open_file(path, None);
        }
        match folder::look(path)? {
            Found::Safetensors(file) | Found::Gguf(file) => Self::open_file(&file, Some(path)),
            Found::Sharded(shards) => Self::open_shards(path, &shards),
        }
    }

    /// Reads a GGUF file that is in memory, as the built-in model is.
    ///
    /// # Errors
    /// As [`Weights::open`].
    pub fn from_gguf_bytes(bytes: impl Into<Cow<'static, [u8]>>) -> Result<Self, Error> {
        let source = Source::memory("the GGUF file in memory", bytes.into());
        let head = gguf::read_head(&source, 0)?;
        if gguf::Split::of(&source, &head.metadata)?.is_some() {
            return Err(source.corrupt("the other parts of its model are not with it"));
        }
        Ok(Self::from_gguf(vec![source], head))
    }

    /// Adds the tensors of another safetensors file, each under a name that begins with `prefix`: sentence-transformers keeps
    /// the parts behind a model in files of their own.
    ///
    /// # Errors
    /// As [`Weights::open`]; [`Error::Corrupt`] if there is a tensor of such a name already.
    pub fn with_file(&self, prefix: &str, path: &Path) -> Result<Self, Error> {
        let Opened { format, name, sources, tensors, metadata, settings } = &*self.opened;
        let source = Source::open(path)?;
        let added = safetensors::read_head(&source, sources.len())?;
        let added = added.into_iter().map(|(name, info)| (format!("{prefix}{name}"), info)).collect();
        let mut tensors = tensors.clone();
        add_shard(&mut tensors, added, &source)?;
        let sources = sources.iter().cloned().chain([Arc::new(source)]).collect();
        let (name, metadata, settings) = (name.clone(), metadata.clone(), settings.clone());
        let opened = Opened { format: *format, name, sources, tensors, metadata, settings };
        Ok(Self { packed: self.packed.clone(), ..Self::from(opened) })
    }

    /// Adds the tensors of a file that `torch.save` wrote of a dictionary of tensors, each under a name that begins with
    /// `prefix`: bge-m3 keeps two matrices so. No code of the file is run.
    ///
    /// # Errors
    /// [`Error::Read`]; [`Error::Corrupt`] for a file that holds something else, or a tensor of such a name already.
    pub fn with_torch_file(&self, prefix: &str, path: &Path) -> Result<Self, Error> {
        let Opened { format, name, sources, tensors, metadata, settings } = &*self.opened;
        let (mut bytes, mut added) = (Vec::new(), IndexMap::new());
        for (name, raw) in torch::read(path)? {
            let RawTensor { shape, kind, bytes: own } = raw;
            let (offset, len) = (bytes.len() as u64, own.len());
            let info = TensorInfo { shape, kind, source: sources.len(), offset, len, assembly: None };
            added.insert(format!("{prefix}{name}"), info);
            bytes.extend(own);
        }
        let source = Source::memory(&path.display().to_string(), bytes.into());
        let mut tensors = tensors.clone();
        add_shard(&mut tensors, added, &source)?;
        let sources = sources.iter().cloned().chain([Arc::new(source)]).collect();
        let (name, metadata, settings) = (name.clone(), metadata.clone(), settings.clone());
        let opened = Opened { format: *format, name, sources, tensors, metadata, settings };
        Ok(Self { packed: self.packed.clone(), ..Self::from(opened) })
    }

    /// Keeps what [`CpuExecutor`](crate::executor::CpuExecutor) packs in a file: a load writes it if it is not
    /// there or not of these files, and the next one reads it instead of packing again. Nothing is kept of bytes in
    /// memory.
    #[must_use]
    pub fn packed_at(mut self, place: PackedPlace) -> Self {
        self.packed = Some(place);
        self
    }

    /// Returns where packed matrices are kept, if they are.
    pub(crate) fn packed_place(&self) -> Option<&PackedPlace> {
        self.packed.as_ref()
    }

    /// Returns what kind of files the weights come from.
    pub fn format(&self) -> Format {
        self.opened.format
    }

    /// Iterates over the paths of the files; bytes in memory are none.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.opened.sources.iter().filter(|source| source.is_file()).map(|source| source.name())
    }

    /// Iterates over the paths of all files that say what the tensors are.
    pub(crate) fn meaning_files(&self) -> impl Iterator<Item = &str> {
        self.files().chain(self.opened.settings.as_deref())
    }

    /// Iterates over the names of the tensors, in the order of the files.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.opened.tensors.keys().map(String::as_str)
    }

    /// Iterates over the names and shapes of the tensors, in the order of the files.
    pub fn shapes(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.opened.tensors.iter().map(|(name, info)| (name.as_str(), info.shape.as_slice()))
    }

    /// Returns what is known about a tensor without reading it.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.opened.tensors.get(name)
    }

    /// Reads a tensor.
    ///
    /// # Errors
    /// [`Error::Missing`] if there is no such tensor, [`Error::Read`] if its file cannot be read any more.
    pub fn read(&self, name: &str) -> Result<RawTensor, Error> {
        let info = self.find(name)?;
        let shape = info.shape.clone();
        if info.assembly.is_some() {
            let rows = self.read_rows(name, 0..info.rows())?;
            return Ok(RawTensor { shape, ..rows });
        }
        let bytes = self.source(info)?.read(info.offset, info.len)?;
        Ok(RawTensor { shape, kind: info.kind, bytes })
    }

    /// Reads some rows of a tensor, rows being steps along its first axis, and nothing else of it.
    ///
    /// # Errors
    /// [`Error::Rows`] if the tensor does not have them; otherwise as [`Weights::read`].
    pub fn read_rows(&self, name: &str, rows: Range<usize>) -> Result<RawTensor, Error> {
        let info = self.find(name)?;
        let refuse = || Error::Rows { name: name.to_owned(), rows: info.rows(), asked: rows.clone() };
        if rows.start > rows.end || rows.end > info.rows() {
            return Err(refuse());
        }
        let shape = match info.shape.as_slice() {
            // Steps along the only axis of a quantized vector would cut through its blocks.
            [_] if info.kind.is_quantized() => return Err(refuse()),
            [] if rows.len() == 1 => Vec::new(),
            [] => return Err(refuse()),
            [_] => vec![rows.len()],
            [.., width] => vec![rows.len(), *width],
        };
        // The parser has checked that all rows together take `len` bytes; a tensor without rows was refused above.
        let row = info.len / info.rows().max(1);
        if let Some(assembly) = &info.assembly {
            let mut bytes = vec![0; rows.len() * row];
            assembly.rows(self, rows, &mut bytes)?;
            return Ok(RawTensor { shape, kind: info.kind, bytes });
        }
        let bytes = self.source(info)?.read(info.offset + (rows.start * row) as u64, rows.len() * row)?;
        Ok(RawTensor { shape, kind: info.kind, bytes })
    }

    /// Fills `out` with the bytes of some rows of a tensor, as [`Weights::read_rows`] returns them.
    ///
    /// # Errors
    /// [`Error::Rows`] if the tensor does not have them, or they are not as many bytes; otherwise as [`Weights::read`].
    pub fn read_rows_into(&self, name: &str, rows: Range<usize>, out: &mut [u8]) -> Result<(), Error> {
        let info = self.find(name)?;
        let row = info.len / info.rows().max(1);
        if rows.start > rows.end || rows.end > info.rows() || out.len() != rows.len() * row {
            return Err(Error::Rows { name: name.to_owned(), rows: info.rows(), asked: rows });
        }
        match &info.assembly {
            Some(assembly) => assembly.rows(self, rows, out),
            None => self.read_bytes(info, rows.start * row, out),
        }
    }

    /// Fills `out` with the bytes of a tensor from `start` on.
    fn read_bytes(&self, info: &TensorInfo, start: usize, out: &mut [u8]) -> Result<(), Error> {
        self.source(info)?.read_into(info.offset + start as u64, out)
    }

    /// Returns the key and value pairs of a GGUF file; safetensors files have none.
    pub fn metadata(&self) -> &Metadata {
        &self.opened.metadata
    }

    /// Returns how many bytes all tensors take together as they are read.
    pub fn total_bytes(&self) -> u64 {
        self.opened.tensors.values().map(TensorInfo::bytes).fold(0, u64::saturating_add)
    }

    /// Returns how many bytes all tensors take together in the files.
    pub fn stored_bytes(&self) -> u64 {
        self.opened.tensors.values().map(TensorInfo::stored_bytes).fold(0, u64::saturating_add)
    }

    /// Opens a file, which is the model of `folder` if there is one.
    fn open_file(path: &Path, folder: Option<&Path>) -> Result<Self, Error> {
        let source = Source::open(path)?;
        let start = source.read(0, source.len().min(9) as usize)?;
        if start.starts_with(gguf::MAGIC) {
            return Self::open_gguf(path, source);
        }
        // A safetensors file starts with the length of its header, and the header with a brace.
        if start.get(8) == Some(&b'{') {
            let name = source.name().to_owned();
            let tensors = safetensors::read_head(&source, 0)?;
            return Self::from_safetensors(name, folder, vec![source], tensors);
        }
        match path.file_name().and_then(|name| name.to_str()) {
            Some(name) if folder::is_pickle(name) => Err(Error::Pickle { path: path.to_owned() }),
            _ => Err(Error::UnknownFormat { file: source.name().to_owned() }),
        }
    }

    fn open_shards(folder: &Path, shards: &Shards) -> Result<Self, Error> {
        let corrupt = |reason| Error::Corrupt { file: shards.index.display().to_string(), reason };
        let mut sources = Vec::new();
        let mut tensors: IndexMap<String, TensorInfo> = IndexMap::new();
        for file in shards.names() {
            let source = Source::open(&folder.join(file)).map_err(|error| match error {
                Error::NotFound { .. } => {
                    corrupt(format!("it names {file}, which is not there; download it again"))
                }
                error => error,
            })?;
            add_shard(&mut tensors, safetensors::read_head(&source, sources.len())?, &source)?;
            sources.push(source);
        }
        if let Some((name, file)) = shards.files.iter().find(|(name, _)| !tensors.contains_key(*name)) {
            return Err(corrupt(format!("it says that {file} holds tensor `{name}`, which it does not")));
        }
        Self::from_safetensors(folder.display().to_string(), Some(folder), sources, tensors)
    }

    fn from_safetensors(
        name: String,
        folder: Option<&Path>,
        sources: Vec<Source>,
        mut tensors: IndexMap<String, TensorInfo>,
    ) -> Result<Self, Error> {
        let quantization = folder.map(QuantizationConfig::of_folder).transpose()?.unwrap_or_default();
        assembled::assemble(&name, &sources, &quantization, &mut tensors)?;
        let (format, sources) = (Format::Safetensors, sources.into_iter().map(Arc::new).collect());
        let (metadata, settings) = (Metadata::default(), quantization.file);
        Ok(Self::from(Opened { format, name, sources, tensors, metadata, settings }))
    }

    /// Opens a GGUF file, with the other parts of its model if it is one of several.
    fn open_gguf(path: &Path, source: Source) -> Result<Self, Error> {
        let head = gguf::read_head(&source, 0)?;
        let Some(split) = gguf::Split::of(&source, &head.metadata)? else {
            return Ok(Self::from_gguf(vec![source], head));
        };
        let mut whole = gguf::Head { metadata: Metadata::default(), tensors: IndexMap::new() };
        let mut sources: Vec<Source> = Vec::new();
        for (number, path) in split.paths(path)?.enumerate() {
            let part = Source::open(&path).map_err(|error| match error {
                Error::NotFound { path } => source.corrupt(format!(
                    "another part of its model, {}, is not there; download it again",
                    path.display()
                )),
                error => error,
            })?;
            let head = gguf::read_head(&part, number)?;
            split.check_part(&part, &head.metadata, number)?;
            add_shard(&mut whole.tensors, head.tensors, &part)?;
            // The first part says what the model is; the others repeat little of it.
            if number == 0 {
                whole.metadata = head.metadata;
            }
            sources.push(part);
        }
        split.check_tensors(&source, whole.tensors.len())?;
        Ok(Self::from_gguf(sources, whole))
    }

    /// Makes weights of the files of a model, of which there is at least one.
    fn from_gguf(sources: Vec<Source>, head: gguf::Head) -> Self {
        let gguf::Head { metadata, tensors } = head;
        let name = sources.first().map(|source| source.name().to_owned()).unwrap_or_default();
        let sources = sources.into_iter().map(Arc::new).collect();
        Self::from(Opened { format: Format::Gguf, name, sources, tensors, metadata, settings: None })
    }

    fn find(&self, name: &str) -> Result<&TensorInfo, Error> {
        let missing = || Error::Missing { file: self.opened.name.clone(), name: name.to_owned() };
        self.info(name).ok_or_else(missing)
    }

    fn source(&self, info: &TensorInfo) -> Result<&Source, Error> {
        let missing = || Error::Missing { file: self.opened.name.clone(), name: format!("#{}", info.source) };
        self.opened.sources.get(info.source).map(|source| &**source).ok_or_else(missing)
    }
}

/// Adds the tensors of one of several files.
fn add_shard(
    tensors: &mut IndexMap<String, TensorInfo>,
    shard: IndexMap<String, TensorInfo>,
    source: &Source,
) -> Result<(), Error> {
    for (name, info) in shard {
        match tensors.entry(name) {
            Entry::Vacant(entry) => entry.insert(info),
            Entry::Occupied(entry) => {
                return Err(source.corrupt(format!("tensor `{}` is in another shard, too", entry.key())));
            }
        };
    }
    Ok(())
}
