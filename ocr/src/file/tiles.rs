//! Tiles of a TIFF page into rows: uncompressed, LZW, deflate and PackBits, each plane by itself, with either predictor.
//!
//! Like libtiff it takes what a tile needs and asks for nothing after it: not for a code that says "end", which some writers leave out.

use std::io::Read as _;

use super::ifd::{Directory, Layout};

const COMPRESSION: u16 = 259;
const PREDICTOR: u16 = 317;
const TILE_WIDTH: u16 = 322;
const TILE_HEIGHT: u16 = 323;

/// The most bytes of a page's samples.
const MOST_BYTES: u64 = 8 * crate::page::MAX_PIXELS;
/// Compressions that are read here.
pub const READ: [u64; 5] = [1, 5, 8, 32_773, 32_946];

/// What a page's samples look like.
#[derive(Debug, Clone, Copy)]
pub struct Grid {
    /// Pixels a row of the page.
    pub width: usize,
    /// Rows of the page.
    pub height: usize,
    /// Bits a sample.
    pub bits: usize,
    /// Samples a pixel within a plane.
    pub samples: usize,
    /// Planes, one after another.
    pub planes: usize,
}

/// How a page is cut into tiles.
struct Sides {
    /// Rows of a tile.
    down: usize,
    /// Bytes of the page's row, and of a tile's.
    row: usize,
    tile_row: usize,
    /// Tiles beside and above each other.
    columns: usize,
    rows: usize,
}

impl Sides {
    fn of(directory: &Directory, bytes: &[u8], grid: Grid) -> Result<Self, String> {
        let number =
            |tag| directory.number(bytes, tag).and_then(|side| usize::try_from(side).ok()).filter(|side| *side > 0);
        let (Some(across), Some(down)) = (number(TILE_WIDTH), number(TILE_HEIGHT)) else {
            return Err("its tiles have no sides".to_owned());
        };
        let bits = grid.samples * grid.bits;
        let row = (grid.width * bits).div_ceil(8);
        let tile_bits = across.checked_mul(bits).filter(|bits| bits / 8 <= 4 * row + (1 << 20));
        let tile_bits = tile_bits.ok_or("its tiles are too wide")?;
        if tile_bits % 8 != 0 {
            return Err(format!("expected tiles whose rows are whole bytes, found {across} pixels of {bits} bits"));
        }
        let (columns, rows) = (grid.width.div_ceil(across), grid.height.div_ceil(down));
        Ok(Self { down, row, tile_row: tile_bits / 8, columns, rows })
    }
}

/// A page's bytes: rows that begin with a byte each, plane after plane; samples of several bytes in this machine's order.
///
/// # Errors
/// When a tile is missing, broken or too short, or the page is of a kind that has no tiles.
pub fn read(
    layout: Layout,
    directory: &Directory,
    bytes: &[u8],
    grid: Grid,
    parts: &[(usize, usize)],
) -> Result<Vec<u8>, String> {
    let sides = Sides::of(directory, bytes, grid)?;
    let Sides { down, row, tile_row, columns, rows } = sides;
    let count = (columns * rows).saturating_mul(grid.planes);
    if parts.len() < count {
        return Err(format!("expected {count} tiles, found {}", parts.len()));
    }
    let byte_len = (row * grid.height).saturating_mul(grid.planes);
    if byte_len as u64 > MOST_BYTES {
        return Err(format!("expected samples of at most {MOST_BYTES} bytes, found {byte_len}"));
    }
    let mut all = vec![0; byte_len];
    for (at, (start, end)) in parts.iter().take(count).enumerate() {
        let (plane, place) = (at / (columns * rows), at % (columns * rows));
        let (column, top) = (place % columns, place / columns * down);
        let length = tile_row * down.min(grid.height - top);
        let tile = tile(layout, directory, (bytes, &bytes[*start..*end]), (tile_row, length), grid)
            .map_err(|reason| format!("tile {}: {reason}", at + 1))?;
        let left = column * tile_row;
        let length = tile_row.min(row - left);
        for (line, from) in tile.chunks_exact(tile_row).enumerate() {
            let start = (plane * grid.height + top + line) * row + left;
            all[start..start + length].copy_from_slice(&from[..length]);
        }
    }
    Ok(all)
}

/// A tile's first `length` bytes, in rows of `row` bytes, of its bytes in the file.
fn tile(
    layout: Layout,
    directory: &Directory,
    (file, packed): (&[u8], &[u8]),
    (row, length): (usize, usize),
    grid: Grid,
) -> Result<Vec<u8>, String> {
    let number = |tag| directory.number(file, tag).unwrap_or(1);
    let mut tile = unpacked(number(COMPRESSION), packed, length)?;
    for line in tile.chunks_exact_mut(row) {
        predicted(line, number(PREDICTOR), layout.is_big_endian(), grid)?;
    }
    Ok(tile)
}

/// A tile's first `length` bytes.
fn unpacked(compression: u64, packed: &[u8], length: usize) -> Result<Vec<u8>, String> {
    let mut tile = Vec::new();
    match compression {
        1 => tile.extend_from_slice(&packed[..length.min(packed.len())]),
        5 => tile = lzw(packed, length),
        8 | 32_946 => {
            // What came before a broken end is checked by its length.
            let _ = flate2::read::ZlibDecoder::new(packed).take(length as u64).read_to_end(&mut tile);
        }
        _ => pack_bits(packed, length, &mut tile),
    }
    if tile.len() < length {
        return Err(format!("expected {length} bytes, found {}: truncated", tile.len()));
    }
    tile.truncate(length);
    Ok(tile)
}

fn lzw(packed: &[u8], length: usize) -> Vec<u8> {
    let mut decoder = weezl::decode::Decoder::with_tiff_size_switch(weezl::BitOrder::Msb, 8);
    let mut tile = vec![0; length];
    let (mut taken, mut made) = (0, 0);
    while made < length {
        let result = decoder.decode_bytes(&packed[taken..], &mut tile[made..]);
        taken += result.consumed_in;
        made += result.consumed_out;
        if !matches!(result.status, Ok(weezl::LzwStatus::Ok)) || result.consumed_in + result.consumed_out == 0 {
            break;
        }
    }
    tile.truncate(made);
    tile
}

fn pack_bits(packed: &[u8], length: usize, tile: &mut Vec<u8>) {
    let mut rest = packed;
    while let (true, [count, after @ ..]) = (tile.len() < length, rest) {
        let count = *count as i8;
        rest = match (count, after) {
            (0.., _) => {
                let (run, behind) = after.split_at((count as usize + 1).min(after.len()));
                tile.extend_from_slice(run);
                behind
            }
            (-127..=-1, [value, behind @ ..]) => {
                tile.extend(std::iter::repeat_n(*value, 1 + usize::from(count.unsigned_abs())));
                behind
            }
            _ => after,
        };
    }
}

/// Undoes a row's predictor, and puts its samples into this machine's order.
fn predicted(line: &mut [u8], predictor: u64, is_big_endian: bool, grid: Grid) -> Result<(), String> {
    let (width, step) = (grid.bits / 8, grid.samples);
    match predictor {
        3 => {
            floating(line, width, step);
            return Ok(());
        }
        1 | 2 => {}
        other => return Err(format!("expected predictor 1, 2 or 3, found {other}")),
    }
    if is_big_endian == cfg!(target_endian = "little") && width > 1 {
        line.chunks_exact_mut(width).for_each(<[u8]>::reverse);
    }
    match (predictor, grid.bits) {
        (1, _) => {}
        (_, 8) => (step..line.len()).for_each(|at| line[at] = line[at].wrapping_add(line[at - step])),
        (_, 16 | 32) => {
            for at in step..line.len() / width {
                let value = |line: &[u8], at: usize| {
                    let part = &line[at * width..(at + 1) * width];
                    part.iter().enumerate().fold(0_u32, |sum, (place, byte)| {
                        let place = if cfg!(target_endian = "little") { place } else { width - 1 - place };
                        sum | u32::from(*byte) << (8 * place)
                    })
                };
                let sum = value(line, at).wrapping_add(value(line, at - step));
                let all = if cfg!(target_endian = "little") { sum.to_le_bytes() } else { sum.to_be_bytes() };
                let first = if cfg!(target_endian = "little") { 0 } else { 4 - width };
                line[at * width..(at + 1) * width].copy_from_slice(&all[first..first + width]);
            }
        }
        (_, bits) => return Err(format!("expected samples of 8, 16 or 32 bits before predictor 2, found {bits}")),
    }
    Ok(())
}

/// The floating-point predictor: differences of bytes, the highest bytes of all samples first.
fn floating(line: &mut [u8], width: usize, step: usize) {
    for at in step..line.len() {
        line[at] = line[at].wrapping_add(line[at - step]);
    }
    let (bytes, count) = (line.to_vec(), line.len() / width.max(1));
    for sample in 0..count {
        for place in 0..width {
            let from = if cfg!(target_endian = "little") { width - 1 - place } else { place };
            line[sample * width + place] = bytes[from * count + sample];
        }
    }
}
