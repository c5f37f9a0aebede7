//! What should not be packed, or not so far: routers, norms, tables of positions.

use serde_json::Value;

use crate::names;
use crate::report::{Finding, Severity};
use crate::target::{Format, Target};

/// Model types whose port keeps routers at eight bits or unpacked, as `quant_predicate` in mlx-lm 0.32.2 says.
const KEPT: &[&str] = &[
    "qwen3_moe",
    "qwen3_next",
    "qwen3_5_moe",
    "qwen3_vl_moe",
    "jamba",
    "lfm2_moe",
    "granitemoe",
    "granitemoehybrid",
    "gpt_oss",
    "bailing_moe",
    "minimax",
    "longcat_flash",
    "afmoe",
    "Klear",
    "kimi_linear",
    "step3p5",
    "mellum",
    "laguna",
    "gemma4",
];

/// Findings about what is packed and should not be.
pub fn findings(targets: &[Target], config: &Value) -> Vec<Finding> {
    let kind = config.get("model_type").and_then(Value::as_str).unwrap_or("");
    let mixed = is_mixed(targets);
    let mut findings = Vec::new();
    for target in targets {
        let Format::Packed { q, .. } = target.format else { continue };
        let module = names::module(&target.name);
        let vision = ["vision", "visual", "audio"].iter().any(|word| module.contains(word));
        // A mixture of widths comes from a rule of its own, which has no place for routers.
        let (what, severity) = if names::is_router(module) && q.bits() < 8 && KEPT.contains(&kind) && !mixed {
            ("a router", Severity::Minor)
        } else if names::is_norm(&target.name) {
            ("a norm", Severity::Minor)
        } else if names::is_position_table(module) && vision {
            ("a table of positions", Severity::Minor)
        } else {
            continue;
        };
        let more = if what == "a router" {
            "; which experts are chosen hangs on small differences, and ports keep it at 8 bits or unpacked"
        } else {
            ""
        };
        let detail = format!("{what} is packed with {} bits{more}", q.bits());
        findings.push(Finding::new("should-not-be-packed", severity, detail).at(target.keys.clone()));
    }
    findings
}

/// Whether modules other than routers are packed with different numbers of bits.
fn is_mixed(targets: &[Target]) -> bool {
    let bits = |target: &Target| match target.format {
        Format::Packed { q, .. } if !names::is_router(names::module(&target.name)) => Some(q.bits()),
        _ => None,
    };
    let mut all = targets.iter().filter_map(bits);
    all.next().is_some_and(|first| all.any(|other| other != first))
}
