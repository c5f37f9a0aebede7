//! Planted faults: is every one caught where it was planted, and is no correct variant accused?
//!
//! Each fault of the catalogue is planted by itself and the whole verdict is run, both modes. A fault that this recording
//! cannot show (a table that is not resampled, tiles that are not there) is listed with the reason, and the claim is checked:
//! it must change no bit of what is compared.

mod catalogue;
mod config;
mod graph;
mod model_shape;
mod processes;
mod weights;

use mlxport_fixtures::Fixture;
use mlxport_verdict::{
    MUTATION_SCHEMA, Mode, MutantRecord, MutationReport, MutationSummary, Outcome, Run, TapRecord, TapRef,
    VariantRecord, Verdict,
};

use crate::{
    error::{Error, Result},
    fault::Fault,
    inputs,
    run::{Request, Session},
};
use catalogue::{Mutant, Plan, Way};
use model_shape::ModelShape;

pub use processes::variants_in_processes;

/// Plants every fault and runs every variant; `heard` is told of each, with how many there are.
///
/// # Errors
/// When fixture, model or device cannot be used, and when the model fails without any fault.
pub fn mutate(request: &Request, mut heard: impl FnMut(usize, usize)) -> Result<MutationReport> {
    // Faults are planted in the plain steps, where every tap tells their place. Only verdicts and places are read of the runs.
    let request = &Request { modes: MODES.to_vec(), details: false, ..request.clone() };
    let mut session = Session::open(request)?;
    let baseline = session.run(request)?;
    if baseline.summary.verdict != Verdict::Pass {
        let message = "the model does not pass as it is: a fault could not be told from what is wrong already";
        return Err(Error::Mismatch(message.into()));
    }
    let facts = facts(request, &mut session, &baseline)?;
    let (catalogue, ways) = (catalogue::all(&facts), catalogue::variants(&facts));
    let total = catalogue.len() + ways.len();
    let mut mutants = Vec::new();
    for mutant in catalogue {
        heard(mutants.len(), total);
        let mutant = mutant.renamed(facts.names);
        mutants.push(planted(request, &mut session, &baseline, mutant)?);
    }
    let mut variants = Vec::new();
    for (name, way, without) in ways {
        heard(mutants.len() + variants.len(), total);
        variants.push(match without {
            Some(reason) => VariantRecord::not_run(name, reason),
            None => varied(request, &mut session, &baseline, name, way)?,
        });
    }
    Ok(MutationReport {
        schema: MUTATION_SCHEMA,
        tool: baseline.tool,
        environment: baseline.environment,
        fixture: baseline.fixture,
        model: baseline.model,
        summary: MutationSummary::of(&mutants, &variants),
        mutants,
        variants,
    })
}

fn facts(request: &Request, session: &mut Session, baseline: &Run) -> Result<ModelShape> {
    let model = session.model(request)?;
    let (model_facts, modules) = (model.facts().clone(), model.modules());
    let prompt = inputs::prompt(model, &Fixture::open(&request.fixture)?)?;
    let attention = (model_facts.names)("model.layers.0.self_attn");
    let mut facts = ModelShape::read(&request.model, &model_facts, &modules, &prompt)?;
    facts.attention_is_recorded = narrowest_recorded(&attention, &baseline.taps) == attention;
    Ok(facts)
}

fn planted(request: &Request, session: &mut Session, baseline: &Run, mutant: Mutant) -> Result<MutantRecord> {
    let kind = mutant.plan.kind().to_owned();
    let empty = |outcome| MutantRecord {
        name: mutant.name.clone(),
        kind: kind.clone(),
        planted_in: mutant.planted_in.clone(),
        outcome,
        first_divergence: None,
        first_isolated_failure: None,
        failed: 0,
        hint: None,
    };
    let Some(fault) = mutant.plan.fault() else {
        let Plan::Impossible(reason) = mutant.plan else { unreachable!("every other plan has a fault") };
        return Ok(empty(Outcome::NotApplicable { reason: reason.to_owned() }));
    };
    let request = Request { planted: Some(fault.clone()), driver: mutant.driver, ..request.clone() };
    let run = match session.run(&request) {
        Ok(run) => run,
        Err(Error::Model(error)) => return Ok(empty(Outcome::NotRun { message: error.to_string() })),
        Err(error) => return Err(error),
    };
    let summary = &run.summary;
    Ok(MutantRecord {
        first_divergence: summary.first_divergence.clone(),
        first_isolated_failure: summary.first_isolated_failure.clone(),
        failed: summary.cumulative.failed + summary.isolated.failed,
        hint: first_hint(&run),
        ..empty(outcome(&mutant, baseline, &run))
    })
}

/// What the report suggests first: of the module that is off by itself, or where the whole pass first diverges.
fn first_hint(run: &Run) -> Option<String> {
    let named = [&run.summary.first_isolated_failure, &run.summary.first_divergence];
    let record = |tap: &TapRef| run.taps.iter().find(|t| t.mode == tap.mode && t.id() == tap.id());
    let hints = named.into_iter().flatten().filter_map(record).flat_map(|tap| &tap.hints);
    hints.map(|hint| hint.cause.clone()).next()
}

fn outcome(mutant: &Mutant, baseline: &Run, run: &Run) -> Outcome {
    let passed = run.summary.verdict == Verdict::Pass;
    match mutant.plan {
        Plan::ChangesNothing(_, reason) if passed && same(&baseline.taps, &run.taps) => {
            return Outcome::Equivalent { reason: reason.to_owned() };
        }
        Plan::Rounds(_, reason) if passed => return Outcome::Equivalent { reason: reason.to_owned() },
        _ => {}
    }
    let (whole, alone) = (&run.summary.first_divergence, &run.summary.first_isolated_failure);
    let place = place_of(&mutant.planted_in, baseline, run);
    let in_place = |tap: &TapRef| lies_in(&tap.point, place);
    // A step is its module's own; where that module was not recorded, the one around it shows it.
    let step_of = mutant.step_of.as_deref().filter(|module| narrowest_recorded(module, &baseline.taps) == *module);
    let own = |tap: &TapRef| step_of.map_or_else(|| in_place(tap), |module| tap.point == module);
    if whole.is_none() && alone.is_none() {
        Outcome::Survived
    } else if whole.as_ref().is_none_or(in_place) && alone.as_ref().is_none_or(own) {
        Outcome::Caught
    } else {
        Outcome::Misplaced
    }
}

/// The place in which a fault of `module` must be named: the narrowest recorded one. Where the recording has other outputs in `module` than its
/// own and the fault reaches none of them (a residual behind the only norm recorded), that is a module around it.
fn place_of<'a>(module: &'a str, baseline: &'a Run, run: &'a Run) -> &'a str {
    let inside = |run: &'a Run| run.taps.iter().filter(move |tap| lies_in(&tap.point, module));
    let shows = outputs(&baseline.taps).any(|tap| tap.point == module) || !same(inside(baseline), inside(run));
    if shows { narrowest_recorded(module, &baseline.taps) } else { around(module, &baseline.taps) }
}

/// `module`, where the recording has a compared output in it; else the narrowest module around it whose own output was compared: a fault in
/// what was not recorded can be named no closer.
fn narrowest_recorded<'a>(module: &'a str, taps: &[TapRecord]) -> &'a str {
    if outputs(taps).any(|tap| lies_in(&tap.point, module)) { module } else { around(module, taps) }
}

/// The narrowest module around `module` whose own output was compared. Empty (which every module lies in) where there is none.
fn around<'a>(module: &'a str, taps: &[TapRecord]) -> &'a str {
    let mut wider = module.rmatch_indices('.').map(|(dot, _)| &module[..dot]);
    wider.find(|wider| outputs(taps).any(|tap| tap.point == **wider)).unwrap_or("")
}

fn outputs(taps: &[TapRecord]) -> impl Iterator<Item = &TapRecord> {
    taps.iter().filter(|tap| tap.metrics.is_some() && tap.kind.starts_with("out"))
}

/// Whether module `path` is `module` or inside it.
fn lies_in(path: &str, module: &str) -> bool {
    module.is_empty() || path.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Whether the same was compared with the same result, bit for bit.
fn same<'a>(a: impl IntoIterator<Item = &'a TapRecord>, b: impl IntoIterator<Item = &'a TapRecord>) -> bool {
    let bits = |tap: &TapRecord| {
        (tap.id(), tap.mode, tap.error().map(f64::to_bits), tap.metrics.as_ref().map(|m| m.max_abs.value.to_bits()))
    };
    a.into_iter().map(bits).eq(b.into_iter().map(bits))
}

fn varied(request: &Request, session: &mut Session, baseline: &Run, name: &str, way: Way) -> Result<VariantRecord> {
    let request = match way {
        Way::Steps(edit) => Request { planted: Some(Fault::Steps(vec![edit])), ..request.clone() },
        Way::Driver(driver) => Request { driver, ..request.clone() },
    };
    let run = session.run(&request)?;
    let (passed, changed) = (run.summary.verdict == Verdict::Pass, !same(&baseline.taps, &run.taps));
    if passed && !changed && matches!(way, Way::Driver(_)) {
        // A driver changes who calls, not what is computed: whether kernels round otherwise for fewer rows is up to sizes and machine.
        return Ok(VariantRecord::not_run(name, "in these pieces the very numbers of the run as it is are computed"));
    }
    Ok(VariantRecord {
        name: name.to_owned(),
        passed,
        worst: run.summary.worst.first().cloned(),
        changed,
        not_run: None,
    })
}

/// Both modes are needed to name a fault's place.
pub const MODES: [Mode; 2] = [Mode::Cumulative, Mode::Isolated];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use mlxport_convert::{WriteOptions, prepare};

    use super::*;
    use crate::steps::{Edit, Modules as At, rotated_reversed};

    fn reversed(name: &str, planted_in: &str) -> Mutant {
        Mutant::steps(name, planted_in, At::below("model.layers.", ".self_attn"), Edit::By(rotated_reversed))
    }

    /// What becomes of `mutant` on the smallest fixture.
    fn outcome_of(mutant: Mutant) -> Outcome {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/data/tiny-small");
        let dir = tempfile::tempdir().expect("a temporary directory");
        let model = dir.path().join("model");
        let checkpoint = mlxport_convert::Request { source: source.join("checkpoint"), ..Default::default() };
        prepare(&checkpoint).expect("a plan").write(&WriteOptions::to(&model)).expect("written");
        let request = Request { modes: MODES.to_vec(), ..Request::new(model, source) };
        let mut session = Session::open(&request).expect("model and fixture");
        let baseline = session.run(&request).expect("a verdict");
        planted(&request, &mut session, &baseline, mutant).expect("an outcome").outcome
    }

    #[test]
    fn what_no_tap_shows_survives_and_what_shows_elsewhere_is_misplaced() {
        let nothing = Mutant::new("nothing", "model", Fault::Weights(Vec::new()));
        assert_eq!(outcome_of(nothing), Outcome::Survived);
        let elsewhere = reversed("elsewhere", "model.sam_model");
        assert_eq!(outcome_of(elsewhere), Outcome::Misplaced);
    }

    #[test]
    fn a_fault_that_is_claimed_to_change_nothing_and_does_is_counted() {
        let claimed = reversed("claimed", "model.layers.0.self_attn");
        assert_eq!(outcome_of(claimed.unless(true, "so it is said")), Outcome::Caught);
        let empty = Mutant::new("empty", "model", Fault::Weights(Vec::new())).unless(true, "nothing is planted");
        assert_eq!(outcome_of(empty), Outcome::Equivalent { reason: "nothing is planted".into() });
    }

    #[test]
    fn a_fault_in_what_was_not_recorded_is_named_by_what_is_around_it() {
        let taps: Vec<TapRecord> = Vec::new();
        assert_eq!(narrowest_recorded("model.sam_model.blocks.0", &taps), "");
        assert!(lies_in("model.projector", ""));
    }

    #[test]
    fn a_module_lies_in_itself_and_in_those_around_it() {
        assert!(lies_in("model.layers.1.mlp.gate", "model.layers.1.mlp"));
        assert!(lies_in("model.layers.1.mlp", "model.layers.1.mlp"));
        assert!(!lies_in("model.layers.10.mlp", "model.layers.1"));
        assert!(!lies_in("model.layers", "model.layers.1"));
    }
}
