//! One example: what every tensor of an MLX conversion is made of, verified bit by bit.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use mlxport_convert::checkpoint::{Checkpoint, TensorSource};
use mlxport_convert::error::ConvertError;
use rayon::prelude::*;
use safetensors::Dtype;
use serde_json::Value;

use super::content::Content;
use super::layout::{Layout, Operation, operation};
use super::way::{Way, is_constant};
use crate::cause::cause;
use crate::config;
use crate::expect::{Expectation, Piece, Release};
use crate::judge::holding_format;
use crate::names::{self, Lookup};
use crate::target::{Format, Target, targets};
use crate::verify::Pair;

/// What one action of a recipe's row does once.
#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    /// The release's keys, in order.
    pub sources: Vec<String>,
    /// Their shapes; of a stack the one that all have.
    pub shapes: Vec<Vec<u64>>,
    /// Their dtype.
    pub dtype: Dtype,
    /// The MLX side's keys, in order.
    pub targets: Vec<String>,
    /// What is done.
    pub operation: Operation,
}

/// Something that cannot be said, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Inexpressible {
    /// Keys of the MLX side, or of the release.
    pub key: String,
    /// Why.
    pub why: String,
}

/// One pair of directories, understood.
#[derive(Debug)]
pub struct Example {
    /// The release.
    pub release: Checkpoint,
    /// The MLX side.
    pub mlx: Checkpoint,
    /// Their configs: the release's, the MLX side's.
    pub configs: (Value, Value),
    /// The MLX side's tensors; packed modules as the matrices they stand for.
    pub targets: Vec<Target>,
    /// How they are made.
    pub instances: Vec<Instance>,
    /// The release's keys that nothing is made of.
    pub left: Vec<String>,
    /// Targets whose values are all one number: their names alone say where they come from.
    pub by_name: BTreeSet<String>,
    /// What cannot be said.
    pub missing: Vec<Inexpressible>,
}

/// Reads a pair and finds how each target is made.
///
/// # Errors
/// Files that cannot be read, a broken header, no config.
pub fn understand(release: &Path, mlx: &Path, window: u64) -> Result<Example, ConvertError> {
    let (release_scan, mlx_scan) = (Checkpoint::scan(release)?, Checkpoint::scan(mlx)?);
    ConvertError::unless_empty(release_scan.violations)?;
    ConvertError::unless_empty(mlx_scan.violations)?;
    let (release, mlx) = (release_scan.checkpoint, mlx_scan.checkpoint);
    let configs = (config::read(release.root())?, config::read(mlx.root())?);
    let lookup = Lookup::new(release.tensors().keys());
    let (mut targets, _) = targets(&mlx, &configs.1, &release, &lookup);
    let pair = Pair { mlx: &mlx, release: &release, window };
    let seen = Release { checkpoint: &release, config: &configs.0, lookup: &lookup, plan: None };
    let mut ways: Vec<Option<Way>> =
        targets.par_iter_mut().map(|target| by_name(&pair, &seen, target)).collect::<Result<_, _>>()?;
    Content::new(&pair, &targets, &mut ways).search()?;
    let mut missing = Vec::new();
    for (target, way) in targets.iter().zip(&ways) {
        if way.is_none() {
            missing.push(Inexpressible { key: target.name.clone(), why: unexplained(&pair, &seen, target)? });
        }
    }
    let mut constant = BTreeSet::new();
    for (target, _) in targets.iter().zip(&ways).filter(|(_, way)| way.is_some()) {
        if is_constant(&pair, target)? {
            constant.insert(target.name.clone());
        }
    }
    let instances = instances(&release, &targets, &ways, &mut missing);
    let used: BTreeSet<&String> = ways.iter().flatten().flat_map(Way::keys).collect();
    let left = release.tensors().keys().filter(|key| !used.contains(key)).cloned().collect();
    Ok(Example { configs, targets, instances, left, by_name: constant, missing, release, mlx })
}

/// What the names say, where the values agree.
fn by_name(pair: &Pair<'_>, release: &Release<'_>, target: &mut Target) -> Result<Option<Way>, ConvertError> {
    for mut way in release.expectations(target) {
        let usual = way.shift;
        // What a port adds is tried whatever the model is: the values decide.
        let shifts: &[f32] = if is_vector(target) { &[0.0, 1.0, -1.0] } else { &[0.0] };
        for &shift in shifts.iter().chain(Some(&usual).filter(|usual| !shifts.contains(usual))) {
            way.shift = shift;
            let Some(format) = holding_format(pair, target, &way)? else { continue };
            if let Some(found) = way_of(release.checkpoint, target, &way) {
                target.format = format;
                return Ok(Some(found));
            }
        }
    }
    Ok(None)
}

fn is_vector(target: &Target) -> bool {
    target.shape.len() == 1 && matches!(target.format, Format::Plain(dtype) if mlxport_convert::dtype::is_float(dtype))
}

/// An expectation that holds, in a recipe's terms.
fn way_of(release: &Checkpoint, target: &Target, way: &Expectation) -> Option<Way> {
    let plus = way.shift as i32;
    match &way.pieces[..] {
        [Piece { raw: None, assembly, .. }] => {
            let [view] = &assembly.views[..] else { return None };
            Some(Way::One { key: view.key.clone(), layout: Layout::of(view, &target.shape)?, plus })
        }
        pieces if plus == 0 => {
            let keys: Vec<String> = pieces.iter().flat_map(|piece| piece.sources.clone()).collect();
            let whole =
                keys.iter().all(|key| release.tensors().get(key).is_some_and(|info| info.shape == target.shape[1..]));
            whole.then_some(Way::Stack { keys })
        }
        _ => None,
    }
}

/// Why a target could not be explained: what its values have to do with those that its name promises.
fn unexplained(pair: &Pair<'_>, release: &Release<'_>, target: &Target) -> Result<String, ConvertError> {
    for way in release.expectations(target) {
        let [piece] = &way.pieces[..] else { continue };
        let Some(stats) = pair.stats(target, piece, 0.0)? else { continue };
        if let Some(cause) = cause(target, &stats).filter(|cause| !cause.kind.contains("stale")) {
            let key = piece.sources.join(", ");
            return Ok(format!(
                "{}: {} (against {key}); a recipe moves values and adds whole numbers to norms, no more",
                cause.kind, cause.detail
            ));
        }
    }
    Ok("no tensor of the release has these values, whatever the axes, the order, the slice or the stack".to_owned())
}

/// All ways as actions of rows. Targets of one source are one action.
fn instances(
    release: &Checkpoint,
    targets: &[Target],
    ways: &[Option<Way>],
    missing: &mut Vec<Inexpressible>,
) -> Vec<Instance> {
    let mut users: BTreeMap<&str, Vec<(&Target, &Way)>> = BTreeMap::new();
    for (target, way) in targets.iter().zip(ways) {
        let Some(way) = way else { continue };
        for key in way.keys() {
            users.entry(key).or_default().push((target, way));
        }
    }
    let mut all = Vec::new();
    for (key, users) in &users {
        match action(release, key, users) {
            Ok(instance) => all.extend(instance),
            Err(why) => {
                let why = format!("of {key}: {why}");
                missing.extend(
                    users.iter().map(|(target, _)| Inexpressible { key: target.name.clone(), why: why.clone() }),
                );
            }
        }
    }
    missing.sort();
    missing.dedup();
    all
}

/// What is done with one source; `None` where that is said with another source of the same target.
fn action(release: &Checkpoint, key: &str, users: &[(&Target, &Way)]) -> Result<Option<Instance>, String> {
    let info = &release.tensors()[key];
    let parts: Vec<(&Layout, &[u64])> = users
        .iter()
        .filter_map(|(target, way)| match way {
            Way::One { layout, .. } => Some((layout, &target.shape[..])),
            _ => None,
        })
        .collect();
    let instance = |sources: &[String], shapes, targets, operation| {
        Ok(Some(Instance { sources: sources.to_vec(), shapes, dtype: info.dtype, targets, operation }))
    };
    let names = |order: &[usize]| order.iter().map(|&at| users[at].0.name.clone()).collect::<Vec<_>>();
    match users {
        [(_, Way::Stack { keys })] if keys[0] == key => {
            instance(keys, vec![info.shape.clone()], names(&[0]), Operation::plain("stack"))
        }
        [(_, Way::Concat { keys, axis })] if keys[0] == key => {
            let shapes = keys.iter().map(|key| release.tensors()[key].shape.clone()).collect();
            instance(keys, shapes, names(&[0]), Operation { axis: Some(*axis), ..Operation::plain("concat") })
        }
        [(_, Way::Stack { .. } | Way::Concat { .. })] => Ok(None),
        _ if parts.len() < users.len() => {
            Err("it goes into more than one target, and into one of them whole".to_owned())
        }
        _ => {
            let (operation, order) = operation(&info.shape, &parts)?;
            let added: Vec<i32> = users.iter().filter_map(|(_, way)| way.plus()).collect();
            match added[..] {
                [0, ..] if added.iter().all(|&plus| plus == 0) => {
                    instance(&[key.to_owned()], vec![info.shape.clone()], names(&order), operation)
                }
                [number] if operation.name == "copy" => {
                    let add = Operation { number, ..Operation::plain("add") };
                    instance(&[key.to_owned()], vec![info.shape.clone()], names(&order), add)
                }
                _ => Err("numbers are added to values that are moved, too".to_owned()),
            }
        }
    }
}

impl Example {
    /// Whether a module of the MLX side is packed.
    pub fn is_packed(&self) -> bool {
        self.targets.iter().any(Target::is_packed)
    }

    /// The dtype that a target's values have.
    pub fn dtype_of(&self, target: &str) -> Option<Dtype> {
        self.targets.iter().find(|known| known.name == target).map(|target| crate::verify::values_of(target.format))
    }
}

/// Whether a key's leaf or module says that it is a head.
pub fn is_head(key: &str) -> bool {
    names::is_head(key)
}
