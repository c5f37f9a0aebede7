//! The tuned mode: the model as `ocr` and `serve` run it, and what leaves it: the decoder's input with its image rows, the prompt's logits,
//! and, where the recording has them, decoding steps with the cache.
//!
//! Nobody listens but to the routers, whose near ties are decided as in the other modes: what is compared is what users run.

use mlx_rs::Array;
use mlxport_fixtures::{Fixture, Kind as PointKind, Point};
use mlxport_model::{
    Model, Pass, Prompt,
    contract::{Kind, Listener, Operation, Steps},
};
use mlxport_verdict::{Failure, Floors, Mode, NotCompared, Precision, TapRecord, ulp_floor};

use crate::{
    decode, error::Result, floors::NOT_MEASURED, host, inputs, judge::Judge, routers::Routers, select::Selection,
};

/// Runs the model once over the prompt, and once along every recorded decoding run.
///
/// # Errors
/// When the fixture cannot be read; a model that cannot be run is a failed record.
pub fn run(
    model: &dyn Model,
    fixture: &Fixture,
    selection: &Selection,
    judge: &mut Judge,
    steps: &dyn Steps,
) -> Result<(Vec<TapRecord>, Vec<NotCompared>)> {
    let prompt = inputs::prompt(model, fixture)?;
    let (mut records, mut not_compared) = (Vec::new(), Vec::new());
    let left = left(model, &prompt, judge, steps);
    for (place, point) in points(model, fixture).into_iter().enumerate() {
        let Some(point) = point.filter(|point| selection.holds(&point.point)) else { continue };
        if !judge.measured(point, Mode::Tuned) {
            not_compared.push(skipped(&point.point, point.call, &point.kind.to_string(), NOT_MEASURED));
            continue;
        }
        records.push(match &left {
            Ok(left) => judge.judge(point, Mode::Tuned, &left[place], None)?,
            Err(error) => judge.failed(point, Mode::Tuned, Failure::RunFailed { message: error.to_string() }),
        });
    }
    for (name, run) in decode::runs(fixture.dir())?.into_iter().filter(|(_, run)| run.logits && !run.tokens.is_empty())
    {
        let point = format!("decode.{name}");
        if !selection.holds(&point) {
        } else if judge.is_exact() {
            records.extend(decoded(model, fixture, (&prompt, &run.tokens), (&name, point), judge, steps)?);
        } else {
            not_compared.push(skipped(&point, 0, "out", NOT_MEASURED));
        }
    }
    Ok((records, not_compared))
}

fn skipped(point: &str, call: u32, kind: &str, reason: &str) -> NotCompared {
    let (point, kind, reason) = (point.to_owned(), kind.to_owned(), reason.to_owned());
    NotCompared { point, call, kind, mode: Some(Mode::Tuned), reason }
}

/// Where what leaves the encoders, and the whole, was recorded.
fn points<'a>(model: &dyn Model, fixture: &'a Fixture) -> [Option<&'a Point>; 2] {
    let logits = fixture.point("logits", 0, PointKind::Out).or_else(|| fixture.point("lm_head", 0, PointKind::Out));
    [fixture.point(model.facts().junction.point, 0, PointKind::In(0)), logits]
}

/// The decoder's input \[1, T, hidden\] and the logits \[1, T, vocab\] of a prompt, read into a cache as the engine reads it.
fn left(model: &dyn Model, prompt: &Prompt, judge: &mut Judge, steps: &dyn Steps) -> mlxport_model::Result<[Array; 2]> {
    let mut listener = JudgingListener { routers: Routers::new(Mode::Tuned, judge.routing()), judge };
    let pass = Pass::with_listener(&mut listener, steps);
    let embeddings = model.inputs_embeds(prompt, &[], &pass)?;
    let hidden = model.hidden(&embeddings, Some(&mut model.new_cache()), &pass)?;
    let logits = model.head(&hidden, &pass)?;
    Ok([embeddings, logits])
}

/// Every recorded token in turn, with the cache: the logits of each step.
fn decoded(
    model: &dyn Model,
    fixture: &Fixture,
    (prompt, tokens): (&Prompt, &[i32]),
    (run, point): (&str, String),
    judge: &mut Judge,
    steps: &dyn Steps,
) -> Result<Option<TapRecord>> {
    let vocabulary = model.facts().vocabulary as usize;
    let Some(recorded) = decode::recorded_logits(fixture.dir(), run, tokens.len(), vocabulary)? else {
        return Ok(None);
    };
    let pass = Pass::by(steps);
    let mut cache = model.new_cache();
    let mut found = host::floats(&model.prefill(prompt, &[], &mut cache, None, &pass)?)?;
    for token in &tokens[..tokens.len() - 1] {
        let ids = Array::from_slice(&[*token], &[1]);
        found.extend(host::floats(&model.decode_each(&ids, &mut cache, &pass)?)?);
    }
    let runtime = judge.runtime_floor(Operation::Product { depth: model.facts().hidden })?;
    let square = |x: &f32| f64::from(*x) * f64::from(*x);
    let rms = (recorded.iter().map(square).sum::<f64>() / recorded.len().max(1) as f64).sqrt();
    let floors = Floors { torch: decode::torch_floor(fixture), runtime, ulp: ulp_floor(rms, Precision::F32) };
    Ok(Some(judge.steps(point, &[tokens.len(), vocabulary], &recorded, &found, floors)))
}

/// Hears the routers, which take the recorded choices where they are to take those.
struct JudgingListener<'a, 'j> {
    routers: Routers,
    judge: &'a mut Judge<'j>,
}

impl Listener for JudgingListener<'_, '_> {
    fn tap(&mut self, path: &str, kind: Kind, value: Array) -> mlxport_model::Result<()> {
        self.routers.observe(path, kind, &value);
        Ok(())
    }

    fn routes(&mut self, path: &str, own: &Array) -> mlxport_model::Result<Option<Array>> {
        self.routers.taken(path, own, self.judge)
    }

    fn hears_routers_only(&self) -> bool {
        true
    }

    fn wants(&self, path: &str) -> bool {
        self.routers.knows(path)
    }
}
