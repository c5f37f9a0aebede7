//! What can go wrong, and how it is told.
//!
//! A [`Violation`] is one thing that is wrong with the input; checks collect as many as they can before anyone stops, so that one
//! run tells a person everything. A [`ConvertError`] ends a command: either the collected violations, or a failure of the system
//! (a file that cannot be read, a full disk) that names the file and the action.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use serde::Serialize;

/// The families of things that can be wrong with an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ViolationKind {
    /// A file that should be there is not, or is not a regular file.
    MissingFile,
    /// A file name that leaves the checkpoint's directory (`/`, `..`, absolute) or is otherwise unusable.
    BadPath,
    /// A safetensors header, or a PyTorch file's archive or tensor, that breaks the format's rules.
    BadHeader,
    /// A file that ends before its header says it does, or carries more bytes than that.
    TruncatedFile,
    /// The index and the shards' headers tell different stories.
    IndexMismatch,
    /// One key in two places.
    DuplicateKey,
    /// The config is unreadable, incomplete or contradicts itself.
    Config,
    /// The input is well-formed but asks for something this recipe does not do.
    Unsupported,
    /// A key the recipe needs that no file has.
    MissingKey,
    /// A key no row of the recipe claims.
    ExtraKey,
    /// A tensor whose shape is not what the config demands.
    WrongShape,
    /// A tensor whose dtype the row does not accept.
    WrongDtype,
    /// The recipe itself is wrong: unparsable, or two rows claim one key or make one target.
    Recipe,
    /// A converted directory that is not what its manifest says.
    Verify,
}

impl fmt::Display for ViolationKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::MissingFile => "missing file",
            Self::BadPath => "bad path",
            Self::BadHeader => "bad header",
            Self::TruncatedFile => "truncated file",
            Self::IndexMismatch => "index mismatch",
            Self::DuplicateKey => "duplicate key",
            Self::Config => "config",
            Self::Unsupported => "unsupported",
            Self::MissingKey => "missing key",
            Self::ExtraKey => "extra key",
            Self::WrongShape => "wrong shape",
            Self::WrongDtype => "wrong dtype",
            Self::Recipe => "recipe",
            Self::Verify => "differs from manifest",
        })
    }
}

/// One thing that is wrong: where, what was expected, what was found, and which rule says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// What family it belongs to.
    pub kind: ViolationKind,
    /// The file, tensor key or config path that is wrong.
    pub place: String,
    /// What should have been there.
    pub expected: String,
    /// What is there.
    pub found: String,
    /// The rule that demands it (a row of the recipe), where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
}

impl Violation {
    /// A violation without a rule.
    pub fn new(
        kind: ViolationKind,
        place: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self { kind, place: place.into(), expected: expected.into(), found: found.into(), rule: None }
    }

    /// The same, with the rule that demands it.
    #[must_use]
    pub fn by(mut self, rule: impl Into<String>) -> Self {
        self.rule = Some(rule.into());
        self
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}: expected {}, found {}", self.kind, self.place, self.expected, self.found)?;
        match &self.rule {
            Some(rule) => write!(out, " ({rule})"),
            None => Ok(()),
        }
    }
}

/// All violations of one input, in the order the checks found them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Violations(pub Vec<Violation>);

impl fmt::Display for Violations {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&count(&self.0))?;
        self.0.iter().try_for_each(|violation| write!(out, "\n  {violation}"))
    }
}

/// `27 violations (24 missing key, 3 wrong shape)`; families in the order in which they first come.
pub fn count(violations: &[Violation]) -> String {
    let mut families: Vec<(String, usize)> = Vec::new();
    for violation in violations {
        let name = violation.kind.to_string();
        match families.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count += 1,
            None => families.push((name, 1)),
        }
    }
    let total = violations.len();
    let parts: Vec<String> = families.iter().map(|(name, count)| format!("{count} {name}")).collect();
    format!("{total} violation{} ({})", if total == 1 { "" } else { "s" }, parts.join(", "))
}

/// Why a command of this crate ended without its result.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// The input is wrong; every violation found is listed.
    #[error("{0}")]
    Violations(Violations),
    /// The system refused something.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was being done, as a verb: `read`, `create`, …
        action: &'static str,
        /// The file or directory it was done to.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The source names nothing on this machine.
    #[error("source {0}: not a file, a directory or a hub id (owner/name[@revision])")]
    NoSuchSource(String),
    /// `--recipe` names neither a built-in recipe nor a file.
    #[error("recipe {name}: neither a built-in recipe ({builtin}) nor a file")]
    NoSuchRecipe {
        /// What was asked for.
        name: String,
        /// The built-in recipes, comma-separated.
        builtin: String,
    },
    /// The recipe has no such layout.
    #[error("layout {name}: recipe {recipe} has only {known}")]
    NoSuchLayout {
        /// What was asked for.
        name: String,
        /// The recipe's name.
        recipe: String,
        /// The layouts it has, comma-separated.
        known: String,
    },
    /// A column of a quantized weight is in a group that there is not.
    #[error("{key}: group {group} of a weight with {groups} groups")]
    BadGroup {
        /// The tensor that says the groups.
        key: String,
        /// What it says.
        group: i64,
        /// How many groups have scales.
        groups: u64,
    },
    /// `--keep-quantized` met a scale or bias that would be rounded.
    #[error("{key}: {value:e} cannot be kept without loss as {dtype}: --dequantize makes floats of it{}", if dtype == "F32" { "" } else { ", and without --dtype scales stay float32" })]
    NotExact {
        /// The quantized weight.
        key: String,
        /// The scale or bias.
        value: f64,
        /// The dtype of scales and biases.
        dtype: String,
    },
    /// The target is there already and was not to be replaced.
    #[error("target {} exists already; --force replaces it", .0.display())]
    TargetExists(PathBuf),
    /// Files lie in the target that no conversion wrote.
    #[error(
        "target {}: mlxport did not write what lies there ({names}), and replaces only what it wrote; give another directory, or move these \
         files away",
        path.display()
    )]
    TargetForeign {
        /// The target.
        path: PathBuf,
        /// Some of the files.
        names: String,
    },
    /// The target cannot be used at all.
    #[error("target {}: {reason}", path.display())]
    BadTarget {
        /// The target.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A finite weight has no finite value in the dtype asked for.
    #[error("{key}: {} is too large for {dtype}; choose another --dtype", shown(*value))]
    Overflow {
        /// The source tensor's key.
        key: String,
        /// The weight.
        value: f64,
        /// The dtype asked for.
        dtype: String,
    },
    /// The source was written to while it was being read.
    #[error("{}: written to while being read; nothing of the result can be trusted. Convert again when it is complete", files.join(", "))]
    SourceChanged {
        /// Names of the files.
        files: Vec<String>,
    },
    /// A weight that is to be quantized is NaN or infinite.
    #[error("{name}: element {element} is {value}; only finite weights can be quantized")]
    NotFinite {
        /// The output tensor's name.
        name: String,
        /// Which element (row-major).
        element: u64,
        /// The value.
        value: f32,
    },
    /// All weights of a group are so small that the mode's scales end above them: what MLX's CPU would write comes back far too large.
    #[error(
        "{name}: the {mode} group from element {element} on is so small that no scale of that mode fits it; keep the module by a rule, or pack it as affine"
    )]
    TooSmall {
        /// The output tensor's name.
        name: String,
        /// The mode.
        mode: String,
        /// Where the group begins (row-major).
        element: u64,
    },
    /// The file system has less room than the output takes.
    #[error("{}: the output takes {:.2} and there is room for {:.2}", path.display(), ByteSize(*needed).display().si(), ByteSize(*free).display().si())]
    NoRoom {
        /// Where it was to be written.
        path: PathBuf,
        /// Bytes of the output.
        needed: u64,
        /// Bytes that are free there.
        free: u64,
    },
    /// The directory has no manifest, so there is nothing to verify it against.
    #[error("{}: no {name} here: not a directory that mlxport wrote", directory.display())]
    NoManifest {
        /// The directory.
        directory: PathBuf,
        /// The manifest's file name.
        name: &'static str,
    },
}

/// The shortest digits that are the value: a float32's own where it is one.
fn shown(value: f64) -> String {
    let single = value as f32;
    if f64::from(single) == value { format!("{single:e}") } else { format!("{value:e}") }
}

impl ConvertError {
    /// Wraps a system error with what was being done to which path.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// `Ok` when nothing is wrong, else all of it as one error.
    ///
    /// # Errors
    /// [`ConvertError::Violations`] when the list is not empty.
    pub fn unless_empty(violations: Vec<Violation>) -> Result<(), Self> {
        if violations.is_empty() { Ok(()) } else { Err(Self::Violations(Violations(violations))) }
    }

    /// The violations behind this error (empty when it is of another kind).
    pub fn violations(&self) -> &[Violation] {
        match self {
            Self::Violations(Violations(list)) => list,
            _ => &[],
        }
    }
}
