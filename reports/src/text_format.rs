//! Numbers, hashes and names as people read them.

use mlxport_verdict::{Environment, NOT_RECORDED, ReferenceKind, Run, TapRecord};

/// `7.4e-2`; exact zero, NaN and infinities in words.
pub(crate) fn scientific(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "∞" } else { "-∞" }.to_owned()
    } else if value == 0.0 {
        "0".to_owned()
    } else {
        format!("{value:.1e}")
    }
}

/// A ratio: two decimals around 1, more where two would hide on which side of 1 it is, none when large, a power when tiny.
pub(crate) fn ratio(value: f64) -> String {
    if !(0.01..1e6).contains(&value) {
        scientific(value)
    } else if value >= 10.0 {
        grouped(value.round() as u64)
    } else if value != 1.0 && (0.995..1.005).contains(&value) {
        format!("{value:.6}")
    } else {
        format!("{value:.2}")
    }
}

/// `23,871`.
pub(crate) fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A name with nothing in it that a terminal would obey.
pub(crate) fn clean(name: &str) -> String {
    name.chars().map(|c| if is_unsafe(c) { '\u{fffd}' } else { c }).collect()
}

/// Control characters, and those that reorder text.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
}

/// At most `width` characters, the end kept: the end of a module path says more than its start.
pub(crate) fn clip_start(text: &str, width: usize) -> String {
    let count = text.chars().count();
    if count <= width {
        return text.to_owned();
    }
    let kept = width.saturating_sub(1);
    std::iter::once('…').chain(text.chars().skip(count - kept)).collect()
}

/// At most `width` characters, the start kept.
pub(crate) fn clip_end(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(std::iter::once('…')).collect()
}

/// A name as a word of a shell command: quoted where a shell would see more in it than a word. Cleaned and clipped.
pub(crate) fn shell(name: &str) -> String {
    let name = clip_end(&clean(name), 160);
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | '+' | ':');
    if !name.is_empty() && name.chars().all(plain) {
        return name;
    }
    // Inside single quotes nothing but the quote itself means anything; a backtick would end Markdown's code.
    format!("'{}'", name.replace('\'', "'\\''").replace('`', "\u{fffd}"))
}

/// The first 12 digits of a hash.
pub(crate) fn short_hash(hash: &str) -> String {
    clean(&hash.chars().take(12).collect::<String>())
}

/// `model.norm#0.out`, cleaned.
pub(crate) fn tap_name(tap: &TapRecord) -> String {
    clean(&tap.id().to_string())
}

/// The line that says what was judged by what.
pub(crate) fn subject(run: &Run) -> String {
    let (model, fixture) = (&run.model, &run.fixture);
    let judged = match &run.candidate {
        Some(candidate) => format!("recording {} {}", candidate.name, short_hash(&candidate.manifest_sha256)),
        None => format!("model {} ({}, {})", short_hash(&model.weights_hash), model.layout, model.recipe),
    };
    let mut text = format!("{judged} · fixture {} {}", fixture.name, short_hash(&fixture.manifest_sha256));
    if !fixture.torch.is_empty() {
        text.push_str(&format!(" (PyTorch {})", fixture.torch));
    }
    clean(&text)
}

/// The line that says where it ran.
pub(crate) fn environment(run: &Run) -> String {
    let e = &run.environment;
    if let Some(candidate) = &run.candidate {
        return recorded_on(&candidate.made_by, e);
    }
    let mut parts = vec![
        e.dtype.clone(),
        e.device.clone(),
        format!("MLX {} (mlx-rs {})", e.mlx_version, e.mlx_rs_version),
        format!("TF32 {}", e.tf32),
        format!("{} thread{}", e.threads, if e.threads == 1 { "" } else { "s" }),
        format!("{}/{}", e.os, e.arch),
    ];
    parts.extend(e.blas.clone());
    clean(&parts.join(" · "))
}

/// Where a recording was made, as far as it says.
fn recorded_on(made_by: &str, e: &Environment) -> String {
    let known = |text: &&String| *text != NOT_RECORDED;
    let mut parts = vec![format!("recorded with {made_by}")];
    parts.extend([&e.dtype, &e.device].into_iter().filter(known).cloned());
    parts.extend(Some(&e.tf32).filter(known).map(|tf32| format!("TF32 {tf32}")));
    if e.threads > 0 {
        parts.push(format!("{} thread{}", e.threads, if e.threads == 1 { "" } else { "s" }));
    }
    let machine: Vec<&str> = [&e.os, &e.arch].into_iter().filter(known).map(String::as_str).collect();
    parts.extend((!machine.is_empty()).then(|| machine.join("/")));
    clean(&parts.join(" · "))
}

/// The numbers of one tap, one fact a line.
pub(crate) fn numbers(tap: &TapRecord) -> Vec<String> {
    let mut lines = Vec::new();
    if let (Some(metrics), Some(tolerance)) = (&tap.metrics, &tap.tolerance) {
        let times = tap.ratio.map_or_else(String::new, |r| format!(" · {} × tolerance", ratio(r)));
        lines.push(format!("error {} · tolerance {}{times}", scientific(metrics.rel_rms), scientific(tolerance.value)));
        let (worst, row) = (&metrics.max_abs, &metrics.worst_row);
        // Of a sample there are no rows: all of it is one.
        let and_row = match row.row.is_empty() {
            true => String::new(),
            false => format!("; worst row {:?}: {}", row.row, scientific(row.rel_l2)),
        };
        lines.push(format!(
            "worst element {:?}: off by {} ({} × the reference's RMS){and_row}",
            worst.coordinate,
            scientific(worst.value),
            ratio(worst.over_ref_rms),
        ));
    }
    lines.extend(first_difference(tap));
    if let Some(failure) = &tap.failure {
        let against = match tap.reference {
            ReferenceKind::Truth => "float64",
            ReferenceKind::Recorded => "recorded",
        };
        let shape = &tap.shape;
        lines.push(clean(&format!("{failure}; {} {shape:?} against the {against} values", tap.dtype)));
    }
    if let Some(amplification) = tap.amplification {
        lines.push(format!("own error ÷ inherited error: {}", ratio(amplification)));
    }
    if let Some(logits) = &tap.logits {
        lines.push(format!(
            "as distributions: KL {} (worst row {}); the same first token in {} of {} rows, the same five in {}",
            scientific(logits.kl_mean),
            scientific(logits.kl_max),
            logits.top1_rows,
            logits.rows,
            logits.top5_rows
        ));
    }
    if let Some(ulps) = &tap.ulps {
        lines.push(format!("float32 steps off: {} (half), {} (99 %), {} (most)", ulps.p50, ulps.p99, ulps.max));
    }
    for hint in &tap.hints {
        let sure = if hint.within_tolerance { "nothing of the error is left" } else { "most of the error is gone" };
        let left = scientific(hint.error_left);
        lines.push(format!("likely cause: {}; tried: {sure} ({left})", clean(&hint.cause)));
    }
    lines
}

/// The first expert choice or integer that differs.
fn first_difference(tap: &TapRecord) -> Option<String> {
    if let Some(choices) = &tap.choices {
        let first = choices.first.first()?;
        return Some(format!(
            "experts of {} of {} tokens; token {}: {:?}, recorded {:?}",
            choices.differing_rows, choices.rows, first.row, first.candidate, first.reference
        ));
    }
    let exact = tap.exact.as_ref()?;
    let first = exact.first.first()?;
    Some(format!(
        "{} of {} integers; at {:?}: {}, recorded {}",
        exact.differing, exact.numel, first.coordinate, first.candidate, first.reference
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_never_hide_on_which_side_of_the_tolerance_they_are() {
        assert_eq!(ratio(0.424), "0.42");
        assert_eq!(ratio(1.0), "1.00");
        assert_eq!(ratio(0.0), "0");
        assert_eq!(ratio(3e-4), "3.0e-4");
        assert_eq!(ratio(1.001), "1.001000");
        assert_eq!(ratio(0.9999), "0.999900");
        assert_eq!(ratio(23_871.4), "23,871");
        assert_eq!(ratio(f64::NAN), "NaN");
        assert_eq!(ratio(f64::INFINITY), "∞");
        assert_eq!(ratio(2.5e9), "2.5e9");
        assert_eq!(scientific(0.074), "7.4e-2");
        assert_eq!(scientific(0.0), "0");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped(123), "123");
    }

    #[test]
    fn names_are_one_word_to_a_shell() {
        assert_eq!(shell("model.layers.0"), "model.layers.0");
        assert_eq!(shell("a b"), "'a b'");
        assert_eq!(shell("a'; rm x"), "'a'\\''; rm x'");
        assert_eq!(shell(""), "''");
        assert!(!shell("```\n$(x)").contains('`'));
    }

    #[test]
    fn names_cannot_command_a_terminal() {
        assert_eq!(clean("a\u{1b}[31mb\u{202e}"), "a\u{fffd}[31mb\u{fffd}");
        assert_eq!(clip_start("model.layers.0", 6), "…ers.0");
        assert_eq!(clip_end("abcdef", 4), "abc…");
        assert_eq!(clip_start("ab", 2), "ab");
    }
}
