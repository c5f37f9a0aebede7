//! The page that leads to each scenario's report.

use crate::judge::Judged;
use crate::outcome::Outcome;

/// One page, no script, nothing fetched.
pub(crate) fn html(outcome: &Outcome, judged: &[Judged]) -> String {
    let (head, lines) = outcome.parts();
    let links: String = judged
        .iter()
        .map(|one| {
            let name = escaped(&one.name);
            format!("<li><a href=\"{name}/report.html\">{name}</a>: {:?}</li>\n", one.run.summary.verdict)
        })
        .collect();
    let lines: String = lines.iter().map(|line| format!("{}\n", escaped(line))).collect();
    format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title>\n\
         <style>body{{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}}\
         pre{{white-space:pre-wrap}}</style>\n\
         <h1>{title}</h1>\n<pre>{lines}</pre>\n<h2>Reports</h2>\n<ul>\n{links}</ul>\n</html>\n",
        title = escaped(head)
    )
}

fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            c if c.is_control() && c != '\n' => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_a_model_is_called_is_text() {
        assert_eq!(super::escaped("<a \"&\u{1b}"), "&lt;a &quot;&amp;\u{fffd}");
    }
}
