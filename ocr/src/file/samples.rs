//! Samples of a picture into RGB bytes, as Pillow's `convert("RGB")` turns them.

use super::Decoding;

/// What a picture's samples are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Grey; `is_white_zero`: 0 is white.
    Grey {
        /// 0 is white.
        is_white_zero: bool,
    },
    /// Grey of 16 bits, which Pillow holds as whole numbers and cuts off at 255.
    WideGrey,
    /// Places in a colour map.
    Palette,
    /// Red, green, blue.
    Rgb,
    /// Inks.
    Cmyk,
    /// Brightness and two differences, 0 to 255, which Pillow turns into RGB.
    YCbCr,
    /// The same, which libtiff or libjpeg turns into RGB: Pillow lets it where samples are compressed.
    YCbCrOfLibtiff,
}

/// What the sample after the colours is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alpha {
    /// Nothing: samples after the colours are skipped.
    None,
    /// Opacity; the colours are as they are.
    Plain,
    /// Opacity; the colours have been multiplied by it.
    Multiplied,
}

/// Samples one after another, without padding.
#[derive(Debug)]
pub enum Samples {
    /// Up to 8 bits.
    U8(Vec<u8>),
    /// Up to 16 bits.
    U16(Vec<u16>),
    /// Whole numbers and floating ones, of which Pillow keeps what lies between 0 and 255.
    F64(Vec<f64>),
}

/// RGB bytes, and what was lost on the way.
#[derive(Debug, Default)]
pub struct Colours {
    /// Three bytes a pixel.
    pub rgb: Vec<u8>,
    /// Pixels of 16-bit grey that are above 255, and therefore white.
    pub clipped: usize,
    /// Pixels that look otherwise on white paper than without their opacity.
    pub unlike_on_white: usize,
}

/// A pixel's three bytes as Pillow's `convert` makes them of grey.
fn grey(value: u8) -> [u8; 3] {
    [value; 3]
}

impl Colours {
    /// Room for so many pixels.
    fn with_room(pixels: usize) -> Self {
        Self { rgb: Vec::with_capacity(pixels * 3), ..Self::default() }
    }

    /// Puts a pixel; its opacity is dropped, or with `flatten` the pixel is laid on white.
    fn put(&mut self, colour: [u8; 3], alpha: Option<u8>, flatten: bool) {
        let Some(alpha) = alpha.filter(|alpha| *alpha < u8::MAX) else { return self.rgb.extend(colour) };
        let on_white = colour.map(|value| over_white(value, alpha));
        self.unlike_on_white += usize::from(on_white != colour && !flatten);
        self.rgb.extend(if flatten { on_white } else { colour });
    }
}

fn over_white(value: u8, alpha: u8) -> u8 {
    let (value, alpha) = (u32::from(value), u32::from(alpha));
    ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8
}

/// Pixels of `per_pixel` samples each into RGB. `map` is the palette's: all reds, all greens, all blues.
#[must_use]
pub fn colours(
    samples: &Samples,
    per_pixel: usize,
    kind: Kind,
    alpha: Alpha,
    map: &[u8],
    decoding: Decoding,
) -> Colours {
    let how = How { kind, alpha, map, decoding };
    match samples {
        Samples::U8(all) => how.bytes(all, per_pixel),
        Samples::U16(all) if kind == Kind::WideGrey => how.wide_grey(all, per_pixel),
        Samples::U16(all) => {
            let high: Vec<u8> = all.iter().map(|value| (value >> 8) as u8).collect();
            how.bytes(&high, per_pixel)
        }
        Samples::F64(all) => {
            let clipped: Vec<u8> = all.iter().map(|value| value.clamp(0.0, 255.0) as u8).collect();
            how.bytes(&clipped, per_pixel)
        }
    }
}

struct How<'a> {
    kind: Kind,
    alpha: Alpha,
    map: &'a [u8],
    decoding: Decoding,
}

impl How<'_> {
    fn bytes(&self, all: &[u8], per_pixel: usize) -> Colours {
        let channels = match self.kind {
            Kind::Grey { .. } | Kind::WideGrey | Kind::Palette => 1,
            Kind::Rgb | Kind::YCbCr | Kind::YCbCrOfLibtiff => 3,
            Kind::Cmyk => 4,
        };
        let mut made = Colours::with_room(all.len() / per_pixel.max(1));
        for pixel in all.chunks_exact(per_pixel.max(1)) {
            let alpha = if self.alpha == Alpha::None { None } else { pixel.get(channels).copied() };
            let mut colour = self.colour(pixel);
            if let (Alpha::Multiplied, Some(alpha)) = (self.alpha, alpha) {
                colour = colour.map(|value| unmultiplied(value, alpha));
            }
            made.put(colour, alpha, self.decoding.flatten_white);
        }
        made
    }

    fn colour(&self, pixel: &[u8]) -> [u8; 3] {
        match (self.kind, pixel) {
            (Kind::Grey { is_white_zero: true }, [value, ..]) => grey(!value),
            (Kind::Grey { .. } | Kind::WideGrey, [value, ..]) => grey(*value),
            (Kind::Palette, [place, ..]) => {
                let each = self.map.len() / 3;
                [0, 1, 2].map(|channel| {
                    let at = usize::from(*place);
                    if at < each { self.map[channel * each + at] } else { 0 }
                })
            }
            (Kind::Rgb, [red, green, blue, ..]) => [*red, *green, *blue],
            (Kind::YCbCr, [y, cb, cr, ..]) => of_ycbcr(*y, *cb, *cr),
            (Kind::YCbCrOfLibtiff, [y, cb, cr, ..]) => of_ycbcr_by_libtiff(*y, *cb, *cr),
            (Kind::Cmyk, [c, m, y, k, ..]) => [*c, *m, *y].map(|ink| of_inks(ink, *k)),
            _ => [0; 3],
        }
    }

    fn wide_grey(&self, all: &[u16], per_pixel: usize) -> Colours {
        let mut made = Colours::with_room(all.len() / per_pixel.max(1));
        for pixel in all.chunks_exact(per_pixel.max(1)) {
            let value = pixel[0];
            let byte = if self.decoding.scale_16bit {
                ((u32::from(value) * 255 + 32_767) / 65_535) as u8
            } else {
                made.clipped += usize::from(value > 255);
                u8::try_from(value).unwrap_or(u8::MAX)
            };
            let alpha = pixel.get(1).map(|alpha| (alpha >> 8) as u8).filter(|_| self.alpha != Alpha::None);
            made.put(grey(byte), alpha, self.decoding.flatten_white);
        }
        made
    }
}

fn unmultiplied(value: u8, alpha: u8) -> u8 {
    match alpha {
        0 => 0,
        u8::MAX => value,
        _ => (255 * u32::from(value) / u32::from(alpha)).min(255) as u8,
    }
}

/// JPEG's YCbCr in Pillow's fixed point: factors of 64ths, rounded as C does.
fn of_ycbcr(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    let part = |factor: f64, value: u8| (factor * 64.0 * (f64::from(value) - 128.0) + 0.5) as i32;
    let y = i32::from(y);
    let red = y + (part(1.402, cr) >> 6);
    let green = y + ((part(-0.34414, cb) + part(-0.71414, cr)) >> 6);
    let blue = y + (part(1.772, cb) >> 6);
    [red, green, blue].map(|value| value.clamp(0, 255) as u8)
}

/// The same in libtiff's fixed point: factors of 65536ths.
fn of_ycbcr_by_libtiff(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    const HALF: i32 = 1 << 15;
    let fixed = |factor: f64| (factor * 65_536.0 + 0.5) as i32;
    let (red, green, blue) = (0.299_f32, 0.587_f32, 0.114_f32);
    let (of_red, of_blue) = (2.0 - 2.0 * red, 2.0 - 2.0 * blue);
    let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
    let in_green = |of: f32, weight: f32| -fixed(f64::from(weight * of / green));
    let reds = y + ((fixed(f64::from(of_red)) * cr + HALF) >> 16);
    let greens = y + ((in_green(of_blue, blue) * cb + HALF + in_green(of_red, red) * cr) >> 16);
    let blues = y + ((fixed(f64::from(of_blue)) * cb + HALF) >> 16);
    [reds, greens, blues].map(|value| value.clamp(0, 255) as u8)
}

fn of_inks(ink: u8, black: u8) -> u8 {
    let paper = 255 - i32::from(black);
    let product = i32::from(ink) * paper + 128;
    (paper - ((product + (product >> 8)) >> 8)).clamp(0, 255) as u8
}
