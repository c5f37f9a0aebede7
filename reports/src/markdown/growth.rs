//! The error on its way through the model, as tables.

use mlxport_verdict::Run;

use super::{Page, code, text};
use crate::growth::{courses, factor, in_words, jumps, times};
use crate::text_format::{scientific, tap_name};

/// Rows of the table of jumps.
const MAX_JUMPS: usize = 20;
/// Rows of the table of courses.
const MAX_COURSES: usize = 100;

/// Course by course, then the jumps; nothing where no growth was read.
pub(super) fn growth(page: &mut Page, run: &Run) {
    let courses = courses(run);
    if courses.is_empty() {
        return;
    }
    page.heading("The error on its way");
    page.head(&["in", ">call", ">enters", ">leaves", ">steepest", "at"]);
    for course in courses.iter().take(MAX_COURSES) {
        let (tap, growth) = course.steepest;
        let numbers = [course.enters, course.leaves].map(scientific);
        let (call, steepest) = (course.call.to_string(), factor(growth));
        page.row(&[&text(&course.name), &call, &numbers[0], &numbers[1], &steepest, &code(&tap_name(tap))]);
    }
    if courses.len() > MAX_COURSES {
        page.line(&format!("\n… and {} more: see the record.", courses.len() - MAX_COURSES));
    }
    page.line("\nSteepest: error ÷ the larger of the error that reached the tap and its floor.");
    let jumps = jumps(run, MAX_JUMPS);
    if jumps.is_empty() {
        return;
    }
    page.heading("Where the error grows");
    page.head(&["tap", ">growth", "from, to"]);
    for (tap, growth) in jumps {
        page.row(&[&code(&tap_name(tap)), &times(growth), &text(&in_words(tap, growth))]);
    }
}
