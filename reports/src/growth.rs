//! The error on its way through the model, read off one pass: picks and their order. Formats only lay it out.

use mlxport_verdict::{Growth, Mode, Run, TapRecord, Verdict};

use crate::system::System;
use crate::text_format::{clean, ratio, scientific};

/// An error that is less than this many times what reached it has not grown worth a word.
const WORTH_TELLING: f64 = 2.0;

/// The error on its way through one system, from where it is entered to where it is left.
pub(crate) struct Course<'a> {
    /// The system, or the first parts of the module's path where it is no known one.
    pub name: String,
    /// The call of its first tap.
    pub call: u32,
    /// The error that reached its first tap.
    pub enters: f64,
    /// The error of its last.
    pub leaves: f64,
    /// The tap with the largest growth, and that growth.
    pub steepest: (&'a TapRecord, &'a Growth),
}

/// One course for each time that a system is entered, in execution order; none of a run that passes, for it needs none.
pub(crate) fn courses(run: &Run) -> Vec<Course<'_>> {
    let mut courses: Vec<Course<'_>> = Vec::new();
    for (tap, growth) in grown(run).filter(|_| failed(run)) {
        let (name, leaves) = (group(&tap.point), tap.error().unwrap_or(f64::NAN));
        match courses.last_mut() {
            Some(course) if course.name == name => {
                course.leaves = leaves;
                if growth.factor > course.steepest.1.factor {
                    course.steepest = (tap, growth);
                }
            }
            _ => {
                let (call, enters) = (tap.call, growth.inherited);
                courses.push(Course { name, call, enters, leaves, steepest: (tap, growth) });
            }
        }
    }
    courses
}

/// The taps beyond their tolerance whose error at least doubled: the `count` largest growths, in execution order.
pub(crate) fn jumps(run: &Run, count: usize) -> Vec<(&TapRecord, &Growth)> {
    let telling = |(tap, growth): &(&TapRecord, &Growth)| !tap.passed() && growth.factor >= WORTH_TELLING;
    let mut jumps: Vec<_> = grown(run).filter(telling).enumerate().collect();
    jumps.sort_by(|(_, (_, a)), (_, (_, b))| b.factor.total_cmp(&a.factor));
    jumps.truncate(count);
    jumps.sort_by_key(|(order, _)| *order);
    jumps.into_iter().map(|(_, jump)| jump).collect()
}

/// `1.2e-7 → 5.3e-3 after model.norm#0.out`.
pub(crate) fn in_words(tap: &TapRecord, growth: &Growth) -> String {
    let error = scientific(tap.error().unwrap_or(f64::NAN));
    match &growth.from {
        Some(from) => format!("{} → {error} after {}", scientific(growth.inherited), clean(&from.to_string())),
        None => format!("{error}, from nothing but the inputs"),
    }
}

/// The factor as people read it.
pub(crate) fn times(growth: &Growth) -> String {
    format!("{} ×", factor(growth))
}

/// The bare factor: its first digit says enough, and there is no side of 1 to be on.
pub(crate) fn factor(growth: &Growth) -> String {
    if (0.1..9.95).contains(&growth.factor) { format!("{:.1}", growth.factor) } else { ratio(growth.factor) }
}

/// Whether there is anything to explain.
fn failed(run: &Run) -> bool {
    run.summary.verdict == Verdict::Fail
}

fn grown(run: &Run) -> impl Iterator<Item = (&TapRecord, &Growth)> {
    let cumulative = run.taps.iter().filter(|tap| tap.mode == Mode::Cumulative);
    cumulative.filter_map(|tap| Some((tap, tap.growth.as_ref()?)))
}

/// The system, or of another model the first two parts of the path.
fn group(point: &str) -> String {
    match System::of(point) {
        System::Other => clean(&point.split('.').take(2).collect::<Vec<_>>().join(".")),
        known => known.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn a_course_tells_what_enters_what_leaves_and_where_it_is_steepest() {
        let run = samples::compared();
        let courses = courses(&run);
        let names: Vec<_> = courses.iter().map(|course| (course.name.as_str(), course.call)).collect();
        assert_eq!(names, [("decoder", 0), ("SAM", 0), ("CLIP", 0), ("projector", 0), ("decoder", 0), ("head", 0)]);
        let clip = &courses[2];
        assert!(clip.enters < 1e-6 && clip.leaves > 0.05, "{} {}", clip.enters, clip.leaves);
        assert_eq!(clip.steepest.0.point, "model.vision_model.embeddings");
    }

    #[test]
    fn only_what_fails_and_grows_is_a_jump() {
        let run = samples::compared();
        let jumps = jumps(&run, 10);
        let points: Vec<_> = jumps.iter().map(|(tap, _)| tap.point.as_str()).collect();
        assert_eq!(points, ["model.vision_model.embeddings"]);
        assert!(super::jumps(&samples::passing(), 10).is_empty());
        assert!(super::jumps(&run, 0).is_empty());
    }
}
