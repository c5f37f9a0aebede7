//! Tensors that may be left out: because another one is the same (`same_as`), or because they are no weights at all.

use safetensors::Dtype;

use crate::checkpoint::TensorInfo;
use crate::error::{Violation, ViolationKind};
use crate::plan::PlannedSource;
use crate::recipe::Row;

use super::Planner;

/// Why a counter is left out.
pub const COUNTER: &str = "a whole number by itself, outside every module, which no row claims";

/// Whether a tensor is one whole number outside every module (`version`, `n_averaged`): nothing that a model computes with.
pub(super) fn is_counter(key: &str, info: &TensorInfo) -> bool {
    let is_whole = matches!(info.dtype, Dtype::I64 | Dtype::I32 | Dtype::I16 | Dtype::I8 | Dtype::U8 | Dtype::BOOL);
    is_whole && info.shape.is_empty() && !key.contains('.')
}

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
