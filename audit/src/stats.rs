//! How far a run of an MLX target is from the release's values: counts and sums over one streaming pass.

use mlxport_convert::error::ConvertError;
use mlxport_convert::transforms::Scratch;
use safetensors::Dtype;

use crate::expect::Piece;
use crate::target::{Format, Target, widened};
use crate::verify::{Pair, convertible, packed, rounded, stored, windows};

/// Ways a stored value may be made of the release's that are not the right one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The digits that do not fit were cut off.
    Truncated,
    /// Through float16.
    ThroughF16,
    /// Through bfloat16.
    ThroughBf16,
    /// Numbers too small to be normal ones became zero.
    Flushed,
    /// Cut to the largest finite number where it is too large.
    Clamped,
    /// The other sign.
    Negated,
    /// Plus one, plus two, minus one, minus two.
    Plus(i8),
    /// One less its value's sign: the magnitude alone.
    Magnitude,
}

/// All of them.
pub const WAYS: [Way; 11] = [
    Way::Truncated,
    Way::ThroughF16,
    Way::ThroughBf16,
    Way::Flushed,
    Way::Clamped,
    Way::Negated,
    Way::Plus(1),
    Way::Plus(2),
    Way::Plus(-1),
    Way::Plus(-2),
    Way::Magnitude,
];

/// What one pass counts.
#[derive(Debug, Clone)]
pub struct Stats {
    /// Values.
    pub n: u64,
    /// Those whose stored bits are not the right ones (of packed ones: that lie in a group that differs).
    pub differing: u64,
    /// The first of them.
    pub first: Option<u64>,
    /// The first one's right value and the one that is there.
    pub example: Option<(f32, f32)>,
    /// Bits that differ in the first one.
    pub flipped: u32,
    /// Where they are NaN or infinite and the release's are not.
    pub not_finite: u64,
    /// Finite in the release and too large for the dtype.
    pub overflowed: u64,
    /// Zero here, and zero in the release.
    pub zeros: (u64, u64),
    /// Whether all are one number here.
    pub constant: Option<f32>,
    /// How many agree with each of [`WAYS`].
    pub ways: [u64; WAYS.len()],
    /// Those that are the right one's neighbour.
    pub neighbours: u64,
    /// Sums of s, m, s², m², s·m over pairs that are finite.
    pub s: f64,
    /// Sum of m.
    pub m: f64,
    /// Sum of s².
    pub ss: f64,
    /// Sum of m².
    pub mm: f64,
    /// Sum of s·m.
    pub sm: f64,
    /// Sum of (m − s)².
    pub error: f64,
    /// Of packed ones: the same for the codes that MLX would make.
    pub ideal: f64,
    /// Groups, and those far worse than they should be.
    pub groups: u64,
    /// Groups whose error is more than three times the step that belongs there.
    pub bad_groups: u64,
    /// Which of the parts (codes, scales, biases) differ from MLX's own.
    pub parts: [bool; 3],
    /// Whether the parts are those of values rounded to bfloat16, to float16 first.
    pub packed_from: [bool; 2],
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            n: 0,
            differing: 0,
            first: None,
            example: None,
            flipped: 0,
            not_finite: 0,
            overflowed: 0,
            zeros: (0, 0),
            constant: None,
            ways: [0; WAYS.len()],
            neighbours: 0,
            s: 0.0,
            m: 0.0,
            ss: 0.0,
            mm: 0.0,
            sm: 0.0,
            error: 0.0,
            ideal: 0.0,
            groups: 0,
            bad_groups: 0,
            parts: [false; 3],
            packed_from: [true; 2],
        }
    }
}

impl Stats {
    /// Whether all values are made in this way.
    pub fn all(&self, way: Way) -> bool {
        WAYS.iter().zip(self.ways).any(|(known, count)| *known == way && count == self.n)
    }

    /// The correlation of the two sides (0 where either is constant).
    pub fn correlation(&self) -> f64 {
        let n = self.n.max(1) as f64;
        let covariance = self.sm - self.s * self.m / n;
        let spread = (self.ss - self.s * self.s / n) * (self.mm - self.m * self.m / n);
        if spread > 0.0 { covariance / spread.sqrt() } else { 0.0 }
    }

    /// The factor that brings the release's values nearest, and the RMS of what is left over the RMS of the values here.
    pub fn factor(&self) -> (f64, f64) {
        if self.ss == 0.0 || self.mm == 0.0 {
            return (0.0, 1.0);
        }
        let left = (self.mm - self.sm * self.sm / self.ss).max(0.0);
        (self.sm / self.ss, (left / self.mm).sqrt())
    }

    /// The mean difference, and the RMS of the differences about it.
    pub fn offset(&self) -> (f64, f64) {
        let n = self.n.max(1) as f64;
        let mean = (self.m - self.s) / n;
        (mean, (self.error / n - mean * mean).max(0.0).sqrt())
    }

    /// The error's RMS over the release's.
    pub fn relative_error(&self) -> f64 {
        if self.ss > 0.0 { (self.error / self.ss).sqrt() } else { f64::INFINITY }
    }

    /// Of packed ones: the error over the one MLX's own quantizer makes.
    pub fn ratio(&self) -> f64 {
        let floor = self.ss * 1e-14;
        (self.error / self.ideal.max(floor).max(f64::MIN_POSITIVE)).sqrt()
    }
}

impl Pair<'_> {
    /// One pass over a piece; `None` where the two sides cannot be held against each other.
    ///
    /// # Errors
    /// Where a file cannot be read.
    pub fn stats(&self, target: &Target, piece: &Piece, shift: f32) -> Result<Option<Stats>, ConvertError> {
        let stored = piece.assembly.views.first().map(|view| view.dtype);
        if piece.assembly.len() != piece.len || piece.raw.is_some() || !stored.is_some_and(convertible) {
            return Ok(None);
        }
        let mut stats = Stats::default();
        let mut scratch = Scratch::default();
        for (at, count) in windows(piece.len, self.window) {
            let parts = target.read(self.mlx, piece.first + at, count)?;
            let mut raw = vec![0; count as usize * 4];
            piece.assembly.read(self.release, Dtype::F32, at, &mut raw, &mut scratch)?;
            let mut values = widened(Dtype::F32, &raw);
            if shift != 0.0 {
                let stored = stored.unwrap_or(Dtype::F32);
                values.iter_mut().for_each(|value| *value = rounded(stored, *value + shift));
            }
            let found = target.values(&parts, count as usize);
            stats.add_sums(&values, &found);
            match target.format {
                Format::Plain(dtype) => stats.add_plain(dtype, at, &values, &found, &parts[0]),
                Format::Packed { .. } => stats.add_packed(target, at, &values, &found, &parts),
            }
        }
        Ok(Some(stats))
    }
}

impl Stats {
    fn add_sums(&mut self, values: &[f32], found: &[f32]) {
        if self.n == 0 {
            self.constant = found.first().copied();
        }
        self.n += values.len() as u64;
        for (&s, &m) in values.iter().zip(found) {
            self.zeros.0 += u64::from(m == 0.0);
            self.zeros.1 += u64::from(s == 0.0);
            if self.constant != Some(m) {
                self.constant = None;
            }
            if !m.is_finite() && s.is_finite() {
                self.not_finite += 1;
            }
            if m.is_finite() && s.is_finite() {
                let (s, m) = (f64::from(s), f64::from(m));
                self.s += s;
                self.m += m;
                self.ss += s * s;
                self.mm += m * m;
                self.sm += s * m;
                self.error += (m - s) * (m - s);
            }
        }
    }

    fn add_plain(&mut self, dtype: Dtype, at: u64, values: &[f32], found: &[f32], raw: &[u8]) {
        let size = dtype.bitsize() / 8;
        let right = stored(dtype, values);
        let pairs = right.chunks_exact(size).zip(raw.chunks_exact(size)).zip(values.iter().zip(found));
        for (index, ((wanted, is), (&s, &m))) in pairs.enumerate() {
            for (way, count) in WAYS.iter().zip(&mut self.ways) {
                *count += u64::from(made(*way, dtype, s).is_some_and(|made| made.to_bits() == m.to_bits()));
            }
            let large = rounded(dtype, s).is_infinite() && s.is_finite();
            self.overflowed += u64::from(large);
            if wanted == is {
                continue;
            }
            self.differing += 1;
            let (wanted, is) = (bits(wanted), bits(is));
            self.neighbours += u64::from(wanted.abs_diff(is) == 1);
            if self.first.is_none() {
                self.first = Some(at + index as u64);
                self.example = Some((rounded(dtype, s), m));
                self.flipped = wanted ^ is;
            }
        }
    }

    fn add_packed(&mut self, target: &Target, at: u64, values: &[f32], found: &[f32], parts: &[Vec<u8>]) {
        let Format::Packed { q, values: dtype } = target.format else { return };
        let group = q.group_size() as usize;
        self.groups += (values.len() / group) as u64;
        let Some(ideal) = packed(target.format, stored(dtype, values)) else {
            self.parts = [true; 3];
            self.packed_from = [false; 2];
            self.differing += values.len() as u64;
            return;
        };
        for (differs, (ideal, is)) in self.parts.iter_mut().zip(ideal.iter().zip(parts)) {
            *differs |= ideal != is;
        }
        for (same, through) in self.packed_from.iter_mut().zip([Dtype::BF16, Dtype::F16]) {
            if *same {
                let values: Vec<f32> = values.iter().map(|&value| rounded(through, value)).collect();
                *same = packed(target.format, stored(dtype, &values)).as_deref() == Some(parts);
            }
        }
        let best = target.values(&ideal, values.len());
        let runs = values.chunks(group).zip(found.chunks(group)).zip(best.chunks(group));
        for (index, ((values, found), best)) in runs.enumerate() {
            let (error, ideal) = (square(values, found), square(values, best));
            self.ideal += ideal;
            let range = values.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
            let floor = f64::from(range) * f64::from(range) * 1e-6 * group as f64;
            self.bad_groups += u64::from(error.is_nan() || error > 9.0 * ideal.max(floor));
            if found != best {
                self.differing += group as u64;
                if self.first.is_none() {
                    self.first = Some(at + (index * group) as u64);
                    self.example = values.first().copied().zip(found.first().copied());
                }
            }
        }
    }
}

fn square(one: &[f32], other: &[f32]) -> f64 {
    one.iter().zip(other).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum()
}

fn bits(raw: &[u8]) -> u32 {
    match raw {
        [a, b] => u32::from(u16::from_le_bytes([*a, *b])),
        [a, b, c, d] => u32::from_le_bytes([*a, *b, *c, *d]),
        _ => raw.first().copied().map_or(0, u32::from),
    }
}

/// A value made in one of the ways.
fn made(way: Way, dtype: Dtype, s: f32) -> Option<f32> {
    Some(match way {
        Way::Truncated => truncated(dtype, s),
        Way::ThroughF16 => rounded(dtype, rounded(Dtype::F16, s)),
        Way::ThroughBf16 => rounded(dtype, rounded(Dtype::BF16, s)),
        Way::Flushed => {
            let value = rounded(dtype, s);
            let least = if dtype == Dtype::F16 { 6.103_515_6e-5 } else { f32::MIN_POSITIVE };
            if value.abs() < least { 0.0_f32.copysign(value) } else { value }
        }
        Way::Clamped => {
            let most = match dtype {
                Dtype::F16 => 65504.0,
                Dtype::BF16 => half::bf16::MAX.to_f32(),
                _ => f32::MAX,
            };
            rounded(dtype, s.clamp(-most, most))
        }
        Way::Negated => -rounded(dtype, s),
        Way::Plus(n) => rounded(dtype, s + f32::from(n)),
        Way::Magnitude => rounded(dtype, s).abs(),
    })
}

/// The digits that do not fit cut off.
fn truncated(dtype: Dtype, s: f32) -> f32 {
    let nearest = rounded(dtype, s);
    if nearest.abs() <= s.abs() || !nearest.is_finite() && !s.is_finite() {
        return nearest;
    }
    match dtype {
        Dtype::F16 => half::f16::from_bits(half::f16::from_f32(s).to_bits() - 1).to_f32(),
        Dtype::BF16 => half::bf16::from_bits(half::bf16::from_f32(s).to_bits() - 1).to_f32(),
        _ => s,
    }
}
