//! The error on its way through the model, for a person at a terminal.

use mlxport_verdict::Run;

use super::{Paint, Style};
use crate::growth::{courses, factor, in_words, jumps, times};
use crate::text_format::{clip_end, clip_start, scientific, tap_name};

/// How many jumps are listed.
const MAX_JUMPS: usize = 10;
/// How many courses are listed.
const MAX_COURSES: usize = 40;

/// Course by course, then the jumps; nothing where no growth was read.
pub(super) fn growth(run: &Run, style: &Style) -> Vec<String> {
    let courses = courses(run);
    if courses.is_empty() {
        return Vec::new();
    }
    let title = "error in   call   enters    leaves  steepest  at";
    let mut lines = vec![style.heading(title)];
    for course in courses.iter().take(MAX_COURSES) {
        let (tap, growth) = course.steepest;
        let at = clip_start(&tap_name(tap), style.width().saturating_sub(46));
        let (enters, leaves) = (scientific(course.enters), scientific(course.leaves));
        let (name, steepest) = (clip_end(&course.name, 10), factor(growth));
        lines.push(format!("{name:<10} {:>4} {enters:>8} {leaves:>9} {steepest:>9}  {at}", course.call));
    }
    if courses.len() > MAX_COURSES {
        lines.push(format!("… and {} more", courses.len() - MAX_COURSES));
    }
    let legend = "steepest: error ÷ the larger of the error that reached the tap and its floor";
    lines.extend(style.wrapped(legend, 0).iter().map(|line| style.paint(Paint::Dim, line)));
    let jumps = jumps(run, MAX_JUMPS);
    if !jumps.is_empty() {
        lines.push(style.heading("Where the error grows"));
    }
    for (tap, growth) in jumps {
        let name = clip_start(&tap_name(tap), style.width() - 2);
        lines.push(format!("  {}", style.paint(Paint::Red, &name)));
        lines.extend(style.wrapped(&format!("{} · {}", times(growth), in_words(tap, growth)), 4));
    }
    lines
}
