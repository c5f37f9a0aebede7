//! A page: an image file as Pillow's `exif_transpose(...).convert("RGB")` gives it, within limits on bytes and pixels.

use std::path::Path;

use image::metadata::Orientation;

use crate::{
    OcrError,
    file::{Decoding, ImageFile},
};

/// The largest file that is read, in bytes.
pub const MAX_BYTES: u64 = 256 << 20;
/// The most pixels that are decoded: beyond this Pillow takes an image for a decompression bomb, too.
pub const MAX_PIXELS: u64 = 178_956_970;

/// The longest side of a JPEG, in pixels.
pub const JPEG_SIDE: usize = 65_535;

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

    /// The page as a JPEG file of quality 95. A page with a side above [`JPEG_SIDE`] is made smaller: every second, third, … pixel.
    ///
    /// # Errors
    /// When it cannot be encoded.
    pub fn to_jpeg(&self) -> Result<Vec<u8>, OcrError> {
        let step = self.width.max(self.height).div_ceil(JPEG_SIDE);
        if step > 1 {
            return self.every(step).to_jpeg();
        }
        let mut bytes = Vec::new();
        let sides = u32::try_from(self.width).ok().zip(u32::try_from(self.height).ok());
        let (width, height) = sides.unwrap_or((u32::MAX, u32::MAX));
        let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 95);
        let encoded =
            image::ImageEncoder::write_image(encoder, &self.rgb, width, height, image::ExtendedColorType::Rgb8);
        encoded.map_err(|error| OcrError::NotAnImage { origin: "a cut".into(), reason: error.to_string() })?;
        Ok(bytes)
    }

    /// Every `step`th pixel of every `step`th row.
    fn every(&self, step: usize) -> Self {
        let rows = self.rgb.chunks_exact(self.width * 3).step_by(step);
        let rgb = rows.flat_map(|row| row.chunks_exact(3).step_by(step)).flatten().copied().collect();
        Self::from_parts(self.width.div_ceil(step), self.height.div_ceil(step), rgb)
    }

    /// The page turned upright.
    pub(crate) fn turned(self, orientation: Orientation) -> Self {
        if orientation == Orientation::NoTransforms {
            return self;
        }
        let sides = u32::try_from(self.width).ok().zip(u32::try_from(self.height).ok());
        let (width, height) = sides.unwrap_or_default();
        let Some(pixels) = image::RgbImage::from_raw(width, height, self.rgb) else {
            return Self::from_parts(0, 0, Vec::new());
        };
        let mut image = image::DynamicImage::ImageRgb8(pixels);
        image.apply_orientation(orientation);
        let (width, height) = (image.width() as usize, image.height() as usize);
        Self::from_parts(width, height, image.into_rgb8().into_raw())
    }

    /// The part that starts `left`, `top` pixels in; it must lie inside the page.
    #[must_use]
    pub fn part(&self, left: usize, top: usize, width: usize, height: usize) -> Self {
        let rows = self.rgb.chunks_exact(self.width * 3).skip(top).take(height);
        let rgb = rows.flat_map(|row| &row[left * 3..(left + width) * 3]).copied().collect();
        Self::from_parts(width, height, rgb)
    }
}

/// Opens an image file's first page, whatever its extension says, upright and in RGB.
///
/// # Errors
/// When the file cannot be read, is over the limits, or is no image.
pub fn open(path: &Path) -> Result<Page, OcrError> {
    Ok(ImageFile::open(path)?.page(0, Decoding::default(), MAX_PIXELS)?.page)
}

/// Decodes the first page of an image file's bytes; `origin` names them in errors.
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
    Ok(ImageFile::read(origin, bytes.to_vec())?.page(0, Decoding::default(), limit)?.page)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    use image::{DynamicImage, ImageBuffer, ImageFormat, Rgba};

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
        for bytes in [&b""[..], b"no image at all", &whole[..30], &whole[..whole.len() - 30]] {
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
