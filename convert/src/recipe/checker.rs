//! What a recipe's file is checked with: the names that its expressions may use, and the complaints so far.

use std::collections::BTreeSet;

use crate::error::{Violation, ViolationKind};

use super::expr::Expr;
use super::table::Kind;
use super::value::ExprText;

/// The names that a recipe's expressions may use, and what is wrong so far.
pub(super) struct Checker {
    origin: String,
    ints: BTreeSet<String>,
    lists: BTreeSet<String>,
    problems: Vec<Violation>,
}

impl Checker {
    /// Nothing declared, nothing wrong; `origin` names the recipe in messages.
    pub(super) fn new(origin: &str) -> Self {
        Self { origin: origin.to_owned(), ints: BTreeSet::new(), lists: BTreeSet::new(), problems: Vec::new() }
    }

    /// Everything that is wrong.
    pub(super) fn into_problems(self) -> Vec<Violation> {
        self.problems
    }

    pub(super) fn complain(&mut self, place: &str, expected: &str, found: impl Into<String>) {
        self.problems.push(Violation::new(ViolationKind::Recipe, format!("{}: {place}", self.origin), expected, found));
    }

    /// Declares a name for later expressions.
    pub(super) fn declare(&mut self, name: &str, kind: Kind) {
        let list = kind.is_list();
        let taken = self.ints.contains(name) || self.lists.contains(name);
        if taken || matches!(name, "i" | "in") {
            self.complain("dims", "a new name", name);
        }
        let names = if list { &mut self.lists } else { &mut self.ints };
        names.insert(name.to_owned());
    }

    /// Parses an expression over declared names (and `i`, where it is bound); a wrong one becomes `0` and a complaint.
    pub(super) fn expr(&mut self, text: &str, bound: bool, place: &str) -> Expr {
        let parsed = Expr::parse(text).and_then(|expr| {
            let unknown = expr.names().into_iter().find(|(name, list)| {
                let known = if *list { &self.lists } else { &self.ints };
                let is_bound = bound && !list && *name == "i";
                !(known.contains(*name) || is_bound)
            });
            match unknown {
                Some((name, _)) => Err(format!("{text:?}: no dim is called {name}")),
                None => Ok(expr),
            }
        });
        parsed.unwrap_or_else(|problem| {
            self.complain(place, "an expression over declared names", problem);
            Expr::parse("0").expect("a digit is an expression")
        })
    }

    /// Several expressions.
    pub(super) fn exprs(&mut self, texts: &[ExprText], place: &str) -> Vec<Expr> {
        texts.iter().map(|text| self.expr(text, false, place)).collect()
    }
}
