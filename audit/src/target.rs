//! The MLX side: plain tensors and packed modules, read in pieces.

use mlxport_convert::checkpoint::{Checkpoint, TensorInfo, TensorSource};
use mlxport_convert::dtype::element_count;
use mlxport_convert::error::ConvertError;
use mlxport_convert::quantize::{Mode, Quantization, dequantize};
use safetensors::Dtype;
use serde_json::Value;

use crate::names::{self, Lookup};
use crate::report::{Finding, Severity};

/// How a target's elements are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// As this dtype.
    Plain(Dtype),
    /// As codes with scales; `values` is the dtype that is packed (of affine, the scales' own).
    Packed {
        /// Mode, bits and group.
        q: Quantization,
        /// What was packed.
        values: Dtype,
    },
}

/// A tensor of the MLX side, or a packed module as the matrix it stands for.
#[derive(Debug, Clone)]
pub struct Target {
    /// The key; of a packed module the key of its codes.
    pub name: String,
    /// Its keys: one, or codes, scales and biases.
    pub keys: Vec<String>,
    /// The shape of the values.
    pub shape: Vec<u64>,
    /// How they are stored.
    pub format: Format,
}

impl Target {
    /// How many values it has.
    pub fn len(&self) -> u64 {
        element_count(&self.shape).unwrap_or(0)
    }

    /// Whether it is packed.
    pub fn is_packed(&self) -> bool {
        matches!(self.format, Format::Packed { .. })
    }

    /// Values along the last axis.
    pub fn row_len(&self) -> u64 {
        self.shape.last().copied().unwrap_or(1).max(1)
    }

    /// The stored bytes of values `first … first + count`, one buffer for each key. Of a packed module both are whole groups.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn read(&self, mlx: &Checkpoint, first: u64, count: u64) -> Result<Vec<Vec<u8>>, ConvertError> {
        let mut parts = Vec::new();
        self.read_into(mlx, first, count, &mut parts)?;
        Ok(parts)
    }

    /// As [`read`](Self::read), into buffers that were there before.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn read_into(
        &self,
        mlx: &Checkpoint,
        first: u64,
        count: u64,
        parts: &mut Vec<Vec<u8>>,
    ) -> Result<(), ConvertError> {
        parts.resize(self.keys.len(), Vec::new());
        for (at, (key, bytes)) in self.keys.iter().zip(parts).enumerate() {
            let (offset, len) = self.place(at, first, count);
            bytes.resize(len as usize, 0);
            mlx.read_at(key, offset, bytes)?;
        }
        Ok(())
    }

    /// Offset and length in bytes of a run of values in the part `at`.
    fn place(&self, at: usize, first: u64, count: u64) -> (u64, u64) {
        match self.format {
            Format::Plain(dtype) => {
                let size = dtype.bitsize() as u64 / 8;
                (first * size, count * size)
            }
            Format::Packed { q, .. } if at == 0 => {
                let bits = u64::from(q.bits());
                (first * bits / 8, count * bits / 8)
            }
            Format::Packed { q, values } => {
                let group = u64::from(q.group_size());
                let size = if q.has_biases() { values.bitsize() as u64 / 8 } else { 1 };
                (first / group * size, count / group * size)
            }
        }
    }

    /// The values that stored bytes stand for, as float32.
    pub fn values(&self, parts: &[Vec<u8>], count: usize) -> Vec<f32> {
        match self.format {
            Format::Plain(dtype) => widened(dtype, &parts[0]),
            Format::Packed { q, values } => {
                let mut out = vec![0; count * values.bitsize() / 8];
                let empty = Vec::new();
                dequantize(q, values, &parts[0], &parts[1], parts.get(2).unwrap_or(&empty), &mut out);
                widened(values, &out)
            }
        }
    }
}

/// Little-endian floats as float32.
pub fn widened(dtype: Dtype, bytes: &[u8]) -> Vec<f32> {
    match dtype {
        Dtype::F32 => bytes.as_chunks::<4>().0.iter().map(|&raw| f32::from_le_bytes(raw)).collect(),
        Dtype::F16 => bytes.as_chunks::<2>().0.iter().map(|&raw| half::f16::from_le_bytes(raw).to_f32()).collect(),
        Dtype::BF16 => bytes.as_chunks::<2>().0.iter().map(|&raw| half::bf16::from_le_bytes(raw).to_f32()).collect(),
        Dtype::F64 => bytes.as_chunks::<8>().0.iter().map(|&raw| f64::from_le_bytes(raw) as f32).collect(),
        Dtype::I64 => bytes.as_chunks::<8>().0.iter().map(|&raw| i64::from_le_bytes(raw) as f32).collect(),
        Dtype::I32 => bytes.as_chunks::<4>().0.iter().map(|&raw| i32::from_le_bytes(raw) as f32).collect(),
        Dtype::U32 => bytes.as_chunks::<4>().0.iter().map(|&raw| u32::from_le_bytes(raw) as f32).collect(),
        _ => bytes.iter().map(|&byte| f32::from(byte)).collect(),
    }
}

/// Every target of an MLX checkpoint, and what their shapes and the config contradict each other in.
pub fn targets(mlx: &Checkpoint, config: &Value, release: &Checkpoint, lookup: &Lookup) -> (Vec<Target>, Vec<Finding>) {
    let tensors = mlx.tensors();
    let usual = usual_float(mlx);
    let (mut targets, mut findings) = (Vec::new(), Vec::new());
    let mut taken = std::collections::BTreeSet::new();
    for (key, info) in tensors {
        let Some(module) = key.strip_suffix(".weight") else { continue };
        let scales_key = format!("{module}.scales");
        let Some(scales) = tensors.get(&scales_key).filter(|_| info.dtype == Dtype::U32) else { continue };
        let biases_key = format!("{module}.biases");
        let biases = tensors.get(&biases_key);
        let known = Known { module, key, info, scales, biases, usual };
        taken.extend([key.clone(), scales_key.clone(), biases_key.clone()]);
        let mut keys = vec![key.clone(), scales_key];
        keys.extend(biases.map(|_| biases_key));
        match known.target(keys.clone(), config, release, lookup) {
            Ok((target, claims)) => {
                targets.push(target);
                findings.extend(claims.map(|finding| finding.at(keys)));
            }
            Err(finding) => findings.push(finding.at(keys)),
        }
    }
    for (key, info) in tensors.iter().filter(|(key, _)| !taken.contains(*key)) {
        let format = Format::Plain(info.dtype);
        targets.push(Target { name: key.clone(), keys: vec![key.clone()], shape: info.shape.clone(), format });
    }
    if !targets.iter().any(Target::is_packed) && config.get("quantization").is_some_and(Value::is_object) {
        let detail = "config.json claims a quantization, and no tensor is packed";
        findings.push(Finding::new("quantization-claim", Severity::Fault, detail).at(["quantization".to_owned()]));
    }
    targets.sort_by(|a, b| a.name.cmp(&b.name));
    (targets, findings)
}

/// The dtype that most float tensors have that are not scales or biases of packed modules.
fn usual_float(mlx: &Checkpoint) -> Dtype {
    let count = |dtype: Dtype| {
        let plain = |key: &String| !key.ends_with(".scales") && !key.ends_with(".biases");
        mlx.tensors().iter().filter(|(key, info)| info.dtype == dtype && plain(key)).count()
    };
    let all = [Dtype::F32, Dtype::F16, Dtype::BF16];
    all.into_iter().max_by_key(|&dtype| count(dtype)).unwrap_or(Dtype::BF16)
}

/// What is known of a packed module.
struct Known<'a> {
    module: &'a str,
    key: &'a str,
    info: &'a TensorInfo,
    scales: &'a TensorInfo,
    biases: Option<&'a TensorInfo>,
    usual: Dtype,
}

impl Known<'_> {
    /// The target, and where the config claims something else. The shapes of codes and scales give bits × group; which of the products it
    /// is, the release's matrix says.
    #[allow(clippy::result_large_err, reason = "it is made once for each packed module")]
    fn target(
        &self,
        keys: Vec<String>,
        config: &Value,
        release: &Checkpoint,
        lookup: &Lookup,
    ) -> Result<(Target, Option<Finding>), Finding> {
        let fault = |detail: String| Finding::new("quantization-shape", Severity::Fault, detail);
        let words = self.info.shape.last().copied().unwrap_or(0) * 32;
        let groups = self.scales.shape.last().copied().unwrap_or(0);
        if groups == 0 || !words.is_multiple_of(groups) || self.info.shape.len() != self.scales.shape.len() {
            return Err(fault("codes and scales have shapes that do not belong together".to_owned()));
        }
        let product = words / groups;
        if self.scales.dtype != Dtype::U8 && self.biases.is_none() {
            let detail = "scales without biases: affine quantization has both";
            return Err(Finding::new("missing", Severity::Fault, detail).at([format!("{}.biases", self.module)]));
        }
        if self.biases.is_some_and(|biases| biases.shape != self.scales.shape || biases.dtype != self.scales.dtype) {
            return Err(fault("scales and biases differ in shape or dtype".to_owned()));
        }
        let possible = self.possible(product);
        let claimed = claim(config, self.module);
        let shapes = self.shapes(release, lookup);
        let last: Vec<u64> = shapes.iter().filter_map(|shape| shape.last().copied()).collect();
        let widths = shapes.concat();
        let fits = |q: &&Quantization| widths.contains(&(groups * u64::from(q.group_size())));
        let said = claimed.and_then(|(mode, bits, group)| Quantization::new(mode, bits, group).ok());
        let chosen = possible
            .iter()
            .find(|q| fits(q) && said == Some(**q))
            .or_else(|| possible.iter().find(|q| last.contains(&(groups * u64::from(q.group_size())))))
            .or_else(|| possible.iter().find(fits))
            .or_else(|| possible.iter().find(|q| said == Some(**q)))
            .or(possible.first());
        let Some(&q) = chosen else {
            return Err(fault(format!("no quantization of MLX has {product} bits per group")));
        };
        let values = if q.has_biases() { self.scales.dtype } else { self.usual };
        let mut shape = self.info.shape.clone();
        if let Some(last) = shape.last_mut() {
            *last = groups * u64::from(q.group_size());
        }
        let target = Target { name: self.key.to_owned(), keys, shape, format: Format::Packed { q, values } };
        Ok((target, claim_finding(claimed, said, q)))
    }

    /// What the dtypes and bits × group allow, usual ones first.
    fn possible(&self, product: u64) -> Vec<Quantization> {
        let modes: &[Mode] =
            if self.biases.is_some() { &[Mode::Affine] } else { &[Mode::Mxfp4, Mode::Mxfp8, Mode::Nvfp4] };
        let mut all = Vec::new();
        for &mode in modes {
            for group in [64, 32, 128, 16] {
                for bits in [4, 8, 2, 3, 5, 6] {
                    let fits = u64::from(bits) * u64::from(group) == product;
                    all.extend(Quantization::new(mode, Some(bits), Some(group)).ok().filter(|_| fits));
                }
            }
        }
        all
    }

    /// Shapes of the release's tensors that stand here by name.
    fn shapes(&self, release: &Checkpoint, lookup: &Lookup) -> Vec<Vec<u64>> {
        let mut keys: Vec<String> = lookup.find(self.key).into_iter().map(str::to_owned).collect();
        if keys.is_empty() {
            let last = names::leaf(self.module);
            let parent = names::module(self.module);
            keys.extend(lookup.find(&format!("{parent}.0.{last}.weight")).into_iter().map(str::to_owned));
            keys.extend(lookup.find(&format!("{parent}.{last}")).into_iter().map(str::to_owned));
            if names::is_head(self.key) {
                keys.extend(release.tensors().keys().filter(|key| names::is_embedding(key)).cloned());
            }
        }
        keys.iter().filter_map(|key| release.tensors().get(key)).map(|info| info.shape.clone()).collect()
    }
}

/// What config.json says of a module's quantization.
type Claim = (Mode, Option<u32>, Option<u32>);

fn claim(config: &Value, module: &str) -> Option<Claim> {
    let table = config
        .get("quantization")
        .or_else(|| config.get("quantization_config"))
        .or_else(|| config.pointer("/text_config/quantization"))?;
    let own = table.get(module).filter(|own| own.is_object()).unwrap_or(table);
    let number = |name: &str| own.get(name).and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
    let mode = own.get("mode").or_else(|| if own.get("bits").is_some() { None } else { table.get("mode") });
    let mode = mode.and_then(Value::as_str).unwrap_or("affine").parse().ok()?;
    Some((mode, number("bits"), number("group_size")))
}

/// Where the config's claim is not what the tensors are.
fn claim_finding(claimed: Option<Claim>, said: Option<Quantization>, found: Quantization) -> Option<Finding> {
    let is = format!("{}, {} bits, groups of {}", found.mode(), found.bits(), found.group_size());
    let Some((mode, bits, group)) = claimed else {
        let detail = format!("config.json has no quantization, and the tensors are packed ({is})");
        return Some(Finding::new("quantization-claim", Severity::Fault, detail));
    };
    if said == Some(found) {
        return None;
    }
    let severity = if mode == found.mode() { Severity::Minor } else { Severity::Fault };
    let number = |n: Option<u32>| n.map_or_else(|| "unsaid".to_owned(), |n| n.to_string());
    let detail =
        format!("config.json claims {mode}, {} bits, groups of {}; the tensors are {is}", number(bits), number(group));
    Some(Finding::new("quantization-claim", severity, detail))
}
