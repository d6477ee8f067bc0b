//! Which family a configuration names.

use serde_json::{Map, Value};

use super::{FAMILIES, FamilyError, FamilySpec, MAX_SHOWN};

/// What a configuration names.
pub(super) struct Found<'a> {
    pub(super) family: &'static FamilySpec,
    pub(super) architecture: &'a str,
    /// Whether it names a model of language without the head that makes tokens.
    pub(super) is_headless: bool,
}

/// Returns the architecture that a configuration names, or the type of model if it names none.
pub(super) fn name_of(config: &Map<String, Value>) -> Option<&str> {
    let named = config.get("architectures").and_then(|names| names.get(0));
    named.or_else(|| config.get("model_type")).and_then(Value::as_str)
}

/// Finds the family of a name: of an architecture, or of a type of model if no architecture is named.
pub(super) fn family_of<'a>(config: &Map<String, Value>, name: &'a str) -> Option<Found<'a>> {
    if config.get("architectures").is_none_or(|names| names.get(0).is_none()) {
        return FAMILIES.iter().find_map(|family| {
            let place = family.model_types.iter().position(|known| *known == name)?;
            let architecture = family.architectures.get(place).copied()?;
            Some(Found { family, architecture, is_headless: false })
        });
    }
    if let Some(family) = FAMILIES.iter().find(|family| family.architectures.contains(&name)) {
        return Some(Found { family, architecture: name, is_headless: false });
    }
    let headless = name.strip_suffix("Model")?;
    FAMILIES.iter().find_map(|family| {
        let is_whole = |known: &&str| known.strip_suffix("ForCausalLM") == Some(headless);
        let architecture = family.architectures.iter().copied().find(is_whole)?;
        Some(Found { family, architecture, is_headless: true })
    })
}

/// Iterates over what folders call models.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().flat_map(|family| family.architectures.iter().chain(family.model_types)).copied()
}

/// Makes the error for a name that no family knows, with the known one that is most like it and what was `missing` when
/// the model was read by its shape.
pub(super) fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a str>, missing: String) -> FamilyError {
    FamilyError::UnknownArchitecture { name: shown(name), nearest: nearest(name, known).to_owned(), missing }
}

/// Returns the name that is most like a name.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> &'a str {
    let likeness = |known: &&str| strsim::jaro_winkler(name, known);
    known.max_by(|a, b| likeness(a).total_cmp(&likeness(b))).unwrap_or_default()
}

/// Returns as much of a foreign name as an error shows.
pub(super) fn shown(name: &str) -> String {
    name.chars().take(MAX_SHOWN).collect()
}
