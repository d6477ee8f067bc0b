use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

/// How long a model stays in memory after its last use, unless its memory is needed before.
///
/// Written as Ollama writes it: `"30m"`, `"1h30m"`, a number of seconds, 0 for not at all, a negative number for as
/// long as the hub runs; or `"forever"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "String")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(with = "Written"))]
pub enum KeepAlive {
    /// Until its memory is needed.
    #[default]
    Forever,
    /// For so long.
    For(Duration),
}

/// A text that says no time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no time: write \"30m\", \"1h30m\", a number of seconds, or \"forever\"")]
pub struct InvalidKeepAlive(pub String);

/// The two ways it is written.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "KeepAlive"))]
#[serde(untagged, expecting = "a time such as \"30m\", or a number of seconds")]
enum Written {
    Seconds(f64),
    Text(
        #[cfg_attr(
            feature = "schema",
            schemars(regex(pattern = r"^(forever|-?[0-9]{1,9}|-?([0-9]{1,9}(ms|us|ns|s|m|h))+)$"))
        )]
        String,
    ),
}

/// Units of time in seconds; longer names before those that they end in.
const UNITS: [(&str, f64); 6] =
    [("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9), ("s", 1.0), ("m", 60.0), ("h", 3_600.0)];

impl KeepAlive {
    /// Reads a number of seconds; a negative one is forever.
    fn of_seconds(seconds: f64) -> Option<Self> {
        if seconds < 0.0 {
            return Some(Self::Forever);
        }
        // Longer than anybody's machine runs is forever, too.
        Some(Duration::try_from_secs_f64(seconds).map_or(Self::Forever, Self::For))
            .filter(|_| seconds.is_finite())
    }
}

impl FromStr for KeepAlive {
    type Err = InvalidKeepAlive;

    fn from_str(text: &str) -> Result<Self, InvalidKeepAlive> {
        let invalid = || InvalidKeepAlive(text.chars().take(40).collect());
        let trimmed = text.trim();
        if trimmed == "forever" {
            return Ok(Self::Forever);
        }
        if let Ok(seconds) = trimmed.parse::<f64>() {
            return Self::of_seconds(seconds).ok_or_else(invalid);
        }
        let (sign, mut rest) = trimmed.strip_prefix('-').map_or((1.0, trimmed), |rest| (-1.0, rest));
        let mut seconds = 0.0;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(invalid)?;
            let (number, behind) = rest.split_at(digits);
            let unit = UNITS.iter().find_map(|(unit, factor)| Some((behind.strip_prefix(unit)?, factor)));
            let (behind, factor) = unit.ok_or_else(invalid)?;
            seconds += number.parse::<f64>().map_err(|_| invalid())? * factor;
            rest = behind;
        }
        if trimmed.trim_start_matches('-').is_empty() {
            Err(invalid())
        } else {
            Self::of_seconds(sign * seconds).ok_or_else(invalid)
        }
    }
}

impl TryFrom<Written> for KeepAlive {
    type Error = InvalidKeepAlive;

    fn try_from(written: Written) -> Result<Self, InvalidKeepAlive> {
        match written {
            Written::Seconds(seconds) => {
                Self::of_seconds(seconds).ok_or_else(|| InvalidKeepAlive(seconds.to_string()))
            }
            Written::Text(text) => text.parse(),
        }
    }
}

impl fmt::Display for KeepAlive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forever => f.write_str("forever"),
            Self::For(time) if time.subsec_nanos() == 0 => write!(f, "{}s", time.as_secs()),
            Self::For(time) => write!(f, "{}ms", time.as_millis()),
        }
    }
}

impl From<KeepAlive> for String {
    fn from(keep_alive: KeepAlive) -> Self {
        keep_alive.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: KeepAlive) {
        assert_eq!(text.parse(), Ok(expected));
        assert_eq!(expected.to_string().parse(), Ok(expected));
    }

    #[test]
    fn times_are_read_as_ollama_writes_them() {
        let seconds = |seconds| KeepAlive::For(Duration::from_secs(seconds));
        check("30m", seconds(1_800));
        check("1h30m", seconds(5_400));
        check("300", seconds(300));
        check("0", seconds(0));
        check("1.5s", KeepAlive::For(Duration::from_millis(1_500)));
        for forever in ["-1", "-1m", "forever", "1e300"] {
            check(forever, KeepAlive::Forever);
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in ["", "m", "5 m", "5x", "1h-3m", "NaN", "inf", ".", "-"] {
            assert!(text.parse::<KeepAlive>().is_err(), "{text:?}");
        }
    }
}
