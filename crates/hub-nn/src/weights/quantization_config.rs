//! What `config.json` says of how the weights beside it are stored.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::Error;
use crate::{MAX_CONFIGURATION, read_side_file};

/// What the tensors do not say of themselves. Whether a method is known at all is asked where the configuration is read.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct QuantizationConfig {
    /// `gptq_v2` if GPTQ's zeros are stored as they are, `gptq` or nothing if one less is stored.
    checkpoint_format: Option<String>,
    /// Rows and columns that share a scale of FP8.
    weight_block_size: Option<[usize; 2]>,
    /// The file that says it.
    #[serde(skip)]
    pub(super) file: Option<String>,
}

impl QuantizationConfig {
    /// Reads `config.json` of a folder. One that is not there, or cannot be understood, says nothing: what a model needs
    /// of it is asked elsewhere.
    pub(super) fn of_folder(folder: &Path) -> Result<Self, Error> {
        let path = folder.join("config.json");
        let Ok(text) = read_side_file(&path, MAX_CONFIGURATION) else { return Ok(Self::default()) };
        let name = || path.display().to_string();
        let Ok(config) = serde_json::from_slice::<Value>(&text) else { return Ok(Self::default()) };
        let said = [&config["quantization_config"], &config["text_config"]["quantization_config"]];
        let Some(said) = said.into_iter().find(|said| said.is_object()) else { return Ok(Self::default()) };
        let said = Self::deserialize(said).map_err(|error| Error::Corrupt {
            file: name(),
            reason: format!("its `quantization_config` cannot be understood: {error}"),
        })?;
        Ok(Self { file: Some(name()), ..said })
    }

    /// Returns what is added to each word of stored zeros of GPTQ: its first version takes one from each zero, as whole words,
    /// so that a zero of 0 is stored as the largest number. Source: GPTQModel's conversion to `gptq_v2`.
    pub(super) fn gptq_added(&self, bits: usize) -> u32 {
        match self.checkpoint_format.as_deref() {
            Some("gptq_v2") => 0,
            _ => (0..32).step_by(bits.max(1)).fold(0, |ones, lane| ones | 1 << lane),
        }
    }

    /// Returns how many rows and columns share a scale of FP8, where tensors do not show it.
    pub(super) fn fp8_block(&self) -> [usize; 2] {
        self.weight_block_size.unwrap_or([128, 128])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_of_the_first_format_wrap() {
        let first = QuantizationConfig::default();
        let ones = [2, 4, 8].map(|bits| first.gptq_added(bits));
        assert_eq!(ones, [0x5555_5555, 0x1111_1111, 0x0101_0101]);
        // Zeros of 0 to 7, as they are stored: taken away from the whole word.
        assert_eq!(0x6543_20ff_u32.wrapping_add(ones[1]), 0x7654_3210);
        let second = QuantizationConfig { checkpoint_format: Some("gptq_v2".to_owned()), ..first };
        assert_eq!(second.gptq_added(4), 0);
    }
}
