//! Element types: sizes with checked arithmetic, and what `--dtype` may ask for.

use std::fmt;
use std::str::FromStr;

use safetensors::Dtype;

/// Bytes of a tensor of this dtype and shape; `None` when the count overflows or ends within a byte.
pub fn byte_len(dtype: Dtype, shape: &[u64]) -> Option<u64> {
    let bits = element_count(shape)?.checked_mul(dtype.bitsize() as u64)?;
    (bits % 8 == 0).then_some(bits / 8)
}

/// Elements of a tensor of this shape; `None` on overflow.
pub fn element_count(shape: &[u64]) -> Option<u64> {
    shape.iter().try_fold(1_u64, |n, &len| n.checked_mul(len))
}

/// Whether it is one of the floating-point types that weights come in and go out as.
pub fn is_float(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16)
}

/// Whether it is a floating-point type that weights come in but models do not compute in; `--dtype` converts it.
pub fn is_wide_or_narrow(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F64 | Dtype::F8_E4M3 | Dtype::F8_E5M2)
}

/// The dtype a header, manifest or recipe names (`BF16`, `I64`, …).
pub fn from_name(name: &str) -> Option<Dtype> {
    serde_json::from_value(serde_json::Value::String(name.to_owned())).ok()
}

/// What float tensors become; other tensors always keep theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DtypeChoice {
    /// Each tensor keeps its own.
    #[default]
    Keep,
    /// bfloat16, rounded to nearest even.
    Bf16,
    /// float16, rounded to nearest even; a weight too large for it is an error.
    F16,
    /// float32 (exact).
    F32,
}

impl DtypeChoice {
    /// The dtype a float tensor stored as `source` is written in.
    pub fn apply(self, source: Dtype) -> Dtype {
        match self {
            _ if !is_float(source) && !is_wide_or_narrow(source) => source,
            Self::Keep => source,
            Self::Bf16 => Dtype::BF16,
            Self::F16 => Dtype::F16,
            Self::F32 => Dtype::F32,
        }
    }

    /// Whether a place that takes `accepted` dtypes takes a tensor stored as `source`: as it is, or, where it is one that only a conversion
    /// makes usable, as what it becomes.
    pub fn accepts(self, accepted: &[Dtype], source: Dtype) -> bool {
        accepted.contains(&source) || (is_wide_or_narrow(source) && accepted.contains(&self.apply(source)))
    }
}

impl fmt::Display for DtypeChoice {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Keep => "keep",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
            Self::F32 => "f32",
        })
    }
}

impl FromStr for DtypeChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Keep, Self::Bf16, Self::F16, Self::F32]
            .into_iter()
            .find(|choice| choice.to_string() == text)
            .ok_or_else(|| format!("{text}: not one of keep, bf16, f16, f32"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_checked() {
        assert_eq!(byte_len(Dtype::BF16, &[2, 3]), Some(12));
        assert_eq!(byte_len(Dtype::F32, &[]), Some(4));
        assert_eq!(byte_len(Dtype::F4, &[3]), None);
        assert_eq!(byte_len(Dtype::F32, &[u64::MAX, 2]), None);
        assert_eq!(byte_len(Dtype::F64, &[1 << 62]), None);
    }

    #[test]
    fn only_floats_are_converted() {
        assert_eq!(DtypeChoice::F32.apply(Dtype::BF16), Dtype::F32);
        assert_eq!(DtypeChoice::F32.apply(Dtype::I64), Dtype::I64);
        assert_eq!(DtypeChoice::Keep.apply(Dtype::F16), Dtype::F16);
        assert_eq!(DtypeChoice::Keep.apply(Dtype::F64), Dtype::F64);
        assert_eq!(DtypeChoice::Bf16.apply(Dtype::F8_E5M2), Dtype::BF16);
        assert!(DtypeChoice::Bf16.accepts(&[Dtype::F32, Dtype::BF16], Dtype::F64));
        assert!(!DtypeChoice::Keep.accepts(&[Dtype::F32, Dtype::BF16], Dtype::F64));
        assert!(!DtypeChoice::Bf16.accepts(&[Dtype::F32], Dtype::F8_E4M3));
        assert!(!DtypeChoice::Bf16.accepts(&[Dtype::F32, Dtype::BF16], Dtype::I64));
        assert_eq!("bf16".parse(), Ok(DtypeChoice::Bf16));
        assert!("int8".parse::<DtypeChoice>().is_err());
        assert_eq!(from_name("BF16"), Some(Dtype::BF16));
        assert_eq!(from_name("bf17"), None);
    }
}
