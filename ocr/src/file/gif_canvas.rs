//! A GIF's first picture on its canvas, as Pillow lays it out: the canvas grows where the picture reaches over its edge, and what the
//! picture does not cover has the transparent colour, else the palette's first.

use gif::{ColorOutput, DecodeOptions, MemoryLimit};

use super::{
    Decoding,
    samples::{Alpha, Colours, Kind, Samples, colours},
};

/// The canvas, and whether more pictures follow.
///
/// # Errors
/// When there is no picture, it has more than `limit` pixels, or it is broken.
pub fn canvas(bytes: &[u8], decoding: Decoding, limit: u64) -> Result<([u32; 2], Colours, bool), String> {
    if !is_whole(bytes) {
        return Err("truncated: the end of its picture is missing".to_owned());
    }
    let with_greys = with_greys(bytes);
    let bytes = with_greys.as_deref().unwrap_or(bytes);
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    options.set_memory_limit(std::num::NonZeroU64::new(limit).map_or(MemoryLimit::Unlimited, MemoryLimit::Bytes));
    let mut decoder = options.read_info(bytes).map_err(|error| error.to_string())?;
    let (width, height) = (decoder.width(), decoder.height());
    let global = decoder.global_palette().map(<[u8]>::to_vec);
    let frame = decoder.read_next_frame().map_err(|error| error.to_string())?.ok_or("it has no picture")?;
    let end = |start: u16, length: u16| usize::from(start) + usize::from(length);
    let sides =
        [usize::from(width).max(end(frame.left, frame.width)), usize::from(height).max(end(frame.top, frame.height))];
    if sides[0] as u64 * sides[1] as u64 > limit {
        return Err(format!("expected at most {limit} pixels, found {}×{}", sides[0], sides[1]));
    }
    let palette = frame.palette.clone().or(global);
    let clear = frame.transparent;
    let mut places = vec![clear.unwrap_or(0); sides[0] * sides[1]];
    let length = usize::from(frame.width);
    for (row, line) in frame.buffer.chunks_exact(length.max(1)).enumerate() {
        let start = (usize::from(frame.top) + row) * sides[0] + usize::from(frame.left);
        places[start..start + length].copy_from_slice(line);
    }
    let more = matches!(decoder.next_frame_info(), Ok(Some(_)));
    let opacity = |place: u8| if Some(place) == clear { 0 } else { u8::MAX };
    let samples = Samples::U8(places.into_iter().flat_map(|place| [place, opacity(place)]).collect());
    let (kind, map) = match palette {
        Some(palette) => (Kind::Palette, (0..3).flat_map(|at| palette.iter().skip(at).step_by(3).copied()).collect()),
        None => (Kind::Grey { is_white_zero: false }, Vec::new()),
    };
    Ok((sides.map(|side| side as u32), colours(&samples, 2, kind, Alpha::Plain, &map, decoding), more))
}

/// The length of a colour map that a flag byte tells of, in bytes.
fn map_length(flags: u8) -> usize {
    if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) }
}

/// Whether the first picture's blocks are whole; that nothing follows them, not even the block that ends them, is none of Pillow's concern.
fn is_whole(bytes: &[u8]) -> bool {
    // Where the blocks end; `None` where one is cut off.
    let end_of_blocks = |mut at: usize| {
        while let Some(length) = bytes.get(at) {
            at += 1 + usize::from(*length);
            if *length == 0 {
                break;
            }
        }
        (at <= bytes.len()).then_some(at)
    };
    let mut at = 13 + bytes.get(10).map_or(0, |flags| map_length(*flags));
    while bytes.get(at) == Some(&0x21) {
        let Some(next) = end_of_blocks(at + 2) else { return false };
        at = next;
    }
    match bytes.get(at) {
        Some(0x2C) => {
            let map = bytes.get(at + 9).map_or(0, |flags| map_length(*flags));
            end_of_blocks(at + 11 + map).is_some()
        }
        // What else there is, the decoder judges.
        other => other.is_some(),
    }
}

/// A file without a colour map, with one of 256 greys: Pillow takes the places of such a picture for grey.
fn with_greys(bytes: &[u8]) -> Option<Vec<u8>> {
    let (head, rest) = bytes.split_at_checked(13).filter(|(head, _)| head[10] & 0x80 == 0)?;
    let greys = (0..=u8::MAX).flat_map(|grey| [grey; 3]);
    let mut whole: Vec<u8> = head.iter().copied().chain(greys).chain(rest.iter().copied()).collect();
    whole[10] |= 0x87;
    Some(whole)
}
