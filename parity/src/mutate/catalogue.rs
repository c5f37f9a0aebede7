//! The catalogue of faults: what is planted, where, and what this model or this recording cannot show.

use mlxport_model::loading::{Edit as WeightChange, WeightEdit};

use crate::{
    driver::Driver,
    fault::Fault,
    steps::{self, Edit, Modules, StepEdit},
};

use super::{config, graph, model_shape::ModelShape, weights};

/// One fault to plant.
pub(super) struct Mutant {
    pub(super) name: String,
    /// The PyTorch module where it must be found: the first failing taps lie in it.
    pub(super) planted_in: String,
    /// The module that shows it by itself, where it is a step of that module between those inside it.
    pub(super) step_of: Option<String>,
    pub(super) plan: Plan,
    /// The driver it needs to show: a fault of the cache shows only where a cache is used.
    pub(super) driver: Driver,
}

/// What is to be expected of a fault.
pub(super) enum Plan {
    /// It must be caught.
    Catch(Fault),
    /// It must change no bit of what is compared, for this reason.
    ChangesNothing(Fault, &'static str),
    /// It must change nothing but rounding, for this reason.
    Rounds(Fault, &'static str),
    /// It cannot be planted, for this reason.
    Impossible(&'static str),
}

impl Plan {
    pub(super) fn fault(&self) -> Option<&Fault> {
        match self {
            Self::Catch(fault) | Self::ChangesNothing(fault, _) | Self::Rounds(fault, _) => Some(fault),
            Self::Impossible(_) => None,
        }
    }

    /// `config`, `weights` or `graph`.
    pub(super) fn kind(&self) -> &'static str {
        match self.fault() {
            Some(Fault::Config(_)) => "config",
            Some(Fault::Weights(_)) => "weights",
            Some(Fault::Steps(_)) | None => "graph",
        }
    }
}

impl Mutant {
    /// A fault that must be caught.
    pub(super) fn new(name: &str, planted_in: impl Into<String>, fault: Fault) -> Self {
        Self {
            name: name.into(),
            planted_in: planted_in.into(),
            step_of: None,
            plan: Plan::Catch(fault),
            driver: Driver::Whole,
        }
    }

    /// Other steps: at each of these places the same is done.
    pub(super) fn steps(name: &str, planted_in: impl Into<String>, at: Modules, edit: Edit) -> Self {
        Self::new(name, planted_in, Fault::Steps(vec![StepEdit { at, edit }]))
    }

    /// One tensor changed.
    pub(super) fn map(
        name: &str,
        planted_in: impl Into<String>,
        key: impl Into<String>,
        edit: fn(&mlx_rs::Array) -> mlxport_model::Result<mlx_rs::Array>,
    ) -> Self {
        let faults = vec![WeightEdit { key: key.into(), edit: WeightChange::Map(edit) }];
        Self::new(name, planted_in, Fault::Weights(faults))
    }

    /// Two tensors exchanged, or each of several pairs.
    pub(super) fn exchange(name: &str, planted_in: impl Into<String>, pairs: Vec<(String, String)>) -> Self {
        let take =
            |key: &String, other: &String| WeightEdit { key: key.clone(), edit: WeightChange::Take(other.clone()) };
        let faults = pairs.iter().flat_map(|(a, b)| [take(a, b), take(b, a)]).collect();
        Self::new(name, planted_in, Fault::Weights(faults))
    }

    /// It is a step of `module`, between the modules inside it: none of those is wrong by itself.
    pub(super) fn between(mut self, module: &'static str) -> Self {
        self.step_of = Some(module.to_owned());
        self
    }

    /// With modules called as the recorded class calls them.
    pub(super) fn renamed(self, names: fn(&str) -> String) -> Self {
        Self { planted_in: names(&self.planted_in), step_of: self.step_of.map(|module| names(&module)), ..self }
    }

    /// It changes nothing where `holds`.
    pub(super) fn unless(self, holds: bool, reason: &'static str) -> Self {
        self.changed_if(holds, |fault| Plan::ChangesNothing(fault, reason))
    }

    /// It only rounds otherwise where `holds`.
    pub(super) fn rounds_if(self, holds: bool, reason: &'static str) -> Self {
        self.changed_if(holds, |fault| Plan::Rounds(fault, reason))
    }

    /// It cannot be planted where `holds`.
    pub(super) fn impossible_if(self, holds: bool, reason: &'static str) -> Self {
        self.changed_if(holds, |_| Plan::Impossible(reason))
    }

    fn changed_if(mut self, holds: bool, plan: impl FnOnce(Fault) -> Plan) -> Self {
        self.plan = match self.plan {
            Plan::Catch(fault) if holds => plan(fault),
            other => other,
        };
        self
    }

    /// It shows only with this driver.
    pub(super) fn with(mut self, driver: Driver) -> Self {
        self.driver = driver;
        self
    }
}

/// Every fault, in the model's order within each kind.
pub(super) fn all(facts: &ModelShape) -> Vec<Mutant> {
    let mut all = weights::vision(facts);
    all.extend(weights::decoder(facts));
    all.extend(graph::vision(facts));
    all.extend(graph::assembly(facts));
    all.extend(graph::decoder(facts));
    all.extend(config::all(facts));
    all
}

/// Another correct way.
#[derive(Debug, Clone, Copy)]
pub(super) enum Way {
    /// Other steps.
    Steps(StepEdit),
    /// Another driver.
    Driver(Driver),
}

/// Every variant with its name for people; where it cannot be told from the run as it is, why.
pub(super) fn variants(facts: &ModelShape) -> Vec<(&'static str, Way, Option<&'static str>)> {
    let steps = steps::VARIANTS.iter().map(|(name, edit)| (*name, Way::Steps(*edit)));
    let drivers = [
        ("tiles encoded one at a time", Driver::TilesOneByOne),
        ("the prompt in chunks, through the cache", Driver::InChunks(7)),
        ("the prompt in halves, through the cache", Driver::InHalves),
        ("the prompt token by token, through the cache", Driver::InChunks(1)),
    ];
    let all = steps.chain(drivers.map(|(name, driver)| (name, Way::Driver(driver))));
    all.map(|(name, way)| (name, way, without(name, facts))).collect()
}

/// Why a variant has nothing to compute otherwise.
fn without(name: &str, facts: &ModelShape) -> Option<&'static str> {
    let is_resampled = facts.sam_table_is_resampled() || facts.clip.is_some() && facts.clip_table_is_resampled();
    match name {
        "position tables resampled rows first" if !is_resampled => Some("nothing is resampled"),
        "position tables resampled rows first" if facts.clip_takes_the_mean() && !facts.sam_table_is_resampled() => {
            Some("one place takes the mean of four values, in either order")
        }
        "tiles encoded one at a time" if facts.tiles.is_none_or(|(across, down)| across * down < 2) => {
            Some("there are no two tiles")
        }
        "the router's softmax from exponentials" | "experts summed from the last to the first"
            if facts.moe_layer().is_none() =>
        {
            Some("no layer has experts")
        }
        "experts summed from the last to the first" if facts.chosen_experts() < 3 => {
            Some("a sum of two is the same from either end")
        }
        _ => None,
    }
}
