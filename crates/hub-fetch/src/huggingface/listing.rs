use hub_base::CancelToken;
use serde::Deserialize;
use ureq::http::{HeaderMap, StatusCode, header};

use super::resolve_url;
use crate::{
    Digest, Error, Fetcher, Result,
    choose::RepoFile,
    web::{Ask, host_of},
};

/// The most files of a repository that are looked at.
const MAX_FILES: usize = 20_000;

/// What a repository holds at one commit.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) commit: String,
    pub(super) files: Vec<Listed>,
}

/// A file of a repository, as far as it is known.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) bytes: Option<u64>,
    pub(super) digest: Option<Digest>,
    /// What the cache calls its content.
    pub(super) etag: Option<String>,
}

/// The answer of `/api/models/{repo}/revision/{revision}?blobs=true`.
#[derive(Deserialize)]
struct Info {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    #[serde(alias = "oid")]
    sha256: String,
    size: u64,
}

impl Listing {
    pub(super) fn ask(fetcher: &Fetcher, repo: &str, revision: &str, cancel: &CancelToken) -> Result<Self> {
        let endpoint = fetcher.options.hf_endpoint.trim_end_matches('/');
        // A branch may hold slashes, which are one part of the path here.
        let revision = revision.replace('/', "%2F");
        let url = format!("{endpoint}/api/models/{repo}/revision/{revision}?blobs=true");
        let ask = Ask { url: &url, bearer: fetcher.options.hf_token.as_deref(), ..Ask::default() };
        let mut answer = fetcher.web.json(&ask, cancel)?;
        if revision == "main" && matches!(answer, Err(StatusCode::NOT_FOUND)) {
            // Mirrors that keep one revision know it without a name.
            let plain = format!("{endpoint}/api/models/{repo}?blobs=true");
            answer = fetcher.web.json(&Ask { url: &plain, ..ask.clone() }, cancel)?;
        }
        let info: Info = answer.map_err(|status| refused(fetcher, repo, &url, status))?;
        let is_commit =
            (1..=64).contains(&info.sha.len()) && info.sha.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !is_commit {
            let reason = format!("{:?} is no commit", info.sha.chars().take(80).collect::<String>());
            return Err(Error::Answer { url, reason });
        }
        let files = info.siblings.into_iter().take(MAX_FILES).filter(|sibling| is_safe(&sibling.rfilename));
        Ok(Self { commit: info.sha, files: files.map(Listed::from).collect() })
    }

    pub(super) fn repo_files(&self) -> Vec<RepoFile> {
        let file = |listed: &Listed| RepoFile { name: listed.name.clone(), bytes: listed.bytes.unwrap_or(0) };
        self.files.iter().map(file).collect()
    }
}

impl From<Sibling> for Listed {
    fn from(sibling: Sibling) -> Self {
        let Sibling { rfilename: name, size, blob_id, lfs } = sibling;
        let (bytes, digest) = match lfs {
            Some(lfs) => (Some(lfs.size), Digest::sha256(&lfs.sha256)),
            None => (size, blob_id.as_deref().and_then(Digest::git_blob)),
        };
        let etag = digest.as_ref().map(|digest| digest.digits().to_owned());
        Self { name, bytes, digest, etag }
    }
}

impl Listed {
    /// Asks the file itself for what the listing does not say.
    pub(super) fn complete(
        &mut self,
        fetcher: &Fetcher,
        repo: &str,
        commit: &str,
        cancel: &CancelToken,
    ) -> Result<()> {
        if self.bytes.is_some() && self.etag.is_some() {
            return Ok(());
        }
        let url = resolve_url(&fetcher.options.hf_endpoint, repo, commit, &self.name);
        let bearer = fetcher.options.hf_token.as_deref();
        // The answer itself says it; where it leads to is another server.
        let ask = Ask { url: &url, bearer, is_head: true, stays: true, ..Ask::default() };
        let response = fetcher.web.ask(&ask, cancel)?;
        let status = response.status();
        if !(status.is_success() || status.is_redirection()) {
            return Err(refused(fetcher, repo, &url, status));
        }
        let headers = response.headers();
        let length =
            text(headers, "x-linked-size").or_else(|| text(headers, header::CONTENT_LENGTH.as_str()));
        self.bytes = length.and_then(|length| length.parse().ok()).or(self.bytes);
        let etag = text(headers, "x-linked-etag").or_else(|| text(headers, header::ETAG.as_str()));
        let etag = etag.map(|etag| etag.trim_start_matches("W/").trim_matches('"'));
        self.digest = etag.and_then(|etag| Digest::sha256(etag).or_else(|| Digest::git_blob(etag)));
        // It becomes the name of a file.
        self.etag = etag.filter(|etag| crate::source::is_name(etag)).map(str::to_owned);
        Ok(())
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Tells whether a name stays inside the folder it is put into.
fn is_safe(name: &str) -> bool {
    let is_part = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\\', ':', '\0']);
    name.len() <= 1_024 && name.split('/').all(is_part)
}

fn refused(fetcher: &Fetcher, repo: &str, url: &str, status: StatusCode) -> Error {
    let endpoint = fetcher.options.hf_endpoint.trim_end_matches('/');
    let has_token = fetcher.options.hf_token.is_some();
    match status {
        // Hugging Face says 401 of what does not exist, too, so that nobody learns which names are private.
        StatusCode::UNAUTHORIZED if !has_token => Error::NotFound {
            what: format!("open repository {repo}"),
            registry: endpoint.to_owned(),
            hint: "; a gated or private one needs HF_TOKEN",
        },
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Error::Denied {
            what: repo.to_owned(),
            next: format!(
                "accept its conditions at {endpoint}/{repo}, and set HF_TOKEN to a token of that account that may read it"
            ),
        },
        StatusCode::NOT_FOUND => Error::NotFound {
            what: format!("repository or revision {repo}"),
            registry: host_of(url),
            hint: "",
        },
        status => Error::Status { url: url.to_owned(), status: status.as_u16() },
    }
}
