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
