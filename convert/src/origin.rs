//! Whether a converted directory was made from a given checkpoint: its copied tensors held against the checkpoint's.
//!
//! Two checkpoints of one architecture have the same headers, so only the numbers tell them apart. The beginning of each copied tensor is
//! read, never more.

use std::path::Path;

use crate::checkpoint::{Checkpoint, TensorInfo, TensorSource, row_major_strides};
use crate::dtype::{byte_len, element_count, is_float};
use crate::error::ConvertError;
use crate::manifest::{Manifest, TensorRecord};
use crate::transforms::cast::convert;

/// The most elements of a tensor that are compared.
const MAX_ELEMENTS: u64 = 1 << 16;

/// What was compared, and what differed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// How many tensors were compared.
    pub compared: usize,
    /// Keys of the checkpoint whose numbers the model does not have, in file order.
    pub differing: Vec<String>,
}

/// Compares what the manifest of `model` says was copied with the same keys of `checkpoint`. A tensor that was cast counts as the same where
/// casting the checkpoint's gives it.
///
/// # Errors
/// [`ConvertError`] when `model` has no manifest, or one of the two cannot be read.
pub fn compare(model: &Path, checkpoint: &Path) -> Result<Origin, ConvertError> {
    let manifest = Manifest::read(model)?;
    let (model, source) = (Checkpoint::scan(model)?.checkpoint, Checkpoint::scan(checkpoint)?.checkpoint);
    let mut origin = Origin { compared: 0, differing: Vec::new() };
    for (record, key) in manifest.tensors.iter().filter_map(|record| Some((record, copied_from(record)?))) {
        let written = model.tensors().get(&record.name).filter(|info| is_plain(info));
        let (Some(written), Some(stored)) = (written, source.tensors().get(key).filter(|info| is_plain(info))) else {
            continue;
        };
        if let Some(is_same) = is_same((&model, &record.name, written), (&source, key, stored))? {
            origin.compared += 1;
            if !is_same {
                origin.differing.push(key.to_owned());
            }
        }
    }
    Ok(origin)
}

/// The key that a tensor was copied from, where it was copied.
fn copied_from(record: &TensorRecord) -> Option<&str> {
    match record.sources.as_slice() {
        [source] if record.op == "copy" && record.packed.is_none() => Some(&source.key),
        _ => None,
    }
}

/// Whether a tensor lies row by row in whole bytes.
fn is_plain(info: &TensorInfo) -> bool {
    info.strides == row_major_strides(&info.shape) && info.dtype.bitsize().is_multiple_of(8)
}

/// A tensor with what it is read from.
type Place<'a> = (&'a Checkpoint, &'a str, &'a TensorInfo);

/// Whether the first elements are the same once the stored ones are cast; `None` where one cannot become the other.
fn is_same(written: Place<'_>, stored: Place<'_>) -> Result<Option<bool>, ConvertError> {
    let (has, had) = (written.2, stored.2);
    if has.shape != had.shape {
        return Ok(Some(false));
    }
    let count = element_count(&has.shape).unwrap_or(MAX_ELEMENTS).min(MAX_ELEMENTS);
    let read = |(checkpoint, key, info): Place<'_>| {
        let mut bytes = vec![0; byte_len(info.dtype, &[count]).unwrap_or(0) as usize];
        checkpoint.read_at(key, 0, &mut bytes).map(|()| bytes)
    };
    let (written, stored) = (read(written)?, read(stored)?);
    if has.dtype == had.dtype {
        return Ok(Some(written == stored));
    }
    if !is_float(has.dtype) || !is_float(had.dtype) {
        return Ok(None);
    }
    let mut cast = vec![0; written.len()];
    // A number too large for the dtype would have ended the conversion.
    let fits = convert(had.dtype, has.dtype, &stored, &mut cast).is_ok();
    Ok(Some(fits && cast == written))
}
