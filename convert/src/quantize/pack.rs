//! Codes of 2 to 8 bits as one little-endian stream of bits: eight codes are as many bytes as a code has bits.

/// As [`pack`], for a width that is known when it runs: one of affine's.
#[inline(always)]
pub(super) fn pack_by(bits: u32, codes: &[u8], packed: &mut [u8]) {
    match bits {
        2 => pack::<2>(codes, packed),
        3 => pack::<3>(codes, packed),
        4 => pack::<4>(codes, packed),
        5 => pack::<5>(codes, packed),
        6 => pack::<6>(codes, packed),
        _ => packed.copy_from_slice(codes),
    }
}

/// Packs `codes`, a byte each and below 2ᴮ, into `packed`.
#[inline(always)]
pub(super) fn pack<const B: usize>(codes: &[u8], packed: &mut [u8]) {
    for (codes, packed) in codes.as_chunks::<8>().0.iter().zip(packed.as_chunks_mut::<B>().0) {
        let stream = close_ranks::<B>(u64::from_le_bytes(*codes)).to_le_bytes();
        packed.copy_from_slice(&stream[..B]);
    }
}

/// The inverse of [`pack`].
#[inline(always)]
pub(super) fn unpack<const B: usize>(packed: &[u8], codes: &mut [u8]) {
    for (packed, codes) in packed.as_chunks::<B>().0.iter().zip(codes.as_chunks_mut::<8>().0) {
        let mut stream = [0; 8];
        stream[..B].copy_from_slice(packed);
        *codes = open_ranks::<B>(u64::from_le_bytes(stream)).to_le_bytes();
    }
}

const ODD_BYTES: u64 = 0xff00_ff00_ff00_ff00;
const ODD_PAIRS: u64 = 0xffff_0000_ffff_0000;

/// Eight bytes with B bits each become 8·B bits: neighbours join, then pairs, then fours.
#[inline(always)]
fn close_ranks<const B: usize>(codes: u64) -> u64 {
    let pairs = codes & !ODD_BYTES | (codes & ODD_BYTES) >> (8 - B);
    let fours = pairs & !ODD_PAIRS | (pairs & ODD_PAIRS) >> (16 - 2 * B);
    fours & 0xffff_ffff | fours >> 32 << (4 * B)
}

/// The inverse of [`close_ranks`].
#[inline(always)]
fn open_ranks<const B: usize>(stream: u64) -> u64 {
    let ones = |width: usize| u64::MAX >> (64 - width);
    let fours = stream & ones(4 * B) | (stream >> (4 * B) & ones(4 * B)) << 32;
    let (low, high) = (ones(2 * B) * 0x1_0000_0001, (16 - 2 * B));
    let pairs = fours & low | (fours & low << (2 * B)) << high;
    let (low, high) = (ones(B) * 0x0001_0001_0001_0001, (8 - B));
    pairs & low | (pairs & low << B) << high
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bit by bit, as the layout is defined.
    fn packed_slowly(codes: &[u8], bits: usize) -> Vec<u8> {
        let mut packed = vec![0; codes.len() * bits / 8];
        for at in 0..codes.len() * bits {
            packed[at / 8] |= (codes[at / bits] >> (at % bits) & 1) << (at % 8);
        }
        packed
    }

    fn check<const B: usize>() {
        let mut seed = 1_u64;
        for _ in 0..200 {
            let codes: [u8; 64] = std::array::from_fn(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (seed >> 56) as u8 >> (8 - B)
            });
            let (mut packed, mut back) = (vec![0; 8 * B], [0; 64]);
            pack::<B>(&codes, &mut packed);
            assert_eq!(packed, packed_slowly(&codes, B), "{B} bits");
            unpack::<B>(&packed, &mut back);
            assert_eq!(back, codes, "{B} bits");
        }
    }

    #[test]
    fn every_width_packs_as_a_stream_of_bits_and_comes_back() {
        check::<2>();
        check::<3>();
        check::<4>();
        check::<5>();
        check::<6>();
        check::<8>();
    }
}
