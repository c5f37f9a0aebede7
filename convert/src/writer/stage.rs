//! A directory that appears complete or not at all.
//!
//! Work happens in a fresh hidden directory beside the target (same file system, so that a rename is atomic). A running conversion holds
//! a lock on it; dropping the stage removes it, and what a killed process left behind is removed by the next conversion to the
//! same target. Replacing a target is one exchange of names where the file system can do that.

use std::fs::{self, File, Permissions, TryLockError};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use tempfile::TempDir;

use crate::error::ConvertError;

use super::target::{Lying, behind_links, lying};

/// How often a stage is made anew when someone clears it away between its creation and its lock.
const ATTEMPTS: usize = 5;

/// The unfinished directory.
#[derive(Debug)]
pub struct Stage {
    target: PathBuf,
    /// The target as it was given: perhaps a link to it.
    asked: PathBuf,
    force: bool,
    parent: PathBuf,
    // Dropped before `made_parents`, so that the parents are empty when their turn comes.
    dir: TempDir,
    made_parents: MadeParents,
    // Tells others that the directory is in use; the system lets go of it however the process ends.
    _lock: File,
}

impl Stage {
    /// Prepares to make `target`; `source` is the directory read from, which must not be replaced or removed. `byte_len` is what will be
    /// written at least.
    ///
    /// # Errors
    /// [`ConvertError::TargetExists`] without `force`; [`ConvertError::TargetForeign`] where anyone else's files lie; [`ConvertError::BadTarget`] for a target that has no name or holds the source;
    /// [`ConvertError::NoRoom`] when it cannot fit; [`ConvertError::Io`] when the system refuses.
    pub fn open(target: &Path, force: bool, source: Option<&Path>, byte_len: u64) -> Result<Self, ConvertError> {
        let asked = target;
        let target = &behind_links(asked)?;
        let bad = |reason: &str| ConvertError::BadTarget { path: asked.to_owned(), reason: reason.to_owned() };
        let name = target.file_name().ok_or_else(|| bad("not the name of a directory to make"))?;
        let parent = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let name = name.to_string_lossy();
        clear_stale(&parent, target, &name);
        if fs::symlink_metadata(target).is_ok() {
            if let (Some(Ok(source)), Ok(target)) = (source.map(fs::canonicalize), fs::canonicalize(target))
                && source.starts_with(&target)
            {
                return Err(bad("the source lies in it; replacing it would destroy the source"));
            }
            check_free(target, asked, force)?;
        }
        let made_parents = MadeParents::make(&parent)?;
        check_room(&parent, byte_len)?;
        let (dir, lock) = locked_beside(&parent, &name)?;
        Ok(Self { target: target.to_owned(), asked: asked.to_owned(), force, parent, dir, made_parents, _lock: lock })
    }

    /// Where to write.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Puts the finished directory in place and removes what was there.
    ///
    /// # Errors
    /// [`ConvertError::Io`] when the system refuses; the target is then what it was.
    pub fn commit(mut self) -> Result<(), ConvertError> {
        sync(self.dir.path())?;
        // Hours may have gone by: what has come there since is nobody's to remove.
        check_free(&self.target, &self.asked, self.force)?;
        if fs::symlink_metadata(&self.target).is_err() {
            fs::rename(self.dir.path(), &self.target).map_err(ConvertError::io("rename into place", &self.target))?;
            self.dir.disable_cleanup(true);
            self.made_parents.0.clear();
            return sync(&self.parent);
        }
        self.made_parents.0.clear();
        match renameat_with(CWD, self.dir.path(), CWD, &self.target, RenameFlags::EXCHANGE) {
            Ok(()) => {
                // The stage's name now leads to what was there before.
                sync(&self.parent)?;
                self.dir.disable_cleanup(true);
                remove(self.dir.path())
            }
            Err(_) => self.replace_in_two_steps(),
        }
    }

    /// For file systems that cannot exchange names: what was there is moved aside first and removed last, and comes back when the
    /// second rename fails. Killed between the two, the next conversion puts it back.
    fn replace_in_two_steps(mut self) -> Result<(), ConvertError> {
        let name = self.target.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let old = self.parent.join(format!("{}{}", prefix(&name, "old"), std::process::id()));
        fs::rename(&self.target, &old).map_err(ConvertError::io("move aside", &self.target))?;
        if let Err(error) = fs::rename(self.dir.path(), &self.target) {
            fs::rename(&old, &self.target).map_err(ConvertError::io("restore", &self.target))?;
            return Err(ConvertError::io("rename into place", &self.target)(error));
        }
        self.dir.disable_cleanup(true);
        sync(&self.parent)?;
        remove(&old)
    }
}

/// Refuses a target where anything lies that a conversion did not write, and one that it did unless that is to be replaced.
fn check_free(target: &Path, asked: &Path, force: bool) -> Result<(), ConvertError> {
    match lying(target)? {
        Lying::Nothing | Lying::Empty => Ok(()),
        Lying::Ours if force => Ok(()),
        Lying::Ours => Err(ConvertError::TargetExists(asked.to_owned())),
        Lying::Foreign(names) => Err(ConvertError::TargetForeign { path: asked.to_owned(), names }),
    }
}

/// Removes what an earlier target was: a link or a file itself, a real directory with what is in it.
fn remove(path: &Path) -> Result<(), ConvertError> {
    let is_dir = fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir());
    let removed = if is_dir { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.map_err(ConvertError::io("remove the old target at", path))
}

fn prefix(name: &str, role: &str) -> String {
    let short: String = name.chars().take(64).collect();
    format!(".{short}.mlxport-{role}-")
}

/// A fresh hidden directory in `parent` and a lock on it; its name is random, so a stale one never collides.
fn locked_beside(parent: &Path, name: &str) -> Result<(TempDir, File), ConvertError> {
    let refused = |error| ConvertError::io("create a directory in", parent)(error);
    for _ in 0..ATTEMPTS {
        let dir = tempfile::Builder::new()
            .prefix(&prefix(name, "new"))
            // The usual permissions of a new directory (less the umask), not a private one's.
            .permissions(Permissions::from_mode(0o777))
            .tempdir_in(parent)
            .map_err(refused)?;
        let lock = File::open(dir.path()).and_then(|lock| lock.lock().map(|()| lock));
        // Between its creation and its lock another conversion may have taken it for a stale one.
        if let Ok(lock) = lock
            && dir.path().is_dir()
        {
            return Ok((dir, lock));
        }
    }
    Err(refused(std::io::Error::other("it is removed as soon as it is made")))
}

/// Removes stages that no process holds any more, and puts back a target that was moved aside when its process died. Trouble here is no
/// reason not to convert: what cannot be removed stays.
fn clear_stale(parent: &Path, target: &Path, name: &str) {
    let Ok(entries) = fs::read_dir(if parent.as_os_str().is_empty() { Path::new(".") } else { parent }) else { return };
    for entry in entries.flatten() {
        let own = entry.file_name().to_string_lossy().into_owned();
        let path = entry.path();
        if own.starts_with(&prefix(name, "old")) && fs::symlink_metadata(target).is_err() {
            let _ = fs::rename(&path, target);
        } else if own.starts_with(&prefix(name, "new")) && path.is_dir() {
            let Ok(lock) = File::open(&path) else { continue };
            if !matches!(lock.try_lock(), Err(TryLockError::WouldBlock)) {
                let _ = fs::remove_dir_all(&path);
            }
        }
    }
}

/// The file system must have room for `byte_len` more bytes; where it does not say, writing will tell.
fn check_room(parent: &Path, byte_len: u64) -> Result<(), ConvertError> {
    let Ok(stat) = rustix::fs::statvfs(parent) else { return Ok(()) };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    if free >= byte_len {
        return Ok(());
    }
    Err(ConvertError::NoRoom { path: parent.to_owned(), needed: byte_len, free })
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
