//! The routers that a run passes: the scores they show, and the experts they go on with.

use std::collections::HashMap;

use mlx_rs::Array;
use mlxport_model::contract::Kind;
use mlxport_verdict::Mode;

use crate::{judge::Judge, routing::Routing, ties::Scores};

/// What one run's routers have shown, and what they are still to be given.
pub struct Routers {
    mode: Mode,
    /// The last scores shown, by router path.
    scores: HashMap<String, Scores>,
    routing: Routing,
}

impl Routers {
    /// No router observed; `routing` has handed out nothing yet.
    pub fn new(mode: Mode, routing: Routing) -> Self {
        Self { mode, scores: HashMap::new(), routing }
    }

    /// Keeps what a router shows of its scores; other taps are nothing to it.
    pub fn observe(&mut self, path: &str, kind: Kind, value: &Array) {
        match kind {
            Kind::Scores => {
                self.scores.insert(path.to_owned(), Scores { experts: value.clone(), groups: None });
            }
            Kind::Groups => {
                if let Some(scores) = self.scores.get_mut(path) {
                    scores.groups = Some(value.clone());
                }
            }
            Kind::Input(_) | Kind::Output => {}
        }
    }

    /// The last scores of the router at `path`.
    pub fn scores(&self, path: &str) -> Option<&Scores> {
        self.scores.get(path)
    }

    /// Whether the recording has choices of the router at `path`.
    pub fn knows(&self, path: &str) -> bool {
        self.routing.knows(path)
    }

    /// The experts that the router at `path` goes on with, where these are not its `own` (\[tokens, k\]).
    ///
    /// # Errors
    /// The judge's, as the model's listener passes them on.
    pub fn taken(&mut self, path: &str, own: &Array, judge: &mut Judge<'_>) -> mlxport_model::Result<Option<Array>> {
        let given = self.routing.next(path, own.dim(0));
        let taken = given.and_then(|given| judge.replayed(path, self.mode, given, own, self.scores.get(path)));
        taken.map_err(|error| mlxport_model::Error::Listener(error.to_string().into()))
    }
}
