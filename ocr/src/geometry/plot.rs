//! A figure as the release's matplotlib draws it: 3 inches at 200 dots, axes from −15 to 15, lines of 0.8 points with a dot at either end, names
//! beside their points, all black on white. Letters are another font's.

use super::{Figure, Point};
use crate::{drawing::letter, page::Page};

/// The plot's side in pixels.
const SIDE: usize = 600;
/// The axes' edges in pixels from the left and from the top: matplotlib's usual margins.
const LEFT: f64 = 75.0;
const RIGHT: f64 = 540.0;
const TOP: f64 = 72.0;
const BOTTOM: f64 = 534.0;
/// What the axes show: from −`REACH` to `REACH`.
const REACH: f64 = 15.0;
/// Pixels of a point, which is 1/72 inch.
const POINT: f64 = 200.0 / 72.0;
/// Half a line's width in pixels.
const HALF_LINE: f64 = 0.4 * POINT;
/// A dot's radius in pixels: √5 points across, and an edge of 1.5 points.
const DOT: f64 = (2.236 + 1.5) / 2.0 * POINT;
/// Pixels of a letter, per pixel of its font.
const LETTER_SCALE: usize = 2;
const LETTER: usize = 8 * LETTER_SCALE;
/// What is drawn of a name, in letters.
const NAME_LETTERS: usize = 16;

/// The figure's plot, 600 × 600 pixels.
#[must_use]
pub fn plot(figure: &Figure) -> Page {
    let mut paper = Paper { grey: vec![255; SIDE * SIDE] };
    paper.axes();
    for (centre, radius) in &figure.circles {
        paper.circle(pixel(*centre), radius * (RIGHT - LEFT) / (2.0 * REACH));
    }
    for [from, to] in &figure.lines {
        let (from, to) = (pixel(*from), pixel(*to));
        paper.line(from, to, HALF_LINE, true);
        [from, to].into_iter().for_each(|end| paper.line(end, end, DOT, true));
    }
    for (name, point) in &figure.points {
        // A name whose point lies outside is not shown.
        if point.iter().all(|value| value.abs() <= REACH) {
            let [x, y] = pixel(*point);
            paper.text(x + POINT, y - POINT - LETTER as f64, name);
        }
    }
    let rgb = paper.grey.iter().flat_map(|grey| [*grey; 3]).collect();
    Page::from_parts(SIDE, SIDE, rgb)
}

/// Where a point of the figure lies, in pixels.
fn pixel([x, y]: Point) -> Point {
    let part = |value: f64| (value + REACH) / (2.0 * REACH);
    [LEFT + part(x) * (RIGHT - LEFT), BOTTOM - part(y) * (BOTTOM - TOP)]
}

struct Paper {
    grey: Vec<u8>,
}

impl Paper {
    /// Darkens a pixel by how much of it is covered; of several the darkest counts. `inside`: only within the axes.
    fn cover(&mut self, x: i64, y: i64, covered: f64, inside: bool) {
        let is_within = (LEFT as i64..RIGHT as i64).contains(&x) && (TOP as i64..BOTTOM as i64).contains(&y);
        let at = usize::try_from(x).ok().zip(usize::try_from(y).ok()).filter(|(x, y)| *x < SIDE && *y < SIDE);
        if let Some((x, y)) = at.filter(|_| is_within || !inside) {
            let grey = &mut self.grey[y * SIDE + x];
            *grey = (*grey).min((255.0 * (1.0 - covered.clamp(0.0, 1.0))).round() as u8);
        }
    }

    /// A line with round ends; a dot, where both ends are one.
    fn line(&mut self, from: Point, to: Point, half: f64, inside: bool) {
        let Some((from, to)) = shown_part(from, to) else { return };
        let along = usize::from((to[1] - from[1]).abs() > (to[0] - from[0]).abs());
        let across = 1 - along;
        let slope =
            if to[along] == from[along] { 0.0 } else { (to[across] - from[across]) / (to[along] - from[along]) };
        // Beside a slanted line the way across is longer than the distance, at most √2 times.
        let reach = (half + 1.0) * 1.5;
        let (first, last) = (from[along].min(to[along]) - reach, from[along].max(to[along]) + reach);
        for step in first.floor() as i64..=last.ceil() as i64 {
            let middle =
                from[across] + slope * (step as f64 + 0.5 - from[along]).clamp(-2.0 * SIDE as f64, 2.0 * SIDE as f64);
            for side in (middle - reach).floor() as i64..=(middle + reach).ceil() as i64 {
                let (x, y) = if along == 0 { (step, side) } else { (side, step) };
                let far = distance([x as f64 + 0.5, y as f64 + 0.5], from, to);
                self.cover(x, y, half + 0.5 - far, inside);
            }
        }
    }

    /// A circle's line; `radius` in pixels.
    fn circle(&mut self, [x, y]: Point, radius: f64) {
        // The axes are not quite as high as wide, and so is a circle.
        let squeeze = (RIGHT - LEFT) / (BOTTOM - TOP);
        let (inner, outer) = (radius - HALF_LINE - 1.0, radius + HALF_LINE + 1.0);
        for row in TOP as i64..BOTTOM as i64 {
            let up = (row as f64 + 0.5 - y) * squeeze;
            if up.abs() > outer {
                continue;
            }
            let far = (outer * outer - up * up).max(0.0).sqrt();
            let near = if inner > up.abs() { (inner * inner - up * up).max(0.0).sqrt() } else { 0.0 };
            for [start, end] in [[x - far, x - near], [x + near, x + far]] {
                let (start, end) = (start.max(LEFT - 1.0).floor() as i64, end.min(RIGHT + 1.0).ceil() as i64);
                for column in start..=end {
                    let off = ((column as f64 + 0.5 - x).hypot(up) - radius).abs();
                    self.cover(column, row, HALF_LINE + 0.5 - off, true);
                }
            }
        }
    }

    fn axes(&mut self) {
        let corners = [[LEFT, TOP], [RIGHT, TOP], [RIGHT, BOTTOM], [LEFT, BOTTOM]];
        for at in 0..4 {
            self.line(corners[at], corners[(at + 1) % 4], HALF_LINE, false);
        }
        let (tick, gap) = (3.5 * POINT, 7.0 * POINT);
        for value in [-15, -10, -5, 0, 5, 10, 15] {
            let ([x, _], [_, y]) = (pixel([f64::from(value), 0.0]), pixel([0.0, f64::from(value)]));
            self.line([x, BOTTOM], [x, BOTTOM + tick], HALF_LINE, false);
            self.line([LEFT, y], [LEFT - tick, y], HALF_LINE, false);
            let text = value.to_string();
            let width = (text.len() * LETTER) as f64;
            self.text(x - width / 2.0, BOTTOM + gap, &text);
            self.text(LEFT - gap - width, y - LETTER as f64 / 2.0, &text);
        }
    }

    fn text(&mut self, left: f64, top: f64, text: &str) {
        for (at, character) in text.chars().take(NAME_LETTERS).enumerate() {
            let rows = letter(character);
            let (left, top) = (left.round() as i64 + (at * LETTER) as i64, top.round() as i64);
            for (y, x) in (0..LETTER).flat_map(|y| (0..LETTER).map(move |x| (y, x))) {
                if rows[y / LETTER_SCALE] >> (x / LETTER_SCALE) & 1 == 1 {
                    self.cover(left + x as i64, top + y as i64, 1.0, false);
                }
            }
        }
    }
}

/// How far a point lies from a line that ends.
fn distance(point: Point, from: Point, to: Point) -> f64 {
    let (way, own) = ([to[0] - from[0], to[1] - from[1]], [point[0] - from[0], point[1] - from[1]]);
    let length = way[0] * way[0] + way[1] * way[1];
    let part = if length > 0.0 { ((own[0] * way[0] + own[1] * way[1]) / length).clamp(0.0, 1.0) } else { 0.0 };
    (own[0] - part * way[0]).hypot(own[1] - part * way[1])
}

/// The part of a line that may touch the paper, so that a far end costs nothing (Liang and Barsky).
fn shown_part(from: Point, to: Point) -> Option<(Point, Point)> {
    let (low, high) = (-2.0 * DOT, SIDE as f64 + 2.0 * DOT);
    let (mut first, mut last) = (0.0_f64, 1.0_f64);
    for axis in 0..2 {
        let way = to[axis] - from[axis];
        if way == 0.0 {
            if !(low..=high).contains(&from[axis]) {
                return None;
            }
            continue;
        }
        let (enters, leaves) = ((low - from[axis]) / way, (high - from[axis]) / way);
        (first, last) = (first.max(enters.min(leaves)), last.min(enters.max(leaves)));
    }
    let at = |part: f64| [from[0] + part * (to[0] - from[0]), from[1] + part * (to[1] - from[1])];
    (first <= last).then(|| (at(first), at(last)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ink(figure: &Figure) -> impl Fn(f64, f64) -> u8 + use<> {
        let page = plot(figure);
        let empty = plot(&Figure::default());
        assert_eq!((page.width(), page.height()), (SIDE, SIDE));
        let less: Vec<u8> = empty.rgb().iter().zip(page.rgb()).map(|(before, after)| before - after).collect();
        move |x: f64, y: f64| {
            let [x, y] = pixel([x, y]);
            less[(y as usize * SIDE + x as usize) * 3]
        }
    }

    #[test]
    fn lines_circles_and_names_are_where_they_belong() {
        let lines = vec![[[-10.0, -10.0], [10.0, 5.0]], [[3.0, -14.0], [3.0, 1e9]]];
        let figure = Figure { lines, circles: vec![([-5.0, 5.0], 4.0)], ..Figure::default() };
        let ink = ink(&figure);
        assert!([(0.0, -2.5), (5.0, 1.25), (3.0, 10.0), (3.0, -13.0)].iter().all(|&(x, y)| ink(x, y) > 200));
        assert!([(-9.0, 5.0), (-1.0, 5.0), (-5.0, 9.0), (-5.0, 1.0)].iter().all(|&(x, y)| ink(x, y) > 100));
        assert!([(-5.0, 5.0), (0.0, 0.0), (12.0, 12.0), (2.5, 10.0), (-9.5, 5.5)].iter().all(|&(x, y)| ink(x, y) == 0));
        assert!(ink(-10.25, -10.0) > 200, "a dot at its end");
    }

    #[test]
    fn a_name_stands_to_the_right_above_its_point_and_is_left_out_where_that_is_not_shown() {
        let named = |x, y| Figure { points: vec![("I".to_owned(), [x, y])], ..Figure::default() };
        let count = |figure: &Figure| {
            let ink = ink(figure);
            let places =
                (0..200).flat_map(|x| (0..200).map(move |y| (f64::from(x) * 0.01 - 1.0, f64::from(y) * 0.01 - 1.0)));
            places.fold([0, 0], |[inside, outside], (x, y)| {
                let is_ink = usize::from(ink(x, y) > 200);
                if x > 0.0 && y > 0.0 { [inside + is_ink, outside] } else { [inside, outside + is_ink] }
            })
        };
        let [inside, outside] = count(&named(0.0, 0.0));
        assert!(inside > 100 && outside == 0, "{inside} {outside}");
        assert!(plot(&named(15.1, 0.0)) == plot(&Figure::default()));
    }

    #[test]
    fn far_and_odd_figures_stay_on_the_paper() {
        let far = [1e9, -1e9, 0.0, 14.9];
        let points: Vec<Point> = far.iter().flat_map(|x| far.iter().map(move |y| [*x, *y])).collect();
        let lines = points.iter().flat_map(|a| points.iter().map(move |b| [*a, *b])).collect();
        let circles = points.iter().flat_map(|at| [0.0, 0.1, 20.0, 1e9].map(|radius| (*at, radius))).collect();
        let points = points.iter().map(|at| ("中 a long name, longer than is drawn".to_owned(), *at)).collect();
        let page = plot(&Figure { lines, points, circles, left_out: 0 });
        let outside = |x: usize, y: usize| page.rgb()[(y * SIDE + x) * 3];
        assert_eq!((outside(590, 10), outside(590, 590), outside(300, 30)), (255, 255, 255));
    }
}
