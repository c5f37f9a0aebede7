//! `junit.xml`: a test case per tap and mode, for CI systems that show tests. One suite per mode, one for what was not compared.

use std::io;

use mlxport_verdict::{Mode, NotCompared, Run, TapRecord};
use quick_xml::{
    Writer,
    events::{BytesText, Event},
};

use crate::system::System;
use crate::text_format::clean;

/// A run as JUnit XML. What was not compared is skipped, with its reason; a run that compared nothing has a case that says so and fails.
///
/// # Errors
/// None that memory does not give.
pub fn junit(run: &Run) -> io::Result<String> {
    let mut writer = Writer::new_with_indent(Vec::new(), b' ', 1);
    writer.write_event(Event::Text(BytesText::from_escaped("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n")))?;
    let failed = run.taps.iter().filter(|tap| !tap.passed()).count() + usize::from(run.taps.is_empty());
    let (count, skipped) = (cases(run), run.not_compared.len());
    let numbers = [("tests", count.to_string()), ("failures", failed.to_string()), ("skipped", skipped.to_string())];
    let mut root = writer.create_element("testsuites").with_attribute(("name", "mlxport parity"));
    for (name, number) in &numbers {
        root = root.with_attribute((*name, number.as_str()));
    }
    root.write_inner_content(|writer| {
        for mode in Mode::ALL {
            let taps: Vec<&TapRecord> = run.taps.iter().filter(|tap| tap.mode == mode).collect();
            if !taps.is_empty() {
                suite(writer, &mode.to_string(), &taps, &[])?;
            }
        }
        let skipped: Vec<&NotCompared> = run.not_compared.iter().collect();
        if !skipped.is_empty() || run.taps.is_empty() {
            suite(writer, "not compared", &[], &skipped)?;
        }
        Ok(())
    })?;
    String::from_utf8(writer.into_inner()).map(|text| text + "\n").map_err(io::Error::other)
}

/// How many cases there are.
fn cases(run: &Run) -> usize {
    (run.taps.len() + run.not_compared.len()) + usize::from(run.taps.is_empty())
}

type Xml = Writer<Vec<u8>>;

fn suite(writer: &mut Xml, name: &str, taps: &[&TapRecord], skipped: &[&NotCompared]) -> io::Result<()> {
    let nothing = usize::from(taps.is_empty() && name == "not compared" && skipped.is_empty());
    let failed = taps.iter().filter(|tap| !tap.passed()).count() + nothing;
    let count = taps.len() + skipped.len() + nothing;
    let element = writer
        .create_element("testsuite")
        .with_attribute(("name", name))
        .with_attribute(("tests", count.to_string().as_str()))
        .with_attribute(("failures", failed.to_string().as_str()))
        .with_attribute(("errors", "0"))
        .with_attribute(("skipped", skipped.len().to_string().as_str()));
    element.write_inner_content(|writer| {
        for tap in taps {
            case(writer, tap)?;
        }
        for point in skipped {
            let class = System::of(&point.point).to_string();
            let reason = clean(&point.reason);
            let case = writer
                .create_element("testcase")
                .with_attribute(("classname", class.as_str()))
                .with_attribute(("name", clean(&point.id().to_string()).as_str()));
            case.write_inner_content(|writer| {
                writer.create_element("skipped").with_attribute(("message", reason.as_str())).write_empty().map(drop)
            })?;
        }
        if nothing > 0 {
            let case = writer
                .create_element("testcase")
                .with_attribute(("classname", "run"))
                .with_attribute(("name", "compared"));
            case.write_inner_content(|writer| {
                writer
                    .create_element("failure")
                    .with_attribute(("message", "nothing was compared"))
                    .write_empty()
                    .map(drop)
            })?;
        }
        Ok(())
    })?;
    Ok(())
}

fn case(writer: &mut Xml, tap: &TapRecord) -> io::Result<()> {
    let class = System::of(&tap.point).to_string();
    let name = clean(&tap.id().to_string());
    let element = writer
        .create_element("testcase")
        .with_attribute(("classname", class.as_str()))
        .with_attribute(("name", name.as_str()));
    let Some(failure) = &tap.failure else {
        return element.write_empty().map(drop);
    };
    let message = clean(&failure.to_string());
    element
        .write_inner_content(|writer| {
            let failure = writer.create_element("failure").with_attribute(("message", message.as_str()));
            failure.write_text_content(BytesText::new(&numbers(tap))).map(drop)
        })
        .map(drop)
}

/// The metrics of a failed tap, a line each.
fn numbers(tap: &TapRecord) -> String {
    let mut lines = Vec::new();
    if let Some(metrics) = &tap.metrics {
        lines.push(format!("error (relative RMS): {:.3e}", metrics.rel_rms));
        lines.push(format!("worst element: {:?}, off by {:.3e}", metrics.max_abs.coordinate, metrics.max_abs.value));
        lines.push(format!("worst row (relative L2): {:.3e}", metrics.worst_row.rel_l2));
    }
    if let Some(tolerance) = &tap.tolerance {
        lines.push(format!("tolerance: {:.3e} ({} × floor {:.3e})", tolerance.value, tolerance.k, tolerance.floor));
    }
    if let Some(ratio) = tap.ratio {
        lines.push(format!("error ÷ tolerance: {ratio:.2}"));
    }
    lines.push(format!("shape: {:?}, {}", tap.shape, clean(&tap.dtype)));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use quick_xml::{Reader, events::Event};

    use super::*;
    use crate::samples;

    /// Tags by name, after reading the whole text as XML.
    fn tags(text: &str) -> Vec<(String, Vec<(String, String)>)> {
        let mut reader = Reader::from_str(text);
        let mut all = Vec::new();
        loop {
            match reader.read_event().expect("well-formed") {
                Event::Eof => return all,
                Event::Start(tag) | Event::Empty(tag) => {
                    let name = tag.name().as_ref().to_owned();
                    let attributes = tag.attributes().map(|attribute| {
                        let attribute = attribute.expect("an attribute");
                        let key = attribute.key.as_ref().to_owned();
                        (
                            key,
                            attribute
                                .normalized_value(quick_xml::XmlVersion::Implicit1_0)
                                .expect("a value")
                                .into_owned(),
                        )
                    });
                    all.push((name, attributes.collect()));
                }
                _ => {}
            }
        }
    }

    fn count(tags: &[(String, Vec<(String, String)>)], name: &str) -> usize {
        tags.iter().filter(|(tag, _)| tag == name).count()
    }

    #[test]
    fn every_tap_is_a_case_and_every_failure_a_failure() {
        for run in [samples::passing(), samples::failing(), samples::compared()] {
            let tags = tags(&junit(&run).expect("in memory"));
            let failed = run.taps.iter().filter(|tap| !tap.passed()).count();
            assert_eq!(count(&tags, "testcase"), run.taps.len() + run.not_compared.len());
            assert_eq!((count(&tags, "failure"), count(&tags, "skipped")), (failed, run.not_compared.len()));
            let root = &tags[0];
            assert_eq!(root.0, "testsuites");
            assert!(root.1.contains(&("failures".to_owned(), failed.to_string())), "{root:?}");
            let inside: usize = tags
                .iter()
                .filter(|(tag, _)| tag == "testsuite")
                .flat_map(|(_, attributes)| attributes)
                .filter(|(key, _)| key == "tests")
                .map(|(_, value)| value.parse::<usize>().expect("a number"))
                .sum();
            assert_eq!(inside, count(&tags, "testcase"), "the suites' numbers are those of their cases");
        }
    }

    #[test]
    fn a_run_of_nothing_fails() {
        let mut run = samples::nothing();
        run.taps.clear();
        run.not_compared.clear();
        let tags = tags(&junit(&run).expect("in memory"));
        assert_eq!((count(&tags, "testcase"), count(&tags, "failure")), (1, 1));
    }

    #[test]
    fn names_are_data() {
        let mut run = samples::failing();
        run.taps[0].point = "a\"<&>\u{1b}]]>".to_owned();
        let text = junit(&run).expect("in memory");
        let tags = tags(&text);
        assert!(!text.contains('\u{1b}'));
        let found = tags.iter().flat_map(|(_, attributes)| attributes).any(|(_, value)| value.starts_with("a\"<&>"));
        assert!(found, "{text}");
    }

    #[test]
    fn the_text_is_as_reviewed() {
        insta::assert_snapshot!(junit(&samples::failing()).expect("in memory"));
    }
}
