//! Single parts against what PyTorch computed: projectors (`projectors.json`, `projectors.safetensors`) and operations
//! (`operations.safetensors`). Every case is judged; one that is not known ends the run, it is never left out.

mod operations;
mod projectors;
mod text;

use std::path::{Path, PathBuf};

use mlx_rs::{Array, Dtype};
use mlxport_fixtures::{Data, Tensor, TensorFile};
use mlxport_model::{
    contract::Operation,
    runtime::{self, DeviceKind},
};
use mlxport_verdict::{
    Failure, Floors, Header, K, Mode, Precision, Reference, ReferenceKind, TapId, TapRecord, compare, ulp_floor,
};
use serde::Serialize;

use crate::{
    calibrate::Calibration,
    error::{Error, Result},
    host,
    run::use_device,
};

/// The verdict on a directory of parts.
#[derive(Debug, Serialize)]
pub struct PartsReport {
    /// The version of this object.
    pub schema: u32,
    /// `pass` or `fail`.
    pub verdict: &'static str,
    /// Floors that are allowed.
    pub k: f64,
    /// Cases compared.
    pub compared: usize,
    /// Cases that failed.
    pub failed: usize,
    /// MLX's version.
    pub mlx: String,
    /// One record per case (projectors: per case and layout), in the files' order.
    pub taps: Vec<TapRecord>,
}

impl PartsReport {
    /// Whether every case passed, of which there is at least one.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.failed == 0 && self.compared > 0
    }
}

/// Judges all parts in `dir`.
///
/// # Errors
/// When neither kind is there, a file breaks the format, or a case is not known; all violations are listed.
pub fn parts(dir: &Path, device: DeviceKind) -> Result<PartsReport> {
    use_device(device)?;
    let mut bench = Bench { calibration: Calibration::new(Dtype::Float32, 1) };
    let mut taps = Vec::new();
    let there = |name: &str| dir.join(name).exists();
    let mut found = false;
    if there("projectors.json") || there("projectors.safetensors") {
        found = true;
        taps.extend(projectors::judge(dir, &mut bench)?);
    }
    if there("operations.safetensors") {
        found = true;
        taps.extend(operations::judge(&dir.join("operations.safetensors"), &mut bench)?);
    }
    if !found {
        let expected = "expected projectors.json with projectors.safetensors, or operations.safetensors";
        return Err(Error::Mismatch(format!("{}: {expected}; found none of them", dir.display())));
    }
    if taps.is_empty() {
        return Err(Error::Mismatch(format!("{}: there is no case in these files", dir.display())));
    }
    let failed = taps.iter().filter(|tap| tap.failure.is_some()).count();
    let verdict = if failed == 0 { "pass" } else { "fail" };
    Ok(PartsReport { schema: 1, verdict, k: K, compared: taps.len(), failed, mlx: runtime::mlx_version(), taps })
}

/// Judges single results.
struct Bench {
    calibration: Calibration,
}

/// What a case is held against.
struct Wanted {
    /// The case's name.
    name: String,
    /// What float32 PyTorch returned.
    recorded: Tensor,
    /// What float64 PyTorch returned, where it was recorded.
    truth: Option<Tensor>,
    /// Whether nothing is computed, only moved: then nothing may differ.
    exact: bool,
}

impl Bench {
    /// The record of one case.
    fn judge(&mut self, wanted: &Wanted, got: &Array, operations: &[Operation]) -> Result<TapRecord> {
        let (reference, kind) = match &wanted.truth {
            Some(truth) => (truth, ReferenceKind::Truth),
            None => (&wanted.recorded, ReferenceKind::Recorded),
        };
        let header = header(&wanted.name, &reference.shape, kind);
        let shape: Vec<usize> = got.shape().iter().map(|&d| d as usize).collect();
        if shape != reference.shape {
            let expected = reference.shape.clone();
            return Ok(TapRecord::failed(header, Failure::ShapeMismatch { expected, found: shape }));
        }
        let values = host::floats(got)?;
        let outcome = compare(&shape, values_of(reference), &values);
        let floors = if wanted.exact {
            Floors { torch: 0.0, runtime: 0.0, ulp: 0.0 }
        } else {
            let rms = outcome.as_ref().map_or(0.0, |metrics| metrics.ref_rms);
            let torch = match (&wanted.truth, &wanted.recorded.data) {
                (Some(truth), Data::F32(recorded)) => {
                    compare(&shape, values_of(truth), recorded).map_or(f64::NAN, |metrics| metrics.rel_rms)
                }
                _ => 0.0,
            };
            Floors { torch, runtime: self.calibration.chain(operations)?, ulp: ulp_floor(rms, Precision::F32) }
        };
        Ok(TapRecord::measured(header, outcome, floors, K))
    }
}

fn header(name: &str, shape: &[usize], reference: ReferenceKind) -> Header {
    let id = TapId { point: name.to_owned(), call: 0, kind: "out".to_owned() };
    Header { id, mode: Mode::Isolated, shape: shape.to_vec(), dtype: "f32".to_owned(), reference }
}

/// Floats, which the reader of each file has asked for.
fn values_of(tensor: &Tensor) -> Reference<'_> {
    match &tensor.data {
        Data::F64(values) => Reference::F64(values),
        Data::F32(values) => Reference::F32(values),
        _ => Reference::F32(&[]),
    }
}

/// A file's tensors, read with every violation noted.
struct Reader {
    path: PathBuf,
    file: TensorFile,
    violations: Vec<String>,
}

impl Reader {
    fn open(path: &Path) -> Result<Self> {
        let file = TensorFile::open(path).map_err(|e| Error::Mismatch(format!("{}: {e}", path.display())))?;
        Ok(Self { path: path.to_owned(), file, violations: Vec::new() })
    }

    /// A float tensor with at least one element; notes why there is none.
    fn floats(&mut self, name: &str) -> Option<Tensor> {
        match self.file.read_finite(name) {
            Ok(tensor) if !matches!(tensor.data, Data::F32(_) | Data::F64(_)) => {
                self.violations.push(format!("{name}: expected floats"));
                None
            }
            Ok(tensor) if tensor.data.is_empty() => {
                self.violations.push(format!("{name}: expected elements, found none in shape {:?}", tensor.shape));
                None
            }
            Ok(tensor) => Some(tensor),
            Err(error) => {
                self.violations.push(error.to_string());
                None
            }
        }
    }

    fn finish(self) -> Result<()> {
        if self.violations.is_empty() {
            return Ok(());
        }
        let mut text = format!("{}: {} violation(s)", self.path.display(), self.violations.len());
        self.violations.iter().take(100).for_each(|violation| text.push_str(&format!("\n  - {violation}")));
        Err(Error::Mismatch(text))
    }
}
