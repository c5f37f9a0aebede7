//! `--allow-unmapped GLOB=REASON`: what a check may do without, and why.

use anyhow::bail;
use globset::{Glob, GlobMatcher};

/// The user's rules.
#[derive(Debug, Default)]
pub struct Allowed {
    rules: Vec<(GlobMatcher, String)>,
}

impl Allowed {
    /// Reads the rules.
    ///
    /// # Errors
    /// A rule has no reason, or its glob is none: all of them in one message.
    pub fn parse(rules: &[String]) -> anyhow::Result<Self> {
        let (mut read, mut wrong) = (Vec::new(), Vec::new());
        for rule in rules {
            match rule.split_once('=') {
                Some((glob, reason)) if !glob.is_empty() && !reason.trim().is_empty() => match Glob::new(glob) {
                    Ok(glob) => read.push((glob.compile_matcher(), reason.trim().to_owned())),
                    Err(error) => wrong.push(format!("{rule:?}: {error}")),
                },
                _ => wrong.push(format!("{rule:?}: expected GLOB=REASON, with a reason")),
            }
        }
        if wrong.is_empty() { Ok(Self { rules: read }) } else { bail!("--allow-unmapped: {}", wrong.join("; ")) }
    }

    /// The reason given for a module's path.
    pub fn reason(&self, point: &str) -> Option<String> {
        self.rules.iter().find(|(glob, _)| glob.is_match(point)).map(|(_, reason)| reason.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_needs_a_reason() {
        let allowed = Allowed::parse(&["visual.*=text only".to_owned()]).expect("sound");
        assert_eq!(allowed.reason("visual.blocks.0").as_deref(), Some("text only"));
        assert_eq!(allowed.reason("model.norm"), None);
        let error = Allowed::parse(&["a".to_owned(), "b=".to_owned(), "[=x".to_owned()]).expect_err("unsound");
        for part in ["\"a\"", "\"b=\"", "\"[=x\""] {
            assert!(error.to_string().contains(part), "{part}: {error}");
        }
    }
}
