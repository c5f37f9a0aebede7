//! Strict loading: the model asks for each tensor by name and shape; what is missing, of another shape or dtype, or never
//! asked for is a violation, and all of them are reported together.

use std::{cell::RefCell, collections::BTreeSet, rc::Rc};

use mlx_rs::{Array, Dtype, ops};
use mlxport_convert::checkpoint::row_major_strides;
use safetensors::Dtype as Stored;

use super::{edits::Edit, files::Files, options::LoadOptions, packing::Packing};
use crate::{
    backend::{Matrix, Packed, Param, runtime},
    contract::Site,
    error::{Error, Result},
};

/// The tensors of a converted model, while it is being loaded.
pub struct Weights {
    state: Rc<State>,
}

/// Whose modules the parts answer to. They compute the same and are cut otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Class {
    /// Those of the release's own Python files.
    #[default]
    Release,
    /// Those of transformers' class.
    Transformers,
}

/// How modules are called.
#[derive(Debug, Clone, Copy)]
pub struct Names {
    /// Whose they are.
    pub class: Class,
    /// From a module's path in the released checkpoint to its path in that class.
    pub path: fn(&str) -> String,
}

impl Default for Names {
    fn default() -> Self {
        Self { class: Class::Release, path: str::to_owned }
    }
}

struct State {
    files: Rc<Files>,
    options: LoadOptions,
    packing: Packing,
    names: Names,
    unclaimed: RefCell<BTreeSet<String>>,
    violations: RefCell<Vec<String>>,
}

impl Weights {
    /// The tensors of `files`. Which are read, and how, is up to `options`; `packing` is how codes are to be read.
    #[must_use]
    pub fn new(files: &Rc<Files>, packing: Packing, options: LoadOptions) -> Self {
        Self::named(files, packing, options, Names::default())
    }

    /// The same, where modules are called as `names` says.
    #[must_use]
    pub fn named(files: &Rc<Files>, packing: Packing, options: LoadOptions, names: Names) -> Self {
        let unclaimed = RefCell::new(files.tensors().keys().cloned().collect());
        let (files, violations) = (Rc::clone(files), RefCell::default());
        Self { state: Rc::new(State { files, options, packing, names, unclaimed, violations }) }
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
        if violations.is_empty() {
            Ok(())
        } else {
            Err(Error::Weights { dir: self.state.files.dir().to_owned(), violations })
        }
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

    /// The tap site of the module that lives here.
    pub fn site(&self) -> Site {
        Site::renamed((self.state.names.path)(&self.path), self.path.clone())
    }

    /// Whose modules are answered to.
    pub fn class(&self) -> Class {
        self.state.names.class
    }

    /// The tensor `name` of this shape. A violation is noted and told by [`Weights::finish`]; the result then is a stand-in
    /// that is never computed with.
    pub fn param(&self, name: &str, shape: &[i32]) -> Param {
        Param::new(self.tensor(name, shape).unwrap_or_else(stand_in))
    }

    /// `weight` \[…, out, in\] of this place: floats, or, where `scales` lie beside it, packed as `config.json` says.
    pub fn matrix(&self, shape: &[i32]) -> Matrix {
        let beside = |name: &str| self.state.files.tensors().contains_key(&join(&self.key, name));
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
        match (&matrix, self.state.options.keeps_widened.then_some(self.state.options.dtype)) {
            (Matrix::Floats(weight), Some(dtype)) => weight.to(dtype).map_or(matrix, |w| Matrix::Floats(Param::new(w))),
            _ => matrix,
        }
    }

    /// Whether projections of one input are to be joined: where products are many small kernels, and all weights are read.
    pub fn joins_matrices(&self) -> bool {
        let LoadOptions { joins, only, .. } = &self.state.options;
        joins.unwrap_or_else(runtime::is_gpu) && only.is_none()
    }

    /// Joins matrices with the same input where [`Self::joins_matrices`] says so and they are alike.
    pub fn join_matrices(&self, parts: &mut [&mut Matrix]) -> Option<Matrix> {
        let joined = if self.joins_matrices() { Matrix::join_in_place(parts) } else { Ok(None) };
        joined.unwrap_or_else(|error| {
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
    pub(crate) fn thirds(&self, name: &str, shape: &[i32]) -> [Param; 3] {
        let whole = self.param(name, shape);
        let parts = if whole.stored().ndim() == 0 {
            Vec::new()
        } else {
            ops::split_equal(whole.stored(), 3, 0).unwrap_or_default()
        };
        let mut parts = parts.into_iter();
        [(); 3].map(|()| Param::new(parts.next().unwrap_or_else(stand_in)))
    }

    fn violation(&self, name: &str, text: &str) {
        self.state.violations.borrow_mut().push(format!("{}: {text}", join(&self.key, name)));
    }

    fn tensor(&self, name: &str, shape: &[i32]) -> Option<Array> {
        let key = join(&self.key, name);
        let Some(info) = self.state.files.tensors().get(&key) else {
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
        self.read_edited(&key, shape, dtype).map_err(|error| self.violation(name, &error)).ok()
    }

    /// Whether the tensors of this place are read: it belongs to a module that will be run. What stands at the top belongs to
    /// no module and is always read.
    fn is_wanted(&self) -> bool {
        let Some(only) = &self.state.options.only else { return true };
        // A stack holds the weights of modules that PyTorch has beside it.
        let (path, is_stack) = match self.path.split_once(".switch_mlp") {
            Some((layer, _)) => ((self.state.names.path)(layer), true),
            None => ((self.state.names.path)(&self.path), false),
        };
        let path = path.as_str();
        let inside =
            |outer: &str, inner: &str| inner.strip_prefix(outer).is_some_and(|r| r.is_empty() || r.starts_with('.'));
        path.is_empty() || only.iter().any(|module| inside(module, path) || (is_stack && inside(path, module)))
    }

    /// Reads one tensor as it is, or as it is to be read.
    fn read_edited(&self, key: &str, shape: &[i32], dtype: Dtype) -> std::result::Result<Array, String> {
        let files = &self.state.files;
        let edit = self.state.options.edits.weights.iter().find(|edit| edit.key == key);
        match edit.map(|edit| &edit.edit) {
            None => files.read(key, shape, dtype),
            Some(Edit::Take(other)) => {
                let found = self.state.files.tensors().get(other).map(|info| info.shape.clone());
                if found.is_none_or(|found| !found.iter().copied().eq(shape.iter().map(|&d| d as u64))) {
                    return Err(format!("an edit takes {other}, which has another shape"));
                }
                files.read(other, shape, dtype)
            }
            Some(Edit::Map(edit)) => {
                let edited = edit(&files.read(key, shape, dtype)?).map_err(|e| e.to_string())?;
                if edited.shape() == shape { Ok(edited) } else { Err("an edit changes the shape".into()) }
            }
        }
    }
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
