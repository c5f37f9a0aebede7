//! Large work side by side on a CPU. MLX computes a stream's operations one after the other, each element by element on one core, products
//! aside; so what falls into independent parts (heads, windows, rows, experts) is given to as many streams as there are cores.
//!
//! How work is cut does not depend on the number of cores, and no sum crosses a cut: results are the same, bit for bit, on any machine with
//! the same kernels. On a GPU nothing is cut: it is one device, and fills itself.

use std::{cell::OnceCell, thread::available_parallelism};

use mlx_rs::{Array, Device, Stream, ops, ops::indexing::TryIndexOp, with_stream};

use super::runtime;
use crate::error::Result;

/// Work on fewer elements than this is not worth the cutting.
const WORTHWHILE: usize = 1 << 22;

thread_local! {
    /// MLX's streams belong to the thread that made them.
    static STREAMS: OnceCell<Vec<Stream>> = const { OnceCell::new() };
}

/// Whether work on so many elements is to be cut.
pub fn worthwhile(numel: usize) -> bool {
    numel >= WORTHWHILE && !runtime::is_gpu()
}

/// What `part` gives for 0, 1, … `count`, each on the next stream.
pub fn apart(count: i32, mut part: impl FnMut(i32) -> Result<Array>) -> Result<Vec<Array>> {
    (0..count).map(|at| on(at, || part(at))).collect()
}

/// Runs `work` on the stream of lane `at`; any number is a lane.
pub fn on<T>(at: i32, work: impl FnOnce() -> T) -> T {
    STREAMS.with(|streams| {
        let streams = streams.get_or_init(|| {
            let cores = available_parallelism().map_or(1, usize::from);
            (0..cores).map(|_| Stream::new_with_device(&Device::cpu())).collect()
        });
        with_stream(&streams[at.unsigned_abs() as usize % streams.len()], work)
    })
}

/// `f` of each element, where `f` looks at nothing else: large arrays by rows of their last axis.
pub fn by_rows(x: &Array, f: impl Fn(&Array) -> Result<Array>) -> Result<Array> {
    /// Elements of a part, or a little more.
    const PART: i32 = 1 << 20;
    if !worthwhile(x.size()) {
        return f(x);
    }
    let rows = x.reshape(&[-1, x.dim(-1)])?;
    let (all, step) = (rows.dim(0), (PART / x.dim(-1)).max(1));
    let parts = apart((all + step - 1) / step, |at| f(&rows.try_index(at * step..((at + 1) * step).min(all))?))?;
    Ok(ops::concatenate(&parts, 0)?.reshape(x.shape())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_is_the_same_as_what_is_not() -> Result<()> {
        runtime::use_device(runtime::DeviceKind::Cpu)?;
        let (rows, width) = (4099, 1024);
        let values: Vec<f32> = (0..rows * width).map(|at| at as f32).collect();
        let x = Array::from_slice(&values, &[1, rows, width]);
        assert!(worthwhile(x.size()) && !worthwhile(4));
        let half = |x: &Array| Ok(x.multiply(Array::from_f32(0.5))?);
        let (cut, whole) = (by_rows(&x, half)?, half(&x)?);
        assert_eq!(cut.shape(), whole.shape());
        assert!(cut.try_as_slice::<f32>()? == whole.try_as_slice::<f32>()?);
        Ok(())
    }
}
