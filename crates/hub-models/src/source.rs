use std::path::{Path, PathBuf};

/// Where a model's files are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// A Hugging Face folder, one of Mistral's own, or a single GGUF file.
    Path(PathBuf),
    /// The guide model inside this program.
    Guide,
}

impl Source {
    /// Returns what the thread of a model from here is called.
    pub(crate) fn thread_name(&self) -> String {
        match self {
            Self::Guide => "model hub-guide".to_owned(),
            Self::Path(path) => format!("model {}", path.file_name().unwrap_or_default().to_string_lossy()),
        }
    }
}

impl From<&Path> for Source {
    fn from(path: &Path) -> Self {
        Self::Path(path.to_owned())
    }
}

impl From<PathBuf> for Source {
    fn from(path: PathBuf) -> Self {
        Self::Path(path)
    }
}

impl From<&PathBuf> for Source {
    fn from(path: &PathBuf) -> Self {
        Self::Path(path.clone())
    }
}

impl From<&str> for Source {
    fn from(path: &str) -> Self {
        Self::Path(path.into())
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Guide => f.write_str("the built-in guide model"),
        }
    }
}
