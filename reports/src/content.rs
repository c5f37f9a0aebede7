//! What every format tells: counts, picks and their order. Formats only lay it out.

use mlxport_verdict::{Mode, Run, TapRecord, TapRef, Verdict};

use crate::system::{ALL, System};

/// One line of the table by system.
pub(crate) struct SystemRow<'a> {
    pub system: System,
    pub mode: Mode,
    pub taps: usize,
    pub failed: usize,
    /// The tap to look at: the largest ratio, or a failure that has no ratio.
    pub worst: Option<&'a TapRecord>,
    /// The largest relative RMS error of any of them; NaN is the largest.
    pub largest_error: Option<f64>,
}

/// The table by system: one row per system and mode that has taps.
pub(crate) fn system_rows(run: &Run) -> Vec<SystemRow<'_>> {
    let mut rows = Vec::new();
    for system in ALL {
        for mode in Mode::ALL {
            let taps: Vec<&TapRecord> =
                run.taps.iter().filter(|tap| tap.mode == mode && System::of(&tap.point) == system).collect();
            if taps.is_empty() {
                continue;
            }
            rows.push(SystemRow {
                system,
                mode,
                taps: taps.len(),
                failed: taps.iter().filter(|tap| !tap.passed()).count(),
                worst: most_telling(&taps),
                largest_error: taps.iter().filter_map(|tap| tap.error()).reduce(larger),
            });
        }
    }
    rows
}

fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || a > b { a } else { b }
}

fn most_telling<'a>(taps: &[&'a TapRecord]) -> Option<&'a TapRecord> {
    let unmeasured = taps.iter().find(|tap| !tap.passed() && tap.ratio.is_none());
    let worst = mlxport_verdict::worst(taps.iter().copied(), 1).into_iter().next();
    match (unmeasured, worst) {
        // A measured failure says more; a measured pass says less.
        (Some(unmeasured), Some(worst)) if worst.passed() => Some(unmeasured),
        (Some(unmeasured), None) => Some(unmeasured),
        (_, worst) => worst,
    }
}

/// Points that were not compared, counted by mode and reason, in order of first appearance.
pub(crate) struct Reason<'a> {
    pub mode: Option<Mode>,
    pub reason: &'a str,
    pub entries: Vec<&'a mlxport_verdict::NotCompared>,
}

/// Groups the points that were not compared.
pub(crate) fn reasons(run: &Run) -> Vec<Reason<'_>> {
    let mut places = std::collections::HashMap::new();
    let mut reasons: Vec<Reason<'_>> = Vec::new();
    for entry in &run.not_compared {
        let place = *places.entry((entry.mode, entry.reason.as_str())).or_insert(reasons.len());
        if place == reasons.len() {
            let (mode, reason) = (entry.mode, entry.reason.as_str());
            reasons.push(Reason { mode, reason, entries: Vec::new() });
        }
        reasons[place].entries.push(entry);
    }
    reasons
}

/// Tokens whose experts differ by a tolerated near tie: a pass, but one to know of.
pub(crate) fn near_ties(run: &Run) -> Option<String> {
    let count: usize = run.taps.iter().filter_map(|tap| tap.choices.as_ref()).map(|choices| choices.near_ties).sum();
    let things = if count == 1 { "token's choice was" } else { "tokens' choices were" };
    (count > 0).then(|| format!("{count} {things} a near tie of the router, within its floor"))
}

/// The whole record of a tap that the summary names.
pub(crate) fn tap<'a>(run: &'a Run, named: &TapRef) -> Option<&'a TapRecord> {
    run.taps.iter().find(|tap| tap.mode == named.mode && tap.id() == named.id())
}

/// How many points only the recording under judgement has, and the first few.
pub(crate) fn only_in_candidate(run: &Run) -> Option<String> {
    let extra = &run.candidate.as_ref()?.only_there;
    let first: Vec<String> = extra.iter().take(3).map(|id| crate::text_format::clean(&id.to_string())).collect();
    let (count, points) = (extra.len(), if extra.len() == 1 { "point is" } else { "points are" });
    let more = if count > first.len() { ", …" } else { "" };
    (count > 0).then(|| format!("{count} {points} only in the candidate: {}{more}", first.join(", ")))
}

/// The verdict as one word.
pub(crate) fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "PASS",
        Verdict::Fail => "FAIL",
        Verdict::NothingCompared => "NOTHING COMPARED",
        Verdict::Incomplete => "INCOMPLETE",
        Verdict::Nondeterministic => "NONDETERMINISTIC",
    }
}

/// The verdict's reason in one sentence, with how much it rests on where that is known.
pub(crate) fn verdict_sentence(run: &Run) -> String {
    match run.candidate.as_ref().and_then(|candidate| candidate.coverage.as_ref()) {
        Some(coverage) => format!("{}; {}", reason_sentence(run), coverage.in_words()),
        None => reason_sentence(run),
    }
}

fn reason_sentence(run: &Run) -> String {
    let summary = &run.summary;
    let modes = [&summary.cumulative, &summary.isolated, &summary.tuned];
    let (all, failed): (usize, usize) =
        (modes.iter().map(|mode| mode.taps).sum(), modes.iter().map(|mode| mode.failed).sum());
    let lost = summary.points_unaccounted;
    match summary.verdict {
        Verdict::Pass => {
            format!("{} {all} comparisons within {}{}", share(run), allowed(run), repeated(run))
        }
        Verdict::Fail if failed == 0 => {
            format!("{lost} recorded points are neither compared nor listed as not compared")
        }
        Verdict::Fail => format!("{failed} of {all} comparisons failed"),
        Verdict::NothingCompared => "a mode that was asked for compared nothing".to_owned(),
        Verdict::Incomplete => format!("{all} comparisons passed, but not everything was compared"),
        Verdict::Nondeterministic => {
            let repeats = run.repeats.as_ref();
            let (taps, count) = repeats.map_or((0, 1), |repeats| (repeats.disagreeing.len(), repeats.count));
            format!("{taps} comparisons were not the same in {count} runs; {failed} of {all} failed in the run shown")
        }
    }
}

/// What the whole pass's logits mean as distributions, where all of them were compared.
pub(crate) fn last_logits(run: &Run) -> Option<String> {
    let whole = run.taps.iter().rev().filter(|tap| tap.mode == Mode::Cumulative);
    let logits = whole.filter_map(|tap| tap.logits.as_ref()).next()?;
    Some(format!(
        "logits: KL {} nats (worst {}); the same first token in {} of {} rows, the same five in {}",
        crate::text_format::scientific(logits.kl_mean),
        crate::text_format::scientific(logits.kl_max),
        logits.top1_rows,
        logits.rows,
        logits.top5_rows
    ))
}

/// Where tolerances come from.
pub(crate) fn tolerance_rule(run: &Run) -> String {
    let measured = format!("{} × the largest measured floor", run.k);
    match &run.lock {
        None => measured,
        Some(lock) if lock.stale == 0 => format!("locked ({})", crate::text_format::short_hash(&lock.sha256)),
        Some(lock) => format!(
            "locked ({}); {} locked tolerances are more than {} × what {measured} asks for: stale slack",
            crate::text_format::short_hash(&lock.sha256),
            lock.stale,
            mlxport_verdict::lock::STALE
        ),
    }
}

/// `all`, or which part of all.
fn share(run: &Run) -> String {
    run.shard.map_or_else(|| "all".to_owned(), |shard| format!("shard {}/{}:", shard.index, shard.count))
}

fn allowed(run: &Run) -> String {
    if run.lock.is_some() { "their locked tolerances".to_owned() } else { format!("{} × the measured floor", run.k) }
}

fn repeated(run: &Run) -> String {
    run.repeats.as_ref().map_or_else(String::new, |repeats| format!(", the same in {} runs", repeats.count))
}

/// Where the error comes from, in one sentence, once there is a divergence.
pub(crate) fn origin(run: &Run) -> Option<String> {
    let summary = &run.summary;
    summary.first_divergence.as_ref()?;
    let ran_isolated = run.modes.contains(&Mode::Isolated) && summary.isolated.taps > 0;
    if run.candidate.is_some() && !ran_isolated {
        let text = "two recordings tell where the error appears and grows, not whether a module alone would be right";
        return Some(text.to_owned());
    }
    Some(match &summary.first_isolated_failure {
        Some(_) if summary.isolated.failed > 1 => {
            format!("{} taps fail on their own recorded inputs; this is the first", summary.isolated.failed)
        }
        Some(_) => "the only tap that fails on its own recorded input".to_owned(),
        None if ran_isolated => "no module fails on its own recorded input: the error arises between modules \
                                 (wiring, order, assembly) or builds up within the tolerance of each"
            .to_owned(),
        None => "not known: the isolated mode did not run".to_owned(),
    })
}

/// The commands that make this record again, as far as it says how it was made: paths stand for themselves, in capitals. Where
/// something failed, the last one runs that module alone.
pub(crate) fn reproduce(run: &Run) -> Vec<String> {
    if run.candidate.is_some() {
        return vec!["mlxport compare REFERENCE CANDIDATE".to_owned()];
    }
    let e = &run.environment;
    let layout = crate::text_format::shell(&run.model.layout);
    let mode = match run.modes[..] {
        [one] => one.to_string(),
        _ => "both".to_owned(),
    };
    // Of `bf16+affine-4-64` the first part; how weights are packed is the model's.
    let dtype = e.dtype.split('+').next().unwrap_or_default();
    let mut command = format!(
        "mlxport parity --model MODEL --fixture {} --mode {mode} --device {} --dtype {}",
        crate::text_format::shell(&run.fixture.name),
        crate::text_format::shell(&e.device),
        crate::text_format::shell(dtype)
    );
    let alone = command.clone();
    if let Some(shard) = run.shard {
        command.push_str(&format!(" --shard {}/{}", shard.index, shard.count));
    }
    if run.lock.is_some() {
        command.push_str(" --tolerances LOCKFILE");
    }
    if let Some(repeats) = &run.repeats {
        command.push_str(&format!(" --repeat {}", repeats.count));
    }
    if run.not_compared.iter().any(|entry| entry.reason == "not selected") {
        command.push_str(" --select GLOB");
    }
    let mut commands = vec![format!("mlxport convert RELEASE MODEL --layout {layout}"), command];
    let summary = &run.summary;
    let first = summary.first_isolated_failure.as_ref().or(summary.first_divergence.as_ref());
    commands.extend(first.map(|tap| format!("{alone} --select {}", crate::text_format::shell(&tap.point))));
    commands
}

/// The cause that explains the error best, of those that were tried on the tensors of the first failure.
pub(crate) fn likely_cause(run: &Run) -> Option<String> {
    let summary = &run.summary;
    let named = [&summary.first_isolated_failure, &summary.first_divergence];
    let tap = named.into_iter().flatten().filter_map(|named| tap(run, named)).find(|tap| !tap.hints.is_empty())?;
    Some(format!("Likely cause: {}.", crate::text_format::clean(&tap.hints[0].cause)))
}

/// What to do next, one line each.
pub(crate) fn next_steps(run: &Run) -> Vec<String> {
    let summary = &run.summary;
    match summary.verdict {
        Verdict::Pass => vec!["Nothing: at every compared point the port computes what PyTorch recorded.".to_owned()],
        Verdict::NothingCompared if run.candidate.is_some() => {
            vec!["Check the names: --map says how the candidate's points are called in the reference.".to_owned()]
        }
        Verdict::Incomplete => incomplete_steps(run),
        Verdict::NothingCompared => vec![
            "Check what was selected (--select, --shard, --mode), and that the fixture has points the port maps."
                .to_owned(),
        ],
        Verdict::Nondeterministic => {
            let first = run.repeats.as_ref().and_then(|repeats| repeats.disagreeing.first());
            let at = first.map(|tap| crate::text_format::clean(&tap.id.to_string())).unwrap_or_default();
            vec![
                format!("Find what changes from run to run: {at} is the first tap that does."),
                "Until then no verdict holds: a failure that another run does not show is a failure.".to_owned(),
            ]
        }
        Verdict::Fail => failing_steps(run),
    }
}

/// What stands between this run and a pass: the first outputs that nothing covers, with their reasons.
fn incomplete_steps(run: &Run) -> Vec<String> {
    let coverage = run.candidate.as_ref().and_then(|candidate| candidate.coverage.as_ref());
    let missing = coverage.into_iter().flat_map(|coverage| &coverage.missing).filter(|one| one.allowed.is_none());
    let mut steps: Vec<String> = missing
        .take(5)
        .map(|one| {
            format!(
                "Not compared: {}: {}.",
                crate::text_format::clean(&one.point),
                crate::text_format::clean(&one.reason)
            )
        })
        .collect();
    if coverage.is_some_and(|coverage| !coverage.logits) {
        steps.push("Not compared: the logits.".to_owned());
    }
    steps.push("Map it, or allow it by name with a reason: --allow-unmapped 'GLOB=REASON'.".to_owned());
    steps
}

fn failing_steps(run: &Run) -> Vec<String> {
    let summary = &run.summary;
    let mut steps = Vec::new();
    if summary.points_unaccounted > 0 {
        steps.push("Account for every recorded point: a point that is lost silently proves nothing.".to_owned());
    }
    match (&summary.first_isolated_failure, &summary.first_divergence) {
        (Some(tap), _) => steps.push(format!(
            "Look at {} first: given PyTorch's own input it is off by itself.",
            crate::text_format::clean(&tap.point)
        )),
        (None, Some(tap)) if run.candidate.is_some() => steps.push(format!(
            "Look at {} first: everything before it is within its tolerance.",
            crate::text_format::clean(&tap.point)
        )),
        (None, Some(tap)) if summary.isolated.taps == 0 => steps.push(format!(
            "Run again with --mode both: it tells whether {} adds the error or inherits it.",
            crate::text_format::clean(&tap.point)
        )),
        (None, Some(tap)) => steps.push(format!(
            "Look at what feeds {}: every module passes alone, so suspect wiring, order or assembly before it.",
            crate::text_format::clean(&tap.point)
        )),
        (None, None) => steps.extend(summary.first_tuned_failure.as_ref().map(|tap| {
            let point = crate::text_format::clean(&tap.point);
            format!("Look at what is done together or fused before {point}: the same steps one after another pass.")
        })),
    }
    steps.extend(likely_cause(run));
    steps.push("Fix the first one only, then run again: later taps inherit its error.".to_owned());
    steps
}
