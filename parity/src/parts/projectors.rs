//! Projectors: each case in both layouts, its weights converted by the converter's own transform.

use std::{collections::BTreeMap, path::Path};

use mlx_rs::{Array, Dtype, ops};
use mlxport_fixtures::{Data, Tensor, read_limited};
use mlxport_model::{
    parts::projector::unfold::Columns,
    parts::projector::{Projector, ProjectorConfig},
};
use mlxport_verdict::{Failure, ReferenceKind, TapRecord};
use serde::Deserialize;

use super::{Bench, Reader, Wanted, header};
use crate::{
    error::{Error, Result},
    host,
};

/// The largest `projectors.json` that is read.
const MAX_JSON_BYTE_LEN: u64 = 8 << 20;

/// One case of `projectors.json`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    case: String,
    config: serde_json::Value,
    /// Whether the input is high and low features in one tensor; told by its shape as well.
    #[serde(default, rename = "stacked_input")]
    _stacked_input: bool,
}

/// What a case reads from the tensors' file.
struct Loaded {
    name: String,
    config: ProjectorConfig,
    input: Tensor,
    out: Tensor,
    truth: Option<Tensor>,
    weights: BTreeMap<String, Tensor>,
}

/// Judges every case of `dir`.
pub(super) fn judge(dir: &Path, bench: &mut Bench) -> Result<Vec<TapRecord>> {
    let path = dir.join("projectors.json");
    let wrong = |what: String| Error::Mismatch(format!("{}: {what}", path.display()));
    let bytes = read_limited(&path, MAX_JSON_BYTE_LEN).map_err(|e| wrong(e.to_string()))?;
    let cases: Vec<Case> =
        serde_json::from_slice(&bytes).map_err(|e| wrong(format!("expected a list of case and config: {e}")))?;
    let mut reader = Reader::open(&dir.join("projectors.safetensors"))?;
    let loaded: Vec<Option<Loaded>> = cases.into_iter().map(|case| load(case, &mut reader)).collect();
    let claimed: Vec<String> = loaded.iter().flatten().map(|case| format!("{}/", case.name)).collect();
    if reader.violations.is_empty() {
        for name in reader.file.names() {
            if !claimed.iter().any(|prefix| name.starts_with(prefix)) {
                reader.violations.push(format!("{name}: belongs to no case of projectors.json"));
            }
        }
    }
    reader.finish()?;
    let mut records = Vec::new();
    for case in loaded.iter().flatten() {
        for (layout, columns) in [("mlx-vlm", Columns::ChannelsFirst), ("split", Columns::ChannelsLast)] {
            records.push(run(case, layout, columns, bench)?);
        }
    }
    Ok(records)
}

fn load(case: Case, reader: &mut Reader) -> Option<Loaded> {
    let name = case.case;
    let config: ProjectorConfig = match serde_json::from_value(case.config) {
        Ok(config) => config,
        Err(error) => {
            reader.violations.push(format!("projectors.json: {name}: {error}"));
            return None;
        }
    };
    // What is not known cannot be checked; the config class's name means nothing here.
    for unknown in config.others.keys().filter(|field| *field != "model_type") {
        reader.violations.push(format!("projectors.json: {name}: unknown field `{unknown}`"));
    }
    let prefix = format!("{name}/weight/");
    let names = reader.file.names();
    let weights = names.iter().filter_map(|full| Some((full.clone(), full.strip_prefix(&prefix)?.to_owned())));
    let weights: Vec<(String, String)> = weights.collect();
    let weights = weights.into_iter().filter_map(|(full, short)| Some((short, reader.floats(&full)?))).collect();
    let input = reader.floats(&format!("{name}/in/0"));
    let out = reader.floats(&format!("{name}/out"));
    let truth_name = format!("{name}/truth");
    let truth = if names.contains(&truth_name) { reader.floats(&truth_name) } else { None };
    let known = [format!("{name}/in/0"), format!("{name}/out"), truth_name];
    let mine = names.iter().filter(|full| full.starts_with(&format!("{name}/")) && !full.starts_with(&prefix));
    for extra in mine.filter(|full| !known.contains(full)) {
        reader.violations.push(format!("{extra}: expected in/0, out, truth and weight/… of a case"));
    }
    Some(Loaded { name, config, input: input?, out: out?, truth, weights })
}

fn run(case: &Loaded, layout: &str, columns: Columns, bench: &mut Bench) -> Result<TapRecord> {
    let mut weights = BTreeMap::new();
    let unfolded = Projector::unfolded(&case.config);
    for (name, tensor) in &case.weights {
        let array = host::array(tensor, Dtype::Float32)?;
        let kernel = unfolded.iter().find(|(unfolded, _)| unfolded == name).map(|(_, kernel)| *kernel);
        let array = match (columns, kernel) {
            (Columns::ChannelsLast, Some(kernel)) => channels_last(&case.name, &array, kernel)?,
            _ => array,
        };
        weights.insert(name.clone(), array);
    }
    let projector = Projector::new(case.config.clone(), weights, columns);
    // A single-precision run of float64 inputs would not be PyTorch's: they are recorded in float32.
    if !matches!(case.input.data, Data::F32(_)) {
        return Err(Error::Mismatch(format!("{}/in/0: expected float32", case.name)));
    }
    let got = projector.forward(&host::array(&case.input, Dtype::Float32)?)?;
    let name = format!("projectors/{} ({layout})", case.name);
    if let [first, ..] = projector.unused()[..] {
        return Err(Error::Mismatch(format!("{}: the weight {first} is none of its projector_type's", case.name)));
    }
    let wanted = Wanted { name: name.clone(), recorded: case.out.clone(), truth: case.truth.clone(), exact: false };
    if let Some(truth) = case.truth.as_ref().filter(|truth| truth.shape != case.out.shape) {
        let failure = Failure::ShapeMismatch { expected: truth.shape.clone(), found: case.out.shape.clone() };
        return Ok(TapRecord::failed(header(&name, &truth.shape, ReferenceKind::Truth), failure));
    }
    bench.judge(&wanted, &got, &projector.operations())
}

/// Columns \[…, C·k²\] → \[…, k²·C\]: the recipes' `permute_unfold`.
fn channels_last(case: &str, weight: &Array, kernel: i32) -> Result<Array> {
    let (area, columns) = (kernel * kernel, weight.dim(-1));
    if area < 1 || columns % area != 0 {
        return Err(Error::Mismatch(format!(
            "{case}: {columns} columns are no multiple of the kernel's {area} places"
        )));
    }
    let rows = weight.size() as i32 / columns.max(1);
    let apart = weight.reshape(&[rows, columns / area, area])?;
    Ok(ops::swap_axes(apart, 1, 2)?.reshape(weight.shape())?)
}
