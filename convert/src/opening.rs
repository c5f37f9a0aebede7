//! What a source is, before any plan: a release, an MLX directory, quantized or not; and whether that goes with what was asked for.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::checkpoint::{TensorInfo, TensorSource};
use crate::dtype::is_float;
use crate::error::{Violation, ViolationKind};
use crate::manifest::{MANIFEST_FILE, Manifest};
use crate::plan::{Dropped, Plan, PlannedSource};
use crate::prequantized::{Opened, Recognized, recognize, remove_sections, stored_parts};
use crate::recipe::Recipe;
use crate::recipe::packing::Packing;
use crate::request::Request;

/// A source that may be planned for.
#[derive(Debug, Default)]
pub struct Opening {
    /// Whether its names and layouts are MLX's already, so that no recipe takes part.
    pub is_mlx: bool,
    /// Modules that MLX held packed.
    packed: Vec<String>,
    /// Keys that are left out because no float weight needs them.
    dropped: Vec<Dropped>,
    notes: Vec<String>,
}

/// Looks at a source, opens its quantized weights where that was asked for, and takes from the config what is no longer so.
///
/// # Errors
/// Everything that does not go together.
pub fn open(request: &Request, source: &mut Opened, config: &mut Value) -> Result<Opening, Vec<Violation>> {
    let root = source.checkpoint().root().to_owned();
    let written_by_mlx = root.join(MANIFEST_FILE).is_file() || source.checkpoint().is_mlx();
    match recognize(config, &root, source, request.dtype) {
        None => plain(request, config, written_by_mlx),
        Some(recognized) if recognized.is_mlx => packed(request, source, config, recognized),
        Some(recognized) => released(request, source, config, recognized),
    }
}

fn unsupported(place: &str, expected: &str, found: impl Into<String>) -> Vec<Violation> {
    vec![Violation::new(ViolationKind::Unsupported, place, expected, found)]
}

/// Float weights. A section that says otherwise is left over from what they were made of.
fn plain(request: &Request, config: &mut Value, is_mlx: bool) -> Result<Opening, Vec<Violation>> {
    for (asked, name) in [(request.dequantize, "--dequantize"), (request.keep_quantized, "--keep-quantized")] {
        if asked {
            return Err(unsupported(name, "quantized weights", "floats: nothing to dequantize or to keep"));
        }
    }
    let removed = remove_sections(config);
    let note = |path: String| format!("config {path} was dropped: it speaks of quantized weights, and none is here");
    Ok(Opening { is_mlx, notes: removed.into_iter().map(note).collect(), ..Opening::default() })
}

/// A directory that MLX tools packed.
fn packed(
    request: &Request,
    source: &mut Opened,
    config: &mut Value,
    recognized: Recognized,
) -> Result<Opening, Vec<Violation>> {
    let Recognized { name, weights, violations, .. } = recognized;
    if !violations.is_empty() {
        return Err(violations);
    }
    if request.keep_quantized {
        let found = format!("{name}: packed so already, and copied so without --keep-quantized");
        return Err(unsupported("--keep-quantized", "a release that is quantized in another way", found));
    }
    let mut opening = Opening { is_mlx: true, ..Opening::default() };
    let module = |key: &String| key.strip_suffix(".weight").unwrap_or(key).to_owned();
    opening.packed = weights.iter().map(|weight| module(&weight.key)).collect();
    if request.dequantize || request.quantize.is_some() {
        if request.quantize.is_some() {
            let note = format!("the weights were {name} and are packed again: what both packings lose adds up");
            opening.notes.push(note);
        }
        source.open(weights, std::iter::empty());
        remove_sections(config);
    }
    Ok(opening)
}

/// A release that was quantized by another tool.
fn released(
    request: &Request,
    source: &mut Opened,
    config: &mut Value,
    recognized: Recognized,
) -> Result<Opening, Vec<Violation>> {
    let Recognized { name, weights, dropped, violations, .. } = recognized;
    let readable = !weights.is_empty();
    if readable && !request.dequantize && !request.keep_quantized {
        let place = source.checkpoint().root().display().to_string();
        let expected = "--dequantize (to float weights) or --keep-quantized (the same codes in MLX's packing)";
        return Err(unsupported(&place, expected, format!("a release quantized with {name}, and neither")));
    }
    if !violations.is_empty() {
        return Err(violations);
    }
    let mut notes = vec![format!("{} weights were quantized with {name}", weights.len())];
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    dropped.iter().for_each(|(_, reason)| *reasons.entry(reason).or_default() += 1);
    notes.extend(reasons.into_iter().map(|(reason, count)| format!("{count} tensors are left out: {reason}")));
    source.open(weights, dropped.iter().map(|(key, _)| key.as_str()));
    remove_sections(config);
    let left_out = |(key, reason): (String, &str)| Dropped { key, row: 0, reason: reason.to_owned(), same_as: None };
    let dropped = dropped.into_iter().map(left_out).collect();
    Ok(Opening { dropped, notes, ..Opening::default() })
}

impl Opening {
    /// Which weights of an MLX directory may be packed: what the recipe says that made it, else the modules that were packed, else what MLX's
    /// linear layers, embeddings and expert banks are called.
    pub fn packing(&self, named: Option<&Recipe>, source: &Opened) -> Packing {
        let made_by = || {
            // A name in a manifest is anyone's text: it is looked up among the built-in ones, never as a file.
            let made = Manifest::read(source.checkpoint().root()).ok()?;
            let known = Recipe::builtin_names().into_iter().any(|name| name == made.recipe);
            known.then(|| Recipe::named(&made.recipe).ok()).flatten()
        };
        let own = named.cloned().or_else(made_by).map(|recipe| recipe.packing).filter(|rules| !rules.is_empty());
        own.unwrap_or_else(|| {
            let found = || source.tensors().iter().filter_map(packable).collect();
            Packing::of_modules(if self.packed.is_empty() { found() } else { self.packed.iter().cloned().collect() })
        })
    }

    /// Tells the plan what was opened: tensors are recorded under the keys they are stored under.
    pub fn record(self, plan: &mut Plan, source: &Opened) {
        plan.dropped.extend(self.dropped);
        plan.notes.splice(0..0, self.notes);
        for tensor in &mut plan.tensors {
            let opened = |planned: &PlannedSource| source.weight(&planned.key).is_some();
            if !tensor.sources.iter().any(opened) {
                continue;
            }
            let stored = tensor.sources.iter().flat_map(|planned| stored_parts(source, &planned.key));
            let sources = stored.map(|(key, info)| PlannedSource::stored(key, info)).collect();
            tensor.sources = sources;
            match &*tensor.op {
                "copy" => "dequantize".clone_into(&mut tensor.op),
                "repack" => {}
                op => tensor.op = format!("dequantize + {op}"),
            }
        }
    }
}

/// The module of a float weight that one of MLX's quantizable layers holds, by its name: a matrix, or a stack of experts' matrices.
/// Routers stay (some of MLX's are no layers), and so does whatever sees images or sound.
fn packable((key, info): (&String, &TensorInfo)) -> Option<String> {
    const KEPT: [&str; 12] = [
        "norm",
        "router",
        "position",
        "pos_embed",
        "patch_embed",
        "vision",
        "visual",
        "image",
        "audio",
        "conv",
        "sam_model",
        "rotary",
    ];
    let module = key.strip_suffix(".weight")?;
    let experts = module.contains("switch_mlp") || module.contains("experts");
    let layer = info.shape.len() == 2 || (info.shape.len() == 3 && experts);
    let kept = module.ends_with(".gate") || KEPT.iter().any(|part| module.contains(part));
    (layer && is_float(info.dtype) && !kept).then(|| module.to_owned())
}
