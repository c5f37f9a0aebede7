//! Strict loading: the model asks for each tensor by name and shape; what is missing, of another shape or dtype, or never
//! asked for is a violation, and all of them are reported together.
//!
//! Headers are read and checked here, by `convert`'s reader; the numbers by MLX itself, and only when they are first computed with: a pass holds
//! the vision towers' weights before it holds the decoder's, and a module that is not run costs nothing.

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
    rc::Rc,
};

use mlx_rs::{Array, Dtype, ops};
use mlxport_convert::{
    checkpoint::{Checkpoint, TensorSource, row_major_strides},
    error::ConvertError,
};
use safetensors::Dtype as Stored;

use crate::{
    backend::{Matrix, Packed, Param, runtime},
    contract::Site,
    error::{Error, Result},
    fault::{Edit, Fault, Planted, Variant},
    loading::{LoadOptions, Packing},
};

/// The tensors of a converted model, while it is being loaded.
pub struct Weights {
    state: Rc<State>,
}

struct State {
    dir: PathBuf,
    checkpoint: Checkpoint,
    fault: Option<Fault>,
    packing: Packing,
    /// Modules whose weights are read; none: all.
    only: Option<Vec<String>>,
    /// What the weights of projections become, if they are to be something else than stored.
    widened: Option<Dtype>,
    planted: Planted,
    /// From the release's module paths, which the parts are written with, to those of the class that is answered to.
    names: fn(&str) -> String,
    /// Tensors that are not read yet, by key.
    lazy: HashMap<String, Array>,
    unclaimed: RefCell<BTreeSet<String>>,
    violations: RefCell<Vec<String>>,
}

impl Weights {
    /// Reads the headers of a model's safetensors files. Which tensors are read, and how, is up to `options`; `packing` is how codes are
    /// to be read.
    ///
    /// # Errors
    /// When a file is missing, truncated or malformed, or index and headers disagree.
    pub fn open(dir: &Path, packing: Packing, options: LoadOptions) -> Result<Self> {
        Self::open_named(dir, packing, options, str::to_owned)
    }

    /// The same for a class whose modules have other paths than the release's: `names` makes the one of the other.
    ///
    /// # Errors
    /// As [`Weights::open`].
    pub fn open_named(dir: &Path, packing: Packing, options: LoadOptions, names: fn(&str) -> String) -> Result<Self> {
        let scan = Checkpoint::scan(dir)?;
        ConvertError::unless_empty(scan.violations)?;
        let checkpoint = scan.checkpoint;
        let unclaimed = RefCell::new(checkpoint.tensors().keys().cloned().collect());
        let violations = RefCell::new(Vec::new());
        let LoadOptions { fault, variant, only, dtype, keeps_widened } = options;
        let planted = Planted::new(fault.as_ref(), variant);
        let lazy = lazy(dir, &checkpoint);
        Ok(Self {
            state: Rc::new(State {
                dir: dir.to_owned(),
                checkpoint,
                fault,
                packing,
                only,
                widened: keeps_widened.then_some(dtype),
                planted,
                names,
                lazy,
                unclaimed,
                violations,
            }),
        })
    }

    /// Where tensors are asked for.
    pub fn root(&self) -> Scope {
        Scope { state: Rc::clone(&self.state), key: String::new(), path: String::new() }
    }

    /// Ends loading.
    ///
    /// # Errors
    /// With every violation, if there was one.
    pub fn finish(self) -> Result<()> {
        let mut violations = self.state.violations.take();
        let unknown = self.state.unclaimed.take();
        violations.extend(unknown.into_iter().map(|key| format!("{key}: unknown: the model has no such tensor")));
        if violations.is_empty() { Ok(()) } else { Err(Error::Weights { dir: self.state.dir.clone(), violations }) }
    }
}

/// A place in the model: the prefix of its weights' keys and its path in PyTorch.
pub struct Scope {
    state: Rc<State>,
    key: String,
    path: String,
}

impl Scope {
    /// A place below, under the same name in the files and in PyTorch.
    #[must_use]
    pub fn child(&self, name: impl AsRef<str>) -> Self {
        self.enter(name.as_ref(), name.as_ref())
    }

    /// A place below, under different names in the files and in PyTorch.
    #[must_use]
    pub fn enter(&self, key: &str, path: &str) -> Self {
        Self { state: Rc::clone(&self.state), key: join(&self.key, key), path: join(&self.path, path) }
    }

    /// A place beside this one in the files.
    #[must_use]
    pub fn sibling(&self, name: &str) -> Self {
        let parent = self.key.rsplit_once('.').map_or("", |(parent, _)| parent);
        Self { state: Rc::clone(&self.state), key: join(parent, name), path: self.path.clone() }
    }

    /// What is planted in the computation.
    pub fn planted(&self) -> Planted {
        self.state.planted
    }

    /// The tap site of the module that lives here.
    pub fn site(&self) -> Site {
        Site::new((self.state.names)(&self.path))
    }

    /// The tensor `name` of this shape. A violation is noted and told by [`Weights::finish`]; the result then is a stand-in
    /// that is never computed with.
    pub fn param(&self, name: &str, shape: &[i32]) -> Param {
        Param::new(self.tensor(name, shape).unwrap_or_else(stand_in))
    }

    /// `weight` \[…, out, in\] of this place: floats, or, where `scales` lie beside it, packed as `config.json` says.
    pub fn matrix(&self, shape: &[i32]) -> Matrix {
        let beside = |name: &str| self.state.checkpoint.tensors().contains_key(&join(&self.key, name));
        if !beside("scales") {
            return Matrix::Floats(self.param("weight", shape));
        }
        let (&[.., depth], rows) = (shape, &shape[..shape.len().saturating_sub(1)]) else {
            return Matrix::Floats(self.param("weight", shape));
        };
        let (group_size, bits) = match self.state.packing.of(&self.key) {
            Ok((group_size, bits)) if depth % group_size == 0 && (depth * bits) % 32 == 0 => (group_size, bits),
            Ok((group_size, bits)) => {
                self.violation(
                    "weight",
                    &format!("rows of {depth} do not fit groups of {group_size} with {bits} bits"),
                );
                return Matrix::Floats(Param::new(stand_in()));
            }
            Err(text) => {
                self.violation("weight", &text);
                return Matrix::Floats(Param::new(stand_in()));
            }
        };
        let part = |name: &str, columns: i32| self.tensor(name, &[rows, &[columns]].concat()).unwrap_or_else(stand_in);
        let codes = part("weight", depth * bits / 32);
        let (scales, biases) = (part("scales", depth / group_size), part("biases", depth / group_size));
        Matrix::Packed(Packed { codes, scales, biases, group_size, bits })
    }

    /// As [`Self::matrix`], for what all tokens meet: widened once for all where the options ask for it, when it is first used.
    pub fn projection(&self, shape: &[i32]) -> Matrix {
        let matrix = self.matrix(shape);
        match (&matrix, self.state.widened) {
            (Matrix::Floats(weight), Some(dtype)) => weight.to(dtype).map_or(matrix, |w| Matrix::Floats(Param::new(w))),
            _ => matrix,
        }
    }

    /// Whether projections of one input are to be joined: where products are many small kernels, and all weights are read.
    pub fn fuses(&self) -> bool {
        let asked = self.planted().by(Variant::Fused) || (runtime::is_gpu() && self.planted().variant().is_none());
        asked && self.state.only.is_none()
    }

    /// Joins matrices with the same input where [`Self::fuses`] says so and they are alike.
    pub fn fuse(&self, parts: &mut [&mut Matrix]) -> Option<Matrix> {
        let fused = if self.fuses() { Matrix::fuse(parts) } else { Ok(None) };
        fused.unwrap_or_else(|error| {
            self.violation("(joined)", &error.to_string());
            None
        })
    }

    /// The matrices of a stack.
    pub fn split(&self, stack: &Matrix, count: i32) -> Vec<Matrix> {
        stack.split(count).unwrap_or_else(|_| (0..count).map(|_| Matrix::Floats(Param::new(stand_in()))).collect())
    }

    /// Tensors joined along their first axis.
    pub fn join(&self, parts: &[Array]) -> Param {
        if parts.iter().any(|p| p.ndim() == 0) {
            return Param::new(stand_in());
        }
        Param::new(ops::concatenate(parts, 0).unwrap_or_else(|error| {
            self.violation("(joined)", &error.to_string());
            stand_in()
        }))
    }

    /// A tensor cut in three along its first axis; views of it.
    pub(crate) fn thirds(&self, name: &str, shape: &[i32]) -> Vec<Param> {
        let whole = self.param(name, shape);
        if whole.stored().ndim() == 0 {
            return Vec::new();
        }
        let parts = ops::split_equal(whole.stored(), 3, 0);
        parts.map(|parts| parts.into_iter().map(Param::new).collect()).unwrap_or_default()
    }

    /// What stands for a tensor that is not there; it is never computed with.
    pub(crate) fn nothing(&self) -> Param {
        Param::new(stand_in())
    }

    fn violation(&self, name: &str, text: &str) {
        self.state.violations.borrow_mut().push(format!("{}: {text}", join(&self.key, name)));
    }

    fn tensor(&self, name: &str, shape: &[i32]) -> Option<Array> {
        let key = join(&self.key, name);
        let Some(info) = self.state.checkpoint.tensors().get(&key) else {
            self.violation(name, &format!("missing: expected shape {shape:?}"));
            return None;
        };
        self.state.unclaimed.borrow_mut().remove(&key);
        if !info.shape.iter().copied().eq(shape.iter().map(|&d| d.max(0) as u64)) {
            self.violation(name, &format!("shape {:?}: expected {shape:?}", info.shape));
            return None;
        }
        if info.strides != row_major_strides(&info.shape) {
            self.violation(name, "not stored row-major, as only PyTorch's own files can be: convert them first");
            return None;
        }
        let dtype = match info.dtype {
            Stored::F32 => Dtype::Float32,
            Stored::F16 => Dtype::Float16,
            Stored::BF16 => Dtype::Bfloat16,
            Stored::U32 if self.state.packing.is_there() && name == "weight" => Dtype::Uint32,
            other => {
                self.violation(name, &format!("dtype {other:?}: expected F32, F16 or BF16"));
                return None;
            }
        };
        if !self.is_wanted() {
            return unread(shape, dtype).map_err(|error| self.violation(name, &error.to_string())).ok();
        }
        self.read_as_planted(&key, shape, dtype).map_err(|error| self.violation(name, &error)).ok()
    }

    /// Whether the tensors of this place are read: it belongs to a module that will be run. What stands at the top belongs to
    /// no module and is always read.
    fn is_wanted(&self) -> bool {
        let Some(only) = &self.state.only else { return true };
        // A stack holds the weights of modules that PyTorch has beside it.
        let (path, is_stack) = match self.path.split_once(".switch_mlp") {
            Some((layer, _)) => ((self.state.names)(layer), true),
            None => ((self.state.names)(&self.path), false),
        };
        let path = path.as_str();
        let inside =
            |outer: &str, inner: &str| inner.strip_prefix(outer).is_some_and(|r| r.is_empty() || r.starts_with('.'));
        path.is_empty() || only.iter().any(|module| inside(module, path) || (is_stack && inside(path, module)))
    }

    /// Reads one tensor as it is, or as a planted fault has it.
    fn read_as_planted(&self, key: &str, shape: &[i32], dtype: Dtype) -> std::result::Result<Array, String> {
        let Some(Fault::Weights(faults)) = &self.state.fault else { return self.read(key, shape, dtype) };
        match faults.iter().find(|fault| fault.key == key).map(|fault| &fault.edit) {
            None => self.read(key, shape, dtype),
            Some(Edit::Take(other)) => {
                let found = self.state.checkpoint.tensors().get(other).map(|info| info.shape.clone());
                if found.is_none_or(|found| !found.iter().copied().eq(shape.iter().map(|&d| d as u64))) {
                    return Err(format!("the planted fault takes {other}, which has another shape"));
                }
                self.read(other, shape, dtype)
            }
            Some(Edit::Map(edit)) => {
                let edited = edit(&self.read(key, shape, dtype)?).map_err(|e| e.to_string())?;
                if edited.shape() == shape { Ok(edited) } else { Err("the planted fault changes the shape".into()) }
            }
        }
    }

    /// One tensor, left to MLX to read where it can; else its bytes pass through one buffer of the tensor's own size.
    fn read(&self, key: &str, shape: &[i32], dtype: Dtype) -> std::result::Result<Array, String> {
        if let Some(found) = self.state.lazy.get(key).filter(|a| a.shape() == shape && a.dtype() == dtype) {
            return Ok(found.clone());
        }
        let mut bytes = vec![0; byte_len(shape, dtype)];
        self.state.checkpoint.read_at(key, 0, &mut bytes).map_err(|e| e.to_string())?;
        Ok(array_from_bytes(&bytes, shape, dtype))
    }
}

/// What MLX can read by itself: the tensors of safetensors files under names it takes.
fn lazy(dir: &Path, checkpoint: &Checkpoint) -> HashMap<String, Array> {
    let files = checkpoint.files().iter().map(|file| dir.join(&file.name));
    let read = files.filter(|path| path.is_file()).filter_map(|path| Array::load_safetensors(path).ok());
    read.flatten().collect()
}

/// Bytes of a tensor of floats or codes. The reader has checked that the file holds as many, so the product cannot overflow.
fn byte_len(shape: &[i32], dtype: Dtype) -> usize {
    let item = if matches!(dtype, Dtype::Float32 | Dtype::Uint32) { 4 } else { 2 };
    shape.iter().map(|&d| d as usize).product::<usize>() * item
}

/// Copies little-endian bytes into an MLX array. The caller has checked that they are as many as shape and dtype demand.
#[allow(unsafe_code, reason = "mlx-rs has no safe constructor for 16-bit floats from bytes")]
fn array_from_bytes(bytes: &[u8], shape: &[i32], dtype: Dtype) -> Array {
    assert_eq!(bytes.len(), byte_len(shape, dtype), "the buffer was made for this shape and dtype");
    // SAFETY: `bytes` holds exactly the bytes that shape and dtype describe (asserted above), and MLX copies them.
    unsafe { Array::from_raw_data(bytes.as_ptr().cast(), shape, dtype) }
}

/// A tensor of this shape that is not there: NaN wherever it is looked at, and no memory until then.
fn unread(shape: &[i32], dtype: Dtype) -> Result<Array> {
    Ok(ops::broadcast_to(stand_in().as_dtype(dtype)?, shape)?)
}

fn stand_in() -> Array {
    Array::from_f32(f32::NAN)
}

fn join(prefix: &str, name: &str) -> String {
    match (prefix, name) {
        ("", name) => name.to_owned(),
        (prefix, "") => prefix.to_owned(),
        (prefix, name) => format!("{prefix}.{name}"),
    }
}
