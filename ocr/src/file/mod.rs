//! Image files: their pages, upright and in RGB, pixel for pixel as the release's `load_image` has them
//! (`ImageOps.exif_transpose(Image.open(path)).convert("RGB")`, Pillow 13), with a word on what that loses.

mod chunks;
mod gif_canvas;
mod ifd;
mod orientation;
mod samples;
mod tiff;
mod tiles;

use std::{fs::File, io::Cursor, io::Read as _, path::Path};

use image::{DynamicImage, ImageDecoder, ImageReader, Limits, metadata::Orientation};

use self::{
    ifd::{Directory, Layout, MAX_DIRECTORIES},
    orientation::Sayings,
    samples::{Alpha, Colours, Kind, Samples, colours},
};
use crate::{
    OcrError,
    page::{MAX_BYTES, MAX_PIXELS, Page},
};

/// Where the release makes a page unreadable, what to do instead. By default, what the release does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decoding {
    /// Transparent pixels are laid on white. The release drops their opacity: what was clear may come out black.
    pub flatten_white: bool,
    /// 16-bit grey is scaled to 8 bits. The release cuts it off at 255: nearly all of it turns white.
    pub scale_16bit: bool,
}

/// A page, and what was lost when it was decoded.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// The page, upright.
    pub page: Page,
    /// What the page lost, a sentence each.
    pub notes: Vec<String>,
}

/// An image file. TIFF files may hold several pages, all others one.
#[derive(Debug)]
pub struct ImageFile {
    origin: String,
    bytes: Vec<u8>,
    tiff: Option<Tiff>,
}

#[derive(Debug)]
struct Tiff {
    layout: Layout,
    pages: Vec<Directory>,
    left_out: usize,
}

impl ImageFile {
    /// Opens an image file, whatever its extension says.
    ///
    /// # Errors
    /// When the file cannot be read, or is over the limits.
    pub fn open(path: &Path) -> Result<Self, OcrError> {
        let io = |source| OcrError::Io { path: path.to_owned(), source };
        // Asked before opening: opening a pipe waits for its writer.
        if !std::fs::metadata(path).map_err(io)?.is_file() {
            let (origin, reason) = (path.display().to_string(), "not a regular file".to_owned());
            return Err(OcrError::NotAnImage { origin, reason });
        }
        let mut bytes = Vec::new();
        File::open(path).map_err(io)?.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(io)?;
        Self::read(&path.display().to_string(), bytes)
    }

    /// As [`ImageFile::open`], of a file's bytes; `origin` names them in errors.
    ///
    /// # Errors
    /// When there are none, or too many.
    pub fn read(origin: &str, bytes: Vec<u8>) -> Result<Self, OcrError> {
        let byte_len = bytes.len() as u64;
        if byte_len > MAX_BYTES {
            return Err(OcrError::TooManyBytes { origin: origin.to_owned(), byte_len, limit: MAX_BYTES });
        }
        let broken = |reason: &str| OcrError::NotAnImage { origin: origin.to_owned(), reason: reason.to_owned() };
        if bytes.is_empty() {
            return Err(broken("the file is empty"));
        }
        let tiff = tiff::pages(&bytes).map(|(layout, pages, left_out)| Tiff { layout, pages, left_out });
        if let Some(tiff) = &tiff {
            match tiff.pages.len() {
                0 => return Err(broken("its first directory is cut off")),
                count if count > MAX_DIRECTORIES => {
                    return Err(broken(&format!("expected at most {MAX_DIRECTORIES} pages, found more")));
                }
                _ => {}
            }
        }
        Ok(Self { origin: origin.to_owned(), bytes, tiff })
    }

    /// How many pages it has; at least 1.
    #[must_use]
    pub fn page_count(&self) -> usize {
        self.tiff.as_ref().map_or(1, |tiff| tiff.pages.len())
    }

    /// Smaller copies of pages, and masks, which a TIFF file may hold beside its pages and which are not read.
    #[must_use]
    pub fn left_out(&self) -> usize {
        self.tiff.as_ref().map_or(0, |tiff| tiff.left_out)
    }

    /// Decodes the page `index`, counted from 0, of at most `limit` pixels.
    ///
    /// # Errors
    /// When there is no such page, it is over the limit, or it cannot be decoded.
    pub fn page(&mut self, index: usize, decoding: Decoding, limit: u64) -> Result<Decoded, OcrError> {
        let limit = limit.min(MAX_PIXELS);
        let raw =
            if self.tiff.is_some() { self.of_tiff(index, decoding, limit) } else { self.of_one(decoding, limit) }?;
        let (made, [width, height]) = (raw.colours, raw.sides.map(|side| side as usize));
        let notes = notes(&made, width * height, raw.is_animated);
        let broken = |reason: String| OcrError::NotAnImage { origin: self.origin.clone(), reason };
        let found = || broken(format!("found {width}×{height} pixels"));
        let page = Page::new(width, height, made.rgb).ok_or_else(found)?;
        Ok(Decoded { page: page.turned(raw.orientation), notes })
    }

    fn of_tiff(&mut self, index: usize, decoding: Decoding, limit: u64) -> Result<Raw, OcrError> {
        let origin = &self.origin;
        let several = self.tiff.as_ref().is_some_and(|tiff| tiff.pages.len() > 1);
        let broken = |reason: String| {
            let reason = if several { format!("page {}: {reason}", index + 1) } else { reason };
            OcrError::NotAnImage { origin: origin.clone(), reason }
        };
        let Some((tiff, directory)) = self.tiff.as_ref().and_then(|tiff| Some((tiff, tiff.pages.get(index)?))) else {
            return Err(broken("there is no such page".to_owned()));
        };
        let (width, height) = tiff::sides(directory, &self.bytes).map_err(broken)?;
        if u64::from(width) * u64::from(height) > limit {
            return Err(OcrError::TooManyPixels { origin: origin.clone(), width, height, limit });
        }
        let orientation = tiff::orientation(directory, &self.bytes);
        // Its own copy: the decoder is told another story than the file tells.
        let mut copy = self.bytes.clone();
        let colours = tiff::page(tiff.layout, directory, &mut copy, decoding).map_err(broken)?;
        Ok(Raw { sides: [width, height], colours, orientation, is_animated: false })
    }

    fn of_one(&self, decoding: Decoding, limit: u64) -> Result<Raw, OcrError> {
        let broken = |reason: String| OcrError::NotAnImage { origin: self.origin.clone(), reason };
        if let Some(reason) = chunks::wrong(&self.bytes) {
            return Err(broken(reason.to_owned()));
        }
        if self.bytes.starts_with(b"GIF8") {
            let (sides, colours, is_animated) = gif_canvas::canvas(&self.bytes, decoding, limit).map_err(broken)?;
            return Ok(Raw { sides, colours, orientation: Orientation::NoTransforms, is_animated });
        }
        let is_png = chunks::is_png(&self.bytes);
        let mended = if is_png { chunks::with_end(&self.bytes) } else { None };
        let bytes = mended.as_deref().unwrap_or(&self.bytes);
        let mut reader =
            ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|error| broken(error.to_string()))?;
        let is_animated = is_png && chunks::png_is_animated(bytes) || chunks::webp_is_animated(bytes);
        let mut limits = Limits::default();
        limits.max_alloc = Some(limit.saturating_mul(8));
        reader.limits(limits);
        let mut decoder = reader.into_decoder().map_err(|error| broken(error.to_string()))?;
        let (width, height) = decoder.dimensions();
        if u64::from(width) * u64::from(height) > limit {
            return Err(OcrError::TooManyPixels { origin: self.origin.clone(), width, height, limit });
        }
        let orientation = if is_png {
            chunks::png_sayings(bytes).orientation()
        } else {
            let (exif, xmp) = (decoder.exif_metadata().ok().flatten(), decoder.xmp_metadata().ok().flatten());
            Sayings { exif, raw_profile: None, xmp }.orientation()
        };
        let image = DynamicImage::from_decoder(decoder).map_err(|error| broken(error.to_string()))?;
        let sides = [image.width(), image.height()];
        // Grey of 16 bits with one value for "transparent" is 16-bit grey to Pillow; grey with opacity is not.
        let is_wide_grey = is_png && bytes.get(24..26) == Some(&[16, 0]);
        let mut colours = of_image(image, is_wide_grey, decoding);
        if let Some(bits) = five_bits(&self.bytes) {
            scale_down(&mut colours.rgb, bits);
        }
        Ok(Raw { sides, colours, orientation, is_animated })
    }
}

/// Bits of red, green and blue in a bitmap of 16 bits a pixel, which Pillow scales downwards and others to the nearest.
fn five_bits(bytes: &[u8]) -> Option<[u32; 3]> {
    let word = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    let is_wide = bytes.starts_with(b"BM") && word(14)? >= 40 && bytes.get(28..30)? == [16, 0];
    let has_masks = word(30)? == 3;
    is_wide.then_some(if has_masks && word(58)? == 0x07E0 { [5, 6, 5] } else { [5; 3] })
}

/// Colours of so few bits as Pillow scales them.
fn scale_down(rgb: &mut [u8], bits: [u32; 3]) {
    let scaled = |value: u8, bits: u32| {
        let most = (1 << bits) - 1;
        ((u32::from(value) * most + 127) / 255 * 255 / most) as u8
    };
    for pixel in rgb.chunks_exact_mut(3) {
        pixel.iter_mut().zip(bits).for_each(|(value, bits)| *value = scaled(*value, bits));
    }
}

/// A page as it lies in its file.
struct Raw {
    sides: [u32; 2],
    colours: Colours,
    orientation: Orientation,
    is_animated: bool,
}

/// What is to be said of a page.
fn notes(made: &Colours, pixels: usize, is_animated: bool) -> Vec<String> {
    let mut notes = Vec::new();
    if made.clipped > 0 {
        notes.push(format!(
            "16-bit grey: {} of {pixels} pixels are above 255 and turn white, as in the release; --scale-16bit keeps them",
            made.clipped
        ));
    }
    if made.unlike_on_white > 0 {
        notes.push(format!(
            "transparency is dropped, as in the release: {} of {pixels} pixels look otherwise than on white; \
             --flatten white lays them on it",
            made.unlike_on_white
        ));
    }
    if is_animated {
        notes.push("an animation: only its first frame is read".to_owned());
    }
    notes
}

/// RGB as Pillow's `convert` makes it of what was decoded.
fn of_image(image: DynamicImage, is_wide_grey: bool, decoding: Decoding) -> Colours {
    let grey = Kind::Grey { is_white_zero: false };
    let (samples, per_pixel, kind, alpha) = match image {
        DynamicImage::ImageLuma8(all) => (Samples::U8(all.into_raw()), 1, grey, Alpha::None),
        DynamicImage::ImageLumaA8(all) => (Samples::U8(all.into_raw()), 2, grey, Alpha::Plain),
        DynamicImage::ImageRgb8(all) => (Samples::U8(all.into_raw()), 3, Kind::Rgb, Alpha::None),
        DynamicImage::ImageRgba8(all) => (Samples::U8(all.into_raw()), 4, Kind::Rgb, Alpha::Plain),
        DynamicImage::ImageLuma16(all) => (Samples::U16(all.into_raw()), 1, Kind::WideGrey, Alpha::None),
        DynamicImage::ImageLumaA16(all) if is_wide_grey => {
            (Samples::U16(all.into_raw()), 2, Kind::WideGrey, Alpha::Plain)
        }
        DynamicImage::ImageLumaA16(all) => (Samples::U16(all.into_raw()), 2, grey, Alpha::Plain),
        DynamicImage::ImageRgb16(all) => (Samples::U16(all.into_raw()), 3, Kind::Rgb, Alpha::None),
        DynamicImage::ImageRgba16(all) => (Samples::U16(all.into_raw()), 4, Kind::Rgb, Alpha::Plain),
        other => (Samples::U8(other.into_rgb8().into_raw()), 3, Kind::Rgb, Alpha::None),
    };
    colours(&samples, per_pixel, kind, alpha, &[], decoding)
}
