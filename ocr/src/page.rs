//! A page: an image file as Pillow's `exif_transpose(...).convert("RGB")` gives it, within limits on bytes and pixels.

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageReader, Limits};

use crate::OcrError;

/// The largest file that is read, in bytes.
pub const MAX_BYTES: u64 = 256 << 20;
/// The most pixels that are decoded: beyond this Pillow takes an image for a decompression bomb, too.
pub const MAX_PIXELS: u64 = 178_956_970;

/// An RGB image: rows from the top, three bytes a pixel, no padding; no side is 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

impl Page {
    /// A page of `width` × `height` pixels; `None` where a side is 0 or `rgb` is not `width` × `height` × 3 bytes.
    #[must_use]
    pub fn new(width: usize, height: usize, rgb: Vec<u8>) -> Option<Self> {
        let byte_len = width.checked_mul(height)?.checked_mul(3)?;
        (byte_len > 0 && byte_len == rgb.len()).then_some(Self { width, height, rgb })
    }

    /// As [`Page::new`], from code that has made the bytes itself.
    pub(crate) fn from_parts(width: usize, height: usize, rgb: Vec<u8>) -> Self {
        debug_assert_eq!(width * height * 3, rgb.len());
        Self { width, height, rgb }
    }

    /// Pixels a row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    #[must_use]
    pub fn height(&self) -> usize {
        self.height
    }

    /// The bytes: `height` × `width` × 3.
    #[must_use]
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// The page as a JPEG file of quality 95.
    ///
    /// # Errors
    /// When it cannot be encoded: a side above 65,535 pixels.
    pub fn to_jpeg(&self) -> Result<Vec<u8>, OcrError> {
        let mut bytes = Vec::new();
        let sides = u32::try_from(self.width).ok().zip(u32::try_from(self.height).ok());
        let (width, height) = sides.unwrap_or((u32::MAX, u32::MAX));
        let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 95);
        let encoded =
            image::ImageEncoder::write_image(encoder, &self.rgb, width, height, image::ExtendedColorType::Rgb8);
        encoded.map_err(|error| OcrError::NotAnImage { origin: "a cut".into(), reason: error.to_string() })?;
        Ok(bytes)
    }

    /// The part that starts `left`, `top` pixels in; it must lie inside the page.
    #[must_use]
    pub fn part(&self, left: usize, top: usize, width: usize, height: usize) -> Self {
        let rows = self.rgb.chunks_exact(self.width * 3).skip(top).take(height);
        let rgb = rows.flat_map(|row| &row[left * 3..(left + width) * 3]).copied().collect();
        Self::from_parts(width, height, rgb)
    }
}

/// Opens an image file, whatever its extension says, upright and in RGB.
///
/// # Errors
/// When the file cannot be read, is over the limits, or is no image.
pub fn open(path: &Path) -> Result<Page, OcrError> {
    let io = |source| OcrError::Io { path: path.to_owned(), source };
    // Asked before opening: opening a pipe waits for its writer.
    if !std::fs::metadata(path).map_err(io)?.is_file() {
        return Err(OcrError::NotAnImage {
            origin: path.display().to_string(),
            reason: "not a regular file".to_owned(),
        });
    }
    let mut bytes = Vec::new();
    File::open(path).map_err(io)?.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(io)?;
    read(&path.display().to_string(), &bytes)
}

/// Decodes an image file's bytes; `origin` names them in errors.
///
/// # Errors
/// When they are over the limits, or no image.
pub fn read(origin: &str, bytes: &[u8]) -> Result<Page, OcrError> {
    read_within(origin, bytes, MAX_PIXELS)
}

/// As [`read`], with fewer pixels.
///
/// # Errors
/// As [`read`]; `limit` pixels are the most, whatever the file says.
pub fn read_within(origin: &str, bytes: &[u8], limit: u64) -> Result<Page, OcrError> {
    let limit = limit.min(MAX_PIXELS);
    let byte_len = bytes.len() as u64;
    if byte_len > MAX_BYTES {
        return Err(OcrError::TooManyBytes { origin: origin.to_owned(), byte_len, limit: MAX_BYTES });
    }
    let broken = |reason: String| OcrError::NotAnImage { origin: origin.to_owned(), reason };
    if bytes.is_empty() {
        return Err(broken("the file is empty".to_owned()));
    }
    let mut reader =
        ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|error| broken(error.to_string()))?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(limit.saturating_mul(8));
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(|error| broken(error.to_string()))?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > limit {
        return Err(OcrError::TooManyPixels { origin: origin.to_owned(), width, height, limit });
    }
    let orientation = decoder.orientation().map_err(|error| broken(error.to_string()))?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(|error| broken(error.to_string()))?;
    image.apply_orientation(orientation);
    let (width, height) = (image.width() as usize, image.height() as usize);
    Page::new(width, height, rgb(image)).ok_or_else(|| broken(format!("found {width}×{height} pixels")))
}

/// RGB as Pillow's `convert` makes it: alpha is dropped, 16-bit colours keep their high byte, and 16-bit grey, which
/// Pillow holds as integers, is cut off at 255.
fn rgb(image: DynamicImage) -> Vec<u8> {
    match image {
        DynamicImage::ImageLuma16(grey) => {
            grey.iter().flat_map(|value| [u8::try_from(*value).unwrap_or(u8::MAX); 3]).collect()
        }
        DynamicImage::ImageLumaA16(grey) => grey.pixels().flat_map(|pixel| [high(pixel.0[0]); 3]).collect(),
        DynamicImage::ImageRgb16(colour) => colour.iter().map(|value| high(*value)).collect(),
        DynamicImage::ImageRgba16(colour) => {
            colour.pixels().flat_map(|pixel| [high(pixel.0[0]), high(pixel.0[1]), high(pixel.0[2])]).collect()
        }
        other => other.into_rgb8().into_raw(),
    }
}

fn high(value: u16) -> u8 {
    value.to_be_bytes()[0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{ImageBuffer, ImageFormat, Rgba};

    fn png(image: &DynamicImage) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, ImageFormat::Png).expect("encodes");
        bytes.into_inner()
    }

    #[test]
    fn alpha_is_dropped_and_sixteen_bit_grey_is_cut_off() {
        let clear = DynamicImage::ImageRgba8(ImageBuffer::from_pixel(1, 1, Rgba([9, 8, 7, 0])));
        assert_eq!(read("clear", &png(&clear)).expect("a page").rgb(), [9, 8, 7]);
        let grey = ImageBuffer::from_vec(3, 1, vec![5_u16, 256, 65_535]).expect("a buffer");
        let grey = DynamicImage::ImageLuma16(grey);
        assert_eq!(read("grey", &png(&grey)).expect("a page").rgb(), [5, 5, 5, 255, 255, 255, 255, 255, 255]);
    }

    #[test]
    fn broken_bytes_are_named() {
        let whole = png(&DynamicImage::new_rgb8(40, 40));
        for bytes in [&b""[..], b"no image at all", &whole[..30], &whole[..whole.len() - 20]] {
            let error = read("page.png", bytes).expect_err("no image");
            assert!(matches!(error, OcrError::NotAnImage { .. }), "{error}");
            assert!(error.to_string().starts_with("page.png: expected"), "{error}");
        }
    }

    #[test]
    fn a_bomb_is_refused_by_its_header() {
        let mut bytes = png(&DynamicImage::new_luma8(1, 1));
        // IHDR's width and height, and its CRC, which is checked first.
        bytes[16..24].copy_from_slice(&[0, 1, 0, 0, 0, 1, 0, 0]);
        let mut crc = !0_u32;
        for byte in &bytes[12..29] {
            crc ^= u32::from(*byte);
            for _ in 0..8 {
                crc = if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 };
            }
        }
        bytes[29..33].copy_from_slice(&(!crc).to_be_bytes());
        let error = read("bomb", &bytes).expect_err("too large");
        assert!(matches!(error, OcrError::TooManyPixels { width: 65_536, .. }), "{error}");
    }
}
