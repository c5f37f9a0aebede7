//! The chart of error against tolerance as an SVG file of its own, for a README or a pull request.

use maud::{PreEscaped, html};
use mlxport_verdict::Run;

use crate::{html::chart::chart_alone, page::PALETTE};

/// What the text of the chart looks like, and the ground it stands on.
const STYLE: &str = "svg{background:var(--bg)}text{fill:var(--dim);font:11px system-ui,sans-serif}";

/// The chart of `run` as a whole SVG document that fetches nothing: floor and tolerance as bands, every measured tap as a dot, failures red.
/// Its colours follow the reader's light or dark screen.
pub fn chart_svg(run: &Run) -> String {
    let style = html! { style { (PreEscaped(PALETTE)) (PreEscaped(STYLE)) } }.into_string();
    let chart = chart_alone(run).replacen("<svg ", "<svg xmlns=\"http://www.w3.org/2000/svg\" ", 1);
    let inside = chart.find('>').map_or(0, |at| at + 1);
    format!("{}{style}{}\n", &chart[..inside], &chart[inside..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn it_is_one_document_with_its_own_colours() {
        let text = chart_svg(&samples::failing());
        assert!(text.starts_with("<svg xmlns=") && text.trim_end().ends_with("</svg>"), "{text}");
        assert_eq!(text.matches("xmlns=").count(), 1);
        let style = text.find("<style>").expect("a style");
        assert!(style < text.find("<circle").expect("dots"), "the style comes first");
        assert!(text.contains("--bad:#"), "colours have values");
    }
}
