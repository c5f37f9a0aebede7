//! What a file is by its first bytes, whatever it is called.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::error::{Violation, ViolationKind};

use super::pickle;

/// How much of a file is looked at.
pub const HEAD_BYTE_LEN: u64 = 512;
/// How a git-lfs pointer begins.
const LFS: &[u8] = b"version https://git-lfs.github.com/spec/";

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// No bytes.
    Empty,
    /// What git leaves where git-lfs did not bring the file.
    LfsPointer,
    /// A web page.
    Html,
    /// A length that leads to JSON, as safetensors begin.
    Safetensors,
    /// A zip archive, as `torch.save` writes since 1.6.
    Archive,
    /// The format of `torch.save` before 1.6.
    Legacy,
    /// A pickle of anything else.
    BarePickle,
    /// A tar archive: PyTorch's first format.
    Tar,
    /// A GGUF file.
    Gguf,
    /// An HDF5 file: Keras's weights.
    Hdf5,
    /// Readable text.
    Text,
    /// None of these.
    Other,
}

/// Looks at a file's first bytes; one that cannot be read is [`Form::Other`].
pub fn of_file(file: &File, file_byte_len: u64) -> Form {
    let mut head = [0; HEAD_BYTE_LEN as usize];
    let head = &mut head[..file_byte_len.min(HEAD_BYTE_LEN) as usize];
    match file.read_exact_at(head, 0) {
        Ok(()) => of(head),
        Err(_) => Form::Other,
    }
}

/// What bytes begin.
pub fn of(head: &[u8]) -> Form {
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    let begins = |with: &[u8]| text.len() >= with.len() && text[..with.len()].eq_ignore_ascii_case(with);
    match head {
        [] => Form::Empty,
        _ if head.starts_with(LFS) => Form::LfsPointer,
        _ if begins(b"<!doctype html") || begins(b"<html") || begins(b"<?xml") => Form::Html,
        [b'P', b'K', 3, 4, ..] => Form::Archive,
        _ if pickle::is_legacy(head) => Form::Legacy,
        [b'G', b'G', b'U', b'F', ..] => Form::Gguf,
        [0x89, b'H', b'D', b'F', ..] => Form::Hdf5,
        // The length of a header is far below 2^32.
        [_, _, _, _, 0, 0, 0, 0, b'{', ..] => Form::Safetensors,
        [0x80, 0..=5, ..] => Form::BarePickle,
        _ if head.get(257..262) == Some(b"ustar") => Form::Tar,
        _ if is_text(head) => Form::Text,
        _ => Form::Other,
    }
}

/// Whether these bytes are text that people write; a character may be cut off at the end.
fn is_text(head: &[u8]) -> bool {
    let valid = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    let is_written = |c: char| !c.is_control() || matches!(c, '\n' | '\r' | '\t');
    // The eight bytes of a length, were it one, would be longer than any header.
    valid.len() >= 8 && valid.chars().all(is_written)
}

impl Form {
    /// Why a file of this form holds no weights that can be read, and what to do; `None` where it may hold some.
    pub fn refusal(self, name: &str) -> Option<Violation> {
        let refuse = |kind, expected: &str, found: &str| Some(Violation::new(kind, name, expected, found));
        let weights = "a safetensors file or one that torch.save wrote";
        let again = "torch.save a state dict in PyTorch again";
        match self {
            Self::Safetensors | Self::Archive | Self::Legacy => None,
            Self::Empty => refuse(ViolationKind::TruncatedFile, weights, "an empty file (download it again)"),
            Self::LfsPointer => refuse(
                ViolationKind::TruncatedFile,
                weights,
                "a git-lfs pointer, which stands where the file belongs: run git lfs pull there",
            ),
            Self::Html => refuse(
                ViolationKind::Unsupported,
                weights,
                "a web page, which a download saved instead of the file: download it again (a token may be needed)",
            ),
            Self::BarePickle => {
                refuse(ViolationKind::Unsupported, weights, &format!("a bare pickle, not one of torch.save ({again})"))
            }
            Self::Tar => {
                refuse(ViolationKind::Unsupported, weights, &format!("a tar archive, PyTorch's first format ({again})"))
            }
            Self::Gguf => {
                refuse(ViolationKind::Unsupported, weights, "a GGUF file (take the release it was made from)")
            }
            Self::Hdf5 => refuse(ViolationKind::Unsupported, weights, "an HDF5 file of Keras (take a PyTorch release)"),
            Self::Text => refuse(
                ViolationKind::Unsupported,
                weights,
                "text, such as a server's answer that a download saved instead of the file: download it again (a token may be needed)",
            ),
            Self::Other => refuse(ViolationKind::Unsupported, weights, "something else"),
        }
    }
}

/// What stands in the place of a file of text or JSON, where it is not that file.
pub fn stands_for(bytes: &[u8]) -> Option<&'static str> {
    match of(&bytes[..bytes.len().min(HEAD_BYTE_LEN as usize)]) {
        Form::LfsPointer => Some("a git-lfs pointer, which stands where the file belongs: run git lfs pull there"),
        Form::Html => Some("a web page, which a download saved instead of the file: download it again"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_first_bytes() {
        for (head, form) in [
            (&b""[..], Form::Empty),
            (b"version https://git-lfs.github.com/spec/v1\noid", Form::LfsPointer),
            (b"\n <!DOCTYPE HTML>", Form::Html),
            (b"PK\x03\x04", Form::Archive),
            (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", Form::Legacy),
            (b"\x80\x02}", Form::BarePickle),
            (b"\x10\0\0\0\0\0\0\0{\"a\"", Form::Safetensors),
            (b"GGUF\x03", Form::Gguf),
            (b"hello", Form::Other),
            (b"Access to this model is restricted.\n", Form::Text),
            (b"{\"error\":\"Repository not found\"}", Form::Text),
            (b"hello w\xc3\xb6rld \xc3", Form::Text),
            (b"hello\0\0\0{", Form::Other),
        ] {
            assert_eq!(of(head), form, "{head:?}");
        }
    }
}
