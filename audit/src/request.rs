//! What is asked of an audit, and how much of a file its threads read at a time.

use std::path::PathBuf;

/// What to audit.
#[derive(Debug, Clone)]
pub struct Request {
    /// The MLX directory.
    pub mlx: PathBuf,
    /// The release: a directory or one file.
    pub release: PathBuf,
    /// How they are named in the report.
    pub names: (String, String),
    /// Globs of the release's keys that may be missing.
    pub may_drop: Vec<String>,
    /// A recipe that says what comes from where: a built-in one's name or a file.
    pub recipe: Option<String>,
    /// Whether notes and minor findings fail, too.
    pub strict: bool,
    /// Bytes that buffers may take.
    pub memory: u64,
}

/// Bytes a value takes in a window, all buffers together.
const BYTES_PER_VALUE: u64 = 48;

/// Values in a window, so that all threads' buffers stay within the memory.
pub(crate) fn window(memory: u64) -> u64 {
    let threads = rayon::current_num_threads().max(1) as u64;
    (memory / 2 / threads / BYTES_PER_VALUE).clamp(1 << 12, 1 << 20) / 4096 * 4096
}
