use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

/// A model's name, checked once at construction.
///
/// Letters, digits and `- _ . : /` (as in `qwen3:8b` or `org/model`), 1 to 128 bytes, beginning with a letter or a
/// digit, with no empty, `.` or `..` part between slashes: so that a name is safe in a path, a URL and a log line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(extend(
        "pattern" = r"^[A-Za-z0-9][A-Za-z0-9._:-]*(/(?!\.{1,2}(/|$))[A-Za-z0-9._:-]+)*$",
        "maxLength" = Self::MAX_LEN,
    ))
)]
#[serde(try_from = "String", into = "String")]
pub struct ModelId(Arc<str>);

/// Why a name was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name:?} is not a model name: use 1 to 128 ASCII letters, digits and `-_.:/`, beginning with a letter or a digit"
)]
pub struct InvalidName {
    /// What was offered, cut to 128 bytes.
    pub name: String,
}

impl ModelId {
    /// The longest name a model can have, in bytes.
    pub const MAX_LEN: usize = 128;

    /// Checks a name.
    ///
    /// # Errors
    /// [`InvalidName`] if it breaks a rule of the type.
    pub fn new(name: &str) -> Result<Self, InvalidName> {
        if is_valid(name) {
            Ok(Self(name.into()))
        } else {
            Err(InvalidName { name: name.chars().take(Self::MAX_LEN).collect() })
        }
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_valid(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '/');
    name.len() <= ModelId::MAX_LEN
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(allowed)
        && name.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ModelId {
    type Err = InvalidName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::new(name)
    }
}

impl TryFrom<String> for ModelId {
    type Error = InvalidName;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        Self::new(&name)
    }
}

impl From<ModelId> for String {
    fn from(id: ModelId) -> Self {
        id.0.as_ref().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, valid: bool) {
        assert_eq!(ModelId::new(name).is_ok(), valid, "{name:?}");
    }

    #[test]
    fn names_people_use_are_valid() {
        for name in ["hub-guide", "qwen3:8b", "Org/Model-7B.Q4_K_M", "a", "7b"] {
            check(name, true);
        }
    }

    #[test]
    fn names_that_leave_their_place_are_not() {
        for name in ["", "..", "a/../b", "/a", "a//b", "a/", "-rf", "a b", "mô-hình", "a\nb", "a\\b"] {
            check(name, false);
        }
        check(&"x".repeat(128), true);
        check(&"x".repeat(129), false);
    }
}
