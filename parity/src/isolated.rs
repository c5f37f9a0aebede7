//! The isolated mode: every module run on the inputs that PyTorch's was given, so that only its own error shows.

use std::collections::{BTreeMap, HashMap, HashSet};

use mlx_rs::Array;
use mlxport_fixtures::{Fixture, Kind as PointKind, Point};
use mlxport_model::{
    Model, Pass,
    contract::{Kind, Listener, Module, Steps, merge},
};
use mlxport_verdict::{Failure, Mode, NotCompared, Shard, TapRecord};

use crate::{
    error::Result,
    floors::NOT_MEASURED,
    host, inputs,
    judge::Judge,
    routers::Routers,
    select::Selection,
    steps::{Edited, StepEdit, undone},
};

/// Who computes, and what is changed of it.
pub type How<'a> = (&'a dyn Steps, &'a [StepEdit]);

/// Modules by path and call.
pub type Share<'a> = HashSet<(&'a str, u32)>;

/// The modules of one share: a run of modules in execution order, so that few weights are needed.
pub fn share(fixture: &Fixture, shard: Shard) -> Share<'_> {
    let outputs: Vec<_> = fixture.points().iter().filter(|p| p.kind == PointKind::Out).collect();
    outputs[shard.range(outputs.len())].iter().map(|p| (p.point.as_str(), p.call)).collect()
}

/// The outcome: records and the outputs that could not be had.
pub type Outcome = (Vec<TapRecord>, Vec<NotCompared>);

/// Runs every module that the fixture has inputs and output of. Records come in the fixture's order.
///
/// # Errors
/// When the fixture cannot be read; a module that cannot be run is a failed record.
pub fn run(
    model: &dyn Model,
    modules: &BTreeMap<&str, &dyn Module>,
    fixture: &Fixture,
    (selection, share): (&Selection, Option<&Share<'_>>),
    judge: &mut Judge,
    how: How,
) -> Result<Outcome> {
    let mut inputs: HashMap<(&str, u32), Vec<(u8, &Point)>> = HashMap::new();
    for point in fixture.points() {
        if let PointKind::In(index) = point.kind {
            inputs.entry((&point.point, point.call)).or_default().push((index, point));
        }
    }
    let (mut records, mut not_compared) = (Vec::new(), Vec::new());
    for point in fixture.points().iter().filter(|p| selection.holds(&p.point)) {
        let here = share.is_none_or(|share| share.contains(&(point.point.as_str(), point.call)));
        if here && is_decoder_input(model, point) {
            records.extend(placed(model, fixture, point, judge, how)?);
        }
        if point.kind != PointKind::Out {
            continue;
        }
        let Some(module) = modules.get(point.point.as_str()) else {
            not_compared.push(skipped(point, "no module that can be run on its own: compared cumulatively"));
            continue;
        };
        match inputs.get_mut(&(point.point.as_str(), point.call)) {
            Some(_) if !here => not_compared.push(skipped(point, "in another shard")),
            Some(_) if !judge.measured(point, Mode::Isolated) => not_compared.push(skipped(point, NOT_MEASURED)),
            Some(given) => {
                given.sort_by_key(|(index, _)| *index);
                records.push(module_record(*module, fixture, given, (model.facts().dtype, how), point, judge)?);
            }
            None => not_compared.push(skipped(point, "no recorded input")),
        }
    }
    Ok((records, not_compared))
}

fn skipped(point: &Point, reason: &str) -> NotCompared {
    NotCompared {
        point: point.point.clone(),
        call: point.call,
        kind: point.kind.to_string(),
        mode: Some(Mode::Isolated),
        reason: reason.to_owned(),
    }
}

fn module_record(
    module: &dyn Module,
    fixture: &Fixture,
    given: &[(u8, &Point)],
    (dtype, how): (mlx_rs::Dtype, How),
    point: &Point,
    judge: &mut Judge,
) -> Result<TapRecord> {
    let given = given.iter().map(|(_, p)| host::array(&fixture.recorded(p)?, dtype)).collect::<Result<Vec<_>>>()?;
    let mut listener =
        JudgingListener { path: &point.point, routers: Routers::new(Mode::Isolated, judge.routing()), judge };
    let outcome = module.call(&given, &Pass::with_listener(&mut listener, &Edited::new(how.0, how.1)));
    let routers = listener.routers;
    match outcome {
        Ok(output) => {
            let mut record = judge.judge(point, Mode::Isolated, &output, routers.scores(&point.point))?;
            if judge.has_looked_into_it() {
                judge.hint(&mut record, point, undone(module, &given, how)?)?;
            }
            Ok(record)
        }
        Err(error) => Ok(judge.failed(point, Mode::Isolated, Failure::RunFailed { message: error.to_string() })),
    }
}

/// Hears the routers in one module, which take the recorded choices where they are to take those.
struct JudgingListener<'a, 'j> {
    path: &'a str,
    routers: Routers,
    judge: &'a mut Judge<'j>,
}

impl Listener for JudgingListener<'_, '_> {
    fn tap(&mut self, path: &str, kind: Kind, value: Array) -> mlxport_model::Result<()> {
        self.routers.observe(path, kind, &value);
        Ok(())
    }

    fn routes(&mut self, path: &str, own: &Array) -> mlxport_model::Result<Option<Array>> {
        self.routers.taken(path, own, self.judge)
    }

    fn wants(&self, path: &str) -> bool {
        path == self.path || self.routers.knows(path)
    }
}

/// The point where the image's features, laid out in rows, stand among the token embeddings. PyTorch has no module for that
/// step, so the first thing that sees its result stands for it.
fn is_decoder_input(model: &dyn Model, point: &Point) -> bool {
    point.point == model.facts().junction.point && point.kind == PointKind::In(0)
}

/// Lays out the recorded projector outputs and embeddings and judges the decoder's input by itself.
fn placed(
    model: &dyn Model,
    fixture: &Fixture,
    point: &Point,
    judge: &mut Judge,
    how: How,
) -> Result<Option<TapRecord>> {
    let prompt = inputs::prompt(model, fixture)?;
    let Some(image) = &prompt.image else { return Ok(None) };
    let junction = model.facts().junction;
    let output = |path: &str, call: u32| -> Result<Option<Array>> {
        fixture
            .point(path, call, PointKind::Out)
            .map(|p| host::array(&fixture.recorded(p)?, model.facts().dtype))
            .transpose()
    };
    let has_tiles = image.tiles.is_some();
    let tiles = if has_tiles { output(junction.features, u32::from(junction.whole_first))? } else { None };
    let global = output(junction.features, u32::from(has_tiles && !junction.whole_first))?;
    let (Some(embeddings), Some(global)) = (output(junction.embeddings, 0)?, global) else { return Ok(None) };
    let rows = model.rows(tiles.as_ref(), image.grid, &global, &Pass::by(&Edited::new(how.0, how.1)));
    let record = match rows.and_then(|rows| merge(&embeddings, &rows, &prompt.images_seq_mask)) {
        Ok(rows) => judge.judge(point, Mode::Isolated, &rows, None)?,
        Err(error) => judge.failed(point, Mode::Isolated, Failure::RunFailed { message: error.to_string() }),
    };
    Ok(Some(record))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::tests::{fixture, judge, point};

    #[test]
    fn every_output_is_in_exactly_one_share() {
        let fixture = fixture();
        let outputs = fixture.points().iter().filter(|point| point.kind == PointKind::Out).count();
        for count in [1, 3, 7] {
            let shards = (1..=count).map(|at| format!("{at}/{count}").parse::<Shard>().expect("a shard"));
            let shares: Vec<_> = shards.map(|shard| share(&fixture, shard)).collect();
            let union: Share = shares.iter().flatten().copied().collect();
            assert_eq!((union.len(), shares.iter().map(HashSet::len).sum::<usize>()), (outputs, outputs));
        }
    }

    #[test]
    fn a_module_alone_is_heard_for_itself_and_for_its_routers() {
        let (fixture, modules) = (fixture(), BTreeMap::new());
        let mut judge = judge(&fixture, &modules);
        let router = fixture.points().iter().find(|point| point.sets).expect("a router").point.clone();
        let path = &point(&fixture, true).point;
        let routers = Routers::new(Mode::Isolated, judge.routing());
        let listener = JudgingListener { path, routers, judge: &mut judge };
        assert!(listener.wants(path) && listener.wants(&router) && !listener.wants("model.nowhere"));
    }

    #[test]
    fn what_is_not_compared_says_where_and_why() {
        let fixture = fixture();
        let point = point(&fixture, true);
        let told = skipped(point, "in another shard");
        assert_eq!(
            (told.point.as_str(), told.mode, told.reason.as_str()),
            (point.point.as_str(), Some(Mode::Isolated), "in another shard")
        );
    }
}
