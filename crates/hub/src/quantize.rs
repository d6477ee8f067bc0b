//! Models made smaller.

use std::{
    fs,
    path::{Path, PathBuf},
};

use hub_base::{CancelToken, ModelId, ProgressSink, Size};
use hub_models::{Quantizable, Source};
pub use hub_nn::weights::{Again, Existing, Mix};
use hub_nn::weights::{Error as WeightsError, Quantization, QuantizeOptions, Why, delete_abandoned};
use serde::Serialize;

use crate::{
    Error, Hub, Installed, Result,
    catalog::{Arrival, name_of},
    open::{CancelOnDrop, blocking},
    os,
};

/// A model to be written in another kind.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct QuantizeRequest {
    /// The name of a model that is installed, or the path of a GGUF file or a Hugging Face folder.
    pub source: String,
    /// The kinds its tensors get.
    pub mix: Mix,
    /// Where the file goes, which is then no model of the hub's; without, it goes into the hub's own directory and becomes
    /// one.
    pub output: Option<PathBuf>,
    /// What to call the model; after its source and the mix if `None`.
    pub name: Option<ModelId>,
    /// What happens to weights that are quantized already.
    pub again: Again,
    /// What happens to a file that is there already.
    pub existing: Existing,
    /// Where progress is sent.
    pub progress: ProgressSink,
    /// Stops the work. Nothing is left behind.
    pub cancel: CancelToken,
}

/// A file that was written.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Quantized {
    /// Where it is.
    pub path: PathBuf,
    /// The kinds its tensors have: `Q4_K_M`.
    pub mix: &'static str,
    /// Bytes of its tensors.
    pub bytes: u64,
    /// Bytes of the tensors it was made of.
    pub source_bytes: u64,
    /// The model that it is now, unless it was written elsewhere.
    pub model: Option<Installed>,
    /// What its owner should know of it.
    pub notes: Vec<String>,
}

/// What a model would take in each kind, and which one is best here.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct QuantizeChoices {
    /// Every kind, the nearest to the original first.
    pub choices: Vec<QuantizeChoice>,
    /// The kind that is best here; `None` if none fits.
    pub best: Option<&'static str>,
    /// Why that one, in words.
    pub reason: String,
    /// The memory that models may use.
    pub budget_bytes: u64,
    /// The length of the sequence that is to fit beside the weights, in tokens.
    pub context_tokens: usize,
}

/// What a model would take in one kind.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct QuantizeChoice {
    /// The kind.
    pub mix: &'static str,
    /// Bytes of the file's tensors.
    pub file_bytes: u64,
    /// Bytes of memory with one sequence.
    pub memory_bytes: u64,
    /// Whether the budget holds that.
    pub fits: bool,
    /// Whether weights that are quantized already would be rounded a second time.
    pub is_again: bool,
}

/// What a model takes as it is.
#[derive(Clone, Copy, Debug)]
struct Now {
    file_bytes: u64,
    memory_bytes: u64,
}

/// The length of the sequence that a kind should leave room for, in tokens.
const CONTEXT: usize = 8_192;
/// Where files go that the hub makes, inside its directory.
const FOLDER: &str = "quantized";

impl QuantizeRequest {
    /// Writes `source` in the kinds of `mix`, and makes a model of it.
    pub fn new(source: impl Into<String>, mix: Mix) -> Self {
        Self {
            source: source.into(),
            mix,
            output: None,
            name: None,
            again: Again::default(),
            existing: Existing::default(),
            progress: ProgressSink::default(),
            cancel: CancelToken::new(),
        }
    }
}

impl Hub {
    /// Writes a model as a GGUF file in other kinds: piece by piece, and under its name once it is whole.
    ///
    /// # Errors
    /// [`Error::NoSuchModel`] if nothing is called so, [`Error::NoRoom`] if the disk is too full, [`Error::Models`] for
    /// files that cannot be read or written or must not be, or if it was cancelled; [`Error::Store`] or
    /// [`Error::ReservedName`] for a name the model cannot have.
    pub async fn quantize(&self, request: QuantizeRequest) -> Result<Quantized> {
        let QuantizeRequest { source, mix, output, name, again, existing, progress, cancel } = request;
        let (files, called) = self.to_quantize(&source).await?;
        let came = format!("quantized from {source}");
        let (path, name) = match output {
            Some(path) => (path, None),
            None => {
                let name = match name {
                    Some(name) => name,
                    None => name_of(Path::new(&format!("{}-{mix}.gguf", without_kind(&called))))?,
                };
                (self.own_file(&name).await?, Some(name))
            }
        };
        let older = match &name {
            Some(name) => self.claim(name, &came).await?,
            None => None,
        };
        let guard = CancelOnDrop::of(cancel);
        let mut options = QuantizeOptions::default();
        (options.again, options.existing) = (again, existing);
        (options.progress, options.cancel) = (progress.clone(), guard.token());
        let (device, to) = (self.registry().device().clone(), path.clone());
        let mut quantized = blocking(move || {
            let model = Quantizable::open(&files).map_err(Error::from)?;
            let quantization = model.to(mix);
            check_room(&to, quantization.bytes())?;
            quantization.write(&to, &device, &options).map_err(failed)?;
            let source_bytes = model.source_bytes();
            Ok::<_, Error>(Quantized {
                path: to,
                mix: mix.as_str(),
                bytes: quantization.bytes(),
                source_bytes,
                model: None,
                notes: notes(&quantization),
            })
        })
        .await??;
        if let Some(name) = name {
            if let Some(older) = older {
                self.forget(&older).await?;
            }
            let arrival = Arrival { progress, cancel: guard.token(), ..Arrival::by(came) };
            quantized.model = Some(self.install(&path, name, arrival).await?);
        }
        Ok(quantized)
    }

    /// Says what a model would take in each kind, and which is the best that the budget holds with a sequence of 8,192
    /// tokens.
    ///
    /// # Errors
    /// As [`Hub::quantize`], of the source.
    pub async fn quantize_choices(&self, source: &str) -> Result<QuantizeChoices> {
        let (files, _) = self.to_quantize(source).await?;
        let executor = self.config().compute.executor_options().for_device(self.registry().device());
        let budget = self.account().limit_bytes();
        blocking(move || {
            let model = Quantizable::open(&files)?;
            let info = model.info(executor);
            let context = info.context_tokens.min(CONTEXT);
            let choices = Mix::ALL.map(|mix| {
                let quantization = model.to(mix);
                let file_bytes = quantization.bytes();
                let memory_bytes = info.memory_bytes_with(file_bytes, context);
                let fits = memory_bytes <= budget;
                let is_again = quantization
                    .tensors()
                    .iter()
                    .any(|target| target.from.is_quantized() && target.from != target.to);
                QuantizeChoice { mix: mix.as_str(), file_bytes, memory_bytes, fits, is_again }
            });
            let now = Now { file_bytes: model.source_bytes(), memory_bytes: info.memory_bytes(context) };
            Ok(choose(choices.to_vec(), now, budget, context))
        })
        .await?
    }

    /// Finds the files of a model by its name or their path, and what they are called.
    async fn to_quantize(&self, source: &str) -> Result<(Source, String)> {
        let path = PathBuf::from(source);
        let given = path.clone();
        if blocking(move || given.exists()).await? {
            let called = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let called =
                if path.is_dir() { name_of(&path).map_or(called, |name| name.to_string()) } else { called };
            return Ok((Source::Path(path), called));
        }
        let installed = self.model_behind(source).await?;
        let called = installed.name.to_string();
        Ok((installed.files_source(), called))
    }

    /// Returns the file of a model that the hub makes.
    async fn own_file(&self, name: &ModelId) -> Result<PathBuf> {
        let folder = self.home().path().join(FOLDER);
        let made = folder.clone();
        blocking(move || fs::create_dir_all(&made).map_err(|source| Error::Home { path: made, source }))
            .await??;
        let own = folder.clone();
        blocking(move || delete_abandoned(&own)).await?;
        let name = name.as_str().replace(['/', ':'], "-");
        Ok(folder.join(format!("{name}.gguf")))
    }

    /// Deletes a file that the hub made, and returns how many bytes that freed; 0 for any other.
    pub(crate) fn remove_quantized(home: &Path, path: &Path) -> Result<u64> {
        if path.parent() != Some(&home.join(FOLDER)) {
            return Ok(0);
        }
        let failed = |source| Error::Home { path: path.to_owned(), source };
        match fs::metadata(path) {
            Ok(there) => fs::remove_file(path).map(|()| there.len()).map_err(failed),
            Err(_) => Ok(0),
        }
    }
}

/// Tells apart what the caller can allow.
fn failed(error: hub_nn::Error) -> Error {
    match error {
        hub_nn::Error::Weights(WeightsError::Exists { path }) => Error::FileExists { path },
        hub_nn::Error::Weights(WeightsError::Quantized { name, kind }) => {
            Error::AlreadyQuantized { name, kind }
        }
        error => error.into(),
    }
}

/// Refuses to begin what the disk has no room for.
fn check_room(path: &Path, needed: u64) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    match os::free_disk_bytes(folder.unwrap_or_else(|| Path::new("."))) {
        Some(free) if free < needed => Err(Error::NoRoom { path: path.to_owned(), needed, free }),
        _ => Ok(()),
    }
}

/// Says which tensors have another kind than the mix would give them, and whether some were rounded twice.
fn notes(quantization: &Quantization<'_>) -> Vec<String> {
    let tensors = quantization.tensors();
    let mut counts = std::collections::BTreeMap::new();
    for target in tensors {
        if let Why::Narrow(wanted) = target.why {
            *counts.entry((target.to.as_str(), wanted.as_str(), wanted.block_len())).or_insert(0_usize) += 1;
        }
    }
    let narrow = counts.into_iter().map(|((to, wanted, block), count)| {
        format!(
            "{count} of {} tensors are {to} instead of {wanted}, whose blocks of {block} do not divide their rows",
            tensors.len()
        )
    });
    let again =
        tensors.iter().filter(|target| target.from.is_quantized() && target.from != target.to).count();
    let again = (again > 0).then(|| {
        format!(
            "{again} tensors had been rounded before and lost a second time; F16 files give a better model"
        )
    });
    quantization.notes().iter().cloned().chain(narrow).chain(again).collect()
}

/// Chooses the nearest to the original that fits, and says why.
///
/// F16 is no candidate: Q8_0 takes half of it and is nearly twice as fast, for a difference that is hard to measure. Weights
/// that are quantized already gain nothing from a kind that is not smaller, and lose with any.
fn choose(
    choices: Vec<QuantizeChoice>,
    now: Now,
    budget_bytes: u64,
    context_tokens: usize,
) -> QuantizeChoices {
    let budget = Size(budget_bytes);
    let is_quantized = choices.iter().any(|choice| choice.is_again);
    let done =
        |best, reason, choices| QuantizeChoices { best, reason, choices, budget_bytes, context_tokens };
    if is_quantized && now.memory_bytes <= budget_bytes {
        let takes = Size(now.memory_bytes);
        let reason = format!(
            "its weights are quantized already, and it takes {takes} with {context_tokens} tokens of context, which the \
             budget of {budget} holds: rounding them again would only lose"
        );
        return done(None, reason, choices);
    }
    let (mut best, mut reason, mut nearer) = (None, String::new(), None);
    let is_candidate = |choice: &&QuantizeChoice| {
        choice.mix != Mix::F16.as_str() && (!is_quantized || choice.file_bytes < now.file_bytes)
    };
    for choice in choices.iter().filter(is_candidate) {
        let takes = format!(
            "{} takes {} with {context_tokens} tokens of context",
            choice.mix,
            Size(choice.memory_bytes)
        );
        if choice.fits {
            best = Some(choice.mix);
            reason = format!("{takes}, which the budget of {budget} holds");
            if let Some(nearer) = nearer {
                reason += &format!("; {nearer}");
            }
            if choice.is_again {
                reason += "; its weights are quantized already and lose a second time, so F16 files are a better source";
            }
            break;
        }
        reason = format!(
            "even {takes}, and models may use {budget}: raise `memory.budget`, or take a smaller model"
        );
        nearer = Some(format!("{} would take {}", choice.mix, Size(choice.memory_bytes)));
    }
    if reason.is_empty() {
        reason =
            "its weights are quantized already, and no kind here is smaller: take a smaller model".to_owned();
    }
    done(best, reason, choices)
}

/// Takes the kind of weights from the end of a name.
fn without_kind(name: &str) -> &str {
    let without = |kind: &&str| {
        let (stem, end) = name.split_at_checked(name.len().checked_sub(kind.len() + 1)?)?;
        let is_it = end.starts_with(['-', '.', '_']) && end.get(1..)?.eq_ignore_ascii_case(kind);
        (is_it && !stem.is_empty()).then_some(stem)
    };
    ["F32", "BF16", "F16", "Q8_0"].iter().find_map(without).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check((now, is_again): (u64, bool), budget: u64, best: Option<&str>, reason: &str) {
        let sizes = [16, 8, 6, 5, 4, 3].map(|gib: u64| gib << 30);
        let choice = |(mix, bytes): (Mix, u64)| QuantizeChoice {
            mix: mix.as_str(),
            file_bytes: bytes,
            memory_bytes: bytes,
            fits: bytes <= budget,
            is_again,
        };
        let now = Now { file_bytes: now, memory_bytes: now };
        let chosen = choose(Mix::ALL.into_iter().zip(sizes).map(choice).collect(), now, budget, 8_192);
        assert_eq!(chosen.best, best);
        assert!(chosen.reason.contains(reason), "{}", chosen.reason);
    }

    #[test]
    fn the_nearest_that_fits_is_best() {
        let plain = (16 << 30, false);
        check(
            plain,
            64 << 30,
            Some("Q8_0"),
            "Q8_0 takes 8.0 GiB with 8192 tokens of context, which the budget of 64.0 GiB holds",
        );
        check(plain, 5 << 30, Some("Q5_K_M"), "which the budget of 5.0 GiB holds; Q6_K would take 6.0 GiB");
        check(
            plain,
            1 << 30,
            None,
            "even Q4_0 takes 3.0 GiB with 8192 tokens of context, and models may use 1.0 GiB",
        );
    }

    #[test]
    fn what_is_quantized_is_rounded_again_only_where_it_does_not_fit() {
        let quantized = (4 << 30, true);
        check(quantized, 64 << 30, None, "its weights are quantized already");
        check(quantized, 3 << 30, Some("Q4_0"), "lose a second time");
        check((2 << 30, true), 1 << 30, None, "no kind here is smaller");
    }

    #[test]
    fn names_lose_the_kind_they_had() {
        for (name, expected) in [
            ("llama-f16", "llama"),
            ("Qwen3-0.6B-BF16", "Qwen3-0.6B"),
            ("model.Q8_0", "model"),
            ("f16", "f16"),
            ("-f16", "-f16"),
            ("phi-4", "phi-4"),
        ] {
            assert_eq!(without_kind(name), expected);
        }
    }
}
