//! The module tree, folded by system: every part of a path is a level, chains of one are one.

use std::collections::HashSet;

use maud::{Markup, html};
use mlxport_verdict::{Run, TapRecord};

use crate::system::{ALL, System};
use crate::text_format::{clean, ratio};

/// A module, with what is inside it.
#[derive(Default)]
struct Node<'a> {
    /// The last part of its path, or several where nothing branches between.
    name: String,
    children: Vec<Node<'a>>,
    /// Its own taps, by place in the record.
    taps: Vec<(usize, &'a TapRecord)>,
}

impl<'a> Node<'a> {
    fn insert(&mut self, path: &[&str], place: usize, tap: &'a TapRecord) {
        let Some((first, rest)) = path.split_first() else {
            self.taps.push((place, tap));
            return;
        };
        let at = self.children.iter().position(|child| child.name == *first).unwrap_or_else(|| {
            self.children.push(Node { name: (*first).to_owned(), ..Node::default() });
            self.children.len() - 1
        });
        self.children[at].insert(rest, place, tap);
    }

    /// Joins every module that has no taps of its own and only one inside with that one.
    fn folded(mut self) -> Self {
        self.children = self.children.into_iter().map(Node::folded).collect();
        if self.taps.is_empty() && self.children.len() == 1 && !self.name.is_empty() {
            let child = self.children.remove(0);
            return Node { name: format!("{}.{}", self.name, child.name), ..child };
        }
        self
    }

    fn all(&self) -> Vec<(usize, &'a TapRecord)> {
        let inside = self.children.iter().flat_map(Node::all);
        self.taps.iter().copied().chain(inside).collect()
    }
}

/// The tree. What fails is unfolded down to the module that fails by itself, or diverged first.
pub(super) fn tree(run: &Run) -> Markup {
    let summary = &run.summary;
    let named = [&summary.first_isolated_failure, &summary.first_divergence, &summary.first_tuned_failure];
    let culprits: HashSet<&str> = named.into_iter().flatten().map(|tap| tap.point.as_str()).collect();
    html! {
        h2 { "Modules" }
        div class="late" { @for (system, root) in ALL.map(|system| (system, of(run, system))) {
            @let taps = root.all();
            @if !taps.is_empty() {
                details class="tree" open[taps.iter().any(|(_, tap)| culprits.contains(tap.point.as_str()))] {
                    summary { strong { (system) } (counts(&taps)) }
                    ul { @for child in &root.children { (node(child, &culprits)) } }
                }
            }
        } }
    }
}

fn of(run: &Run, system: System) -> Node<'_> {
    let mut root = Node::default();
    for (place, tap) in run.taps.iter().enumerate().filter(|(_, tap)| System::of(&tap.point) == system) {
        root.insert(&tap.point.split('.').collect::<Vec<_>>(), place, tap);
    }
    root.folded()
}

fn node(node: &Node<'_>, culprits: &HashSet<&str>) -> Markup {
    let taps = node.all();
    let open = taps.iter().any(|(_, tap)| culprits.contains(tap.point.as_str()));
    html! {
        li {
            @if node.children.is_empty() {
                code { (clean(&node.name)) } (counts(&taps)) (links(&node.taps))
            } @else {
                details open[open] {
                    summary { code { (clean(&node.name)) } (counts(&taps)) }
                    (links(&node.taps))
                    ul { @for child in &node.children { (self::node(child, culprits)) } }
                }
            }
        }
    }
}

/// A module's own taps: a link each.
fn links(taps: &[(usize, &TapRecord)]) -> Markup {
    html! { @for (place, tap) in taps {
        " " a href=(format!("#tap-{place}")) class=[(!tap.passed()).then_some("fail")] { (label(tap)) }
    } }
}

/// `out`, `#1.in`; isolated ones are told apart.
fn label(tap: &TapRecord) -> String {
    let call = if tap.call == 0 { String::new() } else { format!("#{}.", tap.call) };
    let alone = match tap.mode {
        mlxport_verdict::Mode::Cumulative => "",
        mlxport_verdict::Mode::Isolated => " alone",
        mlxport_verdict::Mode::Tuned => " tuned",
    };
    clean(&format!("{call}{}{alone}", tap.kind))
}

fn counts(taps: &[(usize, &TapRecord)]) -> Markup {
    let failed = taps.iter().filter(|(_, tap)| !tap.passed()).count();
    let worst = mlxport_verdict::worst(taps.iter().map(|(_, tap)| *tap), 1).first().and_then(|tap| tap.ratio);
    html! {
        span class="dim" {
            " · " (taps.len()) @if taps.len() == 1 { " tap" } @else { " taps" }
            @if let Some(worst) = worst { ", worst " (ratio(worst)) }
        }
        @if failed > 0 { ", " span class="fail" { (failed) " failed" } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn every_tap_has_a_link_and_what_fails_is_unfolded() {
        let run = samples::failing();
        let text = tree(&run).into_string();
        for place in 0..run.taps.len() {
            assert!(text.contains(&format!("href=\"#tap-{place}\"")), "{place}");
        }
        let opened = text.matches("<details open>").count() + text.matches("<details class=\"tree\" open>").count();
        assert!((1..4).contains(&opened), "{opened} unfolded: {text}");
        assert_eq!(tree(&samples::passing()).into_string().matches("open>").count(), 0);
    }

    #[test]
    fn chains_of_one_are_one_level() {
        let text = tree(&samples::passing()).into_string();
        assert!(text.contains("<code>model.vision_model</code>"), "{text}");
        assert!(text.contains("<code>transformer.layers.0.mlp</code>"), "{text}");
    }
}
