use std::{fmt, str::FromStr};

use crate::weights::{Error, WeightKind};

/// A recipe that gives each tensor of a model a kind, by llama.cpp's name of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the names are llama.cpp's")]
pub enum Mix {
    F16,
    Q8_0,
    Q6K,
    Q5KM,
    Q4KM,
    Q4_0,
}

impl Mix {
    /// Every mix, the nearest to the original first.
    pub const ALL: [Self; 6] = [Self::F16, Self::Q8_0, Self::Q6K, Self::Q5KM, Self::Q4KM, Self::Q4_0];

    /// Returns its name: `"Q4_K_M"`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::F16 => "F16",
            Self::Q8_0 => "Q8_0",
            Self::Q6K => "Q6_K",
            Self::Q5KM => "Q5_K_M",
            Self::Q4KM => "Q4_K_M",
            Self::Q4_0 => "Q4_0",
        }
    }

    /// Returns the kind that most tensors get.
    pub const fn kind(self) -> WeightKind {
        match self {
            Self::F16 => WeightKind::F16,
            Self::Q8_0 => WeightKind::Q8_0,
            Self::Q6K => WeightKind::Q6K,
            Self::Q5KM => WeightKind::Q5K,
            Self::Q4KM => WeightKind::Q4K,
            Self::Q4_0 => WeightKind::Q4_0,
        }
    }

    /// Returns its number in `general.file_type` (`llama_ftype` in llama.cpp's `llama.h`).
    pub(super) const fn file_type(self) -> u32 {
        match self {
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q8_0 => 7,
            Self::Q4KM => 15,
            Self::Q5KM => 17,
            Self::Q6K => 18,
        }
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Mix {
    type Err = Error;

    /// Reads a name in capitals or not, with lines or hyphens: `q4_k_m`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let name = text.trim().replace('-', "_");
        let found = Self::ALL.into_iter().find(|mix| mix.as_str().eq_ignore_ascii_case(&name));
        found.ok_or_else(|| Error::NoMix { name: text.chars().take(40).collect() })
    }
}

/// Returns what llama.cpp calls a mix of kinds (`llama_ftype` in its `llama.h`).
pub fn file_type_name(file_type: u64) -> Option<&'static str> {
    Some(match file_type {
        0 => "F32",
        1 => "F16",
        2 => "Q4_0",
        3 => "Q4_1",
        7 => "Q8_0",
        8 => "Q5_0",
        9 => "Q5_1",
        10 => "Q2_K",
        11 => "Q3_K_S",
        12 => "Q3_K_M",
        13 => "Q3_K_L",
        14 => "Q4_K_S",
        15 => "Q4_K_M",
        16 => "Q5_K_S",
        17 => "Q5_K_M",
        18 => "Q6_K",
        19 => "IQ2_XXS",
        20 => "IQ2_XS",
        21 => "Q2_K_S",
        22 => "IQ3_XS",
        23 => "IQ3_XXS",
        25 => "IQ4_NL",
        26 => "IQ3_S",
        27 => "IQ3_M",
        28 => "IQ2_S",
        29 => "IQ2_M",
        30 => "IQ4_XS",
        32 => "BF16",
        38 => "MXFP4_MOE",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_people_write_them() {
        for mix in Mix::ALL {
            assert_eq!(mix.as_str().parse::<Mix>().unwrap(), mix);
            assert_eq!(file_type_name(u64::from(mix.file_type())), Some(mix.as_str()));
        }
        assert_eq!("q4-k-m".parse::<Mix>().unwrap(), Mix::Q4KM);
        let told = "q3_k_m".parse::<Mix>().unwrap_err().to_string();
        assert!(told.contains("q3_k_m") && told.contains("F16, Q8_0, Q6_K, Q5_K_M, Q4_K_M, Q4_0"), "{told}");
    }
}
