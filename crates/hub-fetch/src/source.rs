use std::str::FromStr;

use crate::Digest;

/// Where a model is to come from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// `hf:ORG/REPO`, `hf:ORG/REPO:Q4_K_M`, `hf:ORG/REPO/file.gguf`, each with an optional `@REVISION`.
    HuggingFace {
        /// `ORG/REPO`.
        repo: String,
        /// A branch, a tag or a commit.
        revision: String,
        /// Which of its files.
        pick: Pick,
    },
    /// `ollama:NAME[:TAG]`, `ollama:USER/NAME[:TAG]`.
    Ollama {
        /// `library/llama3.2`.
        name: String,
        /// `latest`, `1b`.
        tag: String,
    },
    /// `https://…`, with what its bytes must hash to.
    Address {
        /// The address.
        url: String,
        /// Its checksum.
        digest: Option<Digest>,
    },
}

/// Which files of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pick {
    /// What fits this machine.
    Fitting,
    /// The GGUF file whose weights are of this kind: `Q4_K_M`.
    Kind(String),
    /// The file of this name.
    File(String),
}

/// A text that names no source.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} names no source ({reason}): write hf:ORG/REPO, hf:ORG/REPO:Q4_K_M, hf:ORG/REPO/file.gguf, \
     ollama:NAME[:TAG], or an https:// address with --sha256"
)]
pub struct InvalidSource {
    /// What was written, cut to 200 characters.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl FromStr for Source {
    type Err = InvalidSource;

    fn from_str(text: &str) -> Result<Self, InvalidSource> {
        let invalid = |reason| InvalidSource { text: text.chars().take(200).collect(), reason };
        for page in ["https://huggingface.co/", "https://hf.co/", "huggingface.co/", "hf.co/"] {
            if let Some(repo) = text.strip_prefix(page) {
                return hugging_face(repo).map_err(invalid);
            }
        }
        if text.starts_with("https://") || text.strip_prefix("http://").is_some_and(is_local) {
            return Ok(Self::Address { url: text.to_owned(), digest: None });
        }
        if text.starts_with("http://") {
            return Err(invalid("http:// is for this machine alone; use https://"));
        }
        match text.split_once(':') {
            Some(("hf", repo)) => hugging_face(repo).map_err(invalid),
            Some(("ollama", name)) => ollama(name).map_err(invalid),
            // What Ollama and Hugging Face call it themselves.
            _ if ollama(text).is_ok() && !text.contains('/') => Err(invalid("did you mean ollama:NAME?")),
            _ if hugging_face(text).is_ok() => Err(invalid("did you mean hf:ORG/REPO?")),
            _ => Err(invalid("it begins with none of the known words")),
        }
    }
}

/// Tells whether an address without its scheme is of this machine.
fn is_local(rest: &str) -> bool {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    let address: Option<std::net::IpAddr> = host.trim_matches(['[', ']']).parse().ok();
    host == "localhost" || address.is_some_and(|address| address.is_loopback())
}

fn hugging_face(text: &str) -> Result<Source, &'static str> {
    let (text, revision) = match text.rsplit_once('@') {
        Some((text, revision)) => (text, revision),
        None => (text, "main"),
    };
    let mut parts = text.splitn(3, '/');
    let (Some(org), Some(rest)) = (parts.next(), parts.next()) else {
        return Err("a repository is ORG/REPO");
    };
    let (name, kind) = match rest.split_once(':') {
        Some((name, kind)) => (name, Some(kind)),
        None => (rest, None),
    };
    let pick = match (kind, parts.next()) {
        (None, None | Some("")) => Pick::Fitting,
        // What the page of a file is called in a browser.
        (None, Some(file)) => {
            let at_revision = |word| file.strip_prefix(word)?.split_once('/').map(|(_, file)| file);
            let file = at_revision("blob/").or_else(|| at_revision("resolve/")).unwrap_or(file);
            Pick::File(file.to_owned())
        }
        (Some(kind), None) if is_name(kind) => Pick::Kind(kind.to_owned()),
        _ => return Err("the part after the repository is neither a kind nor a file"),
    };
    if let Pick::File(file) = &pick
        && !file.split('/').all(is_name)
    {
        return Err("the file's name cannot be one");
    }
    if ![org, name].into_iter().all(is_name) || !revision.split('/').all(is_name) {
        return Err("a name holds letters, digits and `-_.` alone");
    }
    Ok(Source::HuggingFace { repo: format!("{org}/{name}"), revision: revision.to_owned(), pick })
}

fn ollama(text: &str) -> Result<Source, &'static str> {
    let text = text.strip_prefix("registry.ollama.ai/").unwrap_or(text);
    let (name, tag) = text.split_once(':').unwrap_or((text, "latest"));
    let (space, name) = name.split_once('/').unwrap_or(("library", name));
    if ![space, name, tag].into_iter().all(is_name) {
        return Err("a name holds letters, digits and `-_.` alone");
    }
    Ok(Source::Ollama { name: format!("{space}/{name}"), tag: tag.to_owned() })
}

/// Tells whether a text can be a part of a path and of a URL, and nothing but.
pub(crate) fn is_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=200).contains(&text.len()) && text.chars().all(allowed) && !text.starts_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hf(repo: &str, revision: &str, pick: Pick) -> Source {
        Source::HuggingFace { repo: repo.to_owned(), revision: revision.to_owned(), pick }
    }

    #[track_caller]
    fn check(text: &str, expected: Source) {
        assert_eq!(text.parse(), Ok(expected));
    }

    #[test]
    fn sources_are_told_apart() {
        check("hf:Qwen/Qwen3-0.6B", hf("Qwen/Qwen3-0.6B", "main", Pick::Fitting));
        check("hf:a/b:Q4_K_M", hf("a/b", "main", Pick::Kind("Q4_K_M".to_owned())));
        check("hf:a/b/c/d.gguf@v1", hf("a/b", "v1", Pick::File("c/d.gguf".to_owned())));
        check(
            "https://huggingface.co/a/b/blob/main/c.gguf",
            hf("a/b", "main", Pick::File("c.gguf".to_owned())),
        );
        check(
            "ollama:llama3.2",
            Source::Ollama { name: "library/llama3.2".to_owned(), tag: "latest".to_owned() },
        );
        check("ollama:me/mine:q8", Source::Ollama { name: "me/mine".to_owned(), tag: "q8".to_owned() });
        let url = "https://example.org/model.gguf".to_owned();
        check(&url.clone(), Source::Address { url, digest: None });
        for url in ["http://127.0.0.1:9000/m.gguf", "http://[::1]/m", "http://localhost:1/m"] {
            check(url, Source::Address { url: url.to_owned(), digest: None });
        }
    }

    #[test]
    fn what_is_no_source_is_refused() {
        let all = [
            "",
            "qwen3",
            "hf:",
            "hf:a",
            "hf:a/",
            "hf:../b",
            "hf:a/..",
            "hf:a/b/../c",
            "hf:a/b:",
            "ollama:",
            "ollama:a/b/c",
            "hf:a/b@",
            "hf:a/b:Q4/x",
            "ftp://a/b",
            "hf:a/b?x=1",
            "hf:a/b/.hidden",
            "http://169.254.169.254/x",
            "http://127.0.0.1@example.org/x",
            "http://example.org/m.gguf",
        ];
        for text in all {
            assert!(text.parse::<Source>().is_err(), "{text}");
        }
    }
}
