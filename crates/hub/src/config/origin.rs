use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Where a page in a browser comes from: `https://chat.example:8080`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageOrigin {
    text: String,
    authority_at: usize,
}

/// A text that is no origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an origin: write it like \"https://chat.example\" or \"http://box:3000\"")]
pub struct InvalidOrigin {
    /// What was written.
    pub text: String,
}

impl PageOrigin {
    /// Returns the host, and the port where the origin names one.
    pub fn authority(&self) -> &str {
        self.text.get(self.authority_at..).unwrap_or_default()
    }

    /// Returns the host alone.
    pub fn host(&self) -> &str {
        host_of(self.authority())
    }

    /// Tells whether the page comes from this machine.
    pub fn is_loopback(&self) -> bool {
        is_loopback_name(self.host())
    }

    /// Tells whether an `Origin` header says the same.
    pub fn matches(&self, header: &str) -> bool {
        self.text.eq_ignore_ascii_case(header)
    }
}

impl FromStr for PageOrigin {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidOrigin { text: text.to_owned() };
        let (scheme, authority) = text.split_once("://").ok_or_else(invalid)?;
        let is_web = ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known));
        let has_only_host = !authority.contains(['/', '?', '#', '@', ' ']) && !host_of(authority).is_empty();
        if !is_web || !has_only_host {
            return Err(invalid());
        }
        Ok(Self { text: text.to_owned(), authority_at: scheme.len() + "://".len() })
    }
}

impl fmt::Display for PageOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for PageOrigin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for PageOrigin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Returns the host of `host:port` or `[v6]:port`, without the brackets; empty if there is none.
pub fn host_of(authority: &str) -> &str {
    let is_port = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    if let Some(rest) = authority.strip_prefix('[') {
        return match rest.split_once(']') {
            Some((host, port)) if port.is_empty() || port.strip_prefix(':').is_some_and(is_port) => host,
            _ => "",
        };
    }
    match authority.rsplit_once(':') {
        Some((host, port)) if is_port(port) => host,
        Some(_) => "",
        None => authority,
    }
}

/// Tells whether a name or an address means this machine alone.
pub fn is_loopback_name(name: &str) -> bool {
    // A name that ends in a dot is the same name, written whole.
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_localhost =
        name.eq_ignore_ascii_case("localhost") || name.to_ascii_lowercase().ends_with(".localhost");
    is_localhost || name.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_scheme_host_and_port_alone() {
        for text in ["https://a.example", "http://localhost:3000", "http://[::1]:80"] {
            assert_eq!(text.parse::<PageOrigin>().unwrap().text, text);
        }
        for text in
            ["", "*", "null", "a.example", "https://", "https://a/", "ftp://a", "https://u@a", "http://a:x"]
        {
            assert!(text.parse::<PageOrigin>().is_err(), "{text}");
        }
    }

    #[test]
    fn loopback_is_told_from_names_that_look_like_it() {
        for name in ["localhost", "app.localhost", "127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"] {
            assert!(is_loopback_name(name), "{name}");
        }
        for name in ["localhost.example", "127.0.0.1.example", "0.0.0.0", "::", "10.0.0.1", ""] {
            assert!(!is_loopback_name(name), "{name}");
        }
    }
}
