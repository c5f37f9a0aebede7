//! Tensors that may be left out because another one is the same (`same_as`).

use crate::error::{Violation, ViolationKind};
use crate::plan::PlannedSource;
use crate::recipe::Row;

use super::Planner;

impl Planner<'_> {
    /// The tensor that a dropped one must equal. That it has the same shape and dtype is seen here, its bytes when the plan is carried out.
    pub(super) fn twin(
        &mut self,
        row: &Row,
        source: &PlannedSource,
        twin: &str,
    ) -> Option<(PlannedSource, PlannedSource)> {
        let found = match self.tensors.get(twin) {
            Some(info) if info.shape == source.shape && info.dtype == source.dtype => {
                return Some((source.clone(), PlannedSource::stored(twin, info)));
            }
            Some(info) => format!("{} {:?} there", info.dtype, info.shape),
            None if self.unreadable.covers(twin) => return None,
            None => "no such tensor".to_owned(),
        };
        let expected = format!("{twin} with the same {} {:?}, so that it may be left out", source.dtype, source.shape);
        self.violations.push(Violation::new(ViolationKind::WrongShape, &source.key, expected, found).by(row.label()));
        None
    }
}
