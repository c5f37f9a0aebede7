//! A file of `torch.save` before PyTorch 1.6. Input: the whole file, or (where it does not begin as one) the pickle of the object in a file
//! with two storages.

use super::pickle::read;

/// The pickles in front of the object: magic number, version, a little-endian system.
const FRONT: &[u8] = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}X\r\0\0\0little_endian\x88s.";
/// The pickle of the storages' keys, and the storages: 16 elements each.
const KEYS: &[u8] = b"\x80\x02](X\x01\0\0\x000X\x01\0\0\x001e.";
/// The number in front of each storage, and its bytes.
const STORAGE: [&[u8]; 2] = [b"\x10\0\0\0\0\0\0\0", &[0x3f; 64]];

/// What the target for archives asserts, of the older form.
pub fn run(data: &[u8]) {
    if data.starts_with(&FRONT[..4]) {
        read(data);
    } else {
        let [count, bytes] = STORAGE;
        read(&[FRONT, data, KEYS, count, bytes, count, bytes].concat());
    }
}
