//! How a picture is turned, as Pillow's `exif_transpose` finds it: in EXIF, else in a profile that ImageMagick writes, else in XMP.

use image::metadata::Orientation;

use super::ifd::Layout;

/// What a file says of how it is turned.
#[derive(Clone, Debug, Default)]
pub struct Sayings {
    /// The EXIF block, with or without its leading `Exif\0\0`.
    pub exif: Option<Vec<u8>>,
    /// The hexadecimal text of a PNG's `Raw profile type exif`, which counts where there is no EXIF block.
    pub raw_profile: Option<String>,
    /// The XMP packet, which counts where neither has the tag.
    pub xmp: Option<Vec<u8>>,
}

impl Sayings {
    /// How it is turned.
    #[must_use]
    pub fn orientation(&self) -> Orientation {
        let profile = || self.raw_profile.as_deref().and_then(unhex);
        let exif = self.exif.clone().or_else(profile).and_then(|exif| of_exif(&exif));
        of(exif, self.xmp.as_deref())
    }
}

/// The orientation of a tag's value, else of an XMP packet.
#[must_use]
pub fn of(tag: Option<u8>, xmp: Option<&[u8]>) -> Orientation {
    let value = tag.or_else(|| xmp.and_then(of_xmp)).unwrap_or(1);
    Orientation::from_exif(value).unwrap_or(Orientation::NoTransforms)
}

/// The tag of an EXIF block's first directory.
fn of_exif(exif: &[u8]) -> Option<u8> {
    const HEAD: &[u8] = b"Exif\0\0";
    let block = exif.strip_prefix(HEAD).unwrap_or(exif);
    let block = block.strip_prefix(HEAD).unwrap_or(block);
    let (layout, first) = Layout::of(block)?;
    layout.directory(block, first)?.orientation(block)
}

/// `tiff:Orientation="6"` or `<tiff:Orientation>6`: the first of them.
fn of_xmp(xmp: &[u8]) -> Option<u8> {
    const NAME: &[u8] = b"tiff:Orientation";
    let digit = |at: usize| {
        let rest = &xmp[at + NAME.len()..];
        let rest = rest.strip_prefix(b"=\"").or_else(|| rest.strip_prefix(b">"))?;
        rest.first().filter(|byte| byte.is_ascii_digit()).map(|byte| byte - b'0')
    };
    let places = xmp.windows(NAME.len()).enumerate().filter(|(_, window)| *window == NAME);
    places.map(|(at, _)| at).find_map(digit)
}

/// The bytes of ImageMagick's profile: three lines of head, then hexadecimal digits.
fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: String = text.split('\n').skip(3).flat_map(str::chars).filter(|c| !c.is_whitespace()).collect();
    let pair = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    (0..digits.len()).step_by(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exif_counts_before_the_profile_and_both_before_xmp() {
        let block = |value: u8| {
            [b"II*\0\x08\0\0\0\x01\0\x12\x01\x04\0\x01\0\0\0".as_slice(), &[value, 0, 0, 0, 0, 0, 0, 0]].concat()
        };
        let profile = |value| {
            let digits: String = block(value).iter().map(|byte| format!("{byte:02x}")).collect();
            format!("\nexif\n      26\n{}\n{}\n", &digits[..20], &digits[20..])
        };
        let told = |exif: Option<u8>, raw: Option<u8>, xmp: Option<&str>| {
            let (exif, raw_profile) = (exif.map(block), raw.map(profile));
            Sayings { exif, raw_profile, xmp: xmp.map(|text| text.as_bytes().to_vec()) }.orientation().to_exif()
        };
        let six = Some("<tiff:Orientation>6</tiff:Orientation>");
        assert_eq!(told(Some(3), Some(8), six), 3);
        assert_eq!(told(None, Some(8), six), 8);
        assert_eq!(told(None, None, six), 6);
        assert_eq!(told(None, None, Some("tiff:Orientation='6' tiff:Orientation=\"5\"")), 5, "one that Pillow sees");
        assert_eq!(told(Some(0), None, six), 1, "a value that means nothing is one all the same");
        assert_eq!(told(None, None, Some("tiff:Orientation=\"9\"")), 1);
    }
}
