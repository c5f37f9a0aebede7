//! What of a page's contents is there, whole, and readable: the renderer draws what it finds, and says nothing of what it does not.

use std::collections::BTreeSet;

use flate2::{Decompress, FlushDecompress, Status};
use hayro::hayro_syntax::{
    content::ops::TypedInstruction,
    object::{Array, Dict, Name, Object, Stream},
    page::Page,
};

/// The most bytes that a stream is unpacked to in order to see its end.
const MOST_UNPACKED: u64 = 1 << 30;

/// The streams of a page's contents.
#[derive(Debug, Default)]
pub struct Contents {
    /// How many there are.
    pub parts: usize,
    /// How many cannot be read at all.
    pub unreadable: usize,
    /// How many are read up to a place where they are cut off or broken.
    pub cut: usize,
}

/// Looks at a page's contents.
pub fn contents(page: &Page<'_>) -> Contents {
    let raw = page.raw();
    let mut found = Contents::default();
    if let Some(parts) = raw.get::<Array<'_>>(b"Contents") {
        for object in parts.iter::<Object<'_>>().filter(|object| !matches!(object, Object::Null(_))) {
            found.add(object.into_stream());
        }
    } else if raw.contains_key(b"Contents") {
        found.add(raw.get::<Stream<'_>>(b"Contents"));
    }
    found
}

impl Contents {
    fn add(&mut self, stream: Option<Stream<'_>>) {
        self.parts += 1;
        let Some(stream) = stream else {
            self.unreadable += 1;
            return;
        };
        match (stream.decoded_data(), is_cut(&stream)) {
            (Err(_), _) => self.unreadable += 1,
            (Ok(made), true) if made.is_empty() => self.unreadable += 1,
            (Ok(_), is_cut) => self.cut += usize::from(is_cut),
        }
    }

    /// What is to be said of them, if they are not all unreadable.
    pub fn notes(&self) -> Vec<String> {
        let parts = self.parts;
        let note = |count: usize, what: &str| {
            (count > 0).then(|| format!("{count} of the {parts} parts of its contents {what}"))
        };
        let notes = [
            note(self.unreadable, "cannot be read and are missing"),
            note(self.cut, "are cut off or broken: what comes before that place is drawn, the rest is lost"),
        ];
        notes.into_iter().flatten().collect()
    }
}

/// What a page's contents draw by name and is not there, or not whole: images and forms.
pub fn lost_objects(page: &Page<'_>) -> Vec<String> {
    let (mut missing, mut cut) = (BTreeSet::new(), BTreeSet::new());
    let mut operations = page.typed_operations();
    while let Some(operation) = operations.next() {
        let TypedInstruction::XObject(object) = operation else { continue };
        match page.resources().get_x_object(object.0) {
            None => missing.insert(object.0.as_str().to_owned()),
            Some(stream) => is_cut(&stream) && cut.insert(object.0.as_str().to_owned()),
        };
    }
    let note = |names: BTreeSet<String>, what: &str| {
        let shown = names.iter().take(12).map(String::as_str).collect::<Vec<_>>().join(", ");
        (!names.is_empty()).then(|| format!("{} images or forms {what}: {shown}", names.len()))
    };
    let notes = [note(missing, "that its contents name are not in the document"), note(cut, "are cut off or broken")];
    notes.into_iter().flatten().collect()
}

/// What of a page's contents the renderer passes over: instructions that PDF does not have or whose operands are wrong, and everything
/// behind a path that is given wrong numbers.
pub fn passed_over(page: &Page<'_>) -> Vec<String> {
    const SHOWN: usize = 5;
    let (mut names, mut wrong, mut read, mut lenient) = (BTreeSet::new(), 0_usize, 0_usize, 0_usize);
    let mut operations = page.typed_operations();
    while let Some(operation) = operations.next() {
        read += 1;
        match operation {
            // Between these two a reader is to pass over what it does not know.
            TypedInstruction::BeginCompatibility(_) => lenient += 1,
            TypedInstruction::EndCompatibility(_) => lenient = lenient.saturating_sub(1),
            TypedInstruction::Fallback(operator) if lenient == 0 => {
                wrong += 1;
                let name: String = String::from_utf8_lossy(operator).chars().take(12).collect();
                names.insert(name.escape_debug().to_string());
            }
            _ => {}
        }
    }
    let mut operations = page.operations();
    let mut all = 0_usize;
    while operations.next().is_some() {
        all += 1;
    }
    let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    let more = if names.len() > SHOWN { ", …" } else { "" };
    let notes = [
        (wrong > 0).then(|| {
            format!("{wrong} instructions of its contents are unknown or have wrong operands, and are passed over: {shown}{more}")
        }),
        (all > read).then(|| format!("its contents break off at instruction {} of {all}: the rest is lost", read + 1)),
    ];
    notes.into_iter().flatten().collect()
}

/// Whether a stream ends before it should. A missing checksum is no loss.
fn is_cut(stream: &Stream<'_>) -> bool {
    let raw = stream.raw_data();
    let first = match stream.dict().get::<Object<'_>>(b"Filter") {
        Some(Object::Name(name)) => Some(name.as_str().to_owned()),
        Some(Object::Array(names)) => names.iter::<Name<'_>>().next().map(|name| name.as_str().to_owned()),
        _ => None,
    };
    match first.as_deref() {
        Some("FlateDecode" | "Fl") => !reaches_its_end(&raw),
        // The code that ends a picture, with some room for what may follow it.
        Some("JPXDecode") => !raw[raw.len().saturating_sub(64)..].windows(2).any(|word| word == [0xFF, 0xD9]),
        Some(_) => false,
        None => is_short(stream.dict(), raw.len()),
    }
}

/// Whether packed data comes to its end. What does not begin as zlib's does is the decoder's to judge.
fn reaches_its_end(packed: &[u8]) -> bool {
    let Some(([method, flags], packed)) = packed.split_first_chunk::<2>() else { return true };
    if method & 0x0F != 8 || u16::from_be_bytes([*method, *flags]) % 31 != 0 {
        return true;
    }
    let mut decoder = Decompress::new(false);
    let mut room = vec![0; 1 << 16];
    loop {
        let (taken, made) = (decoder.total_in(), decoder.total_out());
        let rest = usize::try_from(taken).ok().and_then(|taken| packed.get(taken..)).unwrap_or_default();
        match decoder.decompress(rest, &mut room, FlushDecompress::None) {
            Ok(Status::StreamEnd) => return true,
            Err(_) => return false,
            Ok(_) if made >= MOST_UNPACKED => return true,
            Ok(_) if (taken, made) == (decoder.total_in(), decoder.total_out()) => return false,
            Ok(_) => {}
        }
    }
}

/// Whether an image that is not packed has fewer bytes than its sides demand.
fn is_short(about: &Dict<'_>, byte_len: usize) -> bool {
    let is_image = about.get::<Name<'_>>(b"Subtype").is_some_and(|kind| kind.as_str() == "Image");
    let number = |key: &[u8]| about.get::<u32>(key).map(u64::from);
    let (Some(width), Some(height)) = (number(b"Width"), number(b"Height")) else { return false };
    let is_mask = about.get::<bool>(b"ImageMask").unwrap_or(false);
    let bits = if is_mask { 1 } else { number(b"BitsPerComponent").unwrap_or(8) };
    let space = about.get::<Name<'_>>(b"ColorSpace").map(|name| name.as_str().to_owned());
    let channels = match space.as_deref() {
        Some("DeviceRGB") if !is_mask => 3,
        Some("DeviceCMYK") if !is_mask => 4,
        _ => 1,
    };
    let row = width.saturating_mul(bits).saturating_mul(channels).div_ceil(8);
    is_image && (byte_len as u64) < row.saturating_mul(height)
}
