//! Asynchronous evaluations that nobody has awaited yet.
//!
//! The process must not end while MLX's thread computes. On the way out OpenBLAS frees its buffers and ends its threads; a product that still
//! runs then crashes, or waits forever. So every asynchronous evaluation is awaited, at the latest when its result is dropped.

use mlx_rs::{
    Array,
    error::Exception,
    transforms::{async_eval, eval},
};

/// The latest work begun; dropping it waits.
#[derive(Debug, Default)]
pub(super) struct InFlight(Vec<Array>);

impl InFlight {
    /// Begins what `arrays` need, after what was begun before, which is no longer held: the device takes its work in turn.
    ///
    /// # Errors
    /// MLX's.
    pub(super) fn begin<const N: usize>(&mut self, arrays: [&Array; N]) -> Result<(), Exception> {
        async_eval(arrays)?;
        self.0 = arrays.map(Clone::clone).to_vec();
        Ok(())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        // Whoever reads the result hears of its error; here nobody is left to.
        let _ = eval(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(unsafe_code, reason = "mlx-rs does not wrap it")]
    fn is_available(array: &Array) -> bool {
        let mut is_available = false;
        // SAFETY: the handle lives as long as `array`, the flag until it is read.
        let status = unsafe { mlx_sys::_mlx_array_is_available(&mut is_available, array.as_ptr()) };
        assert_eq!(status, 0);
        is_available
    }

    #[test]
    fn what_is_begun_is_there_when_it_is_let_go() -> Result<(), Exception> {
        let x = mlx_rs::ops::ones::<f32>(&[512, 512])?;
        let long = (0..100).try_fold(x.clone(), |y, _| y.matmul(&x))?;
        let mut in_flight = InFlight::default();
        in_flight.begin([&long])?;
        assert!(!is_available(&long), "begin does not wait");
        drop(in_flight);
        assert!(is_available(&long));
        Ok(())
    }
}
