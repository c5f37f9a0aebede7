//! The number formats of codes and shared scales: E2M1 (four bits), E4M3 and E8M0 (a byte), as MLX's CPU reads and writes them.

/// The E2M1 code nearest to `value` in a byte: sign, two bits of exponent, one of mantissa. 0, ½, 1, 1½, 2, 3, 4, 6.
///
/// MLX takes the first smallest distance in its table (`argmin`): a tie goes to the smaller magnitude, and what rounds to zero loses
/// its sign. `value` is below 2²²; from where distances are no longer exact see [`to_e2m1_afar`].
#[inline(always)]
pub(super) fn to_e2m1(value: f32) -> u8 {
    let magnitude = value.abs();
    let above = |middle: f32| u32::from(magnitude > middle);
    let code = above(0.25) + above(0.75) + above(1.25) + above(1.75) + above(2.5) + above(3.5) + above(5.0);
    let sign = if code == 0 { 0 } else { value.to_bits() >> 28 & 8 };
    (code | sign) as u8
}

/// As [`to_e2m1`] for any number: the distances themselves, with f32's rounding. Far out they are all one number, and the first wins.
pub(super) fn to_e2m1_afar(value: f32) -> u8 {
    let mut best = (0, (value - from_e2m1(0)).abs());
    for code in 1..16 {
        let distance = (value - from_e2m1(code)).abs();
        if distance < best.1 {
            best = (code, distance);
        }
    }
    best.0
}

/// The number of an E2M1 code (its low four bits).
#[inline(always)]
pub(super) fn from_e2m1(code: u8) -> f32 {
    const NUMBERS: [f32; 16] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];
    NUMBERS[usize::from(code & 15)]
}

/// The E4M3 byte nearest to `value`, ties to even, 448 and everything above (NaN too) being 448. Zeros keep their sign.
#[inline(always)]
pub(super) fn to_e4m3(value: f32) -> u8 {
    let bits = value.to_bits();
    let magnitude = bits & 0x7fff_ffff;
    // Exponents start 120 later than float32's; half a unit less one, and one more where the last kept bit is odd.
    let normal = magnitude.wrapping_sub(120 << 23).wrapping_add(0x7_ffff + (magnitude >> 20 & 1)) >> 20;
    // The last bit of 2¹⁴ is 2⁻⁹, E4M3's smallest number: adding it rounds to a multiple of that.
    let denormal = (f32::from_bits(magnitude) + 16384.0).to_bits().wrapping_sub(16384_f32.to_bits());
    let finite = if magnitude < 121 << 23 { denormal } else { normal };
    let kept = if magnitude >= 448_f32.to_bits() { 0x7e } else { finite };
    (kept | bits >> 24 & 0x80) as u8
}

/// The number of an E4M3 byte. MLX has no NaN here: 0x7f is 480.
#[inline(always)]
pub(super) fn from_e4m3(byte: u8) -> f32 {
    let bits = u32::from(byte);
    let magnitude = f32::from_bits((bits & 0x7f) << 20) * f32::from_bits((127 + 120) << 23);
    f32::from_bits(magnitude.to_bits() | (bits & 0x80) << 24)
}

/// 2ⁿ, for n from −149; infinity from 128 on, zero below −149.
#[inline(always)]
pub(super) fn power_of_two(n: i32) -> f32 {
    match n {
        128.. => f32::INFINITY,
        -126..=127 => f32::from_bits(((n + 127) as u32) << 23),
        -149..=-127 => f32::from_bits(1 << (n + 149)),
        _ => 0.0,
    }
}

/// The smallest n with 2ⁿ ≥ `value`, for a positive finite number.
#[inline(always)]
pub(super) fn ceil_log2(value: f32) -> i32 {
    let bits = value.to_bits();
    if bits < 0x0080_0000 {
        // A denormal is a whole number of 2⁻¹⁴⁹.
        return bits.next_power_of_two().trailing_zeros() as i32 - 149;
    }
    (bits >> 23) as i32 - 127 + i32::from(bits & 0x007f_ffff != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_round_up() {
        for n in -149..=127 {
            let power = power_of_two(n);
            assert_eq!(f64::from(power), 2_f64.powi(n));
            assert_eq!(ceil_log2(power), n);
            if n < 127 {
                assert_eq!(ceil_log2(power.next_up()), n + 1);
            }
            if n > -126 {
                assert_eq!(ceil_log2(power.next_down()), n);
            }
        }
        assert_eq!((power_of_two(128), power_of_two(-150)), (f32::INFINITY, 0.0));
    }

    #[test]
    fn codes_are_fixed_points_and_neighbours_meet_in_the_middle() {
        for byte in (0..0x7f).chain(0x80..0xff) {
            assert_eq!(to_e4m3(from_e4m3(byte)), byte);
        }
        for byte in 0..0x7e {
            let middle = (from_e4m3(byte) + from_e4m3(byte + 1)) / 2.0;
            assert_eq!(to_e4m3(middle), byte + byte % 2, "ties to even at {middle}");
            assert_eq!((to_e4m3(middle.next_down()), to_e4m3(middle.next_up())), (byte, byte + 1));
        }
        for code in 0..7 {
            let middle = (from_e2m1(code) + from_e2m1(code + 1)) / 2.0;
            assert_eq!((to_e2m1(middle), to_e2m1(middle.next_up())), (code, code + 1));
        }
    }

    #[test]
    fn near_and_far_agree_where_distances_are_exact() {
        for bits in (0..0x7f80_0000_u32).step_by(997) {
            let value = f32::from_bits(bits);
            if value < 4_194_304.0 {
                assert_eq!(to_e2m1(value), to_e2m1_afar(value), "{value}");
                assert_eq!(to_e2m1(-value), to_e2m1_afar(-value), "{value}");
            }
        }
    }
}
