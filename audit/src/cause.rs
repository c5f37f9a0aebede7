//! From counts to a cause, where the release's tensor is the right one and its values were changed.

use crate::report::Severity;
use crate::stats::{Stats, Way};
use crate::target::{Format, Target};
use safetensors::Dtype;

/// What was done to a tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Cause {
    /// The finding's kind.
    pub kind: &'static str,
    /// How bad.
    pub severity: Severity,
    /// One sentence.
    pub detail: String,
    /// What makes it one mistake with others.
    pub group: String,
}

impl Cause {
    /// A cause whose sentence is the same wherever it happens.
    pub fn new(kind: &'static str, severity: Severity, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self { kind, severity, group: detail.clone(), detail }
    }

    /// One with numbers of this tensor in its sentence; `group` says what it has in common with others.
    pub fn of(kind: &'static str, severity: Severity, detail: String, group: &str) -> Self {
        Self { kind, severity, detail, group: group.to_owned() }
    }
}

/// How an error of packed values over MLX's own may be, and still be a calibrated method's.
pub const CALIBRATED: f64 = 1.8;

/// A cause that the counts of one pass show; `None` where content has to be looked for elsewhere.
pub fn cause(target: &Target, stats: &Stats) -> Option<Cause> {
    if stats.not_finite > 0 && stats.overflowed < stats.not_finite {
        let detail = format!(
            "{} of {} values are NaN or infinite, and the release's are not (the first differing at {})",
            stats.not_finite,
            stats.n,
            stats.first.unwrap_or(0)
        );
        return Some(Cause::of("not-finite", Severity::Fault, detail, ""));
    }
    if stats.zeros.0 == stats.n && stats.zeros.1 < stats.n {
        return Some(Cause::new("zeroed", Severity::Fault, "all values are zero, and the release's are not"));
    }
    if let Some(value) = stats.constant.filter(|_| stats.n > 1 && stats.ss > 0.0 && stats.relative_error() > 1e-3) {
        return Some(Cause::new(
            "constant",
            Severity::Fault,
            format!("all values are {value}, and the release's are not"),
        ));
    }
    match target.format {
        Format::Plain(dtype) => plain(dtype, stats),
        Format::Packed { .. } => packed(stats),
    }
}

fn plain(dtype: Dtype, stats: &Stats) -> Option<Cause> {
    if stats.overflowed > 0 && stats.differing <= stats.overflowed {
        let detail = format!("{} values are too large for {dtype:?} and became infinite or were cut", stats.overflowed);
        return Some(Cause::of("overflow", Severity::Fault, detail, ""));
    }
    few(stats).or_else(|| rounding(dtype, stats)).or_else(|| arithmetic(dtype, stats))
}

/// One value, or very few, in a large tensor.
fn few(stats: &Stats) -> Option<Cause> {
    let few = (stats.n / 2000).clamp(1, 16);
    if stats.n < 16 || stats.differing > few {
        return None;
    }
    let (right, is) = stats.example?;
    let at = stats.first.unwrap_or(0);
    let bit = (stats.differing == 1 && stats.flipped.count_ones() == 1)
        .then(|| format!(": bit {} is flipped", stats.flipped.trailing_zeros()));
    let detail = format!(
        "{} of {} values differ, the first at {at}: {is} instead of {right}{}",
        stats.differing,
        stats.n,
        bit.unwrap_or_default()
    );
    Some(Cause::of("altered", Severity::Fault, detail, "few"))
}

fn rounding(dtype: Dtype, stats: &Stats) -> Option<Cause> {
    let minor = |detail: &str| Some(Cause::new("rounding", Severity::Minor, detail));
    if stats.all(Way::Truncated) {
        return minor("digits were cut off instead of rounded to the nearest even");
    }
    if dtype != Dtype::F16 && stats.all(Way::ThroughF16) {
        return minor("values were rounded twice: through float16");
    }
    if dtype != Dtype::BF16 && stats.all(Way::ThroughBf16) {
        return minor("values have been through bfloat16 and lost digits that this dtype would keep");
    }
    if stats.all(Way::Flushed) {
        return minor("numbers too small to be normal ones in this dtype became zero");
    }
    if stats.all(Way::Clamped) {
        return Some(Cause::new(
            "overflow",
            Severity::Fault,
            "values too large for this dtype were cut to its largest",
        ));
    }
    if stats.neighbours == stats.differing && dtype != Dtype::F32 {
        return minor("values were not rounded to the nearest even: each is the right one or its neighbour");
    }
    None
}

fn arithmetic(dtype: Dtype, stats: &Stats) -> Option<Cause> {
    for (n, word) in [(1, "one more"), (2, "two more"), (-1, "one less"), (-2, "two less")] {
        if stats.all(Way::Plus(n)) {
            let twice = if n == 2 { " (added twice)" } else { "" };
            return Some(Cause::new(
                "shifted",
                Severity::Fault,
                format!("every value is {word} than the release's{twice}"),
            ));
        }
    }
    if stats.all(Way::Negated) {
        return Some(Cause::new("negated", Severity::Fault, "every value has the other sign"));
    }
    if stats.all(Way::Magnitude) {
        return Some(Cause::new("negated", Severity::Fault, "every value has lost its sign"));
    }
    let unit = match dtype {
        Dtype::F16 => 4e-4,
        Dtype::BF16 => 3e-3,
        _ => 1e-6,
    };
    // A shift may leave values much smaller than those that were rounded before it.
    let rms = (stats.mm.max(stats.ss) / stats.n.max(1) as f64).sqrt();
    let (mean, about) = stats.offset();
    if stats.n >= 8 && mean.abs() > 8.0 * about && about < 2.0 * unit * rms && stats.correlation() > 0.9 {
        let detail = format!("every value is {mean:+.4} off the release's");
        return Some(Cause::of("shifted", Severity::Fault, detail, &format!("{mean:.2}")));
    }
    let (factor, left) = stats.factor();
    if stats.n >= 8 && left < unit && (factor - 1.0).abs() > unit / 10.0 {
        let detail = format!("every value is the release's times {factor:.5}");
        return Some(Cause::of("scaled", Severity::Fault, detail, &format!("{factor:.3}")));
    }
    None
}

fn packed(stats: &Stats) -> Option<Cause> {
    for (same, name) in stats.packed_from.into_iter().zip(["bfloat16", "float16"]) {
        if same {
            let detail = format!("packed from values that were rounded to {name} first");
            return Some(Cause::new("quantized-from", Severity::Note, detail));
        }
    }
    let ratio = stats.ratio();
    let (factor, _) = stats.factor();
    let left =
        (stats.mm - stats.sm * stats.sm / stats.ss.max(f64::MIN_POSITIVE)).max(0.0) / (factor * factor).max(1e-30);
    if (factor - 1.0).abs() > 0.006 && left < 1.44 * stats.ideal && stats.error > 1.1 * left && factor.abs() > 1e-3 {
        let detail = format!("every value is the release's times {factor:.4}");
        return Some(Cause::of("scaled", Severity::Fault, detail, &format!("{factor:.2}")));
    }
    if ratio <= CALIBRATED && stats.bad_groups * 50 <= stats.groups {
        return Some(otherwise(stats, ratio));
    }
    if stats.bad_groups > 0 && stats.bad_groups * 10 <= stats.groups {
        let detail = format!(
            "{} of {} groups are damaged, the rest is as it should be (the first differing value at {})",
            stats.bad_groups,
            stats.groups,
            stats.first.unwrap_or(0)
        );
        return Some(Cause::of("damaged-groups", Severity::Fault, detail, ""));
    }
    None
}

/// Near enough to be a method of its own.
fn otherwise(stats: &Stats, ratio: f64) -> Cause {
    let what = match stats.parts {
        [false, ..] => "codes are MLX's own, scales or biases are tuned, as DWQ does",
        _ if ratio < 1.02 => {
            "codes differ from MLX's CPU quantizer by no more error, as another kernel or source dtype makes them"
        }
        _ => {
            "codes are not MLX's own, and the error is about as small: a calibrated method (GPTQ, AWQ) or packed twice"
        }
    };
    let detail = format!("{what}; error {ratio:.3} × that of MLX's own quantizer");
    let kind = if ratio < 1.02 && stats.parts[0] { "quantized-otherwise" } else { "calibrated" };
    Cause::of(kind, Severity::Note, detail, what)
}
