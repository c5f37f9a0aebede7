//! The cumulative mode: one forward pass from the fixture's inputs, every tap judged as it appears.
//!
//! Nothing is kept: a tap is evaluated, compared and let go, so memory does not grow with the number of taps.

use std::collections::{HashMap, HashSet};

use mlx_rs::Array;
use mlxport_fixtures::{Fixture, Kind as PointKind, Point};
use mlxport_model::{
    Model, Pass,
    contract::{Kind, Listener, Steps},
};
use mlxport_verdict::{Failure, Mode, TapRecord};

use crate::{
    driver::Driver,
    error::{Error, Result},
    inputs,
    judge::Judge,
    routers::Routers,
    select::Selection,
};

/// Runs the whole model once and judges what it shows. Records come in the fixture's order.
///
/// # Errors
/// When the fixture cannot be read; a model that fails on the way is a failed record for every tap it never reached.
pub fn run<'j>(
    model: &dyn Model,
    fixture: &'j Fixture,
    selection: &Selection,
    judge: &mut Judge<'j>,
    (driver, steps): (Driver, &dyn Steps),
    mapped: impl Fn(&Point) -> bool,
) -> Result<Vec<TapRecord>> {
    let prompt = inputs::prompt(model, fixture)?;
    let wanted = fixture.points().iter().enumerate().filter(|(_, p)| selection.holds(&p.point) && mapped(p));
    let mut listener = JudgingListener::new(wanted, judge);
    let outcome = driver.forward(model, &prompt, &Pass::with_listener(&mut listener, steps)).map(drop);
    let JudgingListener { mut records, points, error, .. } = listener;
    if let Some(error) = error {
        return Err(error);
    }
    let failure = match outcome {
        Ok(()) => Failure::Missing,
        Err(error) => Failure::RunFailed { message: error.to_string() },
    };
    for (order, point) in points.into_values() {
        records.push((order, judge.failed(point, Mode::Cumulative, failure.clone())));
    }
    records.sort_by_key(|(order, _)| *order);
    Ok(records.into_iter().map(|(_, record)| record).collect())
}

/// Which tensor: module path, call, place.
type Key = (String, u32, PointKind);

/// Hears every tap of one forward pass.
struct JudgingListener<'a, 'j> {
    judge: &'a mut Judge<'j>,
    /// Points that have not come yet, with their place in the fixture's order.
    points: HashMap<Key, (usize, &'j Point)>,
    /// Modules that the fixture records, with which of their tensors; others are not asked for.
    recorded: HashMap<String, HashSet<PointKind>>,
    /// How often each tap has come.
    calls: HashMap<(String, Kind), u32>,
    routers: Routers,
    records: Vec<(usize, TapRecord)>,
    error: Option<Error>,
}

impl<'a, 'j> JudgingListener<'a, 'j> {
    fn new(wanted: impl Iterator<Item = (usize, &'j Point)>, judge: &'a mut Judge<'j>) -> Self {
        let points: HashMap<Key, _> =
            wanted.map(|(order, p)| ((p.point.clone(), p.call, p.kind), (order, p))).collect();
        let mut recorded: HashMap<String, HashSet<PointKind>> = HashMap::new();
        for (path, _, kind) in points.keys() {
            recorded.entry(path.clone()).or_default().insert(*kind);
        }
        let (calls, routers) = (HashMap::new(), Routers::new(Mode::Cumulative, judge.routing()));
        Self { judge, points, recorded, calls, routers, records: Vec::new(), error: None }
    }

    fn judge_tap(&mut self, path: &str, kind: Kind, value: &Array) -> Result<()> {
        self.routers.observe(path, kind, value);
        let place = match kind {
            Kind::Input(index) => PointKind::In(index),
            Kind::Output => PointKind::Out,
            Kind::Scores | Kind::Groups => return Ok(()),
        };
        let calls = self.calls.entry((path.to_owned(), kind)).or_default();
        let call = *calls;
        *calls += 1;
        let Some((order, point)) = self.points.remove(&(path.to_owned(), call, place)) else {
            if !self.recorded.get(path).is_some_and(|kinds| kinds.contains(&place)) {
                return Ok(()); // The recorder did not keep this tensor of any call.
            }
            // PyTorch called this module less often.
            self.records.push((usize::MAX, self.judge.extra(path, call, place, value)));
            return Ok(());
        };
        if !self.judge.measured(point, Mode::Cumulative) {
            return Ok(());
        }
        let scores = if kind == Kind::Output { self.routers.scores(path) } else { None };
        let record = self.judge.judge(point, Mode::Cumulative, value, scores)?;
        self.records.push((order, record));
        Ok(())
    }
}

impl Listener for JudgingListener<'_, '_> {
    fn tap(&mut self, path: &str, kind: Kind, value: Array) -> mlxport_model::Result<()> {
        self.judge_tap(path, kind, &value).map_err(|error| {
            let message = error.to_string();
            // A model error inside a tap is the model's; a fixture that cannot be read ends the run.
            if !matches!(error, Error::Model(_) | Error::Mlx(_) | Error::Slice(_)) {
                self.error = Some(error);
            }
            mlxport_model::Error::Listener(message.into())
        })
    }

    fn routes(&mut self, path: &str, own: &Array) -> mlxport_model::Result<Option<Array>> {
        self.routers.taken(path, own, self.judge)
    }

    fn wants(&self, path: &str) -> bool {
        self.recorded.contains_key(path)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::judge::tests::{fixture, judge, point, recorded};

    #[test]
    fn a_tap_is_judged_once_and_one_more_call_is_a_failure() {
        let (fixture, modules) = (fixture(), BTreeMap::new());
        let mut judge = judge(&fixture, &modules);
        let point = point(&fixture, true);
        let kind = match point.kind {
            PointKind::In(index) => Kind::Input(index),
            PointKind::Out => Kind::Output,
        };
        let calls = fixture.points().iter().filter(|p| (&p.point, p.kind) == (&point.point, point.kind)).count();
        let mut listener = JudgingListener::new(fixture.points().iter().enumerate(), &mut judge);
        let expected = listener.points.len() - calls;
        for _ in 0..=calls {
            listener.tap(&point.point, kind, recorded(&fixture, point)).expect("judged");
        }
        assert!(listener.records[0].1.passed());
        let last = &listener.records[calls].1;
        assert_eq!((listener.records.len(), &last.failure), (calls + 1, &Some(Failure::Extra)));
        assert_eq!(listener.points.len(), expected, "what was not heard is left, to be told as missing");
    }

    #[test]
    fn modules_and_tensors_that_were_not_recorded_are_passed_over() {
        let (fixture, modules) = (fixture(), BTreeMap::new());
        let mut judge = judge(&fixture, &modules);
        let point = point(&fixture, true);
        let mut listener = JudgingListener::new(fixture.points().iter().enumerate(), &mut judge);
        assert!(listener.wants(&point.point) && !listener.wants("model.nowhere"));
        listener.tap("model.nowhere", Kind::Output, Array::from_f32(1.0)).expect("no error");
        listener.tap(&point.point, Kind::Input(200), Array::from_f32(1.0)).expect("no error");
        assert!(listener.records.is_empty());
    }
}
