//! Progress: what a conversion tells whoever watches it. The crate itself prints nothing.

/// Told how far a conversion is, from several threads at once.
pub trait Progress: Sync {
    /// So many more bytes of the output have been written.
    fn advance(&self, byte_len: u64);

    /// All bytes are written; what remains is making sure that they are on disk.
    fn flushing(&self) {}
}

/// For when no one watches.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Progress for Silent {
    fn advance(&self, _byte_len: u64) {}
}
