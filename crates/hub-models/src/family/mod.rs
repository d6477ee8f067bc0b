//! Families of models: what a configuration means, and where each tensor is.
//!
//! A family touches no tensor. It reads `config.json` or GGUF metadata and returns a [`ModelSpec`]. A new family is a
//! page here and a line in [`FAMILIES`].

mod bert;
mod cohere2;
mod decoder;
mod deepseek;
mod delta_net;
mod embedding_gemma;
mod error;
mod exaone4;
mod experts;
mod gemma2;
mod gemma3;
mod gemma3n;
mod gemma4;
mod glm4;
mod gpt_oss;
mod granite;
mod granite_hybrid;
mod granite_moe;
mod keys;
mod lfm2;
mod llama;
mod lookup;
mod ministral3;
mod mistral;
mod mistral_own;
mod mixtral;
mod modern_bert;
mod names;
mod olmo2;
mod olmo3;
mod per_layer;
mod phi3;
mod quantization;
mod qwen2;
mod qwen3;
mod qwen3_5;
mod qwen3_5_moe;
mod qwen3_moe;
mod qwen3_next;
mod rope;
mod seed_oss;
mod shape;
mod smollm3;
mod stablelm;
mod starcoder2;
mod text;
mod written;
mod xlm_roberta;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use hub_nn::{
    spec::{Head, LeftOut, LinearSpec, ModelSpec, PooledLayer, PooledSpec, RowPooling, TensorRef},
    weights::{Format, Metadata, WeightKind, Weights},
};
use serde_json::{Map, Value};

pub use error::FamilyError;
use keys::{DefaultValue, Keys};
use lookup::{Found, shown};
use text::Layout;
use written::Written;

/// llama.cpp's number for rows that become a score (`llama_pooling_type` in its `llama.h`).
const RANKS: u64 = 4;

/// Returns how rows become one by llama.cpp's number; `None` for the others.
pub(crate) fn row_pooling(number: u64) -> Option<RowPooling> {
    match number {
        1 => Some(RowPooling::Mean),
        2 => Some(RowPooling::First),
        3 => Some(RowPooling::Last),
        _ => None,
    }
}

/// The longest name that an error shows.
const MAX_SHOWN: usize = 80;

/// Every family. The first that knows an architecture reads it.
static FAMILIES: &[&FamilySpec] = &[
    &bert::SPEC,
    &cohere2::SPEC,
    &deepseek::SPEC,
    &embedding_gemma::SPEC,
    &exaone4::SPEC,
    &gemma2::SPEC,
    &gemma3::SPEC,
    &gemma3n::SPEC,
    &gemma4::SPEC,
    &glm4::SPEC,
    &gpt_oss::SPEC,
    &granite::SPEC,
    &granite_hybrid::SPEC,
    &granite_moe::SPEC,
    &lfm2::SPEC,
    &llama::SPEC,
    &ministral3::SPEC,
    &mistral::SPEC,
    &mixtral::SPEC,
    &modern_bert::SPEC,
    &olmo2::SPEC,
    &olmo3::SPEC,
    &phi3::SPEC,
    &qwen2::SPEC,
    &qwen3::SPEC,
    &qwen3_5::SPEC,
    &qwen3_5_moe::SPEC,
    &qwen3_moe::SPEC,
    &qwen3_next::SPEC,
    &seed_oss::SPEC,
    &smollm3::SPEC,
    &stablelm::SPEC,
    &starcoder2::SPEC,
    &xlm_roberta::SPEC,
];

/// One family.
struct FamilySpec {
    /// Its name in listings.
    name: &'static str,
    /// What `architectures` of `config.json` says; the first is meant where the file names none.
    architectures: &'static [&'static str],
    /// What `model_type` of `config.json` says, in the order of the architectures they go with.
    model_types: &'static [&'static str],
    /// Keys whose absence means something, as the configuration class of `transformers` says. Sizes are not among them:
    /// without those a file is broken.
    defaults: &'static [(&'static str, DefaultValue)],
    /// Reads `config.json`.
    from_config: Read,
    /// Its GGUF files; `None` if there are none.
    gguf: Option<Gguf>,
}

/// What a family has to do with GGUF files.
struct Gguf {
    /// What `general.architecture` says.
    architecture: &'static str,
    /// Reads metadata; `None` if another family does, which has files of the same name.
    read: Option<Read>,
    /// Writes metadata; `None` if folders of this family are not written as GGUF.
    write: Option<Write>,
}

type Read = fn(&Keys<'_>, &Files<'_>) -> Result<ModelSpec, FamilyError>;
type Write = fn(&ModelSpec, &mut Written<'_>);

/// What a family may know of the tensors: their names and shapes.
struct Files<'a> {
    known: Known<'a>,
    /// The architecture as the files name it.
    architecture: &'a str,
    layout: Layout,
}

/// The tensors that files have, or will have: then by name, with the first number of their shapes.
#[derive(Clone, Copy)]
enum Known<'a> {
    Stored(&'a Weights),
    Planned(&'a BTreeMap<String, usize>),
}

impl Files<'_> {
    fn has(&self, name: &str) -> bool {
        self.rows(name).is_some()
    }

    /// Returns how the numbers of a tensor are stored.
    fn kind(&self, name: &str) -> Option<WeightKind> {
        match self.known {
            Known::Stored(weights) => weights.info(&self.layout.name(name)).map(|info| info.kind),
            Known::Planned(_) => None,
        }
    }

    /// Returns the first number of a tensor's shape, one for a single number.
    fn rows(&self, name: &str) -> Option<usize> {
        match self.known {
            Known::Stored(weights) => {
                weights.info(&self.layout.name(name)).map(|info| info.shape.first().copied().unwrap_or(1))
            }
            Known::Planned(rows) => rows.get(name).copied(),
        }
    }

    /// Lists the tensors that `is_left_out` names, with the reason.
    fn left_out(&self, reason: &'static str, is_left_out: impl Fn(&str) -> bool) -> Vec<LeftOut> {
        let Known::Stored(weights) = self.known else { return Vec::new() };
        let names = weights.names().filter(|name| is_left_out(name));
        names.map(|name| LeftOut { name: name.to_owned(), reason }).collect()
    }
}

/// Reads what a model is from its configuration and the names of its tensors.
///
/// `config` is what `config.json` holds, or the `params.json` of Mistral's own folders; a GGUF file says all of itself
/// and needs none.
///
/// # Errors
/// [`FamilyError::UnknownArchitecture`] if no family knows it; the other variants, naming the key, if the configuration
/// lacks something, says something that is not implemented, or says something the family does not know.
pub fn spec_of(weights: &Weights, config: Option<&Value>) -> Result<ModelSpec, FamilyError> {
    read(weights, config).map(|reading| reading.spec)
}

/// What a model is, and what was made of what its files say.
pub(crate) struct Reading {
    pub(crate) spec: ModelSpec,
    /// The architecture that its files name, if no family knows it: the model was read by its shape.
    pub(crate) unknown_name: Option<String>,
}

/// As [`spec_of`], which says what is returned and refused.
pub(crate) fn read(weights: &Weights, config: Option<&Value>) -> Result<Reading, FamilyError> {
    match weights.format() {
        Format::Gguf => {
            spec_of_metadata(weights, weights.metadata()).map(|spec| Reading { spec, unknown_name: None })
        }
        Format::Safetensors => from_config(weights, config),
    }
}

fn from_config(weights: &Weights, config: Option<&Value>) -> Result<Reading, FamilyError> {
    let missing = FamilyError::NoArchitecture { key: "architectures" };
    let config = match config {
        Some(Value::Object(config)) => config,
        Some(other) => return Err(FamilyError::NoObject { value: shown(&other.to_string()) }),
        None => return Err(missing),
    };
    if mistral_own::is_configuration(config) {
        return mistral_own::spec(config, weights).map(|spec| Reading { spec, unknown_name: None });
    }
    let half = text::half(config, weights)?;
    let (config, layout) =
        half.as_ref().map_or((config, Layout::plain(weights)), |(config, layout)| (config, *layout));
    quantization::check(config, weights)?;
    let name = lookup::name_of(config).ok_or(missing)?;
    let Some(Found { family, architecture, is_headless }) = lookup::family_of(config, name) else {
        return match shape::read(config, weights, layout, name) {
            Ok(spec) => Ok(Reading { spec, unknown_name: Some(shown(name)) }),
            Err(missing) => Err(lookup::unknown(name, lookup::names(), missing)),
        };
    };
    let mut spec = read_as(family, architecture, config, weights, layout)?;
    if is_headless {
        leave_head_out(&mut spec, weights);
    }
    Ok(Reading { spec, unknown_name: None })
}

/// Returns what the family of a configuration takes for keys that are left out.
pub(crate) fn defaults_of(config: &Value) -> Vec<(&'static str, Value)> {
    let Some(config) = config.as_object() else { return Vec::new() };
    let found = lookup::name_of(config).and_then(|name| lookup::family_of(config, name));
    let defaults = found.map_or(&[][..], |found| found.family.defaults);
    defaults.iter().map(|(key, value)| (*key, (*value).into())).collect()
}

/// Reads a configuration as that of a family.
fn read_as(
    family: &FamilySpec,
    architecture: &str,
    config: &Map<String, Value>,
    weights: &Weights,
    layout: Layout,
) -> Result<ModelSpec, FamilyError> {
    let mut config = config.clone();
    for (key, value) in family.defaults {
        config.entry(*key).or_insert_with(|| (*value).into());
    }
    let keys = Keys::config(family.name, &config);
    let files = Files { known: Known::Stored(weights), architecture, layout };
    let mut spec = (family.from_config)(&keys, &files)?;
    keys.finish()?;
    spec.each_tensor(&mut |tensor| tensor.name = layout.name(&tensor.name));
    spec.left_out.extend(layout.left_out(weights));
    let left_out = quantization::left_out(&config, &spec, weights);
    spec.left_out.extend(left_out);
    Ok(spec)
}

/// Returns the name of the file beside safetensors that says what a model is.
pub(crate) fn config_file(weights: &Weights) -> &'static str {
    if mistral_own::names_tensors_of(weights) { "params.json" } else { "config.json" }
}

/// Makes a model of language one whose hidden states are the result, for vectors.
pub(crate) fn leave_head_out(spec: &mut ModelSpec, weights: &Weights) {
    let used = |spec: &ModelSpec| -> BTreeSet<String> {
        spec.tensors().iter().map(|tensor| tensor.tensor.name.clone()).collect()
    };
    let before = used(spec);
    spec.head = Head::None;
    let after = used(spec);
    let of_head = before.difference(&after).filter(|name| weights.info(name).is_some());
    let reason = "makes tokens, and vectors are wanted";
    spec.left_out.extend(of_head.map(|name| LeftOut { name: name.clone(), reason }));
}

/// As [`spec_of`] of a GGUF file, with other metadata.
pub(crate) fn spec_of_metadata(weights: &Weights, metadata: &Metadata) -> Result<ModelSpec, FamilyError> {
    let missing = FamilyError::NoArchitecture { key: "general.architecture" };
    let architecture = metadata.str("general.architecture").ok_or(missing)?;
    let mut spec = from_metadata(metadata, architecture, Known::Stored(weights))?;
    if matches!(spec.head, Head::Logits { .. }) {
        // llama.cpp's number for rows that become no vector is 0, and for what judges 4.
        match metadata.u64(&format!("{architecture}.pooling_type")) {
            None | Some(0) => {}
            Some(RANKS) => {
                let keys = Keys::gguf(spec.family, metadata, architecture);
                judge(&mut spec, &keys, weights)?;
            }
            Some(_) => leave_head_out(&mut spec, weights),
        }
    }
    Ok(spec)
}

/// Makes a model of language one that judges: its last row goes through the rows of its head that mean yes and no, which
/// llama.cpp's converter keeps, or through one that a classifier was trained with.
fn judge(spec: &mut ModelSpec, keys: &Keys<'_>, weights: &Weights) -> Result<(), FamilyError> {
    let name = "cls.output.weight";
    let rows = weights.info(name).and_then(|info| info.shape.first().copied());
    let outputs = match rows.ok_or_else(|| keys.missing(name))? {
        outputs @ (1 | 2) => outputs,
        _ => return Err(keys.unsupported("classifier.output_labels", "one score, or yes and no")),
    };
    leave_head_out(spec, weights);
    let linear = LinearSpec { weight: TensorRef::new(name), bias: None, inputs: spec.hidden_size, outputs };
    let layers = vec![PooledLayer::plain(linear)];
    spec.head = Head::Classifier(PooledSpec { pooling: RowPooling::Last, layers });
    Ok(())
}

/// Reads what the metadata of a GGUF file with these tensors say of its layers.
fn from_metadata(
    metadata: &Metadata,
    architecture: &str,
    known: Known<'_>,
) -> Result<ModelSpec, FamilyError> {
    let reader = |family: &&FamilySpec| {
        let gguf = family.gguf.as_ref()?;
        Some((family.name, gguf.architecture, gguf.read?))
    };
    let readers = FAMILIES.iter().filter_map(reader);
    let (name, _, read) = readers
        .clone()
        .find(|(_, known, _)| *known == architecture)
        .ok_or_else(|| lookup::unknown(architecture, readers.map(|(_, known, _)| known), String::new()))?;
    let keys = Keys::gguf(name, metadata, architecture);
    // Says how rows become a vector, which is nothing about the layers.
    keys.skip("pooling_type");
    keys.skip("classifier.output_labels");
    let spec = read(&keys, &Files { known, architecture, layout: Layout::PLAIN })?;
    keys.finish()?;
    Ok(spec)
}

/// Returns what the metadata of a GGUF file say of the layers of a model from a folder, and the specification that is
/// read from them where the file has the tensors of `planned`: names, and the first number of their shapes. `None` if
/// folders of its family are not written.
///
/// # Errors
/// Those of [`spec_of`], where the metadata cannot say what the model is.
pub(crate) fn written(
    spec: &ModelSpec,
    planned: &BTreeMap<String, usize>,
) -> Result<Option<(Metadata, ModelSpec)>, FamilyError> {
    let family = FAMILIES.iter().find(|family| family.name == spec.family);
    let gguf = family.and_then(|family| family.gguf.as_ref());
    let Some((Gguf { architecture, .. }, write)) = gguf.and_then(|gguf| Some((gguf, gguf.write?))) else {
        return Ok(None);
    };
    let mut metadata = Metadata::from_iter([("general.architecture", *architecture)]);
    write(spec, &mut Written { architecture, metadata: &mut metadata });
    let found = from_metadata(&metadata, architecture, Known::Planned(planned))?;
    Ok(Some((metadata, found)))
}
