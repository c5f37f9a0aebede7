//! The points of both recordings, paired by name: module, call and place.

use std::collections::{HashMap, HashSet};

use mlxport_fixtures::{Fixture, Kind, Point};
use mlxport_verdict::TapId;

use crate::error::Result;
use crate::rename::Renames;

/// A recording with its points under the reference's names.
pub(crate) struct Side<'a> {
    pub fixture: &'a Fixture,
    pub points: Vec<Point>,
}

impl<'a> Side<'a> {
    /// A recording whose points are called as they are.
    pub fn own(fixture: &'a Fixture) -> Self {
        Self { fixture, points: fixture.points().to_vec() }
    }

    /// A recording whose points are called otherwise.
    ///
    /// # Errors
    /// A rule fits no point, or two points get one name.
    pub fn renamed(fixture: &'a Fixture, renames: &Renames) -> Result<Self> {
        let mut side = Self::own(fixture);
        let names = renames.apply(side.points.iter().map(|point| point.point.as_str()))?;
        let (mut seen, mut violations) = (HashSet::new(), Vec::new());
        for (point, name) in side.points.iter_mut().zip(names) {
            let was = point.id();
            point.point = name;
            if !seen.insert(point.id()) {
                violations.push(format!("{was} becomes {}, which another point is called, too", point.id()));
            }
        }
        if violations.is_empty() { Ok(side) } else { Err(renames.refused(violations)) }
    }
}

/// Which point of the reference is which of the candidate.
pub(crate) struct Pairs<'a> {
    by_name: HashMap<(&'a str, u32, Kind), &'a Point>,
    modules: HashSet<(&'a str, Kind)>,
    paths: HashSet<&'a str>,
}

impl<'a> Pairs<'a> {
    /// The candidate's points by name.
    pub fn of(candidate: &'a Side<'a>) -> Self {
        let points = &candidate.points;
        Self {
            by_name: points.iter().map(|point| (key(point), point)).collect(),
            modules: points.iter().map(|point| (point.point.as_str(), point.kind)).collect(),
            paths: points.iter().map(|point| point.point.as_str()).collect(),
        }
    }

    /// The candidate's point of this name, or why there is none.
    pub fn find(&self, point: &Point) -> std::result::Result<&'a Point, &'static str> {
        let path = point.point.as_str();
        match self.by_name.get(&key(point)) {
            Some(found) => Ok(found),
            None if self.modules.contains(&(path, point.kind)) => {
                Err("only in the reference: the candidate called this module less often")
            }
            None if self.paths.contains(path) => {
                Err("only in the reference: the candidate did not keep this tensor of the module")
            }
            None => Err("only in the reference: the candidate has no such module, or did not record it"),
        }
    }
}

/// The points that only the candidate has.
pub(crate) fn only_there(reference: &Side<'_>, candidate: &Side<'_>) -> Vec<TapId> {
    let known: HashSet<_> = reference.points.iter().map(key).collect();
    candidate.points.iter().filter(|point| !known.contains(&key(point))).map(tap_id).collect()
}

/// The point's name in a record.
pub(crate) fn tap_id(point: &Point) -> TapId {
    TapId { point: point.point.clone(), call: point.call, kind: point.kind.to_string() }
}

fn key(point: &Point) -> (&str, u32, Kind) {
    (&point.point, point.call, point.kind)
}
