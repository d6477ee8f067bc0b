//! Everything a model's files say, read and checked together: specification, tokenizer, template, defaults.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use hub_base::Task;
use hub_nn::{
    MAX_CONFIGURATION,
    executor::{ExecutorOptions, Work},
    read_side_file,
    spec::{ExpertsSpec, Head, LeftOut, Mask, ModelSpec, PooledSpec},
    state::Group,
    tokens::{SpecialTokens, Tokenizer},
    weights::{Format, Weights, file_type_name},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    Card, Error, LeftOutTensor, LoadOptions, ModelInfo, Source, card,
    chat::{HarmonyTokens, Template, TemplateTokens, Thinking, mistral_template},
    encoder, family,
    generation::GenerationConfig,
    judge::Scoring,
    layers, limits, m3,
    modules::Modules,
    pooling::Pooling,
    suspect,
};

/// What a token takes in a tokenizer, with its merges: measured with vocabularies of 128,256 and 151,936 tokens.
const TOKEN_BYTES: u64 = 300;

/// The guide model, inside the program.
static GUIDE: &[u8] = include_bytes!("../guide/hub-guide.gguf");

/// The heads of a model's files, and the small files beside them.
pub(crate) struct Bundle {
    pub(crate) weights: Weights,
    pub(crate) spec: ModelSpec,
    /// The architecture that the files name, if no family knows it and the model was read by its shape.
    unknown_name: Option<String>,
    /// What sentence-transformers says of its parts; nothing for a model that it did not write.
    pub(crate) modules: Option<Modules>,
    /// Which of the numbers of a model that scores say what.
    pub(crate) scoring: Scoring,
    /// The folder of the model; nothing for a single file.
    folder: Option<PathBuf>,
    /// What its file or folder is called.
    pub(crate) title: String,
}

impl Bundle {
    /// Opens the files, and checks the configuration and all tensor names against the family.
    pub(crate) fn open(source: &Source) -> Result<Self, Error> {
        let (weights, folder) = match source {
            Source::Guide => (Weights::from_gguf_bytes(GUIDE)?, None),
            Source::Path(path) => (Weights::open(path)?, path.is_dir().then(|| path.clone())),
        };
        // A GGUF file says all of itself; what lies beside it belongs to other files.
        let folder = folder.filter(|_| weights.format() == Format::Safetensors);
        let config: Option<Value> = match &folder {
            Some(folder) => Some(read_json(&folder.join(family::config_file(&weights)))?),
            None => None,
        };
        let family::Reading { mut spec, unknown_name } = family::read(&weights, config.as_ref())?;
        let modules = folder.as_deref().map_or(Ok(None), Modules::read)?;
        let judge = match &folder {
            Some(folder) => Scoring::find(folder, modules.as_ref(), &mut spec)?,
            None => None,
        };
        let plain = weights.clone();
        let weights = match &modules {
            Some(modules) => as_prescribed(modules, weights, &mut spec)?,
            None => weights,
        };
        let weights = match &folder {
            Some(folder) => m3::add(folder, weights, &mut spec)?,
            None => weights,
        };
        check_vocabulary(&weights, &spec)?;
        check_vectors(&weights, &spec)?;
        let checked = spec.check().and_then(|()| spec.check_tensors(weights.shapes()));
        checked.map_err(|error| suspect::explain(&plain, config.as_ref(), error))?;
        let title = match source {
            Source::Guide => String::new(),
            Source::Path(path) => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        };
        let scoring = judge.unwrap_or(match spec.head.pooled().map(PooledSpec::outputs) {
            Some(2) => Scoring::YES_AND_NO,
            _ => Scoring::default(),
        });
        Ok(Self { weights, spec, unknown_name, modules, scoring, folder, title })
    }

    /// Says what the model is, and what it takes if it runs as `executor` says.
    pub(crate) fn info(&self, executor: ExecutorOptions) -> ModelInfo {
        let mut weight_kinds = BTreeMap::new();
        let mut unpacked: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        let mut parameters = 0;
        let rounded = executor.rounded(&self.spec, &self.weights);
        for (name, info) in self.weights.names().filter_map(|name| Some((name, self.weights.info(name)?))) {
            let stored = info.stored_as();
            *weight_kinds.entry(stored).or_insert(0) += 1;
            let kept = match rounded.get(name) {
                Some(kind) => kind.as_str(),
                None => executor.unpacked_as(info.kind).unwrap_or(info.kind.as_str()),
            };
            if kept != stored {
                unpacked.entry(stored).or_default().insert(kept);
            }
            parameters += info.shape.iter().map(|dim| *dim as u64).product::<u64>();
        }
        let joined = |kinds: BTreeSet<_>| kinds.into_iter().collect::<Vec<_>>().join(" or ");
        let unpacked_kinds = unpacked.into_iter().map(|(stored, kinds)| (stored, joined(kinds))).collect();
        let spec = &self.spec;
        let context = self.context_tokens();
        let groups = Group::of(spec);
        let (card, template) = (self.card(), self.chat_template());
        let facts =
            limits::Facts { unknown_name: self.unknown_name.as_deref(), template: template.as_deref() };
        ModelInfo {
            task: self.task(),
            family: spec.family,
            format: match self.weights.format() {
                Format::Safetensors => "safetensors",
                Format::Gguf => "gguf",
            },
            parameters,
            active_parameters: parameters
                .saturating_sub(spec.mixtures().map(ExpertsSpec::idle_parameters).sum()),
            file_bytes: self.weights.stored_bytes(),
            files: self.weights.files().map(str::to_owned).collect(),
            weight_kinds,
            unpacked_kinds,
            mix: self.weights.metadata().u64("general.file_type").and_then(file_type_name),
            context_tokens: context,
            vocab_size: spec.vocab_size,
            hidden_size: spec.hidden_size,
            layers: spec.layers.len(),
            layer_kinds: layers::by_kind(spec),
            context_bytes: groups.iter().map(|group| executor.state_bytes(group, context)).sum(),
            groups,
            executor,
            loaded_bytes: executor.weight_bytes(spec, &self.weights),
            scratch_bytes: executor.scratch_bytes(spec, self.most_rows(), 1),
            vocabulary_bytes: spec.vocab_size as u64 * TOKEN_BYTES,
            work: Work::of(executor, spec, &self.weights),
            has_chat_template: template.is_some(),
            limits: limits::of(spec, &facts),
            capabilities: self.capabilities(),
            specialities: card.specialities(&self.title),
            card,
            left_out: spec.left_out.iter().map(left_out).collect(),
        }
    }

    /// Returns how many rows a step carries at most.
    fn most_rows(&self) -> usize {
        match (self.task(), self.spec.mask) {
            (Task::Chat, _) => LoadOptions::default().prefill_tokens,
            (_, Mask::Causal) => encoder::STEP_ROWS,
            // A text whose rows all see each other goes whole.
            (_, Mask::Bidirectional) => encoder::STEP_ROWS.max(self.context_tokens()),
        }
    }

    /// Returns what the model can be asked for.
    fn capabilities(&self) -> Vec<&'static str> {
        let template = self.chat_template();
        match self.task() {
            Task::Embed => vec!["embedding"],
            Task::Rerank => vec!["reranking"],
            Task::Chat => {
                let chat = template.as_ref().map(|_| "chat");
                let thinks = |source: &str| {
                    Thinking::of_template(source).is_some() || HarmonyTokens::are_written_by(source)
                };
                let reasoning = template.as_deref().is_some_and(thinks).then_some("reasoning");
                chat.into_iter().chain(["completion"]).chain(reasoning).collect()
            }
        }
    }

    /// Returns what the model's authors say of it; what cannot be read says nothing.
    fn card(&self) -> Card {
        let Some(folder) = &self.folder else { return Card::of_gguf(self.weights.metadata()) };
        Card::of_readme(&card::read(folder))
    }

    /// Returns the source of the chat template; `None` if there is none that can be read.
    fn chat_template(&self) -> Option<String> {
        template_of(self.special_tokens().ok()?)
    }

    /// Returns the longest sequence the model was made for: what its files say of texts counts, where they do.
    fn context_tokens(&self) -> usize {
        let all = self.spec.context_tokens;
        match self.task() {
            Task::Embed => Pooling::of(self).map_or(all, |pooling| pooling.max_tokens),
            Task::Chat | Task::Rerank => all,
        }
    }

    /// Says what the model can be asked to do.
    pub(crate) fn task(&self) -> Task {
        match self.spec.head {
            Head::Logits { .. } => Task::Chat,
            Head::Classifier(_) => Task::Rerank,
            Head::None | Head::Vector(_) | Head::Beside(_) => Task::Embed,
        }
    }

    /// Refuses a model that does something else.
    pub(crate) fn expect(&self, asked: Task) -> Result<(), Error> {
        let can = self.task();
        if can == asked { Ok(()) } else { Err(Error::WrongTask { asked, can }) }
    }

    pub(crate) fn tokenizer(&self) -> Result<Tokenizer, Error> {
        let tokenizer = match &self.folder {
            Some(folder) => Tokenizer::from_folder(folder)?,
            None => Tokenizer::from_gguf(self.weights.metadata())?,
        };
        tokenizer.check()?;
        Ok(tokenizer)
    }

    pub(crate) fn special_tokens(&self) -> Result<SpecialTokens, Error> {
        Ok(match &self.folder {
            Some(folder) => SpecialTokens::from_folder(folder)?,
            None => SpecialTokens::from_gguf(self.weights.metadata())?,
        })
    }

    /// Returns the tokens that end an answer: those the files name, and those its authors recommend.
    pub(crate) fn end_tokens(&self, tokenizer: &Tokenizer) -> Result<Vec<u32>, Error> {
        let mut ends = self.special_tokens()?.end_tokens(tokenizer);
        ends.extend_from_slice(self.generation_config()?.end_tokens());
        if let Some(harmony) = HarmonyTokens::of(tokenizer) {
            ends = harmony.end_turn(ends);
        }
        ends.sort_unstable();
        ends.dedup();
        Ok(ends)
    }

    /// Returns the model's chat template, or else `preset`, with its source; nothing if there is neither.
    pub(crate) fn template(&self, preset: Option<&str>) -> Result<Option<(String, Template)>, Error> {
        let special = self.special_tokens()?;
        let tokens = TemplateTokens::new(special.named());
        let Some(source) = template_of(special).or_else(|| preset.map(str::to_owned)) else {
            return Ok(None);
        };
        let template = Template::compile(&source, tokens)?;
        Ok(Some((source, template)))
    }

    pub(crate) fn generation_config(&self) -> Result<GenerationConfig, Error> {
        match &self.folder {
            Some(folder) => Ok(read_optional(&folder.join("generation_config.json"))?.unwrap_or_default()),
            None => Ok(GenerationConfig::from_gguf(self.weights.metadata())),
        }
    }

    /// Reads a JSON file of the model's folder; nothing if it is not there, or the model is a single file.
    pub(crate) fn beside<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Error> {
        self.folder.as_ref().map_or(Ok(None), |folder| read_optional(&folder.join(name)))
    }
}

/// Makes a model what its modules say it is for: of one of language, one of vectors.
fn as_prescribed(modules: &Modules, weights: Weights, spec: &mut ModelSpec) -> Result<Weights, Error> {
    if modules.find("Pooling").is_some() && matches!(spec.head, Head::Logits { .. }) {
        family::leave_head_out(spec, &weights);
    }
    match spec.head {
        Head::None => modules.add_dense(weights, spec),
        _ => Ok(weights),
    }
}

/// Reads a JSON file; nothing if it is not there.
pub(crate) fn read_optional<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    match read_json(path) {
        Ok(value) => Ok(Some(value)),
        Err(Error::Missing { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns the template that a model's files hold, or that they name by its version.
fn template_of(special: SpecialTokens) -> Option<String> {
    let named = special.conversation_version.and_then(mistral_template);
    special.chat_template.or_else(|| named.map(str::to_owned))
}

/// Refuses a GGUF file whose tokenizer has another number of tokens than its embedding has rows: its converter writes
/// one text for each row, so one of the two belongs to another model. (In folders the embedding is often longer.)
fn check_vocabulary(weights: &Weights, spec: &ModelSpec) -> Result<(), Error> {
    match weights.metadata().strings("tokenizer.ggml.tokens") {
        Some(tokens) if tokens.len() != spec.vocab_size => Err(Error::ModelFile {
            file: "metadata",
            key: "tokenizer.ggml.tokens".to_owned(),
            value: format!("a list of {} tokens for an embedding of {} rows", tokens.len(), spec.vocab_size),
        }),
        _ => Ok(()),
    }
}

/// Refuses vectors that are stored in blocks where a part of them is read.
fn check_vectors(weights: &Weights, spec: &ModelSpec) -> Result<(), Error> {
    let parts = spec.tensors().into_iter().filter(|used| used.width.is_none() && used.tensor.rows.is_some());
    for used in parts {
        let kind = weights.info(&used.tensor.name).map(|info| info.kind).filter(|kind| kind.is_quantized());
        if let Some(kind) = kind {
            return Err(Error::ModelFile {
                file: "weights",
                key: used.tensor.name.clone(),
                value: format!("a vector in blocks of {kind}"),
            });
        }
    }
    Ok(())
}

fn left_out(tensor: &LeftOut) -> LeftOutTensor {
    LeftOutTensor { name: tensor.name.clone(), reason: tensor.reason }
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let bytes = read_side_file(path, MAX_CONFIGURATION).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => Error::Missing { path: path.to_owned() },
        _ => Error::Read { path: path.to_owned(), source },
    })?;
    serde_json::from_slice(&bytes).map_err(|reason| Error::Json { path: path.to_owned(), reason })
}
