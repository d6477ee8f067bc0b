//! One file: fetched in parts, resumed, verified, and only then visible.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use hub_base::CancelToken;
use ureq::http::{Response, StatusCode, header};

use crate::{
    Digest, Error, Result,
    event::{Counter, Sink, Stage},
    journal::Journal,
    parts::Parts,
    web::{Ask, Failure, TRIES, Web, host_of, rest},
};

/// How much is read at a time.
const BUFFER_BYTES: usize = 128 << 10;
/// How often another process's lock is looked at.
const LOCK_STEP: Duration = Duration::from_millis(100);

/// A file to fetch.
#[derive(Clone, Debug)]
pub(crate) struct Blob<'a> {
    /// Its name in the repository, for people.
    pub(crate) name: &'a str,
    pub(crate) url: &'a str,
    pub(crate) bearer: Option<&'a str>,
    pub(crate) len: u64,
    /// What its bytes must hash to; `None` for a small file whose server does not say.
    pub(crate) digest: Option<&'a Digest>,
    /// What tells this content from another at the same address.
    pub(crate) identity: &'a str,
    /// Where it becomes visible.
    pub(crate) target: PathBuf,
    /// Held by whoever fetches it.
    pub(crate) lock: PathBuf,
}

/// How a file is fetched.
#[derive(Clone, Copy)]
pub(crate) struct Task<'a> {
    pub(crate) web: &'a Web,
    pub(crate) connections: usize,
    pub(crate) sink: Sink<'a>,
    pub(crate) cancel: &'a CancelToken,
}

/// Why the parts of a file did not all arrive.
enum Stop {
    /// The server sends whole files only.
    NoRanges,
    Error(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// What the threads that fetch one file share.
struct Shared<'a> {
    blob: &'a Blob<'a>,
    task: Task<'a>,
    partial: &'a Path,
    parts: Mutex<Parts>,
    journal: Mutex<Journal>,
    counter: &'a Counter<'a>,
    /// Set once a thread has failed.
    is_over: AtomicBool,
}

/// How much of a file may have arrived before its journal is read: no file is longer than this and what is free.
const MAX_DONE_BYTES: u64 = 4 << 40;

/// Makes a file be there, whole and verified: fetched, or found.
///
/// # Errors
/// What the network, the server or the disk failed of. What arrived is kept for the next run, unless its digest is
/// wrong.
pub(crate) fn fetch(blob: &Blob<'_>, task: Task<'_>) -> Result<()> {
    let counter = Counter::new(blob.name, blob.len, task.sink);
    if !is_whole(&blob.target, blob.len) {
        let _lock = lock(blob, task, &counter)?;
        // Whoever held the lock before may have fetched it.
        if !is_whole(&blob.target, blob.len) {
            fetch_locked(blob, task, &counter)?;
        }
    }
    counter.tell(Stage::Done, blob.len, 0.0);
    Ok(())
}

fn fetch_locked(blob: &Blob<'_>, task: Task<'_>, counter: &Counter<'_>) -> Result<()> {
    let partial = beside(&blob.target, "incomplete");
    let journal_path = beside(&blob.target, "parts");
    let disk = |path: &Path| Error::disk(path);
    // Before anything is made as large as somebody says.
    check_space(blob, MAX_DONE_BYTES)?;
    let file =
        OpenOptions::new().create(true).truncate(false).write(true).open(&partial).map_err(disk(&partial))?;
    let (journal, parts) =
        Journal::open(&journal_path, blob.identity, blob.len).map_err(disk(&journal_path))?;
    check_space(blob, parts.done_bytes())?;
    file.set_len(blob.len).map_err(disk(&partial))?;
    drop(file);
    counter.begin(Stage::Fetching, parts.done_bytes());
    let shared = Shared {
        blob,
        task,
        partial: &partial,
        parts: Mutex::new(parts),
        journal: Mutex::new(journal),
        counter,
        is_over: AtomicBool::new(false),
    };
    match shared.fetch_parts() {
        Ok(()) => {}
        Err(Stop::NoRanges) => shared.fetch_whole()?,
        Err(Stop::Error(error)) => return Err(error),
    }
    let journal = shared.journal.into_inner().unwrap_or_else(PoisonError::into_inner);
    verify(blob, &partial, task, counter, journal)
}

/// Tells whether a file is there, as long as it should be. What is shorter was damaged, and is fetched again.
pub(crate) fn is_whole(path: &Path, len: u64) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() == len)
}

/// Waits for its turn where another process fetches the same file.
fn lock(blob: &Blob<'_>, task: Task<'_>, counter: &Counter<'_>) -> Result<File> {
    for folder in [blob.lock.parent(), blob.target.parent()].into_iter().flatten() {
        fs::create_dir_all(folder).map_err(Error::disk(folder))?;
    }
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&blob.lock);
    let file = file.map_err(Error::disk(&blob.lock))?;
    let mut is_told = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(source)) => return Err(Error::disk(&blob.lock)(source)),
        }
        if task.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        if !is_told {
            counter.tell(Stage::Waiting, 0, 0.0);
            is_told = true;
        }
        thread::sleep(LOCK_STEP);
    }
}

fn check_space(blob: &Blob<'_>, done: u64) -> Result<()> {
    let folder = blob.target.parent().unwrap_or(Path::new("."));
    let needed = blob.len.saturating_sub(done);
    let free = fs4::available_space(folder).map_err(Error::disk(folder))?;
    if needed > free { Err(Error::Space { needed, free, folder: folder.to_owned() }) } else { Ok(()) }
}

/// Compares the digest, and makes the file visible if it is right; throws it away if not.
fn verify(
    blob: &Blob<'_>,
    partial: &Path,
    task: Task<'_>,
    counter: &Counter<'_>,
    journal: Journal,
) -> Result<()> {
    counter.begin(Stage::Verifying, 0);
    let disk = || Error::disk(partial);
    // Windows flushes only what may be written to.
    let mut file = OpenOptions::new().read(true).write(true).open(partial).map_err(disk())?;
    if let Some(expected) = blob.digest {
        let read = |bytes| counter.add(Stage::Verifying, bytes);
        let found = expected.of_file(&mut file, read, task.cancel).map_err(disk())?;
        let found = found.ok_or(Error::Cancelled)?;
        if found != *expected {
            journal.remove().and_then(|()| fs::remove_file(partial)).map_err(disk())?;
            return Err(Error::Digest { file: blob.name.to_owned(), expected: expected.clone(), found });
        }
    }
    // So that a power cut leaves either nothing visible or all of it.
    file.sync_all().map_err(disk())?;
    drop(file);
    fs::rename(partial, &blob.target).map_err(Error::disk(&blob.target))?;
    journal.remove().map_err(disk())
}

impl Shared<'_> {
    /// Fetches what is still to come, several parts at once.
    fn fetch_parts(&self) -> std::result::Result<(), Stop> {
        let threads = self.task.connections.max(1).min(self.parts().left());
        thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(|| self.work())).collect();
            let join = |worker: thread::ScopedJoinHandle<'_, _>| {
                worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            // All are waited for; the first failure is the reason for the others.
            let ended: Vec<_> = workers.into_iter().map(join).collect();
            ended.into_iter().collect()
        })
    }

    fn work(&self) -> std::result::Result<(), Stop> {
        let done = self.open().map_err(Stop::Error).and_then(|mut file| {
            while !self.is_over.load(Ordering::Relaxed) {
                let Some((part, range)) = self.take() else { break };
                self.fetch_part(range, &mut file)?;
                self.journal().finish(part).map_err(Error::disk(self.partial))?;
            }
            Ok(())
        });
        if done.is_err() {
            self.is_over.store(true, Ordering::Relaxed);
        }
        done
    }

    fn take(&self) -> Option<(usize, Range<u64>)> {
        let mut parts = self.parts();
        let part = parts.take()?;
        Some((part, parts.range(part)))
    }

    /// Fetches one part, going on after breaks for as long as something arrives between them.
    fn fetch_part(&self, range: Range<u64>, file: &mut File) -> std::result::Result<(), Stop> {
        let mut at = range.start;
        let mut tries = 0;
        while at < range.end {
            let before = at;
            let failure = match self.stream(&mut at, range.end, file)? {
                Ok(()) => continue,
                Err(failure) => failure,
            };
            tries = if at > before { 1 } else { tries + 1 };
            match failure {
                Failure::Passing(_, after) if tries < TRIES => rest(tries, after, self.task.cancel)?,
                Failure::Passing(error, _) | Failure::Lasting(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Asks for the bytes from `at` to `end` once, and writes what comes; `at` moves with it.
    fn stream(
        &self,
        at: &mut u64,
        end: u64,
        file: &mut File,
    ) -> std::result::Result<std::result::Result<(), Failure>, Stop> {
        let Blob { url, bearer, len, .. } = *self.blob;
        let ask = Ask { url, bearer, range: Some(*at..end), ..Ask::default() };
        let mut response = match self.task.web.try_once(&ask) {
            Ok(response) => response,
            Err(failure) => return Ok(Err(failure)),
        };
        match response.status() {
            StatusCode::PARTIAL_CONTENT => check_range(url, &response, *at, len)?,
            // The whole file from its beginning is as good as the part, if that is what was asked for.
            StatusCode::OK if *at == 0 && end == len => {}
            StatusCode::OK => return Err(Stop::NoRanges),
            status => return Err(refused(self.blob, status).into()),
        }
        file.seek(SeekFrom::Start(*at)).map_err(Error::disk(self.partial))?;
        let mut body = response.body_mut().as_reader();
        Ok(self.copy(&mut body, at, end, file)?)
    }

    /// Writes a body to the file until `end`; more than that is not read.
    fn copy(
        &self,
        body: &mut impl Read,
        at: &mut u64,
        end: u64,
        file: &mut File,
    ) -> Result<std::result::Result<(), Failure>> {
        let broken = |source: io::Error| {
            Failure::Passing(Error::Network { host: host_of(self.blob.url), source: source.into() }, None)
        };
        let mut buffer = vec![0; BUFFER_BYTES];
        while *at < end {
            if self.task.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let wanted = usize::try_from(end - *at).unwrap_or(usize::MAX).min(BUFFER_BYTES);
            let count = match body.read(&mut buffer[..wanted]) {
                Ok(0) => return Ok(Err(broken(io::ErrorKind::UnexpectedEof.into()))),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Ok(Err(broken(error))),
            };
            file.write_all(&buffer[..count]).map_err(Error::disk(self.partial))?;
            *at += count as u64;
            self.counter.add(Stage::Fetching, count as u64);
        }
        Ok(Ok(()))
    }

    /// Fetches the file from its beginning over one connection, each time anew: the server sends nothing but that.
    fn fetch_whole(&self) -> Result<()> {
        let Blob { url, bearer, len, .. } = *self.blob;
        let mut file = self.open()?;
        let mut tries = 0;
        loop {
            tries += 1;
            self.counter.restart();
            let ask = Ask { url, bearer, ..Ask::default() };
            let mut response = self.task.web.ask(&ask, self.task.cancel)?;
            if response.status() != StatusCode::OK {
                return Err(refused(self.blob, response.status()));
            }
            file.seek(SeekFrom::Start(0)).map_err(Error::disk(self.partial))?;
            let mut at = 0;
            match self.copy(&mut response.body_mut().as_reader(), &mut at, len, &mut file)? {
                Ok(()) => return Ok(()),
                Err(Failure::Passing(_, after)) if tries < TRIES => rest(tries, after, self.task.cancel)?,
                Err(Failure::Passing(error, _) | Failure::Lasting(error)) => return Err(error),
            }
        }
    }

    fn open(&self) -> Result<File> {
        OpenOptions::new().write(true).open(self.partial).map_err(Error::disk(self.partial))
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Checks that a part is of the file that was announced, and begins where it was asked for.
fn check_range<B>(url: &str, response: &Response<B>, start: u64, len: u64) -> Result<()> {
    let text = response.headers().get(header::CONTENT_RANGE).and_then(|range| range.to_str().ok());
    let answer = |reason: String| Error::Answer { url: url.to_owned(), reason };
    let text = text.ok_or_else(|| answer("it sends a part and does not say which".to_owned()))?;
    let parsed = || {
        let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
        let (begin, _) = range.split_once('-')?;
        Some((begin.parse::<u64>().ok()?, total))
    };
    match parsed() {
        Some((begin, total)) if begin == start && (total == "*" || total.parse() == Ok(len)) => Ok(()),
        _ => Err(answer(format!("it sends {text:?} of a file of {len} bytes, from {start} on"))),
    }
}

/// Says what an answer without the file means.
fn refused(blob: &Blob<'_>, status: StatusCode) -> Error {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Error::Denied {
            what: blob.name.to_owned(),
            next: format!("{} does not let this machine have it", host_of(blob.url)),
        },
        StatusCode::NOT_FOUND | StatusCode::GONE => {
            Error::NotFound { what: blob.name.to_owned(), registry: host_of(blob.url), hint: "" }
        }
        status => Error::Status { url: blob.url.to_owned(), status: status.as_u16() },
    }
}

/// Returns the path of a file that accompanies another.
fn beside(target: &Path, suffix: &str) -> PathBuf {
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(format!(".hub-{suffix}"));
    target.with_file_name(name)
}
