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

/// What becomes of a dtype.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    /// Weights come in it and go out in it.
    Float,
    /// A float that models do not compute in: `--dtype` converts it.
    Castable,
    /// Copied as it is.
    Copied,
}

/// The one table of dtypes: PyTorch's name, what becomes of it, whether `mx.load` (MLX 0.32) reads it. A dtype that `safetensors` comes to
/// name later is none of these: it is refused where it would be written.
fn row(dtype: Dtype) -> (Option<&'static str>, Use, bool) {
    match dtype {
        Dtype::F32 => (Some("float32"), Use::Float, true),
        Dtype::F16 => (Some("float16"), Use::Float, true),
        Dtype::BF16 => (Some("bfloat16"), Use::Float, true),
        Dtype::F64 => (Some("float64"), Use::Castable, false),
        // MLX makes bytes of it.
        Dtype::F8_E4M3 => (Some("float8_e4m3fn"), Use::Castable, true),
        Dtype::F8_E5M2 => (Some("float8_e5m2"), Use::Castable, false),
        Dtype::F8_E8M0 => (Some("float8_e8m0fnu"), Use::Copied, true),
        Dtype::BOOL => (Some("bool"), Use::Copied, true),
        Dtype::U8 => (Some("uint8"), Use::Copied, true),
        Dtype::I8 => (Some("int8"), Use::Copied, true),
        Dtype::U16 => (Some("uint16"), Use::Copied, true),
        Dtype::I16 => (Some("int16"), Use::Copied, true),
        Dtype::U32 => (Some("uint32"), Use::Copied, true),
        Dtype::I32 => (Some("int32"), Use::Copied, true),
        Dtype::U64 => (Some("uint64"), Use::Copied, true),
        Dtype::I64 => (Some("int64"), Use::Copied, true),
        Dtype::C64 => (Some("complex64"), Use::Copied, true),
        _ => (None, Use::Copied, false),
    }
}

/// Whether it is one of the floating-point types that weights come in and go out as.
pub fn is_float(dtype: Dtype) -> bool {
    row(dtype).1 == Use::Float
}

/// Whether it is a floating-point type that weights come in but models do not compute in; `--dtype` converts it.
pub fn is_wide_or_narrow(dtype: Dtype) -> bool {
    row(dtype).1 == Use::Castable
}

/// Whether `mx.load` reads a tensor of this dtype (8-bit floats as bytes).
pub fn mlx_loads(dtype: Dtype) -> bool {
    row(dtype).2
}

/// PyTorch's name, as configs state it.
pub fn torch_name(dtype: Dtype) -> Option<&'static str> {
    row(dtype).0
}

/// The float dtype that PyTorch calls so (`bfloat16`, `torch.bfloat16`).
pub fn from_torch_name(name: &str) -> Option<Dtype> {
    let name = name.strip_prefix("torch.").unwrap_or(name);
    let floats = [Dtype::F32, Dtype::F16, Dtype::BF16, Dtype::F64];
    let aliases = [("half", Dtype::F16), ("float", Dtype::F32), ("double", Dtype::F64)];
    let alias = || aliases.into_iter().find(|(alias, _)| *alias == name).map(|(_, dtype)| dtype);
    floats.into_iter().find(|&dtype| torch_name(dtype) == Some(name)).or_else(alias)
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

    #[test]
    fn the_table_knows_what_mlx_loads() {
        for dtype in [Dtype::F4, Dtype::F6_E2M3, Dtype::F6_E3M2, Dtype::F64, Dtype::F8_E5M2, Dtype::F8_E4M3FNUZ] {
            assert!(!mlx_loads(dtype), "{dtype}");
        }
        assert!(mlx_loads(Dtype::BF16) && mlx_loads(Dtype::C64) && mlx_loads(Dtype::U32));
        assert_eq!(from_torch_name("torch.bfloat16"), Some(Dtype::BF16));
        assert_eq!(from_torch_name("half"), Some(Dtype::F16));
        assert_eq!(from_torch_name("auto"), None);
    }
}
