//! Which taps a run is about.

use globset::{Glob, GlobMatcher};

use crate::error::{Error, Result};

/// All taps, or those whose path fits a pattern (`model.layers.*`; `*` crosses dots).
#[derive(Debug, Clone, Default)]
pub struct Selection(Option<GlobMatcher>);

impl Selection {
    /// Parses a pattern; none selects everything.
    ///
    /// # Errors
    /// When the pattern is not a glob.
    pub fn parse(pattern: Option<&str>) -> Result<Self> {
        let parse = |text: &str| Glob::new(text).map_err(|e| Error::Mismatch(format!("--select {text}: {e}")));
        Ok(Self(pattern.map(parse).transpose()?.map(|glob| glob.compile_matcher())))
    }

    /// Whether taps of this path are wanted.
    pub fn holds(&self, path: &str) -> bool {
        self.0.as_ref().is_none_or(|glob| glob.is_match(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_crosses_dots_and_a_broken_pattern_is_told() -> Result<()> {
        let layers = Selection::parse(Some("model.layers.*"))?;
        assert!(layers.holds("model.layers.1.mlp.gate") && !layers.holds("model.norm"));
        assert!(Selection::parse(None)?.holds("anything"));
        assert!(Selection::parse(Some("model.[")).is_err());
        Ok(())
    }
}
