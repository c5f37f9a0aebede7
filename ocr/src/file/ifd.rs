//! Directories of a TIFF file, and of the EXIF block of any other one, which is a small TIFF file: which tags are where.

/// The most directories that are followed: a TIFF file of more pages is refused.
pub const MAX_DIRECTORIES: usize = 20_000;
/// How the picture is turned.
pub const ORIENTATION: u16 = 0x0112;

/// What the first bytes say: byte order and width of offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    big_endian: bool,
    is_big_tiff: bool,
}

/// A directory.
#[derive(Clone, Debug)]
pub struct Directory {
    layout: Layout,
    /// Where it starts, in bytes.
    pub offset: u64,
    entries: Vec<Entry>,
    /// Where the next one starts; 0 where there is none.
    next: u64,
}

/// Where a tag's values are.
#[derive(Clone, Copy, Debug)]
struct Entry {
    tag: u16,
    kind: u16,
    count: u64,
    /// Of the values, in bytes from the start of the file.
    at: u64,
}

impl Layout {
    /// Whether a number's highest byte comes first.
    #[must_use]
    pub fn is_big_endian(self) -> bool {
        self.big_endian
    }

    /// Reads the header: the layout, and where the first directory starts. `None` where `bytes` are no TIFF.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Option<(Self, u64)> {
        let big_endian = match bytes.get(..2)? {
            b"II" => false,
            b"MM" => true,
            _ => return None,
        };
        let layout = Self { big_endian, is_big_tiff: false };
        match layout.number(bytes, 2, 2)? {
            42 => Some((layout, layout.number(bytes, 4, 4)?)),
            43 => Some((Self { is_big_tiff: true, ..layout }, layout.number(bytes, 8, 8)?)),
            _ => None,
        }
    }

    /// An unsigned number of `width` bytes.
    fn number(self, bytes: &[u8], at: u64, width: usize) -> Option<u64> {
        let at = usize::try_from(at).ok()?;
        let part = bytes.get(at..at.checked_add(width)?)?;
        let fold = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
        Some(if self.big_endian { part.iter().fold(0, fold) } else { part.iter().rev().fold(0, fold) })
    }

    /// Puts a number of `width` bytes.
    fn put(self, bytes: &mut [u8], at: u64, width: usize, value: u64) -> Option<()> {
        let at = usize::try_from(at).ok()?;
        let part = bytes.get_mut(at..at.checked_add(width)?)?;
        let all = value.to_le_bytes();
        part.copy_from_slice(&all[..width]);
        if self.big_endian {
            part.reverse();
        }
        Some(())
    }

    /// Makes the directory at `offset` the file's first.
    pub fn begin_at(self, bytes: &mut [u8], offset: u64) {
        let (at, width) = if self.is_big_tiff { (8, 8) } else { (4, 4) };
        let _ = self.put(bytes, at, width, offset);
    }

    /// Reads the directory at `offset`; of one that is cut off, what is there. `None` where it does not even begin.
    #[must_use]
    pub fn directory(self, bytes: &[u8], offset: u64) -> Option<Directory> {
        let (count_width, value_width) = if self.is_big_tiff { (8, 8) } else { (2, 4) };
        let count = self.number(bytes, offset, count_width)?;
        let length = 4 + 2 * value_width as u64;
        let first = offset.checked_add(count_width as u64)?;
        let count = count.min((bytes.len() as u64).saturating_sub(first) / length);
        let end = first.checked_add(count.checked_mul(length)?)?;
        let entry = |at: u64| {
            let at = first + at * length;
            let (tag, kind) = (self.number(bytes, at, 2)? as u16, self.number(bytes, at + 2, 2)? as u16);
            let values = at + 4 + value_width as u64;
            let count = self.number(bytes, at + 4, value_width)?;
            let inline = count.checked_mul(width_of(kind)? as u64)? <= value_width as u64;
            let at = if inline { values } else { self.number(bytes, values, value_width)? };
            Some(Entry { tag, kind, count, at })
        };
        let entries = (0..count).filter_map(entry).collect();
        let next = self.number(bytes, end, value_width).unwrap_or(0);
        Some(Directory { layout: self, offset, entries, next })
    }

    /// All directories, in order. A chain that leads back into itself or out of the file ends there.
    #[must_use]
    pub fn directories(self, bytes: &[u8], first: u64) -> Vec<Directory> {
        let (mut all, mut seen, mut at) = (Vec::new(), std::collections::BTreeSet::new(), first);
        while at != 0 && seen.insert(at) && all.len() <= MAX_DIRECTORIES {
            let Some(directory) = self.directory(bytes, at) else { break };
            at = directory.next;
            all.push(directory);
        }
        all
    }
}

/// Bytes of one value of a kind.
fn width_of(kind: u16) -> Option<usize> {
    match kind {
        1 | 2 | 6 | 7 => Some(1),
        3 | 8 => Some(2),
        4 | 9 | 11 | 13 => Some(4),
        5 | 10 | 12 | 16 | 17 | 18 => Some(8),
        _ => None,
    }
}

impl Directory {
    /// The first entry of a tag: later ones are not looked at, as in Pillow.
    fn entry(&self, tag: u16) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.tag == tag)
    }

    /// Whether the tag is there.
    #[must_use]
    pub fn has(&self, tag: u16) -> bool {
        self.entry(tag).is_some()
    }

    /// A tag's whole numbers, unsigned; empty where it is not there, is cut off, or has others.
    #[must_use]
    pub fn numbers(&self, bytes: &[u8], tag: u16) -> Vec<u64> {
        let Some(entry) = self.entry(tag) else { return Vec::new() };
        let (Some(width), 1 | 3 | 4 | 6 | 7 | 8 | 9 | 13 | 16 | 17 | 18) = (width_of(entry.kind), entry.kind) else {
            return Vec::new();
        };
        let fits = entry.count.checked_mul(width as u64).and_then(|len| len.checked_add(entry.at));
        if fits.is_none_or(|end| end > bytes.len() as u64) {
            return Vec::new();
        }
        let value = |at| self.layout.number(bytes, entry.at + at * width as u64, width);
        (0..entry.count).filter_map(value).collect()
    }

    /// A tag's first whole number.
    #[must_use]
    pub fn number(&self, bytes: &[u8], tag: u16) -> Option<u64> {
        self.numbers(bytes, tag).first().copied()
    }

    /// A tag's bytes, whatever their kind.
    #[must_use]
    pub fn bytes<'a>(&self, bytes: &'a [u8], tag: u16) -> Option<&'a [u8]> {
        let entry = self.entry(tag)?;
        let length = usize::try_from(entry.count).ok()?.checked_mul(width_of(entry.kind)?)?;
        let at = usize::try_from(entry.at).ok()?;
        bytes.get(at..at.checked_add(length)?)
    }

    /// The orientation, 1 to 8, in any kind of number that Pillow takes for one: whole, a fraction, floating. 0 for a value that
    /// means nothing; `None` where the tag is not there.
    #[must_use]
    pub fn orientation(&self, bytes: &[u8]) -> Option<u8> {
        let entry = self.entry(ORIENTATION)?;
        let at = |more: u64, width| self.layout.number(bytes, entry.at.checked_add(more)?, width);
        let value = match entry.kind {
            3 | 8 => at(0, 2),
            4 | 9 | 13 => at(0, 4),
            16..=18 => at(0, 8),
            5 | 10 => at(0, 4)
                .zip(at(4, 4))
                .and_then(|(over, under)| (over % under.max(1) == 0).then(|| over.checked_div(under)).flatten()),
            11 => at(0, 4).map(|bits| whole(f64::from(f32::from_bits(bits as u32)))),
            12 => at(0, 8).map(|bits| whole(f64::from_bits(bits))),
            _ => None,
        };
        Some(value.and_then(|value| u8::try_from(value).ok()).filter(|value| (1..=8).contains(value)).unwrap_or(0))
    }

    /// Puts a whole number into a tag that has one.
    pub fn set(&self, bytes: &mut [u8], tag: u16, value: u64) {
        if let Some((entry, width)) = self.entry(tag).and_then(|entry| Some((entry, width_of(entry.kind)?))) {
            let _ = self.layout.put(bytes, entry.at, width, value);
        }
    }
}

fn whole(value: f64) -> u64 {
    if value.fract() == 0.0 && (1.0..=8.0).contains(&value) { value as u64 } else { 0 }
}
