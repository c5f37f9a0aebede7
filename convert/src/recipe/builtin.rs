//! Recipes by name: those that come with the program (every file of `recipes/`), or a file.

use std::path::Path;

use crate::error::{ConvertError, Violation, ViolationKind, Violations};
use crate::files::read_bounded;

use super::checked::Recipe;

/// The longest recipe file, in bytes.
const MAX_BYTE_LEN: u64 = 4 << 20;

/// Name and text of each, in alphabetical order; `build.rs` lists them.
const BUILTIN: &[(&str, &str)] = &include!(concat!(env!("OUT_DIR"), "/builtin.rs"));

impl Recipe {
    /// A built-in recipe, or the one in the file of that name.
    ///
    /// # Errors
    /// [`ConvertError::NoSuchRecipe`] when it is neither; what [`Recipe::parse`] or the system says otherwise.
    pub fn named(name: &str) -> Result<Self, ConvertError> {
        if let Some((name, text)) = BUILTIN.iter().find(|(known, _)| *known == name) {
            return Self::parse(text, name);
        }
        let path = Path::new(name);
        if !path.exists() {
            return Err(ConvertError::NoSuchRecipe {
                name: name.to_owned(),
                builtin: Self::builtin_names().join(", "),
            });
        }
        let bytes = read_bounded(path, MAX_BYTE_LEN).map_err(ConvertError::io("read recipe", path))?;
        let text = String::from_utf8(bytes).map_err(|error| {
            ConvertError::Violations(Violations(vec![Violation::new(
                ViolationKind::Recipe,
                name,
                "UTF-8 text",
                error.to_string(),
            )]))
        })?;
        Self::parse(&text, name)
    }

    /// The names of the built-in recipes.
    pub fn builtin_names() -> Vec<&'static str> {
        BUILTIN.iter().map(|(name, _)| *name).collect()
    }
}
