//! A file of `torch.save`. Input: the zip archive, or (where it does not begin as one) the pickle in an archive with two storages.

use std::fs;
use std::io::{Cursor, Write};

use mlxport_convert::checkpoint::{Checkpoint, TensorInfo, TensorSource};
use mlxport_convert::transforms::{Assembly, Scratch, View};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::place;

/// The bytes of each storage around a bare pickle.
const STORAGE: &[u8] = &[0x3f; 64];
/// How many elements of a tensor are read at each end.
const ENDS: u64 = 64;

/// Scans the file and reads both ends of every tensor that is said to be sound.
pub fn run(data: &[u8]) {
    if data.starts_with(b"PK") { read(data) } else { read(&archive(data)) }
}

/// Reads a file of `torch.save`, whatever its form.
pub fn read(bytes: &[u8]) {
    let path = place::path("x.pt");
    place::write(&path, bytes);
    let scan = Checkpoint::scan_named(&path, None).expect("the file is there");
    let found = scan.checkpoint.tensors();
    assert!(!found.is_empty() || !scan.violations.is_empty() || !scan.notes.is_empty(), "nothing found and no reason");
    for (key, info) in found {
        read_ends(&scan.checkpoint, key, info);
    }
    if !scan.violations.is_empty() {
        // A name that nothing has is refused with what there is, whatever is wrong besides.
        let named = Checkpoint::scan_named(&path, Some("no.such")).expect("the file is there");
        assert!(!named.violations.is_empty(), "a state dict that is not there was found");
    }
    fs::remove_file(&path).expect("it is ours");
}

/// Whatever shape and strides are claimed, what is sound lies inside the file.
fn read_ends(checkpoint: &Checkpoint, key: &str, info: &TensorInfo) {
    assert_eq!(info.shape.len(), info.strides.len(), "{key}");
    let view = View::stored(key, info.dtype, &info.shape, &info.strides);
    let count =
        info.shape.iter().try_fold(1_u64, |count, &len| count.checked_mul(len)).expect("a sound tensor's count");
    let assembly = Assembly::of(view);
    let element = info.dtype.bitsize() / 8;
    let len = count.min(ENDS);
    let mut out = vec![0; len as usize * element];
    let mut scratch = Scratch::with_block_byte_len(256);
    for first in [0, count - len] {
        assembly
            .read(checkpoint, info.dtype, first, &mut out, &mut scratch)
            .unwrap_or_else(|error| panic!("{key}: {error}"));
    }
}

fn archive(pickle: &[u8]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let entries = [("x/data.pkl", pickle), ("x/byteorder", b"little"), ("x/data/0", STORAGE), ("x/data/1", STORAGE)];
    for (name, bytes) in entries {
        zip.start_file(name, options).expect("memory takes it");
        zip.write_all(bytes).expect("memory takes it");
    }
    zip.finish().expect("memory takes it").into_inner()
}
