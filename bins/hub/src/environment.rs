use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
};

/// The name of the hub's own directory inside the system's place for such.
const DIRECTORY: &str = "ai-backend-hub";

/// What the environment says. It is read here, once, and nowhere else.
#[derive(Clone, Debug)]
pub(crate) struct Environment {
    /// `HUB_HOME`, or the system's place for data.
    pub(crate) home: PathBuf,
    /// `HUB_URL`: a running server to ask.
    pub(crate) url: Option<String>,
    /// `HUB_API_KEY`: what a running server is shown.
    pub(crate) key: Option<String>,
    /// Where Hugging Face's programs keep their cache, unless a setting says otherwise.
    pub(crate) hf_home: PathBuf,
    /// Where Ollama keeps its models, if it does, unless a setting says otherwise.
    pub(crate) ollama_models: Option<PathBuf>,
    /// Every `HUB_*` and `HF_*` variable, and Ollama's.
    pub(crate) variables: Vec<(String, String)>,
}

impl Environment {
    pub(crate) fn read() -> Self {
        let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
        let variables = env::vars_os().filter_map(|(name, value)| {
            let is_ours = |name: &String| {
                name.starts_with("HUB_") || name.starts_with("HF_") || name == "OLLAMA_MODELS"
            };
            let name = name.into_string().ok().filter(is_ours).filter(|_| !value.is_empty())?;
            Some((name, value.to_string_lossy().into_owned()))
        });
        Self {
            home: set("HUB_HOME").map_or_else(|| data_directory(set), PathBuf::from),
            url: set("HUB_URL").and_then(|url| url.into_string().ok()),
            key: set("HUB_API_KEY").and_then(|key| key.into_string().ok()),
            hf_home: set("XDG_CACHE_HOME")
                .map_or_else(|| env::home_dir().unwrap_or_default().join(".cache"), PathBuf::from)
                .join("huggingface"),
            ollama_models: ollama_models(),
            variables: variables.collect(),
        }
    }
}

/// Returns where Ollama keeps its models: those of this user, or those of the service that its installer starts.
fn ollama_models() -> Option<PathBuf> {
    let own = env::home_dir().map(|home| home.join(".ollama/models"));
    let service = Path::new("/usr/share/ollama/.ollama/models");
    own.into_iter().chain([service.to_owned()]).find(|folder| folder.is_dir())
}

/// Returns where the system wants a program's data; the working directory if it has no such place.
fn data_directory(set: impl Fn(&str) -> Option<OsString>) -> PathBuf {
    let home = env::home_dir().unwrap_or_default();
    let base = if cfg!(target_os = "macos") {
        home.join("Library/Application Support")
    } else if cfg!(windows) {
        set("LOCALAPPDATA").map_or_else(|| home.join("AppData/Local"), PathBuf::from)
    } else {
        // Relative paths in it are to be ignored, says the XDG base directory specification.
        let xdg = set("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        xdg.unwrap_or_else(|| home.join(".local/share"))
    };
    base.join(Path::new(DIRECTORY))
}
