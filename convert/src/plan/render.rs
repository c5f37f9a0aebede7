//! The plan as a table for people: one line per output tensor, in recipe order.

use std::fmt::{self, Write as _};

use super::outputs::Plan;

impl Plan {
    /// The table, ending in a newline: target, dtype, shape, operation, sources (a stack names its first and how many more), row.
    pub fn table(&self) -> String {
        let rows: Vec<[String; 6]> = self
            .tensors
            .iter()
            .map(|tensor| {
                let more = tensor.sources.len().saturating_sub(1);
                let first = tensor.sources.first().map_or("", |source| &source.key);
                [
                    tensor.name.clone(),
                    tensor.dtype.to_string(),
                    shape(&tensor.shape),
                    tensor.op.clone(),
                    if more == 0 { first.to_owned() } else { format!("{first} and {more} more") },
                    tensor.row.to_string(),
                ]
            })
            .collect();
        let heads = ["target", "dtype", "shape", "operation", "source", "row"].map(String::from);
        let mut out = String::new();
        let mut widths = [0; 6];
        for row in rows.iter().chain([&heads]) {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for row in [&heads].into_iter().chain(&rows) {
            let cells = row.iter().zip(widths);
            let line: Vec<String> = cells.map(|(cell, width)| format!("{cell:width$}")).collect();
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{}", line.join("  ").trim_end());
        }
        for dropped in &self.dropped {
            let _ = writeln!(out, "left out: {} (row {}: {})", dropped.key, dropped.row, dropped.reason);
        }
        out
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.table())
    }
}

/// `[2, 3]` as `2x3`; a scalar as `()`.
fn shape(shape: &[u64]) -> String {
    if shape.is_empty() {
        return "()".to_owned();
    }
    let sizes: Vec<String> = shape.iter().map(u64::to_string).collect();
    sizes.join("x")
}
