//! A file at an address, with what its bytes must hash to.

use hub_base::CancelToken;
use ureq::http::{StatusCode, header};

use crate::{
    Digest, Error, Fetcher, Origin, Plan, PlannedFile, Result,
    plan::Finish,
    source::is_name,
    web::{Ask, host_of},
};

pub(crate) fn plan(
    fetcher: &Fetcher,
    url: &str,
    digest: Option<&Digest>,
    cancel: &CancelToken,
) -> Result<Plan> {
    let digest = digest.ok_or_else(|| Error::NoChecksum { url: url.to_owned() })?;
    let path = url.split(['?', '#']).next().unwrap_or(url);
    let name = path.rsplit('/').next().filter(|name| is_name(name)).unwrap_or("model.gguf");
    // The digest makes the folder: two files of one name do not meet.
    let folder = fetcher.options.models.join("addresses").join(digest.digits());
    let target = folder.join(name);
    let is_here = target.exists();
    let bytes = match target.metadata() {
        Ok(metadata) => metadata.len(),
        Err(_) if fetcher.options.is_offline => {
            return Err(Error::Offline { what: url.to_owned(), place: Some(target) });
        }
        Err(_) => length(fetcher, url, cancel)?,
    };
    let file = PlannedFile {
        name: name.to_owned(),
        bytes,
        digest: Some(digest.clone()),
        is_here,
        url: url.to_owned(),
        bearer: None,
        identity: digest.to_string(),
        lock: folder.join(format!("{name}.lock")),
        target: target.clone(),
    };
    Ok(Plan {
        origin: Origin::Address { url: url.to_owned() },
        files: vec![file],
        reason: "it was asked for".to_owned(),
        finish: Finish::Address(target),
    })
}

/// Asks how long the file is: by its head, or by one byte of it where the server answers no such question.
fn length(fetcher: &Fetcher, url: &str, cancel: &CancelToken) -> Result<u64> {
    let head = fetcher.web.ask(&Ask { url, is_head: true, ..Ask::default() }, cancel)?;
    let number = |text: Option<&str>| text.and_then(|text| text.trim().parse().ok());
    let text = |name| head.headers().get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
    if head.status().is_success()
        && let Some(length) = number(text(header::CONTENT_LENGTH))
    {
        return Ok(length);
    }
    if head.status() == StatusCode::NOT_FOUND {
        return Err(Error::NotFound { what: "such file".to_owned(), registry: host_of(url), hint: "" });
    }
    let first = fetcher.web.ask(&Ask { url, range: Some(0..1), ..Ask::default() }, cancel)?;
    let range = first.headers().get(header::CONTENT_RANGE).and_then(|range| range.to_str().ok());
    let total = number(range.and_then(|range| range.rsplit('/').next()));
    match (first.status(), total) {
        (StatusCode::PARTIAL_CONTENT, Some(total)) => Ok(total),
        (status, _) if !status.is_success() => {
            Err(Error::Status { url: url.to_owned(), status: status.as_u16() })
        }
        _ => Err(Error::Answer {
            url: url.to_owned(),
            reason: "it does not say how long the file is".to_owned(),
        }),
    }
}
