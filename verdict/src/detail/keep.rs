//! Which taps keep their [`Detail`](super::Detail): enough to look into a failure, few enough to keep a record small.

use std::collections::HashMap;

use crate::record::{Mode, TapRecord};
use crate::tolerance::Tolerance;

/// Taps of a mode beyond their measured tolerance, the first in execution order.
const FIRST_FAILURES: usize = 12;
/// The worst taps of each part of the model and mode.
const WORST: usize = 3;

/// The error over the *measured* tolerance, NaN as the largest; none where no floats were compared. What a lockfile allows does
/// not count: it is applied to whole runs and to shards at different times.
fn measured_ratio(tap: &TapRecord) -> Option<f64> {
    let (metrics, floors, tolerance) = (tap.metrics.as_ref()?, tap.floors.as_ref()?, tap.tolerance.as_ref()?);
    let ratio = crate::record::ratio(metrics.rel_rms, Tolerance::new(floors, tolerance.k).value);
    Some(if ratio.is_nan() { f64::INFINITY } else { ratio })
}

/// The part of the model: the first two names of the path, as far as no number is among them: `model.sam_model`, `layers`.
fn part(point: &str) -> &str {
    let is_number = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
    let mut end = 0;
    for name in point.split('.').take(2).take_while(|name| !is_number(name)) {
        end += name.len() + usize::from(end > 0);
    }
    &point[..end]
}

/// Decides while a run goes on, tap by tap, whether a detail may be kept at the end.
#[derive(Debug, Default)]
pub struct Keeper {
    failures: HashMap<Mode, usize>,
    /// The largest ratios so far, largest first.
    worst: HashMap<(Mode, String), Vec<f64>>,
}

impl Keeper {
    /// Whether the detail of `tap` is worth making: the taps of a run must be shown in execution order within a mode and part.
    pub fn wants(&mut self, tap: &TapRecord) -> bool {
        let Some(ratio) = measured_ratio(tap) else { return false };
        let worst = self.worst.entry((tap.mode, part(&tap.point).to_owned())).or_default();
        // As good as the last one still counts: `keep` decides between equals.
        let is_worst = worst.len() < WORST || ratio >= worst[WORST - 1];
        if is_worst {
            let place = worst.partition_point(|other| *other >= ratio);
            worst.insert(place, ratio);
            worst.truncate(WORST);
        }
        let failures = self.failures.entry(tap.mode).or_default();
        let is_early = ratio > 1.0 && *failures < FIRST_FAILURES;
        *failures += usize::from(ratio > 1.0);
        is_worst || is_early
    }
}

/// Takes the details away that are not worth keeping, once all taps are there.
pub fn keep(taps: &mut [TapRecord]) {
    let mut kept = vec![false; taps.len()];
    let mut failures: HashMap<Mode, usize> = HashMap::new();
    let mut parts: HashMap<(Mode, &str), Vec<(f64, usize)>> = HashMap::new();
    for (at, tap) in taps.iter().enumerate() {
        let Some(ratio) = measured_ratio(tap) else { continue };
        parts.entry((tap.mode, part(&tap.point))).or_default().push((ratio, at));
        if ratio > 1.0 {
            let failures = failures.entry(tap.mode).or_default();
            kept[at] = *failures < FIRST_FAILURES;
            *failures += 1;
        }
    }
    for (_, mut ranked) in parts {
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        ranked.iter().take(WORST).for_each(|(_, at)| kept[*at] = true);
    }
    for (tap, kept) in taps.iter_mut().zip(kept) {
        if !kept {
            tap.detail = None;
        }
    }
}
