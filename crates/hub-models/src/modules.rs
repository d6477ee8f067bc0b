//! What sentence-transformers says of a folder's parts: `modules.json`, and the files that it names.

use std::path::{Component, Path, PathBuf};

use hub_nn::{
    spec::{Activation, Head, LinearSpec, ModelSpec, PooledLayer, PooledSpec, TensorRef},
    weights::Weights,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::{
    Error,
    bundle::read_optional,
    pooling::{Mode, unsupported},
};

/// The parts of a model, in the order in which texts go through them.
pub(crate) struct Modules {
    folder: PathBuf,
    all: Vec<Module>,
}

/// One entry of `modules.json`.
#[derive(Deserialize)]
pub(crate) struct Module {
    #[serde(default)]
    path: String,
    #[serde(rename = "type")]
    class: String,
}

/// `config.json` of a matrix.
#[derive(Deserialize)]
struct Dense {
    in_features: usize,
    out_features: usize,
    #[serde(default = "is_so")]
    bias: bool,
    #[serde(default = "tanh")]
    activation_function: Option<String>,
    #[serde(default)]
    use_residual: bool,
}

/// How rows become one, and all that the part's configuration says.
type PoolingPart = (Mode, Map<String, Value>);

fn is_so() -> bool {
    true
}

/// What stands between matrices where the configuration has no word of it. `null` is not that.
fn tanh() -> Option<String> {
    Some("torch.nn.modules.activation.Tanh".to_owned())
}

impl Module {
    /// Returns the last part of its class's name: `Pooling`.
    pub(crate) fn kind(&self) -> &str {
        self.class.rsplit('.').next().unwrap_or_default()
    }

    /// Refuses it.
    pub(crate) fn unsupported(&self) -> Error {
        unsupported("modules.json", "type", &self.class)
    }
}

impl Modules {
    /// Reads what a folder has; nothing if sentence-transformers did not write it.
    pub(crate) fn read(folder: &Path) -> Result<Option<Self>, Error> {
        let all: Option<Vec<Module>> = read_optional(&folder.join("modules.json"))?;
        let Some(all) = all else { return Ok(None) };
        for module in &all {
            // The name comes from the internet and must not lead out of the folder.
            if !Path::new(&module.path).components().all(|part| matches!(part, Component::Normal(_))) {
                return Err(unsupported("modules.json", "path", &module.path));
            }
        }
        Ok(Some(Self { folder: folder.to_owned(), all }))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Module> {
        self.all.iter()
    }

    /// Returns the part of a kind, if there is one.
    pub(crate) fn find(&self, kind: &str) -> Option<&Module> {
        self.iter().find(|module| module.kind() == kind)
    }

    /// Reads the configuration of a part; nothing if it has none.
    pub(crate) fn config<T: DeserializeOwned>(&self, module: &Module) -> Result<Option<T>, Error> {
        read_optional(&self.path(module, "config.json"))
    }

    /// Reads how rows become one.
    pub(crate) fn pooling(&self) -> Result<Option<PoolingPart>, Error> {
        let Some(module) = self.find("Pooling") else { return Ok(None) };
        let missing = || Error::Missing { path: self.path(module, "config.json") };
        let config: Map<String, Value> = self.config(module)?.ok_or_else(missing)?;
        Ok(Some((Mode::from_config(&config)?, config)))
    }

    /// Puts the matrices that stand behind the pooling behind the model, with their files.
    pub(crate) fn add_dense(&self, mut weights: Weights, spec: &mut ModelSpec) -> Result<Weights, Error> {
        let behind = self.iter().skip_while(|module| module.kind() != "Pooling");
        let mut layers = Vec::new();
        for module in behind.filter(|module| module.kind() == "Dense") {
            let missing = || Error::Missing { path: self.path(module, "config.json") };
            let dense: Dense = self.config(module)?.ok_or_else(missing)?;
            let prefix = format!("{}/", module.path);
            weights = weights.with_file(&prefix, &self.path(module, "model.safetensors"))?;
            layers.push(dense.layer(&prefix)?);
        }
        let (false, Some((mode, _))) = (layers.is_empty(), self.pooling()?) else { return Ok(weights) };
        let pooling =
            mode.rows().ok_or_else(|| unsupported("modules.json", "type", "Dense behind a maximum"))?;
        spec.head = Head::Vector(PooledSpec { pooling, layers });
        Ok(weights)
    }

    fn path(&self, module: &Module, file: &str) -> PathBuf {
        self.folder.join(&module.path).join(file)
    }
}

impl Dense {
    fn layer(self, prefix: &str) -> Result<PooledLayer, Error> {
        if self.use_residual {
            return Err(unsupported("dense configuration", "use_residual", "true"));
        }
        let name = self.activation_function.as_deref().unwrap_or("null");
        let activation = match name.rsplit('.').next() {
            Some("Identity") => None,
            Some("Tanh") => Some(Activation::Tanh),
            Some("ReLU") => Some(Activation::Relu),
            Some("GELU") => Some(Activation::Gelu),
            Some("SiLU") => Some(Activation::Silu),
            _ => return Err(unsupported("dense configuration", "activation_function", name)),
        };
        let linear = LinearSpec {
            weight: TensorRef::new(format!("{prefix}linear.weight")),
            bias: self.bias.then(|| TensorRef::new(format!("{prefix}linear.bias"))),
            inputs: self.in_features,
            outputs: self.out_features,
        };
        Ok(PooledLayer { linear, activation, norm: None })
    }
}
