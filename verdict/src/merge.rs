//! Several records of one model on one fixture, joined into the verdict that one run would have given.
//!
//! The parts are shards of the isolated mode (all of them, each once) and at most one run of the cumulative mode.

use std::collections::HashSet;

use crate::{
    check::Violation,
    record::Mode,
    run::{NotCompared, Run},
};

/// Joins `parts`, in any order.
///
/// # Errors
/// Everything that keeps them from being parts of one run: other fixtures, models, environments or tolerances, a shard that is
/// missing or there twice, a mode that is there twice, a record that does not follow from its own numbers.
pub fn merge(mut parts: Vec<(String, Run)>) -> Result<Run, Vec<Violation>> {
    let mut found = Vec::new();
    for (name, run) in &parts {
        found.extend(run.check().into_iter().map(|v| Violation { place: format!("{name}: {}", v.place), ..v }));
    }
    let Some((first, rest)) = parts.split_first() else {
        return Err(vec![Violation {
            place: "report".into(),
            message: "expected at least one record, found none".into(),
        }]);
    };
    for (name, run) in rest {
        found.extend(differences(&first.1, run, &first.0).into_iter().map(|message| violation(name, message)));
    }
    found.extend(completeness(&parts));
    if !found.is_empty() {
        return Err(found);
    }
    parts.sort_by_key(|(_, run)| (!run.modes.contains(&Mode::Cumulative), run.shard.map_or(0, |shard| shard.index)));
    Ok(joined(parts.into_iter().map(|(_, run)| run).collect()))
}

fn violation(name: &str, message: String) -> Violation {
    Violation { place: name.to_owned(), message }
}

/// What two parts of one run must have in common and these have not. Threads may differ: machines do.
fn differences(a: &Run, b: &Run, name: &str) -> Vec<String> {
    let points = |run: &Run| (run.summary.points_recorded, run.summary.points_mapped);
    let mut environment = b.environment.clone();
    environment.threads = a.environment.threads;
    let repeats = |run: &Run| run.repeats.as_ref().map_or(1, |repeats| repeats.count);
    let same = [
        ("fixture", a.fixture == b.fixture),
        ("model", a.model == b.model),
        ("environment (version, device, dtype, TF32, system)", a.environment == environment),
        ("k", a.k.to_bits() == b.k.to_bits()),
        ("tool", a.tool == b.tool),
        ("lockfile", a.lock.as_ref().map(|lock| &lock.sha256) == b.lock.as_ref().map(|lock| &lock.sha256)),
        ("number of points", points(a) == points(b)),
        ("number of repeats", repeats(a) == repeats(b)),
    ];
    same.into_iter().filter(|(_, same)| !same).map(|(what, _)| format!("another {what} than in {name}")).collect()
}

/// Whether every mode is there once, and of a sharded one every shard.
fn completeness(parts: &[(String, Run)]) -> Vec<Violation> {
    let mut found = Vec::new();
    for mode in Mode::ALL {
        let of_mode: Vec<&(String, Run)> = parts.iter().filter(|(_, run)| run.modes.contains(&mode)).collect();
        let counts: HashSet<u32> = of_mode.iter().filter_map(|(_, run)| run.shard.map(|shard| shard.count)).collect();
        if of_mode.len() > 1 && of_mode.iter().any(|(_, run)| run.shard.is_none()) {
            let names: Vec<&str> = of_mode.iter().map(|(name, _)| name.as_str()).collect();
            found.push(violation(&names.join(", "), format!("the {mode} mode is there more than once")));
        } else if counts.len() > 1 {
            found.push(violation("shards", format!("cut in different numbers of shards: {counts:?}")));
        } else if let Some(&count) = counts.iter().next() {
            for index in 1..=count {
                let have = of_mode.iter().filter(|(_, run)| run.shard.is_some_and(|s| s.index == index)).count();
                if have != 1 {
                    found.push(violation(
                        &format!("shard {index}/{count}"),
                        format!("expected once, found {have} times"),
                    ));
                }
            }
        }
    }
    found
}

fn joined(parts: Vec<Run>) -> Run {
    let points = parts[0].points();
    let mut parts = parts.into_iter();
    let mut whole = parts.next().expect("checked by the caller");
    for part in parts {
        for mode in part.modes {
            if !whole.modes.contains(&mode) {
                whole.modes.push(mode);
            }
        }
        whole.taps.extend(part.taps);
        whole.not_compared.extend(part.not_compared);
        if let (Some(all), Some(more)) = (&mut whole.lock, &part.lock) {
            all.stale += more.stale;
        }
        if let (Some(all), Some(more)) = (&mut whole.repeats, part.repeats) {
            all.disagreeing.extend(more.disagreeing);
        }
    }
    whole.shard = None;
    whole.not_compared = still_not_compared(&whole);
    whole.concluded(points)
}

/// Entries that hold for the whole: not those of another shard's taps, nor of a mode that another part ran, and each once.
fn still_not_compared(whole: &Run) -> Vec<NotCompared> {
    let compared: HashSet<_> = whole.taps.iter().map(|tap| (tap.id(), tap.mode)).collect();
    let mut seen = HashSet::new();
    let holds = |entry: &&NotCompared| match entry.mode {
        Some(mode) => !compared.contains(&(entry.id(), mode)),
        // Said where the cumulative mode did not run.
        None => !compared.contains(&(entry.id(), Mode::Cumulative)),
    };
    let first = |entry: &&NotCompared| seen.insert((entry.id(), entry.mode));
    whole.not_compared.iter().filter(holds).filter(first).cloned().collect()
}
