//! A verdict on parts, for people.

use std::fmt::Write as _;

use super::PartsReport;

impl PartsReport {
    /// For people: the verdict, then a line for each case.
    #[must_use]
    pub fn text(&self) -> String {
        let (word, of) = if self.passes() { ("PASS", "all ") } else { ("FAIL", "") };
        let mut text = match self.failed {
            0 => format!("{word}: {of}{} parts within {} × the measured floor", self.compared, self.k),
            failed => format!("{word}: {failed} of {} parts failed", self.compared),
        };
        let _ = writeln!(text, "; MLX {}\n", self.mlx);
        for tap in &self.taps {
            let error = tap.error().map_or_else(|| "-".to_owned(), |error| format!("{error:.1e}"));
            let ratio = tap.ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
            let failure = tap.failure.as_ref().map_or_else(String::new, |failure| format!("  {failure:?}"));
            let _ = writeln!(text, "{ratio:>8}  {error:>8}  {}{failure}", tap.point);
        }
        text.push_str("\nerror ÷ tolerance, relative RMS, part\n");
        text
    }
}
