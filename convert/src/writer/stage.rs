//! A directory that appears complete or not at all.
//!
//! Work happens in a fresh hidden directory beside the target (same file system, so that a rename is atomic). Dropping the stage before
//! [`Stage::commit`] removes everything it made.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::error::ConvertError;

/// The unfinished directory.
#[derive(Debug)]
pub struct Stage {
    target: PathBuf,
    parent: PathBuf,
    // Dropped before `made_parents`, so that the parents are empty when their turn comes.
    dir: TempDir,
    made_parents: MadeParents,
}

impl Stage {
    /// Prepares to make `target`; `source` is the directory read from, which must not be replaced or removed.
    ///
    /// # Errors
    /// [`ConvertError::TargetExists`] without `force`; [`ConvertError::BadTarget`] for a target that has no name or holds the source;
    /// [`ConvertError::Io`] when the system refuses.
    pub fn open(target: &Path, force: bool, source: Option<&Path>) -> Result<Self, ConvertError> {
        let bad = |reason: &str| ConvertError::BadTarget { path: target.to_owned(), reason: reason.to_owned() };
        let name = target.file_name().ok_or_else(|| bad("not the name of a directory to make"))?;
        let parent = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        if fs::symlink_metadata(target).is_ok() {
            if !force {
                return Err(ConvertError::TargetExists(target.to_owned()));
            }
            if let (Some(Ok(source)), Ok(target)) = (source.map(fs::canonicalize), fs::canonicalize(target))
                && source.starts_with(&target)
            {
                return Err(bad("the source lies in it; replacing it would destroy the source"));
            }
        }
        let made_parents = MadeParents::make(&parent)?;
        let dir = beside(&parent, &name.to_string_lossy(), "new")?;
        Ok(Self { target: target.to_owned(), parent, dir, made_parents })
    }

    /// Where to write.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Puts the finished directory in place. What was there before is moved aside first and removed last, and comes back when the
    /// second rename fails.
    ///
    /// # Errors
    /// [`ConvertError::Io`] when the system refuses; the target is then what it was.
    pub fn commit(mut self) -> Result<(), ConvertError> {
        sync(self.dir.path())?;
        let mut aside = None;
        if fs::symlink_metadata(&self.target).is_ok() {
            let name = self.target.file_name().unwrap_or_default();
            let old = beside(&self.parent, &name.to_string_lossy(), "old")?;
            let kept = old.path().join("target");
            fs::rename(&self.target, &kept).map_err(ConvertError::io("move aside", &self.target))?;
            aside = Some((old, kept));
        }
        if let Err(error) = fs::rename(self.dir.path(), &self.target) {
            if let Some((_, kept)) = &aside {
                fs::rename(kept, &self.target).map_err(ConvertError::io("restore", &self.target))?;
            }
            return Err(ConvertError::io("rename into place", &self.target)(error));
        }
        self.dir.disable_cleanup(true);
        self.made_parents.0.clear();
        sync(&self.parent)?;
        match aside {
            Some((old, kept)) => remove_old(old, &kept),
            None => Ok(()),
        }
    }
}

fn remove_old(old: TempDir, kept: &Path) -> Result<(), ConvertError> {
    // A link or a file is removed itself; only a real directory is removed with what is in it.
    let is_dir = fs::symlink_metadata(kept).is_ok_and(|meta| meta.is_dir());
    let removed = if is_dir { fs::remove_dir_all(kept) } else { fs::remove_file(kept) };
    removed.map_err(ConvertError::io("remove the old target at", kept))?;
    let path = old.path().to_owned();
    old.close().map_err(ConvertError::io("remove", &path))
}

/// A fresh hidden directory in `parent`; its name is random, so a stale one never collides.
fn beside(parent: &Path, name: &str, role: &str) -> Result<TempDir, ConvertError> {
    let short: String = name.chars().take(64).collect();
    tempfile::Builder::new()
        .prefix(&format!(".{short}.mlxport-{role}-"))
        // The usual permissions of a new directory (less the umask), not a private one's.
        .permissions(Permissions::from_mode(0o777))
        .tempdir_in(parent)
        .map_err(ConvertError::io("create a directory in", parent))
}

fn sync(directory: &Path) -> Result<(), ConvertError> {
    File::open(directory).and_then(|dir| dir.sync_all()).map_err(ConvertError::io("flush", directory))
}

/// Parents made for the target, outermost first; removed again (while empty) unless the target was put there.
#[derive(Debug, Default)]
struct MadeParents(Vec<PathBuf>);

impl MadeParents {
    fn make(parent: &Path) -> Result<Self, ConvertError> {
        let mut missing: Vec<&Path> =
            parent.ancestors().filter(|path| !path.as_os_str().is_empty()).take_while(|path| !path.exists()).collect();
        missing.reverse();
        let mut made = Self::default();
        for path in missing {
            fs::create_dir(path).map_err(ConvertError::io("create", path))?;
            made.0.push(path.to_owned());
        }
        Ok(made)
    }
}

impl Drop for MadeParents {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            // Not empty: someone else uses it by now.
            let _ = fs::remove_dir(path);
        }
    }
}
