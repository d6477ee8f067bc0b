use hub_nn::{
    executor::ExecutorOptions,
    weights::{Content, Format, Mix, Quantization},
};

use crate::{Error, ModelInfo, Source, bundle::Bundle, convert};

/// A model whose weights can be written as a GGUF file of another kind.
///
/// ```
/// use hub_base::Account;
/// use hub_models::{Quantizable, Source};
/// use hub_nn::{Device, weights::{Again, Mix, QuantizeOptions}};
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("guide-Q4_K_M.gguf");
/// let model = Quantizable::open(&Source::Guide)?;
/// let mut options = QuantizeOptions::default();
/// options.again = Again::Round; // The guide has been rounded to Q8_0.
/// model.to(Mix::Q4KM).write(&path, &Device::cpu(Account::unlimited()), &options)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Quantizable {
    bundle: Bundle,
    content: Content,
}

impl Quantizable {
    /// Opens a GGUF file, or a Hugging Face folder of a family that is written as GGUF. Reads no weights.
    ///
    /// # Errors
    /// Where the files are missing, damaged or of an unknown kind; [`Error::NoConversion`] for a folder of a family that
    /// is only read.
    pub fn open(source: &Source) -> Result<Self, Error> {
        let bundle = Bundle::open(source)?;
        let content = match bundle.weights.format() {
            Format::Gguf => Content::of_gguf(&bundle.weights),
            Format::Safetensors => convert::content_of(&bundle)?,
        };
        Ok(Self { bundle, content })
    }

    /// Plans the file in the kinds of a mix.
    pub fn to(&self, mix: Mix) -> Quantization<'_> {
        Quantization::new(&self.bundle.weights, self.content.clone(), mix)
    }

    /// Returns how many bytes its tensors take as they lie there.
    pub fn source_bytes(&self) -> u64 {
        self.bundle.weights.total_bytes()
    }

    /// Says what the model is as it lies there.
    pub fn info(&self, executor: ExecutorOptions) -> ModelInfo {
        self.bundle.info(executor)
    }
}

impl std::fmt::Debug for Quantizable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Quantizable").field("family", &self.bundle.spec.family).finish_non_exhaustive()
    }
}
