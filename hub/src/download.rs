//! One file: resumed where an earlier try stopped, counted, hashed, and in the cache only when whole.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use mlxport_convert::files::is_plain_name;
use sha2::{Digest, Sha256};

use crate::http::{Ask, Client, header};
use crate::{HubError, Progress};

/// Bytes read at a time.
const BUFFER_BYTE_LEN: usize = 1 << 18;
/// Fewer new bytes than this in one try do not count as getting further, so a dribbling server ends, too.
const FURTHER_BYTE_LEN: u64 = 1 << 16;

/// What the hub says of a file before it is fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The blob's name in the cache: SHA-256 of large files, git's id of small ones.
    pub etag: String,
    /// Its length.
    pub byte_len: u64,
}

impl Claim {
    /// Asks the hub for it.
    ///
    /// # Errors
    /// As [`Client::ask`]; also when the headers say no length or no usable ETag.
    pub fn ask(client: &Client<'_>, url: &str) -> Result<Self, HubError> {
        let response = client.persist(|_| client.ask(url, Ask::Head))?;
        let headers = response.headers();
        let etag = header(headers, "x-linked-etag").or_else(|| header(headers, "etag")).unwrap_or_default();
        let etag = etag.trim_start_matches("W/").trim_matches('"').to_owned();
        if !is_plain_name(&etag) || etag.starts_with('.') || etag.len() > 128 {
            return Err(HubError::answer(url, "an ETag that can name a file", format!("{etag:?}")));
        }
        let redirected = response.status().is_redirection();
        let byte_len = header(headers, "x-linked-size")
            .or_else(|| if redirected { None } else { header(headers, "content-length") })
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| HubError::answer(url, "X-Linked-Size or Content-Length", "neither"))?;
        Ok(Self { etag, byte_len })
    }

    fn sha256(&self) -> Option<&str> {
        (self.etag.len() == 64 && self.etag.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(self.etag.as_str())
    }
}

/// Fetches `url` to `blob`. What has arrived waits in `<blob>.incomplete` for the next try.
///
/// # Errors
/// When it cannot be had whole and as claimed; a file with the wrong length or hash is deleted.
pub fn download(
    client: &Client<'_>,
    (name, url): (&str, &str),
    claim: &Claim,
    blob: &Path,
    progress: &dyn Progress,
) -> Result<(), HubError> {
    let _lock = lock(&with_ending(blob, "lock"))?;
    if blob.is_file() {
        return Ok(());
    }
    let part = with_ending(blob, "incomplete");
    let mut file = OpenOptions::new().create(true).append(true).open(&part).map_err(HubError::io("create", &part))?;
    let mut done = file.metadata().map_err(HubError::io("read", &part))?.len();
    if done > claim.byte_len {
        file.set_len(0).map_err(HubError::io("shorten", &part))?;
        done = 0;
    }
    progress.file(name, claim.byte_len, done);
    let mut transfer = Transfer { client, url, part: &part, file: &mut file, done, byte_len: claim.byte_len, progress };
    client.persist(|further| transfer.go(further))?;
    file.sync_all().map_err(HubError::io("flush", &part))?;
    check(name, claim, &part)?;
    std::fs::rename(&part, blob).map_err(HubError::io("rename", &part))?;
    progress.finish();
    Ok(())
}

struct Transfer<'a> {
    client: &'a Client<'a>,
    url: &'a str,
    part: &'a Path,
    file: &'a mut File,
    done: u64,
    byte_len: u64,
    progress: &'a dyn Progress,
}

impl Transfer<'_> {
    /// One request for what is missing.
    fn go(&mut self, further: &mut bool) -> Result<(), HubError> {
        if self.done == self.byte_len {
            return Ok(());
        }
        let response = self.client.ask(self.url, Ask::From(self.done))?;
        let starts = header(response.headers(), "content-range").and_then(range_start);
        if self.done > 0 && (response.status() != 206 || starts != Some(self.done)) {
            self.begin_anew()?;
            if response.status() != 200 {
                return self.go(further);
            }
        }
        let before = self.done;
        let outcome = self.receive(&mut response.into_body().into_reader());
        *further = self.done >= before + FURTHER_BYTE_LEN;
        outcome
    }

    fn receive(&mut self, body: &mut impl Read) -> Result<(), HubError> {
        let broke = |url: &str, reason: String| HubError::Unreachable { url: url.to_owned(), reason };
        let mut buffer = vec![0; BUFFER_BYTE_LEN];
        loop {
            let count = body.read(&mut buffer).map_err(|error| broke(self.url, error.to_string()))?;
            if count == 0 {
                break;
            }
            if self.done + count as u64 > self.byte_len {
                let expected = format!("{} bytes", self.byte_len);
                // Whatever this is, it is not the file: nothing of it may be built upon.
                self.begin_anew()?;
                return Err(HubError::answer(self.url, expected, "more"));
            }
            self.file.write_all(&buffer[..count]).map_err(HubError::io("write", self.part))?;
            self.done += count as u64;
            self.progress.advance(count as u64);
        }
        if self.done == self.byte_len {
            return Ok(());
        }
        Err(broke(self.url, format!("ended after {} of {} bytes", self.done, self.byte_len)))
    }

    fn begin_anew(&mut self) -> Result<(), HubError> {
        self.file.set_len(0).map_err(HubError::io("shorten", self.part))?;
        self.done = 0;
        self.progress.restart();
        Ok(())
    }
}

/// `bytes 5-9/10` → 5.
fn range_start(text: &str) -> Option<u64> {
    text.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok()
}

fn check(name: &str, claim: &Claim, part: &Path) -> Result<(), HubError> {
    let Some(expected) = claim.sha256() else { return Ok(()) };
    let mut file = File::open(part).map_err(HubError::io("read", part))?;
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; BUFFER_BYTE_LEN]);
    loop {
        let count = file.read(&mut buffer).map_err(HubError::io("read", part))?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
    }
    let found: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if found.eq_ignore_ascii_case(expected) {
        return Ok(());
    }
    std::fs::remove_file(part).map_err(HubError::io("remove", part))?;
    Err(HubError::answer(name, format!("SHA-256 {expected}"), found))
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    PathBuf::from(name)
}

/// Held until dropped, and let go by the system when the process dies.
fn lock(path: &Path) -> Result<File, HubError> {
    let file = File::create(path).map_err(HubError::io("create", path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(HubError::Locked(path.to_owned())),
        Err(std::fs::TryLockError::Error(error)) => Err(HubError::io("lock", path)(error)),
    }
}
