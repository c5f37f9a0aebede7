//! Pages of TIFF files: every kind that Pillow has a mode for, each directory a page.
//!
//! The samples are read by the `tiff` crate, fax codes by `hayro-ccitt`. Neither turns samples into colours here: the directory is
//! made to say "grey" first, so that the samples come as they lie in the file, and [`super::samples`] does what Pillow does.

use std::io::Cursor;

use hayro_ccitt::{DecodeSettings, DecoderContext, EncodingMode};
use tiff::decoder::{Decoder, DecodingResult, Limits};

use super::{
    Decoding,
    ifd::{Directory, Layout},
    samples::{Alpha, Colours, Kind, Samples, colours},
    tiles::{self, Grid},
};

const SUBFILE: u16 = 254;
const WIDTH: u16 = 256;
const HEIGHT: u16 = 257;
const BITS: u16 = 258;
const COMPRESSION: u16 = 259;
const PHOTOMETRIC: u16 = 262;
const FILL_ORDER: u16 = 266;
const STRIP_OFFSETS: u16 = 273;
const SAMPLES_PER_PIXEL: u16 = 277;
const ROWS_PER_STRIP: u16 = 278;
const STRIP_BYTE_COUNTS: u16 = 279;
const PLANAR: u16 = 284;
const FAX_OPTIONS: u16 = 292;
const TILE_OFFSETS: u16 = 324;
const TILE_BYTE_COUNTS: u16 = 325;
const COLOUR_MAP: u16 = 320;
const EXTRA_SAMPLES: u16 = 338;
const SAMPLE_FORMAT: u16 = 339;
const XMP: u16 = 700;

/// JPEG inside TIFF, which its decoder turns into RGB.
const JPEG: [u64; 2] = [6, 7];

/// The directories of a file that hold pages, and how many are left out: smaller copies of a page, and masks.
pub fn pages(bytes: &[u8]) -> Option<(Layout, Vec<Directory>, usize)> {
    let (layout, first) = Layout::of(bytes)?;
    let all = layout.directories(bytes, first);
    let count = all.len();
    let is_page = |at: usize, directory: &Directory| at == 0 || directory.number(bytes, SUBFILE).unwrap_or(0) & 5 == 0;
    let pages: Vec<Directory> =
        all.into_iter().enumerate().filter(|(at, directory)| is_page(*at, directory)).map(|(_, page)| page).collect();
    let left_out = count - pages.len();
    Some((layout, pages, left_out))
}

/// What a directory says of its page.
struct Shape {
    width: u32,
    height: u32,
    bits: u64,
    per_pixel: usize,
    photometric: u64,
    compression: u64,
}

impl Shape {
    fn of(directory: &Directory, bytes: &[u8]) -> Result<Self, String> {
        let number = |tag| directory.number(bytes, tag);
        let side = |tag, name: &str| {
            let side = number(tag).and_then(|side| u32::try_from(side).ok()).filter(|side| *side > 0);
            side.ok_or_else(|| format!("its directory has no {name}"))
        };
        let per_pixel = number(SAMPLES_PER_PIXEL).unwrap_or(1);
        if !(1..=8).contains(&per_pixel) {
            return Err(format!("expected 1 to 8 samples a pixel, found {per_pixel}"));
        }
        Ok(Self {
            width: side(WIDTH, "width")?,
            height: side(HEIGHT, "height")?,
            bits: number(BITS).unwrap_or(1),
            per_pixel: per_pixel as usize,
            photometric: number(PHOTOMETRIC).unwrap_or(0),
            compression: number(COMPRESSION).unwrap_or(1),
        })
    }

    fn is_fax(&self) -> bool {
        (2..=4).contains(&self.compression)
    }
}

/// A page's sides in pixels, as they lie in the file.
///
/// # Errors
/// When its directory has none.
pub fn sides(directory: &Directory, bytes: &[u8]) -> Result<(u32, u32), String> {
    Shape::of(directory, bytes).map(|shape| (shape.width, shape.height))
}

/// How a page is turned: its own tag, else its XMP packet.
pub fn orientation(directory: &Directory, bytes: &[u8]) -> image::metadata::Orientation {
    super::orientation::of(directory.orientation(bytes), directory.bytes(bytes, XMP))
}

/// A page's colours, as they lie in the file. `bytes` are the file's own copy: the directory's words are changed in it.
///
/// # Errors
/// When the page is broken, or of a kind that Pillow has no mode for.
pub fn page(layout: Layout, directory: &Directory, bytes: &mut [u8], decoding: Decoding) -> Result<Colours, String> {
    let shape = Shape::of(directory, bytes)?;
    let (kind, alpha) = kind(&shape, directory, bytes)?;
    let map: Vec<u8> = directory.numbers(bytes, COLOUR_MAP).iter().map(|value| (value >> 8) as u8).collect();
    let samples = if shape.is_fax() {
        Samples::U8(fax(&shape, directory, bytes)?)
    } else {
        if directory.number(bytes, FILL_ORDER) == Some(2) {
            turn_bits(directory, bytes);
        }
        read(layout, directory, bytes, &shape)?
    };
    let pixels = shape.width as usize * shape.height as usize;
    let per_pixel = if shape.is_fax() { 1 } else { shape.per_pixel };
    let made = colours(&samples, per_pixel, kind, alpha, &map, decoding);
    if made.rgb.len() == pixels * 3 {
        Ok(made)
    } else {
        Err(format!("expected {pixels} pixels, found {}: truncated", made.rgb.len() / 3))
    }
}

fn kind(shape: &Shape, directory: &Directory, bytes: &[u8]) -> Result<(Kind, Alpha), String> {
    if JPEG.contains(&shape.compression) && !matches!(shape.per_pixel, 1 | 3 | 4) {
        return Err(format!("expected a JPEG of 1, 3 or 4 samples a pixel, found {}", shape.per_pixel));
    }
    let (kind, channels) = match shape.photometric {
        // Pillow leaves 16-bit grey as it is, whichever end is white.
        0 | 1 if shape.bits == 16 && shape.per_pixel == 1 => (Kind::WideGrey, 1),
        0 | 1 => (Kind::Grey { is_white_zero: shape.photometric == 0 }, 1),
        3 => (Kind::Palette, 1),
        5 => (Kind::Cmyk, 4),
        6 if shape.per_pixel == 1 => (Kind::Grey { is_white_zero: false }, 1),
        6 if shape.compression != 1 => (Kind::YCbCrOfLibtiff, 3),
        6 => (Kind::YCbCr, 3),
        2 => (Kind::Rgb, 3),
        other => {
            return Err(format!(
                "expected grey, a palette, RGB, CMYK or YCbCr, found photometric interpretation {other}"
            ));
        }
    };
    if shape.per_pixel < channels {
        return Err(format!("expected at least {channels} samples a pixel, found {}", shape.per_pixel));
    }
    let extra = directory.number(bytes, EXTRA_SAMPLES);
    let alpha = match extra {
        _ if shape.per_pixel == channels || kind == Kind::Cmyk => Alpha::None,
        Some(0) => Alpha::None,
        Some(1) => Alpha::Multiplied,
        Some(_) => Alpha::Plain,
        None if kind == Kind::Rgb => Alpha::Plain,
        None => Alpha::None,
    };
    Ok((kind, alpha))
}

/// The strips or tiles: where they are, and how long.
fn parts(directory: &Directory, bytes: &[u8]) -> Vec<(usize, usize)> {
    let tags =
        if directory.has(TILE_OFFSETS) { [TILE_OFFSETS, TILE_BYTE_COUNTS] } else { [STRIP_OFFSETS, STRIP_BYTE_COUNTS] };
    let offsets = directory.numbers(bytes, tags[0]);
    let mut lengths = directory.numbers(bytes, tags[1]);
    if lengths.is_empty() && offsets.len() == 1 {
        lengths.push(bytes.len() as u64 - offsets[0].min(bytes.len() as u64));
    }
    let inside = |(offset, length): (u64, u64)| {
        let start = offset.min(bytes.len() as u64);
        let end = offset.saturating_add(length).min(bytes.len() as u64);
        (start as usize, end as usize)
    };
    offsets.into_iter().zip(lengths).map(inside).collect()
}

/// Fill order 2: the lowest bit comes first.
fn turn_bits(directory: &Directory, bytes: &mut [u8]) {
    for (start, end) in parts(directory, bytes) {
        bytes[start..end].iter_mut().for_each(|byte| *byte = byte.reverse_bits());
    }
}

/// Samples as they lie in the file.
fn read(layout: Layout, directory: &Directory, bytes: &mut [u8], shape: &Shape) -> Result<Samples, String> {
    if directory.has(TILE_OFFSETS) && tiles::READ.contains(&shape.compression) {
        return tiled(layout, directory, bytes, shape);
    }
    if directory.has(TILE_OFFSETS) && directory.number(bytes, PLANAR) == Some(2) {
        return Err("expected the samples of a pixel side by side in its JPEG tiles, found planes".to_owned());
    }
    if !JPEG.contains(&shape.compression) || [0, 3].contains(&shape.photometric) {
        // Grey of several samples: nothing is turned round, and nothing refused.
        directory.set(bytes, PHOTOMETRIC, 1);
    }
    layout.begin_at(bytes, directory.offset);
    let broken = |error: tiff::TiffError| error.to_string();
    let mut limits = Limits::default();
    let pixels = shape.width as usize * shape.height as usize;
    let most = pixels.saturating_mul(shape.per_pixel).saturating_mul((shape.bits as usize).div_ceil(8).max(1));
    limits.decoding_buffer_size = most.saturating_add(1 << 20);
    limits.intermediate_buffer_size = most.saturating_add(bytes.len()).saturating_add(1 << 20);
    limits.ifd_value_size = bytes.len();
    let planes = if directory.number(bytes, PLANAR) == Some(2) { shape.per_pixel } else { 1 };
    let mut decoder = Decoder::new(Cursor::new(&*bytes)).map_err(broken)?.with_limits(limits);
    let mut result = DecodingResult::U8(Vec::new());
    decoder.read_image_to_buffer(&mut result).map_err(broken)?;
    let row = shape.width as usize * shape.per_pixel / planes;
    let samples = match result {
        DecodingResult::U8(all) if shape.bits < 8 => {
            let to_full = matches!(shape.photometric, 0 | 1);
            Samples::U8(unpacked(&all, row, shape.bits as u32, to_full))
        }
        DecodingResult::U8(all) => Samples::U8(all),
        DecodingResult::U16(all) => Samples::U16(all),
        DecodingResult::U32(all) => Samples::F64(all.into_iter().map(|value| f64::from(value as i32)).collect()),
        DecodingResult::I8(all) => Samples::U8(all.into_iter().map(|value| value as u8).collect()),
        DecodingResult::I16(all) => Samples::F64(all.into_iter().map(f64::from).collect()),
        DecodingResult::I32(all) => Samples::F64(all.into_iter().map(f64::from).collect()),
        DecodingResult::F32(all) => Samples::F64(all.into_iter().map(f64::from).collect()),
        _ => return Err(format!("expected at most 32 bits a sample, found {}", shape.bits)),
    };
    Ok(if planes > 1 { interleaved(samples, planes, pixels) } else { samples })
}

/// Samples that lie in tiles.
fn tiled(layout: Layout, directory: &Directory, bytes: &[u8], shape: &Shape) -> Result<Samples, String> {
    let planes = if directory.number(bytes, PLANAR) == Some(2) { shape.per_pixel } else { 1 };
    let (width, height, bits) = (shape.width as usize, shape.height as usize, shape.bits as usize);
    if ![1, 2, 4, 8, 16, 32].contains(&bits) {
        return Err(format!("expected 1, 2, 4, 8, 16 or 32 bits a sample, found {bits}"));
    }
    let grid = Grid { width, height, bits, samples: shape.per_pixel / planes, planes };
    let all = tiles::read(layout, directory, bytes, grid, &parts(directory, bytes))?;
    let format = directory.number(bytes, SAMPLE_FORMAT).unwrap_or(1);
    let words = || all.as_chunks::<2>().0.iter();
    let wide = || all.as_chunks::<4>().0.iter();
    let samples = match (bits, format) {
        (..8, _) => {
            let to_full = matches!(shape.photometric, 0 | 1);
            Samples::U8(unpacked(&all, width * grid.samples, bits as u32, to_full))
        }
        (8, _) => Samples::U8(all),
        (16, 2) => Samples::F64(words().map(|word| f64::from(i16::from_ne_bytes(*word))).collect()),
        (16, 3) => return Err("expected floating samples of 32 bits, found 16".to_owned()),
        (16, _) => Samples::U16(words().map(|word| u16::from_ne_bytes(*word)).collect()),
        (_, 3) => Samples::F64(wide().map(|word| f64::from(f32::from_ne_bytes(*word))).collect()),
        _ => Samples::F64(wide().map(|word| f64::from(i32::from_ne_bytes(*word))).collect()),
    };
    Ok(if planes > 1 { interleaved(samples, planes, width * height) } else { samples })
}

/// Samples of 1, 2 or 4 bits, whose rows begin with a byte; `to_full`: their largest becomes 255.
fn unpacked(packed: &[u8], row: usize, bits: u32, to_full: bool) -> Vec<u8> {
    let per_byte = (8 / bits) as usize;
    let mask = (1_u16 << bits) - 1;
    let factor = if to_full { 255 / mask } else { 1 };
    let sample = |line: &[u8], at: usize| {
        let shift = 8 - bits * (at % per_byte + 1) as u32;
        ((u16::from(line[at / per_byte]) >> shift & mask) * factor) as u8
    };
    packed
        .chunks_exact(row.div_ceil(per_byte).max(1))
        .flat_map(|line| (0..row).map(move |at| sample(line, at)))
        .collect()
}

fn interleaved(samples: Samples, planes: usize, pixels: usize) -> Samples {
    fn turn<T: Copy>(all: &[T], planes: usize, pixels: usize) -> Vec<T> {
        let at = |pixel: usize| (0..planes).filter_map(move |plane| all.get(plane * pixels + pixel).copied());
        (0..pixels).flat_map(at).collect()
    }
    match samples {
        Samples::U8(all) => Samples::U8(turn(&all, planes, pixels)),
        Samples::U16(all) => Samples::U16(turn(&all, planes, pixels)),
        Samples::F64(all) => Samples::F64(turn(&all, planes, pixels)),
    }
}

/// Rows of black and white as bytes: 0 is the colour of the code's white runs.
struct Rows {
    width: usize,
    samples: Vec<u8>,
}

impl hayro_ccitt::Decoder for Rows {
    fn push_row(&mut self, changes: &[u32]) {
        let start = self.samples.len();
        self.samples.resize(start + self.width, 0);
        for run in changes.chunks(2) {
            let first = (run[0] as usize).min(self.width);
            let end = run.get(1).map_or(self.width, |end| (*end as usize).min(self.width));
            self.samples[start + first..start + end.max(first)].fill(255);
        }
    }
}

/// How a fax is coded: by its compression, and for group 3 by its options.
fn fax_encoding(shape: &Shape, directory: &Directory, bytes: &[u8]) -> EncodingMode {
    let options = if shape.compression == 3 { directory.number(bytes, FAX_OPTIONS).unwrap_or(0) } else { 0 };
    match shape.compression {
        4 => EncodingMode::Group4,
        3 if options & 1 == 1 => EncodingMode::Group3_2D,
        _ => EncodingMode::Group3_1D,
    }
}

fn fax(shape: &Shape, directory: &Directory, bytes: &mut [u8]) -> Result<Vec<u8>, String> {
    if shape.bits != 1 || shape.per_pixel != 1 || directory.has(TILE_OFFSETS) {
        return Err("expected a fax of one bit a pixel in strips".to_owned());
    }
    if directory.number(bytes, FILL_ORDER) == Some(2) {
        turn_bits(directory, bytes);
    }
    let encoding = fax_encoding(shape, directory, bytes);
    let per_strip = directory.number(bytes, ROWS_PER_STRIP).unwrap_or(u64::from(shape.height));
    let per_strip = u32::try_from(per_strip).unwrap_or(u32::MAX).clamp(1, shape.height);
    let width = shape.width as usize;
    let mut all = Vec::with_capacity(width * shape.height as usize);
    for (start, end) in parts(directory, bytes) {
        let done = (all.len() / width) as u32;
        let rows = per_strip.min(shape.height - done);
        if rows == 0 {
            break;
        }
        let settings = DecodeSettings {
            columns: shape.width,
            rows,
            end_of_block: true,
            end_of_line: shape.compression == 3,
            rows_are_byte_aligned: shape.compression == 2,
            encoding,
            strict: false,
        };
        let mut strip = Rows { width, samples: Vec::new() };
        let decoded = hayro_ccitt::decode(&bytes[start..end], &mut strip, &mut DecoderContext::new(settings));
        strip.samples.truncate(rows as usize * width);
        if strip.samples.len() < rows as usize * width {
            let why = decoded.err().map_or_else(|| "truncated".to_owned(), |error| format!("{error:?}"));
            return Err(format!("its fax code ends after {} of {rows} rows: {why}", strip.samples.len() / width));
        }
        all.extend(strip.samples);
    }
    Ok(all)
}
