//! Models written as GGUF files of smaller kinds, a piece of a tensor at a time.
//!
//! ```
//! use hub_nn::{
//!     Device,
//!     weights::{Mix, Quantization, QuantizeOptions, Weights},
//! };
//! # use hub_nn::weights::{Metadata, RawTensor, write_gguf};
//! # let folder = tempfile::tempdir()?;
//! # let from = folder.path().join("model.gguf");
//! # let matrix = RawTensor::from_f32(vec![2, 256], &[0.5; 512])?;
//! # let metadata = Metadata::from_iter([("general.architecture", "llama")]);
//! # write_gguf(std::fs::File::create(&from)?, &metadata, &[("blk.0.ffn_up.weight".to_owned(), matrix)])?;
//! # let to = folder.path().join("model-Q4_K_M.gguf");
//! let weights = Weights::open(&from)?;
//! let quantization = Quantization::of_gguf(&weights, Mix::Q4KM);
//! println!("will take {} bytes", quantization.bytes());
//! quantization.write(&to, &Device::cpu(hub_base::Account::unlimited()), &QuantizeOptions::default())?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod content;
mod mix;
mod recipe;
mod unfinished;

use std::{
    io::{BufWriter, Write},
    path::Path,
};

use hub_base::{CancelToken, Progress, ProgressSink};
use hub_kernels::Cpu;

pub use content::{Change, Content, ContentTensor, MadeOf, RowOrder};
pub use mix::{Mix, file_type_name};
pub use recipe::Why;
pub(crate) use recipe::targets;
use unfinished::Unfinished;
pub use unfinished::delete_abandoned;

use super::{Error, GgufWriter, Metadata, WeightKind, Weights};
use crate::Device;

/// How many numbers are in memory at a time, unless a single row has more.
const PIECE: usize = 1 << 22;
/// The version of the kinds of blocks, as llama.cpp counts them (`GGML_QNT_VERSION`).
const VERSION: u32 = 2;

/// How a file is written.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct QuantizeOptions {
    /// What happens to weights that are quantized already.
    pub again: Again,
    /// What happens to a file that is there already.
    pub existing: Existing,
    /// Where progress is sent, in bytes read.
    pub progress: ProgressSink,
    /// Stops the work within a piece. Nothing is left behind.
    pub cancel: CancelToken,
}

/// What happens to weights that are quantized already, other than those that keep their kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Again {
    /// They are refused.
    #[default]
    Refuse,
    /// They are rounded a second time, on what the first has left of them.
    Round,
}

/// What happens to a file that is there already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and nothing is written.
    #[default]
    Keep,
    /// It is replaced at once when the new one is whole.
    Replace,
}

/// A model and the kinds that its tensors are to have.
#[derive(Debug)]
pub struct Quantization<'a> {
    weights: &'a Weights,
    content: Content,
    tensors: Vec<Target>,
}

/// What becomes of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Target {
    /// Its name in the file.
    pub name: String,
    /// The kind it has now.
    pub from: WeightKind,
    /// The kind it gets.
    pub to: WeightKind,
    /// Why this one.
    pub why: Why,
}

impl<'a> Quantization<'a> {
    /// Plans the same model as a GGUF file has, in the kinds of a mix.
    pub fn of_gguf(weights: &'a Weights, mix: Mix) -> Self {
        Self::new(weights, Content::of_gguf(weights), mix)
    }

    /// Plans a file of `content`, whose tensors are made of those of `weights`.
    pub fn new(weights: &'a Weights, mut content: Content, mix: Mix) -> Self {
        let tensors = recipe::targets(mix, &content, weights);
        describe(&mut content.metadata, mix);
        Self { weights, content, tensors }
    }

    /// Returns what becomes of each tensor, in the order of the file.
    pub fn tensors(&self) -> &[Target] {
        &self.tensors
    }

    /// Returns what the file will not say of the model it is made of.
    pub fn notes(&self) -> &[String] {
        &self.content.notes
    }

    /// Returns how many bytes the tensors will take.
    pub fn bytes(&self) -> u64 {
        let all = self.content.tensors.iter().zip(&self.tensors);
        all.map(|(tensor, target)| target.to.bytes_of(&tensor.shape).unwrap_or(0) as u64).sum()
    }

    /// Writes the file: beside its place until it is whole, so that nobody meets half of one.
    ///
    /// What a killed process left unfinished is deleted by the next one that writes there. The same input gives the same
    /// bytes on any machine. Memory is taken for a few million numbers, or for one row where that has more.
    ///
    /// # Errors
    /// [`Error::Exists`] or [`Error::OwnSource`] for a place that is not to be written to, [`Error::Quantized`] for
    /// weights that are to be rounded a second time without [`Again::Round`], [`Error::Unwritable`] naming a tensor that
    /// cannot be rounded, [`Error::Save`] if the disk refuses, [`Error::Cancelled`], and those of reading and of
    /// [`Device::cpu_team`].
    pub fn write(&self, path: &Path, device: &Device, options: &QuantizeOptions) -> Result<(), crate::Error> {
        if options.again == Again::Refuse {
            self.check_once()?;
        }
        let cpu = device.cpu_team()?;
        let unfinished = Unfinished::create(path, options.existing, self.weights)?;
        let out = BufWriter::with_capacity(1 << 20, unfinished.file());
        let written = self.write_to(out, &cpu, options);
        written.map_err(|error| match error {
            Error::Write { source } => Error::Save { path: path.to_owned(), source },
            error => error,
        })?;
        Ok(unfinished.finish()?)
    }

    /// Refuses weights that have been rounded before and would be again.
    fn check_once(&self) -> Result<(), Error> {
        let is_again = |target: &&Target| target.from.is_quantized() && target.from != target.to;
        match self.tensors.iter().find(is_again) {
            Some(target) => Err(Error::Quantized { name: target.name.clone(), kind: target.from.as_str() }),
            None => Ok(()),
        }
    }

    fn write_to(&self, out: impl Write, cpu: &Cpu, options: &QuantizeOptions) -> Result<(), Error> {
        let Content { metadata, tensors, .. } = &self.content;
        let plan = tensors.iter().zip(&self.tensors);
        let heads =
            plan.clone().map(|(tensor, target)| (target.name.clone(), tensor.shape.clone(), target.to));
        let mut writer = GgufWriter::new(out, metadata, heads)?;
        let mut total = 0;
        for tensor in tensors {
            let layout = tensor.layout(self.weights)?;
            total += tensor.bytes_read(self.weights, layout) * layout.rows as u64;
        }
        let mut done = 0;
        for (tensor, target) in plan {
            let layout = tensor.layout(self.weights)?;
            let rows_bytes = tensor.bytes_read(self.weights, layout);
            for rows in layout.pieces(PIECE) {
                if options.cancel.is_cancelled() {
                    return Err(Error::Cancelled);
                }
                let read = rows_bytes * rows.len() as u64;
                writer.piece(&tensor.piece(self.weights, rows, target, cpu)?)?;
                done += read;
                options.progress.report(Progress { stage: "quantizing", done, total });
            }
        }
        writer.finish().map(drop)
    }
}

/// Says what the file is, as llama.cpp's quantizer says it.
fn describe(metadata: &mut Metadata, mix: Mix) {
    metadata.insert("general.quantization_version", VERSION);
    metadata.insert("general.file_type", mix.file_type());
    for key in ["split.no", "split.count", "split.tensors.count"] {
        metadata.remove(key);
    }
}
