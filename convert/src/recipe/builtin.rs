//! The recipes that come with the program: every file of `recipes/`, under its name there.

/// Name and text of each, in alphabetical order; `build.rs` lists them.
pub(super) const BUILTIN: &[(&str, &str)] = &include!(concat!(env!("OUT_DIR"), "/builtin.rs"));
