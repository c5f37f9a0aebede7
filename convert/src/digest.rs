//! Violations for people: a count by family, and those that differ only in their numbers as one line.
//!
//! What is wrong with a file in the same way at many places is one line, too: an index that names a hundred keys badly is one bad index.
//!
//! Twenty-four layers without their norm are one thing that is wrong, not twenty-four. Nothing is dropped: counts add up, and every
//! violation is in the list this is made from.

use std::collections::HashMap;

use crate::error::{Violation, ViolationKind};
use crate::keys::generalize;

/// Violations that are the same but for the numbers in their place, or, of files, but for their place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form<'a> {
    /// The first of them.
    pub first: &'a Violation,
    /// Its place with `{n}` for each number; `None` where places differ in more.
    pub place: Option<String>,
    /// How many.
    pub count: usize,
}

/// The forms, in the order of each one's first violation.
pub fn forms(violations: &[Violation]) -> Vec<Form<'_>> {
    let mut at = HashMap::new();
    let mut forms: Vec<Form<'_>> = Vec::new();
    for violation in violations {
        let place = (!is_of_a_file(violation)).then(|| generalize(&violation.place));
        let same = (violation.kind, place.clone(), &violation.expected, &violation.found, &violation.rule);
        let at = *at.entry(same).or_insert(forms.len());
        match forms.get_mut(at) {
            Some(form) => form.count += 1,
            None => forms.push(Form { first: violation, place, count: 1 }),
        }
    }
    forms
}

/// Whether it is about how a file is made, so that another place in it tells nothing more.
fn is_of_a_file(violation: &Violation) -> bool {
    use ViolationKind::{BadHeader, BadPath, DuplicateKey, IndexMismatch, TruncatedFile, Unsupported};
    let kinds = [BadHeader, BadPath, DuplicateKey, IndexMismatch, TruncatedFile, Unsupported];
    violation.rule.is_none() && kinds.contains(&violation.kind)
}

/// The first `shown` forms, a line each with two blanks before it, and a line on what is not shown; `how` is the flag that shows it.
pub fn lines(violations: &[Violation], shown: usize, how: &str) -> String {
    let forms = forms(violations);
    let mut out = String::new();
    for form in forms.iter().take(shown) {
        out.push_str(&format!("  {}", form.first));
        if form.count > 1 {
            let (more, what) =
                (form.count - 1, form.place.as_ref().map_or("like it".to_owned(), |p| format!("of {p}")));
            out.push_str(&format!(" [and {more} more {what}]"));
        }
        out.push('\n');
    }
    let rest: usize = forms.iter().skip(shown).map(|form| form.count).sum();
    if rest > 0 {
        out.push_str(&format!("  and {rest} more ({how} lists all)\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{ViolationKind, count};

    fn missing(key: &str, expected: &str) -> Violation {
        Violation::new(ViolationKind::MissingKey, key, expected, "nothing").by("row 3")
    }

    #[test]
    fn what_is_wrong_with_a_file_at_many_places_is_one_line() {
        let path = |key: &str| Violation::new(ViolationKind::BadPath, format!("index: {key}"), "a name", "../x");
        let list = [path("lm_head.weight"), path("model.norm.weight"), path("a.0.b")];
        assert_eq!(
            lines(&list, 9, "--all"),
            "  bad path: index: lm_head.weight: expected a name, found ../x [and 2 more like it]\n"
        );
    }

    #[test]
    fn what_differs_only_in_numbers_is_one_line() {
        let extra = Violation::new(ViolationKind::ExtraKey, "z", "a row", "none");
        let list = [missing("l.0.w", "[2]"), extra, missing("l.11.w", "[2]"), missing("l.2.w", "[3]")];
        assert_eq!(count(&list), "4 violations (3 missing key, 1 extra key)");
        assert_eq!(
            lines(&list, 2, "--json"),
            "  missing key: l.0.w: expected [2], found nothing (row 3) [and 1 more of l.{n}.w]\n  \
             extra key: z: expected a row, found none\n  and 1 more (--json lists all)\n"
        );
        assert_eq!(forms(&list).iter().map(|form| form.count).sum::<usize>(), list.len());
    }
}
