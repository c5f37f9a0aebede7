//! Amplification: a module's own error ÷ the error that it inherited.
//!
//! Own: the error of its output when it is fed the recorded input (isolated). Inherited: the error of its input in the
//! cumulative run, the largest where a module takes several. Far above 1, the module adds error; far below, it passes on what
//! came before it. Undefined (none) where either run lacks the tap, where a value is not finite, or where nothing is inherited.

use std::collections::HashMap;

use crate::record::{Mode, TapId, TapRecord};

/// Fills in the amplification of every output tap (both modes' records) from the module's own `in`, `in1`, … taps.
pub fn fill_amplification(taps: &mut [TapRecord]) {
    let mut inputs: HashMap<(String, u32), Vec<TapId>> = HashMap::new();
    for tap in taps.iter().filter(|tap| tap.mode == Mode::Cumulative && tap.kind.starts_with("in")) {
        inputs.entry((tap.point.clone(), tap.call)).or_default().push(tap.id());
    }
    fill_amplification_with(taps, |output| {
        inputs.get(&(output.point.clone(), output.call)).cloned().unwrap_or_default()
    });
}

/// The same, where the caller knows which cumulative taps hold a module's inputs (the output of the module before, say).
pub fn fill_amplification_with(taps: &mut [TapRecord], inputs_of: impl Fn(&TapId) -> Vec<TapId>) {
    let errors = |mode| -> HashMap<TapId, f64> {
        let taps = taps.iter().filter(|tap| tap.mode == mode);
        taps.filter_map(|tap| Some((tap.id(), tap.error()?))).collect()
    };
    let (cumulative, isolated) = (errors(Mode::Cumulative), errors(Mode::Isolated));
    for tap in taps.iter_mut().filter(|tap| tap.kind == "out") {
        let id = tap.id();
        let inherited: Option<Vec<f64>> = inputs_of(&id).iter().map(|input| cumulative.get(input).copied()).collect();
        tap.amplification = isolated.get(&id).zip(inherited).and_then(|(own, inherited)| quotient(*own, &inherited));
    }
}

fn quotient(own: f64, inherited: &[f64]) -> Option<f64> {
    if !own.is_finite() || inherited.iter().any(|error| !error.is_finite()) {
        return None;
    }
    let largest = inherited.iter().copied().fold(0.0, f64::max);
    (largest > 0.0).then(|| own / largest)
}
