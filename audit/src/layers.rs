//! Which layers attend to a window alone. Releases list every layer's kind (`layer_types`); some ports only count: one in so many layers
//! (`sliding_window_pattern`) attends to everything.

use serde_json::Value;

use crate::defaults::Types;
use crate::fields::Fields;
use crate::report::{Finding, Severity};

/// Whether every `pattern`-th layer of the list, and no other, attends to everything.
fn counts(layer_types: &Value, pattern: &Value) -> bool {
    let (Some(kinds), Some(pattern)) = (layer_types.as_array(), pattern.as_u64().filter(|&pattern| pattern > 0)) else {
        return false;
    };
    kinds.iter().zip(1..).all(|(kind, number)| (kind == "full_attention") == (u64::is_multiple_of(number, pattern)))
}

/// The path of the port's count beside a list; `None` of any other field.
fn beside(path: &str) -> Option<String> {
    path.strip_suffix("layer_types").map(|part| format!("{part}sliding_window_pattern"))
}

/// Whether a list that is gone is said by the count that stands in its place.
pub fn is_counted(path: &str, list: &Value, mlx: &Fields) -> bool {
    beside(path).and_then(|path| mlx.get(&path)).is_some_and(|pattern| counts(list, pattern))
}

/// Lists that are there, and that a port which counts does not read: its default is another.
pub fn unread(mlx: &Fields, types: &Types<'_>) -> Vec<Finding> {
    let of = |(path, list): (&String, &Value)| {
        let count = beside(path).filter(|count| !mlx.contains_key(count) && types.port(path).is_none())?;
        let taken = types.port(&count).filter(|taken| !counts(list, taken))?;
        let detail =
            format!("{path} is not read by the port, which takes one in {taken} layers to attend to everything");
        Some(Finding::new("config", Severity::Fault, detail).at([path.clone()]))
    };
    mlx.iter().filter_map(of).collect()
}
