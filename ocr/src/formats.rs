//! What the release's other scripts make of a page's text: `run_dpsk_ocr_pdf.py` one document out of its pages,
//! `run_dpsk_ocr_eval_batch.py` the Markdown that benchmarks are given.

use std::sync::LazyLock;

use regex::{Captures, Regex};

use crate::grounding::{END_OF_SENTENCE, Reference, references};

/// What follows each page of a document.
pub const PAGE_SPLIT: &str = "\n\n<--- Page Split --->\n";

/// A formula between `\[` and `\]`, on one line.
static FORMULA: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\\\[(.*?)\\\]").ok());
/// Space and a number that stand behind a formula.
static FORMULA_NUMBER: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\\quad\s*\([^)]*\)").ok());

/// Whether the model came to an end by itself: a page that did not has mostly fallen into repeating itself.
#[must_use]
pub fn ended(written: &str) -> bool {
    written.contains(END_OF_SENTENCE)
}

/// The text without the token that ends it.
#[must_use]
pub fn without_end(written: &str) -> String {
    written.replace(END_OF_SENTENCE, "")
}

/// A page as it stands in its document's Markdown: pictures are `images/PAGE_N.jpg`, `page` counted from 0.
#[must_use]
pub fn of_document(written: &str, page: usize) -> String {
    let mut text = without_end(written);
    let (pictures, others): (Vec<Reference>, Vec<Reference>) =
        references(&text).into_iter().partition(Reference::is_written_image);
    for (at, picture) in pictures.iter().enumerate() {
        text = text.replace(&picture.written, &format!("![](images/{page}_{at}.jpg)\n"));
    }
    for other in &others {
        text = text.replace(&other.written, "").replace("\\coloneqq", ":=").replace("\\eqqcolon", "=:");
        text = fewer_lines(&text);
    }
    text
}

/// A page's Markdown as the evaluation has it: no references, no pictures, formulas without their numbers.
#[must_use]
pub fn evaluation(written: &str) -> String {
    let mut text = clean_formulas(&without_end(written));
    for reference in references(&text) {
        text = fewer_lines(&text.replace(&reference.written, "")).replace("<center>", "").replace("</center>", "");
    }
    text
}

fn fewer_lines(text: &str) -> String {
    text.replace("\n\n\n\n", "\n\n").replace("\n\n\n", "\n\n")
}

/// `clean_formula` of the evaluation's script.
fn clean_formulas(text: &str) -> String {
    let (Some(formula), Some(number)) = (&*FORMULA, &*FORMULA_NUMBER) else { return text.to_owned() };
    let cleaned = |found: &Captures<'_>| format!("\\[{}\\]", number.replace_all(&found[1], "").trim());
    formula.replace_all(text, cleaned).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_expressions_are_expressions() {
        assert!(FORMULA.is_some() && FORMULA_NUMBER.is_some());
    }

    #[test]
    fn texts_are_the_scripts() {
        // What the loops of run_dpsk_ocr_pdf.py (as page 4) and run_dpsk_ocr_eval_batch.py make of these in Python 3.
        for [written, document, evaluated] in CASES {
            assert_eq!(of_document(written, 4), document, "{written:?}");
            assert_eq!(evaluation(written), evaluated, "{written:?}");
        }
    }

    #[test]
    fn an_end_is_seen_and_taken_away() {
        let text = format!("a{END_OF_SENTENCE}");
        assert!(ended(&text) && !ended("a"));
        assert_eq!(without_end(&text), "a");
    }

    const CASES: [[&str; 3]; 4] = [
        [
            "<|ref|>title<|/ref|><|det|>[[1, 2, 3, 4]]<|/det|>\n# A \\coloneqq B\n\n\n\n\n\n<|ref|>image<|/ref|><|det|>[[0,0,9,9],[1,1,2,2]]<|/det|>\n<center>x</center>\n\n\n<|ref|>text<|/ref|><|det|>[[1,2,3,4]]<|/det|>\n\\[ a = b \\quad (3.1) \\]<｜end▁of▁sentence｜>",
            "\n# A := B\n\n![](images/4_0.jpg)\n\n<center>x</center>\n\n\\[ a = b \\quad (3.1) \\]",
            "\n# A \\coloneqq B\n\nx\n\n\\[a = b\\]",
        ],
        [
            "plain <center> \\coloneqq\n\n\n\nno references \\[ x \\quad(1) y\\] \\[ \n \\quad (2) \\]",
            "plain <center> \\coloneqq\n\n\n\nno references \\[ x \\quad(1) y\\] \\[ \n \\quad (2) \\]",
            "plain <center> \\coloneqq\n\n\n\nno references \\[x  y\\] \\[ \n \\quad (2) \\]",
        ],
        [
            "<|ref|>image<|/ref|><|det|>[[1,1,2,2]]<|/det|><|ref|>image<|/ref|><|det|>[[1,1,2,2]]<|/det|><|ref|>image<|/ref|><|det|>[[3,3,4,4]]<|/det|> end\n\n\n\n\n\n",
            "![](images/4_0.jpg)\n![](images/4_0.jpg)\n![](images/4_2.jpg)\n end\n\n\n\n\n\n",
            " end\n\n",
        ],
        [
            "<|ref|>text<|/ref|><|det|>broken<|/det|>a<|ref|>text<|/ref|><|det|>broken<|/det|>\n\n\n\n\n\n\n\nb<|ref|>open \\eqqcolon",
            "a\n\nb<|ref|>open =:",
            "a\n\nb<|ref|>open \\eqqcolon",
        ],
    ];
}
