//! What a tap's section shows, as data that the page's script draws when the tap is asked for.

use mlxport_verdict::{Detail, Run, Stats, TapRecord};
use serde_json::{Value, json};

use crate::system::System;
use crate::text_format::{clean, numbers, scientific, tap_name};

/// One object per tap, in the record's order. No `<` is left in it, so nothing in it can end the element that holds it.
pub(super) fn data(run: &Run) -> String {
    let taps: Vec<Value> = run.taps.iter().map(tap).collect();
    Value::from(taps).to_string().replace('<', "\\u003c").replace(['\u{2028}', '\u{2029}'], " ")
}

fn tap(tap: &TapRecord) -> Value {
    let mut object = json!({
        "name": tap_name(tap),
        "mode": tap.mode.to_string(),
        "system": System::of(&tap.point).to_string(),
        "failed": !tap.passed(),
        "lines": numbers(tap),
        "facts": facts(tap),
    });
    if let Some(detail) = &tap.detail {
        object["stats"] = statistics(detail);
        object["histogram"] = histogram(tap, detail);
        object["heatmap"] = heatmap(tap, detail);
    }
    object
}

/// Everything measured at a tap, as name and value.
fn facts(tap: &TapRecord) -> Vec<(&'static str, String)> {
    let mut facts = vec![
        ("shape", format!("{:?}", tap.shape)),
        ("dtype", clean(&tap.dtype)),
        ("status", if tap.passed() { "pass" } else { "fail" }.to_owned()),
    ];
    facts.extend(tap.sampled.map(|count| ("elements sampled", count.to_string())));
    if let Some(m) = &tap.metrics {
        facts.extend([
            ("elements compared", m.numel.to_string()),
            ("reference RMS", scientific(m.ref_rms)),
            ("error RMS", scientific(m.error_rms)),
            ("relative RMS", scientific(m.rel_rms)),
            ("worst element", format!("{:?}: off by {}", m.max_abs.coordinate, scientific(m.max_abs.value))),
            (
                "not finite",
                format!("{} reference, {} candidate", m.finite.reference_nonfinite, m.finite.candidate_nonfinite),
            ),
        ]);
        if !m.worst_row.row.is_empty() {
            let row = format!("{:?}: relative L2 {}", m.worst_row.row, scientific(m.worst_row.rel_l2));
            facts.push(("worst row", row));
        }
    }
    if let Some(f) = &tap.floors {
        facts.push(("floor: PyTorch", scientific(f.torch)));
        facts.push(("floor: this runtime", scientific(f.runtime)));
        facts.push(("floor: one ulp", scientific(f.ulp)));
    }
    facts.extend(tap.tolerance.as_ref().map(|t| ("tolerance", scientific(t.value))));
    facts.extend(tap.locked.map(|locked| ("locked tolerance", scientific(locked))));
    facts
}

/// Rows of a table: what, reference, candidate.
fn statistics(detail: &Detail) -> Value {
    let number = |value: f64| if value.is_finite() { format!("{value:.4e}") } else { scientific(value) };
    let row =
        |what: &str, of: fn(&Stats) -> f64| json!([what, number(of(&detail.reference)), number(of(&detail.candidate))]);
    let count = |what: &str, of: fn(&Stats) -> usize| {
        json!([what, of(&detail.reference).to_string(), of(&detail.candidate).to_string()])
    };
    json!([
        row("smallest", |s| s.min),
        row("largest", |s| s.max),
        row("mean", |s| s.mean),
        row("standard deviation", |s| s.std),
        count("zeros", |s| s.zeros),
        count("not finite", |s| s.nonfinite),
    ])
}

/// The bins, where the first begins (log10), and the tolerance on the same axis.
fn histogram(tap: &TapRecord, detail: &Detail) -> Value {
    let histogram = &detail.histogram;
    let finite = |value: f64| value.is_finite().then_some(value);
    let allowed = tap.tolerance.and_then(|tolerance| finite(tolerance.value.log10()));
    json!({
        "from": f64::from(histogram.first_half_decade) / f64::from(mlxport_verdict::detail::BINS_PER_DECADE),
        "step": 1.0 / f64::from(mlxport_verdict::detail::BINS_PER_DECADE),
        "counts": histogram.counts,
        "exact": histogram.exact,
        "unmeasured": histogram.unmeasured,
        "tolerance": allowed,
    })
}

fn heatmap(tap: &TapRecord, detail: &Detail) -> Value {
    let Some((heatmap, levels)) = detail.heatmap.as_ref().and_then(|map| Some((map, map.levels()?))) else {
        return Value::Null;
    };
    let axis = |axis: &usize| json!({ "axis": axis, "length": tap.shape.get(*axis) });
    let worst = tap.metrics.as_ref().map(|metrics| format!("{:?}", metrics.max_abs.coordinate));
    json!({
        "axes": heatmap.axes.iter().map(axis).collect::<Vec<_>>(),
        "levels": levels,
        "max": scientific(heatmap.max),
        "worst": heatmap.worst,
        "element": worst,
    })
}
