//! Single operations of the vision systems: position tables at other sizes, relative positions, unfold, windows.

use std::path::Path;

use mlx_rs::{Array, Dtype, ops, ops::indexing::TryIndexOp};
use mlxport_fixtures::Tensor;
use mlxport_model::{
    Plain,
    backend::resample::{Bicubic, LinearMode, bicubic_table, linear_rows},
    contract::{At, Operation, Step, Steps},
    parts::projector::unfold::{Columns, Unfold},
};
use mlxport_verdict::TapRecord;

use super::{Bench, Reader, Wanted};
use crate::{error::Result, host};

/// These operations stand in no module.
const ALONE: At = At { path: "", name: "" };

/// One case: what PyTorch was given and what it returned.
struct Case {
    name: String,
    input: Tensor,
    out: Tensor,
}

/// What MLX made of a case, how many elements one sum has (0: nothing is summed), and whether nothing may differ.
type Outcome = (Array, i32, bool);

/// Judges every case of the file.
pub(super) fn judge(path: &Path, bench: &mut Bench) -> Result<Vec<TapRecord>> {
    let mut reader = Reader::open(path)?;
    let mut names: Vec<String> = Vec::new();
    for tensor in reader.file.names() {
        match tensor.rsplit_once('/') {
            Some((case, "in" | "out")) if !names.iter().any(|name| name == case) => names.push(case.to_owned()),
            Some((_, "in" | "out")) => {}
            _ => reader.violations.push(format!("{tensor}: expected OPERATION/CASE/in or …/out")),
        }
    }
    let mut cases = Vec::new();
    for name in names {
        let (input, out) = (reader.floats(&format!("{name}/in")), reader.floats(&format!("{name}/out")));
        if let (Some(input), Some(out)) = (input, out) {
            cases.push(Case { name, input, out });
        }
    }
    let mut results = Vec::new();
    for case in &cases {
        match run(case)? {
            Ok(outcome) => results.push(outcome),
            Err(violation) => reader.violations.push(format!("{}: {violation}", case.name)),
        }
    }
    reader.finish()?;
    let judged = cases.into_iter().zip(results).map(|(case, (got, depth, exact))| {
        let wanted = Wanted { name: format!("operations/{}", case.name), recorded: case.out, truth: None, exact };
        bench.judge(&wanted, &got, &[Operation::Product { depth: depth.max(1) }])
    });
    judged.collect()
}

/// The outcome, or why the case makes no sense.
fn run(case: &Case) -> Result<std::result::Result<Outcome, String>> {
    let x = host::array(&case.input, Dtype::Float32)?;
    let (operation, variant) = case.name.split_once('/').unwrap_or((&case.name, ""));
    let (input, out) = (case.input.shape.as_slice(), case.out.shape.as_slice());
    Ok(match (operation, input, out) {
        ("sam_pos_embed", &[1, n, m, _], &[1, size, other, _]) if n == m && size == other => {
            Ok((table(&x, size as i32)?, n as i32, n == size))
        }
        ("clip_pos_embed", &[1, from, _], &[1, to, _]) => match (edge(from), edge(to)) {
            (Some(n), Some(size)) => Ok((clip_table(&x, n, size)?, n, n == size)),
            _ => Err(format!("expected a class row and a square table, found {from} → {to} rows")),
        },
        ("rel_pos", &[_, _], &[queries, keys, _]) => Ok((relative(&x, queries as i32, keys as i32)?, 2, false)),
        ("window", &[_, _, _, _], &[_, size, other, _]) if size == other && size > 0 => {
            Ok((Plain.run(ALONE, Step::Cut { x: &x, size: size as i32 })?, 0, true))
        }
        ("unfold", &[_, _, _, _], &[_, _, _]) => match unfold_of(variant) {
            Some(unfold) => Ok((columns(&x, unfold)?, 0, true)),
            None => {
                Err("expected a name like k3s2p1d1_7x9: kernel, stride, and if not 0 and 1 padding and dilation".into())
            }
        },
        ("sam_pos_embed" | "clip_pos_embed" | "rel_pos" | "window" | "unfold", ..) => {
            Err(format!("{input:?} → {out:?} are no shapes of this operation"))
        }
        _ => Err("expected one of sam_pos_embed, clip_pos_embed, rel_pos, unfold, window".into()),
    })
}

/// The square table's side where there are so many rows, one of them the class's.
fn edge(rows: usize) -> Option<i32> {
    let side = (rows.checked_sub(1)? as f64).sqrt().round() as usize;
    (side > 0 && side * side + 1 == rows).then_some(side as i32)
}

/// `get_abs_pos_sam`: \[1, n, n, C\] → \[1, m, m, C\].
fn table(x: &Array, size: i32) -> Result<Array> {
    Ok(bicubic_table(x, size, Bicubic::Antialias, Dtype::Float32)?)
}

/// `get_abs_pos`: the class row stays, the others are a square table: \[1, 1 + n², C\] → \[1, 1 + m², C\].
fn clip_table(x: &Array, n: i32, size: i32) -> Result<Array> {
    let channels = x.dim(2);
    let rows = table(&x.try_index((.., 1..))?.reshape(&[1, n, n, channels])?, size)?;
    Ok(ops::concatenate(&[x.try_index((.., ..1))?, rows.reshape(&[1, size * size, channels])?], 1)?)
}

/// `get_rel_pos`: rows resized to the longer side, then looked up: \[n, C\] → \[queries, keys, C\].
fn relative(x: &Array, queries: i32, keys: i32) -> Result<Array> {
    let rows = linear_rows(x, 2 * queries.max(keys) - 1, LinearMode::HalfPixels, Dtype::Float32)?;
    let ratio = |a: i32, b: i32| (f64::from(a) / f64::from(b)).max(1.0) as f32;
    let (by_query, by_key) = (ratio(keys, queries), ratio(queries, keys));
    let place = |q: i32, k: i32| (q as f32 * by_query - k as f32 * by_key + (keys - 1) as f32 * by_key) as i32;
    let places: Vec<i32> = (0..queries).flat_map(|q| (0..keys).map(move |k| place(q, k))).collect();
    Ok(rows.take_axis(Array::from_slice(&places, &[queries, keys]), 0)?)
}

/// `F.unfold`: \[N, C, H, W\] → \[N, C·k², patches\].
fn columns(x: &Array, unfold: Unfold) -> Result<Array> {
    let patches = unfold.patches(&x.transpose_axes(&[0, 2, 3, 1])?, Columns::ChannelsFirst)?;
    Ok(ops::swap_axes(patches, 1, 2)?)
}

/// `k3s2_7x9` or `k3s2p1d2_7x9`.
fn unfold_of(variant: &str) -> Option<Unfold> {
    let mut rest = variant.split_once('_')?.0;
    let mut number = |letter: char, default: Option<i32>| {
        let Some(after) = rest.strip_prefix(letter) else { return default };
        let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        rest = &after[end..];
        after[..end].parse().ok()
    };
    let (kernel, stride) = (number('k', None)?, number('s', None)?);
    let (padding, dilation) = (number('p', Some(0))?, number('d', Some(1))?);
    rest.is_empty().then_some(Unfold { kernel, stride, padding, dilation })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unfolds_numbers_are_in_its_name() {
        let unfold = |kernel, stride, padding, dilation| Some(Unfold { kernel, stride, padding, dilation });
        assert_eq!(unfold_of("k2s1_5x4"), unfold(2, 1, 0, 1));
        assert_eq!(unfold_of("k12s3p1d2_5x4"), unfold(12, 3, 1, 2));
        for bad in ["k2_5x4", "k2s1", "k2s1x_5x4", "s1k2_5x4", "ks1_5x4", "k99999999999s1_5x4", ""] {
            assert_eq!(unfold_of(bad), None, "{bad}");
        }
    }
}
