//! `permute` and `split` in a recipe: the keys they take, and what of their axes can be checked before any shape is known.

use super::checker::Checker;
use super::expr::Expr;
use super::pattern::Pattern;
use super::table::{OpName, RawAction, RawOrder, RawShape};
use super::{Lay, Op};

impl Checker {
    /// `view` and `result` belong to permute and split, `sizes` to split.
    pub(super) fn check_fields(&mut self, raw: &RawAction, name: OpName, place: &str) {
        let rearranges = matches!(name, OpName::Permute | OpName::Split);
        let strays = [
            ("sizes", raw.sizes.is_some(), name == OpName::Split),
            ("view", raw.view.is_some(), rearranges),
            ("result", raw.result.is_some(), rearranges),
        ];
        for (field, given, may_be) in strays {
            if given && !may_be {
                self.complain(place, &format!("no {field} for {name}"), "it");
            }
        }
    }

    pub(super) fn permute(&mut self, raw: &RawAction, place: &str) -> Op {
        let mut lays = self.lays(raw, 1, place);
        Op::Permute { view: self.view(raw, place), lay: lays.pop().unwrap_or_default() }
    }

    /// `None` where the axis is missing, which has been reported.
    pub(super) fn split(&mut self, raw: &RawAction, targets: usize, place: &str) -> Option<Op> {
        Some(Op::Split {
            view: self.view(raw, place),
            axis: raw.axis?,
            sizes: raw.sizes.as_ref().map(|sizes| self.exprs(sizes, place)),
            lays: self.lays(raw, targets, place),
        })
    }

    fn view(&mut self, raw: &RawAction, place: &str) -> Option<Vec<Expr>> {
        raw.view.as_ref().map(|view| self.exprs(view, place))
    }

    /// How each target is laid out: one order and one result shape for all of them, or one for each.
    fn lays(&mut self, raw: &RawAction, targets: usize, place: &str) -> Vec<Lay> {
        let orders: Vec<Option<Vec<usize>>> = match &raw.order {
            None => vec![None; targets],
            Some(RawOrder::Same(order)) => vec![Some(order.clone()); targets],
            Some(RawOrder::Each(orders)) => orders.iter().cloned().map(Some).collect(),
        };
        let results: Vec<Option<Vec<Expr>>> = match &raw.result {
            None => vec![None; targets],
            Some(RawShape::Same(shape)) => vec![Some(self.exprs(shape, place)); targets],
            Some(RawShape::Each(shapes)) => shapes.iter().map(|shape| Some(self.exprs(shape, place))).collect(),
        };
        for (field, count) in [("order", orders.len()), ("result", results.len())] {
            if count != targets {
                self.complain(place, &format!("one {field}, or one for each of {targets} targets"), count.to_string());
            }
        }
        orders.into_iter().zip(results).map(|(order, result)| Lay { order, result }).collect()
    }

    /// Orders must be orders of all axes that are read, and the axis that is cut one of them.
    pub(super) fn check_rearranged(&mut self, op: &Op, sources: &[(Pattern, Vec<Expr>)], place: &str) {
        let (view, cut, lays) = match op {
            Op::Permute { view, lay } => (view, None, std::slice::from_ref(lay)),
            Op::Split { view, axis, lays, .. } => (view, Some(*axis), lays.as_slice()),
            _ => return,
        };
        let Some((_, shape)) = sources.first() else { return };
        let rank = view.as_ref().unwrap_or(shape).len();
        if let Some(axis) = cut.filter(|&axis| axis >= rank) {
            self.complain(place, &format!("an axis below {rank}"), axis.to_string());
        }
        for order in lays.iter().filter_map(|lay| lay.order.as_ref()) {
            let mut sorted = order.clone();
            sorted.sort_unstable();
            if !sorted.iter().copied().eq(0..rank) {
                self.complain(
                    place,
                    &format!("each of the axes 0 to {} once", rank.saturating_sub(1)),
                    format!("{order:?}"),
                );
            }
        }
    }
}
