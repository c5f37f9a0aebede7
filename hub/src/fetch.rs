//! All of a release that a conversion reads, as one snapshot directory of the cache.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use hf_hub::api::RepoInfo;
use hf_hub::{Cache, CacheRepo, Repo, RepoType};
use mlxport_convert::ConvertError;
use mlxport_convert::checkpoint::index;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::download::{Claim, download};
use crate::http::{Ask, Client};
use crate::{HubError, HubId, Progress, Settings, select};

/// The longest description of a repository that is read, in bytes.
const MAX_INFO_BYTE_LEN: u64 = 32 << 20;

/// What a file name in an address is escaped by: RFC 3986 leaves letters, digits and these four alone.
const IN_ADDRESSES: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Makes sure the cache has what a conversion reads of a release, and says where: the directory of that commit's snapshot.
///
/// # Errors
/// Whatever keeps it from being complete; what has arrived stays for the next try.
pub fn fetch(id: &HubId, settings: &Settings, progress: &dyn Progress) -> Result<PathBuf, HubError> {
    let repo = Repo::with_revision(id.repo.clone(), RepoType::Model, id.revision.clone());
    let cache = Cache::new(settings.cache.clone()).repo(repo.clone());
    if settings.offline {
        return cached(id, settings, &repo, &cache);
    }
    let client = Client::new(settings);
    let info_url = format!("{}/api/{}", settings.endpoint, repo.api_url());
    let info = client.persist(|_| info(&client, &info_url))?;
    if !is_commit(&info.sha) {
        return Err(HubError::answer(info_url, "a commit of 40 hex digits", format!("{:?}", info.sha)));
    }
    let top = select::top_level(info.siblings.into_iter().map(|sibling| sibling.rfilename))?;
    lacking(&id.repo, &top, Vec::new())?;
    let base = format!("{}/{}/resolve/{}", settings.endpoint, repo.url(), info.sha);
    let snapshot = Snapshot { client: &client, base, cache: &cache, dir: cache.pointer_path(&info.sha), progress };
    snapshot.fill(&id.repo, &top)?;
    if id.revision != info.sha {
        cache.create_ref(&info.sha).map_err(HubError::io("write the revision under", &settings.cache))?;
    }
    Ok(snapshot.dir)
}

fn info(client: &Client<'_>, url: &str) -> Result<RepoInfo, HubError> {
    let mut bytes = Vec::new();
    let body = client.ask(url, Ask::From(0))?.into_body().into_reader();
    body.take(MAX_INFO_BYTE_LEN + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| HubError::Unreachable { url: url.to_owned(), reason: error.to_string() })?;
    if bytes.len() as u64 > MAX_INFO_BYTE_LEN {
        return Err(HubError::answer(url, format!("at most {MAX_INFO_BYTE_LEN} bytes"), "more"));
    }
    serde_json::from_slice(&bytes)
        .map_err(|error| HubError::answer(url, "a repository's description in JSON", error.to_string()))
}

struct Snapshot<'a> {
    client: &'a Client<'a>,
    base: String,
    cache: &'a CacheRepo,
    dir: PathBuf,
    progress: &'a dyn Progress,
}

impl Snapshot<'_> {
    fn fill(&self, repo: &str, top: &BTreeSet<String>) -> Result<(), HubError> {
        for name in select::small(top) {
            self.get(&name)?;
        }
        let weights = weights(&self.dir, top)?;
        lacking(repo, top, weights.clone())?;
        weights.iter().try_for_each(|name| self.get(name))
    }

    /// One file: nothing where the snapshot has it, else through the blob of its ETag.
    fn get(&self, name: &str) -> Result<(), HubError> {
        let pointer = self.dir.join(name);
        if pointer.is_file() {
            return Ok(());
        }
        let url = format!("{}/{}", self.base, utf8_percent_encode(name, IN_ADDRESSES));
        let claim = Claim::ask(self.client, &url)?;
        let blob = self.cache.blob_path(&claim.etag);
        for dir in [blob.parent(), Some(self.dir.as_path())].into_iter().flatten() {
            std::fs::create_dir_all(dir).map_err(HubError::io("create", dir))?;
        }
        if !blob.is_file() {
            download(self.client, (name, &url), &claim, &blob, self.progress)?;
        }
        link(&claim.etag, &pointer)
    }
}

/// `snapshots/<commit>/<name>` → `blobs/<etag>`, relative, as every client of this cache writes it.
fn link(etag: &str, pointer: &Path) -> Result<(), HubError> {
    // A link whose blob was deleted is in the way.
    if pointer.is_symlink() {
        std::fs::remove_file(pointer).map_err(HubError::io("remove", pointer))?;
    }
    std::os::unix::fs::symlink(Path::new("../../blobs").join(etag), pointer).map_err(HubError::io("create", pointer))
}

/// The weight files of a release: what the index that counts names, where there is one.
fn weights(dir: &Path, have: &BTreeSet<String>) -> Result<Vec<String>, HubError> {
    let form = select::index_form(have);
    if !have.contains(form.file_name) {
        return Ok(select::weights(have));
    }
    let (index, violations) = index::read(&dir.join(form.file_name), form);
    ConvertError::unless_empty(violations).map_err(HubError::Index)?;
    let names: BTreeSet<String> = index.weight_map.into_values().collect();
    Ok(names.into_iter().collect())
}

/// An error that names everything a conversion needs and `have` lacks.
fn lacking(place: &str, have: &BTreeSet<String>, mut needed: Vec<String>) -> Result<(), HubError> {
    needed.push(select::CONFIG_FILE.to_owned());
    needed.retain(|name| !have.contains(name));
    if select::weights(have).is_empty() {
        needed.push("any *.safetensors or pytorch_model*.bin".to_owned());
    }
    if needed.is_empty() { Ok(()) } else { Err(HubError::Missing { place: place.to_owned(), names: needed }) }
}

/// The snapshot of an earlier download, complete or an error.
fn cached(id: &HubId, settings: &Settings, repo: &Repo, cache: &CacheRepo) -> Result<PathBuf, HubError> {
    let place = |what: &str| {
        format!("{}@{} in {} (HF_HUB_OFFLINE is set): {what}", id.repo, id.revision, settings.cache.display())
    };
    let commit = if is_commit(&id.revision) {
        id.revision.clone()
    } else {
        let path = settings.cache.join(repo.folder_name()).join("refs").join(&id.revision);
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.trim().to_owned()
    };
    let dir = cache.pointer_path(&commit);
    if !is_commit(&commit) || !dir.is_dir() {
        return Err(HubError::Missing { place: place("never downloaded"), names: vec!["all files".to_owned()] });
    }
    let entries = std::fs::read_dir(&dir).map_err(HubError::io("list", &dir))?.flatten();
    let whole = entries.filter(|entry| entry.path().is_file());
    let have: BTreeSet<String> = whole.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    let needed = weights(&dir, &have)?;
    lacking(&place("incomplete"), &have, needed)?;
    Ok(dir)
}

fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
