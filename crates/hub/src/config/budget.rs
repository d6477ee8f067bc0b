use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// How much memory models may use: a share of the machine's, or a number of bytes.
///
/// Written `"80%"`, `"6GiB"`, `"512MiB"`, `"6GB"` or a plain number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "String")]
pub enum Budget {
    /// This many hundredths of the memory the process may use, 1 to 100.
    Percent(u8),
    /// This many bytes.
    Bytes(u64),
}

/// A budget that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no amount of memory: write a share such as \"80%\" or a size such as \"6GiB\"")]
pub struct InvalidBudget(pub String);

/// The two ways a configuration file can write it.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a share such as \"80%\" or a size such as \"6GiB\"")]
enum Written {
    Number(u64),
    Text(String),
}

/// How much room something may take at most, in bytes; written `"20GiB"`, or 0 for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "WrittenRoom", into = "String")]
pub struct Room(pub u64);

/// A room that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no size: write one such as \"20GiB\", or 0 for none")]
pub struct InvalidRoom(pub String);

#[derive(Deserialize)]
#[serde(untagged, expecting = "a size such as \"20GiB\", or 0")]
enum WrittenRoom {
    Number(u64),
    Text(String),
}

impl TryFrom<WrittenRoom> for Room {
    type Error = InvalidRoom;

    fn try_from(written: WrittenRoom) -> Result<Self, Self::Error> {
        match written {
            WrittenRoom::Number(bytes) => Ok(Self(bytes)),
            WrittenRoom::Text(text) if text.trim() == "0" => Ok(Self(0)),
            WrittenRoom::Text(text) => match text.parse() {
                Ok(Budget::Bytes(bytes)) => Ok(Self(bytes)),
                Ok(Budget::Percent(_)) | Err(_) => Err(InvalidRoom(text)),
            },
        }
    }
}

impl From<Room> for String {
    fn from(room: Room) -> Self {
        if room.0 == 0 { "0".to_owned() } else { Budget::Bytes(room.0).to_string() }
    }
}

/// Units a size may be written in. Longer names come first, because each also ends in a shorter one.
const UNITS: [(&str, u64); 10] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("G", 1 << 30),
    ("M", 1 << 20),
];

impl Budget {
    /// Returns the budget in bytes on a machine that has `total_bytes`.
    pub fn bytes(self, total_bytes: u64) -> u64 {
        match self {
            Self::Percent(share) => {
                let bytes = u128::from(total_bytes) * u128::from(share) / 100;
                u64::try_from(bytes).unwrap_or(u64::MAX)
            }
            Self::Bytes(bytes) => bytes,
        }
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::Percent(80)
    }
}

impl FromStr for Budget {
    type Err = InvalidBudget;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidBudget(text.to_owned());
        let trimmed = text.trim();
        if let Some(share) = trimmed.strip_suffix('%') {
            let share = share.trim().parse().ok().filter(|share| (1..=100).contains(share));
            return share.map(Self::Percent).ok_or_else(invalid);
        }
        let ends_in = |unit: &str| {
            let at = trimmed.len().checked_sub(unit.len())?;
            trimmed.get(at..)?.eq_ignore_ascii_case(unit).then(|| trimmed.get(..at)).flatten()
        };
        let sized = UNITS.iter().find_map(|(unit, factor)| ends_in(unit).map(|number| (number, *factor)));
        let (number, factor) = sized.unwrap_or((trimmed, 1));
        let number: f64 = number.trim().parse().map_err(|_| invalid())?;
        let bytes = number * factor as f64;
        // Not a number fails the comparison as well.
        if bytes >= 1.0 && bytes < u64::MAX as f64 { Ok(Self::Bytes(bytes as u64)) } else { Err(invalid()) }
    }
}

impl TryFrom<Written> for Budget {
    type Error = InvalidBudget;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        match written {
            Written::Number(0) => Err(InvalidBudget("0".to_owned())),
            Written::Number(bytes) => Ok(Self::Bytes(bytes)),
            Written::Text(text) => text.parse(),
        }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Percent(share) => write!(f, "{share}%"),
            Self::Bytes(bytes) => {
                let whole = UNITS.iter().take(4).find(|(_, factor)| *bytes > 0 && bytes % factor == 0);
                match whole {
                    Some((unit, factor)) => write!(f, "{}{unit}", bytes / factor),
                    None => write!(f, "{bytes}"),
                }
            }
        }
    }
}

impl From<Budget> for String {
    fn from(budget: Budget) -> Self {
        budget.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<Budget>) {
        assert_eq!(text.parse().ok(), expected, "{text:?}");
    }

    #[test]
    fn shares_and_sizes_are_read() {
        check("80%", Some(Budget::Percent(80)));
        check("6GiB", Some(Budget::Bytes(6 << 30)));
        check("1.5 gib", Some(Budget::Bytes(3 << 29)));
        check("2GB", Some(Budget::Bytes(2_000_000_000)));
        check("4096", Some(Budget::Bytes(4_096)));
    }

    #[test]
    fn rooms_are_sizes_or_none() {
        let read = |text: &str| Room::try_from(WrittenRoom::Text(text.to_owned())).ok();
        assert_eq!(
            [read("20GiB"), read("0"), read("1.5 GiB")],
            [Some(Room(20 << 30)), Some(Room(0)), Some(Room(3 << 29))]
        );
        for text in ["", "50%", "-1", "lots"] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }

    #[test]
    fn absurd_amounts_are_refused() {
        for text in ["", "0", "0%", "101%", "-1GiB", "NaN", "inf", "lots", "1e30GiB", "%", "GiB"] {
            check(text, None);
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for budget in [Budget::Percent(55), Budget::Bytes(6 << 30), Budget::Bytes(12_345)] {
            check(&budget.to_string(), Some(budget));
        }
    }

    #[test]
    fn a_share_is_of_the_machine() {
        assert_eq!(Budget::Percent(80).bytes(1_000), 800);
        assert_eq!(Budget::Percent(100).bytes(u64::MAX), u64::MAX);
        assert_eq!(Budget::Bytes(7).bytes(1_000), 7);
    }
}
