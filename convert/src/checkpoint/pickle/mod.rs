//! PyTorch's own files (`.bin`, `.pt`, `.pth` from `torch.save`), read without running anything.
//!
//! ```text
//! archive     the zip archive: the pickle, and where each storage's bytes begin in the file
//! vet         the pickle's instructions, checked and bounded
//! candle      the instructions that passed become objects (the reader of `candle-core`)
//! state_dict  which dict holds the weights
//! tensors     dtype, shape, strides and place of each
//! ```
//!
//! Names in a pickle are labels: no class is looked up and no function called. Storages are read from the file in pieces, like
//! safetensors; tensors that are transposed, expanded or share a storage stay what they are, as strides.

mod archive;
mod directory_end;
mod globals;
mod opcodes;
mod state_dict;
mod tensors;
mod vet;

use std::fs::File;
use std::os::unix::fs::FileExt;

use candle_core::pickle::{Object, Stack};

use crate::error::{Violation, ViolationKind};

pub use tensors::{PickledTensor, Tensors};

/// The endings of such files' names.
pub const ENDINGS: &[&str] = &[".bin", ".pt", ".pth"];

/// A parsed file.
#[derive(Debug)]
pub struct Pickled {
    /// What its state dict holds.
    pub tensors: Tensors,
    /// BLAKE3 of the pickle.
    pub hash: blake3::Hash,
}

/// Reads a file's pickle, and of it the state dict that `wanted` names (or the one there is).
///
/// # Errors
/// What keeps any tensor from being known. What is wrong with single tensors comes with the others.
pub fn read(file: &File, name: &str, file_byte_len: u64, wanted: Option<&str>) -> Result<Pickled, Vec<Violation>> {
    check_form(file, name, file_byte_len).map_err(|violation| vec![violation])?;
    let archive = archive::open(file, name, file_byte_len)?;
    let hash = blake3::hash(&archive.pickle);
    let root = parse(archive.pickle, name)?;
    let entries = state_dict::choose(root, wanted, name).map_err(|violation| vec![violation])?;
    Ok(Pickled { tensors: tensors::read(entries, &archive.storages, name), hash })
}

/// The pickle's one object, by candle's reader on the vetted stream.
fn parse(pickle: Vec<u8>, name: &str) -> Result<Object, Vec<Violation>> {
    let place = |at: usize| format!("{name}: data.pkl, byte {at}");
    let vetted = vet::vet(&pickle).map_err(|flaws| {
        let told =
            |flaw: opcodes::Flaw| Violation::new(ViolationKind::Unsupported, place(flaw.at), flaw.expected, flaw.found);
        flaws.into_iter().map(told).collect::<Vec<_>>()
    })?;
    drop(pickle);
    let mut stack = Stack::empty();
    let read = stack.read_loop(&mut vetted.as_slice()).and_then(|()| stack.finalize());
    read.map_err(|error| {
        let expected = "a pickle that candle's reader takes";
        vec![Violation::new(ViolationKind::Unsupported, format!("{name}: data.pkl"), expected, error.to_string())]
    })
}

/// Tells a zip archive from the older forms.
fn check_form(file: &File, name: &str, file_byte_len: u64) -> Result<(), Violation> {
    let mut head = [0; 512];
    let head = &mut head[..file_byte_len.min(512) as usize];
    let expected = "a zip archive as torch.save writes (PyTorch 1.6 or later)";
    let other = |kind, found: String| Violation::new(kind, name, expected, found);
    file.read_exact_at(head, 0).map_err(|error| other(ViolationKind::BadHeader, error.to_string()))?;
    let again = "read it with PyTorch and torch.save the state dict again";
    let found = match head {
        [b'P', b'K', 3, 4, ..] => return Ok(()),
        [] => return Err(other(ViolationKind::TruncatedFile, "an empty file".into())),
        // The legacy format's magic number, pickled.
        [0x80, _, 0x8a, 10, 0x6c, 0xfc, 0x9c, ..] => format!("the format before PyTorch 1.6 ({again})"),
        [0x80, ..] => format!("a bare pickle ({again})"),
        _ if head.get(257..262) == Some(b"ustar") => format!("a tar archive, PyTorch's first format ({again})"),
        _ => "something else".into(),
    };
    Err(other(ViolationKind::Unsupported, found))
}
