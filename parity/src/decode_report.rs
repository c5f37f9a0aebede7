//! What was decoded, for people and for programs.

use crate::decode::Decoded;

impl Decoded {
    /// As one object, `mlxport decode --json`.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "schema": 1,
            "ok": self.verdict() == Some(true),
            "tokens": self.tokens,
            "reference": self.reference,
        })
    }

    /// For people: the tokens, then how they agree with PyTorch's.
    #[must_use]
    pub fn text(&self) -> String {
        let list = |tokens: &[i32]| tokens.iter().map(i32::to_string).collect::<Vec<_>>().join(" ");
        let mut text = format!("{}\n", list(&self.tokens));
        let Some(reference) = self.reference.as_ref().filter(|_| self.verdict().is_some()) else {
            let why =
                if self.tokens.is_empty() { "no token was made" } else { "the recording holds no run by these rules" };
            text.push_str(&format!("NOTHING COMPARED: {why}\n"));
            return text;
        };
        let verdict = if reference.pass { "PASS" } else { "FAIL" };
        text.push_str(&format!(
            "{verdict} {}: {} of {} tokens are PyTorch's from the first on\n",
            reference.run,
            reference.equal_prefix,
            self.tokens.len().min(reference.tokens.len())
        ));
        if let (Some(error), Some(tolerance)) = (reference.logits_rel_rms, reference.logits_tolerance) {
            let (step, worst) = reference.logits_worst_step.unwrap_or_default();
            text.push_str(&format!(
                "logits: relative RMS {error:.1e}, tolerance {tolerance:.1e}; furthest off at step {step}: {worst:.1e}\n"
            ));
        }
        if !reference.pass {
            text.push_str(&format!("PyTorch's: {}\n", list(&reference.tokens)));
        }
        text
    }
}
