use hub_base::CancelToken;
use serde::Deserialize;
use ureq::http::{HeaderMap, header};

use crate::{Fetcher, Result, web::Ask};

/// The answer of a token server. Source: <https://distribution.github.io/distribution/spec/auth/token/>.
#[derive(Deserialize)]
struct Answer {
    #[serde(alias = "access_token")]
    token: String,
}

/// Asks for the token that a registry wants of callers without an account; `None` if it names no place to ask.
pub(super) fn ask(fetcher: &Fetcher, headers: &HeaderMap, cancel: &CancelToken) -> Result<Option<String>> {
    let challenge = headers.get(header::WWW_AUTHENTICATE).and_then(|text| text.to_str().ok());
    let Some(url) = challenge.and_then(token_url) else { return Ok(None) };
    let answer = fetcher.web.json::<Answer>(&Ask { url: &url, ..Ask::default() }, cancel)?;
    Ok(answer.ok().map(|answer| answer.token))
}

/// Reads `Bearer realm="https://auth…",service="…",scope="…"`.
fn token_url(challenge: &str) -> Option<String> {
    let fields = challenge.strip_prefix("Bearer ")?;
    let field = |name: &str| {
        let (_, rest) = fields.split_once(&format!("{name}=\""))?;
        rest.split_once('"').map(|(value, _)| value)
    };
    let realm =
        field("realm").filter(|realm| realm.starts_with("https://") || realm.starts_with("http://"))?;
    let asked = ["service", "scope"].into_iter().filter_map(|name| Some(format!("{name}={}", field(name)?)));
    let query = asked.collect::<Vec<_>>().join("&");
    Some(if query.is_empty() { realm.to_owned() } else { format!("{realm}?{query}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_names_where_to_ask() {
        let challenge = r#"Bearer realm="https://a.example/token",service="r",scope="repository:x:pull""#;
        let url = token_url(challenge).unwrap();
        assert_eq!(url, "https://a.example/token?service=r&scope=repository:x:pull");
        for other in ["Basic realm=\"x\"", "Bearer", "Bearer realm=\"file:///x\""] {
            assert_eq!(token_url(other), None, "{other}");
        }
    }
}
