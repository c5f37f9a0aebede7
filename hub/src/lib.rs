//! A release by its hub id: the files that a conversion reads are downloaded into the hub's own cache.
//!
//! ```text
//! source    what a person wrote: a path of this machine, or `owner/name@revision`
//! settings  cache, token, endpoint and patience, from the variables the Python client reads
//! select    which of the repository's files a conversion needs; never code, never other folders
//! http      one request: who gets the token, which redirects are followed, what a status means
//! download  one file: resumed, counted, hashed, and in the cache only when whole
//! fetch     all of it, as one snapshot directory
//! ```
//!
//! The `hf-hub` crate lays out the cache and the addresses (what it fetched, the Python client finds, and the other way round). Its own
//! transfer is not used: it knows no timeouts, checks no hash and sends the token to whatever host a redirect names.
//!
//! A crate of its own, so that whoever uses `mlxport-convert` as a library takes no TLS with it.

mod download;
mod error;
mod fetch;
mod http;
mod select;
mod settings;
mod source;

pub use error::HubError;
pub use fetch::fetch;
pub use settings::Settings;
pub use source::{HubId, Source};

/// Told how a download goes; every method may do nothing.
pub trait Progress {
    /// File `name` of `byte_len` bytes begins; `done_byte_len` of them were here already from an earlier try.
    fn file(&self, name: &str, byte_len: u64, done_byte_len: u64);
    /// That many more bytes of it have arrived.
    fn advance(&self, byte_len: u64);
    /// The file begins anew: what had arrived of it does not count.
    fn restart(&self);
    /// The file is whole and checked.
    fn finish(&self);
}

/// Shows nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn file(&self, _: &str, _: u64, _: u64) {}
    fn advance(&self, _: u64) {}
    fn restart(&self) {}
    fn finish(&self) {}
}
