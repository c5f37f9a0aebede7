//! The three float types weights come in: little-endian bytes to f32 and back, and f32 rounded to what they can hold.
//!
//! Everything is arithmetic without branches on the bits, so that LLVM turns whole groups into vector code; `half` converts one number
//! at a time unless the processor has the instructions and the build knows it. The tests hold every number against `half`.

/// A float type as bytes. All conversions round to nearest even, overflow to infinity, and keep NaN a NaN.
pub(super) trait Element {
    /// The little-endian bytes of one number.
    type Raw: Copy;

    /// f32's digits that this type has not.
    const DIGITS_LESS: u32;

    /// The numbers in `bytes`; a remainder is left out.
    fn split(bytes: &[u8]) -> &[Self::Raw];

    /// As [`split`](Self::split), to be written.
    fn split_mut(bytes: &mut [u8]) -> &mut [Self::Raw];

    /// Whether all are finite.
    fn all_finite(raw: &[Self::Raw]) -> bool;

    /// Exact.
    fn load(raw: Self::Raw) -> f32;

    /// Rounded.
    fn store(value: f32) -> Self::Raw;

    /// `value` as this type would hold it.
    fn round(value: f32) -> f32 {
        Self::load(Self::store(value))
    }

    /// As [`round`](Self::round), and cheaper, for numbers that the type holds as normal ones; smaller ones keep too many digits.
    #[inline(always)]
    fn round_digits(value: f32) -> f32 {
        let unit = 1 << Self::DIGITS_LESS;
        let bits = value.to_bits();
        let odd = bits >> Self::DIGITS_LESS & 1;
        f32::from_bits(if unit == 1 { bits } else { (bits + (unit / 2 - 1 + odd)) & !(unit - 1) })
    }
}

/// float32.
pub(super) struct F32;
/// IEEE binary16.
pub(super) struct F16;
/// bfloat16.
pub(super) struct Bf16;

impl Element for F32 {
    type Raw = [u8; 4];

    const DIGITS_LESS: u32 = 0;

    fn split(bytes: &[u8]) -> &[[u8; 4]] {
        bytes.as_chunks().0
    }

    fn split_mut(bytes: &mut [u8]) -> &mut [[u8; 4]] {
        bytes.as_chunks_mut().0
    }

    #[inline(always)]
    fn all_finite(raw: &[[u8; 4]]) -> bool {
        const EXPONENT: u32 = 0x7f80_0000;
        raw.iter().fold(0, |bad, &raw| bad | u32::from(u32::from_le_bytes(raw) & EXPONENT == EXPONENT)) == 0
    }

    #[inline(always)]
    fn load(raw: [u8; 4]) -> f32 {
        f32::from_le_bytes(raw)
    }

    #[inline(always)]
    fn store(value: f32) -> [u8; 4] {
        value.to_le_bytes()
    }
}

impl Element for Bf16 {
    type Raw = [u8; 2];

    const DIGITS_LESS: u32 = 16;

    fn split(bytes: &[u8]) -> &[[u8; 2]] {
        bytes.as_chunks().0
    }

    fn split_mut(bytes: &mut [u8]) -> &mut [[u8; 2]] {
        bytes.as_chunks_mut().0
    }

    #[inline(always)]
    fn all_finite(raw: &[[u8; 2]]) -> bool {
        no_full_exponent(raw, 0x7f80)
    }

    #[inline(always)]
    fn load(raw: [u8; 2]) -> f32 {
        f32::from_bits(u32::from(u16::from_le_bytes(raw)) << 16)
    }

    #[inline(always)]
    fn store(value: f32) -> [u8; 2] {
        let bits = value.to_bits();
        // Half a unit less one, and one more when the last kept bit is odd: ties go to even. A carry runs into the exponent, as it must.
        let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
        let kept = if value.is_nan() { 0x7fc0 } else { rounded };
        (kept as u16).to_le_bytes()
    }
}

impl Element for F16 {
    type Raw = [u8; 2];

    const DIGITS_LESS: u32 = 13;

    fn split(bytes: &[u8]) -> &[[u8; 2]] {
        bytes.as_chunks().0
    }

    fn split_mut(bytes: &mut [u8]) -> &mut [[u8; 2]] {
        bytes.as_chunks_mut().0
    }

    #[inline(always)]
    fn all_finite(raw: &[[u8; 2]]) -> bool {
        no_full_exponent(raw, 0x7c00)
    }

    #[inline(always)]
    fn load(raw: [u8; 2]) -> f32 {
        let bits = u32::from(u16::from_le_bytes(raw));
        let magnitude = (bits & 0x7fff) << 13;
        // float32's exponents start 112 earlier. The multiplication moves them, and makes denormals normal.
        let scaled = (f32::from_bits(magnitude) * f32::from_bits((127 + 112) << 23)).to_bits();
        let special = magnitude | 0x7f80_0000;
        let kept = if bits & 0x7c00 == 0x7c00 { special } else { scaled };
        f32::from_bits(kept | (bits & 0x8000) << 16)
    }

    #[inline(always)]
    fn store(value: f32) -> [u8; 2] {
        let bits = value.to_bits();
        let magnitude = bits & 0x7fff_ffff;
        let normal = magnitude.wrapping_sub(112 << 23).wrapping_add(0xfff + (magnitude >> 13 & 1)) >> 13;
        // The last bit of 0.5 is float16's smallest number: adding it rounds to a multiple of that.
        let denormal = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0.5_f32.to_bits());
        let finite = if magnitude < 113 << 23 { denormal } else { normal };
        // 65520 is half way to 65536, which it has not.
        let kept = if magnitude >= 65520_f32.to_bits() { 0x7c00 } else { finite };
        let kept = if magnitude > 0x7f80_0000 { 0x7e00 } else { kept };
        ((kept | bits >> 16 & 0x8000) as u16).to_le_bytes()
    }
}

/// Whether none of these 16-bit floats has all of `exponent` set.
#[inline(always)]
fn no_full_exponent(raw: &[[u8; 2]], exponent: u16) -> bool {
    raw.iter().fold(0, |bad, &raw| bad | u16::from(u16::from_le_bytes(raw) & exponent == exponent)) == 0
}

/// A group as f32.
#[inline(always)]
pub(super) fn load_group<E: Element, const G: usize>(raw: &[E::Raw; G]) -> [f32; G] {
    let mut values = [0.0; G];
    for (value, &raw) in values.iter_mut().zip(raw) {
        *value = E::load(raw);
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_bit_floats_are_halfs() {
        for bits in 0..=u16::MAX {
            let raw = bits.to_le_bytes();
            let (f16, bf16) = (half::f16::from_bits(bits), half::bf16::from_bits(bits));
            for (ours, theirs) in [(F16::load(raw), f16.to_f32()), (Bf16::load(raw), bf16.to_f32())] {
                assert!(ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan(), "{bits:#x}");
            }
            assert_eq!(F16::all_finite(&[raw]), f16.is_finite());
            assert_eq!(Bf16::all_finite(&[raw]), bf16.is_finite());
        }
    }

    #[test]
    fn rounding_is_halfs() {
        // Steps of a prime walk every exponent and all patterns of the bits that are cut off; the neighbours of ties are added.
        let walk = (0..=u32::MAX).step_by(4099);
        let ties = (0..=u32::from(u16::MAX)).flat_map(|high| [0x7fff, 0x8000, 0x8001].map(|low| high << 16 | low));
        let half_ties = (0..1_u32 << 19).flat_map(|high| [0xfff, 0x1000, 0x1001].map(|low| high << 13 | low));
        for bits in walk.chain(ties).chain(half_ties) {
            let value = f32::from_bits(bits);
            let (f16, bf16) = (u16::from_le_bytes(F16::store(value)), u16::from_le_bytes(Bf16::store(value)));
            if value.is_nan() {
                assert!(half::f16::from_bits(f16).is_nan() && half::bf16::from_bits(bf16).is_nan(), "{bits:#x}");
            } else {
                assert_eq!(f16, half::f16::from_f32(value).to_bits(), "{bits:#x}");
                assert_eq!(bf16, half::bf16::from_f32(value).to_bits(), "{bits:#x}");
            }
            if (2_f32.powi(-14)..65519.0).contains(&value.abs()) {
                assert_eq!(F16::round_digits(value), F16::round(value), "{bits:#x}");
                assert_eq!(Bf16::round_digits(value), Bf16::round(value), "{bits:#x}");
                assert_eq!(F32::round_digits(value), value, "{bits:#x}");
            }
        }
    }
}
