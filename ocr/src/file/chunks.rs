//! What is asked of a file before a decoder takes it: whether a JPEG is whole, what texts a PNG has, and a PNG that only lacks its
//! end made whole, because Pillow reads one.

use std::io::Read as _;

use super::orientation::Sayings;

const PNG_MAGIC: &[u8] = b"\x89PNG\r\n\x1a\n";
/// The longest text of a PNG that is unpacked, in bytes.
const LONGEST_TEXT: u64 = 4 << 20;

/// Why Pillow refuses a file before it decodes it, if so.
#[must_use]
pub fn wrong(bytes: &[u8]) -> Option<&'static str> {
    if is_jpeg(bytes) && !jpeg_is_whole(bytes) {
        return Some("truncated: the end of the image is missing");
    }
    if !webp_is_whole(bytes) {
        return Some("truncated: it is shorter than it says");
    }
    (is_png(bytes) && !heads_are_sound(bytes)).then_some("the checksum of a chunk before its picture is wrong")
}

/// Whether a WebP has more than one frame.
#[must_use]
pub fn webp_is_animated(bytes: &[u8]) -> bool {
    let head = bytes.get(..21);
    head.is_some_and(|head| head.starts_with(b"RIFF") && &head[12..16] == b"VP8X" && head[20] & 2 != 0)
}

/// Whether `bytes` begin as a PNG does.
#[must_use]
pub fn is_png(bytes: &[u8]) -> bool {
    bytes.starts_with(PNG_MAGIC)
}

/// Whether `bytes` begin as a JPEG does.
fn is_jpeg(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xFF, 0xD8, 0xFF])
}

/// Whether a JPEG has its end marker: Pillow takes one without for truncated. Segments are stepped over, so that the end of a
/// thumbnail inside one is not taken for the picture's.
fn jpeg_is_whole(bytes: &[u8]) -> bool {
    let mut at = 2;
    while let Some(marker) = next_marker(bytes, &mut at) {
        match marker {
            0xD9 => return true,
            // Stuffing, restarts and markers that stand alone.
            0x00 | 0x01 | 0xD0..=0xD8 => {}
            _ => match bytes.get(at..at + 2) {
                Some(length) => at += usize::from(u16::from_be_bytes([length[0], length[1]])),
                None => return false,
            },
        }
    }
    false
}

/// Whether a WebP is as long as it says; other files are.
fn webp_is_whole(bytes: &[u8]) -> bool {
    let Some(([b'R', b'I', b'F', b'F', length @ ..], [b'W', b'E', b'B', b'P', ..])) = bytes.split_at_checked(8) else {
        return true;
    };
    let length = <[u8; 4]>::try_from(length).map_or(0, u32::from_le_bytes);
    bytes.len() as u64 >= u64::from(length) + 8
}

/// The next byte after one or several 0xFF; `at` is left behind it.
fn next_marker(bytes: &[u8], at: &mut usize) -> Option<u8> {
    let rest = bytes.get(*at..)?;
    let first = rest.iter().position(|byte| *byte == 0xFF)?;
    let run = rest[first..].iter().position(|byte| *byte != 0xFF)?;
    *at += first + run + 1;
    Some(rest[first + run])
}

/// A chunk of a PNG.
struct Chunk<'a> {
    name: &'a [u8],
    contents: &'a [u8],
    /// What follows the contents; `None` where the file ends before.
    checksum: Option<[u8; 4]>,
}

/// A PNG's chunks; the last one may be cut off.
fn chunks(bytes: &[u8]) -> impl Iterator<Item = Chunk<'_>> {
    let mut rest = bytes.get(PNG_MAGIC.len()..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (head, after) = rest.split_at_checked(8)?;
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let (contents, behind) = after.split_at(length.min(after.len()));
        let checksum = if contents.len() == length { behind.first_chunk::<4>().copied() } else { None };
        rest = behind.get(4..).unwrap_or_default();
        Some(Chunk { name: &head[4..], contents, checksum })
    })
}

/// A PNG whose end is missing, with an end: what there is of its picture data and nothing that is cut off besides; and with right
/// checksums of its picture data, of which Pillow checks only what is inside. `None` where nothing is to be mended. Whether there is
/// enough of the picture is the decoder's to say.
#[must_use]
pub fn with_end(bytes: &[u8]) -> Option<Vec<u8>> {
    let is_whole = chunks(bytes).any(|chunk| chunk.name == b"IEND");
    if is_whole && chunks(bytes).all(|chunk| chunk.name != b"IDAT" || chunk.is_sound()) {
        return None;
    }
    let mut whole = PNG_MAGIC.to_vec();
    for chunk in chunks(bytes).filter(|chunk| chunk.checksum.is_some() || chunk.name == b"IDAT") {
        put(&mut whole, &chunk);
    }
    put(&mut whole, &Chunk { name: b"IEND", contents: &[], checksum: None });
    Some(whole)
}

/// Whether the chunks before the picture data have right checksums, as Pillow demands of them.
fn heads_are_sound(bytes: &[u8]) -> bool {
    chunks(bytes).take_while(|chunk| chunk.name != b"IDAT").all(|chunk| chunk.checksum.is_none() || chunk.is_sound())
}

impl Chunk<'_> {
    fn computed(&self) -> [u8; 4] {
        let mut crc = flate2::Crc::new();
        crc.update(self.name);
        crc.update(self.contents);
        crc.sum().to_be_bytes()
    }

    fn is_sound(&self) -> bool {
        self.checksum == Some(self.computed())
    }
}

fn put(file: &mut Vec<u8>, chunk: &Chunk<'_>) {
    file.extend(u32::try_from(chunk.contents.len()).unwrap_or(u32::MAX).to_be_bytes());
    file.extend(chunk.name);
    file.extend(chunk.contents);
    let checksum = chunk.checksum.filter(|_| chunk.name != b"IDAT");
    file.extend(checksum.unwrap_or_else(|| chunk.computed()));
}

/// What a PNG says of how it is turned, before its picture data or behind it.
#[must_use]
pub fn png_sayings(bytes: &[u8]) -> Sayings {
    let mut found = Sayings::default();
    for Chunk { name, contents, .. } in chunks(bytes).filter(|chunk| chunk.checksum.is_some()) {
        match name {
            b"eXIf" => found.exif = Some([b"Exif\0\0", contents].concat()),
            b"iTXt" => found.xmp = international(contents).or(found.xmp),
            b"tEXt" | b"zTXt" => found.raw_profile = profile(name, contents).or(found.raw_profile),
            _ => {}
        }
    }
    found
}

/// Whether a PNG has more than one frame.
#[must_use]
pub fn png_is_animated(bytes: &[u8]) -> bool {
    let frames = |contents: &[u8]| contents.get(..4).is_some_and(|count| *count != [0, 0, 0, 1]);
    let before = chunks(bytes).take_while(|chunk| chunk.name != b"IDAT");
    before.into_iter().any(|chunk| chunk.name == b"acTL" && frames(chunk.contents))
}

/// The XMP packet of an international text: key, whether packed, how, language, translated key, text.
fn international(contents: &[u8]) -> Option<Vec<u8>> {
    let rest = contents.strip_prefix(b"XML:com.adobe.xmp\0")?;
    let (packed, rest) = (*rest.first()?, rest.get(2..)?);
    let mut parts = rest.splitn(3, |byte| *byte == 0);
    let text = parts.nth(2)?;
    if packed == 0 { Some(text.to_vec()) } else { unpacked(text) }
}

fn profile(name: &[u8], contents: &[u8]) -> Option<String> {
    let rest = contents.strip_prefix(b"Raw profile type exif\0")?;
    let text = if name == b"zTXt" { unpacked(rest.get(1..)?)? } else { rest.to_vec() };
    Some(text.into_iter().map(char::from).collect())
}

fn unpacked(packed: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    flate2::read::ZlibDecoder::new(packed).take(LONGEST_TEXT).read_to_end(&mut text).ok()?;
    Some(text)
}
