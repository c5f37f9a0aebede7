//! Files that do not belong together, each case told in one line: a stale index, two forms of one checkpoint.

use std::collections::BTreeMap;

use crate::error::{Violation, ViolationKind};

use super::listing;

/// What is expected of a key.
pub(super) const ONE_FILE: &str = "each key in one file";
/// From how many keys on that two files share they are told together.
const MANY_REPEATED: usize = 3;

/// The pronoun for so many.
pub(super) fn them(count: usize) -> &'static str {
    if count == 1 { "it" } else { "them" }
}

/// An index that names files which are not there, in one line with those that are there and not named.
pub(super) fn stale(index: &str, absent: &[&str], unnamed: &[String]) -> Violation {
    let expected = format!("the files that {index} names");
    let found = if unnamed.is_empty() {
        "no such file (download it again)".to_owned()
    } else {
        format!(
            "other files there, which it does not name: {}; the index is of another sharding (take the release's own, or remove it: the \
             files say themselves what they hold)",
            listing::shortened(unnamed)
        )
    };
    Violation::new(ViolationKind::MissingFile, listing::shortened(absent), expected, found)
}

/// One line for each two files that have keys in common, instead of a line for each key.
pub(super) fn join_repeated(violations: &mut Vec<Violation>) {
    let is_repeated = |violation: &Violation| violation.kind == ViolationKind::DuplicateKey && violation.rule.is_none();
    let mut pairs: BTreeMap<String, usize> = BTreeMap::new();
    for violation in violations.iter().filter(|v| is_repeated(v) && v.expected == ONE_FILE) {
        *pairs.entry(violation.found.clone()).or_default() += 1;
    }
    if violations.len() < MANY_REPEATED {
        return;
    }
    violations.retain(|violation| !(is_repeated(violation) && violation.expected == ONE_FILE));
    for (found, count) in pairs {
        let files = found.strip_prefix("it in ").unwrap_or(&found).to_owned();
        let expected =
            format!("{ONE_FILE} (these are two forms of one checkpoint: give the file itself as the source)");
        violations.push(Violation::new(ViolationKind::DuplicateKey, files, expected, format!("{count} keys in both")));
    }
}
