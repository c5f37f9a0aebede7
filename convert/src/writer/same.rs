//! Tensors that may be left out because another one is the same: whether they are, element by element.

use crate::checkpoint::TensorSource;
use crate::error::{ConvertError, Violation, ViolationKind};
use crate::plan::{Plan, PlannedSource};
use crate::transforms::{Assembly, Scratch};

/// Bytes compared at a time.
const BUFFER_BYTE_LEN: usize = 1 << 20;

/// Compares every such pair of a plan, in pieces.
///
/// # Errors
/// [`ConvertError::Violations`] with every pair that differs; [`ConvertError::Io`] when one cannot be read.
pub fn check(plan: &Plan, source: &dyn TensorSource) -> Result<(), ConvertError> {
    let mut violations = Vec::new();
    for (dropped, (own, twin)) in plan.dropped.iter().filter_map(|dropped| Some((dropped, dropped.same_as.as_ref()?))) {
        if let Some(element) = first_difference(source, own, twin)? {
            let expected = format!("the same weights as {} ({})", twin.key, dropped.reason);
            let found =
                format!("others, from element {element} on (the config says that they are one; here they are not)");
            let violation = Violation::new(ViolationKind::Config, &own.key, expected, found);
            violations.push(violation.by(format!("row {}", dropped.row)));
        }
    }
    ConvertError::unless_empty(violations)
}

/// The first element (row-major) in which two tensors of one shape and dtype differ, bit by bit.
fn first_difference(
    source: &dyn TensorSource,
    left: &PlannedSource,
    right: &PlannedSource,
) -> Result<Option<u64>, ConvertError> {
    let place = |tensor: &PlannedSource| source.tensors().get(&tensor.key).map(|info| (info.file, info.byte_offset));
    if place(left) == place(right) && left.strides == right.strides {
        return Ok(None);
    }
    let element_byte_len = (left.dtype.bitsize() / 8).max(1);
    let assemblies = [Assembly::of(left.view()), Assembly::of(right.view())];
    let (count, mut at) = (assemblies[0].len(), 0);
    let mut scratch = Scratch::with_block_byte_len(BUFFER_BYTE_LEN);
    let mut buffers = [vec![0; BUFFER_BYTE_LEN], vec![0; BUFFER_BYTE_LEN]];
    while at < count {
        let len = ((count - at) as usize).min(BUFFER_BYTE_LEN / element_byte_len) * element_byte_len;
        for (assembly, buffer) in assemblies.iter().zip(&mut buffers) {
            assembly.read(source, left.dtype, at, &mut buffer[..len], &mut scratch)?;
        }
        let [one, other] = &buffers;
        if let Some(byte) = one[..len].iter().zip(&other[..len]).position(|(one, other)| one != other) {
            return Ok(Some(at + (byte / element_byte_len) as u64));
        }
        at += (len / element_byte_len) as u64;
    }
    Ok(None)
}
