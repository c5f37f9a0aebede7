//! Whether both recordings were fed the same: every input by name, shape and value.

use std::collections::BTreeSet;

use mlxport_fixtures::{Data, Fixture, Tensor};

use crate::error::{Error, Result};

/// Refuses a candidate that was fed something else.
///
/// # Errors
/// [`Error::OtherInputs`] with every difference; an input that cannot be read, or holds a NaN.
pub(crate) fn require_same(reference: &Fixture, candidate: &Fixture) -> Result<()> {
    let names = |fixture: &Fixture| fixture.input_names().map(str::to_owned).collect::<BTreeSet<_>>();
    let (ours, theirs) = (names(reference), names(candidate));
    let mut violations = Vec::new();
    for name in ours.union(&theirs) {
        match (ours.contains(name), theirs.contains(name)) {
            (true, true) => violations.extend(difference(name, &reference.input(name)?, &candidate.input(name)?)),
            (true, false) => violations.push(format!("{name}: only the reference has it")),
            _ => violations.push(format!("{name}: only the candidate has it")),
        }
    }
    if violations.is_empty() {
        return Ok(());
    }
    let name = |fixture: &Fixture| fixture.name().to_owned();
    Err(Error::OtherInputs { reference: name(reference), candidate: name(candidate), violations })
}

/// How an input differs, if it does. bfloat16 pixels equal the float32 ones of the same value.
fn difference(name: &str, ours: &Tensor, theirs: &Tensor) -> Option<String> {
    if ours.shape != theirs.shape {
        return Some(format!("{name}: shape {:?}, expected {:?}", theirs.shape, ours.shape));
    }
    let (count, first) = match (&ours.data, &theirs.data) {
        (Data::F32(a), Data::F32(b)) => unequal(a, b),
        (Data::F64(a), Data::F64(b)) => unequal(a, b),
        (Data::I64(a), Data::I64(b)) => unequal(a, b),
        (Data::Bool(a), Data::Bool(b)) => unequal(a, b),
        (a, b) => return Some(format!("{name}: dtype {}, expected {}", b.dtype(), a.dtype())),
    }?;
    Some(format!("{name}: {count} of {} values differ, the first at row-major index {first}", ours.data.len()))
}

/// How many values differ, and the first one's index.
fn unequal<T: PartialEq>(ours: &[T], theirs: &[T]) -> Option<(usize, usize)> {
    let mut differing = ours.iter().zip(theirs).enumerate().filter(|(_, (a, b))| a != b).map(|(index, _)| index);
    let first = differing.next()?;
    Some((1 + differing.count(), first))
}
