//! Small, careful file helpers: bounded reads and names that cannot leave a directory.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Component, Path};

/// Whether `name` is the plain name of a file in a directory: one normal component, no separator of any system, no NUL.
pub fn is_plain_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) && !name.contains(['/', '\\', '\0'])
}

/// Reads a regular file of at most `max_byte_len` bytes whole.
///
/// # Errors
/// The system's error, or `InvalidData` when the path is not a regular file or the file is longer.
pub fn read_bounded(path: &Path, max_byte_len: u64) -> io::Result<Vec<u8>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(max_byte_len + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_byte_len {
        let message = format!("longer than {max_byte_len} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    Ok(bytes)
}

/// Opens a file, with its length, after making sure that it is one: opening a pipe would wait for ever.
///
/// # Errors
/// What was found there instead.
pub fn open_regular(path: &Path) -> Result<(File, u64), String> {
    let meta = std::fs::metadata(path).map_err(|error| match std::fs::read_link(path) {
        Ok(to) => format!("a link to {}, where nothing can be read: {error}", to.display()),
        Err(_) => error.to_string(),
    })?;
    if !meta.is_file() {
        return Err("something that is not a regular file".into());
    }
    let file = File::open(path).map_err(|error| error.to_string())?;
    Ok((file, meta.len()))
}

#[cfg(test)]
mod tests {
    use super::is_plain_name;

    #[test]
    fn only_plain_names_pass() {
        for good in ["model.safetensors", "a b", "..x", "…"] {
            assert!(is_plain_name(good), "{good:?}");
        }
        for bad in ["", ".", "..", "/x", "a/b", "a/", "./a", "../a", "a\\b", "a\0b"] {
            assert!(!is_plain_name(bad), "{bad:?}");
        }
    }
}
