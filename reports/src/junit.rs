//! `junit.xml`: a test case per tap and mode, for CI systems that show tests. One suite per mode, one for what was not compared.

use mlxport_verdict::{Mode, NotCompared, Run, TapRecord};
use quick_junit::{NonSuccessKind, Report, SerializeError, TestCase, TestCaseStatus, TestSuite};

use crate::system::System;
use crate::text_format::clean;

/// A run as JUnit XML. What was not compared is skipped, with its reason; a run that compared nothing has a case that says so and fails.
///
/// # Errors
/// None that memory does not give.
pub fn junit(run: &Run) -> Result<String, SerializeError> {
    let mut report = Report::new("mlxport parity");
    for mode in Mode::ALL {
        let cases: Vec<TestCase> = run.taps.iter().filter(|tap| tap.mode == mode).map(compared).collect();
        if !cases.is_empty() {
            report.add_test_suite(suite(&mode.to_string(), cases));
        }
    }
    let mut rest: Vec<TestCase> = run.not_compared.iter().map(skipped).collect();
    if run.taps.is_empty() {
        rest.push(case("run", "compared", failure("nothing was compared")));
    }
    if !rest.is_empty() {
        report.add_test_suite(suite("not compared", rest));
    }
    report.to_string()
}

fn suite(name: &str, cases: Vec<TestCase>) -> TestSuite {
    let mut suite = TestSuite::new(name);
    suite.add_test_cases(cases);
    suite
}

fn case(class: &str, name: &str, status: TestCaseStatus) -> TestCase {
    let mut case = TestCase::new(name, status);
    case.set_classname(class);
    case
}

fn failure(message: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
    status.set_message(message);
    status
}

/// The case of a tap; a failed one has its metrics.
fn compared(tap: &TapRecord) -> TestCase {
    let status = match &tap.failure {
        None => TestCaseStatus::success(),
        Some(reason) => {
            let mut status = failure(&clean(&reason.to_string()));
            status.set_description(numbers(tap));
            status
        }
    };
    case(&System::of(&tap.point).to_string(), &clean(&tap.id().to_string()), status)
}

fn skipped(point: &NotCompared) -> TestCase {
    let mut status = TestCaseStatus::skipped();
    status.set_message(clean(&point.reason));
    case(&System::of(&point.point).to_string(), &clean(&point.id().to_string()), status)
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
    use super::*;
    use crate::samples;

    /// The report as another reader of JUnit XML sees it.
    fn read(run: &Run) -> Report {
        Report::deserialize_from_str(&junit(run).expect("in memory")).expect("well-formed")
    }

    fn count(report: &Report, wanted: fn(&TestCaseStatus) -> bool) -> usize {
        report.test_suites.iter().flat_map(|suite| &suite.test_cases).filter(|case| wanted(&case.status)).count()
    }

    fn is_failure(status: &TestCaseStatus) -> bool {
        matches!(status, TestCaseStatus::NonSuccess { .. })
    }

    #[test]
    fn every_tap_is_a_case_and_every_failure_a_failure() {
        for run in [samples::passing(), samples::failing(), samples::compared()] {
            let report = read(&run);
            let failed = run.taps.iter().filter(|tap| !tap.passed()).count();
            let skipped = count(&report, |status| matches!(status, TestCaseStatus::Skipped { .. }));
            assert_eq!(count(&report, |_| true), run.taps.len() + run.not_compared.len());
            assert_eq!((count(&report, is_failure), skipped), (failed, run.not_compared.len()));
            assert_eq!((report.failures, report.skipped), (failed, run.not_compared.len()));
            for suite in &report.test_suites {
                assert_eq!(suite.tests, suite.test_cases.len(), "a suite's number is that of its cases");
            }
        }
    }

    #[test]
    fn a_run_of_nothing_fails() {
        let mut run = samples::nothing();
        run.taps.clear();
        run.not_compared.clear();
        let report = read(&run);
        assert_eq!((count(&report, |_| true), count(&report, is_failure)), (1, 1));
    }

    #[test]
    fn names_are_data() {
        let mut run = samples::failing();
        run.taps[0].point = "a\"<&>\u{1b}]]>".to_owned();
        assert!(!junit(&run).expect("in memory").contains('\u{1b}'));
        let report = read(&run);
        let mut cases = report.test_suites.iter().flat_map(|suite| &suite.test_cases);
        assert!(cases.any(|case| case.name.as_str().starts_with("a\"<&>")));
    }

    #[test]
    fn the_text_is_as_reviewed() {
        insta::assert_snapshot!(junit(&samples::failing()).expect("in memory"));
    }
}
