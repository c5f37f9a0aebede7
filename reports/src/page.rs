//! What the HTML pages share: one document with its own style, which may do nothing but show itself.

use maud::{DOCTYPE, Markup, PreEscaped, html};

/// The colours by name, for light and dark screens.
pub(crate) const PALETTE: &str = include_str!("palette.css");
const STYLE: &str = include_str!("html/page.css");
/// What a page may do: its own style, nothing from anywhere.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";
/// The same with its own script.
const SCRIPTED_POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// A whole document; `scripted` where its body holds a script.
pub(crate) fn page(title: &str, scripted: bool, body: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(if scripted { SCRIPTED_POLICY } else { POLICY });
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(PALETTE)) (PreEscaped(STYLE)) }
                // A script lays long parts out once, when all of the page is there, not again and again while it comes.
                @if scripted { noscript { style { ".late{display:block}" } } }
            }
            body { (body) }
        }
    };
    page.into_string() + "\n"
}
