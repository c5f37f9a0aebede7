//! A safetensors file as a map that a test can damage and write back.

use std::{collections::BTreeMap, path::Path};

use safetensors::{Dtype, SafeTensors, serialize_to_file, tensor::TensorView};

/// One tensor: dtype, shape, bytes.
#[derive(Clone)]
pub struct Owned {
    /// Element type.
    pub dtype: Dtype,
    /// Row-major shape.
    pub shape: Vec<usize>,
    /// Row-major little-endian bytes.
    pub bytes: Vec<u8>,
}

/// All tensors of one file.
pub type Tensors = BTreeMap<String, Owned>;

/// Reads a file whole.
pub fn read(path: &Path) -> Tensors {
    let bytes = std::fs::read(path).expect("readable");
    let file = SafeTensors::deserialize(&bytes).expect("well-formed");
    let own =
        |view: &TensorView| Owned { dtype: view.dtype(), shape: view.shape().to_vec(), bytes: view.data().to_vec() };
    file.tensors().iter().map(|(name, view)| (name.clone(), own(view))).collect()
}

/// Writes a file whole.
pub fn write(path: &Path, tensors: &Tensors) {
    let view = |t: &Owned| -> TensorView<'static> {
        let bytes: &'static [u8] = Box::leak(t.bytes.clone().into_boxed_slice());
        TensorView::new(t.dtype, t.shape.clone(), bytes).expect("bytes fit the shape")
    };
    serialize_to_file(tensors.iter().map(|(name, t)| (name.clone(), view(t))), None, path).expect("written");
}

impl Owned {
    /// Makes `count` rows of the first axis of those that are there, again and again.
    pub fn repeat_rows(&mut self, count: usize) {
        let len = self.bytes.len() / self.shape[0];
        self.bytes = self.bytes.iter().copied().cycle().take(count * len).collect();
        self.shape[0] = count;
    }

    /// Multiplies a row of the first axis of float32 values.
    pub fn scale_row(&mut self, row: usize, factor: f32) {
        assert_eq!(self.dtype, Dtype::F32);
        let len = self.bytes.len() / self.shape[0];
        for value in self.bytes[row * len..(row + 1) * len].chunks_exact_mut(4) {
            let scaled = f32::from_le_bytes(value.try_into().expect("four bytes")) * factor;
            value.copy_from_slice(&scaled.to_le_bytes());
        }
    }

    /// Makes `count` rows of the first axis: those that are there, then zeros.
    pub fn zero_rows_up_to(&mut self, count: usize) {
        let len = self.bytes.len() / self.shape[0];
        self.bytes.resize(count * len, 0);
        self.shape[0] = count;
    }

    /// Swaps two rows of the first axis.
    pub fn swap_rows(&mut self, a: usize, b: usize) {
        let len = self.bytes.len() / self.shape[0];
        for i in 0..len {
            self.bytes.swap(a * len + i, b * len + i);
        }
    }

    /// Swaps the two middle axes of \[out, k, k, in\].
    pub fn swap_middle_axes(&mut self) {
        let [out, rows, cols, input] = self.shape[..] else { panic!("four axes") };
        assert_eq!(rows, cols, "a square kernel");
        let item = self.bytes.len() / (out * rows * cols * input);
        let len = input * item;
        let source = self.bytes.clone();
        for o in 0..out {
            for (r, c) in (0..rows).flat_map(|r| (0..cols).map(move |c| (r, c))) {
                let (from, to) = (((o * rows + r) * cols + c) * len, ((o * rows + c) * cols + r) * len);
                self.bytes[to..to + len].copy_from_slice(&source[from..from + len]);
            }
        }
    }
}
