//! PyTorch's own files (`.bin`, `.pt`, `.pth`, `.ckpt` from `torch.save`), read without running anything.
//!
//! ```text
//! archive     the zip archive: the pickle, and where each storage's bytes begin in the file
//! legacy      the format before PyTorch 1.6: the same, one after the other
//! machine     the pickle's instructions become objects; a class is a label, what it makes a stand-in
//! state_dict  which object holds the weights: a dict, or a whole module
//! tensors     dtype, shape, strides and place of each
//! ```
//!
//! Names in a pickle are labels: no class is looked up and no function called. Storages are read from the file in pieces, like
//! safetensors; tensors that are transposed, expanded or share a storage stay what they are, as strides.

mod archive;
mod directory_end;
mod globals;
mod legacy;
mod machine;
mod module;
mod object;
mod opcodes;
mod state_dict;
mod tensors;

use std::collections::BTreeMap;
use std::fs::File;

use crate::error::{Violation, ViolationKind};

use archive::Span;
use machine::Loaded;

pub use archive::is_checkpoint as is_archive;
pub use legacy::begins as is_legacy;
pub use tensors::{PickledTensor, Tensors};

/// The endings of such files' names.
pub const ENDINGS: &[&str] = &[".bin", ".pt", ".pth", ".ckpt"];

/// A parsed file.
#[derive(Debug)]
pub struct Pickled {
    /// What its state dict holds.
    pub tensors: Tensors,
    /// BLAKE3 of the pickle.
    pub hash: blake3::Hash,
}

/// Reads the pickle of an archive, and of it the state dict that `wanted` names (or the one there is).
///
/// # Errors
/// What keeps any tensor from being known. What is wrong with single tensors comes with the others.
pub fn read_archive(
    file: &File,
    name: &str,
    file_byte_len: u64,
    wanted: Option<&str>,
) -> Result<Pickled, Vec<Violation>> {
    let archive = archive::open(file, name, file_byte_len)?;
    let hash = blake3::hash(&archive.pickle);
    let loaded = load_whole(&archive.pickle, name)?;
    Ok(Pickled { tensors: tensors_of(&loaded, &archive.storages, name, wanted)?, hash })
}

/// The same for a file of the format before PyTorch 1.6.
///
/// # Errors
/// As [`read_archive`].
pub fn read_legacy(
    file: &File,
    name: &str,
    file_byte_len: u64,
    wanted: Option<&str>,
) -> Result<Pickled, Vec<Violation>> {
    let legacy::Legacy { loaded, storages, hash } = legacy::open(file, name, file_byte_len)?;
    Ok(Pickled { tensors: tensors_of(&loaded, &storages, name, wanted)?, hash })
}

fn tensors_of(
    loaded: &Loaded,
    storages: &BTreeMap<String, Span>,
    name: &str,
    wanted: Option<&str>,
) -> Result<Tensors, Vec<Violation>> {
    let Loaded { heap, root, .. } = loaded;
    let chosen = state_dict::choose(heap, *root, wanted, name).map_err(|violation| vec![violation])?;
    let entries = state_dict::entries(heap, chosen.id);
    let whole_model = module::is_module(heap, chosen.id).then(|| {
        format!(
            "{name}: a whole model was saved; its {} parameters and buffers were read by their names and none of its code was run \
             (torch.save(model.state_dict()) saves the weights alone)",
            entries.len()
        )
    });
    let mut tensors = tensors::read(heap, entries, storages, name);
    tensors.notes.splice(0..0, chosen.notes.into_iter().chain(whole_model));
    Ok(tensors)
}

/// The pickle's one object.
fn load_whole(pickle: &[u8], name: &str) -> Result<Loaded, Vec<Violation>> {
    let place = |at: usize| format!("{name}: data.pkl, byte {at}");
    let loaded = machine::load(pickle).map_err(|flaws| {
        let told =
            |flaw: opcodes::Flaw| Violation::new(ViolationKind::Unsupported, place(flaw.at), flaw.expected, flaw.found);
        flaws.into_iter().map(told).collect::<Vec<_>>()
    })?;
    let more = pickle.len() - loaded.byte_len;
    if more > 0 {
        let (expected, found) = ("nothing after the pickle's end", format!("{more} more bytes"));
        return Err(vec![Violation::new(ViolationKind::Unsupported, place(loaded.byte_len), expected, found)]);
    }
    Ok(loaded)
}
