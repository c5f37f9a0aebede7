//! PyTorch files put together byte by byte, with anything wrong in them that a test wants.

use std::io::{Cursor, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// A text object.
pub fn text(text: &str) -> Vec<u8> {
    let mut bytes = vec![b'X'];
    bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// An integer of 8 bytes.
pub fn int(value: i64) -> Vec<u8> {
    let mut bytes = vec![0x8a, 8];
    bytes.extend_from_slice(&value.to_le_bytes());
    bytes
}

/// A tuple of objects.
pub fn tuple(items: &[Vec<u8>]) -> Vec<u8> {
    [b"(".to_vec(), items.concat(), b"t".to_vec()].concat()
}

/// What a class makes of arguments.
pub fn made(module: &str, name: &str, args: &[Vec<u8>]) -> Vec<u8> {
    [format!("c{module}\n{name}\n").into_bytes(), tuple(args), b"R".to_vec()].concat()
}

/// A float32 tensor in storage `key`, which is said to have `elements`.
pub fn tensor(key: &str, elements: i64, offset: i64, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    let sizes = |sizes: &[i64]| tuple(&sizes.iter().map(|&size| int(size)).collect::<Vec<_>>());
    let class = b"ctorch\nFloatStorage\n".to_vec();
    let id = tuple(&[text("storage"), class, text(key), text("cpu"), int(elements)]);
    let storage = [id, b"Q".to_vec()].concat();
    let hooks = b"ccollections\nOrderedDict\n)R".to_vec();
    let args = [storage, int(offset), sizes(shape), sizes(strides), vec![0x89], hooks];
    made("torch._utils", "_rebuild_tensor_v2", &args)
}

/// A dict of objects by name.
pub fn dict(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let inner: Vec<u8> = entries.iter().flat_map(|(key, value)| [text(key), value.clone()].concat()).collect();
    [b"}(".to_vec(), inner, b"u".to_vec()].concat()
}

/// A whole pickle of one object.
pub fn pickle(object: Vec<u8>) -> Vec<u8> {
    [vec![0x80, 2], object, vec![b'.']].concat()
}

/// An archive with these entries, stored as they are.
pub fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, bytes) in entries {
        zip.start_file(*name, options).expect("starts");
        zip.write_all(bytes).expect("writes");
    }
    zip.finish().expect("finishes").into_inner()
}

/// An archive with this pickle and one storage, `0`.
pub fn checkpoint(pickle: &[u8], storage: &[u8]) -> Vec<u8> {
    archive(&[("x/data.pkl", pickle), ("x/byteorder", b"little"), ("x/data/0", storage)])
}
