//! Decoding a recording's prompt, judged by the tokens and logits that PyTorch recorded (`decode.json`, `decode.safetensors`).

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use mlx_rs::Dtype;
use mlxport_fixtures::{Data, Fixture, Kind, TensorFile, read_limited};
use mlxport_model::{
    LoadOptions, Model, Tuned,
    contract::Operation,
    decoding::{NoRepeatNgram, Options, generate},
    runtime::DeviceKind,
};
use mlxport_verdict::{K, Precision, Reference, compare};
use serde::{Deserialize, Serialize};

use crate::{
    calibrate::Calibration,
    error::{Error, Result},
    inputs,
    run::{dtype_of, use_device},
};

/// The largest `decode.json` that is read.
const MAX_JSON_BYTE_LEN: u64 = 16 << 20;

/// What to decode.
#[derive(Debug, Clone)]
pub struct DecodeRequest {
    /// The converted model's directory.
    pub model: PathBuf,
    /// The recording's directory.
    pub fixture: PathBuf,
    /// How; `max_tokens` is replaced by the number of recorded ones where `steps` is none.
    pub options: Options,
    /// How many tokens.
    pub steps: Option<usize>,
    /// Where to run.
    pub device: DeviceKind,
    /// What to compute in.
    pub precision: Precision,
}

/// What was decoded, and how it compares.
#[derive(Debug, Clone, Serialize)]
pub struct Decoded {
    /// Token ids made.
    pub tokens: Vec<i32>,
    /// Against PyTorch's, where the recording holds a run by the same rules.
    pub reference: Option<Agreement>,
}

impl Decoded {
    /// Whether what was compared is PyTorch's; none where nothing was compared: no token, or no run by the same rules.
    #[must_use]
    pub fn verdict(&self) -> Option<bool> {
        self.reference.as_ref().filter(|_| !self.tokens.is_empty()).map(|reference| reference.pass)
    }
}

/// How far tokens and logits are PyTorch's.
#[derive(Debug, Clone, Serialize)]
pub struct Agreement {
    /// The run's name in `decode.json`.
    pub run: String,
    /// The tokens that PyTorch made.
    pub tokens: Vec<i32>,
    /// How many tokens from the first on are equal.
    pub equal_prefix: usize,
    /// Relative RMS of the logits of all steps up to and including the first that differs.
    pub logits_rel_rms: Option<f64>,
    /// The step furthest off, and its relative RMS.
    pub logits_worst_step: Option<(usize, f64)>,
    /// What `logits_rel_rms` may be: [`K`] times the larger measured floor of the prompt's logits.
    pub logits_tolerance: Option<f64>,
    /// Tokens equal, and logits within the tolerance where they were recorded and the run is in float32.
    pub pass: bool,
}

/// One run in `decode.json`.
#[derive(Debug, Deserialize)]
pub(crate) struct Recorded {
    no_repeat_ngram_size: usize,
    /// Of the release's serving code: how many of the tokens made are searched. None: transformers' rule, all of the text.
    #[serde(default)]
    window: Option<usize>,
    /// Whether the window reaches back into the prompt.
    #[serde(default)]
    prompt: bool,
    /// Of the release's serving code: what may repeat all the same.
    #[serde(default)]
    exempt: BTreeSet<i32>,
    pub(crate) tokens: Vec<i32>,
    /// Whether the logits were recorded, too.
    #[serde(default = "yes")]
    pub(crate) logits: bool,
}

fn yes() -> bool {
    true
}

impl Recorded {
    fn is_by(&self, rule: Option<&NoRepeatNgram>) -> bool {
        match rule {
            None => self.no_repeat_ngram_size == 0,
            Some(rule) => {
                let same_exempt = self.exempt.iter().copied().eq(rule.exempt.iter().copied().collect::<BTreeSet<_>>());
                (self.no_repeat_ngram_size, self.window, self.prompt) == (rule.size, rule.window, rule.counts_prompt)
                    && same_exempt
            }
        }
    }
}

/// Decodes and compares.
///
/// # Errors
/// When model, recording or device cannot be used.
pub fn decode(request: &DecodeRequest) -> Result<Decoded> {
    let fixture = Fixture::open(&request.fixture)?;
    let recorded = recorded(fixture.dir(), &request.options)?;
    use_device(request.device)?;
    let model = mlxport_model::load(
        &request.model,
        LoadOptions { dtype: dtype_of(request.precision), ..LoadOptions::default() },
    )?;
    let prompt = inputs::prompt(&*model, &fixture)?;
    let mut options = request.options.clone();
    options.max_tokens = match (request.steps, &recorded) {
        (Some(steps), _) => steps,
        (None, Some((_, run))) => run.tokens.len(),
        (None, None) => return Err(Error::Mismatch(no_reference(fixture.dir()))),
    };
    let mut rows = Vec::new();
    let tokens = generate(&*model, &prompt, &options, &Tuned, |step| {
        rows.push(step.logits.to_vec());
        true
    })?;
    let reference = match recorded {
        Some((name, run)) => Some(judge(&fixture, &*model, (name, run), &tokens, &rows)?),
        None => None,
    };
    Ok(Decoded { tokens, reference })
}

fn no_reference(dir: &Path) -> String {
    format!("{}: decode.json holds no run by these rules; say how many tokens to make with --steps N", dir.display())
}

/// The recorded run by the same rules, where there is one: greedy.
fn recorded(dir: &Path, options: &Options) -> Result<Option<(String, Recorded)>> {
    let comparable = options.sampling.temperature <= 0.0 && options.stop.is_empty();
    let runs = if comparable { runs(dir)? } else { BTreeMap::new() };
    Ok(runs.into_iter().find(|(_, run)| run.is_by(options.no_repeat.as_ref())))
}

/// Every run of `decode.json`, by name; none where there is no such file.
///
/// # Errors
/// When it is there and is something else.
pub(crate) fn runs(dir: &Path) -> Result<BTreeMap<String, Recorded>> {
    let path = dir.join("decode.json");
    if !path.exists() {
        return Ok(BTreeMap::new());
    }
    let wrong = |what: String| Error::Mismatch(format!("{}: {what}", path.display()));
    let bytes = read_limited(&path, MAX_JSON_BYTE_LEN).map_err(|e| wrong(e.to_string()))?;
    serde_json::from_slice(&bytes)
        .map_err(|e| wrong(format!("expected runs with no_repeat_ngram_size and tokens: {e}")))
}

/// The recorded logits of the first `steps` steps of a run, row-major; none where there is no such file.
///
/// # Errors
/// When it is there and does not hold them.
pub(crate) fn recorded_logits(dir: &Path, run: &str, steps: usize, vocabulary: usize) -> Result<Option<Vec<f32>>> {
    let path = dir.join("decode.safetensors");
    if path.exists() { logits(&path, run, steps, vocabulary).map(Some) } else { Ok(None) }
}

/// What float32 PyTorch is off at the prompt's own logits; 0 where that was not recorded.
pub(crate) fn torch_floor(fixture: &Fixture) -> f64 {
    let point = fixture.point("logits", 0, Kind::Out).or_else(|| fixture.point("lm_head", 0, Kind::Out));
    point.map_or(0.0, mlxport_fixtures::Point::relative_floor)
}

fn judge(
    fixture: &Fixture,
    model: &dyn Model,
    (name, run): (String, Recorded),
    made: &[i32],
    rows: &[Vec<f32>],
) -> Result<Agreement> {
    let wanted = &run.tokens[..run.tokens.len().min(made.len())];
    let equal_prefix = made.iter().zip(wanted).take_while(|(a, b)| a == b).count();
    // Logits are comparable as long as all tokens before them are the same.
    let comparable = (equal_prefix + 1).min(wanted.len());
    let mut agreement = Agreement {
        run: name,
        equal_prefix,
        logits_rel_rms: None,
        logits_worst_step: None,
        logits_tolerance: None,
        pass: equal_prefix == wanted.len(),
        tokens: run.tokens,
    };
    if !run.logits || comparable == 0 {
        return Ok(agreement);
    }
    let Some(recorded) = recorded_logits(fixture.dir(), &agreement.run, comparable, rows[0].len())? else {
        return Ok(agreement);
    };
    let flat: Vec<f32> = rows[..comparable].concat();
    let error = |reference: &[f32], found: &[f32]| {
        compare(&[found.len()], Reference::F32(reference), found).map_or(f64::NAN, |metrics| metrics.rel_rms)
    };
    let all = error(&recorded, &flat);
    let width = rows[0].len();
    let each = recorded.chunks_exact(width).zip(&rows[..comparable]).map(|(reference, found)| error(reference, found));
    agreement.logits_worst_step = each.enumerate().max_by(|a, b| a.1.total_cmp(&b.1));
    agreement.logits_rel_rms = Some(all);
    if model.facts().dtype == Dtype::Float32 {
        let tolerance = tolerance(fixture, model)?;
        agreement.logits_tolerance = Some(tolerance);
        agreement.pass &= all <= tolerance;
    }
    Ok(agreement)
}

/// K × the larger floor of the prompt's own logits: what float32 PyTorch is off there, or the head's product alone is here.
fn tolerance(fixture: &Fixture, model: &dyn Model) -> Result<f64> {
    let torch = torch_floor(fixture);
    let depth = model.facts().hidden;
    let runtime = Calibration::new(model.facts().dtype, 1).floor(Operation::Product { depth })?;
    Ok(K * torch.max(runtime).max(f64::from(f32::EPSILON)))
}

/// The recorded logits of the first `steps` steps, row-major.
fn logits(path: &Path, run: &str, steps: usize, vocabulary: usize) -> Result<Vec<f32>> {
    let wrong = |what: String| Error::Mismatch(format!("{}: {what}", path.display()));
    let file = TensorFile::open(path).map_err(wrong)?;
    let name = format!("{run}/logits");
    let tensor = file.read_finite(&name)?;
    match (tensor.data, tensor.shape.as_slice()) {
        (Data::F32(mut values), &[rows, width]) if rows >= steps && width == vocabulary => {
            values.truncate(steps * vocabulary);
            Ok(values)
        }
        (_, shape) => Err(wrong(format!("{name}: expected float32 [≥ {steps}, {vocabulary}], found {shape:?}"))),
    }
}
