//! What a recording says PyTorch itself is off by, in the precision of the run and the mode of the comparison.

use mlxport_fixtures::{Fixture, Kind, NoiseFloor, Point, Quantized};
use mlxport_model::Facts;
use mlxport_verdict::{Mode, Precision};

use crate::error::{Error, Result};

/// Why a point of a bfloat16 run is not compared.
pub const NOT_MEASURED: &str = "no floor recorded for this precision";

/// What a run computes with: what it may be off by depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Basis {
    /// Of activations.
    pub precision: Precision,
    /// How weights are packed, where they are.
    pub quantized: Option<Quantized>,
}

impl Basis {
    /// Float32, with the weights as released: the run that is held to its own expert choices.
    pub fn is_exact(self) -> bool {
        self.precision == Precision::F32 && self.quantized.is_none()
    }

    /// `f32`, `bf16`, `f32+affine-4-64`: dtype of activations, then bits and group size of packed weights.
    pub fn name(self) -> String {
        let packed = self.quantized.map(|q| format!("+affine-{}-{}", q.bits, q.group_size));
        format!("{}{}", self.precision.name(), packed.unwrap_or_default())
    }
}

/// PyTorch's floor at `point`; none where it was not measured.
///
/// In float32 a module alone is off by no more than the whole pass was there, so that one floor serves both modes. In bfloat16 and with
/// rounded weights the difference is the whole point: a pass is off by per cents where a module alone is off by its last rounding.
/// What an isolated module is *given* differs from the recording by being rounded only, which one ulp covers.
pub fn recorded(point: &Point, basis: Basis, mode: Mode) -> Option<NoiseFloor> {
    let nothing = NoiseFloor { max_abs: 0.0, rms: 0.0, ..point.noise_floor };
    let float = match (basis.precision, mode, point.kind) {
        (Precision::F32, ..) => point.noise_floor,
        (Precision::Bf16, Mode::Cumulative | Mode::Tuned, _) => point.noise_floor_bf16?,
        (Precision::Bf16, Mode::Isolated, Kind::Out) => point.noise_floor_bf16_isolated?,
        (Precision::Bf16, Mode::Isolated, Kind::In(_)) => nothing,
    };
    if basis.quantized.is_none() {
        return Some(float);
    }
    let packed = match (mode, point.kind) {
        (Mode::Cumulative | Mode::Tuned, _) => point.noise_floor_quantized?,
        (Mode::Isolated, Kind::Out) => point.noise_floor_quantized_isolated?,
        (Mode::Isolated, Kind::In(_)) => nothing,
    };
    Some(both(float, packed))
}

/// Two errors that do not know of each other.
fn both(a: NoiseFloor, b: NoiseFloor) -> NoiseFloor {
    // A router's floors are of its scores, whose RMS is not that of the point.
    let share = (a.relative().powi(2) + b.relative().powi(2)).sqrt();
    let ref_rms = if b.ref_rms > 0.0 { b.ref_rms } else { a.ref_rms };
    NoiseFloor { max_abs: a.max_abs + b.max_abs, rms: share * ref_rms, ref_rms }
}

/// The same as relative RMS: the larger one where two kernels were recorded, 0 where nothing was.
pub fn relative(point: &Point, basis: Basis, mode: Mode) -> f64 {
    let measured = recorded(point, basis, mode).map_or(0.0, |floor| floor.relative());
    if basis.precision == Precision::F32 { measured.max(point.relative_floor()) } else { measured }
}

/// What a router's scores are off by, as a share of their spread, for the token that is furthest off; 0 where it was not measured.
pub fn relative_of_choices(gate: &Point, basis: Basis, mode: Mode) -> f64 {
    if basis.is_exact() { 0.0 } else { recorded(gate, basis, mode).map_or(0.0, |floor| floor.relative()) }
}

/// Whether `point` can be judged: integers always, floats where PyTorch's floor was measured.
pub fn measured(point: &Point, basis: Basis, mode: Mode) -> bool {
    !point.dtype.is_float() || recorded(point, basis, mode).is_some()
}

/// The basis of a run of the model that `facts` are of, by the floors of `fixture`.
///
/// # Errors
/// Floors that one of `modes` needs are missing, or were measured for another quantization: with what would add them.
pub fn basis(fixture: &Fixture, precision: Precision, facts: &Facts, modes: &[Mode]) -> Result<Basis> {
    let quantized = facts.packed.map(|packed| same_quantization(fixture, packed)).transpose()?;
    let basis = Basis { precision, quantized };
    let outputs = || fixture.points().iter().filter(|p| p.dtype.is_float() && p.kind == Kind::Out);
    let lacking = modes.iter().find(|&&mode| !outputs().any(|point| recorded(point, basis, mode).is_some()));
    let Some(mode) = lacking else { return Ok(basis) };
    let (name, dir) = (fixture.name(), fixture.dir().display());
    let (what, more) = match (precision, quantized) {
        (Precision::Bf16, _) if !outputs().any(|point| point.noise_floor_bf16.is_some()) => ("bfloat16", ""),
        (_, Some(_)) => ("quantized", " --quantized MODEL"),
        _ => ("bfloat16", ""),
    };
    Err(Error::Mismatch(format!(
        "{}: {name} holds no {what} floors for the {mode} mode, so there is no tolerance to judge by. Add them: \
         python fixtures/capture/bf16_floors.py --code RELEASE{more} {dir} (RELEASE: the directory of the release's .py files; \
         record.py --bf16 measures those of bfloat16 while recording); or use --dtype f32 and float weights",
        basis.name()
    )))
}

/// The quantization of a model, which must be the one that the recording has floors for.
fn same_quantization(fixture: &Fixture, (group_size, bits): (i32, i32)) -> Result<Quantized> {
    let found = Quantized { bits: bits as u32, group_size: group_size as u32 };
    let (name, dir) = (fixture.name(), fixture.dir().display());
    match fixture.quantized() {
        Some(recorded) if recorded == found => Ok(found),
        Some(other) => Err(Error::Mismatch(format!(
            "the model is quantized to {} bits in groups of {}, {name} holds floors for {} bits in groups of {}",
            found.bits, found.group_size, other.bits, other.group_size
        ))),
        None => Err(Error::Mismatch(format!(
            "the model is quantized and {name} holds no floors of that, so there is no tolerance to judge by. Add them: \
             python fixtures/capture/bf16_floors.py --code RELEASE --quantized MODEL {dir}; or make floats of it: \
             mlxport convert MODEL FLOATS --dequantize"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use mlxport_fixtures::Dtype;

    use super::*;

    fn floor(rms: f64) -> NoiseFloor {
        NoiseFloor { max_abs: 2.0 * rms, rms, ref_rms: 2.0 }
    }

    /// A float output with the float32 floors 1 and 3 and no others.
    fn point(kind: Kind) -> Point {
        Point {
            point: "model.norm".to_owned(),
            call: 0,
            kind,
            tensor: "t".to_owned(),
            truth: None,
            shape: vec![4],
            dtype: Dtype::F32,
            sampling: None,
            sets: false,
            noise_floor: floor(1.0),
            floor_measured: true,
            noise_floor_other_kernels: Some(floor(3.0)),
            noise_floor_bf16: None,
            noise_floor_bf16_isolated: None,
            noise_floor_quantized: None,
            noise_floor_quantized_isolated: None,
        }
    }

    const MODES: [Mode; 3] = [Mode::Cumulative, Mode::Tuned, Mode::Isolated];

    fn basis(precision: Precision, bits: Option<u32>) -> Basis {
        Basis { precision, quantized: bits.map(|bits| Quantized { bits, group_size: 64 }) }
    }

    #[test]
    fn in_float32_one_floor_serves_every_mode_and_the_larger_kernel_counts() {
        for mode in MODES {
            assert_eq!(relative(&point(Kind::Out), basis(Precision::F32, None), mode), 1.5);
        }
    }

    #[test]
    fn in_bfloat16_each_mode_has_its_own_floor_and_none_is_borrowed() {
        let bf16 = basis(Precision::Bf16, None);
        assert!(MODES.iter().all(|&mode| !measured(&point(Kind::Out), bf16, mode)));
        let whole = Point { noise_floor_bf16: Some(floor(8.0)), ..point(Kind::Out) };
        assert_eq!(relative(&whole, bf16, Mode::Cumulative), 4.0);
        assert_eq!(relative(&whole, bf16, Mode::Tuned), 4.0);
        assert!(!measured(&whole, bf16, Mode::Isolated));
        let alone = Point { noise_floor_bf16_isolated: Some(floor(2.0)), ..whole };
        assert_eq!(relative(&alone, bf16, Mode::Isolated), 1.0);
        // What an isolated module is given is off by its rounding only.
        assert_eq!(relative(&point(Kind::In(0)), bf16, Mode::Isolated), 0.0);
    }

    #[test]
    fn what_packing_costs_is_added_as_an_error_that_knows_nothing_of_the_other() {
        let packed =
            Point { noise_floor_quantized: Some(floor(6.0)), noise_floor_bf16: Some(floor(8.0)), ..point(Kind::Out) };
        let both = recorded(&packed, basis(Precision::Bf16, Some(4)), Mode::Cumulative).expect("measured");
        assert_eq!((both.relative(), both.max_abs), (5.0, 28.0));
        assert!(!measured(&packed, basis(Precision::Bf16, Some(4)), Mode::Isolated));
    }

    #[test]
    fn whole_numbers_need_no_floor_and_only_float32_as_released_is_exact() {
        let choices = Point { dtype: Dtype::I64, ..point(Kind::Out) };
        assert!(measured(&choices, basis(Precision::Bf16, None), Mode::Isolated));
        assert!(basis(Precision::F32, None).is_exact());
        assert!(!basis(Precision::F32, Some(4)).is_exact() && !basis(Precision::Bf16, None).is_exact());
        assert_eq!(relative_of_choices(&point(Kind::Out), basis(Precision::F32, None), Mode::Cumulative), 0.0);
        assert_eq!(basis(Precision::F32, Some(4)).name(), "f32+affine-4-64");
    }
}
