//! A page with its references drawn on it, as `draw_bounding_boxes` of the release draws them: a frame of 2 pixels, 4 for titles,
//! the label above it on white, the inside tinted. The colours are not the release's, which are random.

use font8x8::{BASIC_FONTS, GREEK_FONTS, HIRAGANA_FONTS, LATIN_FONTS, UnicodeFonts as _};

use crate::grounding::{PixelBox, Reference};
use crate::page::Page;

type Colour = [u8; 3];

const WHITE: Colour = [255; 3];
/// How much of 255 the tint covers.
const TINT: u32 = 20;
/// How far above a frame its label begins, in pixels.
const LABEL_RISE: usize = 15;
/// A letter's side in pixels.
const LETTER: usize = 8;
/// What is drawn of a label, in letters.
const LABEL_LETTERS: usize = 64;
/// What stands for a character the font does not have: an empty box.
const UNKNOWN: [u8; LETTER] = [0x7E, 0x42, 0x42, 0x42, 0x42, 0x42, 0x7E, 0];

/// The page with every reference's boxes drawn, a colour for each reference.
#[must_use]
pub fn with_boxes(page: &Page, references: &[Reference]) -> Page {
    let mut canvas = Canvas { width: page.width(), height: page.height(), rgb: page.rgb().to_vec() };
    let mut tints = Vec::new();
    for (at, reference) in references.iter().enumerate() {
        let line = if reference.label == "title" { 4 } else { 2 };
        let colour = colour(at);
        for frame in reference.on(page) {
            canvas.frame(&frame, line, colour);
            canvas.label(frame.left, frame.top.saturating_sub(LABEL_RISE), &reference.label, colour);
            tints.push((frame, colour));
        }
    }
    canvas.tint(&tints);
    Page::from_parts(canvas.width, canvas.height, canvas.rgb)
}

/// The colour of a reference: dark, as the release's, and the same each time.
fn colour(at: usize) -> Colour {
    let hue = at as u64 * 0x9E37_79B9;
    [(hue % 200) as u8, (hue / 200 % 200) as u8, (hue / 40_000 % 255) as u8]
}

struct Canvas {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

impl Canvas {
    fn pixel(&mut self, x: usize, y: usize) -> Option<&mut [u8]> {
        let at = (y * self.width + x) * 3;
        if x < self.width && y < self.height { self.rgb.get_mut(at..at + 3) } else { None }
    }

    /// Fills what lies inside the page.
    fn fill(&mut self, xs: std::ops::Range<usize>, ys: std::ops::Range<usize>, colour: Colour) {
        for y in ys.start..ys.end.min(self.height) {
            for x in xs.start..xs.end.min(self.width) {
                if let Some(pixel) = self.pixel(x, y) {
                    pixel.copy_from_slice(&colour);
                }
            }
        }
    }

    /// A frame inside a box's edges.
    fn frame(&mut self, inside: &PixelBox, line: usize, colour: Colour) {
        let (left, top) = (inside.left, inside.top);
        let (right, bottom) = (left + inside.width, top + inside.height);
        self.fill(left..right, top..bottom.min(top + line), colour);
        self.fill(left..right, top.max(bottom.saturating_sub(line))..bottom, colour);
        self.fill(left..right.min(left + line), top..bottom, colour);
        self.fill(left.max(right.saturating_sub(line))..right, top..bottom, colour);
    }

    fn label(&mut self, left: usize, top: usize, text: &str, colour: Colour) {
        let letters: Vec<[u8; LETTER]> = text.chars().take(LABEL_LETTERS).map(letter).collect();
        self.fill(left..left + letters.len() * LETTER + 1, top..top + LETTER + 1, WHITE);
        for (at, rows) in letters.iter().enumerate() {
            for (y, row) in rows.iter().enumerate() {
                for x in (0..LETTER).filter(|x| row >> x & 1 == 1) {
                    if let Some(pixel) = self.pixel(left + at * LETTER + x, top + y) {
                        pixel.copy_from_slice(&colour);
                    }
                }
            }
        }
    }

    /// Tints the insides, less a pixel all round. Where boxes overlap the last one's colour counts alone, so every pixel is
    /// touched once, however many boxes there are: a row is filled from the last box to the first, and what is filled is
    /// skipped from then on.
    fn tint(&mut self, tints: &[(PixelBox, Colour)]) {
        for y in 0..self.height {
            let mut row = Row { y, next: (0..=self.width).collect() };
            for (frame, colour) in tints.iter().rev() {
                let (right, bottom) = (frame.left + frame.width, frame.top + frame.height);
                if y < frame.top || y >= bottom {
                    continue;
                }
                if y > frame.top && y + 1 < bottom && frame.width > 2 {
                    row.claim(frame.left + 1..right - 1, |x| self.blend(x, y, *colour));
                }
                row.claim(frame.left..right, |_| ());
            }
        }
    }

    /// Pillow's `paste` through a mask of [`TINT`], rounded as it rounds.
    fn blend(&mut self, x: usize, y: usize, colour: Colour) {
        for (value, tint) in self.pixel(x, y).into_iter().flatten().zip(colour) {
            let sum = u32::from(*value) * (255 - TINT) + u32::from(tint) * TINT + 128;
            *value = ((sum + (sum >> 8)) >> 8) as u8;
        }
    }
}

/// The pixels of a row that no box has claimed yet: `next[x]` leads to the first free one from `x` on.
struct Row {
    y: usize,
    next: Vec<usize>,
}

impl Row {
    fn free_from(&mut self, x: usize) -> usize {
        let mut free = x;
        while self.next[free] != free {
            // Halves the way for the next one who asks.
            self.next[free] = self.next[self.next[free]];
            free = self.next[free];
        }
        free
    }

    fn claim(&mut self, xs: std::ops::Range<usize>, mut each: impl FnMut(usize)) {
        debug_assert!(xs.end < self.next.len(), "row {}: a box beyond its page", self.y);
        let mut x = self.free_from(xs.start);
        while x < xs.end {
            each(x);
            self.next[x] = x + 1;
            x = self.free_from(x + 1);
        }
    }
}

/// A character's rows from the top, the leftmost pixel in the lowest bit.
pub(crate) fn letter(character: char) -> [u8; LETTER] {
    let found = BASIC_FONTS.get(character).or_else(|| LATIN_FONTS.get(character));
    found.or_else(|| GREEK_FONTS.get(character)).or_else(|| HIRAGANA_FONTS.get(character)).unwrap_or(UNKNOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(boxes: &[(&str, [f64; 4])]) -> Page {
        let page = Page::new(200, 100, vec![255; 60_000]).expect("a page");
        let references: Vec<Reference> = boxes
            .iter()
            .map(|(label, corners)| Reference {
                label: (*label).to_owned(),
                boxes: vec![*corners],
                written: String::new(),
            })
            .collect();
        with_boxes(&page, &references)
    }

    fn pixel(page: &Page, x: usize, y: usize) -> [u8; 3] {
        let at = (y * page.width() + x) * 3;
        [page.rgb()[at], page.rgb()[at + 1], page.rgb()[at + 2]]
    }

    #[test]
    fn frames_are_thicker_for_titles_and_the_inside_is_tinted() {
        let (text, title) =
            (drawn(&[("text", [0.0, 500.0, 999.0, 999.0])]), drawn(&[("title", [0.0, 500.0, 999.0, 999.0])]));
        assert_eq!((pixel(&text, 100, 50), pixel(&text, 100, 51)), ([0; 3], [0; 3]), "its frame");
        // (255 × 235 + 0 × 20) / 255 = 235.
        assert_eq!((pixel(&text, 100, 52), pixel(&title, 100, 52)), ([235; 3], [0; 3]), "two lines and four");
        assert_eq!(pixel(&title, 100, 54), [235; 3]);
        assert_eq!(pixel(&text, 199, 20), WHITE, "outside nothing is drawn");
    }

    #[test]
    fn the_label_stands_above_its_frame() {
        let page = drawn(&[("I", [500.0, 500.0, 999.0, 999.0])]);
        let dark = |xs: std::ops::Range<usize>, ys: std::ops::Range<usize>| {
            ys.flat_map(|y| xs.clone().map(move |x| (x, y))).filter(|&(x, y)| pixel(&page, x, y) == [0; 3]).count()
        };
        let ink: u32 = letter('I').iter().map(|row| row.count_ones()).sum();
        assert_eq!(dark(100..108, 35..43), ink as usize, "15 pixels above");
        assert_eq!(dark(0..200, 0..50), ink as usize, "and nothing else");
        assert_eq!(letter('\u{4E2D}'), UNKNOWN);
    }

    #[test]
    fn where_boxes_overlap_the_last_ones_tint_counts_once() {
        let boxes = [("text", [0.0, 0.0, 999.0, 999.0]), ("text", [250.0, 500.0, 750.0, 900.0])];
        let page = drawn(&boxes);
        let tinted = |at: usize| colour(at).map(|tint| (235 + (u32::from(tint) * 20 + 127) / 255) as u8);
        assert_eq!(pixel(&page, 20, 70), tinted(0));
        let (found, wanted) = (pixel(&page, 100, 70), tinted(1));
        assert!(found.iter().zip(wanted).all(|(found, wanted)| found.abs_diff(wanted) <= 1), "{found:?} {wanted:?}");
    }

    #[test]
    fn labels_and_frames_at_the_edges_stay_inside() {
        let all = [0.0, 0.0, 999.0, 999.0];
        let long = "a label that is longer than the page is wide, and then some more";
        let page = drawn(&[(long, all), ("é中", [990.0, 990.0, 999.0, 999.0]), ("", [0.0, 0.0, 6.0, 12.0])]);
        assert_eq!(page.rgb().len(), 60_000);
    }
}
